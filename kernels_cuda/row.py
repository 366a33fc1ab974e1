"""What kernels share in which many threads work on one row: functions of tuples, and values combined over a warp or a block.

A thread has several elements in registers: a tuple, on which intrinsics write straight code, whose loops nothing need unroll.
Which elements meet in which order depends on sizes alone, and no atomics are used: results are always the same.
"""

import numpy as np
from numba import cuda, int32, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import called, device
from kernels_cuda.pointers import emulated, itemsize, load_elements, store_elements

THREADS = 256  # of a block
LONG = 1024  # threads of a block whose row is not in registers: few rows are to fill a device, and many to fit into its cache
WARP = 32
EVERY = 0xFFFFFFFF  # lanes


def constant(value, kind):
    """A number in a kernel's type, for it to close over."""
    kind = computed(kind)
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


def registers(kind, size, vectors):
    """Intrinsics for a row of n > 0 elements in the registers of a group of threads, `vectors` vectors of `size` elements each.

    Vector v of the thread at a place holds the elements from ``(v * threads + place) * size`` on; n is a multiple of `size`.
    ``load(p, place, threads, n, fill)`` gives a tuple, with `fill` for elements from n on; ``store(p, place, threads, n, values)``;
    ``inside(place, threads, n, values, fill)`` replaces what stands for elements from n on.
    """
    value = computed(kind)
    result, count = types.UniTuple(value, size * vectors), range(vectors)
    first = lambda place, threads, v: (v * threads + place) * size

    def starts(builder, place, threads, n):
        """Of each vector the index of its first element, and whether that is in the row."""
        for v in count:
            index = builder.add(builder.mul(threads, threads.type(v)), place)
            index = builder.mul(index, index.type(size))
            yield index, builder.icmp_unsigned("<", index, n)

    def load_meaning(p, place, threads, n, fill):
        found: tuple = ()
        for v in count:
            i = first(place, threads, v)
            found += (p.load(i, size) if size > 1 else (p[i],)) if i < n else (fill,) * size
        return found

    @emulated(load_meaning)
    @intrinsic
    def load(typingctx, p, place, threads, n, fill):
        def codegen(context, builder, signature, args):
            made, zero = [], args[3].type(0)
            for index, known in list(starts(builder, *args[1:4])):
                there = builder.select(known, index, zero)  # what is beyond is read in vain
                found = load_elements(context, builder, kind, args[0], there, size)
                made += [builder.select(known, one, args[4]) for one in found]
            return context.make_tuple(builder, result, made)

        return result(p, types.uint32, types.uint32, types.uint32, value), codegen

    def store_meaning(p, place, threads, n, values):
        for v in count:
            if first(place, threads, v) < n:
                p.store(first(place, threads, v), values[v * size : v * size + size])

    @emulated(store_meaning)
    @intrinsic
    def store(typingctx, p, place, threads, n, values):
        def codegen(context, builder, signature, args):
            given = cgutils.unpack_tuple(builder, args[4])
            for v, (index, known) in enumerate(starts(builder, *args[1:4])):
                with builder.if_then(known):
                    store_elements(context, builder, kind, args[0], index, given[v * size : v * size + size])
            return context.get_dummy_value()

        return types.void(p, types.uint32, types.uint32, types.uint32, values), codegen

    def inside_meaning(place, threads, n, values, fill):
        known = [first(place, threads, v) < n for v in count for _ in range(size)]
        return tuple(value if here else fill for value, here in zip(values, known, strict=True))

    @emulated(inside_meaning)
    @intrinsic
    def inside(typingctx, place, threads, n, values, fill):
        def codegen(context, builder, signature, args):
            known = [here for _, here in starts(builder, *args[:3]) for _ in range(size)]
            given = cgutils.unpack_tuple(builder, args[3])
            made = [builder.select(here, one, args[4]) for one, here in zip(given, known, strict=True)]
            return context.make_tuple(builder, result, made)

        return result(types.uint32, types.uint32, types.uint32, values, value), codegen

    return load, store, inside


# The groups of threads that share a row, and what their kernels are, by number.
BY_WARP, BY_BLOCK, BY_PASSES = range(3)
MIXED = 3  # and, MIXED + those, the kernels for operands of two types
LEVELS = 4  # a row in registers: a thread has 4, 8, 16 or 32 elements
FEWEST = 4


def shape_of(kind, form):
    """Elements of a vector, and vectors of a thread, by a form: ``2 * level``, and 1 where rows are aligned to vectors."""
    size = vector_size(kind) if form & 1 else 1
    return size, max(1, (FEWEST << (form >> 1)) // size)


def halvings(n, each):
    """How many times the lanes of a warp can be halved so that they still hold n elements, `each` to a lane."""
    count = 0
    while count < 5 and (WARP // 2 >> count) * each >= n:
        count += 1
    return count


halvings_there = device(halvings)


@device
def of_warp(n):
    """The row, the place in the group, and the size of the group, where each warp has a row of n elements."""
    thread = uint32(cuda.threadIdx.x)
    warp = uint32(thread // WARP)
    row = uint32(uint32(cuda.blockIdx.x) * uint32(uint32(cuda.blockDim.x) // WARP) + warp)
    return row, uint32(thread - uint32(warp * WARP)), uint32(WARP)


@device
def of_block(n):
    """The same, where each block has a row."""
    return uint32(cuda.blockIdx.x), uint32(cuda.threadIdx.x), uint32(cuda.blockDim.x)


def of_lanes(each):
    """The same, where rows are so short that a warp has several: each has as many lanes as it needs."""

    @device
    def where(n):
        shift = uint32(5 - halvings_there(n, each))
        thread, lanes = uint32(cuda.threadIdx.x), uint32(uint32(1) << shift)
        groups = uint32(uint32(cuda.blockDim.x) >> shift)
        return uint32(uint32(cuda.blockIdx.x) * groups + (thread >> shift)), uint32(thread & uint32(lanes - 1)), lanes

    return where


def group_of(what, form=LEVELS << 1, each=0):
    """Where a thread is, for the threads of a kernel's form with `each` elements."""
    if what != BY_WARP:
        return of_block
    return of_warp if form >> 1 else of_lanes(each)


def over_group(what, f, kind, start, form=LEVELS << 1):
    """A function ``(value, threads)``: values combined over a group of so many; all its threads get the result."""
    warp, block = over_lanes(f, kind), over_block(f, kind, start)

    @device
    def of_some(value, threads):
        return warp(value, threads)

    @device
    def of_all(value, threads):
        return warp(value, WARP)

    @device
    def of_threads(value, threads):
        return block(value)

    return of_threads if what != BY_WARP else of_all if form >> 1 else of_some


@device
def add(x, y):
    return x + y


def for_groups(rows, passes, *formula):
    """The factories of a formula's kernels, by the number of the group: functions of a numba type and a form."""

    def by_warp(kind, form):
        return rows(kind, form, BY_WARP, *formula)

    def by_block(kind, form):
        return rows(kind, form, BY_BLOCK, *formula)

    def by_passes(kind, form):
        return passes(kind, form, *formula)

    return by_warp, by_block, by_passes
