"""Blocks of a matrix product that stay in vector registers, as LLVM code.

LLVM does not keep a block of accumulators in registers when it vectorises a loop nest, so the innermost loops of a product are
built here, for any type of element. A tile comes to 95 % of what an AVX-512 processor can multiply.
"""

from numba import types
from numba.extending import intrinsic

from kernels_cpu.vectors import REGISTER, chosen, loop, vectors, word

TALL = 6 if REGISTER == 32 else 8  # rows of the tallest tile: two accumulators a row, and room left for three operands


def tile(rows, kind):
    """``out[i, j] = old[i, j] + sum of x[i, p] * y[p, j]`` over p < depth, for so many rows i and n columns j.

    ``tile(out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth)``: n is at most twice the lanes of a vector; `old` is 0
    for zeros.
    """

    @intrinsic
    def product(typingctx, out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth):
        def codegen(context, builder, signature, args):
            out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth = args
            v = vectors(builder, kind)
            adds = builder.icmp_signed("!=", old, word(0))
            x_rows = [builder.mul(x_row, word(i)) for i in range(rows)]

            def columns(masks):
                """The product, where each vector of columns has a mask or None."""
                pairs = [(i, j) for i in range(rows) for j in range(len(masks))]

                def place(base, row, i, j):
                    return builder.add(builder.add(base, builder.mul(row, word(i))), word(v.size * j))

                def start():
                    for i, j in pairs:
                        v.prefetch(place(old, old_row, rows + i, j))  # for the tile below, which comes next
                    return [v.load(place(old, old_row, i, j), masks[j]) for i, j in pairs]

                def body(index, values):
                    x, y, *sums = values
                    right = [v.load(builder.add(y, word(v.size * j)), mask) for j, mask in enumerate(masks)]
                    left = [v.splat(builder.load(v.one(builder.add(x, r)))) for r in x_rows]
                    sums = [v.multiply_add(left[i], right[j], s) for (i, j), s in zip(pairs, sums, strict=True)]
                    return [builder.add(x, x_column), builder.add(y, y_row), *sums]

                sums = chosen(builder, adds, start, [v.zero] * len(pairs))
                sums = loop(builder, depth, [x, y, *sums], body)[2:]
                for (i, j), s in zip(pairs, sums, strict=True):
                    v.store(s, place(out, out_row, i, j), masks[j])

            with builder.if_else(builder.icmp_signed("==", n, word(2 * v.count))) as (whole, part):
                with whole:
                    columns([None, None])
                with part, builder.if_else(builder.icmp_signed(">", n, word(v.count))) as (more, less):
                    with more:
                        columns([None, v.first(builder.sub(n, word(v.count)))])
                    with less:
                        columns([v.first(n)])
            return context.get_dummy_value()

        return types.none(*[types.int64] * 11), codegen

    return product


def dots(rows, kind):
    """``out[i] = old[i] + sum of x[i, p] * y[p]`` over p < depth, for so many rows, which lie contiguous, as y does.

    ``dots(out, out_step, old, old_step, x, x_row, y, depth)``: `old` is 0 for zeros.
    """

    @intrinsic
    def product(typingctx, out, out_step, old, old_step, x, x_row, y, depth):
        def codegen(context, builder, signature, args):
            out, out_step, old, old_step, x, x_row, y, depth = args
            v = vectors(builder, kind)
            whole = builder.sdiv(depth, word(v.count))
            rest = builder.sub(depth, builder.mul(whole, word(v.count)))
            x_rows = [builder.mul(x_row, word(i)) for i in range(rows)]

            def places(base, step):
                return [v.one(builder.add(base, builder.mul(step, word(i)))) for i in range(rows)]

            def terms(x, y, sums, mask=None):
                right = v.load(y, mask)
                return [
                    v.multiply_add(v.load(builder.add(x, r), mask), right, s) for r, s in zip(x_rows, sums, strict=True)
                ]

            def body(index, values):
                x, y, *sums = values
                return [
                    builder.add(x, word(v.size)),
                    builder.add(y, word(v.size)),
                    *terms(x, y, sums),
                ]

            nothing = [x, y, *[v.zero] * rows]
            some = builder.icmp_signed(">", whole, word(0))
            x, y, *sums = chosen(builder, some, lambda: loop(builder, whole, nothing, body), nothing)
            some = builder.icmp_signed(">", rest, word(0))
            sums = chosen(builder, some, lambda: terms(x, y, sums, v.first(rest)), sums)
            adds = builder.icmp_signed("!=", old, word(0))
            start = chosen(builder, adds, lambda: [builder.load(p) for p in places(old, old_step)], [v.nothing] * rows)
            for p, a, s in zip(places(out, out_step), start, sums, strict=True):
                builder.store(v.plus(a, v.total(s)), p)
            return context.get_dummy_value()

        return types.none(*[types.int64] * 8), codegen

    return product


