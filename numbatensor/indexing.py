"""Reading and writing by index, placed as NumPy places it."""

import builtins
import collections

import numpy as np

from numbatensor import dtypes
from numbatensor.core import entries
from numbatensor.core.sites import writer
from numbatensor.hollow import Hollow, hollow
from numbatensor.making import as_operand, tensor
from numbatensor.ops import indexing as ops
from numbatensor.ops import rows, views
from numbatensor.tensor import Tensor, wrap_dim, written

Extremum = collections.namedtuple("Extremum", ["values", "indices"])
SETITEM = writer("__setitem__")
MOST = 5  # index tensors that one op takes


def as_index(i):
    """One item of an index: None, Ellipsis, a slice, an int, a truth value, or a tensor."""
    if i is None or i is Ellipsis or isinstance(i, (slice, bool, Hollow)) or type(i) is int:
        return i
    if isinstance(i, (list, tuple, np.ndarray)):
        i = tensor(i, dtype=dtypes.int64) if isinstance(i, (list, tuple)) and not i else tensor(i)
    if isinstance(i, (np.generic, Tensor)) and i.ndim == 0 and i.dtype not in (dtypes.bool, np.bool_):
        return i.__index__()
    if isinstance(i, np.bool_):
        return bool(i)
    if not isinstance(i, Tensor):
        return i.__index__()
    if i.dtype.is_floating_point:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return bool(i) if i.ndim == 0 else i


def truths(mask, x, dim):
    """The index tensors of a mask over dimensions from `dim` on."""
    for k, n in enumerate(mask.shape):
        if dim + k >= x.ndim or x.shape[dim + k] != n:
            raise IndexError(
                f"The shape of the mask {list(mask.shape)} at index {k} does not match the shape of the indexed tensor "
                f"{list(x.shape)} at index {dim + k}"
            )
    return list(nonzero(mask, as_tuple=True))


def items_of(x, index):
    """An index as a list of None, slices, ints and index tensors, one for each dimension of x but for None."""
    index = index if isinstance(index, tuple) else (index,)
    items = [as_index(i) for i in index]
    taken = lambda i: 0 if i is None or i is Ellipsis or isinstance(i, bool) else i.ndim if is_mask(i) else 1
    used = builtins.sum(map(taken, items))
    if used > x.ndim:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    dots = [k for k, i in enumerate(items) if i is Ellipsis]
    if dots:
        items[dots[0] : dots[0] + 1] = [slice(None)] * (x.ndim - used)
        items = [slice(0) if i is Ellipsis else i for i in items if i is not Ellipsis]
    made, dim = [], 0
    for i in items:
        if isinstance(i, bool):
            made.append(i)
        elif is_mask(i):
            made += truths(i, x, dim)
            dim += i.ndim
        else:
            made.append(i)
            dim += i is not None
    return made


def is_mask(i):
    return isinstance(i, Tensor) and i.dtype is dtypes.bool


def part(x, dim, i):
    """A slice of a dimension, as a view."""
    if i == slice(None):
        return x
    start, stop, step = i.indices(x.shape[dim])
    return views.slice(x, dim, start, step, len(range(start, stop, step)))


def located(x, items):
    """What an index names: a view of x, index tensors, and the first dimension of the view that they are for."""
    dims, dim = [], 0  # of the view: those that have an index tensor
    tensors = []
    for i in items:
        if i is None:
            x = x.unsqueeze(dim)
            dim += 1
        elif isinstance(i, bool):  # a mask of no dimensions: a new one, whose only place is taken or not
            x = x.unsqueeze(dim)
            tensors.append(tensor([0] if i else [], dtype=dtypes.int64))
            dims.append(dim)
            dim += 1
        elif isinstance(i, slice):
            x = part(x, dim, i)
            dim += 1
        elif isinstance(i, Tensor):
            tensors.append(i)
            dims.append(dim)
            dim += 1
        else:
            x = x.select(dim, i)
    if not tensors:
        return x, [], 0
    advanced = [k for k, i in enumerate(items) if isinstance(i, (Tensor, int))]
    together = advanced[-1] - advanced[0] + 1 == len(advanced)
    if not together and dims != list(range(len(dims))):
        x = x.permute(*dims, *[d for d in range(x.ndim) if d not in dims])
    first = dims[0] if together else 0
    tensors = same_shapes(tensors)
    return x, [t.to(x.device) for t in tensors] if x.is_cuda else tensors, first


