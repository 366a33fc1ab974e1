"""Functions made of declared ops: what PyTorch offers beside them, on tensors of any shape."""

import builtins
import math

import numpy as np

from numbatensor import dtypes
from numbatensor.exchange import from_array
from numbatensor.hollow import hollow
from numbatensor.indexing import Extremum, gather, nonzero
from numbatensor.making import as_operand, as_sizes
from numbatensor.ops import arranging, reductions, rounding, rows, transcendental
from numbatensor.tensor import Tensor, functions, wrap_dim

op = functions


def chosen(dim, axis):
    return axis if dim is None else dim


def softmax(input, dim=None, dtype=None):
    """Exponentials along a dimension, divided by their sum."""
    return rows.softmax(input if dtype is None else input.to(dtype), 0 if dim is None and input.ndim < 2 else dim)


def log_softmax(input, dim=None, dtype=None):
    """Logarithm of the softmax along a dimension."""
    return rows.log_softmax(input if dtype is None else input.to(dtype), 0 if dim is None and input.ndim < 2 else dim)


def logsumexp(input, dim, keepdim=False):
    """Logarithm of the sum of exponentials along dimensions."""
    x = input if input.dtype.is_floating_point else input.to(dtypes.get_default_dtype())
    if isinstance(dim, int):
        return rows.logsumexp(x, dim, keepdim)
    dims = [wrap_dim(d, x.ndim) for d in dim] or list(range(x.ndim))
    kept = [d for d in range(x.ndim) if d not in dims]
    made = rows.logsumexp(x.permute(*kept, *dims).reshape(*[x.shape[d] for d in kept], -1), -1)
    return made.reshape([1 if d in dims else n for d, n in enumerate(x.shape)]) if keepdim else made


def cumsum(input, dim, dtype=None):
    """Sum of the elements so far along a dimension."""
    return rows.cumsum(input if dtype is None else input.to(dtype), dim)


def cumprod(input, dim, dtype=None):
    """Product of the elements so far along a dimension."""
    return rows.cumprod(input if dtype is None else input.to(dtype), dim)


def extremum(x, dim, keepdim, find):
    """Values and indices of the largest or smallest elements along a dimension."""
    indices = find(x, dim, True)
    if x.ndim == 0:
        return Extremum(x.clone(), indices)
    values = gather(x, dim, indices)
    return Extremum(*((values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))))


def for_numpy(made, out):
    """The result of a method that NumPy's function of that name called with its own keywords."""
    if out is not None:
        raise TypeError("out= of a NumPy function cannot be used with this method of Tensors: assign to out[...]")
    return made


def extreme(input, dim, keepdim, out, names, find):
    """What `max` and `min` give. `names`: of the ops for values alone, and for two tensors; `find`: the indices."""
    values, pairs = names
    if out is not False:  # `np.max` and `np.min` ask, for values alone
        return for_numpy(op[values](input, dim, keepdim), out)
    if isinstance(dim, Tensor):
        return op[pairs](input, dim)
    return op[values](input) if dim is None else extremum(input, dim, keepdim, find)


def max(input, dim=None, keepdim=False, *, axis=None, keepdims=None, out=False):
    """The largest element; along a dimension, values and indices; of two tensors, the larger of each pair."""
    keepdim = keepdim if keepdims is None else keepdims
    return extreme(input, chosen(dim, axis), keepdim, out, ("amax", "maximum"), rows.argmax)


def min(input, dim=None, keepdim=False, *, axis=None, keepdims=None, out=False):
    """The smallest element; along a dimension, values and indices; of two tensors, the smaller of each pair."""
    keepdim = keepdim if keepdims is None else keepdims
    return extreme(input, chosen(dim, axis), keepdim, out, ("amin", "minimum"), rows.argmin)