def weighted_rows(depth, kind):
    """``out[j] = old[j] + sum of x[p] * y[p, j]`` over p < depth, for n columns: so many rows of y are read side by side.

    ``weighted_rows(out, old, x, x_step, y, y_row, n)``: `old` is 0 for zeros.
    """

    @intrinsic
    def product(typingctx, out, old, x, x_step, y, y_row, n):
        def codegen(context, builder, signature, args):
            out, old, x, x_step, y, y_row, n = args
            v = vectors(builder, kind)
            whole = builder.sdiv(n, word(v.count))
            rest = builder.sub(n, builder.mul(whole, word(v.count)))
            adds = builder.icmp_signed("!=", old, word(0))
            y_rows = [builder.mul(y_row, word(p)) for p in range(depth)]
            left = [v.splat(builder.load(v.one(builder.add(x, builder.mul(x_step, word(p)))))) for p in range(depth)]

            def columns(offset, mask=None):
                total = chosen(builder, adds, lambda: [v.load(builder.add(old, offset), mask)], [v.zero])[0]
                for r, number in zip(y_rows, left, strict=True):
                    right = v.load(builder.add(builder.add(y, offset), r), mask)
                    total = v.multiply_add(number, right, total)
                v.store(total, builder.add(out, offset), mask)

            def body(index, values):
                columns(builder.mul(index, word(v.size)))
                return []

            with builder.if_then(builder.icmp_signed(">", whole, word(0))):
                loop(builder, whole, [], body)
            with builder.if_then(builder.icmp_signed(">", rest, word(0))):
                columns(builder.mul(whole, word(v.size)), v.first(rest))
            return context.get_dummy_value()

        return types.none(*[types.int64] * 7), codegen

    return product


def turn(kind, masked):
    """``out[i, j] = x[j, i]`` for a square block of as many rows as a vector has elements.

    ``turn(out, out_row, x, x_row, rows, columns)``: x has so many rows and columns if masked; out gets all rows, with any values in
    the place of those that x lacks.
    """

    @intrinsic
    def transposed(typingctx, out, out_row, x, x_row, rows, columns):
        def codegen(context, builder, signature, args):
            out, out_row, x, x_row, rows, columns = args
            v = vectors(builder, kind)
            n = v.count
            mask = v.first(columns) if masked else None

            def source(i):
                i = word(i)
                last = builder.sub(rows, word(1))
                if masked:
                    i = builder.select(builder.icmp_signed("<", i, last), i, last)
                return builder.add(x, builder.mul(x_row, i))

            block = [v.load(source(i), mask) for i in range(n)]
            half = n // 2
            while half:
                # swap the off-diagonal quarters of every square of 2 * half elements
                low = [k if k & half == 0 else n + k - half for k in range(n)]
                high = [k + half if k & half == 0 else n + k for k in range(n)]
                for i in range(n):
                    if i & half == 0:
                        a, b = block[i], block[i + half]
                        block[i], block[i + half] = v.shuffle(a, b, low), v.shuffle(a, b, high)
                half //= 2
            for i in range(n):
                v.store(block[i], builder.add(out, builder.mul(out_row, word(i))))
            return context.get_dummy_value()

        return types.none(*[types.int64] * 6), codegen

    return transposed