def same_shapes(tensors):
    """Index tensors as int64, broadcast to one shape."""
    shapes = [tuple(t.shape) for t in tensors]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        shown = ", ".join(str(list(s)) for s in shapes)
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shown}"
        ) from None
    return [t.to(dtypes.int64).expand(shape) for t in tensors]


def merged(x, tensors, first):
    """The same with at most MOST index tensors: the last two dimensions become one."""
    while len(tensors) > MOST:
        d = first + len(tensors) - 2
        n = x.shape[d + 1]
        *tensors, i, j = tensors
        if ((j < -n) | (j >= n)).any():
            raise IndexError(f"index is out of bounds for dimension {d + 1} with size {n}")
        tensors.append((i + (i < 0) * x.shape[d]) * n + j + (j < 0) * n)
        x = x.flatten(d, d + 1)
    return x, tensors


def getitem(self, index):
    """Elements by integers, slices (negative steps too), None, Ellipsis, masks and integer tensors, placed as NumPy places them."""
    if type(index) is int:
        return views.select(self, 0, index)
    x, tensors, first = located(self, items_of(self, index))
    if not tensors:
        return x if x is not self else self.as_strided(self.shape, self.stride())
    x, tensors = merged(x, tensors, first)
    return ops.pick(x, *tensors, *[None] * (MOST - len(tensors)), first)


def setitem(self, index, value):
    """Overwrite elements that an index names."""
    if type(index) is int:
        target = views.select(self, 0, index)
        written(target, without_leading(as_operand(value), target.ndim), SETITEM)
        return
    x, tensors, first = located(self, items_of(self, index))
    if not tensors:
        target = x if x is not self else self.as_strided(self.shape, self.stride())
        written(target, without_leading(as_operand(value), target.ndim), SETITEM)
        return
    put(x, tensors, first, as_operand(value), ops.index_put)


def without_leading(value, ndim):
    """A value without leading dimensions of size 1 that its target lacks."""
    while isinstance(value, Tensor) and value.ndim > ndim and value.shape[0] == 1:
        value = value.select(0, 0)
    return value


def put(x, tensors, first, value, op):
    """Write a value at index tensors of a view, by an op."""
    shape = (*x.shape[:first], *tensors[0].shape, *x.shape[first + len(tensors) :])
    value = value if isinstance(value, Tensor) else tensor(value, dtype=x.dtype)
    value = without_leading(value, len(shape)).to(x.dtype)
    if value.ndim == 0 and x.is_cuda:
        value = value.to(x.device)
    if tuple(value.shape) != shape:
        try:
            value = value.expand(shape)
        except RuntimeError:
            raise RuntimeError(
                f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of shape "
                f"{list(shape)}"
            ) from None
    if hollow((x, value)) is not None or entries.get(value, entries.STORAGE) == entries.get(x, entries.STORAGE):
        value = value.clone()
    if len(tensors) > MOST:
        raise IndexError(f"at most {MOST} index tensors can be written through, not {len(tensors)}")
    op.slow.fast_in_place(x, value, *tensors, *[None] * (MOST - len(tensors)), first)


def index_put_(self, indices, values, accumulate=False):
    """Overwrite, or add to, the elements at a tuple of index tensors."""
    x, tensors, first = located(self, items_of(self, tuple(indices)))
    put(x, tensors, first, as_operand(values), ops.index_put_add if accumulate else ops.index_put)
    return self


def in_range(index):
    """An index as int64."""
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"expected an index of dtype int64 or int32, but got {index.dtype.name}")
    return index


def gather(input, dim, index):
    """``out[i][j] = input[index[i][j]][j]`` for dim 0, and so on."""
    return ops.gather(input, in_range(index), dim)


