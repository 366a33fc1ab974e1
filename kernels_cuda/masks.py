"""Where elements are not zero: counted by tiles, the counts summed, and then each written at its place, in row-major order.

Three launches: `count`, a block for each tile of 1024 elements, four to a thread; `scan`, one block; `where`, as `count`. Elements are read
twice, and what is found is written once.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.pointers import get, put

THREADS, EACH = 256, 4
TILE = THREADS * EACH
words = types.CPointer(types.int64)


def truth(kind):
    """A function: 1 for what is not zero, else 0."""
    if kind == types.boolean:
        return cuda.jit(device=True)(lambda x: uint32(1) if x else uint32(0))
    return cuda.jit(device=True)(lambda x: uint32(1) if x != kind(0) else uint32(0))


def summed(shared, t, value):
    """The sum of the values of the threads up to this one (Hillis and Steele, 1986); `shared` has room for each."""
    shared[t] = value
    cuda.syncthreads()
    step = uint32(1)
    while step < THREADS:
        before = shared[uint32(t - step)] if t >= step else value - value
        cuda.syncthreads()
        shared[t] = shared[t] + before
        cuda.syncthreads()
        step = uint32(step << 1)
    return shared[t]


summed_there = cuda.jit(device=True)(summed)


def count(kind, form):
    """``counts[block]``: how many elements of a tile are not zero. Arguments: counts, x, n."""
    one = truth(kind)

    @cuda.jit
    def kernel(counts, x, n):
        t = uint32(cuda.threadIdx.x)
        shared = cuda.shared.array(THREADS, types.uint32)
        found, first = uint32(0), uint32(uint32(cuda.blockIdx.x) * TILE + t * EACH)
        for k in range(EACH):
            i = uint32(first + k)
            if i < n:
                found = uint32(found + one(get(x, i)))
        total = summed_there(shared, t, found)
        if t == THREADS - 1:
            put(counts, uint32(cuda.blockIdx.x), int64(total))

    return kernel, (words, types.CPointer(kind), types.uint32)


def scan(kind, form):
    """``counts[k] = sum of counts[:k]``, in one block, with the sum of all at ``counts[n]``. Arguments: counts, n."""

    @cuda.jit
    def kernel(counts, n):
        t = uint32(cuda.threadIdx.x)
        shared = cuda.shared.array(THREADS, types.int64)
        share = uint32((n + (THREADS - 1)) // THREADS)
        first = uint32(min(n, t * share))
        end = uint32(min(n, first + share))
        mine = int64(0)
        for k in range(first, end):
            mine += get(counts, k)
        total = summed_there(shared, t, mine)
        before = total - mine
        for k in range(first, end):
            value = get(counts, k)
            put(counts, k, before)
            before += value
        if t == THREADS - 1:
            put(counts, n, total)

    return kernel, (words, types.uint32)


def where(kind, form):
    """``out[k] = scale * i`` for the k-th element i that is not zero. Arguments: out, x, counts (scanned), n, scale."""
    one = truth(kind)

    @cuda.jit
    def kernel(out, x, counts, n, scale):
        t = uint32(cuda.threadIdx.x)
        shared = cuda.shared.array(THREADS, types.uint32)
        found, first = uint32(0), uint32(uint32(cuda.blockIdx.x) * TILE + t * EACH)
        for k in range(EACH):
            i = uint32(first + k)
            if i < n:
                found = uint32(found + one(get(x, i)))
        place = get(counts, uint32(cuda.blockIdx.x)) + int64(summed_there(shared, t, found)) - int64(found)
        for k in range(EACH):
            i = uint32(first + k)
            if i < n:
                if one(get(x, i)) != 0:
                    put(out, place, int64(i) * scale)
                    place += 1

    return kernel, (words, types.CPointer(kind), words, types.uint32, types.int64)


def unravel(kind, form):
    """``out[k, d] = where[k] // below % size``: one dimension's index of each place. Arguments: out (its first element), where, n, ndim, below, size."""

    @cuda.jit
    def kernel(out, places, n, ndim, below, size):
        k = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if k < n:
            place = uint32(get(places, k))
            put(out, int64(k) * ndim, int64(uint32(uint32(place // below) % size)))

    return kernel, (words, words, types.uint32, types.int64, types.uint32, types.uint32)
