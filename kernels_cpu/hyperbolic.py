"""Hyperbolic functions, of exponentials, and their inverses, of logarithms."""

from kernels_cpu.exponentials import EXPM1, HIGHEST, NEGLIGIBLE, reduced
from kernels_cpu.exponents import BIAS, FRACTION, over_power_of_two, power_of_two, small_float, split
from kernels_cpu.logarithms import LN2_PIECES, combined, inf, nan
from kernels_cpu.pairs import quick_two_sum, two_product, two_sum, without
from kernels_cpu.traced import (
    at_least,
    at_most,
    bits,
    constant,
    copysign,
    fabs,
    fma,
    from_bits,
    polynomial,
    select,
    sqrt,
    traced,
)

# Minimax polynomials in r**2 on +- log(2) / 2, relative errors 2**-26 to 2**-33, and 2**-58 or less: (sinh(r) / r - 1) / r**2 ...
SINH = {
    32: (0.166665435, 0.00836655218),
    64: (
        0.16666666666666677,
        0.00833333333332143,
        0.0001984126988662258,
        2.755724371473862e-06,
        2.5109209190442928e-08,
    ),
}
# ... (cosh(r) - 1) / r**2 ...
COSH = {
    32: (0.5, 0.0416664593, 0.00139354379),
    64: (0.5000000000000013, 0.041666666666511164, 0.0013888888948040278, 2.480148894208764e-05, 2.763162239564397e-07),
}
# ... and (atanh(s) / s - 1) / s**2 for abs(s) to 0.201
ATANH = {
    32: (0.333333313, 0.200004637, 0.142520234, 0.120706029),
    64: (
        0.3333333333333329,
        0.20000000000031945,
        0.14285714277118583,
        0.111111122318533,
        0.0909082822174784,
        0.07695702418697606,
        0.06584441072072503,
        0.06936906539584602,
    ),
}


@traced
def tanh(x):
    """Hyperbolic tangent of x: ``d / (d + 2)`` with ``d = exp(2 |x|) - 1``, and a correction for what rounding took from both."""
    w = x.width
    r, low, n = reduced(at_most(fabs(x + x), -NEGLIGIBLE[w]), BIAS[w])
    power = power_of_two(n)
    d, rest = quick_two_sum(fma(power, r, power - 1.0), power * fma(r * r, polynomial(r, EXPM1[w]), low))
    below = d + 2.0
    lost = rest + (d - (below - 2.0))
    inverse = 1.0 / below
    result = d * inverse
    error = fma(-result, lost, without(d, result, below)) + rest
    return copysign(fma(error, inverse, result), x)


def of_sum(x):
    """What sinh and cosh need of ``|x| = n * log(2) + r``: ``2**(n - 2)``, ``2**(-n - 2)``, r, and the rests of sinh(r) beyond r and
    of cosh(r) beyond 1."""
    w = x.width
    x = at_most(fabs(x), HIGHEST[w] + 0.5)
    r, low, n = reduced(x, BIAS[w] - 2)
    up = power_of_two(n)
    down = select(x < NEGLIGIBLE[w] * -2.0, from_bits(((2 * BIAS[w] - 4) << FRACTION[w]) - bits(up)), 0.0)
    z = r * r
    return up, down, r, fma(z * r, polynomial(z, SINH[w]), low), z * polynomial(z, COSH[w])


@traced
def sinh(x):
    """Hyperbolic sine of x, by the theorem of addition; half of it, as cosh(n * log(2)) alone may overflow."""
    up, down, r, sinh_rest, cosh_rest = of_sum(x)
    sinh_n, cosh_n = up - down, up + down
    half = fma(cosh_n, r, sinh_n) + fma(sinh_n, cosh_rest, cosh_n * sinh_rest)
    return copysign(select(fabs(x) < 2.0 ** -(FRACTION[x.width] // 2 + 1), fabs(x), half + half), x)


@traced
def cosh(x):
    """Hyperbolic cosine of x, by the theorem of addition."""
    up, down, r, sinh_rest, cosh_rest = of_sum(x)
    sinh_n, cosh_n = up - down, up + down
    half = fma(sinh_n, r, up) + (fma(cosh_n, cosh_rest, sinh_n * sinh_rest) + down)
    return half + half


def square_root(x, low):
    """The square root of a pair, as a pair."""
    root = sqrt(x)
    return root, (without(x, root, root) + low) / at_least(root + root, 2.0 ** -BIAS[x.width] * 4.0)


def logarithm_of_two(x, y, low):
    """``log(x + y + low)`` for x + y of at least 1; of 2 * x where x is so large that y may be infinite."""
    w = x.width
    large = x > 2.0 ** (FRACTION[w] // 2 + 4)
    total, lost = two_sum(x, y)
    m, n = split(select(large, x, total))
    f, lost = quick_two_sum(m - 1.0, select(large, 0.0, over_power_of_two(lost + low, n)))
    return combined(small_float(n, select(large, constant(x, BIAS[w] - 1.0), float(BIAS[w]))), f, lost)


@traced
def asinh(x):
    """Inverse hyperbolic sine of x: ``log(|x| + sqrt(x**2 + 1))``."""
    a = fabs(x)
    square, below = two_product(a, a)
    total, lost = two_sum(square, 1.0)
    result = logarithm_of_two(a, *square_root(total, lost + below))
    small = a < 2.0 ** -(FRACTION[x.width] // 2 + 1)
    return copysign(select(small, a, select(a < inf, result, a)), x)


@traced
def acosh(x):
    """Inverse hyperbolic cosine of x: ``log(x + sqrt(x**2 - 1))``; NaN below 1."""
    square, below = two_product(x, x)
    total, lost = two_sum(square, -1.0)
    result = logarithm_of_two(x, *square_root(total + (lost + below), 0.0))
    return select(x >= 1.0, select(x < inf, result, x), nan)


@traced
def atanh(x):
    """Inverse hyperbolic tangent of x: half the logarithm of ``(1 + |x|) / (1 - |x|) = 2**n * (1 + s) / (1 - s)``."""
    w = x.width
    a = fabs(x)
    above, lost_above = two_sum(1.0, a)
    below, lost_below = two_sum(1.0, -a)
    n = (bits(above) - bits(below) + (1 << (FRACTION[w] - 1))) >> FRACTION[w]
    power = power_of_two(n + BIAS[w])
    below, lost_below = below * power, lost_below * power
    total, lost = two_sum(above, below)
    inverse, difference = 1.0 / total, (above - below) + (lost_above - lost_below)
    s = difference * inverse
    low = fma(-s, lost + (lost_above + lost_below), without(difference, s, total)) * inverse
    s, low = select(n == 0, a, s), select(n == 0, 0.0, low)
    high, rest = LN2_PIECES[w]
    e, z = small_float(n, 0.0), s * s
    result = fma(e, 0.5 * high, s + fma(e, 0.5 * rest, fma(z * s, polynomial(z, ATANH[w]), low)))
    return copysign(select(a < 1.0, result, select(a == 1.0, constant(a, inf), nan)), x)