def argmax(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """Index of the largest element, of all or along a dimension."""
    return rows.argmax(input, chosen(dim, axis), keepdim if keepdims is None else keepdims)


def argmin(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """Index of the smallest element, of all or along a dimension."""
    return rows.argmin(input, chosen(dim, axis), keepdim if keepdims is None else keepdims)


def deviation(reduce, input, dim, unbiased, keepdim, correction, dtype, out, ddof):
    """What `var` and `std` give, by an op. `dtype`, `out` and `ddof` are NumPy's, which calls the methods with them."""
    if isinstance(dim, builtins.bool):
        dim, unbiased = None, dim
    input = input if dtype is None else input.to(dtype)
    correction = correction if ddof is None else ddof
    return for_numpy(reduce(input, dim, keepdim, correction if unbiased is None else builtins.int(unbiased)), out)


def var(
    input,
    dim=None,
    unbiased=None,
    keepdim=False,
    *,
    correction=1,
    axis=None,
    keepdims=None,
    dtype=None,
    out=None,
    ddof=None,
):
    """Variance: the mean square distance to the mean, with ``n - correction`` for n."""
    dim, keepdim = chosen(dim, axis), keepdim if keepdims is None else keepdims
    return deviation(reductions.var, input, dim, unbiased, keepdim, correction, dtype, out, ddof)


def std(
    input,
    dim=None,
    unbiased=None,
    keepdim=False,
    *,
    correction=1,
    axis=None,
    keepdims=None,
    dtype=None,
    out=None,
    ddof=None,
):
    """Square root of the variance."""
    dim, keepdim = chosen(dim, axis), keepdim if keepdims is None else keepdims
    return deviation(reductions.std, input, dim, unbiased, keepdim, correction, dtype, out, ddof)


def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=1, axis=None, keepdims=None):
    """Variance and mean."""
    dim, keepdim = chosen(dim, axis), keepdim if keepdims is None else keepdims
    if isinstance(dim, builtins.bool):
        dim, unbiased = None, dim
    return var(input, dim, unbiased, keepdim, correction=correction), input.mean(dim, keepdim)


def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """The p-norm of the elements, of all dimensions or of some."""
    x = input if dtype is None else input.to(dtype)
    if p in (2, "fro"):
        return reductions.euclidean_norm(x, dim, keepdim)
    if p == 0:
        return (x != 0).to(x.dtype).sum(dim, keepdim)
    size = x.abs()
    if p == math.inf:
        return size.amax(dim, keepdim)
    if p == -math.inf:
        return size.amin(dim, keepdim)
    if p == 1:
        return size.sum(dim, keepdim)
    if p < 0:
        return (size ** float(p)).sum(dim, keepdim) ** (1.0 / p)
    return power_off_zero(power_off_zero(size, float(p)).sum(dim, keepdim), 1.0 / p)


def power_off_zero(x, y):
    """x to a positive power, with slope 0 where x is 0."""
    zero = x == 0.0
    return op["where"](zero, 0.0, op["where"](zero, 1.0, x) ** y)


def clamp(input, min=None, max=None):
    """Each element, kept between two bounds: numbers or tensors."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    x = input if min is None else op["clamp_min"](input, min)
    return x if max is None else op["clamp_max"](x, max)


def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether the elements of each pair are equal within ``atol + rtol * |other|``."""
    if hollow((input, other)) is not None:
        near = op["isfinite"](other) & (op["abs"](input - other) <= atol + rtol * op["abs"](other))
        near = near | (input == other)
        return near | (op["isnan"](input) & op["isnan"](other)) if equal_nan else near
    x, y = as_operand(input), as_operand(other)
    return from_array(np.isclose(x.array(), y.array(), rtol, atol, equal_nan)).to(x.device)


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all pairs are equal within a tolerance."""
    return builtins.bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input, other):
    """Whether two tensors have the same shape and elements."""
    return input.shape == other.shape and builtins.bool((input == other).all())


def round(input, *, decimals=0):
    """Each element rounded to so many decimals; halves to even."""
    if decimals == 0 or not input.dtype.is_floating_point:
        return rounding.rint(input)
    scale = 10.0 ** abs(decimals)
    return rounding.rint(input * scale) / scale if decimals > 0 else rounding.rint(input / scale) * scale


def nan_to_num(input, nan=0.0, posinf=None, neginf=None):
    """NaN and infinities replaced by numbers."""
    if not input.dtype.is_floating_point:
        return input.clone()
    limit = dtypes.finfo(input.dtype)
    x = op["where"](op["isnan"](input), nan, input)
    x = op["where"](x == math.inf, limit.max if posinf is None else posinf, x)
    return op["where"](x == -math.inf, limit.min if neginf is None else neginf, x)


def logit(input, eps=None):
    """Logarithm of the odds ``x / (1 - x)``."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return transcendental.log_odds(x)


def masked_fill(input, mask, value):
    """A copy with a value, a number or tensor without dimensions, where the mask is true."""
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(
                f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
            )
        value = value.to(input.dtype)
    elif not input.dtype.is_floating_point:
        value = int(value)
    return op["where"](mask, value, input)


def where(condition, input=None, other=None):
    """Of each pair the first element where the condition holds, else the second; of a condition alone, where it holds."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if isinstance(condition, Tensor) and condition.dtype is dtypes.uint8:
        condition = condition.to(dtypes.bool)
    return op["where"](condition, input, other)


def flip(input, *args, dims=None):
    """The tensor with the order of some dimensions turned around."""
    return arranging.flip(
        input, as_sizes(args if dims is None else (dims,) if isinstance(dims, int) else (tuple(dims),))
    )


def roll(input, shifts, dims=None):
    """The tensor shifted along dimensions, or flattened where none is named."""
    if dims is None or dims == ():
        return arranging.roll(input.reshape(-1), shifts, 0).reshape(input.shape)
    return arranging.roll(input, shifts, dims)


def repeat(input, *repeats):
    """The tensor repeated along each dimension."""
    repeats = as_sizes(repeats)
    if len(repeats) < input.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    return arranging.tile(input, repeats)


def tile(input, *dims):
    """The tensor repeated along each dimension; missing dimensions count once."""
    return arranging.tile(input, as_sizes(dims))


def tril(input, diagonal=0):
    """The lower triangle of each matrix; zeros above."""
    return arranging.tril(input, diagonal)


def triu(input, diagonal=0):
    """The upper triangle of each matrix; zeros below."""
    return arranging.triu(input, diagonal)
