"""Scalar functions for kernels, under the names of Python's `math`: a formula declared with `math` runs with these.

They are traced formulas, which LLVM vectorises: most err by at most 1.3 units in the last place, sin and cos by 1.5, erfc by 1.6,
sinh by 1.8, sigmoid by 2.4 (tests/test_mathematics.py). Those of BOUNDED answer NaN beyond a bound, where pointwise kernels ask
`exact`; other kernels must stay within it.
"""

# ruff: noqa: F401
from math import copysign, e, inf, isfinite, isinf, isnan, nan, pi, sqrt

from numba.extending import register_jitable

from kernels_cpu.arcs import acos, asin, atan, atan2
from kernels_cpu.error_functions import erf, erfc
from kernels_cpu.exponentials import exp, exp2, expm1, sigmoid
from kernels_cpu.hyperbolic import acosh, asinh, atanh, cosh, sinh, tanh
from kernels_cpu.logarithms import log, log1p, log2, log10, softplus
from kernels_cpu.powers import hypot, pow
from kernels_cpu.remainders import floor_divide, fmod, modulo
from kernels_cpu.traced import rounding
from kernels_cpu.trigonometry import cos, sin, tan

OF_INTEGERS = ("remainder_of_truncated", "remainder_of_rounded_down", "quotient_rounded_down")  # in `integers`
BOUNDED = ("sin", "cos", "tan", "fmod", "modulo", "floor_divide", *OF_INTEGERS)
REPLACED, device = (
    BOUNDED,
    register_jitable,
)  # what formulas find here under other names, and how one that they call is compiled

ceil, fabs, floor, round, trunc = map(rounding, ("ceil", "fabs", "floor", "rint", "trunc"))
