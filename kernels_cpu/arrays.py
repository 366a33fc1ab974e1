"""Elements of several arrays that a kernel reads and writes, and the words and numbers it is told besides."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

word = ir.IntType(64)


@intrinsic
def setting(typingctx, settings, k):
    """The k-th of a list of float64."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(builder.inttoptr(args[0], ir.DoubleType().as_pointer()), [args[1]]))

    return types.float64(types.int64, types.int64), codegen


def array(kind, k, count):
    """Intrinsics over array k of `count` arrays: ``get(address, i)`` and ``put(address, i, value)``.

    The arrays are declared not to overlap. Where that is left to LLVM, it checks when the kernel runs, for four arrays at most:
    a loop over five stayed scalar.
    """

    def declare(builder, access):
        domain = builder.module.add_metadata(["numbatensor arrays"])
        scopes = [builder.module.add_metadata([f"numbatensor array {i}", domain]) for i in range(count)]
        access.set_metadata("alias.scope", builder.module.add_metadata([scopes[k]]))
        access.set_metadata("noalias", builder.module.add_metadata(scopes[:k] + scopes[k + 1 :]))

    def place(context, builder, args):
        pointer = context.get_data_type(kind).as_pointer()
        return builder.gep(builder.inttoptr(args[0], pointer), [args[1]])

    @intrinsic
    def get(typingctx, address, i):
        def codegen(context, builder, signature, args):
            found = builder.load(place(context, builder, args))
            declare(builder, found)
            return found

        return kind(types.int64, types.int64), codegen

    @intrinsic
    def put(typingctx, address, i, value):
        def codegen(context, builder, signature, args):
            declare(builder, builder.store(args[2], place(context, builder, args)))
            return context.get_dummy_value()

        return types.none(types.int64, types.int64, kind), codegen

    return get, put
