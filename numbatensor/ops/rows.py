"""Operations along one dimension: softmax, scans, sorting, picking and placing by index."""

import numpy as np

from numbatensor.op import DIMS, FLOATING, INT, SIZES, TENSOR, Recorded, from_array, structured


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


@structured
def flip(x: TENSOR, dims: DIMS):
    """The tensor with the order of some dimensions turned around."""
    return np.array(np.flip(x, dims))


flip.backward(x=lambda grad, dims: flip(grad, dims))


@structured
def roll(x: TENSOR, shifts: DIMS, dims: DIMS):
    """The tensor shifted along dimensions; what leaves one end enters the other."""
    return np.roll(x, shifts, dims)


@structured
def unroll(x: TENSOR, shifts: DIMS, dims: DIMS):
    """The tensor shifted back."""
    return np.roll(x, np.negative(shifts), dims)


roll.backward(x=lambda grad, shifts, dims: unroll(grad, shifts, dims))
unroll.backward(x=lambda grad, shifts, dims: roll(grad, shifts, dims))


@structured
def tile_all(x: TENSOR, repeats: SIZES):
    """The tensor repeated along each dimension."""
    return np.tile(x, repeats)


def untile(grad, repeats, input_shape):
    """Sum over the repetitions."""
    lead = len(repeats) - len(input_shape)
    full = (1,) * lead + tuple(input_shape)
    pairs = [n for r, m in zip(repeats, full, strict=True) for n in (r, m)]
    return grad.reshape(pairs).sum(list(range(0, 2 * len(full), 2))).reshape(input_shape)


tile_all.backward(x=untile)


@structured
def tril(x: TENSOR, diagonal: INT = 0):
    """The lower triangle of each matrix; zeros above."""
    return np.tril(x, diagonal)


@structured
def triu(x: TENSOR, diagonal: INT = 0):
    """The upper triangle of each matrix; zeros below."""
    return np.triu(x, diagonal)


tril.backward(x=lambda grad, diagonal: tril(grad, diagonal))
triu.backward(x=lambda grad, diagonal: triu(grad, diagonal))


for op in (
    softmax,
    log_softmax,
    logsumexp_dims,
    cumsum,
    cumprod,
    flip,
    roll,
    unroll,
    tile_all,
    tril,
    triu,
):
    op.internal()


class Indexed(Recorded):
    """An op on arrays with an index among its arguments: slices, integers, integer arrays, masks."""

    def __init__(self, function, tensors):
        super().__init__(function.__name__, function.__doc__, tensors)
        self.on_arrays = function

    def __call__(self, *args):
        tensors, rest = args[: len(self.inputs)], args[len(self.inputs) :]
        out = from_array(self.on_arrays(*[t.array() for t in tensors], *rest))
        names = self.on_arrays.__code__.co_varnames[len(self.inputs) : self.on_arrays.__code__.co_argcount]
        attributes = {"size": tuple(tensors[0].shape), **dict(zip(names, rest, strict=True))}
        return self.record(out, dict(zip(self.inputs, tensors, strict=True)), attributes)


def indexed(*tensors):
    return lambda function: Indexed(function, tensors)


@indexed("x")
def pick(x, where):
    """Elements by NumPy indexing: `where` is an index of slices, integers, arrays and masks."""
    return np.array(x[where])


@indexed("x")
def place(x, where, size):
    """Zeros of a size, with x added at an index; repeated places add up."""
    out = np.zeros(size, x.dtype)
    np.add.at(out, where, x)
    return out


pick.backward(x=lambda grad, where, size: place(grad, where, size))
place.backward(x=lambda grad, where: pick(grad, where))


@indexed("x", "y")
def replaced(x, y, where):
    """A copy of x with y at an index."""
    out = np.array(x)
    out[where] = y
    return out


@indexed("x")
def zeroed(x, where):
    """A copy of x with zeros at an index."""
    out = np.array(x)
    out[where] = 0
    return out


zeroed.backward(x=lambda grad, where: zeroed(grad, where))
replaced.backward(
    x=lambda grad, where: zeroed(grad, where), y=lambda grad, where, y: pick(grad, where).sum_to_size(y.shape)
)


@indexed("x", "y")
def added(x, y, where):
    """A copy of x with y added at an index; repeated places add up."""
    out = np.array(x)
    np.add.at(out, where, y)
    return out


added.backward(x=lambda grad: grad, y=lambda grad, where: pick(grad, where))
