"""Logarithms: an exponent, and the logarithm of a number near 1."""

from kernels_cpu.exponents import BIAS, over_power_of_two, small_float, split, split_any
from kernels_cpu.pairs import LN2, LN10, both, quick_two_sum, two_product, two_sum
from kernels_cpu.traced import fma, polynomial, select, traced

inf, nan = float("inf"), float("nan")
LN2_PIECES = both(LN2, (15, 24), (41, 53))  # the first, times an exponent, is exact
LG2_PIECES = both(LN2 / LN10, (15, 24), (41, 53))
LOG2_E = both(1 / LN2, (24, 24), (53, 53))
LG_E = both(1 / LN10, (24, 24), (53, 53))

# Minimax polynomials in s**2 for numbers from sqrt(1/2) to sqrt(2), relative errors of the logarithm 2**-30 and 2**-59:
# (log((1 + s) / (1 - s)) / s - 2) / s**2
LOG = {
    32: (0.666667759, 0.399775833, 0.298707962),
    64: (
        0.6666666666666734,
        0.3999999999941672,
        0.28571428742001914,
        0.2222219860831624,
        0.1818356266169194,
        0.1531409006661492,
        0.14795578220211467,
    ),
}


def beyond(f):
    """``log(1 + f) - f``, for 1 + f from sqrt(1/2) to sqrt(2). The first term, ``-f**2 / 2``, is exact where it is large."""
    s = f / (2.0 + f)
    half, z = 0.5 * f * f, s * s
    return fma(s, fma(z, polynomial(z, LOG[f.width]), half), -half)


def combined(e, f, low=0.0):
    """``e * log(2) + log(1 + f + low)``"""
    first, second = LN2_PIECES[f.width]
    return fma(e, first, f + fma(e, second, beyond(f) + low))


def in_base(e, f, base, digits):
    """``e * base + log(1 + f) * digits``, of pairs, to the last bit of either."""
    first, second = digits[f.width]
    product, below = two_product(f, first)
    total, lost = quick_two_sum(e * base[0], product)
    return total + fma(e, base[1], fma(beyond(f), first, fma(f, second, lost + below)))


def domain(x, result):
    """The result where x is positive and finite, and what a logarithm is elsewhere."""
    result = select(x == 0.0, -inf, result)
    return select(x < inf, select(x < 0.0, nan, result), x)


@traced
def log(x):
    """Natural logarithm of x."""
    m, e = split_any(x)
    return domain(x, combined(e, m - 1.0))


@traced
def log2(x):
    """Logarithm of x to base 2."""
    m, e = split_any(x)
    return domain(x, in_base(e, m - 1.0, (1.0, 0.0), LOG2_E))


@traced
def log10(x):
    """Logarithm of x to base 10."""
    m, e = split_any(x)
    return domain(x, in_base(e, m - 1.0, LG2_PIECES[x.width], LG_E))


def logarithm_of_sum(x, low):
    """``log(x + low)`` for a normal x and a small low."""
    m, n = split(x)
    f, lost = quick_two_sum(m - 1.0, over_power_of_two(low, n))
    return combined(small_float(n, BIAS[x.width]), f, lost)


@traced
def log1p(x):
    """Logarithm of 1 + x."""
    total, lost = two_sum(x, 1.0)
    return select((x < inf) & (x != 0.0), domain(total, logarithm_of_sum(total, lost)), x)
