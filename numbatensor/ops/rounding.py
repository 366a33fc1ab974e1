"""Rounding, remainders, bounds, and tests of each element."""

import math

from kernels_cpu.integers import (
    cut,
    quotient_rounded_down,
    remainder_of_rounded_down,
    remainder_of_truncated,
    rounded,
    rounded_down,
    rounded_up,
    truncated_quotient,
)
from numbatensor.core.autocast import WIDEST
from numbatensor.core.table import DIVIDES
from numbatensor.op import FLOATING, INTEGRAL, NUMERIC, pointwise, same
from numbatensor.ops.elementary import div, nothing, where
from numbatensor.samples import QUOTIENTS, reals


@pointwise(dtypes=NUMERIC)
def floor(x):
    """Largest whole number not above each element."""
    return rounded_down(x)


floor.backward(x=lambda grad: nothing(grad))


@pointwise(dtypes=NUMERIC)
def ceil(x):
    """Smallest whole number not below each element."""
    return rounded_up(x)


ceil.backward(x=lambda grad: nothing(grad))


@pointwise(dtypes=NUMERIC)
def trunc(x):
    """Each element without its fraction."""
    return cut(x)


trunc.backward(x=lambda grad: nothing(grad))


@pointwise(dtypes=FLOATING)
def frac(x):
    """The fraction of each element, with its sign."""
    return x - math.trunc(x)


@pointwise(dtypes=NUMERIC)
def rint(x):
    """Each element rounded to a whole number, halves to even."""
    return rounded(x)


rint.internal().backward(x=lambda grad: nothing(grad))
frac.backward(x=same)


@pointwise(dtypes=NUMERIC, cost=5, trait=DIVIDES, samples=QUOTIENTS)
def fmod(x, y):
    """Remainder of each quotient rounded towards zero: it has the sign of the dividend."""
    return remainder_of_truncated(x, y)


fmod.backward(x=same, y=lambda grad, x, y: -grad * trunc(x / y))
fmod.formula(y=lambda grad, x, y: -grad * truncated_divide(x, y))


@pointwise(dtypes=NUMERIC, cost=5, trait=DIVIDES, samples=QUOTIENTS)
def remainder(x, y):
    """Remainder of each quotient rounded down: it has the sign of the divisor."""
    return remainder_of_rounded_down(x, y)


remainder.backward(x=same, y=lambda grad, x, y: -grad * floor(x / y))
remainder.formula(y=lambda grad, x, y: -grad * floor_divide(x, y))


@pointwise(dtypes=NUMERIC, cost=5, trait=DIVIDES, samples=QUOTIENTS)
def floor_divide(x, y):
    """Each quotient, rounded down."""
    return quotient_rounded_down(x, y)


floor_divide.backward(x=lambda grad: nothing(grad), y=lambda grad: nothing(grad))


@pointwise(dtypes=NUMERIC, cost=5, trait=DIVIDES, samples=QUOTIENTS)
def truncated_divide(x, y):
    """Each quotient, rounded towards zero."""
    return truncated_quotient(x, y)


truncated_divide.internal().backward(x=lambda grad: nothing(grad), y=lambda grad: nothing(grad))


def with_mode(op, values, rounding_mode):
    """``div(x, y, rounding_mode="floor")``"""
    if rounding_mode not in (None, "floor", "trunc"):
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    return {None: op, "floor": floor_divide, "trunc": truncated_divide}[rounding_mode], values


div.keyword(rounding_mode=with_mode)


@pointwise
def maximum(x, y):
    """Larger element of each pair; NaN where there is one."""
    return x if x > y or x != x else y


maximum.backward(
    x=lambda grad, x, y: where(x == y, grad * 0.5, where(x < y, 0.0, grad)),
    y=lambda grad, x, y: where(x == y, grad * 0.5, where(x > y, 0.0, grad)),
)


@pointwise
def minimum(x, y):
    """Smaller element of each pair; NaN where there is one."""
    return x if x < y or x != x else y


minimum.backward(
    x=lambda grad, x, y: where(x == y, grad * 0.5, where(x > y, 0.0, grad)),
    y=lambda grad, x, y: where(x == y, grad * 0.5, where(x < y, 0.0, grad)),
)


@pointwise
def fmax(x, y):
    """Larger element of each pair; a NaN only where both are."""
    return x if x > y or y != y else y


fmax.backward(
    x=lambda grad, x, y: where(x >= y, grad, where(y != y, grad, 0.0)),
    y=lambda grad, x, y: where(x < y, grad, where(x != x, grad, 0.0)),
)


