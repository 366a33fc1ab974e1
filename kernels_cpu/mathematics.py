"""Scalar functions for kernels, under the names of Python's `math`: a formula declared with `math` runs with these."""

import math
from fractions import Fraction
from math import e, inf, nan, pi  # noqa: F401

import numpy as np
from numba import types
from numba.extending import lower_builtin, type_callable

from kernels_cpu.error_function import erf, erfc  # noqa: F401
from kernels_cpu.exponential import (  # noqa: F401
    acosh,
    asinh,
    atanh,
    cosh,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    sigmoid,
    sinh,
    tanh,
)
from kernels_cpu.expression import Value, bits, floats, function, intrinsic, magnitude, root
from kernels_cpu.expression import select as either
from kernels_cpu.trigonometric import acos, asin, atan, atan2, cos, sin, tan  # noqa: F401


def of_llvm(name, python, doc, count=1, llvm=None):
    """A function that LLVM knows."""

    def unary(x):
        return intrinsic(llvm or name, x)

    def binary(x, y):
        return intrinsic(llvm or name, x, y)

    formula = unary if count == 1 else binary
    formula.__name__ = formula.__qualname__ = name
    formula.__doc__ = doc
    return function(python)(formula)


floor = of_llvm("floor", np.floor, "The largest whole number not above x.")
ceil = of_llvm("ceil", np.ceil, "The smallest whole number not below x.")
trunc = of_llvm("trunc", np.trunc, "x without its fraction.")
round = of_llvm("round", np.rint, "The whole number nearest to x, the even one of two.", llvm="rint")
fabs = of_llvm("fabs", np.fabs, "The absolute value.")
sqrt = of_llvm("sqrt", np.sqrt, "The square root.")
copysign = of_llvm("copysign", np.copysign, "x with the sign of y.", 2)
maximum = of_llvm("maximum", np.maximum, "The larger of x and y; NaN if either is.", 2)
minimum = of_llvm("minimum", np.minimum, "The smaller of x and y; NaN if either is.", 2)
fmax = of_llvm("fmax", np.fmax, "The larger of x and y; NaN if both are.", 2, "maxnum")
fmin = of_llvm("fmin", np.fmin, "The smaller of x and y; NaN if both are.", 2, "minnum")
pow = of_llvm("pow", np.power, "x to the power of y.", 2)


@function(lambda x: (1 / np.sqrt(x))[()])
def rsqrt(x):
    """One over the square root."""
    return 1 / root(x)


@function(np.fmod)
def fmod(x, y):
    """The rest of x / y rounded towards zero, exact."""
    return x % y


@function(np.hypot)
def hypot(x, y):
    """``sqrt(x**2 + y**2)``, without overflow: both are scaled by a power of 2."""
    a, b = magnitude(x), magnitude(y)
    large = either(a > b, a, b)
    top, up, bottom, down = x.either((60, -68, -40, 100), (500, -600, -400, 700))
    big, small = large > 2.0**top, large < 2.0**bottom
    unit = either(big, x.constant(2.0**up), either(small, x.constant(2.0**down), 1.0))
    back = either(big, x.constant(2.0**-up), either(small, x.constant(2.0**-down), 1.0))
    a, b = a * unit, b * unit
    return either(large == inf, inf, root(a * a + b * b) * back)


@function(np.isnan, types.boolean)
def isnan(x):
    """Whether x is NaN."""
    return x != x


@function(np.isinf, types.boolean)
def isinf(x):
    """Whether x is infinite."""
    return magnitude(x) == inf


@function(np.isfinite, types.boolean)
def isfinite(x):
    """Whether x is neither infinite nor NaN."""
    return magnitude(x) < inf


@function(np.signbit, types.boolean)
def signbit(x):
    """Whether the sign bit of x is set: of -0.0 too."""
    return bits(x) < 0


def fused(x, y, z):
    kind = np.result_type(x, y, z).type
    if not all(map(math.isfinite, (x, y, z))):
        return kind(x * y + z)
    return kind(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))


@function(fused)
def fma(x, y, z):
    """``x * y + z``, rounded once."""
    return intrinsic("fma", x, y, z)


def select(condition, x, y):
    """`x` where the condition holds, `y` elsewhere; both are computed."""
    return x if condition else y


@type_callable(select)
def typed_select(context):
    def typer(condition, x, y):
        kind = x if x == y else floats(x, y)
        return kind and kind(types.boolean, kind, kind)

    return typer


@lower_builtin(select, types.Boolean, types.Any, types.Any)
def build_select(context, builder, signature, arguments):
    return either(*(Value(builder, a) for a in arguments)).llvm
