"""Operations along one dimension: softmax and scans."""

import numpy as np

from numbatensor.op import DIMS, FLOATING, INT, TENSOR, from_array, structured
from numbatensor.ops.arranging import flip


@structured(dtypes=FLOATING)
def softmax(x: TENSOR, dim: INT):
    """Exponentials along a dimension, divided by their sum."""
    e = np.exp(x - x.max(axis=dim, keepdims=True)) if x.size else np.array(x)
    return e / e.sum(axis=dim, keepdims=True)


softmax.backward(x=lambda grad, out, dim: (grad - (grad * out).sum(dim, keepdim=True)) * out)


@structured(dtypes=FLOATING)
def log_softmax(x: TENSOR, dim: INT):
    """Logarithm of the softmax along a dimension."""
    if not x.size:
        return np.array(x)
    shifted = x - x.max(axis=dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


log_softmax.backward(x=lambda grad, out, dim: grad - out.exp() * grad.sum(dim, keepdim=True))


@structured(dtypes=FLOATING)
def logsumexp_dims(x: TENSOR, dim: DIMS):
    """Logarithm of the sum of exponentials along dimensions, which are kept."""
    high = x.max(axis=dim, keepdims=True, initial=-np.inf)
    high = np.where(np.isfinite(high), high, 0).astype(x.dtype)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - high).sum(axis=dim, keepdims=True)) + high


logsumexp_dims.backward(x=lambda grad, out, x: grad * (x - out).exp())


@structured
def cumsum(x: TENSOR, dim: INT):
    """Sum of the elements so far along a dimension."""
    return np.cumsum(x, axis=dim, dtype=None if x.dtype.kind == "f" else np.int64)


cumsum.backward(x=lambda grad, dim: flip(cumsum(flip(grad, dim), dim), dim))


@structured
def cumprod(x: TENSOR, dim: INT):
    """Product of the elements so far along a dimension."""
    return np.cumprod(x, axis=dim, dtype=None if x.dtype.kind == "f" else np.int64)


def cumprod_rule(grad, out, x, dim):
    """For each element, the sum over the products it is part of, without it; exact where elements are zero."""
    if not (x == 0.0).any():
        return flip(cumsum(flip(grad * out, dim), dim), dim) / x
    n, total = x.shape[dim], None
    for k in range(n):
        before, part = x.narrow(dim, 0, k).prod(dim, True), grad.narrow(dim, k, 1)
        part = part * before
        if k + 1 < n:
            after = cumprod(x.narrow(dim, k + 1, n - k - 1), dim)
            part = part + (grad.narrow(dim, k + 1, n - k - 1) * before * after).sum(dim, True)
        here = np.zeros([n if d == dim % x.ndim else 1 for d in range(x.ndim)], x.dtype.numpy)
        here.reshape(-1)[k] = 1
        total = part * from_array(here) if total is None else total + part * from_array(here)
    return total


cumprod.backward(x=cumprod_rule)

for op in (softmax, log_softmax, logsumexp_dims, cumsum, cumprod):
    op.internal()
