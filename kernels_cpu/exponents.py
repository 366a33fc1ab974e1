"""Exponents of floats, taken off and put on by integer arithmetic on their bits."""

from kernels_cpu.traced import bits, constant, fma, from_bits, select

FRACTION = {32: 23, 64: 52}  # bits of the fraction of a float
BIAS = {32: 127, 64: 1023}  # what the exponent of 1.0 is stored as
SQRT_HALF = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}  # bits of the float nearest to sqrt(1 / 2)


def nearest(x, scale, plus=0):
    """The whole number nearest to ``x * scale``, as a float; and an integer whose low bits hold it, plus a constant.

    Added to a float so large that its last bit counts ones, a number is rounded and its bits are an integer: no conversion, which
    AVX2 lacks for 64 bits.
    """
    large = 1.5 * 2.0 ** FRACTION[x.width] + plus
    shifted = fma(x, scale, large)
    return shifted - large, bits(shifted)


def power_of_two(n):
    """``2**n`` of an integer whose low bits hold n plus the bias."""
    return from_bits(n << FRACTION[n.width])


def times_power_of_two(x, n):
    """``x * 2**n``, of an integer whose low bits hold n plus twice the bias: in two steps, as the power alone may overflow."""
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


def over_power_of_two(x, n):
    """``x / 2**n``, of an integer that is n plus the bias; in two steps, as the exponent of the inverse may be too small."""
    return x * power_of_two(2 * BIAS[x.width] + 1 - n) * 0.5


def small_float(n, minus):
    """A small integer, not negative, as a float; less a number."""
    large = constant(from_bits(n), 2.0 ** FRACTION[n.width])
    return from_bits(n | bits(large)) - (minus + large)


def split(x):
    """``x = m * 2**e`` with m between sqrt(1/2) and sqrt(2), for a normal x: m, and an integer that is e plus the bias."""
    w = x.width
    above = bits(x) - SQRT_HALF[w]
    m = from_bits((above & (2 ** FRACTION[w] - 1)) + SQRT_HALF[w])
    return m, (above + (BIAS[w] << FRACTION[w])) >> FRACTION[w]


def split_any(x):
    """m and e, as floats, for a positive x that may be subnormal too."""
    w = x.width
    up = FRACTION[w] + 1
    small = x < 2.0 ** (1 - BIAS[w])
    m, n = split(select(small, x * 2.0**up, x))
    return m, small_float(n, select(small, constant(x, BIAS[w] + up), BIAS[w]))
