"""The pointwise operations: what each computes, and how its gradient flows back."""

import math

from kernels_cpu import mathematics
from kernels_cpu.integers import magnitude, power
from numbatensor.core.autocast import FULL
from numbatensor.core.table import RAISES
from numbatensor.op import FLOATING, NUMERIC, pointwise, same
from numbatensor.samples import POSITIVE, QUOTIENTS, reals


@pointwise
def to(x):
    """Each element, in another dtype."""
    return x


to.internal().backward(x=same)


def scaled(op, values, alpha):
    """``add(x, y, alpha=2)``"""
    return op, [values[0], values[1] if alpha == 1 else values[1] * alpha]


@pointwise
def add(x, y):
    """Sum of each pair of elements."""
    return x + y


add.backward(x=same, y=same).keyword(alpha=scaled)


@pointwise(dtypes=NUMERIC)
def sub(x, y):
    """Difference of each pair of elements."""
    return x - y


sub.backward(x=same, y=lambda grad: -grad).keyword(alpha=scaled)


@pointwise
def mul(x, y):
    """Product of each pair of elements."""
    return x * y


mul.backward(x=lambda grad, y: grad * y, y=lambda grad, x: grad * x)


@pointwise(promotes=True, dtypes=FLOATING, samples=QUOTIENTS)
def div(x, y):
    """Quotient of each pair of elements; of integers too, in the default dtype."""
    return x / y


div.backward(x=lambda grad, y: grad / y, y=lambda grad, x, y: -grad * (x / y) / y)


@pointwise(dtypes=NUMERIC)
def neg(x):
    """Each element negated."""
    return -x


neg.backward(x=lambda grad: -grad)


@pointwise(promotes=True, dtypes=FLOATING, cost=4)
def exp(x):
    """Exponential of each element."""
    return math.exp(x)


exp.backward(x=lambda grad, out: grad * out)


@pointwise(promotes=True, dtypes=FLOATING, cost=4, samples=POSITIVE)
def log(x):
    """Natural logarithm of each element."""
    return math.log(x)


log.backward(x=lambda grad, x: grad / x)


@pointwise(promotes=True, dtypes=FLOATING, cost=2, samples=POSITIVE)
def sqrt(x):
    """Square root of each element."""
    return math.sqrt(x)


sqrt.backward(x=lambda grad, out: grad / (out + out))


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def tanh(x):
    """Hyperbolic tangent of each element."""
    return math.tanh(x)


tanh.backward(x=lambda grad, out: grad * (1.0 - out * out))


@pointwise(promotes=True, dtypes=FLOATING, cost=4)
def sigmoid(x):
    """Logistic function of each element: ``1 / (1 + exp(-x))``."""
    return mathematics.sigmoid(x)


sigmoid.backward(x=lambda grad, out: grad * (1.0 - out) * out)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def sin(x):
    """Sine of each element."""
    return math.sin(x)


@pointwise(promotes=True, dtypes=FLOATING, cost=5)
def cos(x):
    """Cosine of each element."""
    return math.cos(x)


sin.backward(x=lambda grad, x: grad * cos(x))
cos.backward(x=lambda grad, x: -grad * sin(x))


@pointwise(result=bool)
def eq(x, y):
    """Whether the elements of each pair are equal."""
    return x == y


@pointwise(result=bool)
def ne(x, y):
    """Whether the elements of each pair differ."""
    return x != y


@pointwise(result=bool)
def lt(x, y):
    """Whether the first element of each pair is less."""
    return x < y


@pointwise(result=bool)
def le(x, y):
    """Whether the first element of each pair is less or equal."""
    return x <= y


@pointwise(result=bool)
def gt(x, y):
    """Whether the first element of each pair is greater."""
    return x > y


@pointwise(result=bool)
def ge(x, y):
    """Whether the first element of each pair is greater or equal."""
    return x >= y


@pointwise(masks=("condition",))
def where(condition, x, y):
    """Of each pair the first element where the condition holds, else the second."""
    return x if condition else y


where.backward(
    x=lambda grad, condition: where(condition, grad, 0.0),
    y=lambda grad, condition: where(condition, 0.0, grad),
)


@pointwise
def relu(x):
    """Each element, or 0 where it is negative."""
    return x if x > 0 or x != x else 0


@pointwise
def nothing(x):
    """Zero for each element."""
    return 0


nothing.internal().backward(x=lambda grad: nothing(grad))


@pointwise(dtypes=FLOATING)
def where_positive(x, y):
    """x where y is positive, else 0."""
    return x if y > 0.0 else 0.0


where_positive.internal()
relu.backward(x=lambda grad, out: where_positive(grad, out))
where_positive.backward(x=lambda grad, y: where_positive(grad, y), y=lambda grad: nothing(grad))


@pointwise(dtypes=NUMERIC)
def abs(x):
    """Magnitude of each element."""
    return magnitude(x)


@pointwise(dtypes=NUMERIC)
def sign(x):
    """-1, 0 or 1, as each element is negative, zero or positive."""
    return (x > 0) * 1.0 - (x < 0) * 1.0


sign.backward(x=lambda grad: nothing(grad))
abs.backward(x=lambda grad, x: grad * sign(x))


@pointwise(dtypes=NUMERIC, cost=10, trait=RAISES, samples=(POSITIVE, reals()))
def pow(x, y):
    """Each element raised to a power; integers to integers."""
    return power(x, y)


pow.backward(
    x=lambda grad, x, y: where(y == 0.0, 0.0, grad * y * pow(x, y - 1.0)),
    y=lambda grad, out, x, y: where(x == 0.0, where(y >= 0.0, 0.0, grad * out * log(x)), grad * out * log(x)),
)


# A branch that `where` does not take still gets a gradient, of zero: 0 * inf would make it NaN. So nothing is infinite there.


def pow_slope(grad, x, y):
    return where(y == 0.0, 0.0, grad * y * pow(x, where(y == 0.0, 1.0, y) - 1.0))


def pow_slope_of_exponent(grad, out, x, y):
    flat = where(x == 0.0, y >= 0.0, False)
    return where(flat, 0.0, grad * out * log(where(flat, 1.0, x)))


pow.formula(x=pow_slope, y=pow_slope_of_exponent)
for op in (exp, log, pow):
    op.under_autocast(cuda=FULL)
