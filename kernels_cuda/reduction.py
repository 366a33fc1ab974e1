"""The skeletons of reductions: ``finish(combine over i of term(x[i]))``, many elements into one, or each row into the next.

A kernel is for elements of a tensor, or (`AGAIN`) for accumulators that another left behind; it gives results, or (`PARTIAL`)
accumulators. A thread combines four vectors of 16 bytes at a time (`ALIGNED`), or four elements, as a tree; then come the lanes of a
warp, by shuffles, and the warps of a block. Each element is read once. Arguments that all take: the results; the elements; of a centred
reduction, whose terms are of an element and a centre that belongs to the result, the centres.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import device
from kernels_cuda.pointers import get, itemsize, moved, put, vectors
from kernels_cuda.row import THREADS, WARP, carrier, constant, each, joined, over_block, over_lanes, repeated

LANES, BLOCK, COLUMNS = range(3)  # kernels
WIDE = 3  # and, WIDE + those, the kernels whose results have the accumulators' type
ALIGNED, PARTIAL, AGAIN = 1, 2, 4  # bits of a kernel's form
SHORT = 1024  # longer rows get a block each
CHUNK = 4096  # elements of a long row, and more, that one block combines where rows are few
BLOCKS = 1024  # that are enough for a device
DEEP = 32  # rows, and more, that a thread combines where columns are few
VECTOR = 16  # bytes of the widest access
NARROW = 4  # most elements of a vector in the column kernel


def lanes_of(n, size):
    """How many lanes share a row of n elements, read `size` at a time: each reads about four times."""
    lanes = 1
    while lanes < WARP and lanes * size * 4 < n:
        lanes *= 2
    return lanes


def chunks_of(rows, n):
    """Into how many pieces a row is cut, and the elements of a piece, a multiple of CHUNK: set by the sizes alone."""
    chunks = max(1, min((n + CHUNK - 1) // CHUNK, BLOCKS // max(rows, 1)))
    chunks = max(chunks, n >> 30)
    chunk = (n + chunks - 1) // chunks
    chunk = max(1, (chunk + CHUNK - 1) // CHUNK) * CHUNK
    return max(1, (n + chunk - 1) // chunk), chunk


def tile_of(n, vectors):
    """The threads of a column block: how many lie along `vectors` vectors of columns, and along n rows; powers of two."""
    width, depth = 1, 1
    while width < WARP and width < vectors:
        width *= 2
    while width * depth < THREADS and depth * 4 < n:
        depth *= 2
    while width * depth < THREADS and width < vectors:
        width *= 2
    return width, depth


def parts_of(n, depth, blocks):
    """Into how many pieces the rows of a column block are cut, and the rows of a piece."""
    parts = max(1, min(n // (depth * DEEP), BLOCKS // max(blocks, 1)))
    part = max(1, (n + parts - 1) // parts)
    return max(1, (n + part - 1) // part), part


def vector_of(widest, what):
    """Elements of a vector, by the bytes of those that are read, and, in the column kernel, of accumulators and results."""
    size = VECTOR // widest
    return min(size, NARROW) if what == COLUMNS else size


def itself(x):
    return x


def accumulated(acc, count, second):
    return acc


def reduction(what, form, term, combine, finish, identity, kinds, centred):
    """A kernel and its argument types.

    `kinds`: of the accumulator, the elements, and the results, which are float32 to `term` and `finish` where they are of 16 bits. `term` takes an element, and a centre if it is `centred`; `finish` an accumulator, the number
    of elements, and one more number, in the accumulator's type if that is a float.
    """
    accumulator, kind, result = kinds
    if form & AGAIN:
        kind, term, centred = accumulator, itself, False
    if form & PARTIAL:
        result, finish = accumulator, accumulated
    elif what >= WIDE:
        result = accumulator
    what %= WIDE
    number = accumulator if isinstance(accumulator, types.Float) else types.float32
    maker = {LANES: by_lanes, BLOCK: by_block, COLUMNS: by_columns}[what]
    widest = max(itemsize(k) for k in ((kind,) if what != COLUMNS else (accumulator, kind, result)))
    size = vector_of(widest, what) if form & ALIGNED else 1
    taken = taker(term, combine, accumulator, centred)
    f, last = device(combine), device(finish)
    kernel, sizes = maker(taken, f, last, constant(identity, accumulator), (accumulator, kind, result), centred, size)
    pointers = tuple(types.CPointer(k) for k in (result, kind, accumulator))
    return kernel, (*pointers, *sizes, number, number)


def taker(term, combine, accumulator, centred):
    """Functions: an accumulator combined with the term of one element; with those of four."""
    f, h = device(combine), device(term)

    @device
    def uncentred(x, centre):
        return h(x)

    g = h if centred else uncentred

    @device
    def one(acc, x, centre):
        return accumulator(f(acc, accumulator(g(x, centre))))

    @device
    def four(acc, a, b, c, d, centre):
        low = accumulator(f(accumulator(g(a, centre)), accumulator(g(b, centre))))
        high = accumulator(f(accumulator(g(c, centre)), accumulator(g(d, centre))))
        return accumulator(f(acc, accumulator(f(low, high))))

    return one, four


def along(taken, f, start, accumulator, size):
    """A function: what one of `width` threads combines of n elements."""
    one, four = taken
    load, apply, many = vectors(size)[0], each(accumulator, size), repeated(accumulator, size)

    @device
    def combined(x, lane, width, n, centre):
        accs, step, whole = many(accumulator(start)), uint32(width * size), uint32(n - n % size)
        i = uint32(lane * size)
        while uint32(i + 3 * step) < whole:
            j, k, m = uint32(i + step), uint32(i + 2 * step), uint32(i + 3 * step)
            accs = apply(four, (accs, load(x, i), load(x, j), load(x, k), load(x, m), centre))
            i = uint32(m + step)
        while i < whole:
            accs = apply(one, (accs, load(x, i), centre))
            i = uint32(i + step)
        acc = joined(f, accs)
        i = uint32(whole + lane)
        while i < n:
            acc = one(acc, get(x, i), centre)
            i = uint32(i + width)
        return acc

    return combined


def by_lanes(taken, f, finish, start, kinds, centred, size):
    """Rows that are `step` bytes apart, a few lanes each: ``(out, x, centres, rows, n, step, lanes, count, second)``."""
    accumulator, result = kinds[0], computed(kinds[2])
    combined, warp = along(taken, f, start, accumulator, size), over_lanes(f, accumulator)

    @cuda.jit
    def kernel(out, x, centres, rows, n, step, lanes, count, second):
        thread = uint32(cuda.threadIdx.x)
        group = uint32(thread // lanes)
        row = uint32(uint32(cuda.blockIdx.x) * uint32(uint32(cuda.blockDim.x) // lanes) + group)
        lane = uint32(thread - group * lanes)
        acc = centre = accumulator(start)
        if row < rows:
            if centred:
                centre = get(centres, row)
            acc = combined(moved(x, int64(row) * step), lane, lanes, n, centre)
        acc = warp(acc, lanes)
        if row < rows and lane == 0:
            put(out, row, result(finish(acc, count, second)))

    return kernel, (types.uint32, types.uint32, types.int64, types.uint32)


def by_block(taken, f, finish, start, kinds, centred, size):
    """Pieces of rows, a block each: ``(out, x, centres, n, chunks, chunk, step, count, second)``, a result for each piece."""
    accumulator, item, result = kinds[0], itemsize(kinds[1]), computed(kinds[2])
    combined, whole = along(taken, f, start, accumulator, size), over_block(f, accumulator, start)

    @cuda.jit
    def kernel(out, x, centres, n, chunks, chunk, step, count, second):
        block = uint32(cuda.blockIdx.x)
        row = uint32(block // chunks)
        first = int64(uint32(block - row * chunks)) * int64(chunk)
        m = uint32(min(int64(chunk), n - first))
        centre = accumulator(start)
        if centred:
            centre = get(centres, row)
        source = moved(x, int64(row) * step + first * item)
        acc = combined(source, uint32(cuda.threadIdx.x), uint32(cuda.blockDim.x), m, centre)
        acc = whole(acc)
        if uint32(cuda.threadIdx.x) == 0:
            put(out, block, result(finish(acc, count, second)))

    return kernel, (types.int64, types.uint32, types.uint32, types.int64)


def in_room(kind, size):
    """Functions that put the tuple of a thread into an array in shared memory, and take one out."""
    moved_as, b, c, d = carrier(kind), THREADS, 2 * THREADS, 3 * THREADS

    @device
    def put_one(room, i, values):
        room[i] = moved_as(values[0])

    @device
    def take_one(room, i):
        return (kind(room[i]),)

    @device
    def put_two(room, i, values):
        room[i], room[i + b] = moved_as(values[0]), moved_as(values[1])

    @device
    def take_two(room, i):
        return kind(room[i]), kind(room[i + b])

    @device
    def put_four(room, i, values):
        room[i], room[i + b] = moved_as(values[0]), moved_as(values[1])
        room[i + c], room[i + d] = moved_as(values[2]), moved_as(values[3])

    @device
    def take_four(room, i):
        return kind(room[i]), kind(room[i + b]), kind(room[i + c]), kind(room[i + d])

    return {1: (put_one, take_one), 2: (put_two, take_two), 4: (put_four, take_four)}[size]


def by_columns(taken, f, finish, start, kinds, centred, size):
    """``out[o, p, j]`` from piece p of the rows ``x[o, :, j]``, for m columns in vectors.

    ``(out, x, centres, n, m, parts, part, outer, step, width, depth, tiles, count, second)``: `outer` and `step` are the bytes between
    indices o, and between rows; a tile is `width` threads along columns by `depth` along rows, and a block has as many tiles as it has
    threads for. With centres, parts is 1 or they serve all parts.
    """
    accumulator, result = kinds[0], computed(kinds[2])
    one, four = taken
    load, store = vectors(size)
    apply, many, fold, last = (
        each(accumulator, size),
        repeated(accumulator, size),
        each(accumulator, size),
        each(result, size),
    )
    to_room, from_room = in_room(accumulator, size)
    carried, length = carrier(accumulator), THREADS * size

    @device
    def ended(acc, count, second):
        return result(finish(acc, count, second))

    @cuda.jit
    def kernel(out, x, centres, n, m, parts, part, outer, step, width, depth, tiles, count, second):
        room = cuda.shared.array(length, carried)
        wide = uint32(width * size)
        across = uint32(uint32(m + uint32(wide - 1)) // wide)
        thread, size_of_tile = uint32(cuda.threadIdx.x), uint32(width * depth)
        group = uint32(thread // size_of_tile)
        tile = uint32(uint32(cuda.blockIdx.x) * uint32(uint32(cuda.blockDim.x) // size_of_tile) + group)
        strip = uint32(tile // across)
        o = uint32(strip // parts)
        place = uint32(thread - uint32(group * size_of_tile))
        down = uint32(place // width)
        column = uint32((uint32(tile - strip * across) * width + uint32(place - down * width)) * size)
        here = tile < tiles and column < m
        first = uint32(uint32(strip - o * parts) * part)
        end = uint32(min(n, uint32(first + part)))
        accs = many(accumulator(start))
        centre = accs
        if here:
            if centred:
                centre = load(centres, uint32(o * m + column))
            source = moved(x, int64(o) * outer)
            i = uint32(first + down)
            while uint32(i + 3 * depth) < end:
                a = load(moved(source, int64(i) * step), column)
                b = load(moved(source, int64(uint32(i + depth)) * step), column)
                c = load(moved(source, int64(uint32(i + 2 * depth)) * step), column)
                d = load(moved(source, int64(uint32(i + 3 * depth)) * step), column)
                accs = apply(four, (accs, a, b, c, d, centre))
                i = uint32(i + 4 * depth)
            while i < end:
                accs = apply(one, (accs, load(moved(source, int64(i) * step), column), centre))
                i = uint32(i + depth)
        half = uint32(depth >> 1)
        while half:
            to_room(room, thread, accs)
            cuda.syncthreads()
            if down < half:
                accs = fold(f, (accs, from_room(room, uint32(thread + half * width))))
            cuda.syncthreads()
            half = uint32(half >> 1)
        if down == 0 and here:
            store(out, uint32(strip * m + column), last(ended, (accs, count, second)))

    return kernel, (types.uint32,) * 4 + (types.int64, types.int64) + (types.uint32,) * 3
