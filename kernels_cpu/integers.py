"""Formulas that integers and floats compute differently, under one name."""

from numba import types
from numba.extending import overload

from kernels_cpu import mathematics


def power(x, y):
    """x to the power of y. Of integers: by squaring; a negative exponent gives what the reciprocal rounds to."""
    raise NotImplementedError("compiled code only")


@overload(power)
def power_(x, y):
    if isinstance(x, types.Float):
        return lambda x, y: mathematics.pow(x, y)

    def squarings(x, y):
        base, left, out = x, y, x - x + 1
        if left < 0:
            return out if base == 1 or (base == -1 and left % 2 == 0) else -out if base == -1 else out - out
        while left > 0:
            if left % 2 == 1:
                out = out * base
            base = base * base
            left = left // 2
        return out

    return squarings


def magnitude(x):
    """x without its sign; of floats by clearing the bit, so that -0.0 gives 0.0."""
    raise NotImplementedError("compiled code only")


@overload(magnitude)
def magnitude_(x):
    if isinstance(x, types.Float):
        return lambda x: mathematics.fabs(x)
    return lambda x: x if x > 0 else -x


def rounded_down(x):
    """The largest whole number not above x; an integer is one."""
    raise NotImplementedError("compiled code only")


def rounded_up(x):
    """The smallest whole number not below x; an integer is one."""
    raise NotImplementedError("compiled code only")


def cut(x):
    """x without its fraction; an integer has none."""
    raise NotImplementedError("compiled code only")


def rounds(function, exact):
    """Declare a rounding: floats by LLVM's function, integers as they are."""

    @overload(function)
    def rounding(x):
        if isinstance(x, types.Float):
            return lambda x: exact(x)
        return lambda x: x


def rounded(x):
    """x rounded to a whole number, halves to even; an integer is one."""
    raise NotImplementedError("compiled code only")


rounds(rounded, mathematics.round)
rounds(rounded_down, mathematics.floor)
rounds(rounded_up, mathematics.ceil)
rounds(cut, mathematics.trunc)


def truncated_quotient(x, y):
    """The quotient, rounded towards zero."""
    raise NotImplementedError("compiled code only")


@overload(truncated_quotient)
def truncated_quotient_(x, y):
    if isinstance(x, types.Float):
        return lambda x, y: mathematics.trunc(x / y)

    def quotient(x, y):
        down = x // y
        return down + 1 if down < 0 and down * y != x else down

    return quotient


def remainder_of_truncated(x, y):
    """What is left of x after the quotient rounded towards zero: it has the sign of x."""
    raise NotImplementedError("compiled code only")


@overload(remainder_of_truncated)
def remainder_of_truncated_(x, y):
    if isinstance(x, types.Float):
        return lambda x, y: mathematics.fmod(x, y)

    def remainder(x, y):
        rest = x % y
        return rest - y if rest != 0 and (rest < 0) != (x < 0) else rest

    return remainder


def remainder_of_rounded_down(x, y):
    """What is left of x after the quotient rounded down: it has the sign of y."""
    raise NotImplementedError("compiled code only")


@overload(remainder_of_rounded_down)
def remainder_of_rounded_down_(x, y):
    if isinstance(x, types.Float):
        return lambda x, y: mathematics.modulo(x, y)
    return lambda x, y: x % y


def quotient_rounded_down(x, y):
    """The quotient, rounded down."""
    raise NotImplementedError("compiled code only")


@overload(quotient_rounded_down)
def quotient_rounded_down_(x, y):
    if isinstance(x, types.Float):
        return lambda x, y: mathematics.floor_divide(x, y)
    return lambda x, y: x // y
