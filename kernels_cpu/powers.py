"""Powers of any numbers, and the hypotenuse."""

from kernels_cpu.exponentials import power
from kernels_cpu.exponents import split_any
from kernels_cpu.logarithms import inf, nan
from kernels_cpu.pairs import LN2, both, quick_two_sum, two_product, without
from kernels_cpu.traced import bits, constant, fabs, fma, from_bits, polynomial, select, sqrt, traced, trunc

SLOPE = both(2 / LN2, (24, 24), (53, 53))
CUBE = both(2 / LN2 / 3, (24, 24), (53, 53))
# A minimax polynomial in s**2: (log2((1 + s) / (1 - s)) / s - SLOPE - CUBE * s**2) / s**4, relative errors 2**-36 and 2**-66
LOG2 = {
    32: (0.57708019, 0.411849916, 0.337820888),
    64: (
        0.577078016355618,
        0.4121985830919422,
        0.32059890227281956,
        0.2623077012154793,
        0.22198399270824962,
        0.1912552950216644,
        0.19038406386009385,
    ),
}


def logarithm(x):
    """The logarithm of a positive x to base 2, as a pair."""
    w = x.width
    m, e = split_any(x)
    f, above = m - 1.0, m + 1.0
    inverse = 1.0 / above
    s = f * inverse
    s_low = fma(-s, m - (above - 1.0), without(f, s, above)) * inverse
    z, z_low = two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    cube, cube_low = quick_two_sum(constant(x, CUBE[w][0]), fma(z, polynomial(z, LOG2[w]), CUBE[w][1]))
    bend, bend_low = two_product(z, cube)
    bend_low = fma(z, cube_low, fma(z_low, cube, bend_low))
    slope, slope_low = quick_two_sum(constant(x, SLOPE[w][0]), bend)
    slope_low = slope_low + (bend_low + SLOPE[w][1])
    near, near_low = two_product(s, slope)
    near_low = fma(s_low, slope, fma(s, slope_low, near_low))
    total, lost = quick_two_sum(e, near)
    return total, lost + near_low


@traced
def pow(x, y):
    """x to the power of y, with the special cases of C."""
    w = x.width
    a = fabs(x)
    log, low = logarithm(a)
    log = select(a < inf, select(a == 0.0, -inf, log), a)
    exponent, below = two_product(y, log)
    low = fma(y, low, below)
    magnitude = power(exponent, select(fabs(exponent) < 2.0**11, low, 0.0))
    whole, odd = trunc(y) == y, trunc(0.5 * y) != 0.5 * y
    sign = select(whole & odd, bits(x) & (-1 << (w - 1)), 0)
    result = from_bits(bits(magnitude) ^ sign)
    result = select((x < 0.0) & (x > -inf) & (trunc(y) != y), nan, result)
    return select((x == 1.0) | (y == 0.0) | ((x == -1.0) & (fabs(y) == inf)), 1.0, result)


@traced
def hypot(x, y):
    """Length of the hypotenuse over two legs, without overflow of their squares."""
    x, y = fabs(x), fabs(y)
    a, b = select(x > y, x, y), select(x > y, y, x)
    top, low, up = {32: (62, -40, 100), 64: (510, -400, 700)}[x.width]
    large, small = a > 2.0**top, a < 2.0**low
    scale = select(large, constant(x, 2.0 ** -(top + 18)), select(small, constant(x, 2.0**up), 1.0))
    back = select(large, constant(x, 2.0 ** (top + 18)), select(small, constant(x, 2.0**-up), 1.0))
    a, b = a * scale, b * scale
    return select((x == inf) | (y == inf), inf, sqrt(fma(a, a, b * b)) * back)