def as_source(input, src, index, name):
    """What is scattered: a tensor of the input's dtype, or a number for all places."""
    if not isinstance(src, Tensor):
        return tensor(src, dtype=input.dtype)
    if src.dtype is not input.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    if src.shape == index.shape or src.ndim != index.ndim:
        return src
    for d, n in enumerate(index.shape):
        if n < src.shape[d]:
            src = src.narrow(d, 0, n)
    return src


def scatter(input, dim, index, src=None, *, value=None):
    """A copy with `src` (a tensor or number) at the places that an index names along a dimension."""
    return ops.scatter(input, in_range(index), as_source(input, value if src is None else src, index, "scatter"), dim)


def scatter_add(input, dim, index, src):
    """A copy with `src` added at the places that an index names along a dimension."""
    return ops.scatter_add(input, in_range(index), as_source(input, src, index, "scatter"), dim)


def index_select(input, dim, index):
    """Slices of a dimension, by number."""
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if input.ndim == 0:
        return ops.select_slices(input.reshape(1), in_range(index), wrap_dim(dim, 0)).reshape(())
    return ops.select_slices(input, in_range(index), dim)


def index_add(input, dim, index, source, *, alpha=1):
    """A copy with slices added at numbers of a dimension."""
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"index_add_(): self ({input.dtype.name}) and source ({source.dtype.name}) must have the same scalar type"
        )
    return ops.add_slices(input, in_range(index), source if alpha == 1 else source * alpha, dim)


def take_along_dim(input, indices, dim=None):
    """Elements by index along a dimension, broadcast."""
    if dim is None:
        return ops.gather(input.reshape(-1), in_range(indices).reshape(-1), 0)
    dim = wrap_dim(dim, input.ndim)
    if input.ndim != indices.ndim:
        raise RuntimeError(
            f"take_along_dim(): input and indices should have the same number of dimensions, but got {input.ndim} dimensions for "
            f"input, and {indices.ndim} dimensions for indices"
        )
    others = [[1 if k == dim else n for k, n in enumerate(t.shape)] for t in (input, indices)]
    shape = list(np.broadcast_shapes(*others))
    full = [input.shape[dim] if k == dim else n for k, n in enumerate(shape)]
    wide = [indices.shape[dim] if k == dim else n for k, n in enumerate(shape)]
    return ops.gather(input.expand(full), in_range(indices).expand(wide), dim)


def broadcast_shape(x, y):
    """The shape that two tensors broadcast to."""
    try:
        return np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        d = next(
            d
            for d in range(1, min(x.ndim, y.ndim) + 1)
            if x.shape[-d] != y.shape[-d] and 1 not in (x.shape[-d], y.shape[-d])
        )
        raise RuntimeError(
            f"The size of tensor a ({x.shape[-d]}) must match the size of tensor b ({y.shape[-d]}) at non-singleton dimension "
            f"{max(x.ndim, y.ndim) - d}"
        ) from None


def masked_select(input, mask):
    """The elements where a mask is true, as a vector."""
    if mask.dtype is not dtypes.bool:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if mask.shape != input.shape:
        mask = mask.expand(broadcast_shape(input, mask))
    return ops.masked_select(input, mask)


def nonzero(input, *, as_tuple=False):
    """The indices of the elements that are not zero, one row each; with `as_tuple`, one vector a dimension."""
    if as_tuple and input.ndim == 0:
        input = input.reshape(1)
    found = ops.nonzero(input)
    return tuple(found.select(1, d).contiguous() for d in range(input.ndim)) if as_tuple else found


def argsort(input, dim=-1, descending=False, stable=False):
    """Indices that sort a dimension; equal elements stay in order, NaN counts as largest."""
    return rows.argsort(input, dim, descending, stable)


def sort(input, dim=-1, descending=False, stable=False):
    """The elements of a dimension in order, and their indices."""
    order = rows.argsort(input, dim, descending, stable)
    return Extremum(gather(input, dim, order), order)


def topk(input, k, dim=-1, largest=True, sorted=True):
    """The k largest or smallest elements of a dimension, and their indices."""
    order = rows.topk_indices(input, k, dim, largest, sorted)
    return Extremum(gather(input, dim, order), order)
