"""The order of the elements of rows, stable, NaN last.

An element's rank is an int64 that orders as the elements do. Tiles of a row are sorted in shared memory, by rank and then by index, in
a bitonic network (Batcher, 1968), one block a tile and one thread a comparison. Then runs are merged, two at a time: an element's place in the
merged run is its place in its own and the number of elements of the other that come before it, which a binary search finds. So
merging m runs reads and writes ranks and indices ``log2(m)`` times; rows of one tile write their indices alone.
A library that sorts whole numbers (`core/device_sort.py`) is given the ranks of all elements instead, in 32 bits where elements are no wider.

Launch: ``rows * tiles of a row`` blocks of half a tile's threads; for merging and for ranks alone, blocks of 256 threads for all elements.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.mathematics import device
from kernels_cuda.pointers import get, is_null, itemsize, put

TILES = (64, 128, 256, 512, 1024, 2048)  # elements of a tile, by form
LAST = (1 << 63) - 1


def ranking(kind):
    """A function: an int64 that orders as the elements do. Zeros are equal, NaN is larger than all."""
    if not isinstance(kind, types.Float):
        return device(lambda x: int64(x))
    low, narrow = (1 << (kind.bitwidth - 1)) - 1, kind.bitwidth == 32

    @device
    def rank(x):
        if x == kind(0):
            return int64(0)
        if x != x:
            return int64(low)
        bits = int64(cuda.libdevice.float_as_int(x)) if narrow else int64(cuda.libdevice.double_as_longlong(x))
        return bits ^ low if bits < 0 else bits

    return rank


def sort_tiles(kind, form):
    """``order[row, i]``: the indices that sort each tile of each row, and the ranks in that order.

    Arguments: ranks (null where a row has one tile), order, x (rows of n elements), n, tiles of a row, flip: -1 for descending, else 0.
    """
    tile, rank = TILES[form], ranking(kind)
    half = tile // 2

    @cuda.jit
    def kernel(ranks, order, x, n, tiles, flip):
        t, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        row = uint32(block // tiles)
        first = uint32((block - row * tiles) * tile)
        base = int64(row) * int64(n)
        keys, places = cuda.shared.array(tile, types.int64), cuda.shared.array(tile, types.uint32)
        for s in range(2):
            j = uint32(t + s * half)
            i = uint32(first + j)
            keys[j] = rank(get(x, base + int64(i))) ^ flip if i < n else int64(LAST)
            places[j] = i
        size = uint32(2)
        while size <= tile:
            stride = uint32(size >> 1)
            while stride > 0:
                cuda.syncthreads()
                a = uint32(2 * t - (t & uint32(stride - 1)))
                b = uint32(a + stride)
                x_key, y_key, x_place, y_place = keys[a], keys[b], places[a], places[b]
                after = x_key > y_key or (x_key == y_key and x_place > y_place)
                if after == ((a & size) == 0):
                    keys[a], keys[b] = y_key, x_key
                    places[a], places[b] = y_place, x_place
                stride = uint32(stride >> 1)
            size = uint32(size << 1)
        cuda.syncthreads()
        for s in range(2):
            j = uint32(t + s * half)
            i = uint32(first + j)
            if i < n:
                put(order, base + int64(i), int64(places[j]))
                if not is_null(ranks):
                    put(ranks, base + int64(i), keys[j])

    words = types.CPointer(types.int64)
    return kernel, (words, words, types.CPointer(kind), types.uint32, types.uint32, types.int64)


def merge_runs(kind, form):
    """Sorted runs of each row merged, two at a time; equals of the left one come first.

    Arguments: the merged ranks and order, those before, n elements of a row, a run's length, total elements of all rows.
    """

    @cuda.jit
    def kernel(out_ranks, out_order, ranks, order, n, run, total):
        e = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if e < total:
            row = uint32(e // n)
            i = uint32(e - row * n)
            base, mine = int64(row) * int64(n), get(ranks, e)
            k = uint32(i // run)
            right = k & uint32(1) != 0
            low = int64(k) * int64(run) + (-int64(run) if right else int64(run))  # of the other run
            start, high = low, min(int64(n), low + int64(run))
            while low < high:
                middle = (low + high) >> 1
                other = get(ranks, base + middle)
                if other < mine or (right and other == mine):
                    low = middle + 1
                else:
                    high = middle
            before = low - start if low > start else int64(0)
            place = base + int64(i) + before - (int64(run) if right else int64(0))
            put(out_ranks, place, mine)
            put(out_order, place, get(order, e))

    words = types.CPointer(types.int64)
    return kernel, (words,) * 4 + (types.uint32,) * 3


def ranks(kind, form):
    """The ranks of n elements, and their places.

    Arguments: ranks (int32 where elements have at most 32 bits, else int64), places (int64), x, n, flip: -1 for descending, else 0.
    """
    rank, word = ranking(kind), types.int64 if itemsize(kind) > 4 else types.int32

    @cuda.jit
    def kernel(ranks, places, x, n, flip):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if i < n:
            put(ranks, i, word(rank(get(x, i)) ^ flip))
            put(places, i, int64(i))

    return kernel, (types.CPointer(word), types.CPointer(types.int64), types.CPointer(kind), types.uint32, types.int64)
