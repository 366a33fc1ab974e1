"""Elements taken, put and added by index.

First the indices become offsets in bytes, which checks them all: where one is out of bounds a flag is set, and the host does not go
on; in a CUDA graph, where the host cannot wait, the kernel stops. Then elements move: ``out[i, w]`` and ``x[offset[i], w]``, where w walks over the dimensions that are not indexed (`dims` of them, with
their sizes, and strides in bytes of what is indexed and of the other). Of several writes to one place the last counts, and what is added
at one place is added in the order of the indices: `order` sorts the offsets, stable, and one thread follows each run of equals. So no result depends
on the order in which threads run. A thread moves one element; moves are between integers of an element's width, or of wider ones.

Launch: ``blocks(total)`` of 256 threads, where total = indices * elements of a walk. Every element, and its index, is read and written once.
"""

from llvmlite import ir
from numba import cuda, int64, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.pointers import atomic_or, emulated, get, is_null, moved, put

THREADS = 256


def blocks(total):
    """How many blocks a launch needs."""
    return -(-total // THREADS)


def out_of_bounds():
    raise IndexError("an index is out of bounds, in a CUDA graph, which ends the device's work")


@emulated(out_of_bounds)
@intrinsic
def stop(typingctx):
    """End the kernel, and all work of the device: for what must not go on, where nobody can be told otherwise."""

    def codegen(context, builder, signature, args):
        trap = builder.module.globals.get("llvm.trap") or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.trap"
        )
        builder.call(trap, [])
        return context.get_dummy_value()

    return types.void(), codegen


def steps_of(dims, count):
    """An intrinsic ``(w, sizes, strides)``: how far element w of a row-major shape is from the first, in bytes, for each of `count` operands."""
    result = types.UniTuple(types.int64, count)

    def meaning(w, sizes, strides):
        index, left = [], w
        for size in reversed(sizes[1:]):
            index.insert(0, left % size)
            left //= size
        index.insert(0, left)
        return tuple(sum(a * b for a, b in zip(index, strides[k * dims :], strict=False)) for k in range(count))

    @emulated(meaning if dims else lambda w, sizes, strides: (0,) * count)
    @intrinsic
    def places(typingctx, w, sizes, strides):
        def codegen(context, builder, signature, args):
            wide, index, left = ir.IntType(64), [], args[0]
            sizes, strides = (cgutils.unpack_tuple(builder, a) for a in args[1:])
            for size in reversed(sizes[1:]):
                quotient = builder.udiv(left, size)
                index.insert(0, builder.sub(left, builder.mul(quotient, size)))
                left = quotient
            index = [builder.zext(k, wide) for k in [left, *index]][: len(sizes)]
            sums = []
            for k in range(count):
                total = wide(0)
                for a, b in zip(index, strides[k * dims : (k + 1) * dims], strict=True):
                    total = builder.add(total, builder.mul(a, b))
                sums.append(total)
            return context.make_tuple(builder, result, sums)

        return result(types.uint32, sizes, strides), codegen

    return places


def walked(dims, count):
    """The types of the sizes of a walk's dimensions and of the strides of its operands."""
    return types.UniTuple(types.uint32, dims), types.UniTuple(types.int64, count * dims)


def offsets(kind, dims):
    """``offset[e] = index[e] * step`` and the place of e in `dims` dimensions of what is indexed, or added to that; negative indices count from the end.

    Arguments: offset, index (contiguous), flag, n, size, step, whether to add, sizes, strides. The flag becomes 1 where an index is out of bounds;
    without a flag the kernel stops there.
    """
    steps = steps_of(dims, 1)

    @cuda.jit
    def kernel(offset, index, flag, n, size, step, adds, sizes, strides):
        e = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if e < n:
            k = int64(get(index, e))
            if k < -size or k >= size:
                if is_null(flag):
                    stop()
                else:
                    atomic_or(flag, 0, 1)
            else:
                if k < 0:
                    k += size
                place = k * step + steps(e, sizes, strides)[0]
                if adds:
                    place += get(offset, e)
                put(offset, e, place)

    pointer = types.CPointer(types.int64)
    arguments = (pointer, types.CPointer(kind), pointer, types.uint32, types.int64, types.int64, types.uint32)
    return kernel, arguments + walked(dims, 1)


def moving(kind, dims, move):
    """A kernel ``(x, other, offset, order, n, inner, total, by_rows, step, sizes, strides)``.

    `inner`: elements of a walk; total: ``n * inner``; `step`: bytes from index to index of `other`; `order`: null where no two offsets are equal.
    `by_rows`: whether the elements of a walk, not the indices, lie next to each other.
    """
    steps = steps_of(dims, 2)

    @cuda.jit
    def kernel(x, other, offset, order, n, inner, total, by_rows, step, sizes, strides):
        e = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if e < total:
            if by_rows:
                i = uint32(e // inner)
                w = uint32(e - i * inner)
            else:
                w = uint32(e // n)
                i = uint32(e - w * n)
            mine, others = steps(w, sizes, strides)
            move(moved(x, mine), moved(other, others), offset, order, i, n, step)

    pointer, words = types.CPointer(kind), types.CPointer(types.int64)
    arguments = (pointer, pointer, words, words) + (types.uint32,) * 4 + (types.int64,)
    return kernel, arguments + walked(dims, 2)


def take(kind, dims):
    """``other[i, w] = x[offset[i], w]``"""

    @cuda.jit(device=True)
    def move(x, other, offset, order, i, n, step):
        put(moved(other, int64(i) * step), 0, get(moved(x, get(offset, i)), 0))

    return moving(kind, dims, move)


def replace(kind, dims):
    """``x[offset[i], w] = other[i, w]``; of several i with one offset the last counts."""

    @cuda.jit(device=True)
    def move(x, other, offset, order, i, n, step):
        k = int64(i)
        if not is_null(order):
            k = get(order, i)
        place = get(offset, k)
        if is_null(order) or i + 1 == n or get(offset, get(order, uint32(i + 1))) != place:
            put(moved(x, place), 0, get(moved(other, k * step), 0))

    return moving(kind, dims, move)


def add_at(kind, dims):
    """``x[offset[i], w] += other[i, w]``, in the order of i; truth values are added by `or`."""
    if kind == types.boolean:
        add = cuda.jit(device=True)(lambda x, y: x or y)
    else:
        add = cuda.jit(device=True)(lambda x, y: kind(x + y))

    @cuda.jit(device=True)
    def move(x, other, offset, order, i, n, step):
        k = get(order, i)
        place = get(offset, k)
        if i == 0 or get(offset, get(order, uint32(i - 1))) != place:
            target = moved(x, place)
            total = get(target, 0)
            while True:
                total = add(total, get(moved(other, k * step), 0))
                i = uint32(i + 1)
                if i == n:
                    break
                k = get(order, i)
                if get(offset, k) != place:
                    break
            put(target, 0, total)

    return moving(kind, dims, move)
