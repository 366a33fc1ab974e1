"""Operations with an algorithm of their own, computed on whole arrays."""

import numpy as np

from numbatensor.op import structured


@structured("x", "y")
def matmul(x, y):
    """Matrix product: ``out[..., i, j] = sum over k of x[..., i, k] * y[..., k, j]``."""
    return np.matmul(x, y)


def matmul_x(grad, x, y):
    if x.ndim == 1 and y.ndim == 1:
        return grad * y
    if y.ndim == 1:
        return grad.unsqueeze(-1) * y
    if x.ndim == 1:
        return matmul(y, grad.unsqueeze(-1)).squeeze(-1).sum_to_size(x.shape)
    return matmul(grad, y.mT).sum_to_size(x.shape)


def matmul_y(grad, x, y):
    if x.ndim == 1 and y.ndim == 1:
        return grad * x
    if x.ndim == 1:
        return x.unsqueeze(-1) * grad.unsqueeze(-2)
    if y.ndim == 1:
        return matmul(x.mT, grad.unsqueeze(-1)).squeeze(-1).sum_to_size(y.shape)
    return matmul(x.mT, grad).sum_to_size(y.shape)


matmul.backward(x=matmul_x, y=matmul_y)


@structured("x")
def clone(x):
    """A copy of the tensor."""
    return np.array(x, order="C")


clone.backward(x=lambda grad: grad)


@structured("x")
def placed(x, positions, size):
    """Zeros of a size, with x added at the flat positions."""
    out = np.zeros(size, x.dtype)
    np.add.at(out.reshape(-1), positions, x)
    return out


@structured("x")
def only(x, positions):
    """The elements of x at the flat positions."""
    return np.ascontiguousarray(x).reshape(-1)[positions]


@structured("x")
def without(x, positions):
    """x with zeros at the flat positions."""
    out = np.array(x, order="C")
    out.reshape(-1)[positions] = 0
    return out


placed.backward(x=lambda grad, positions: only(grad, positions))
only.backward(x=lambda grad, positions, size: placed(grad, positions, size))
without.backward(x=lambda grad, positions: without(grad, positions))


@structured("source")
def copy(source):
    """The elements that an in-place copy wrote."""
    return np.array(source)


copy.backward(source=lambda grad: grad)
