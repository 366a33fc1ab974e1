"""Operations along one dimension: softmax, scans, sorting, picking and placing by index."""

import numpy as np
from scipy import special

from numbatensor.op import structured


@structured("x")
def softmax(x, dim):
    """Exponentials along a dimension, divided by their sum."""
    e = np.exp(x - x.max(axis=dim, keepdims=True)) if x.size else np.array(x)
    return e / e.sum(axis=dim, keepdims=True)


softmax.backward(x=lambda grad, out, dim: (grad - (grad * out).sum(dim, keepdim=True)) * out)


@structured("x")
def log_softmax(x, dim):
    """Logarithm of the softmax along a dimension."""
    if not x.size:
        return np.array(x)
    shifted = x - x.max(axis=dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


log_softmax.backward(x=lambda grad, out, dim: grad - out.exp() * grad.sum(dim, keepdim=True))


@structured("x")
def logsumexp_dims(x, dim):
    """Logarithm of the sum of exponentials along dimensions, which are kept."""
    return special.logsumexp(x, axis=dim, keepdims=True).astype(x.dtype)


logsumexp_dims.backward(x=lambda grad, out, x: grad * (x - out).exp())


@structured("x")
def cumsum(x, dim):
    """Sum of the elements so far along a dimension."""
    return np.cumsum(x, axis=dim, dtype=None if x.dtype.kind == "f" else np.int64)


cumsum.backward(x=lambda grad, dim: flip(cumsum(flip(grad, (dim,)), dim), (dim,)))


@structured("x")
def cumprod(x, dim):
    """Product of the elements so far along a dimension."""
    return np.cumprod(x, axis=dim, dtype=None if x.dtype.kind == "f" else np.int64)


@structured("grad")
def cumprod_grad(grad, x, dim):
    """Gradient of `cumprod`: for each element, the sum over later products without it; exact where elements are zero."""
    x, g = np.moveaxis(x.array() if hasattr(x, "array") else x, dim, -1), np.moveaxis(grad, dim, -1)
    out = np.zeros_like(g)
    for k in range(x.shape[-1]):
        ones = np.array(x)
        ones[..., k] = 1
        out[..., k] = (g * np.cumprod(ones, axis=-1))[..., k:].sum(-1)
    return np.moveaxis(out, -1, dim)


cumprod.backward(x=lambda grad, x, dim: cumprod_grad(grad, x, dim))


@structured("x")
def flip(x, dims):
    """The tensor with the order of some dimensions turned around."""
    return np.array(np.flip(x, dims))


flip.backward(x=lambda grad, dims: flip(grad, dims))


@structured("x")
def roll(x, shifts, dims):
    """The tensor shifted along dimensions; what leaves one end enters the other."""
    return np.roll(x, shifts, dims)


roll.backward(
    x=lambda grad, shifts, dims: roll(grad, tuple(-s for s in shifts) if isinstance(shifts, tuple) else -shifts, dims)
)


@structured("x")
def tile_all(x, repeats):
    """The tensor repeated along each dimension."""
    return np.tile(x, repeats)


def untile(grad, repeats, size):
    """Sum over the repetitions."""
    lead = len(repeats) - len(size)
    full = (1,) * lead + tuple(size)
    pairs = [n for r, m in zip(repeats, full, strict=True) for n in (r, m)]
    return grad.reshape(pairs).sum(list(range(0, 2 * len(full), 2))).reshape(size)


tile_all.backward(x=untile)


@structured("x")
def pick(x, where):
    """Elements by NumPy indexing: `where` is an index of slices, integers, arrays and masks."""
    return np.array(x[where])


@structured("x")
def place(x, where, size):
    """Zeros of a size, with x added at an index; repeated places add up."""
    out = np.zeros(size, x.dtype)
    np.add.at(out, where, x)
    return out


pick.backward(x=lambda grad, where, size: place(grad, where, size))
place.backward(x=lambda grad, where: pick(grad, where))


@structured("x", "y")
def replaced(x, y, where):
    """A copy of x with y at an index."""
    out = np.array(x)
    out[where] = y
    return out


@structured("x")
def zeroed(x, where):
    """A copy of x with zeros at an index."""
    out = np.array(x)
    out[where] = 0
    return out


zeroed.backward(x=lambda grad, where: zeroed(grad, where))
replaced.backward(
    x=lambda grad, where: zeroed(grad, where), y=lambda grad, where, y: pick(grad, where).sum_to_size(y.shape)
)


@structured("x", "y")
def added(x, y, where):
    """A copy of x with y added at an index; repeated places add up."""
    out = np.array(x)
    np.add.at(out, where, y)
    return out


added.backward(x=lambda grad: grad, y=lambda grad, where: pick(grad, where))


@structured("x")
def tril(x, diagonal=0):
    """The lower triangle of each matrix; zeros above."""
    return np.tril(x, diagonal)


@structured("x")
def triu(x, diagonal=0):
    """The upper triangle of each matrix; zeros below."""
    return np.triu(x, diagonal)


tril.backward(x=lambda grad, diagonal: tril(grad, diagonal))
triu.backward(x=lambda grad, diagonal: triu(grad, diagonal))
