"""Operations with an algorithm of their own."""

import numpy as np

from numbatensor.op import NUMERIC, TENSOR, Recorded, structured


@structured(dtypes=NUMERIC)
def matmul(x: TENSOR, y: TENSOR):
    """Matrix product: ``out[..., i, j] = sum over k of x[..., i, k] * y[..., k, j]``, both at least 2-D."""
    return np.matmul(x, y)


matmul.internal().backward(x=lambda grad, y: matmul(grad, y.mT), y=lambda grad, x: matmul(x.mT, grad))

copy = Recorded("copy", "The elements that an in-place copy wrote.", ["source"]).backward(source=lambda grad: grad)
