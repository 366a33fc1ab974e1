"""Numbers as sums of two floats or more, the largest first: they hold what rounding takes from one float."""

import math
from fractions import Fraction

from kernels_cpu.traced import FUSED, bits, fma, from_bits

LN2 = Fraction("0.693147180559945309417232121458176568075500134360255254120680")
LN10 = Fraction("2.30258509299404568401799145468436420760110148862877297603333")
PI = Fraction("3.14159265358979323846264338327950288419716939937510582097494459")


def pieces(value, *sizes):
    """A fraction as a sum of floats of so many bits, the largest first.

    The product of a piece with a whole number is exact where their bits together are at most those of a float.
    """
    found = []
    for size in sizes:
        step = Fraction(2) ** (math.frexp(value)[1] - size)
        found.append(float(round(value / step) * step))
        value -= Fraction(found[-1])
    return found


def quick_two_sum(x, y):
    """``x + y`` and what rounding took from it, for y that is not larger than x (Dekker, 1971)."""
    total = x + y
    return total, y - (total - x)


def two_sum(x, y):
    """``x + y`` and what rounding took from it (Knuth, 1969)."""
    total = x + y
    added = total - x
    return total, (x - (total - added)) + (y - added)


def two_product(x, y):
    """``x * y`` and what rounding took from it: by fused multiplication, or (Veltkamp, 1968) by halves whose products are exact."""
    product = x * y
    if FUSED:
        return product, fma(x, y, -product)
    (a, b), (c, d) = halves(x), halves(y)
    return product, ((a * c - product) + a * d + b * c) + b * d


def halves(x):
    """x as the sum of two floats of half as many bits."""
    high = from_bits(bits(x) & (-1 << {32: 12, 64: 27}[x.width]))
    return high, x - high


def without(x, y, z):
    """``x - y * z``, for a product near x: only the difference is rounded."""
    product, lost = two_product(y, z)
    return fma(-y, z, x) if FUSED else (x - product) - lost


def both(value, single, double):
    """The pieces of a fraction for float32 and for float64, by width."""
    return {32: pieces(value, *single), 64: pieces(value, *double)}
