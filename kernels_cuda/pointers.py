"""Typed memory: elements and vectors of them, pointers moved by bytes, atomics. Each intrinsic has a meaning for the emulator.

An intrinsic's attribute `emulated` is a Python function with the same parameters; for pointers it is given the emulator's.
What an element is in memory and what it is in a register may differ: `raw` and `cooked` are the only places that know.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.halves import Half, computed, narrow, widen

i32, i64 = ir.IntType(32), ir.IntType(64)
GLOBAL = 1  # the address space of device memory
WIDEST = 16  # bytes of an access


def emulated(meaning):
    """Declare what an intrinsic means in the emulator."""

    def declare(made):
        made.emulated = meaning
        return made

    return declare


def itemsize(kind):
    """Bytes of an element of a numba type."""
    return 1 if kind == types.boolean else kind.bitwidth // 8


def cooked(context, builder, kind, value):
    """What is computed with, of what memory holds: of a byte a truth value, of a float of 16 bits one of 32."""
    if isinstance(kind, Half):
        return widen(builder, kind, value)
    return builder.icmp_unsigned("!=", value, value.type(0)) if kind == types.boolean else value


def raw(context, builder, kind, value):
    """What memory holds, of what is computed with."""
    if isinstance(kind, Half):
        return narrow(builder, kind, value)
    return builder.zext(value, context.get_data_type(kind)) if kind == types.boolean else value


def place(builder, pointer, index, kind=None):
    """The address of element `index`, in device memory; seen as another LLVM type, where one is given."""
    if index is not None:
        pointer = builder.gep(pointer, [index if index.type == i64 else builder.zext(index, i64)])
    kind = kind or pointer.type.pointee
    return builder.addrspacecast(builder.bitcast(pointer, kind.as_pointer()), kind.as_pointer(GLOBAL))


def moved_by(builder, pointer, count):
    """A pointer, so many bytes on."""
    return builder.bitcast(builder.gep(builder.bitcast(pointer, cgutils.voidptr_t), [count]), pointer.type)


def load_elements(context, builder, kind, pointer, index, count=1):
    """Elements in one access, which is aligned to its size; or in several of 16 bytes."""
    memory, size = context.get_data_type(kind), itemsize(kind)
    per = WIDEST // size
    if count > per:
        places = [builder.add(index, index.type(k)) for k in range(0, count, per)]
        return [v for place in places for v in load_elements(context, builder, kind, pointer, place, per)]
    if count == 1:
        return [cooked(context, builder, kind, builder.load(place(builder, pointer, index), align=size))]
    if size < 4:
        return [cooked(context, builder, kind, v) for v in load_narrow(builder, memory, pointer, index, count, size)]
    vector = builder.load(place(builder, pointer, index, ir.VectorType(memory, count)), align=count * size)
    return [cooked(context, builder, kind, builder.extract_element(vector, i32(k))) for k in range(count)]


def store_elements(context, builder, kind, pointer, index, values):
    """Store elements in one access, which is aligned to its size."""
    memory, size, values = context.get_data_type(kind), itemsize(kind), [raw(context, builder, kind, v) for v in values]
    if len(values) == 1:
        builder.store(values[0], place(builder, pointer, index), align=size)
    elif size < 4:
        store_narrow(builder, memory, pointer, index, values, size)
    else:
        store_vector(builder, pointer, index, values, len(values) * size)


def store_vector(builder, pointer, index, values, alignment):
    vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for k, value in enumerate(values):
        vector = builder.insert_element(vector, value, i32(k))
    builder.store(vector, place(builder, pointer, index, vector.type), align=alignment)


def load_narrow(builder, memory, pointer, index, count, size):
    """Elements of one or two bytes, cut out of words: LLVM splits vectors of such elements."""
    word = ir.IntType(min(32, 8 * size * count))
    per_word = word.width // (8 * size)
    vector = builder.load(place(builder, pointer, index, ir.VectorType(word, count // per_word)), align=count * size)
    for k in range(count):
        one = builder.extract_element(vector, i32(k // per_word))
        bits = builder.trunc(builder.lshr(one, word(8 * size * (k % per_word))), ir.IntType(8 * size))
        yield builder.bitcast(bits, memory)


def store_narrow(builder, memory, pointer, index, values, size):
    """Elements of one or two bytes, put together to words."""
    word = ir.IntType(min(32, 8 * size * len(values)))
    per_word, words = word.width // (8 * size), []
    for k, value in enumerate(values):
        bits = builder.zext(builder.bitcast(value, ir.IntType(8 * size)), word) if word.width > 8 * size else value
        bits = builder.shl(bits, word(8 * size * (k % per_word)))
        words[k // per_word :] = [builder.or_(words[-1], bits) if k % per_word else bits]
    store_vector(builder, pointer, index, words, len(values) * size)


def wide_index(builder, value, kind):
    """An index in 64 bits."""
    return value if value.type == i64 else (builder.sext if kind.signed else builder.zext)(value, i64)


@emulated(lambda p: p.is_null)
@intrinsic
def is_null(typingctx, p):
    """Whether a pointer leads nowhere."""

    def codegen(context, builder, signature, args):
        return cgutils.is_null(builder, args[0])

    return types.boolean(p), codegen


@emulated(lambda p, count: p.moved(count))
@intrinsic
def moved(typingctx, p, count):
    """A pointer, so many bytes on."""

    def codegen(context, builder, signature, args):
        return moved_by(builder, args[0], wide_index(builder, args[1], count))

    return p(p, count), codegen


def pointer_to(kind):
    """An intrinsic ``(addresses, i)``: pointer i of a list of addresses in device memory, to elements of a type."""

    @emulated(lambda addresses, i: addresses.machine.pointer(addresses[i], kind))
    @intrinsic
    def pointer_in(typingctx, addresses, i):
        pointer = types.CPointer(kind)

        def codegen(context, builder, signature, args):
            address = builder.load(place(builder, args[0], wide_index(builder, args[1], i)))
            return builder.inttoptr(address, context.get_value_type(pointer))

        return pointer(addresses, i), codegen

    return pointer_in


@emulated(lambda p, i: p[i])
@intrinsic
def get(typingctx, p, i):
    """Element i, of any type: Numba's own ``p[i]`` does not know how truth values lie in memory."""

    def codegen(context, builder, signature, args):
        return load_elements(context, builder, p.dtype, args[0], wide_index(builder, args[1], i))[0]

    return computed(p.dtype)(p, i), codegen


