"""Exponentials and logarithms, and the hyperbolic functions made of them.

``e**x = (1 + q) * 2**n`` with n the whole number nearest to ``x / ln 2`` and ``q = e**r - 1`` a polynomial in the rest
``r = x - n * ln 2``, which two constants subtract (Cody and Waite 1980). ``log x = k * ln 2 + log(1 + f)`` with
``sqrt(1/2) <= 1 + f < sqrt(2)``. Coefficients are minimax fits (Remez), relative to the function that they serve.
"""

import numpy as np

from kernels_cpu.expression import (
    INFINITY,
    NOT_A_NUMBER,
    bits,
    clamp,
    from_bits,
    function,
    magnitude,
    nearest,
    polynomial,
    power_of_two,
    root,
    scale,
    select,
    to_float,
    two_sum,
    with_sign,
)

LOG2_E, LN_2 = 1.4426950408889634, 0.6931471805599453
# ln 2 in two parts, the first with so few bits that its product with n is exact
LN_2_SINGLE = 0.693145751953125, 1.4286068203094172e-06
LN_2_DOUBLE = 0.6931471803691238, 1.9082149292705877e-10

# (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2
EXPONENTIAL_SINGLE = (
    0.5000000061937573,
    0.1666654299209332,
    0.041666282013889014,
    0.00836658394888888,
    0.0013946451024502058,
)
EXPONENTIAL_DOUBLE = (
    0.5000000000000006,
    0.16666666666666685,
    0.04166666666657362,
    0.008333333333314602,
    0.0013888888932379736,
    0.0001984126990300641,
    2.4801504444890006e-05,
    2.7557227976259393e-06,
    2.762632692807217e-07,
    2.5114465893066126e-08,
)
# (log(1 + f) - f + f**2 / 2) / f**3 for sqrt(1/2) <= 1 + f < sqrt(2)
LOGARITHM_SINGLE = (
    0.33333307742907287,
    -0.24999998593000725,
    0.20002471962269092,
    -0.16668921843005347,
    0.1421267245248012,
    -0.1238380965224102,
    0.1191947695561012,
    -0.11826440133407856,
    0.06861151626006867,
)
# (2 atanh(s) - 2 s) / s**3 in s**2, for the same interval and s = f / (2 + f)
LOGARITHM_DOUBLE = (
    0.6666666666666735,
    0.3999999999940701,
    0.2857142874425786,
    0.22222198365575996,
    0.18183575882272385,
    0.1531373630044137,
    0.1479927148166364,
)


def exponential_less_one(r):
    """``e**r - 1`` for ``|r| <= ln(2) / 2``."""
    return r + r * r * polynomial(r, r.either(EXPONENTIAL_SINGLE, EXPONENTIAL_DOUBLE))


def reduced(x):
    """``(q, k)`` with ``e**x = (1 + q) * 2**k``."""
    high, low = x.either(LN_2_SINGLE, LN_2_DOUBLE)
    n, k = nearest(x * LOG2_E)
    return exponential_less_one((x - n * high) - n * low), k


def less_one(x):
    """``e**x - 1`` while ``2**k`` does not overflow."""
    q, k = reduced(x)
    e = power_of_two(k, x)
    return e * q + (e - 1)


@function(np.exp)
def exp(x):
    """``e**x``."""
    q, k = reduced(clamp(x, *x.either((-104.0, 89.0), (-746.0, 710.0))))
    return scale(1 + q, k)


@function(np.exp2)
def exp2(x):
    """``2**x``."""
    x = clamp(x, *x.either((-151.0, 129.0), (-1076.0, 1025.0)))
    n, k = nearest(x)
    return scale(1 + exponential_less_one((x - n) * LN_2), k)


@function(np.expm1)
def expm1(x):
    """``e**x - 1``, exact near zero."""
    x = clamp(x, *x.either((-20.0, 89.0), (-40.0, 710.0)))
    q, k = reduced(x)
    over = k > x.format.bias
    e = power_of_two(select(over, k - 1, k), x)
    y = e * q + (e - select(over, x.constant(0.5), 1.0))
    return select(over, y + y, select(x == 0, x, y))


@function(lambda x: (1 / (1 + np.exp(-np.asarray(x))))[()])
def sigmoid(x):
    """``1 / (1 + e**-x)``, as ``e**x / (1 + e**x)`` for negative `x`."""
    q, k = reduced(clamp(-magnitude(x), x.either(-104.0, -746.0), 0.0))
    e = scale(1 + q, k)
    return select(x < 0, e, 1.0) / (1 + e)


@function(np.tanh)
def tanh(x):
    """``(e**2x - 1) / (e**2x + 1)``."""
    a = magnitude(x)
    t = less_one(2 * select(a > x.either(9.5, 20.0), x.either(9.5, 20.0), a))
    return with_sign(t / (t + 2), x)


def quarter(x):
    """``(q, e)`` with ``e**x / 4 = (1 + q) * e``, for `x` up to the largest whose hyperbolic sine is finite."""
    high = x.either(90.0, 711.0)
    q, k = reduced(select(x > high, high, x))
    return q, power_of_two(k - 2, x)


