"""Remainders of floats, and quotients rounded down, exact as the C library's.

They answer NaN where the quotient has more digits than a float: then one division does not find it.
"""

from kernels_cpu.exponents import FRACTION
from kernels_cpu.pairs import without
from kernels_cpu.traced import copysign, fabs, select, traced, trunc

inf, nan = float("inf"), float("nan")


def left(x, y):
    """What is left of x after the quotient rounded towards zero, which is found to within one."""
    a, b = fabs(x), fabs(y)
    quotient = a / b
    rest = select(b < inf, without(a, trunc(quotient), b), a)
    rest = select(rest < 0.0, rest + b, rest)
    rest = select(rest >= b, rest - b, rest)
    return select(quotient < 2.0 ** FRACTION[x.width], copysign(rest, x), nan)


@traced
def fmod(x, y):
    """What is left of x after the quotient rounded towards zero: it has the sign of x."""
    return left(x, y)


@traced
def modulo(x, y):
    """What is left of x after the quotient rounded down: it has the sign of y."""
    rest = left(x, y)
    return select((rest != 0.0) & ((rest < 0.0) ^ (y < 0.0)), rest + y, rest)


@traced
def floor_divide(x, y):
    """The quotient, rounded down: of what is a multiple of y, so that it is nearly whole before it is rounded."""
    rest = left(x, y)
    quotient = (x - rest) / y
    quotient = quotient - select((rest != 0.0) & ((rest < 0.0) ^ (y < 0.0)), quotient * 0.0 + 1.0, 0.0)
    below = quotient.call("floor")
    whole = select(quotient - below > 0.5, below + 1.0, below)
    return select(y == 0.0, x / y, select(quotient == 0.0, copysign(whole, x / y), whole))
