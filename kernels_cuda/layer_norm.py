"""Rows shifted and scaled to mean 0 and variance 1, and the gradients: of the row, and of the weight.

Rows in registers, as in :mod:`softmax`: mean and variance are two sums over registers, the second of squared distances to the mean, so
that nothing cancels, and each operand is read once. Longer rows are read three times, of which the cache serves two. Where `weight` or
`bias` is null, it is ones or zeros. `eps` is of the type that is computed in. Rows lie one after the other. `stored` is the elements' type, and
that of weight and bias, unless another is given for these.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import device, sqrt
from kernels_cuda.pointers import get, is_null, itemsize, moved, put, vectors
from kernels_cuda.row import (
    BY_BLOCK,
    THREADS,
    WARP,
    add,
    constant,
    each,
    for_groups,
    group_of,
    joined,
    of_block,
    over_group,
    registers,
    repeated,
    shape_of,
)


@device
def square(x, mean):
    return (x - mean) * (x - mean)


@device
def distance(x, mean):
    return x - mean


@device
def product(x, y):
    return x * y


@device
def scaled(x, mean, scale, weight, bias):
    return (x - mean) * scale * weight + bias


@device
def slope(g, far, scale, shift, tilt):
    """An element of the gradient: g is the gradient times the weight, far the distance to the mean."""
    return scale * (g - shift - far * tilt)


def moments_of(kind, what, form, size, count):
    """A function of a row in registers: the mean, and ``1 / sqrt(variance + eps)``."""
    _, _, inside = registers(kind, size, count)
    apply, zero, one = each(kind, size * count), constant(0, kind), constant(1, kind)
    total = over_group(what, add, kind, zero, form)

    @device
    def moments(values, place, threads, n, eps):
        mean = total(joined(add, values), threads) / kind(n)
        squares = inside(place, threads, n, apply(square, (values, mean)), zero)
        return mean, one / sqrt(total(joined(add, squares), threads) / kind(n) + eps)

    return moments


def vector_or(stored, size, count, fill):
    """A function: the elements of a weight or bias that belong to a thread's, or as many of `fill` where there is none."""
    kind, (load, _, _) = computed(stored), registers(stored, size, count)
    many, zero, fill = repeated(kind, size * count), constant(0, kind), constant(fill, kind)

    @device
    def taken(p, place, threads, n):
        values = many(fill)
        if not is_null(p):
            values = load(p, place, threads, n, zero)
        return values

    return taken


def pointers(*kinds):
    return tuple(map(types.CPointer, kinds))


def layer_norm(stored, form, what, beside=None):
    """``out[i, j] = (x[i, j] - mean[i]) * scale[i] * weight[j] + bias[j]``: ``(out, x, weight, bias, rows, n, eps)``."""
    kind, (size, count) = computed(stored), shape_of(stored, form)
    load, store, _ = registers(stored, size, count)
    moments, apply, where = (
        moments_of(kind, what, form, size, count),
        each(kind, size * count),
        group_of(what, form, size * count),
    )
    weights, biases = (vector_or(beside or stored, size, count, fill) for fill in (1, 0))
    item, zero = itemsize(stored), constant(0, kind)

    @cuda.jit
    def kernel(out, x, weight, bias, rows, n, eps):
        row, place, threads = where(n)
        known = row < rows  # lanes of one warp can have several rows, and all take part
        here = int64(row if known else uint32(0)) * int64(n) * item
        values = load(moved(x, here), place, threads, n, zero)
        mean, scale = moments(values, place, threads, n, eps)
        w, b = weights(weight, place, threads, n), biases(bias, place, threads, n)
        if known:
            store(moved(out, here), place, threads, n, apply(scaled, (values, mean, scale, w, b)))

    return kernel, (*pointers(stored, stored, beside or stored, beside or stored), types.uint32, types.uint32, kind)


