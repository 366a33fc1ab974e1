"""Products of matrices in tiles: ``out[i, j] = alpha * sum over k of x[i, k] * y[k, j] + beta * old[i, j]``.

A block of 256 threads makes one tile of the result, of W x W elements; a thread has a part of it, P x P, in registers. Panels of x and y,
W elements of K terms, lie in shared memory, two of each: while one is multiplied the next is on its way, and one barrier a panel is
enough. They lie there with k outermost, so that a thread reads what it needs in vectors. A thread's share of a panel is one access of at most 16
bytes, along k or across it, as the matrix lies in memory; where it does not, elements are read one by one.

Large tiles (W = 128, P = 8) read ``m n k / 64`` elements of memory in all, and 16 of shared memory for 64 multiplications; small ones
(W = 64, P = 4) are for results that would fill too few multiprocessors, and for elements of 64 bits. Every sum runs over k in order, whatever the
tile: nothing else decides what it rounds to.

Launch: a block for each tile, by row of tiles, and by batch in the grid's second dimension.
"""

import numpy as np
from llvmlite import ir
from numba import cuda, int64, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda import halves
from kernels_cuda.mathematics import called
from kernels_cuda.pointers import (
    emulated,
    i32,
    i64,
    is_null,
    itemsize,
    load_elements,
    moved,
    store_elements,
    vectors,
)

THREADS = 256
PAD = 4  # elements between rows of a panel: what is turned around as it is stored meets few banks twice
X_ALONG_K, Y_ALONG_K, LARGE = 1, 2, 4  # bits of a form: which matrices are contiguous along k, and that tiles are large


def computed(kind):
    """The type that is computed with: small integers in 32 bits, floats of 16 bits in float32."""
    return types.int32 if isinstance(kind, types.Integer) and kind.bitwidth < 32 else halves.computed(kind)


def tiling(kind, form):
    """W, P, K, and how many elements of a panel a thread brings."""
    share = 4 if itemsize(kind) <= 4 else 2
    width, part = (128, 8) if form & LARGE and itemsize(kind) <= 4 else (64, 4)
    return width, part, THREADS * share // width, share


def zero_of(kind):
    """A zero, as the emulator has it."""
    return np.dtype(str(kind)).type(0) if isinstance(kind, types.Float) else 0


def zeros(kind, count):
    """An intrinsic ``()``: a tuple of zeros."""
    result = types.UniTuple(kind, count)

    @emulated(lambda: (zero_of(kind),) * count)
    @intrinsic
    def made(typingctx):
        return result(), lambda context, builder, signature, args: ir.Constant(context.get_value_type(result), None)

    return made


