"""Sums and products of the elements so far, along rows.

A warp (rows of up to 1024 elements) or a block walks along a row. At each step a thread scans a vector, the threads scan their totals, by
shuffles and in shared memory, and all go on from the total. What is running is int64 for integers, and a float's own type: a row of a
million float32 elements is a thousand steps, not a million.

Arguments: ``out, x, starts, rows, n, chunks, chunk``: each row is cut into chunks, which are rows to the kernel; where there are
several, `starts` has what comes before the end of each. Elements of a row are counted in 64 bits, those of a chunk in 32.
"""

from numba import cuda, int64, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.halves import Half, computed
from kernels_cuda.mathematics import called, device
from kernels_cuda.pointers import emulated, get, itemsize, moved, vectors
from kernels_cuda.row import BY_BLOCK, BY_WARP, EVERY, THREADS, WARP, carrier, constant, each, group_of, repeated


def sums(so_far, x):
    return so_far + x


def products(so_far, x):
    return so_far * x


def wider(kind):
    """The type of the result; what is running is computed in it."""
    return kind if isinstance(kind, types.Float | Half) else types.int64


def prefixes_of(f, values):
    made = [values[0]]
    for value in values[1:]:
        made.append(f(made[-1], value))
    return tuple(made)


@emulated(prefixes_of)
@intrinsic
def prefixes(typingctx, f, values):
    """The elements of a tuple so far, combined."""
    kind = values.dtype
    inner, call = called(typingctx, f, (kind, kind))

    def codegen(context, builder, signature, args):
        combine = lambda a, b: context.cast(builder, call(context, builder, [a, b]), inner, kind)
        return context.make_tuple(builder, values, list(prefixes_of(combine, cgutils.unpack_tuple(builder, args[1]))))

    return values(f, values), codegen


def of_lanes(f, kind, start):
    """A function: what the lanes before this one combine to, and all lanes."""

    @device
    def scanned(value, lane):
        offset = uint32(1)
        while offset < WARP:
            other = cuda.shfl_up_sync(EVERY, value, offset)
            if lane >= offset:
                value = kind(f(other, value))
            offset = uint32(offset * 2)
        before = cuda.shfl_up_sync(EVERY, value, 1)
        if lane == 0:
            before = kind(start)
        return before, cuda.shfl_sync(EVERY, value, WARP - 1)

    return scanned


def of_threads(f, kind, start):
    """A function: what the threads of a block before this one combine to, and all of them."""
    lanes, carried, warps = of_lanes(f, kind, start), carrier(kind), THREADS // WARP

    @device
    def scanned(value, thread):
        room = cuda.shared.array(warps, carried)
        warp = uint32(thread // WARP)
        before, all_of = lanes(value, uint32(thread - uint32(warp * WARP)))
        if thread % WARP == 0:
            room[warp] = all_of
        cuda.syncthreads()
        whole = first = kind(start)
        for k in range(warps):
            if k == warp:
                first = whole
            whole = kind(f(whole, room[k]))
        cuda.syncthreads()  # before the room is used again
        return kind(f(first, before)), whole

    return scanned


def scan(kind, form, what, combine, start):
    stored = wider(kind)
    made, item, made_item = computed(stored), itemsize(kind), itemsize(stored)
    size = 16 // max(item, made_item) if form & 1 else 1
    f, begin = device(combine), constant(start, made)
    load, store = vectors(size)
    apply, many, where = each(made, size), repeated(made, size), group_of(what)
    scanned = (of_lanes if what == BY_WARP else of_threads)(f, made, begin)

    @device
    def wide(x):
        return made(x)

    @device
    def behind(before, x):
        return made(f(before, x))

    @cuda.jit
    def kernel(out, x, starts, rows, n, chunks, chunk):
        block, place, threads = where(n)
        if block < rows:
            row = uint32(block // chunks)
            piece = uint32(block - uint32(row * chunks))
            first = int64(piece) * chunk
            skipped, m = int64(row) * n + first, uint32(min(chunk, n - first))
            source, target = moved(x, skipped * item), moved(out, skipped * made_item)
            so_far = made(begin)
            if piece > 0:
                so_far = get(starts, uint32(block - 1))
            base, step = uint32(0), uint32(threads * size)
            while base < m:
                i = uint32(base + uint32(place * size))
                values = many(made(begin))
                if i < m:
                    values = apply(wide, (load(source, i),))
                values = prefixes(f, values)
                before, whole = scanned(values[size - 1], place)
                if i < m:
                    store(target, i, apply(behind, (made(f(so_far, before)), values)))
                so_far = made(f(so_far, whole))
                base = uint32(base + step)

    pointers = (types.CPointer(stored), types.CPointer(kind), types.CPointer(made))
    return kernel, (*pointers, types.uint32, types.int64, types.uint32, types.int64)


def kernels(combine, start):
    """The factories of a warp's and of a block's kernel."""
    return lambda kind, form: scan(kind, form, BY_WARP, combine, start), lambda kind, form: scan(
        kind, form, BY_BLOCK, combine, start
    )


cumsum_by_warp, cumsum_by_block = kernels(sums, 0)
cumprod_by_warp, cumprod_by_block = kernels(products, 1)
