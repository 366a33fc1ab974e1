"""Exponentials, logarithms, powers, trigonometry: functions of one number, and their derivatives."""

import math

from kernels_cpu import mathematics
from numbatensor.core.autocast import FULL, WIDEST
from numbatensor.op import FLOATING, pointwise
from numbatensor.ops.elementary import exp, sigmoid, where
from numbatensor.samples import POSITIVE, WITHIN_ONE, reals


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def exp2(x):
    """Two to the power of each element."""
    return math.exp2(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def expm1(x):
    """Exponential of each element, less one, exact near zero."""
    return math.expm1(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=POSITIVE)
def log2(x):
    """Logarithm of each element to base 2."""
    return math.log2(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=POSITIVE)
def log10(x):
    """Logarithm of each element to base 10."""
    return math.log10(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=POSITIVE)
def log1p(x):
    """Logarithm of one plus each element, exact near zero."""
    return math.log1p(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=POSITIVE)
def reciprocal(x):
    """One over each element."""
    return 1.0 / x


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=POSITIVE)
def rsqrt(x):
    """One over the square root of each element."""
    return 1.0 / math.sqrt(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=reals(-1.2, 1.2))
def tan(x):
    """Tangent of each element."""
    return math.tan(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=WITHIN_ONE)
def asin(x):
    """Arc sine of each element."""
    return math.asin(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=WITHIN_ONE)
def acos(x):
    """Arc cosine of each element."""
    return math.acos(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def atan(x):
    """Arc tangent of each element."""
    return math.atan(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def sinh(x):
    """Hyperbolic sine of each element."""
    return math.sinh(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def cosh(x):
    """Hyperbolic cosine of each element."""
    return math.cosh(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def asinh(x):
    """Inverse hyperbolic sine of each element."""
    return math.asinh(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=reals(1.2, 3.0))
def acosh(x):
    """Inverse hyperbolic cosine of each element."""
    return math.acosh(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5, samples=WITHIN_ONE)
def atanh(x):
    """Inverse hyperbolic tangent of each element."""
    return math.atanh(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def erf(x):
    """Error function of each element: ``2 / sqrt(pi)`` times the integral of ``exp(-t**2)`` from 0."""
    return math.erf(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def erfc(x):
    """One minus the error function of each element."""
    return math.erfc(x)


exp2.backward(x=lambda grad, out: grad * out * 0.6931471805599453)
expm1.backward(x=lambda grad, out: grad * (out + 1.0))
log2.backward(x=lambda grad, x: grad / (x * 0.6931471805599453))
log10.backward(x=lambda grad, x: grad / (x * 2.302585092994046))
log1p.backward(x=lambda grad, x: grad / (x + 1.0))
reciprocal.backward(x=lambda grad, out: -grad * out * out)
rsqrt.backward(x=lambda grad, out: -0.5 * grad * out * out * out)
tan.backward(x=lambda grad, out: grad * (1.0 + out * out))
asin.backward(x=lambda grad, x: grad * rsqrt(1.0 - x * x))
acos.backward(x=lambda grad, x: -grad * rsqrt(1.0 - x * x))
atan.backward(x=lambda grad, x: grad / (1.0 + x * x))
sinh.backward(x=lambda grad, x: grad * cosh(x))
cosh.backward(x=lambda grad, x: grad * sinh(x))
asinh.backward(x=lambda grad, x: grad * rsqrt(x * x + 1.0))
acosh.backward(x=lambda grad, x: grad * rsqrt(x * x - 1.0))
atanh.backward(x=lambda grad, x: grad / (1.0 - x * x))
erf.backward(x=lambda grad, x: 1.1283791670955126 * grad * exp(-x * x))
erfc.backward(x=lambda grad, x: -1.1283791670955126 * grad * exp(-x * x))


@pointwise
def square(x):
    """Square of each element."""
    return x * x


square.backward(x=lambda grad, x: grad * (x + x))


@pointwise(promotes=True, dtypes=FLOATING, cost=6)
def atan2(x, y):
    """Angle of each point (y, x): arc tangent of x / y in the right quadrant."""
    return math.atan2(x, y)


atan2.backward(
    x=lambda grad, x, y: where(x * x + y * y == 0.0, 0.0, grad * y / (x * x + y * y)),
    y=lambda grad, x, y: where(x * x + y * y == 0.0, 0.0, -grad * x / (x * x + y * y)),
)


def square_of_radius(x, y):
    """``x ** 2 + y ** 2``, or infinity at the origin, where an angle has no slope."""
    r = x * x + y * y
    return where(r == 0.0, math.inf, r)


atan2.formula(
    x=lambda grad, x, y: grad * y / square_of_radius(x, y), y=lambda grad, x, y: -grad * x / square_of_radius(x, y)
)


@pointwise(promotes=True, dtypes=FLOATING, cost=6, samples=reals(0.1, 0.9))
def log_odds(x):
    """Logarithm of the odds ``x / (1 - x)``."""
    return math.log(x / (1.0 - x))


log_odds.internal().backward(x=lambda grad, x: grad / (x * (1.0 - x)))


@pointwise(dtypes=FLOATING, cost=4)
def hypot(x, y):
    """Length of the hypotenuse over each pair of legs."""
    return math.hypot(x, y)


hypot.backward(x=lambda grad, out, x: grad * (x / out), y=lambda grad, out, y: grad * (y / out))


@pointwise(dtypes=FLOATING, cost=9)
def logaddexp(x, y):
    """Logarithm of the sum of the exponentials of each pair: ``log(exp(x) + exp(y))`` without overflow."""
    high, low = (x, y) if x > y else (y, x)
    infinite = high == low and high - low != 0.0
    return high if infinite else high + mathematics.softplus(low - high)


logaddexp.backward(x=lambda grad, x, y: grad * sigmoid(x - y), y=lambda grad, x, y: grad * sigmoid(y - x))
for op in (expm1, log2, log10, log1p, reciprocal, rsqrt, tan, asin, acos, sinh, cosh):
    op.under_autocast(cuda=FULL)
for op in (atan2,):
    op.under_autocast(cuda=WIDEST)
