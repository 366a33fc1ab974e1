"""Reductions: many elements combined into one."""

import numpy as np

from numbatensor.op import reduction, widened


@reduction(identity=0, accumulator=widened)
def sum(acc, x):
    """Sum of the elements along dimensions."""
    return acc + x


def spread(grad, size, dim, keepdim):
    """A reduction's gradient, put back along the dimensions that were reduced."""
    if not keepdim:
        for d in sorted(dim):
            grad = grad.unsqueeze(d)
    return grad.expand(size)


sum.backward(x=spread)


@reduction(identity=1, accumulator=widened)
def prod(acc, x):
    """Product of the elements along dimensions."""
    return acc * x


def lowest(kind):
    return False if kind.kind == "b" else -np.inf if kind.kind == "f" else np.iinfo(kind).min


def highest(kind):
    return True if kind.kind == "b" else np.inf if kind.kind == "f" else np.iinfo(kind).max


@reduction(identity=lowest)
def amax(acc, x):
    """Largest element along dimensions; NaN where there is one."""
    return x if x > acc or x != x else acc


@reduction(identity=highest)
def amin(acc, x):
    """Smallest element along dimensions; NaN where there is one."""
    return x if x < acc or x != x else acc


def shared(grad, out, x, size, dim, keepdim):
    """The gradient, shared evenly among the elements that equal the result."""
    grad, out = spread(grad, size, dim, keepdim), spread(out, size, dim, keepdim)
    hit = (x == out).to(x.dtype)
    return grad * hit / hit.sum(dim, keepdim=True)


amax.backward(x=shared)
amin.backward(x=shared)


def others(grad, out, x, size, dim, keepdim):
    """The gradient times the product of all other elements, right where elements are zero."""
    grad, out = spread(grad, size, dim, keepdim), spread(out, size, dim, keepdim)
    zero = x == 0
    zeros = zero.to(x.dtype).sum(dim, keepdim=True)
    rest = x.masked_fill(zero, 1.0).prod_dims(dim)
    alone = (zeros == 1) & zero
    return grad * (out / x.masked_fill(zero, 1.0)).masked_fill(zeros != 0, 0.0) + grad * rest.expand(size) * alone.to(
        x.dtype
    )


prod.backward(x=others)


@reduction(identity=True, accumulator=lambda code: 0)
def all(acc, x):
    """Whether all elements along dimensions are true."""
    return acc and x


@reduction(identity=False, accumulator=lambda code: 0)
def any(acc, x):
    """Whether any element along dimensions is true."""
    return acc or x
