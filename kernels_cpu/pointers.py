"""Typed pointers from the addresses that a kernel is given, and the attribute that asks for 512-bit vectors."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def wide(typingctx):
    """Let the function that is being compiled use 512-bit vectors: LLVM prefers 256 bits on most processors that have them."""

    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


def operands(kinds, fixed=0, outputs=1):
    """Intrinsics over kernel operands of given numba types, the output first; or several `outputs`, of one type, which are put as a tuple.

    ``pointers(address)`` loads the typed pointers, ``get(p, i)`` the i-th element of every input, ``put(p, i, value)`` stores the
    output's. Operand `fixed` (0: none) is one value for all i. Stores are declared not to alias loads: elements meet only at equal indices, so in-place kernels vectorise too.
    """
    pointer_types = types.Tuple([types.CPointer(k) for k in kinds])

    def scope(module):
        domain = module.add_metadata(["numbatensor"])
        return module.add_metadata([module.add_metadata(["numbatensor inputs", domain])])

    @intrinsic
    def pointers(typingctx, address):
        def codegen(context, builder, signature, args):
            loaded = []
            for k, kind in enumerate(pointer_types):
                target = context.get_value_type(kind)
                place = builder.inttoptr(builder.add(args[0], ir.Constant(ir.IntType(64), 8 * k)), target.as_pointer())
                loaded.append(builder.load(place))
            return context.make_tuple(builder, pointer_types, loaded)

        return pointer_types(types.int64), codegen

    @intrinsic
    def get(typingctx, p, i):
        values = types.Tuple(kinds[outputs:])

        def codegen(context, builder, signature, args):
            loaded = []
            for k, kind in enumerate(kinds[outputs:], outputs):
                index = ir.Constant(ir.IntType(64), 0) if k == fixed else args[1]
                place = builder.gep(builder.extract_value(args[0], k), [index])
                one = context.unpack_value(builder, kind, place)
                if isinstance(one, ir.LoadInstr):
                    one.set_metadata("alias.scope", scope(builder.module))
                loaded.append(one)
            return context.make_tuple(builder, values, loaded)

        return values(p, i), codegen

    @intrinsic
    def put(typingctx, p, i, value):
        def codegen(context, builder, signature, args):
            for k in range(outputs):
                one, kind = (builder.extract_value(args[2], k), value[k]) if outputs > 1 else (args[2], value)
                cast = context.cast(builder, one, kind, kinds[k])
                place = builder.gep(builder.extract_value(args[0], k), [args[1]])
                data = context.data_model_manager[kinds[k]].as_data(builder, cast)
                builder.store(data, place).set_metadata("noalias", scope(builder.module))
            return context.get_dummy_value()

        return types.none(p, i, value), codegen

    return pointers, get, put


def on_stack(builder, kind):
    """Memory for a value of a type on the stack, made once for a call; numba's own way of making it would clear it each time."""
    with builder.goto_entry_block():
        return builder.alloca(kind)


@intrinsic
def word_at(typingctx, addresses, k):
    """Word k of an array of words: the address of operand k."""

    def codegen(context, builder, signature, args):
        words = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(words, [args[1]]))

    return types.int64(types.int64, types.int64), codegen


def array_of(kind):
    """Intrinsics over memory that holds elements of one type: ``at(address)``, ``get(array, i)``, ``put(array, i, value)``.

    An address becomes a pointer once, outside of the loop: LLVM does not see through a conversion in each step.
    """
    array = types.CPointer(kind)

    @intrinsic
    def at(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(array))

        return array(types.int64), codegen

    @intrinsic
    def get(typingctx, p, i):
        def codegen(context, builder, signature, args):
            return context.unpack_value(builder, kind, builder.gep(args[0], [args[1]]))

        return kind(p, i), codegen

    @intrinsic
    def put(typingctx, p, i, value):
        def codegen(context, builder, signature, args):
            cast = context.cast(builder, args[2], value, kind)
            context.pack_value(builder, kind, cast, builder.gep(args[0], [args[1]]))
            return context.get_dummy_value()

        return types.none(p, i, value), codegen

    return at, get, put


def itemsize(kind):
    """Bytes of an element of a numba type."""
    return 1 if kind == types.boolean else kind.bitwidth // 8
