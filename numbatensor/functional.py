"""Functions made of declared ops: what PyTorch offers beside them, on tensors of any shape."""

import builtins
import collections
import math

import numpy as np

from numbatensor import dtypes
from numbatensor.core import entries
from numbatensor.op import OPS, Recorded, from_array
from numbatensor.ops import reductions, rows, structured
from numbatensor.tensor import Tensor, as_operand, as_sizes, functions, tensor, wrap_dim, written

Extremum = collections.namedtuple("Extremum", ["values", "indices"])
op = functions


def chosen(dim, axis):
    return axis if dim is None else dim


def softmax(input, dim=None, dtype=None):
    """Exponentials along a dimension, divided by their sum."""
    x = input if dtype is None else input.to(dtype)
    return rows.softmax(x, wrap_dim(dim, x.ndim)) if x.ndim else op["exp"](x - x)


def log_softmax(input, dim=None, dtype=None):
    """Logarithm of the softmax along a dimension."""
    x = input if dtype is None else input.to(dtype)
    return rows.log_softmax(x, wrap_dim(dim, x.ndim)) if x.ndim else x - x


def logsumexp(input, dim, keepdim=False):
    """Logarithm of the sum of exponentials along dimensions."""
    dims = tuple(wrap_dim(d, input.ndim) for d in ([dim] if isinstance(dim, int) else dim))
    made = rows.logsumexp_dims(input, dims)
    return made if keepdim else made.squeeze(dims)


def cumsum(input, dim, dtype=None):
    """Sum of the elements so far along a dimension."""
    return rows.cumsum(input if dtype is None else input.to(dtype), wrap_dim(dim, input.ndim))


def cumprod(input, dim, dtype=None):
    """Product of the elements so far along a dimension."""
    return rows.cumprod(input if dtype is None else input.to(dtype), wrap_dim(dim, input.ndim))


def along(where, dim, shape):
    """An index that picks `where` along one dimension and every place of the others."""
    grid = list(np.ogrid[tuple(builtins.slice(n) for n in shape)])
    grid[dim] = where
    return tuple(grid)


def extremum(x, dim, keepdim, find):
    """Values and indices of the largest or smallest elements along a dimension."""
    dim = wrap_dim(dim, x.ndim)
    if x.ndim and x.shape[dim] == 0:
        raise IndexError(f"Expected reduction dim {dim} to have non-zero size.")
    array = x.array()
    if not x.ndim:
        return Extremum(x.clone(), tensor(0))
    places = np.expand_dims(find(array, axis=dim), dim)
    values = rows.pick(x, along(places, dim, places.shape))
    indices = from_array(places)
    return Extremum(*((values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))))


def max(input, dim=None, keepdim=False, *, axis=None):
    """The largest element; along a dimension, values and indices; of two tensors, the larger of each pair."""
    dim = chosen(dim, axis)
    if isinstance(dim, Tensor):
        return op["maximum"](input, dim)
    return input.amax() if dim is None else extremum(input, dim, keepdim, np.argmax)


def min(input, dim=None, keepdim=False, *, axis=None):
    """The smallest element; along a dimension, values and indices; of two tensors, the smaller of each pair."""
    dim = chosen(dim, axis)
    if isinstance(dim, Tensor):
        return op["minimum"](input, dim)
    return input.amin() if dim is None else extremum(input, dim, keepdim, np.argmin)


def argmax(input, dim=None, keepdim=False):
    """Index of the largest element, of all or along a dimension."""
    return from_array(np.asarray(np.argmax(input.array(), axis=dim, keepdims=keepdim)))


def argmin(input, dim=None, keepdim=False):
    """Index of the smallest element, of all or along a dimension."""
    return from_array(np.asarray(np.argmin(input.array(), axis=dim, keepdims=keepdim)))


def var(input, dim=None, unbiased=None, keepdim=False, *, correction=1, axis=None):
    """Variance: the mean square distance to the mean, with ``n - correction`` for n."""
    dim = chosen(dim, axis)
    if isinstance(dim, builtins.bool):
        dim, unbiased = None, dim
    return reductions.var(input, dim, keepdim, correction if unbiased is None else builtins.int(unbiased))


def std(input, dim=None, unbiased=None, keepdim=False, *, correction=1, axis=None):
    """Square root of the variance."""
    return var(input, dim, unbiased, keepdim, correction=correction, axis=axis).sqrt()


