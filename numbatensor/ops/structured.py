"""Operations with an algorithm of their own."""

import numpy as np

from numbatensor.op import NUMERIC, TENSOR, same, structured


@structured(dtypes=NUMERIC)
def matmul(x: TENSOR, y: TENSOR):
    """Matrix product: ``out[..., i, j] = sum over k of x[..., i, k] * y[..., k, j]``, both at least 2-D."""
    return np.matmul(x, y)


matmul.internal().backward(x=lambda grad, y: matmul(grad, y.mT), y=lambda grad, x: matmul(x.mT, grad))


@structured
def copy(source: TENSOR):
    """The elements that an in-place copy wrote; only ever recorded."""


copy.internal().backward(source=same)