@function(np.sinh)
def sinh(x):
    """``(e**x - e**-x) / 2``, through ``e**x - 1`` for what is exact near zero."""
    a = magnitude(x)
    q, e = quarter(a)
    t = e * q + (e - 0.25)
    y = 2 * (t + t / (4 * t + 1))
    return select(a < x.either(2.0**-12, 2.0**-26), x, with_sign(y, x))


@function(np.cosh)
def cosh(x):
    """``(e**x + e**-x) / 2``."""
    q, e = quarter(magnitude(x))
    t = e * q + e
    return 2 * (t + 0.0625 / t)


def split(x):
    """``(k, f)`` with ``x = 2**k * (1 + f)`` and ``sqrt(1/2) <= 1 + f < sqrt(2)``, for positive `x`."""
    f = x.format
    small = x < f.smallest_normal
    whole = bits(select(small, x * 2.0**f.digits, x))
    k = (whole - x.either(0x3F3504F3, 0x3FE6A09E667F3BCD)) >> f.fraction
    return select(small, k - f.digits, k), from_bits(whole - (k << f.fraction)) - 1


def tail(f):
    """``log(1 + f) - f``."""
    z = f * f
    if f.format.digits == 24:
        return z * f * polynomial(f, LOGARITHM_SINGLE) - 0.5 * z
    s = f / (2 + f)
    half = 0.5 * z
    return s * (half + s * s * polynomial(s * s, LOGARITHM_DOUBLE)) - half


def natural(k, f):
    """``k * ln 2 + log(1 + f)``."""
    high, low = f.either(LN_2_SINGLE, LN_2_DOUBLE)
    k = to_float(k)
    return k * high + (f + (tail(f) + k * low))


def edges(x, y):
    """A logarithm `y` of `x`, or what it is at the edges: of 0, of less, of infinity and NaN."""
    y = select(x < INFINITY, y, x)
    y = select(x < 0, NOT_A_NUMBER, y)
    return select(x == 0, -INFINITY, y)


@function(np.log)
def log(x):
    """The natural logarithm."""
    return edges(x, natural(*split(x)))


@function(np.log2)
def log2(x):
    """The logarithm to base 2: whole for powers of 2."""
    k, f = split(x)
    high, low = f.either((1.4426950216293335, 1.925963033500011e-08), (LOG2_E, 2.0355273740931033e-17))
    return edges(x, to_float(k) + (f * high + (tail(f) * high + f * low)))


@function(np.log10)
def log10(x):
    """The logarithm to base 10."""
    k, f = split(x)
    high, low = f.either((0.4342944920063019, -1.0103049952192578e-08), (0.4342944819032518, 1.098319650216765e-17))
    two, rest = f.either((0.301025390625, 4.605038981195214e-06), (0.30102999566383914, 1.42050232272661e-13))
    k = to_float(k)
    return edges(x, k * two + (f * high + (tail(f) * high + (f * low + k * rest))))


def log_of_sum(x, lost):
    """``log(x + lost)`` for `lost` below half a unit in the last place of `x`."""
    k, f = split(x)
    lost = select(x > 2.0 ** (2 * x.format.digits), 0.0, lost)
    return k, f + lost * power_of_two(-k, x)


@function(np.log1p)
def log1p(x):
    """``log(1 + x)``, exact near zero: what rounding takes from ``1 + x`` is added to f."""
    y = natural(*log_of_sum(*two_sum(x, x.constant(1))))
    y = select(x < INFINITY, y, x)
    y = select(x < -1, NOT_A_NUMBER, y)
    return select(x == 0, x, select(x == -1, -INFINITY, y))


@function(np.arcsinh)
def asinh(x):
    """``log(x + sqrt(x**2 + 1))``, as log1p near zero and ``log(2 x)`` far from it."""
    a = magnitude(x)
    far = a > 2.0 ** (x.format.digits // 2 + 2)
    near = select(far, 0.0, a)
    s, lost = two_sum(near + near * near / (1 + root(near * near + 1)), x.constant(1))
    k, f = log_of_sum(select(far, a, s), select(far, 0.0, lost))
    y = natural(select(far, k + 1, k), f)
    return with_sign(select(a < INFINITY, select(a < x.either(2.0**-12, 2.0**-27), a, y), a), x)


@function(np.arccosh)
def acosh(x):
    """``log(x + sqrt(x**2 - 1))``, as log1p near one and ``log(2 x)`` far from it."""
    far = x > 2.0 ** (x.format.digits // 2 + 2)
    t = select(far, 0.0, x - 1)
    s, lost = two_sum(t + root(t * t + 2 * t), x.constant(1))
    k, f = log_of_sum(select(far, x, s), select(far, 0.0, lost))
    y = natural(select(far, k + 1, k), f)
    return select(x < 1, NOT_A_NUMBER, select(x < INFINITY, y, x))


@function(np.arctanh)
def atanh(x):
    """``log((1 + x) / (1 - x)) / 2``, as log1p."""
    a = magnitude(x)
    s, lost = two_sum(2 * a / (1 - a), x.constant(1))
    y = 0.5 * natural(*log_of_sum(s, lost))
    y = select(a < x.either(2.0**-12, 2.0**-27), a, select(a == 1, INFINITY, y))
    return with_sign(select(a > 1, NOT_A_NUMBER, y), x)