@emulated(lambda p, i, value: p.__setitem__(i, value))
@intrinsic
def put(typingctx, p, i, value):
    """Store element i, of any type."""

    def codegen(context, builder, signature, args):
        given = context.cast(builder, args[2], value, computed(p.dtype))
        store_elements(context, builder, p.dtype, args[0], wide_index(builder, args[1], i), [given])
        return context.get_dummy_value()

    return types.void(p, i, value), codegen


def vectors(count):
    """Intrinsics that load and store several elements in one access: ``load(p, i)``, a tuple, and ``store(p, i, values)``.

    The address of element i is a multiple of the access's size, which is at most 16 bytes.
    """

    @emulated(lambda p, i: p.load(i, count))
    @intrinsic
    def load(typingctx, p, i):
        result = types.UniTuple(computed(p.dtype), count)

        def codegen(context, builder, signature, args):
            index = wide_index(builder, args[1], i)
            return context.make_tuple(builder, result, load_elements(context, builder, p.dtype, args[0], index, count))

        return result(p, i), codegen

    @emulated(lambda p, i, values: p.store(i, values))
    @intrinsic
    def store(typingctx, p, i, values):
        def codegen(context, builder, signature, args):
            given = [
                context.cast(builder, v, k, computed(p.dtype))
                for v, k in zip(cgutils.unpack_tuple(builder, args[2]), values, strict=True)
            ]
            store_elements(context, builder, p.dtype, args[0], wide_index(builder, args[1], i), given)
            return context.get_dummy_value()

        return types.void(p, i, values), codegen

    return load, store


@emulated(lambda p, i: p.fresh(i))
@intrinsic
def fresh(typingctx, p, i):
    """An element as memory has it now, whatever was read of it before: of what another block has written and fenced."""

    def codegen(context, builder, signature, args):
        value = builder.load(place(builder, args[0], wide_index(builder, args[1], i)), align=itemsize(p.dtype))
        value.volatile = True
        return cooked(context, builder, p.dtype, value)

    return computed(p.dtype)(p, i), codegen


def atomic(name, meaning, ordering="monotonic"):
    """An intrinsic ``(p, i, value)`` that changes an element in one step, and gives the old value."""

    @emulated(lambda p, i, value: p.atomic(i, lambda old: meaning(old, value)))
    @intrinsic
    def change(typingctx, p, i, value):
        def codegen(context, builder, signature, args):
            kind = p.dtype
            operation = name
            if isinstance(kind, types.Float):
                operation = {"add": "fadd", "xchg": "xchg"}[name]
            elif not kind.signed and name in ("max", "min"):
                operation = "u" + name
            target = place(builder, args[0], wide_index(builder, args[1], i))
            return builder.atomic_rmw(operation, target, context.cast(builder, args[2], value, kind), ordering)

        return p.dtype(p, i, value), codegen

    return change


atomic_add = atomic("add", lambda old, value: old + value)
atomic_max = atomic("max", lambda old, value: max(old, value))
atomic_min = atomic("min", lambda old, value: min(old, value))
atomic_or = atomic("or", lambda old, value: old | value)
atomic_and = atomic("and", lambda old, value: old & value)
atomic_exchange = atomic("xchg", lambda old, value: value)


@emulated(lambda p, i, expected, value: p.atomic(i, lambda old: value if old == expected else old))
@intrinsic
def atomic_swap(typingctx, p, i, expected, value):
    """Replace an integer if it is the expected one; gives the old one."""

    def codegen(context, builder, signature, args):
        target = place(builder, args[0], wide_index(builder, args[1], i))
        expected_value = context.cast(builder, args[2], expected, p.dtype)
        new = context.cast(builder, args[3], value, p.dtype)
        return builder.extract_value(builder.cmpxchg(target, expected_value, new, "monotonic", "monotonic"), 0)

    return p.dtype(p, i, expected, value), codegen
