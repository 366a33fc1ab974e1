"""What kernels share in which many threads work on one row: functions of tuples, and values combined over a warp or a block.

A thread has several elements in registers: a tuple, on which intrinsics write straight code, whose loops nothing need unroll.
Which elements meet in which order depends on sizes alone, and no atomics are used: results are always the same.
"""

import numpy as np
from numba import cuda, int32, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.mathematics import called, device
from kernels_cuda.pointers import emulated, itemsize

THREADS = 256  # of a block
WARP = 32
EVERY = 0xFFFFFFFF  # lanes


def constant(value, kind):
    """A number in a kernel's type, for it to close over."""
    if isinstance(kind, types.Float):
        return np.dtype(str(kind)).type(value)
    return bool(value) if kind == types.boolean else int(value)


def vector_size(kind):
    """Elements of 16 bytes."""
    return 16 // itemsize(kind)


def carrier(kind):
    """The type in which values go from thread to thread."""
    return kind if itemsize(kind) >= 4 else int32


def at(value, j):
    return value[j] if isinstance(value, tuple) else value


def each(kind, size):
    """An intrinsic ``(f, operands)``: a function of scalars, applied to element j of each operand, for all j < size.

    An operand that is no tuple is the same for all.
    """
    result = types.UniTuple(kind, size)

    @emulated(lambda f, operands: tuple(f(*[at(o, j) for o in operands]) for j in range(size)))
    @intrinsic
    def apply(typingctx, f, operands):
        tuples = [isinstance(o, types.BaseTuple) for o in operands.types]
        kinds = tuple(o.dtype if many else o for o, many in zip(operands.types, tuples, strict=True))
        inner, call = called(typingctx, f, kinds)

        def codegen(context, builder, signature, args):
            values, made = cgutils.unpack_tuple(builder, args[1]), []
            for j in range(size):
                given = [builder.extract_value(v, j) if many else v for v, many in zip(values, tuples, strict=True)]
                made.append(context.cast(builder, call(context, builder, given), inner, kind))
            return context.make_tuple(builder, result, made)

        return result(f, operands), codegen

    return apply


def halves(values, combine):
    """Values combined as a tree: each half's element with the other's."""
    while len(values) > 1:
        half = len(values) // 2
        values = [combine(a, b) for a, b in zip(values[:half], values[half:], strict=True)]
    return values[0]


@emulated(lambda f, values: halves(list(values), f))
@intrinsic
def joined(typingctx, f, values):
    """The elements of a tuple, whose length is a power of two, combined by a function."""
    kind = values.dtype
    inner, call = called(typingctx, f, (kind, kind))

    def codegen(context, builder, signature, args):
        combine = lambda a, b: context.cast(builder, call(context, builder, [a, b]), inner, kind)
        return halves(cgutils.unpack_tuple(builder, args[1]), combine)

    return kind(f, values), codegen


def repeated(kind, size):
    """An intrinsic ``(value,)``: a tuple of it."""
    result = types.UniTuple(kind, size)

    @emulated(lambda value: (value,) * size)
    @intrinsic
    def many(typingctx, value):
        def codegen(context, builder, signature, args):
            one = context.cast(builder, args[0], value, kind)
            return context.make_tuple(builder, result, [one] * size)

        return result(value), codegen

    return many


def over_lanes(f, kind):
    """A function ``(value, lanes)``: values combined over groups of lanes, as many as a power of two; all of a group get the result.

    All lanes of the warp take part.
    """
    carried = carrier(kind)

    @device
    def combined(value, lanes):
        offset = uint32(lanes >> 1)
        while offset:
            value = kind(f(value, kind(cuda.shfl_xor_sync(EVERY, carried(value), offset))))
            offset = uint32(offset >> 1)
        return value

    return combined


def over_block(f, kind, start):
    """A function ``(value,)``: values combined over a block of whole warps; all its threads get the result."""
    carried, warp = carrier(kind), over_lanes(f, kind)

    @device
    def combined(value):
        room = cuda.shared.array(WARP, carried)
        thread = uint32(cuda.threadIdx.x)
        lane = uint32(thread % WARP)
        value = warp(value, WARP)
        if lane == 0:
            room[thread // WARP] = carried(value)
        cuda.syncthreads()
        found = kind(start)
        if lane < uint32(cuda.blockDim.x) // WARP:
            found = kind(room[lane])
        found = warp(found, WARP)
        cuda.syncthreads()  # before the room is used again
        return found

    return combined
