"""Reductions: many elements combined into one."""

import math

import numpy as np

from kernels_cpu.ordering import larger, smaller
from numbatensor.core.autocast import FULL
from numbatensor.core.dispatch import FLOAT32
from numbatensor.core.promotion import INT64
from numbatensor.core.reduce import variance
from numbatensor.op import FLOATING, NUMBER, boolean, reduction, summed, widened
from numbatensor.ops.elementary import where
from numbatensor.ops.views import spread
from numbatensor.samples import REDUCED, floats


def in_blocks(code):
    """Sums of float32 are float32 within a block of elements, float64 beyond."""
    return code if code == FLOAT32 else widened(code)


def quotient(acc, count, second):
    return acc / count


@reduction(identity=0, partial=in_blocks, accumulator=widened, outcome=summed)
def sum(acc, x):
    """Sum of the elements along dimensions."""
    return acc + x


sum.backward(x=lambda grad, input_shape, dim, keepdim: spread(grad, input_shape, dim, keepdim))
spread.backward(x=lambda grad, dim, keepdim: sum(grad, dim, keepdim))


@reduction(identity=0, partial=in_blocks, accumulator=widened, finish=quotient, dtypes=FLOATING)
def mean(acc, x):
    """Mean of the elements along dimensions."""
    return acc + x


mean.backward(x=lambda grad, count, input_shape, dim, keepdim: spread(grad / count, input_shape, dim, keepdim))


def squared_distance(x, centre):
    return (x - centre) * (x - centre)


@reduction(
    identity=0,
    term=squared_distance,
    finish=lambda acc, count, correction: acc / max(count - correction, 0.0),
    accumulator=widened,
    dtypes=FLOATING,
    run=variance,
    there="device_reduce:variance_there",
    more=(("correction", NUMBER, 1),),
    samples=[*REDUCED, (floats(2, 3), 1, False, 0)],
)
def var(acc, x):
    """Variance along dimensions: the sum of squared distances to the mean, divided by ``count - correction``."""
    return acc + x


@reduction(
    identity=0,
    term=squared_distance,
    finish=lambda acc, count, correction: math.sqrt(acc / max(count - correction, 0.0)),
    accumulator=widened,
    dtypes=FLOATING,
    run=variance,
    there="device_reduce:variance_there",
    more=(("correction", NUMBER, 1),),
    samples=[*REDUCED, (floats(2, 3), 1, False, 0)],
)
def std(acc, x):
    """Standard deviation along dimensions: the square root of the variance."""
    return acc + x


def std_rule(grad, out, x, count, input_shape, dim, keepdim, correction):
    scale = 1.0 / max(count - correction, 0.0) if count > correction else math.nan
    slope = where(out == 0.0, 0.0, grad / out) * scale
    return spread(slope, input_shape, dim, keepdim) * (x - mean(x, dim, True))


std.backward(x=std_rule)


def var_rule(grad, x, count, input_shape, dim, keepdim, correction):
    scale = 2.0 / max(count - correction, 0.0) if count > correction else math.nan
    return spread(grad * scale, input_shape, dim, keepdim) * (x - mean(x, dim, True))


var.backward(x=var_rule)


@reduction(
    identity=0,
    term=lambda x: x * x,
    finish=lambda acc, count, second: math.sqrt(acc),
    partial=in_blocks,
    accumulator=widened,
    dtypes=FLOATING,
)
def euclidean_norm(acc, x):
    """Square root of the sum of squares along dimensions."""
    return acc + x


def euclidean_norm_rule(grad, out, x, input_shape, dim, keepdim):
    return x * spread(grad / where(out == 0.0, math.inf, out), input_shape, dim, keepdim)


euclidean_norm.backward(x=euclidean_norm_rule)


@reduction(
    identity=1,
    accumulator=widened,
    outcome=summed,
    samples=[
        *REDUCED,
        ([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0], [1.0, 2.0, 3.0]], 1),
        ([[[0.0, 2.0], [1.0, 2.0]], [[3.0, 0.0], [1.0, 1.0]]], (-1, 0), True),
    ],
)
def prod(acc, x):
    """Product of the elements along dimensions."""
    return acc * x


def others(grad, x, input_shape, dim, keepdim):
    """The gradient times the product of all other elements, right where elements are zero."""
    zero = x == 0.0
    zeros = spread(sum(zero, dim, keepdim), input_shape, dim, keepdim)
    whole = where(zero, 1.0, x)  # without the zeros
    rest = spread(prod(whole, dim, keepdim), input_shape, dim, keepdim)
    alone = where(zeros == 0, rest / whole, where(zero, where(zeros == 1, rest, 0.0), 0.0))
    return spread(grad, input_shape, dim, keepdim) * alone


prod.backward(x=others)


def lowest(kind):
    return False if kind.kind == "b" else -np.inf if kind.kind == "f" else int(np.iinfo(kind).min)


def highest(kind):
    return True if kind.kind == "b" else np.inf if kind.kind == "f" else int(np.iinfo(kind).max)


@reduction(identity=lowest, needs_element=True)
def amax(acc, x):
    """Largest element along dimensions; NaN where there is one."""
    return larger(acc, x)


@reduction(identity=highest, needs_element=True)
def amin(acc, x):
    """Smallest element along dimensions; NaN where there is one."""
    return smaller(acc, x)


def shared(grad, out, x, input_shape, dim, keepdim):
    """The gradient, shared evenly among the elements that equal the result."""
    hit = x == spread(out, input_shape, dim, keepdim)
    hits = spread(sum(hit, dim, keepdim), input_shape, dim, keepdim)
    return where(hit, spread(grad, input_shape, dim, keepdim) / hits, 0.0)


amax.backward(x=shared)
amin.backward(x=shared)


def truth(code):
    """The dtype of a truth value: PyTorch keeps uint8."""
    return 1 if code == 1 else 0


@reduction(identity=True, accumulator=boolean, outcome=truth)
def all(acc, x):
    """Whether all elements along dimensions are true."""
    return acc and x


@reduction(identity=False, accumulator=boolean, outcome=truth)
def any(acc, x):
    """Whether any element along dimensions is true."""
    return acc or x


def counted(code):
    return INT64


@reduction(identity=0, term=lambda x: x != 0, accumulator=counted, outcome=counted)
def count_nonzero(acc, x):
    """How many elements along dimensions are not zero."""
    return acc + x


for op in (all, any, count_nonzero):
    op.constant("x")
sum.under_autocast(cuda=FULL)
prod.under_autocast(FULL, FULL)
euclidean_norm.under_autocast(cuda=FULL)
for op in (var, std, euclidean_norm):
    op.internal()
