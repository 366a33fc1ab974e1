"""Exponentials: a power of two, times a polynomial on half an octave around 1."""

from kernels_cpu.exponents import BIAS, FRACTION, nearest, power_of_two, times_power_of_two
from kernels_cpu.pairs import LN2, both
from kernels_cpu.traced import at_least, at_most, fabs, fma, polynomial, select, traced

LN2_PIECES = both(LN2, (15, 24), (41, 53))  # the first, times an exponent, is exact
LOWEST = {32: -104.0, 64: -746.0}  # the exponential is 0 from here down
HIGHEST = {32: 89.0, 64: 710.0}  # and infinite from here up
NEGLIGIBLE = {32: -18.0, 64: -39.0}  # it is less than half a unit in the last place of 1 from here down

# Minimax polynomials on +- log(2) / 2, relative errors 2**-28 and 2**-58: (exp(x) - 1 - x) / x**2 ...
EXP = {
    32: (0.5, 0.166665196, 0.0416664146, 0.00836882181, 0.00139395299),
    64: (
        0.5000000000000013,
        0.16666666666666677,
        0.04166666666651133,
        0.008333333333320462,
        0.001388888894796553,
        0.00019841269890056516,
        2.480148904463008e-05,
        2.7557239830300337e-06,
        2.763157841085579e-07,
        2.511062418419581e-08,
    ),
}
# ... with the weight of exp(x) - 1 ...
EXPM1 = {
    32: (0.5, 0.166666672, 0.0416664891, 0.00833320804, 0.00139326742, 0.000199442642),
    64: (
        0.5,
        0.16666666666666677,
        0.04166666666666668,
        0.008333333333321438,
        0.0013888888888877095,
        0.00019841269886582423,
        2.480158734188588e-05,
        2.7557243771583286e-06,
        2.755725774074519e-07,
        2.5109184104478476e-08,
        2.0920043672453095e-09,
    ),
}
# ... and (2**x - 1) / x on +- 1/2
EXP2 = {
    32: (0.693147182, 0.240226507, 0.0555035919, 0.00961807277, 0.00133911474, 0.000154584355),
    64: (
        0.6931471805599453,
        0.2402265069591012,
        0.05550410866482261,
        0.009618129107597668,
        0.0013333558146255415,
        0.0001540353045352209,
        1.5252733948802954e-05,
        1.3215436785177438e-06,
        1.0178021300337227e-07,
        7.073559677934364e-09,
        4.4603618799401456e-10,
    ),
}


def reduced(x, plus):
    """``x = n * log(2) + r + low``: r, low, and an integer whose low bits hold n plus a constant."""
    high, low = LN2_PIECES[x.width]
    n, integer = nearest(x, float(1 / LN2), plus)
    exact = fma(n, -high, x)
    r = fma(n, -low, exact)
    return r, fma(n, -low, exact - r), integer


def exponential(x):
    """The exponential of x between the bounds."""
    r, _, n = reduced(x, 2 * BIAS[x.width])
    return times_power_of_two(1.0 + fma(r * r, polynomial(r, EXP[x.width]), r), n)


def power(x, low):
    """``2**(x + low)``, for a small low."""
    x = at_most(at_least(x, {32: -151.0, 64: -1076.0}[x.width]), {32: 129.0, 64: 1025.0}[x.width])
    n, integer = nearest(x, 1.0, 2 * BIAS[x.width])
    r = (x - n) + low
    return times_power_of_two(fma(r, polynomial(r, EXP2[x.width]), 1.0), integer)


@traced
def exp(x):
    """Exponential of x."""
    return exponential(at_most(at_least(x, LOWEST[x.width]), HIGHEST[x.width]))


@traced
def exp2(x):
    """Two to the power of x."""
    return power(x, 0.0)


@traced
def expm1(x):
    """Exponential of x, less one."""
    w = x.width
    inside = at_most(at_least(x, NEGLIGIBLE[w]), HIGHEST[w])
    r, low, n = reduced(inside, BIAS[w] - 1)
    half = power_of_two(n)  # 2**n itself may overflow where the result does not
    rest = fma(r * r, polynomial(r, EXPM1[w]), low)
    result = fma(half, rest, fma(half, r, half - 0.5))
    return select(fabs(x) < 2.0 ** -(FRACTION[w] + 2), x, result + result)


@traced
def sigmoid(x):
    """Logistic function of x: ``1 / (1 + exp(-x))``, from the exponential that cannot overflow."""
    e = exponential(at_least(-fabs(x), LOWEST[x.width]))
    return select(x < 0.0, e, 1.0) / (1.0 + e)