@pointwise
def fmin(x, y):
    """Smaller element of each pair; a NaN only where both are."""
    return x if x < y or y != y else y


fmin.backward(
    x=lambda grad, x, y: where(x <= y, grad, where(y != y, grad, 0.0)),
    y=lambda grad, x, y: where(x > y, grad, where(x != x, grad, 0.0)),
)


@pointwise
def clamp_min(x, y):
    """Each element, raised to a lower bound."""
    return x if x > y or x != x else y


clamp_min.backward(x=lambda grad, x, y: where(x >= y, grad, 0.0), y=lambda grad, x, y: where(x < y, grad, 0.0))


@pointwise
def clamp_max(x, y):
    """Each element, lowered to an upper bound."""
    return x if x < y or x != x else y


clamp_max.backward(x=lambda grad, x, y: where(x <= y, grad, 0.0), y=lambda grad, x, y: where(x > y, grad, 0.0))


@pointwise(result=bool)
def isnan(x):
    """Whether each element is NaN."""
    return x != x


@pointwise(result=bool)
def isinf(x):
    """Whether each element is infinite."""
    return x - x != x - x and x == x


@pointwise(result=bool)
def isfinite(x):
    """Whether each element is neither infinite nor NaN."""
    return x - x == x - x


@pointwise(result=bool)
def logical_and(x, y):
    """Whether both elements of each pair are true."""
    return x != 0 and y != 0


@pointwise(result=bool)
def logical_or(x, y):
    """Whether an element of each pair is true."""
    return x != 0 or y != 0


@pointwise(result=bool)
def logical_xor(x, y):
    """Whether one element of each pair is true and the other is not."""
    return (x != 0) != (y != 0)


@pointwise(result=bool)
def logical_not(x):
    """Whether each element is false."""
    return x == 0


@pointwise(dtypes=INTEGRAL)
def bitwise_and(x, y):
    """Bits that both elements of each pair have."""
    return x & y


@pointwise(dtypes=INTEGRAL)
def bitwise_or(x, y):
    """Bits that an element of each pair has."""
    return x | y


@pointwise(dtypes=INTEGRAL)
def bitwise_xor(x, y):
    """Bits that one element of each pair has and the other has not."""
    return x ^ y


@pointwise(dtypes=INTEGRAL & ~1)
def bitwise_not(x):
    """Each element with all bits turned."""
    return x ^ -1


@pointwise(dtypes=INTEGRAL & ~1)
def bitwise_left_shift(x, y):
    """Each element, shifted left: by more bits than there are, or by a negative number, it is 0."""
    return x << y if 0 <= y < 64 else 0


@pointwise(dtypes=INTEGRAL & ~1)
def bitwise_right_shift(x, y):
    """Each element, shifted right: what is shifted by more bits than there are, or by a negative number, keeps its sign only."""
    return x >> (y if 0 <= y < 64 else 63)


@pointwise(dtypes=FLOATING)
def lerp(x, y, weight):
    """Each pair, mixed: ``x + weight * (y - x)``, from the end that is nearer."""
    return x + weight * (y - x) if weight < 0.5 else y - (y - x) * (1.0 - weight)


lerp.spelled(y="end").backward(
    x=lambda grad, weight: grad * (1.0 - weight),
    y=lambda grad, weight: grad * weight,
    weight=lambda grad, x, y: grad * (y - x),
)


@pointwise(dtypes=NUMERIC, tensors=3, samples=[(reals(), reals(), reals()), (reals(), reals(), reals(), 2)])
def addcmul(x, tensor1, tensor2, value=1):
    """x plus ``value`` times the product of each pair."""
    return x + value * tensor1 * tensor2


addcmul.backward(
    x=same,
    tensor1=lambda grad, tensor2, value: grad * tensor2 * value,
    tensor2=lambda grad, tensor1, value: grad * tensor1 * value,
)


@pointwise(
    dtypes=FLOATING, tensors=3, samples=[(reals(), reals(), reals(0.5, 2.0)), (reals(), reals(), reals(0.5, 2.0), 2)]
)
def addcdiv(x, tensor1, tensor2, value=1):
    """x plus ``value`` times the quotient of each pair."""
    return x + value * (tensor1 / tensor2)


addcdiv.backward(
    x=same,
    tensor1=lambda grad, tensor2, value: grad * value / tensor2,
    tensor2=lambda grad, tensor1, tensor2, value: -grad * value * tensor1 / (tensor2 * tensor2),
)
for op in (addcmul, addcdiv):
    op.under_autocast(cuda=WIDEST)