def layer_norm_grad(stored, form, what, beside=None):
    """``out[i, j] = scale[i] * (g[i, j] - mean(g[i]) - y[i, j] * mean(g[i] * y[i]))``: ``(out, grad, x, weight, rows, n, eps)``

    with ``g[i, j] = grad[i, j] * weight[j]`` and ``y[i, j] = (x[i, j] - mean[i]) * scale[i]``.
    """
    kind, (size, count) = computed(stored), shape_of(stored, form)
    load, store, _ = registers(stored, size, count)
    moments, apply, where = (
        moments_of(kind, what, form, size, count),
        each(kind, size * count),
        group_of(what, form, size * count),
    )
    weights, item, zero = vector_or(beside or stored, size, count, 1), itemsize(stored), constant(0, kind)
    total = over_group(what, add, kind, zero, form)

    @cuda.jit
    def kernel(out, grad, x, weight, rows, n, eps):
        row, place, threads = where(n)
        known = row < rows
        here = int64(row if known else uint32(0)) * int64(n) * item
        values = load(moved(x, here), place, threads, n, zero)
        slopes = load(moved(grad, here), place, threads, n, zero)
        slopes = apply(product, (slopes, weights(weight, place, threads, n)))
        mean, scale = moments(values, place, threads, n, eps)
        far = apply(distance, (values, mean))
        shift = total(joined(add, slopes), threads) / kind(n)
        tilt = total(joined(add, apply(product, (slopes, far))), threads) / kind(n) * scale * scale
        if known:
            store(moved(out, here), place, threads, n, apply(slope, (slopes, far, scale, shift, tilt)))

    return kernel, (*pointers(stored, stored, stored, beside or stored), types.uint32, types.uint32, kind)


def walk(kind, size):
    """Functions of a block: sums along a row of x, of squared distances, and the row's mean and scale from them."""
    load, _ = vectors(size)
    apply, zero, one = each(kind, size), constant(0, kind), constant(1, kind)
    total = over_group(BY_BLOCK, add, kind, zero)

    @device
    def moments(x, thread, threads, n, eps):
        found, i = zero, uint32(thread * size)
        while i < n:
            found = found + joined(add, load(x, i))
            i = uint32(i + uint32(threads * size))
        mean = total(found, threads) / kind(n)
        found, i = zero, uint32(thread * size)
        while i < n:
            found = found + joined(add, apply(square, (load(x, i), mean)))
            i = uint32(i + uint32(threads * size))
        return mean, one / sqrt(total(found, threads) / kind(n) + eps)

    return moments


def part_or(kind, size, fill):
    """A function: a vector of a weight or bias, or as many of `fill` where there is none."""
    load, _ = vectors(size)
    many, fill = repeated(kind, size), constant(fill, kind)

    @device
    def taken(p, i):
        values = many(fill)
        if not is_null(p):
            values = load(p, i)
        return values

    return taken


def layer_norm_of_long(stored, form, beside=None):
    """`layer_norm` of long rows."""
    kind, (size, _) = computed(stored), shape_of(stored, form & 1)
    load, store = vectors(size)
    moments, apply, item = walk(kind, size), each(kind, size), itemsize(stored)
    weights, biases = part_or(kind, size, 1), part_or(kind, size, 0)

    @cuda.jit
    def kernel(out, x, weight, bias, rows, n, eps):
        row, thread, threads = of_block(n)
        here = int64(row) * int64(n) * item
        source, target = moved(x, here), moved(out, here)
        mean, scale = moments(source, thread, threads, n, eps)
        i = uint32(thread * size)
        while i < n:
            store(target, i, apply(scaled, (load(source, i), mean, scale, weights(weight, i), biases(bias, i))))
            i = uint32(i + uint32(threads * size))

    return kernel, (*pointers(stored, stored, beside or stored, beside or stored), types.uint32, types.uint32, kind)


def grad_of_long(stored, form, beside=None):
    """`layer_norm_grad` of long rows."""
    kind, (size, _) = computed(stored), shape_of(stored, form & 1)
    load, store = vectors(size)
    moments, apply, item, zero = walk(kind, size), each(kind, size), itemsize(stored), constant(0, kind)
    weights, total = part_or(kind, size, 1), over_group(BY_BLOCK, add, kind, zero)

    @cuda.jit
    def kernel(out, grad, x, weight, rows, n, eps):
        row, thread, threads = of_block(n)
        here = int64(row) * int64(n) * item
        slopes, source, target = moved(grad, here), moved(x, here), moved(out, here)
        mean, scale = moments(source, thread, threads, n, eps)
        shift = tilt = zero
        i = uint32(thread * size)
        while i < n:
            g = apply(product, (load(slopes, i), weights(weight, i)))
            shift = shift + joined(add, g)
            tilt = tilt + joined(add, apply(product, (g, apply(distance, (load(source, i), mean)))))
            i = uint32(i + uint32(threads * size))
        shift, tilt = total(shift, threads) / kind(n), total(tilt, threads) / kind(n) * scale * scale
        i = uint32(thread * size)
        while i < n:
            g, far = apply(product, (load(slopes, i), weights(weight, i))), apply(distance, (load(source, i), mean))
            store(target, i, apply(slope, (g, far, scale, shift, tilt)))
            i = uint32(i + uint32(threads * size))

    return kernel, (*pointers(stored, stored, stored, beside or stored), types.uint32, types.uint32, kind)


