"""Sine, cosine and tangent: polynomials of what is left of x when the nearest multiple of pi / 2 is taken away.

They answer NaN where abs(x) is larger than BOUND: taking away more multiples needs more digits of pi.
"""

from kernels_cpu.exponents import nearest
from kernels_cpu.pairs import PI, both, quick_two_sum, two_product, two_sum, without
from kernels_cpu.traced import FUSED, bits, fabs, fma, from_bits, polynomial, select, traced

if FUSED:  # a fused product is exact where it matters: in the first step
    BOUND = {32: 2.0**18, 64: 2.0**40}
    HALF_PI = both(PI / 2, (24, 24, 24), (53, 53, 53))
else:  # pieces are short, so that their products are exact
    BOUND = {32: 2.0**13, 64: 2.0**25}
    HALF_PI = both(PI / 2, (11, 11, 11, 24), (27, 27, 27, 53))

# Minimax polynomials in r**2 on +- pi / 4, relative errors at most 2**-27 and 2**-56: (sin(r) / r - 1) / r**2 ...
SIN = {
    32: (-0.166666538, 0.00833211001, -0.000195089058),
    64: (
        -0.1666666666666663,
        0.00833333333332182,
        -0.0001984126982933239,
        2.75573135272465e-06,
        -2.5050732370663806e-08,
        1.5895304675561364e-10,
    ),
}
# ... (cos(r) - 1 + r**2 / 2) / r**4 ...
COS = {
    32: (0.0416666456, -0.00138873071, 2.44318817e-05),
    64: (
        0.04166666666666659,
        -0.0013888888888872236,
        2.4801587288351778e-05,
        -2.7557314037451793e-07,
        2.0875681813367985e-09,
        -1.1357560603079265e-11,
    ),
}
# ... and (tan(r) / r - 1) / r**2
TAN = {
    32: (0.333333492, 0.133326665, 0.0540605076, 0.0212759413, 0.0108580077, 5.54899743e-05, 0.00439544441),
    64: (
        0.3333333333333338,
        0.13333333333325256,
        0.05396825397297577,
        0.021869488396878082,
        0.008863237966908239,
        0.0035921003770291505,
        0.0014560493488870892,
        0.0005888446589475491,
        0.0002438252722173769,
        8.336157149981393e-05,
        6.759390639512949e-05,
        -2.6119042058180938e-05,
        4.905243525473146e-05,
        -2.4485503970009808e-05,
        9.847229788202886e-06,
    ),
}


def settled(x, result):
    """The result; x itself where that is a zero, of either sign; NaN beyond the bound."""
    return select(fabs(x) <= BOUND[x.width], select(x == 0.0, x, result), float("nan"))


def quarter_turns(x):
    """The number of times that pi / 2 is taken away, as a float, and as an integer."""
    return nearest(x, float(2 / PI))


def sine_of(x, turns):
    """The sine of x plus so many quarter turns."""
    w = x.width
    n, integer = quarter_turns(x)
    r = x
    for piece in HALF_PI[w]:
        r = fma(n, -piece, r)
    z = r * r
    sine = fma(z * r, polynomial(z, SIN[w]), r)
    cosine = fma(z, fma(z, polynomial(z, COS[w]), -0.5), 1.0)
    quarters = integer + turns
    value = select((quarters & 1) == 0, sine, cosine)
    return from_bits(bits(value) ^ ((quarters & 2) << (w - 2)))


@traced
def sin(x):
    """Sine of x; NaN beyond the bound."""
    return settled(x, sine_of(x, 0))


@traced
def cos(x):
    """Cosine of x; NaN beyond the bound."""
    return select(fabs(x) <= BOUND[x.width], sine_of(x, 1), float("nan"))


@traced
def tan(x):
    """Tangent of x, and -1 / tangent between odd quarter turns, with what rounding took; NaN beyond the bound."""
    n, integer = quarter_turns(x)
    *exact, middle, last = HALF_PI[x.width]
    r = x
    for piece in exact:
        r = fma(n, -piece, r)
    product, below = two_product(n, middle)
    r, low = two_sum(r, -product)
    low = fma(n, -last, low - below)
    z = r * r
    t, low = quick_two_sum(r, fma(z * r, polynomial(z, TAN[x.width]), fma(z, low, low)))
    inverse = 1.0 / t
    turned = -fma(inverse, fma(-inverse, low, without(1.0, inverse, t)), inverse)
    return settled(x, select((integer & 1) == 0, t, turned))
