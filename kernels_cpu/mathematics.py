"""x"""

from math import copysign, e, inf, isfinite, isinf, isnan, nan, pi, sqrt  # noqa: F401
from kernels_cpu.arcs import acos, asin, atan, atan2
from kernels_cpu.error_functions import erf, erfc
from kernels_cpu.exponentials import exp, exp2, expm1, sigmoid
from kernels_cpu.hyperbolic import acosh, asinh, atanh, cosh, sinh, tanh
from kernels_cpu.logarithms import log, log1p, log2, log10
from kernels_cpu.powers import hypot, pow
from kernels_cpu.trigonometry import cos, sin, tan
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