def row_moments(stored, form, what):
    """``mean[i]`` and ``scale[i] = 1 / sqrt(variance + eps)`` of each row: ``(mean, x, scale, rows, n, eps)``."""
    kind, (size, count) = computed(stored), shape_of(stored, form)
    load, _, _ = registers(stored, size, count)
    moments, where = moments_of(kind, what, form, size, count), group_of(what, form, size * count)
    item, zero = itemsize(stored), constant(0, kind)

    @cuda.jit
    def kernel(mean, x, scale, rows, n, eps):
        row, place, threads = where(n)
        known = row < rows
        here = int64(row if known else uint32(0)) * int64(n) * item
        values = load(moved(x, here), place, threads, n, zero)
        middle, factor = moments(values, place, threads, n, eps)
        if known and place == 0:
            put(mean, row, middle)
            put(scale, row, factor)

    return kernel, (*pointers(kind, stored, kind), types.uint32, types.uint32, kind)


def moments_of_long(stored, form):
    """`row_moments` of long rows."""
    kind, item = computed(stored), itemsize(stored)
    moments = walk(kind, shape_of(stored, form & 1)[0])

    @cuda.jit
    def kernel(mean, x, scale, rows, n, eps):
        row, thread, threads = of_block(n)
        middle, factor = moments(moved(x, int64(row) * int64(n) * item), thread, threads, n, eps)
        if thread == 0:
            put(mean, row, middle)
            put(scale, row, factor)

    return kernel, (*pointers(kind, stored, kind), types.uint32, types.uint32, kind)


def layer_norm_grad_weight(stored, form):
    """``out[p, j] = sum(grad[i, j] * (x[i, j] - mean[i]) * scale[i] for i in part p)``

    ``(out, grad, x, mean, scale, rows, n, part)``: a block has 32 columns and a part of the rows, of which each of its warps takes every
    eighth. Each operand is read once.
    """
    kind, item, warps = computed(stored), itemsize(stored), THREADS // WARP
    zero = constant(0, kind)

    @cuda.jit
    def kernel(out, grad, x, mean, scale, rows, n, part):
        room = cuda.shared.array(THREADS, kind)
        thread, across = uint32(cuda.threadIdx.x), uint32(uint32(n + (WARP - 1)) // WARP)
        piece = uint32(uint32(cuda.blockIdx.x) // across)
        warp = uint32(thread // WARP)
        lane = uint32(thread - uint32(warp * WARP))
        column = uint32(uint32(uint32(cuda.blockIdx.x) - uint32(piece * across)) * WARP + lane)
        end, found = uint32(min(rows, uint32(uint32(piece + 1) * part))), zero
        i = uint32(uint32(piece * part) + warp)
        while i < end and column < n:
            here = int64(i) * int64(n) * item
            far = get(moved(x, here), column) - get(mean, i)
            found = found + get(moved(grad, here), column) * (far * get(scale, i))
            i = uint32(i + warps)
        room[thread] = found
        cuda.syncthreads()
        if warp == 0 and column < n:
            for k in range(1, warps):
                found = found + room[thread + k * WARP]
            put(out, uint32(uint32(piece * n) + column), found)

    return kernel, (*pointers(kind, stored, stored, kind, kind), types.uint32, types.uint32, types.uint32)


layer_norm_by_warp, layer_norm_by_block, layer_norm_by_passes = for_groups(layer_norm, layer_norm_of_long)
layer_norm_grad_by_warp, layer_norm_grad_by_block, layer_norm_grad_by_passes = for_groups(layer_norm_grad, grad_of_long)
moments_by_warp, moments_by_block, moments_by_passes = for_groups(row_moments, moments_of_long)
# The same with weight and bias of float32 beside elements of 16 bits.
mixed_by_warp, mixed_by_block, mixed_by_passes = for_groups(layer_norm, layer_norm_of_long, types.float32)
mixed_grad_by_warp, mixed_grad_by_block, mixed_grad_by_passes = for_groups(layer_norm_grad, grad_of_long, types.float32)