def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=1, axis=None):
    """Variance and mean."""
    dim = chosen(dim, axis)
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
    return (size ** float(p)).sum(dim, keepdim) ** (1.0 / p)


def clamp(input, min=None, max=None):
    """Each element, kept between two bounds: numbers or tensors."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    x = input if min is None else op["clamp_min"](input, min)
    return x if max is None else op["clamp_max"](x, max)


def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether the elements of each pair are equal within ``atol + rtol * |other|``."""
    return from_array(np.isclose(as_operand(input).array(), as_operand(other).array(), rtol, atol, equal_nan))


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all pairs are equal within a tolerance."""
    return builtins.bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input, other):
    """Whether two tensors have the same shape and elements."""
    return input.shape == other.shape and builtins.bool((input == other).all())


def round(input, *, decimals=0):
    """Each element rounded to so many decimals; halves to even. Its gradient is zero."""
    made = from_array(np.round(input.array(), decimals))
    return made


def nan_to_num(input, nan=0.0, posinf=None, neginf=None):
    """NaN and infinities replaced by numbers."""
    limit = np.finfo(input.dtype.numpy)
    x = op["where"](op["isnan"](input), nan, input)
    x = op["where"](x == math.inf, float(limit.max) if posinf is None else posinf, x)
    return op["where"](x == -math.inf, float(limit.min) if neginf is None else neginf, x)


def logit(input, eps=None):
    """Logarithm of the odds ``x / (1 - x)``."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return (x / (1.0 - x)).log()


def masked_fill(input, mask, value):
    """A copy with a value where the mask is true."""
    return op["where"](mask, value, input)


# joining and splitting


def cat(tensors, dim=0, *, axis=None):
    """Tensors joined along a dimension."""
    tensors = [as_operand(t) for t in tensors]
    if not tensors:
        raise RuntimeError("cat(): expected a non-empty list of Tensors")
    tensors = [t for t in tensors if t.shape != (0,)] or tensors[:1]
    dim = wrap_dim(dim if axis is None else axis, tensors[0].ndim)
    made = from_array(np.concatenate([t.array() for t in tensors], axis=dim))
    starts = np.cumsum([0, *[t.shape[dim] for t in tensors]]).tolist()
    for k in range(len(tensors)):
        if f"t{k}" not in CAT.rules:
            CAT.rules[f"t{k}"] = Joined(k)
    return CAT.record(made, {f"t{k}": t for k, t in enumerate(tensors)}, {"dim": dim, "starts": starts})


class Joined:
    """The rules of a join: input k's gradient is its part of the whole."""

    def __init__(self, k):
        self.k = k

    def __call__(self, grad, dim, starts):
        return grad.narrow(dim, starts[self.k], starts[self.k + 1] - starts[self.k])


CAT = Recorded("cat", "Tensors joined along a dimension.").backward()


def matmul(input, other):
    """Matrix product of two tensors, of all ranks, with broadcast batch dimensions."""
    x, y = as_operand(input), as_operand(other)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError("matmul(): both arguments must be Tensors")
    if x.dtype is not y.dtype:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {x.dtype.name} != {y.dtype.name}")
    if x.ndim == 0 or y.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {x.ndim}D and {y.ndim}D")
    k = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != k:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, x.shape))} and {'x'.join(map(str, y.shape))})"
        )
    if x.ndim > 1 and y.ndim > 1:
        return structured.matmul(x, y)
    made = structured.matmul(x if x.ndim > 1 else x.unsqueeze(0), y if y.ndim > 1 else y.unsqueeze(1))
    made = made if y.ndim > 1 else made.squeeze(-1)
    return made if x.ndim > 1 else made.squeeze(-1 if y.ndim == 1 else -2)


def stack(tensors, dim=0, *, axis=None):
    """Tensors joined along a new dimension."""
    dim = dim if axis is None else axis
    return cat([t.unsqueeze(dim) for t in tensors], wrap_dim(dim, tensors[0].ndim + 1))


def hstack(tensors):
    """Tensors joined side by side."""
    tensors = [t.reshape(1) if t.ndim == 0 else t for t in tensors]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def vstack(tensors):
    """Tensors joined one above the other."""
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)


def split(tensor, split_size_or_sections, dim=0):
    """Views of parts of a dimension, of one size or of given sizes."""
    dim, sizes = wrap_dim(dim, tensor.ndim), split_size_or_sections
    n = tensor.shape[dim]
    if isinstance(sizes, int):
        sizes = [builtins.min(sizes, n - k) for k in range(0, n, sizes)] or [0]
    if sum(sizes) != n:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but got "
            f"split_sizes={list(sizes)}"
        )
    starts = np.cumsum([0, *sizes]).tolist()
    return restricted(tensor.narrow(dim, s, k) for s, k in zip(starts[:-1], sizes, strict=True))


