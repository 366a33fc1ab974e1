"""Scalar functions for kernels, under the names of Python's `math`: a formula declared with `math` runs with these.

They are traced formulas that LLVM vectorises. Where they are measured: float32 within 1.6 units in the last place and float64
within 1.8; sigmoid and erfc 2.4. Those of BOUNDED answer NaN beyond a bound; pointwise kernels then ask `exact`.
"""

# ruff: noqa: F401
from math import copysign, e, inf, isfinite, isinf, isnan, nan, pi, sqrt

from kernels_cpu.arcs import acos, asin, atan, atan2
from kernels_cpu.error_functions import erf, erfc
from kernels_cpu.exponentials import exp, exp2, expm1, sigmoid
from kernels_cpu.hyperbolic import acosh, asinh, atanh, cosh, sinh, tanh
from kernels_cpu.logarithms import log, log1p, log2, log10
from kernels_cpu.powers import hypot, pow
from kernels_cpu.traced import rounding
from kernels_cpu.trigonometry import cos, sin, tan

BOUNDED = ("sin", "cos", "tan")

ceil, fabs, floor, round, trunc = map(rounding, ("ceil", "fabs", "floor", "rint", "trunc"))
