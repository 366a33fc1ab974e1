"""The error function and its complement."""

from kernels_cpu.exponentials import EXP, reduced
from kernels_cpu.exponents import BIAS, power_of_two, times_power_of_two
from kernels_cpu.pairs import quick_two_sum, two_product, two_sum, without
from kernels_cpu.traced import at_most, constant, copysign, fabs, fma, polynomial, select, traced

SMALL = 0.8  # up to here erf is a polynomial

# Minimax polynomials, relative errors 2**-28 and 2**-56: erf(x) / x - 1 in x**2, to 0.8 ...
ERF = {
    32: (0.128379166, -0.376126081, 0.11283166, -0.0268225726, 0.00508773979, -0.000654941541),
    64: (
        0.12837916709551256,
        -0.3761263890318332,
        0.11283791670933181,
        -0.026866170640601157,
        0.0052239775762915955,
        -0.0008548323858542364,
        0.00012055204217285929,
        -1.4922245999286937e-05,
        1.640357706670882e-06,
        -1.5730323849228965e-07,
        1.0779428351150567e-08,
    ),
}
# ... log(1 - erf(x)) in x, from 0.8 to 4, or 6: errors of erf ...
LOG_ERFC = {
    32: (-6.59437646e-05, -1.12822902, -0.636221826, -0.104798771, 0.0226561967, -0.00315361284, 0.000207454315),
    64: (
        -1.969121371044922e-08,
        -1.1283789574469478,
        -0.6366207639905693,
        -0.10276994057986032,
        0.019124368181485215,
        0.00021118546860266,
        -0.001689716606383797,
        0.0005704394397671678,
        5.056222291748054e-06,
        -9.837108532047941e-05,
        5.7584218804493603e-05,
        -2.098863989485638e-05,
        5.5878516764334055e-06,
        -1.127423176718927e-06,
        1.7203662561162845e-07,
        -1.932898819298732e-08,
        1.5117414932822498e-09,
        -7.356491827860226e-11,
        1.6770697475711684e-12,
    ),
}
# ... and (1 + 2 x) * exp(x**2) * erfc(x) in t = (x - CENTRE) / (x + CENTRE), from 0.49 to 10.1, or 27.3 (Shepherd and Laframboise,
# 1981), the first coefficient being a pair
CENTRE = {32: 3.0, 64: 4.0}
ERFCX_FIRST = {32: (1.2530080080032349, 5.059015251163146e-08), 64: (1.2329951186255526, -4.379154206363763e-17)}
ERFCX = {
    32: (
        -0.135621041,
        -0.0475623384,
        0.129642457,
        -0.119273245,
        0.0683394894,
        -0.0237660464,
        0.00238525984,
        0.0018400813,
        -0.000520401227,
    ),
    64: (
        -0.1396211168405625,
        0.015379652102619008,
        0.06809705425469062,
        -0.1010390660362523,
        0.0937328349984355,
        -0.06633036581364647,
        0.03716751553577372,
        -0.016197734037761403,
        0.00503196999730289,
        -0.0007577734522041801,
        -0.00019925683050754555,
        0.00015062250955607994,
        -2.4398588222742575e-05,
        -1.1224767571857136e-05,
        5.707800012892588e-06,
        2.996084747192621e-07,
        -8.21461047469274e-07,
        6.698582412960353e-08,
        1.0488106430870831e-07,
        -1.2211970739457691e-08,
        -1.022837179773647e-08,
    ),
}


@traced
def erf(x):
    """Error function of x: ``x * P(x**2)`` to 0.8, and ``1 - exp(Q(|x|))`` beyond."""
    w = x.width
    a = at_most(fabs(x), {32: 4.0, 64: 6.0}[w])
    z = x * x
    near = fma(x, polynomial(z, ERF[w]), x)
    r, _, n = reduced(polynomial(a, LOG_ERFC[w]), BIAS[w])
    power = power_of_two(n)
    far = fma(-power, fma(r * r, polynomial(r, EXP[w]), r), 1.0 - power)
    return select(fabs(x) <= SMALL, near, copysign(far, x))


@traced
def erfc(x):
    """Complement of the error function of x: ``exp(-x**2) / (1 + 2 |x|)`` times a polynomial, less than 2 by that for negative x."""
    w = x.width
    a = at_most(fabs(x), {32: 10.1, 64: 27.3}[w])
    square, below = two_product(a, a)
    r, low, n = reduced(-square, 2 * BIAS[w])
    r, low = quick_two_sum(r, low - below)
    first, second = ERFCX_FIRST[w]
    t = (a - CENTRE[w]) / (a + CENTRE[w])
    top, lost = quick_two_sum(constant(x, first), t * polynomial(t, ERFCX[w]))
    bottom, lost_below = two_sum(a + a, 1.0)
    inverse = 1.0 / bottom
    scale = top * inverse
    rest = (without(top, scale, bottom) + fma(-scale, lost_below, lost + second)) * inverse
    rest = fma(scale, fma(r * r, polynomial(r, EXP[w]), low), fma(rest, r, rest))
    far = times_power_of_two(fma(scale, r, scale) + rest, n)
    near = fma(-x, polynomial(x * x, ERF[w]), 1.0 - x)
    return select(fabs(x) <= 0.5, near, select(x < 0.0, 2.0 - far, far))