def chunk(input, chunks, dim=0):
    """At most so many views of equal parts of a dimension."""
    n = input.shape[wrap_dim(dim, input.ndim)]
    return split(input, builtins.max(1, -(-n // chunks)), dim)


def unbind(input, dim=0):
    """Views of all slices of a dimension."""
    dim = wrap_dim(dim, input.ndim)
    return restricted(input.select(dim, k) for k in range(input.shape[dim]))


def restricted(views):
    """Views that came out of one call: they must not be written in place."""
    made = tuple(views)
    for v in made:
        entries.set_restriction(v, 1)
    return made


def flip(input, *dims):
    """The tensor with the order of some dimensions turned around."""
    return rows.flip(input, tuple(wrap_dim(d, input.ndim) for d in as_sizes(dims)))


def roll(input, shifts, dims=None):
    """The tensor shifted along dimensions, or flattened where none is named."""
    if dims is None:
        return rows.roll(input.reshape(-1), shifts, 0).reshape(input.shape)
    return rows.roll(
        input,
        tuple(shifts) if not isinstance(shifts, int) else shifts,
        tuple(dims) if not isinstance(dims, int) else dims,
    )


def repeat(input, *repeats):
    """The tensor repeated along each dimension."""
    return rows.tile_all(input, as_sizes(repeats))


def tile(input, *dims):
    """The tensor repeated along each dimension; missing dimensions count once."""
    dims = as_sizes(dims)
    return rows.tile_all(input, (1,) * (input.ndim - len(dims)) + dims)


def tril(input, diagonal=0):
    """The lower triangle of each matrix; zeros above."""
    return rows.tril(input, diagonal)


def triu(input, diagonal=0):
    """The upper triangle of each matrix; zeros below."""
    return rows.triu(input, diagonal)


# indexing


def simple(x, index):
    """Whether an index needs only views."""
    return builtins.all(i is None or i is Ellipsis or isinstance(i, builtins.slice) or type(i) is int for i in index)


def as_index(x, index):
    """An index as a tuple, with tensors as arrays."""
    index = index if isinstance(index, tuple) else (index,)
    plain = []
    for i in index:
        if isinstance(i, Tensor):
            i = i.array() if i.ndim or i.dtype is dtypes.bool else int(i.item())
            if isinstance(i, np.ndarray):
                i = i.copy()
        elif isinstance(i, list):
            i = np.asarray(i)
        elif isinstance(i, np.integer):
            i = int(i)
        plain.append(i)
    used = builtins.sum(
        i.ndim if isinstance(i, np.ndarray) and i.dtype == bool else i is not None and i is not Ellipsis for i in plain
    )
    if used > x.ndim:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    return tuple(plain)


def viewed(x, index):
    """A basic index, as views."""
    if Ellipsis in index:
        k = index.index(Ellipsis)
        missing = x.ndim - builtins.sum(i is not None for i in index) + 1
        index = index[:k] + (builtins.slice(None),) * missing + index[k + 1 :]
    dim = 0
    for i in index:
        if i is None:
            x = x.unsqueeze(dim)
            dim += 1
        elif isinstance(i, builtins.slice):
            start, stop, step = i.indices(x.shape[dim])
            if i != builtins.slice(None):
                x = OPS["slice"](x, dim, start if x.shape[dim] else 0, step, len(range(start, stop, step)))
            dim += 1
        else:
            x = x.select(dim, i)
    return x if x is not None and index else x


def getitem(self, index):
    """Elements by integers, slices (negative steps too), None, Ellipsis, masks and integer tensors, placed as NumPy places them."""
    index = as_index(self, index)
    if simple(self, index):
        made = viewed(self, index)
        return made if made is not self else OPS["as_strided"](self, tuple(self.shape), self.stride(), 0)
    try:
        return rows.pick(self, index)
    except IndexError as error:
        raise IndexError(str(error).replace("axis", "dimension")) from None


def setitem(self, index, value):
    """Overwrite elements that an index names."""
    index = as_index(self, index)
    if simple(self, index):
        written(getitem(self, index), as_operand(value))
        return
    value = as_operand(value)
    source = value if isinstance(value, Tensor) else tensor(value, dtype=self.dtype)
    changed = rows.replaced(self, source.to(self.dtype), index)
    written(self, changed)


def gather(input, dim, index):
    """``out[i][j] = input[index[i][j]][j]`` for dim 0, and so on."""
    dim = wrap_dim(dim, input.ndim)
    return rows.pick(input, along(index.array().copy(), dim, index.shape))


def scatter(input, dim, index, src):
    """A copy with `src` at the places that an index names along a dimension."""
    dim = wrap_dim(dim, input.ndim)
    where = along(index.array().copy(), dim, index.shape)
    src = tensor(src, dtype=input.dtype).expand(index.shape) if not isinstance(src, Tensor) else src
    part = tuple(builtins.slice(n) for n in index.shape)
    return rows.replaced(input, src if src.shape == index.shape else getitem(src, part), where)


def scatter_add(input, dim, index, src):
    """A copy with `src` added at the places that an index names along a dimension."""
    dim = wrap_dim(dim, input.ndim)
    part = tuple(builtins.slice(n) for n in index.shape)
    return rows.added(
        input, src if src.shape == index.shape else getitem(src, part), along(index.array().copy(), dim, index.shape)
    )


def index_select(input, dim, index):
    """Slices of a dimension, by number."""
    dim = wrap_dim(dim, input.ndim)
    return rows.pick(input, (builtins.slice(None),) * dim + (index.array().copy(),))


def index_add(input, dim, index, source, *, alpha=1):
    """A copy with slices added at numbers of a dimension."""
    dim = wrap_dim(dim, input.ndim)
    return rows.added(
        input, source if alpha == 1 else source * alpha, (builtins.slice(None),) * dim + (index.array().copy(),)
    )


def take_along_dim(input, indices, dim=None):
    """Elements by index along a dimension, broadcast."""
    if dim is None:
        return rows.pick(input.reshape(-1), (indices.array().copy(),))
    dim = wrap_dim(dim, input.ndim)
    shape = list(
        np.broadcast_shapes(*[[1 if k == dim else n for k, n in enumerate(t.shape)] for t in (input, indices)])
    )
    where = np.broadcast_to(indices.array(), [*shape[:dim], indices.shape[dim], *shape[dim + 1 :]]).copy()
    full = input.expand(*shape[:dim], input.shape[dim], *shape[dim + 1 :])
    return rows.pick(full, along(where, dim, where.shape))


def masked_select(input, mask):
    """The elements where a mask is true, as a vector."""
    x, m = np.broadcast_shapes(input.shape, mask.shape), mask.array()
    return rows.pick(input.expand(x), (np.broadcast_to(m, x).copy(),))


def nonzero(input, *, as_tuple=False):
    """The indices of the elements that are not zero, one row each."""
    found = np.nonzero(np.atleast_1d(input.array()))
    return tuple(from_array(f) for f in found) if as_tuple else from_array(np.stack(found, 1))


def argsort(input, dim=-1, descending=False, stable=False):
    """Indices that sort a dimension."""
    x = input.array()
    order = (
        np.argsort(-x if descending and x.dtype.kind == "f" else x, axis=dim, kind="stable")
        if input.ndim
        else np.zeros((), np.int64)
    )
    if descending and x.dtype.kind != "f" and input.ndim:
        turned = np.flip(x, dim)
        order = np.flip(x.shape[dim] - 1 - np.argsort(turned, axis=dim, kind="stable"), dim)
    return from_array(np.ascontiguousarray(order))


def sort(input, dim=-1, descending=False, stable=False):
    """The elements of a dimension in order, and their indices."""
    order = argsort(input, dim, descending, stable)
    return Extremum(gather(input, dim, order) if input.ndim else input.clone(), order)


def topk(input, k, dim=-1, largest=True, sorted=True):
    """The k largest or smallest elements of a dimension, and their indices."""
    dim = wrap_dim(dim, input.ndim)
    if k > input.shape[dim]:
        raise RuntimeError("selected index k out of range")
    order = argsort(input, dim, largest).narrow(dim, 0, k).contiguous()
    return Extremum(gather(input, dim, order), order)


# linear algebra


def mm(input, mat2):
    """Product of two matrices."""
    if input.ndim != 2 or mat2.ndim != 2:
        raise RuntimeError(f"mm: expected matrices, got {input.ndim}D and {mat2.ndim}D tensors")
    return input @ mat2


def mv(input, vec):
    """Product of a matrix and a vector."""
    return input @ vec


def bmm(input, mat2):
    """Products of two batches of matrices."""
    if input.ndim != 3 or mat2.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    return input @ mat2


def dot(input, tensor):
    """Sum of the products of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    return input @ tensor


def outer(input, vec2):
    """Products of all pairs of elements of two vectors."""
    return input.unsqueeze(-1) * vec2


def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """``beta * input + alpha * mat1 @ mat2``"""
    product = mat1 @ mat2
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def tensordot(a, b, dims=2):
    """Sum of products over several dimensions of two tensors."""
    if isinstance(dims, int):
        over_a, over_b = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        over_a, over_b = (
            [d % t.ndim for d in ([ds] if isinstance(ds, int) else ds)] for t, ds in zip((a, b), dims, strict=True)
        )
    keep_a, keep_b = ([d for d in range(t.ndim) if d not in over] for t, over in ((a, over_a), (b, over_b)))
    n = math.prod(a.shape[d] for d in over_a)
    x, y = a.permute(*keep_a, *over_a).reshape(-1, n), b.permute(*over_b, *keep_b).reshape(n, -1)
    return (x @ y).reshape(*[a.shape[d] for d in keep_a], *[b.shape[d] for d in keep_b])


def einsum(equation, *operands):
    """Sums of products written by index letters, such as ``"ij,jk->ik"``; one letter a dimension."""
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in equation:
        raise NotImplementedError("einsum: '...' is not supported yet; name the dimensions")
    if len(terms) != len(operands):
        raise RuntimeError(f"einsum(): {len(terms)} terms for {len(operands)} operands")
    letters = sorted(set(left) - {","})
    right = right if "->" in equation else "".join(c for c in letters if left.count(c) == 1)
    sizes, spread = {}, []
    for term, x in zip(terms, operands, strict=True):
        while len(set(term)) < len(term):
            c = next(c for c in term if term.count(c) > 1)
            i, j = [k for k, d in enumerate(term) if d == c][:2]
            x, term = x.diagonal(0, i, j), "".join(d for k, d in enumerate(term) if k not in (i, j)) + c
        sizes.update(zip(term, x.shape, strict=True))
        spread.append((term, x))
    order = right + "".join(c for c in letters if c not in right)
    made = None
    for term, x in spread:
        x = x.permute(*sorted(range(len(term)), key=lambda k: order.index(term[k])))
        x = x.reshape([sizes[c] if c in term else 1 for c in order])
        made = x if made is None else made * x
    summed = list(range(len(right), len(order)))
    return made.sum(summed) if summed else made


METHODS = [
    matmul,
    softmax,
    log_softmax,
    logsumexp,
    cumsum,
    cumprod,
    max,
    min,
    argmax,
    argmin,
    var,
    std,
    norm,
    clamp,
    isclose,
    allclose,
    equal,
    round,
    nan_to_num,
    logit,
    masked_fill,
    split,
    chunk,
    unbind,
    flip,
    roll,
    repeat,
    tile,
    tril,
    triu,
    gather,
    scatter,
    scatter_add,
    index_select,
    index_add,
    take_along_dim,
    masked_select,
    nonzero,
    argsort,
    sort,
    topk,
    mm,
    mv,
    bmm,
    dot,
    outer,
    addmm,
]
for function in METHODS:
    setattr(Tensor, function.__name__, function)


def in_place(function):
    """The `_` variant of a function: its result is copied into the first argument."""

    def method(self, *args, **kwargs):
        return written(self, function(self, *args, **kwargs))

    method.__name__ = method.__qualname__ = function.__name__ + "_"
    method.__doc__ = f"`{function.__name__}`, written into the tensor."
    return method


for function in (
    cumsum,
    cumprod,
    clamp,
    round,
    nan_to_num,
    logit,
    masked_fill,
    tril,
    triu,
    scatter,
    scatter_add,
    index_add,
):
    setattr(Tensor, function.__name__ + "_", in_place(function))
Tensor.__getitem__, Tensor.__setitem__ = getitem, setitem
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda self, other: matmul(other, self)
Tensor.__invert__ = lambda self: op["logical_not"](self) if self.dtype is dtypes.bool else op["bitwise_not"](self)
Tensor.clip = clamp


def converter(d):
    """The method that converts to a dtype."""
    return lambda self: self.to(d)


for name in ("float", "double", "int", "long", "bool"):
    setattr(Tensor, name, converter(getattr(dtypes, name)))
