"""The skeleton of every pointwise kernel: ``out[i] = function(x[i], y[i], ...)``. An operand is read from memory, or is a number.

Arguments of the vector form: ``out, p1, v1, p2, v2, ..., n``: operand k is read from the pointer p_k, or is the number v_k where p_k is
null. All operands are contiguous and aligned to 16 bytes. A thread computes two vectors, of 16 bytes of the widest operand, and has
both in flight before it computes. The strided form takes, after n, d sizes and then for the output and each operand d strides in bytes;
a thread computes four elements, a block apart. A truth value among the numbers is a byte.

Each operand is read once and the output written once: the kernel is as fast as memory is.
"""

from llvmlite import ir
from numba import cuda, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import called, device
from kernels_cuda.pointers import emulated, i32, itemsize, load_elements, moved_by, store_elements, vectors
from kernels_cuda.pointers import put as put_one

THREADS = 256
PER_THREAD = 4  # elements, in the strided form


def vector_size(kinds):
    """Elements that a vector has: 16 bytes of the widest operand."""
    return 16 // max(map(itemsize, kinds))


def blocks(kinds, n, dims=0):
    """How many blocks of THREADS threads a launch needs for n > 0 elements."""
    return -(-n // (THREADS * (PER_THREAD if dims else 2 * vector_size(kinds))))


def elementwise(function, kinds, dims=0):
    """A kernel that applies a scalar function, and its argument types. `kinds`: numba types, the output's first.

    `dims`: 0 for the vector form, or the number of dimensions of the strided one.
    """
    f = device(function)
    operands = types.Tuple([t for kind in kinds[1:] for t in (types.CPointer(kind), number_of(kind))])
    made = strided(f, kinds, dims) if dims else contiguous(f, kinds)
    arguments = (types.CPointer(kinds[0]), operands, types.uint32)
    if dims:
        arguments += (types.UniTuple(types.uint32, dims), types.UniTuple(types.int64, dims * len(kinds)))
    return made, arguments


def number_of(kind):
    """The type of an operand that is a number."""
    return types.uint8 if kind == types.boolean else computed(kind)


def contiguous(f, kinds):
    size = vector_size(kinds)
    get, get_one, each, put = loads(kinds, size), loads(kinds, 1), applied(kinds[0], size), vectors(size)[1]

    @cuda.jit
    def kernel(out, operands, n):
        step = uint32(cuda.blockDim.x)
        k = uint32(uint32(cuda.blockIdx.x) * step * 2 + uint32(cuda.threadIdx.x))
        i, j = uint32(k * size), uint32((k + step) * size)
        if i + size <= n:
            first = get(operands, i)
            if j + size <= n:
                second = get(operands, j)
                put(out, j, each(f, second))
            put(out, i, each(f, first))
        i = uint32(n - n % size + k)  # what is left when vectors are full
        if i < n:
            put_one(out, i, f(*get_one(operands, i)))

    return kernel


def strided(f, kinds, dims):
    places, get, each, put = places_of(dims, len(kinds)), gathers(kinds), applied(kinds[0], PER_THREAD), scatters(kinds)

    @cuda.jit
    def kernel(out, operands, n, sizes, strides):
        step = uint32(cuda.blockDim.x)
        i = uint32(uint32(cuda.blockIdx.x) * step * PER_THREAD + uint32(cuda.threadIdx.x))
        if i < n:
            where = places(i, step, n, sizes, strides)
            put(out, i, step, n, where, each(f, get(operands, where)))

    return kernel


def operand(context, builder, operands, kind, k):
    """Operand k: its pointer, whether that is null, and the number."""
    pointer, number = (builder.extract_value(operands, 2 * k + j) for j in range(2))
    if kind == types.boolean:
        number = builder.icmp_unsigned("!=", number, number.type(0))
    return pointer, cgutils.is_null(builder, pointer), number


def read_or_number(builder, is_null, number, load):
    """What `load` reads, or as many copies of the number; all threads go the same way."""
    before = builder.block
    with builder.if_then(builder.not_(is_null)):
        loaded, after = load(), builder.block
    values = []
    for value in loaded:
        phi = builder.phi(number.type)
        phi.add_incoming(number, before)
        phi.add_incoming(value, after)
        values.append(phi)
    return values


def loads(kinds, size):
    """An intrinsic ``(operands, i)``: of each operand the `size` elements from i on; one alone is no tuple."""
    seen = [computed(kind) for kind in kinds[1:]]
    result = types.Tuple([kind if size == 1 else types.UniTuple(kind, size) for kind in seen])

    def meaning(operands, i):
        made = []
        for k, kind in enumerate(kinds[1:]):
            pointer, number = operands[2 * k], computed(kind)(operands[2 * k + 1])
            values = (number,) * size if pointer.is_null else pointer.load(i, size)
            made.append(values if size > 1 else values[0])
        return tuple(made)

    @emulated(meaning)
    @intrinsic
    def get(typingctx, operands, i):
        def codegen(context, builder, signature, args):
            made = []
            for k, kind in enumerate(kinds[1:]):
                pointer, is_null, number = operand(context, builder, args[0], kind, k)
                load = lambda: load_elements(context, builder, kind, pointer, args[1], size)
                values = read_or_number(builder, is_null, number, load)
                one = types.UniTuple(seen[k], size)
                made.append(context.make_tuple(builder, one, values) if size > 1 else values[0])
            return context.make_tuple(builder, result, made)

        return result(operands, types.uint32), codegen

    return get


def applied(kind, size):
    """An intrinsic ``(f, vectors)``: a function of scalars, applied to each of their elements."""
    kind = computed(kind)
    result = types.UniTuple(kind, size)

    @emulated(lambda f, vectors: tuple(f(*values) for values in zip(*vectors, strict=True)))
    @intrinsic
    def each(typingctx, f, vectors):
        kinds = tuple(v.dtype for v in vectors)
        inner, call = called(typingctx, f, kinds)

        def codegen(context, builder, signature, args):
            operands, made = cgutils.unpack_tuple(builder, args[1]), []
            for j in range(size):
                value = call(context, builder, [builder.extract_value(v, j) for v in operands])
                made.append(context.cast(builder, value, inner, kind))
            return context.make_tuple(builder, result, made)

        return result(f, vectors), codegen

    return each


def places_of(dims, count):
    """An intrinsic ``(i, step, n, sizes, strides)``: the offsets in bytes, by output and operand, of elements i, i + step, ... of one thread.

    Beyond n they are those of element i again: they are read in vain, and never written.
    """
    result = types.UniTuple(types.UniTuple(types.int64, PER_THREAD), count)

    def meaning(i, step, n, sizes, strides):
        made = []
        for j in range(PER_THREAD):
            left, index = i + j * step if i + j * step < n else i, []
            for size in reversed(sizes[1:]):
                index.append(left % size)
                left //= size
            index = [left, *reversed(index)]
            made.append([sum(a * b for a, b in zip(index, strides[k * dims :], strict=False)) for k in range(count)])
        return tuple(zip(*made, strict=True))

    @emulated(meaning)
    @intrinsic
    def places(typingctx, i, step, n, sizes, strides):
        def codegen(context, builder, signature, args):
            i, step, n = args[:3]
            sizes, strides = (cgutils.unpack_tuple(builder, a) for a in args[3:])
            made = []
            for j in range(PER_THREAD):
                left = builder.add(i, builder.mul(step, i32(j)))
                left = builder.select(builder.icmp_unsigned("<", left, n), left, i)
                index = []
                for size in reversed(sizes[1:]):
                    quotient = builder.udiv(left, size)
                    index.insert(0, builder.sub(left, builder.mul(quotient, size)))
                    left = quotient
                index = [builder.zext(k, ir.IntType(64)) for k in [left, *index]]
                sums = []
                for k in range(count):
                    terms = [builder.mul(a, b) for a, b in zip(index, strides[k * dims :], strict=False)]
                    total = terms[0]
                    for term in terms[1:]:
                        total = builder.add(total, term)
                    sums.append(total)
                made.append(sums)
            inner = [context.make_tuple(builder, result.dtype, list(one)) for one in zip(*made, strict=True)]
            return context.make_tuple(builder, result, inner)

        return result(types.uint32, types.uint32, types.uint32, sizes, strides), codegen

    return places


def gathers(kinds):
    """An intrinsic ``(operands, places)``: of each operand the elements at its offsets."""
    result = types.Tuple([types.UniTuple(computed(kind), PER_THREAD) for kind in kinds[1:]])

    def meaning(operands, places):
        made = []
        for k, kind in enumerate(kinds[1:]):
            pointer, number = operands[2 * k], computed(kind)(operands[2 * k + 1])
            made.append(tuple(number if pointer.is_null else pointer.moved(offset)[0] for offset in places[k + 1]))
        return tuple(made)

    @emulated(meaning)
    @intrinsic
    def get(typingctx, operands, places):
        def codegen(context, builder, signature, args):
            made = []
            for k, kind in enumerate(kinds[1:]):
                pointer, is_null, number = operand(context, builder, args[0], kind, k)
                offsets = cgutils.unpack_tuple(builder, builder.extract_value(args[1], k + 1))
                at = lambda offset: load_elements(context, builder, kind, moved_by(builder, pointer, offset), None)[0]
                values = read_or_number(builder, is_null, number, lambda: [at(offset) for offset in offsets])
                made.append(context.make_tuple(builder, result[k], values))
            return context.make_tuple(builder, result, made)

        return result(operands, places), codegen

    return get


def scatters(kinds):
    """An intrinsic ``(out, i, step, n, places, values)``: stores those of a thread's elements that are before n."""

    def meaning(out, i, step, n, places, values):
        for j in range(PER_THREAD):
            if i + j * step < n:
                out.moved(places[0][j])[0] = values[j]

    @emulated(meaning)
    @intrinsic
    def put(typingctx, out, i, step, n, places, values):
        def codegen(context, builder, signature, args):
            out, i, step, n, places, values = args
            offsets = cgutils.unpack_tuple(builder, builder.extract_value(places, 0))
            for j, (offset, value) in enumerate(zip(offsets, cgutils.unpack_tuple(builder, values), strict=True)):
                with builder.if_then(builder.icmp_unsigned("<", builder.add(i, builder.mul(step, i32(j))), n)):
                    store_elements(context, builder, kinds[0], moved_by(builder, out, offset), None, [value])
            return context.get_dummy_value()

        return types.void(out, types.uint32, types.uint32, types.uint32, places, values), codegen

    return put
