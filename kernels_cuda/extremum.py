"""Where the largest or smallest element of a row is, the first of equals, NaN before all.

A warp (rows of up to 1024 elements) or a block looks through a row, or through a chunk of it, by vectors where they are aligned (`form`); each element is read once. Arguments:
``out, x, places, rows, n, chunks, chunk``: each row is cut into chunks, and `out` gets an int64 for each. Where `places` is not null, a
second kernel chooses among what a first one found: then there are n places for each row, which is `chunk` elements long. Elements of a row
are counted in 64 bits, those of a chunk in 32.
"""

import numpy as np
from numba import cuda, int32, int64, types, uint32

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import device
from kernels_cuda.pointers import get, is_null, itemsize, moved, put, vectors
from kernels_cuda.row import BY_BLOCK, BY_WARP, EVERY, THREADS, WARP, carrier, constant, group_of

NONE = 0xFFFFFFFF  # no place


def plain(kind):
    """A bool's type as a number's: it is stored as 0 or 1."""
    return types.uint8 if kind == types.boolean else kind


def lowest(kind):
    return -np.inf if isinstance(kind, types.Float) else int(np.iinfo(str(kind)).min)


def highest(kind):
    return np.inf if isinstance(kind, types.Float) else int(np.iinfo(str(kind)).max)


def extremum(kind, form, what, better, worst):
    stored = plain(kind)
    kind, item = computed(stored), itemsize(stored)
    better, start = device(better), constant(worst(kind), kind)
    carried, where, warps, by_block = carrier(kind), group_of(what), THREADS // WARP, what == BY_BLOCK

    @device
    def wins(x, i, y, j):
        """Whether element i, x, goes before element j, y."""
        if better(x, y) or (x != x and y == y):
            return True
        return not (better(y, x) or (y != y and x == x)) and i < j

    @device
    def best_of(x, i, y, j):
        if wins(y, j, x, i):
            return y, j
        return x, i

    size = min(4, 16 // item) if form & 1 else 1
    load, _ = vectors(size)

    @device
    def best_of_vector(x, i, p, j):
        """The better of element i, x, and the elements from j on."""
        values = load(p, j)
        x, i = best_of(x, i, values[0], j)
        if size > 1:
            x, i = best_of(x, i, values[1 % size], uint32(j + 1))
        if size > 2:
            x, i = best_of(x, i, values[2 % size], uint32(j + 2))
            x, i = best_of(x, i, values[3 % size], uint32(j + 3))
        return x, i

    @device
    def over_warp(x, i):
        offset = uint32(WARP // 2)
        while offset:
            y, j = (
                kind(cuda.shfl_xor_sync(EVERY, carried(x), offset)),
                uint32(cuda.shfl_xor_sync(EVERY, int32(i), offset)),
            )
            x, i = best_of(x, i, y, j)
            offset = uint32(offset >> 1)
        return x, i

    @device
    def over_block(x, i, thread):
        values, places = cuda.shared.array(warps, carried), cuda.shared.array(warps, types.uint32)
        x, i = over_warp(x, i)
        if thread % WARP == 0:
            values[thread // WARP], places[thread // WARP] = carried(x), i
        cuda.syncthreads()
        for k in range(warps):
            x, i = best_of(x, i, kind(values[k]), uint32(places[k]))
        return i

    @cuda.jit
    def kernel(out, x, places, rows, n, chunks, chunk):
        block, place, threads = where(n)
        if block < rows:
            row = uint32(block // chunks)
            first = int64(uint32(block - uint32(row * chunks))) * chunk
            all_of = is_null(places)
            m = uint32(min(chunk, n - first)) if all_of else uint32(n)
            source, before = moved(x, (int64(row) * (n if all_of else chunk) + first) * item), int64(row) * n
            best, found = kind(start), uint32(NONE)
            if all_of:
                i, step = uint32(place * size), uint32(threads * size)
                while i < m:
                    best, found = best_of_vector(best, found, source, i)
                    i = uint32(i + step)
            else:
                i = place
                while i < m:
                    best, found = best_of(best, found, get(source, get(places, before + i)), i)
                    i = uint32(i + threads)
            if by_block:
                found = over_block(best, found, place)
            else:
                best, found = over_warp(best, found)
            if place == 0:
                put(out, block, first + int64(found) if all_of else get(places, before + found))

    pointers = (types.CPointer(types.int64), types.CPointer(stored), types.CPointer(types.int64))
    return kernel, (*pointers, types.uint32, types.int64, types.uint32, types.int64)


def kernels(better, worst):
    """The factories of a warp's and of a block's kernel."""
    return lambda kind, form: extremum(kind, form, BY_WARP, better, worst), lambda kind, form: extremum(
        kind, form, BY_BLOCK, better, worst
    )


argmax_by_warp, argmax_by_block = kernels(lambda x, y: x > y, lowest)
argmin_by_warp, argmin_by_block = kernels(lambda x, y: x < y, highest)