def outer(kind, part):
    """An intrinsic ``(sums, x, y)``: the sums with the products of each pair of elements added."""
    result, floats = types.UniTuple(kind, part * part), isinstance(kind, types.Float)

    def meaning(sums, x, y):
        if not any(x) and not any(y):
            return sums
        added = np.array(sums).reshape(part, part) + np.multiply.outer(np.array(x), np.array(y))
        return tuple(added.ravel()) if floats else tuple(added.ravel().tolist())

    @emulated(meaning)
    @intrinsic
    def added(typingctx, sums, x, y):
        def codegen(context, builder, signature, args):
            old, a, b = (cgutils.unpack_tuple(builder, v) for v in args)
            multiply, add = (builder.fmul, builder.fadd) if floats else (builder.mul, builder.add)
            flags = {"flags": ("contract",)} if floats else {}
            new = [add(s, multiply(a[k // part], b[k % part], **flags), **flags) for k, s in enumerate(old)]
            return context.make_tuple(builder, result, new)

        return result(sums, x, y), codegen

    return added


def shared_vectors(count):
    """Intrinsics ``(array, i)`` and ``(array, i, values)``: elements of a vector in shared memory, in accesses of 16 bytes."""

    def vector(context, builder, array, value, index):
        pointer = builder.gep(context.make_array(array)(context, builder, value).data, [builder.zext(index, i64)])
        per = min(count, 16 // itemsize(array.dtype))
        kind = ir.VectorType(context.get_data_type(array.dtype), per)
        return (
            [builder.bitcast(builder.gep(pointer, [i32(k)]), kind.as_pointer()) for k in range(0, count, per)],
            per,
            kind,
        )

    def loaded(array, i):
        per = min(count, 16 // itemsize(array.pointer.kind.kind))
        return sum((array.pointer.load(array.first + i + k, per) for k in range(0, count, per)), ())

    def stored(array, i, values):
        per = min(count, 16 // itemsize(array.pointer.kind.kind))
        for k in range(0, count, per):
            array.pointer.store(array.first + i + k, values[k : k + per])

    @emulated(loaded)
    @intrinsic
    def load(typingctx, array, i):
        result = types.UniTuple(array.dtype, count)

        def codegen(context, builder, signature, args):
            places, per, _ = vector(context, builder, array, *args)
            found = [builder.load(p, align=per * itemsize(array.dtype)) for p in places]
            return context.make_tuple(
                builder, result, [builder.extract_element(v, i32(k)) for v in found for k in range(per)]
            )

        return result(array, types.uint32), codegen

    @emulated(stored)
    @intrinsic
    def store(typingctx, array, i, values):
        def codegen(context, builder, signature, args):
            places, per, kind = vector(context, builder, array, *args[:2])
            given = cgutils.unpack_tuple(builder, args[2])
            for n, p in enumerate(places):
                made = ir.Constant(kind, ir.Undefined)
                for k in range(per):
                    made = builder.insert_element(made, given[n * per + k], i32(k))
                builder.store(made, p, align=per * itemsize(array.dtype))
            return context.get_dummy_value()

        return types.void(array, types.uint32, values), codegen

    return load, store


def turned(share, row):
    """An intrinsic ``(array, i, values)`` that stores elements `row` apart."""

    def stored(array, i, values):
        for k in range(share):
            array[i + k * row] = values[k]

    @emulated(stored)
    @intrinsic
    def store(typingctx, array, i, values):
        def codegen(context, builder, signature, args):
            data = context.make_array(array)(context, builder, args[0]).data
            pointer = builder.gep(data, [builder.zext(args[1], i64)])
            for k, value in enumerate(cgutils.unpack_tuple(builder, args[2])):
                builder.store(value, builder.gep(pointer, [i32(k * row)]))
            return context.get_dummy_value()

        return types.void(array, types.uint32, values), codegen

    return store


def strided(kind, count):
    """Intrinsics ``(p, step, left)`` and ``(p, values, left)``: elements `step` bytes apart, converted; elements in a row, stored. Only the first
    `left` are touched; the others read as zeros.
    """
    wanted, read = computed(kind), halves.computed(kind)
    result = types.UniTuple(wanted, count)
    memory_of = lambda context: context.get_data_type(kind)

    @emulated(lambda p, step, left: tuple(p.moved(step * k)[0] if k < left else zero_of(wanted) for k in range(count)))
    @intrinsic
    def load(typingctx, p, step, left):
        def codegen(context, builder, signature, args):
            base, made = builder.bitcast(args[0], cgutils.voidptr_t), []
            for k in range(count):
                before = builder.block
                with builder.if_then(builder.icmp_unsigned("<", i32(k), args[2])):
                    address = builder.gep(base, [builder.mul(args[1], i64(k))])
                    address = builder.bitcast(address, memory_of(context).as_pointer())
                    value = load_elements(context, builder, kind, address, None)[0]
                    value = context.cast(builder, value, read, wanted)
                    after = builder.block
                phi = builder.phi(value.type)
                phi.add_incoming(ir.Constant(value.type, None), before)
                phi.add_incoming(value, after)
                made.append(phi)
            return context.make_tuple(builder, result, made)

        return result(p, types.int64, types.uint32), codegen

    def stored(p, values, left):
        for k in range(min(count, left)):
            p[k] = values[k]

    @emulated(stored)
    @intrinsic
    def store(typingctx, p, values, left):
        def codegen(context, builder, signature, args):
            for k, value in enumerate(cgutils.unpack_tuple(builder, args[1])):
                with builder.if_then(builder.icmp_unsigned("<", i32(k), args[2])):
                    store_elements(context, builder, kind, args[0], i64(k), [value])
            return context.get_dummy_value()

        return types.void(p, values, types.uint32), codegen

    return load, store


def converted(source, target, count):
    """An intrinsic: the elements of a tuple in another type."""
    result = types.UniTuple(target, count)

    @emulated(lambda values: values)
    @intrinsic
    def cast(typingctx, values):
        def codegen(context, builder, signature, args):
            found = cgutils.unpack_tuple(builder, args[0])
            return context.make_tuple(builder, result, [context.cast(builder, v, source, target) for v in found])

        return result(values), codegen

    return cast


def blended(kind, count):
    """An intrinsic ``(x, alpha, y, beta)``: ``alpha * x[k] + beta * y[k]`` of two tuples."""
    result, floats = types.UniTuple(kind, count), isinstance(kind, types.Float)

    @emulated(lambda x, alpha, y, beta: tuple(a * alpha + b * beta for a, b in zip(x, y, strict=True)))
    @intrinsic
    def blend(typingctx, x, alpha, y, beta):
        def codegen(context, builder, signature, args):
            multiply, add = (builder.fmul, builder.fadd) if floats else (builder.mul, builder.add)
            pairs = zip(*(cgutils.unpack_tuple(builder, args[k]) for k in (0, 2)), strict=True)
            made = [add(multiply(a, args[1]), multiply(b, args[3])) for a, b in pairs]
            return context.make_tuple(builder, result, made)

        return result(x, kind, y, kind), codegen

    return blend


def by_rows(kind, part):
    """An intrinsic ``(f, sums, last)``: calls ``f(row, values, last)`` for each of `part` rows of a tile's part."""
    one = types.UniTuple(kind, part)

    def meaning(f, sums, last):
        for r in range(part):
            f(r, sums[r * part : (r + 1) * part], last)

    @emulated(meaning)
    @intrinsic
    def each(typingctx, f, sums, last):
        _, call = called(typingctx, f, (types.uint32, one, last))

        def codegen(context, builder, signature, args):
            found = cgutils.unpack_tuple(builder, args[1])
            for r in range(part):
                values = context.make_tuple(builder, one, found[r * part : (r + 1) * part])
                call(context, builder, [i32(r), values, args[2]])
            return context.get_dummy_value()

        return types.void(f, sums, last), codegen

    return each


def bringing(kind, share):
    """A function ``(p, first, size, inside, step, even)``: a thread's share of a panel, converted.

    Its elements are number `first` and those after it, of `size`; p is the address of the first, and `step` the bytes to the next. `even`: whether they
    follow each other, aligned. What lies outside the matrix is zero.
    """
    load, _ = vectors(share)
    nothing, convert, each = (
        zeros(computed(kind), share),
        converted(halves.computed(kind), computed(kind), share),
        strided(kind, share)[0],
    )

    @cuda.jit(device=True)
    def bring(p, first, size, inside, step, even):
        if not inside or first >= size:
            return nothing()
        if even and first + share <= size:
            return convert(load(p, 0))
        return each(p, step, uint32(size - first))

    return bring


def finishing(kind, part):
    """A function ``(row, values, place)`` that writes one row of a thread's part.

    `place`: out, old, the bytes from row to row and from column to column of old, the first row and column, the size of the matrix,
    alpha, beta, and whether rows of `out` can be written in vectors.
    """
    wanted, per = computed(kind), min(part, 16 // itemsize(kind))
    blend, none = blended(wanted, part), zeros(wanted, part)
    convert = converted(wanted, halves.computed(kind), part)
    load, store = strided(kind, part)
    _, store_vector = vectors(per)
    twice = part > per

    @cuda.jit(device=True)
    def finish(r, values, place):
        out, old, old_row, old_column, i, j, m, n, alpha, beta, even = place
        p = uint32(i + r)
        if p < m and j < n:
            left, before = uint32(n - j), none()
            if not is_null(old):
                before = load(moved(old, int64(p) * old_row + int64(j) * old_column), old_column, left)
            made = convert(blend(values, alpha, before, beta))
            target = moved(out, (int64(p) * int64(n) + int64(j)) * size)
            if even and left >= part:
                store_vector(target, 0, made[:per])
                if twice:
                    store_vector(target, per, made[per:])
            else:
                store(target, made, left)

    size = itemsize(kind)
    return finish


def product(kind, form):
    """The kernel and its argument types.

    Arguments: out, x, y, old (null where beta is 0); m, n, k, and how many batches the inner dimension of batches has; the bytes
    from row to row and from column to column of x, y and old, and from batch to batch of x and y, inner dimension first; whether the
    panels of x (1) and y (2) can be read, and `out` (4) written, in vectors; alpha and beta. `out` is contiguous.
    """
    width, part, terms, share = tiling(kind, form)
    wanted, row = computed(kind), tiling(kind, form)[0] + PAD
    panel, across = terms * row, width // share
    threads_wide, along = width // part, terms // share
    start, add, bring = zeros(wanted, part * part), outer(wanted, part), bringing(kind, share)
    each_row, finish, size = by_rows(wanted, part), finishing(kind, part), itemsize(kind)
    read, _ = shared_vectors(part)
    write, write_turned, room = shared_vectors(share)[1], turned(share, row), 2 * panel
    x_along, y_along = bool(form & X_ALONG_K), bool(form & Y_ALONG_K)

    @cuda.jit(device=True)
    def place_in_panel(t, along_k):
        """Where a thread's share begins: its term, and its row or column."""
        if along_k:
            return uint32(t % along * share), uint32(t // along)
        return uint32(t // across), uint32(t % across * share)

    @cuda.jit(device=True)
    def keep(panels, first, k, w, values, along_k):
        """Put a share into a panel that begins at element `first`."""
        if along_k:
            write_turned(panels, uint32(first + k * row + w), values)
        else:
            write(panels, uint32(first + k * row + w), values)

    @cuda.jit(device=True)
    def share_of(p, k, w, total, size, k_step, step, even, along_k):
        """A thread's share of the panel that begins at term k of row or column w; p is the matrix."""
        p = moved(p, int64(k) * k_step + int64(w) * step)
        if along_k:
            return bring(p, k, total, w < size, k_step, even)
        return bring(p, w, size, k < total, step, even)

    @cuda.jit
    def kernel(out, x, y, old, m, n, total, inner, steps, even, alpha, beta):
        t, batch, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.x)
        columns = uint32((n + (width - 1)) // width)
        i, j = uint32(block // columns * width), uint32(block % columns * width)
        b, c = int64(uint32(batch % inner)), int64(uint32(batch // inner))
        x, y = moved(x, b * steps[6] + c * steps[8]), moved(y, b * steps[7] + c * steps[9])
        out = moved(out, int64(batch) * int64(m) * int64(n) * size)
        xs, ys = cuda.shared.array(room, wanted, 16), cuda.shared.array(room, wanted, 16)
        xk, xw = place_in_panel(t, x_along)
        yk, yw = place_in_panel(t, y_along)
        x_even, y_even = even & 1 != 0, even & 2 != 0
        mine, other = uint32(t // threads_wide * part), uint32(t % threads_wide * part)
        sums, at = start(), uint32(0)
        a = share_of(x, xk, uint32(i + xw), total, m, steps[1], steps[0], x_even, x_along)
        b_ = share_of(y, yk, uint32(j + yw), total, n, steps[2], steps[3], y_even, y_along)
        keep(xs, at, xk, xw, a, x_along)
        keep(ys, at, yk, yw, b_, y_along)
        cuda.syncthreads()
        k = uint32(0)
        while k < total:
            k = uint32(k + terms)
            more = k < total
            if more:
                a = share_of(x, uint32(k + xk), uint32(i + xw), total, m, steps[1], steps[0], x_even, x_along)
                b_ = share_of(y, uint32(k + yk), uint32(j + yw), total, n, steps[2], steps[3], y_even, y_along)
            for q in range(terms):
                first = uint32(at + uint32(q) * row)
                sums = add(sums, read(xs, uint32(first + mine)), read(ys, uint32(first + other)))
            at = uint32(panel - at)
            if more:
                keep(xs, at, xk, xw, a, x_along)
                keep(ys, at, yk, yw, b_, y_along)
            cuda.syncthreads()
        place = (uint32(i + mine), uint32(j + other), m, n, alpha, beta, even & 4 != 0)
        each_row(finish, sums, (out, old, steps[4], steps[5]) + place)

    pointer = types.CPointer(kind)
    sizes = (types.uint32,) * 4
    return kernel, (pointer,) * 4 + sizes + (types.UniTuple(types.int64, 10), types.uint32, wanted, wanted)
