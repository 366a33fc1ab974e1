"""The larger and the smaller of two numbers; of floats, NaN where one is NaN.

A comparison and a selection that let NaN through do not vectorise (6 times slower); LLVM's maximum and minimum do.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def extreme(name, comparison):
    """An intrinsic: LLVM's function of floats, a comparison of integers."""

    @intrinsic
    def function(typingctx, x, y):
        def codegen(context, builder, signature, args):
            kind = signature.return_type
            a, b = (context.cast(builder, v, t, kind) for v, t in zip(args, signature.args, strict=True))
            if isinstance(kind, types.Float):
                known = ir.FunctionType(a.type, [a.type, a.type])
                return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [a.type], known), [a, b])
            compare = builder.icmp_signed if getattr(kind, "signed", False) else builder.icmp_unsigned
            return builder.select(compare(comparison, a, b), a, b)

        return typingctx.unify_types(x, y)(x, y), codegen

    return function


larger, smaller = extreme("maximum", ">"), extreme("minimum", "<")
