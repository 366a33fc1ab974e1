"""Blocks of a matrix product that stay in vector registers, as LLVM code.

LLVM does not keep a block of accumulators in registers when it vectorises a loop nest, so the innermost loops of a product are
built here, instruction by instruction, for any type of element. All addresses and steps are in bytes.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

features = llvm.get_host_cpu_features()
REGISTER = 64 if features.get("avx512f") else 32 if features.get("avx") else 16  # bytes of a vector
TALL = 6 if REGISTER == 32 else 8  # rows of the tallest tile: two accumulators a row, and room left for three operands

word = ir.IntType(64)


def lanes(kind):
    """Elements of a vector; those narrower than 4 bytes get as many as those of 4, since few processors can mask them."""
    return REGISTER // max(np.dtype(str(kind)).itemsize, 4)


class Vectors:
    """Instructions on vectors of one type of element, in the function that is being built."""

    def __init__(self, builder, kind):
        self.builder, self.count, self.item = builder, lanes(kind), np.dtype(str(kind)).itemsize
        self.real = isinstance(kind, types.Float)
        reals = {4: ir.FloatType(), 8: ir.DoubleType()}
        self.element = reals[self.item] if self.real else ir.IntType(8 * self.item)
        self.type = ir.VectorType(self.element, self.count)
        self.mask = ir.VectorType(ir.IntType(1), self.count)
        self.name = f"v{self.count}{'f' if self.real else 'i'}{8 * self.item}"
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')

    def call(self, name, result, *arguments, flags=()):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, name), arguments, fastmath=flags
        )

    def at(self, address, kind):
        return self.builder.inttoptr(address, kind.as_pointer())

    def first(self, n):
        """The mask of the first n lanes."""
        index = ir.VectorType(word, self.count)
        every = ir.Constant(index, list(range(self.count)))
        return self.builder.icmp_signed("<", every, self.splat(n, index))

    def load(self, address, mask=None):
        place = self.at(address, self.type)
        if mask is None:
            made = self.builder.load(place)
            made.align = self.item
            return made
        align = ir.Constant(ir.IntType(32), self.item)
        return self.call(f"llvm.masked.load.{self.name}.p0", self.type, place, align, mask, self.zero())

    def store(self, value, address, mask=None):
        place = self.at(address, self.type)
        if mask is None:
            self.builder.store(value, place).align = self.item
        else:
            align = ir.Constant(ir.IntType(32), self.item)
            self.call(f"llvm.masked.store.{self.name}.p0", ir.VoidType(), value, place, align, mask)

    def zero(self):
        return ir.Constant(self.type, None)

    def splat(self, value, kind=None):
        """A vector of one value."""
        nothing = ir.Constant(kind or self.type, ir.Undefined)
        made = self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        return self.shuffle(made, nothing, [0] * self.count)

    def shuffle(self, x, y, places):
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))

    def multiply_add(self, x, y, z):
        """x * y + z, in one rounding where the processor has that."""
        if self.real:
            return self.call(f"llvm.fmuladd.{self.name}", self.type, x, y, z)
        return self.builder.add(self.builder.mul(x, y), z)

    def total(self, x):
        """The sum of a vector's elements."""
        if self.real:
            return self.call(
                f"llvm.vector.reduce.fadd.{self.name}", self.element, self.element(0.0), x, flags=("reassoc",)
            )
        return self.call(f"llvm.vector.reduce.add.{self.name}", self.element, x)


def loop(builder, count, carried, body):
    """Run ``values = body(index, values)`` at least once, and until the index reaches `count`; gives the last values."""
    before, block = builder.block, builder.append_basic_block("loop")
    builder.branch(block)
    builder.position_at_end(block)
    index = builder.phi(word)
    phis = [builder.phi(v.type) for v in carried]
    made = body(index, phis)
    following = builder.add(index, word(1))
    last = builder.block
    for phi, start, value in zip([index, *phis], [word(0), *carried], [following, *made], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, last)
    after = builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", following, count), block, after)
    builder.position_at_end(after)
    return made


def chosen(builder, condition, yes, no):
    """The values of `yes()` where a condition holds, else `no`."""
    before = builder.block
    then, after = builder.append_basic_block("then"), builder.append_basic_block("after")
    builder.cbranch(condition, then, after)
    builder.position_at_end(then)
    found = yes()
    last = builder.block
    builder.branch(after)
    builder.position_at_end(after)
    made = []
    for a, b in zip(found, no, strict=True):
        phi = builder.phi(b.type)
        phi.add_incoming(a, last)
        phi.add_incoming(b, before)
        made.append(phi)
    return made


