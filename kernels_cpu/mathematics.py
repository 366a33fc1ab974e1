"""Scalar functions for kernels, under the names of Python's `math`: a formula declared with `math` runs with these.

Rounding is LLVM's, which keeps the type and vectorises; the transcendental functions are still the C library's, one call an
element. Polynomials that vectorise take their places here.
"""

from math import (  # noqa: F401
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    copysign,
    cos,
    cosh,
    e,
    erf,
    erfc,
    exp,
    expm1,
    hypot,
    inf,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    log2,
    log10,
    nan,
    pi,
    pow,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)

from numba.extending import intrinsic


def llvm_function(name):
    """A function of one float that LLVM knows, as an intrinsic that keeps the type."""

    @intrinsic
    def function(typingctx, x):
        def codegen(context, builder, signature, args):
            return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [args[0].type]), args)

        return x(x), codegen

    return function


floor, ceil, trunc, fabs, round = map(llvm_function, ("floor", "ceil", "trunc", "fabs", "rint"))
