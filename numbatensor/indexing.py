"""Reading and writing by index."""

import builtins
import collections

import numpy as np

from numbatensor import dtypes
from numbatensor.op import OPS, from_array
from numbatensor.ops import rows
from numbatensor.tensor import Tensor, as_operand, tensor, wrap_dim, written

Extremum = collections.namedtuple("Extremum", ["values", "indices"])


def along(where, dim, shape):
    """An index that picks `where` along one dimension and every place of the others."""
    grid = list(np.ogrid[tuple(builtins.slice(n) for n in shape)])
    grid[dim] = where
    return tuple(grid)


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
        return made if made is not self else self.as_strided(self.shape, self.stride())
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