def tile(rows, kind):
    """``out[i, j] = old[i, j] + sum of x[i, p] * y[p, j]`` over p < depth, for so many rows i and n columns j.

    ``tile(out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth)``: n is at most twice the lanes of a vector; `old` is 0
    for zeros.
    """

    @intrinsic
    def product(typingctx, out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth):
        def codegen(context, builder, signature, args):
            out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth = args
            v = Vectors(builder, kind)
            step = v.count * v.item
            adds = builder.icmp_signed("!=", old, word(0))
            x_rows = [builder.mul(x_row, word(i)) for i in range(rows)]

            def columns(masks):
                """The product, where each vector of columns has a mask or None."""
                pairs = [(i, j) for i in range(rows) for j in range(len(masks))]

                def place(base, row, i, j):
                    return builder.add(builder.add(base, builder.mul(row, word(i))), word(step * j))

                def start():
                    return [v.load(place(old, old_row, i, j), masks[j]) for i, j in pairs]

                def body(index, values):
                    x, y, *sums = values
                    right = [v.load(builder.add(y, word(step * j)), mask) for j, mask in enumerate(masks)]
                    left = [v.splat(builder.load(v.at(builder.add(x, r), v.element))) for r in x_rows]
                    sums = [v.multiply_add(left[i], right[j], s) for (i, j), s in zip(pairs, sums, strict=True)]
                    return [builder.add(x, x_column), builder.add(y, y_row), *sums]

                sums = chosen(builder, adds, start, [v.zero()] * len(pairs))
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
            v = Vectors(builder, kind)
            whole = builder.sdiv(depth, word(v.count))
            rest = builder.sub(depth, builder.mul(whole, word(v.count)))
            x_rows = [builder.mul(x_row, word(i)) for i in range(rows)]

            def places(base, step):
                return [v.at(builder.add(base, builder.mul(step, word(i))), v.element) for i in range(rows)]

            def terms(x, y, sums, mask=None):
                right = v.load(y, mask)
                return [
                    v.multiply_add(v.load(builder.add(x, r), mask), right, s) for r, s in zip(x_rows, sums, strict=True)
                ]

            def body(index, values):
                x, y, *sums = values
                return [
                    builder.add(x, word(v.count * v.item)),
                    builder.add(y, word(v.count * v.item)),
                    *terms(x, y, sums),
                ]

            nothing = [x, y, *[v.zero()] * rows]
            some = builder.icmp_signed(">", whole, word(0))
            x, y, *sums = chosen(builder, some, lambda: loop(builder, whole, nothing, body), nothing)
            some = builder.icmp_signed(">", rest, word(0))
            sums = chosen(builder, some, lambda: terms(x, y, sums, v.first(rest)), sums)
            adds = builder.icmp_signed("!=", old, word(0))
            zeros = [ir.Constant(v.element, 0)] * rows
            start = chosen(builder, adds, lambda: [builder.load(p) for p in places(old, old_step)], zeros)
            plus = builder.fadd if v.real else builder.add
            for p, a, s in zip(places(out, out_step), start, sums, strict=True):
                builder.store(plus(a, v.total(s)), p)
            return context.get_dummy_value()

        return types.none(*[types.int64] * 8), codegen

    return product


def rows_sum(depth, kind):
    """``out[j] = old[j] + sum of x[p] * y[p, j]`` over p < depth, for n columns: so many rows of y are read side by side.

    ``rows_sum(out, old, x, x_step, y, y_row, n)``: `old` is 0 for zeros.
    """

    @intrinsic
    def product(typingctx, out, old, x, x_step, y, y_row, n):
        def codegen(context, builder, signature, args):
            out, old, x, x_step, y, y_row, n = args
            v = Vectors(builder, kind)
            whole = builder.sdiv(n, word(v.count))
            rest = builder.sub(n, builder.mul(whole, word(v.count)))
            adds = builder.icmp_signed("!=", old, word(0))
            y_rows = [builder.mul(y_row, word(p)) for p in range(depth)]
            left = [
                v.splat(builder.load(v.at(builder.add(x, builder.mul(x_step, word(p))), v.element)))
                for p in range(depth)
            ]

            def columns(offset, mask=None):
                total = chosen(builder, adds, lambda: [v.load(builder.add(old, offset), mask)], [v.zero()])[0]
                for r, number in zip(y_rows, left, strict=True):
                    right = v.load(builder.add(builder.add(y, offset), r), mask)
                    total = v.multiply_add(number, right, total)
                v.store(total, builder.add(out, offset), mask)

            def body(index, values):
                columns(builder.mul(index, word(v.count * v.item)))
                return []

            with builder.if_then(builder.icmp_signed(">", whole, word(0))):
                loop(builder, whole, [], body)
            with builder.if_then(builder.icmp_signed(">", rest, word(0))):
                columns(builder.mul(whole, word(v.count * v.item)), v.first(rest))
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
            v = Vectors(builder, kind)
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


def room(size):
    """An intrinsic: the address of some bytes on the stack, at a multiple of 64."""

    @intrinsic
    def place(typingctx):
        def codegen(context, builder, signature, args):
            with builder.goto_entry_block():  # numba's own way of making it would clear it
                made = builder.alloca(ir.ArrayType(ir.IntType(8), size + 64))
            return builder.and_(builder.add(builder.ptrtoint(made, word), word(63)), word(-64))

        return types.int64(), codegen

    return place


def mover(kind):
    """An intrinsic that copies one element: ``move(out, x)``."""

    @intrinsic
    def move(typingctx, out, x):
        def codegen(context, builder, signature, args):
            v = Vectors(builder, kind)
            builder.store(builder.load(v.at(args[1], v.element)), v.at(args[0], v.element))
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), codegen

    return move
