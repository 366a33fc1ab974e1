"""Views: new shapes and strides (in bytes) over the same memory. Each function changes y, which starts as x is; see `core/views.py`."""

from numbatensor.core import views as natives
from numbatensor.core.arguments import item, wrap
from numbatensor.core.records import storage_at
from numbatensor.op import DIMS, EVERYWHERE, FLAG, INT, OPS, SIZES, TENSOR, same, structured, view
from numbatensor.samples import floats


@view(samples=[(floats(2, 3), 0, 1), (floats(2, 3, 2), -1, 0)])
def transpose(y, x, dim0: INT, dim1: INT):
    """The tensor with two dimensions swapped, sharing memory."""
    i, j = wrap(dim0, x.ndim), wrap(dim1, x.ndim)
    if i < 0 or j < 0:
        return False
    if x.ndim:
        y.shape[i], y.shape[j] = x.shape[j], x.shape[i]
        y.strides[i], y.strides[j] = x.strides[j], x.strides[i]
    return True


@view(samples=[(floats(2, 3, 2), (2, 0, 1))])
def permute(y, x, dims: SIZES):
    """The tensor with its dimensions in another order, sharing memory."""
    if dims[1] != x.ndim:
        return False
    seen = 0
    for i in range(x.ndim):
        d = wrap(item(dims, i), x.ndim)
        if d < 0 or seen >> d & 1:
            return False
        seen |= 1 << d
        y.shape[i], y.strides[i] = x.shape[d], x.strides[d]
    return True


@view(samples=[(floats(2, 3, 2), (2, 0, 1))])
def unpermute(y, x, dims: SIZES):
    """The tensor whose permutation is given."""
    for i in range(x.ndim):
        d = wrap(item(dims, i), x.ndim)
        y.shape[d], y.strides[d] = x.shape[i], x.strides[i]
    return True


@view(samples=[(floats(2, 3),), (floats(3),)])
def t(y, x):
    """The transpose of a matrix; vectors and scalars as they are."""
    if x.ndim > 2:
        return False
    for i in range(x.ndim):
        y.shape[i], y.strides[i] = x.shape[x.ndim - 1 - i], x.strides[x.ndim - 1 - i]
    return True


@view(samples=[(floats(2, 3, 2),)])
def reverse_dimensions(y, x):
    """The tensor with its dimensions reversed, sharing memory."""
    for i in range(x.ndim):
        y.shape[i], y.strides[i] = x.shape[x.ndim - 1 - i], x.strides[x.ndim - 1 - i]
    return True


@view(overlaps=True, samples=[(floats(2, 1), (2, 3)), (floats(3), (2, -1)), (floats(), (2,))])
def expand(y, x, size: SIZES):
    """The tensor broadcast to a shape, without a copy; -1 keeps a size."""
    lead = size[1] - x.ndim
    if lead < 0:
        return False
    y.ndim = size[1]
    for i in range(y.ndim - 1, -1, -1):
        n = item(size, i)
        if i < lead:
            if n < 0:
                return False
            y.shape[i], y.strides[i] = n, 0
        elif n == -1 or n == x.shape[i - lead]:
            y.shape[i], y.strides[i] = x.shape[i - lead], x.strides[i - lead]
        elif x.shape[i - lead] == 1 and n >= 0:
            y.shape[i], y.strides[i] = n, 0
        else:
            return False
    return True


@view(
    overlaps=True,
    samples=[(floats(2), (2, 3), (1,), False), (floats(2, 1), (2, 3), 1, True), (floats(), (2, 3), None, False)],
)
def spread(y, x, size: SIZES, dim: DIMS, keepdim: FLAG):
    """What a reduction over `dim` left, put back along those dimensions without a copy."""
    y.ndim, j = size[1], 0
    for i in range(y.ndim):
        gone = dim[1] <= 0
        for k in range(dim[1]):
            gone |= wrap(item(dim, k), y.ndim) == i
        y.shape[i] = item(size, i)
        if gone:
            y.strides[i] = 0
            j += keepdim
        else:
            y.strides[i] = x.strides[j]
            j += 1
    return True


@view(samples=[(floats(2, 3), 1, -1), (floats(3), 0, 1)])
def select(y, x, dim: INT, index: INT):
    """One slice of a dimension, without that dimension."""
    d = wrap(dim, x.ndim)
    if x.ndim == 0 or d < 0 or not -x.shape[d] <= index < x.shape[d]:
        return False
    y.data += (index if index >= 0 else index + x.shape[d]) * x.strides[d]
    y.ndim -= 1
    for i in range(d, y.ndim):
        y.shape[i], y.strides[i] = x.shape[i + 1], x.strides[i + 1]
    return True


@view(samples=[(floats(2, 3), 1, 1, 2), (floats(2, 3), 0, -1, 1)])
def narrow(y, x, dim: INT, start: INT, length: INT):
    """`length` slices of a dimension, from `start` on."""
    d = wrap(dim, x.ndim)
    if x.ndim == 0 or d < 0:
        return False
    n = x.shape[d]
    first = start if start >= 0 else start + n
    if not 0 <= first <= n or length < 0 or first + length > n:
        return False
    y.data += first * x.strides[d]
    y.shape[d] = length
    return True


@view(samples=[(floats(5, 2), 0, 0, 2, 3), (floats(2, 4), 1, 3, -1, 4)])
def slice(y, x, dim: INT, start: INT, step: INT, length: INT):
    """Every `step`-th slice of a dimension, `length` of them, from `start` on; the step may be negative."""
    y.data += start * x.strides[dim] if length else 0
    y.shape[dim], y.strides[dim] = length, x.strides[dim] * step
    return True


@view(samples=[(floats(2, 3), 1), (floats(), -1)])
def unsqueeze(y, x, dim: INT):
    """The tensor with a dimension of size 1 put in."""
    d = wrap(dim, x.ndim + 1)
    if d < 0 or x.ndim == len(y.shape):
        return False
    y.ndim += 1
    for i in range(x.ndim, d, -1):
        y.shape[i], y.strides[i] = x.shape[i - 1], x.strides[i - 1]
    y.shape[d] = 1
    y.strides[d] = x.shape[d] * x.strides[d] if d < x.ndim else x.itemsize
    return True


@view(samples=[(floats(2, 1, 1),), (floats(2, 1, 1), 1), (floats(2, 1, 1), (1, 2))])
def squeeze(y, x, dim: DIMS = None):
    """The tensor without its dimensions of size 1: all of them, or those that are named."""
    gone = 0
    for k in range(dim[1]):
        d = wrap(item(dim, k), x.ndim)
        if d < 0:
            return False
        gone |= 1 << d
    y.ndim = 0
    for i in range(x.ndim):
        if not (x.shape[i] == 1 and (dim[1] < 0 or gone >> i & 1)):
            y.shape[y.ndim], y.strides[y.ndim] = x.shape[i], x.strides[i]
            y.ndim += 1
    return True


@view(samples=[(floats(3, 3),), (floats(2, 3, 2), 1, 2, -2)])
def diagonal(y, x, offset: INT = 0, dim1: INT = 0, dim2: INT = 1):
    """The diagonal of two dimensions, as the last dimension."""
    i, j = wrap(dim1, x.ndim), wrap(dim2, x.ndim)
    if x.ndim < 2 or i < 0 or j < 0 or i == j:
        return False
    n = min(x.shape[i], x.shape[j] - offset) if offset >= 0 else min(x.shape[i] + offset, x.shape[j])
    if n > 0:
        y.data += offset * x.strides[j] if offset >= 0 else -offset * x.strides[i]
    y.ndim = 0
    for k in range(x.ndim):
        if k != i and k != j:
            y.shape[y.ndim], y.strides[y.ndim] = x.shape[k], x.strides[k]
            y.ndim += 1
    y.shape[y.ndim], y.strides[y.ndim] = max(n, 0), x.strides[i] + x.strides[j]
    y.ndim += 1
    return True


@view(overlaps=True, samples=[(floats(5), 0, 3, 1), (floats(2, 4), 1, 2, 2)])
def unfold(y, x, dimension: INT, size: INT, step: INT):
    """Windows of a dimension, which become a last dimension."""
    d = wrap(dimension, x.ndim)
    if d < 0 or size < 0 or step <= 0 or x.ndim == len(y.shape):
        return False
    n, stride = (x.shape[d], x.strides[d]) if x.ndim else (1, x.itemsize)
    if size > n:
        return False
    y.ndim += 1
    y.shape[x.ndim], y.strides[x.ndim] = size, stride
    if x.ndim:
        y.shape[d], y.strides[d] = (n - size) // step + 1, stride * step
    return True


@view(overlaps=True, samples=[(floats(2, 3), (2, 3), (24, 8), (2, 2), (8, 8), 8)])
def as_strided(y, x, layout: SIZES, steps: SIZES, size: SIZES, stride: SIZES, offset: INT):
    """Any shape and strides (in bytes) over the storage; `layout` and `steps` are the shape and strides of x, for its gradient."""
    if size[1] != stride[1]:
        return False
    y.ndim = size[1]
    y.data += offset
    low = high = y.data
    empty = False
    for i in range(y.ndim):
        n, step = item(size, i), item(stride, i)
        if n < 0:
            return False
        empty |= n == 0
        y.shape[i], y.strides[i] = n, step
        low += min((n - 1) * step, 0)
        high += max((n - 1) * step, 0)
    storage = storage_at(x.storage)
    return empty or (low >= storage.data and high + x.itemsize <= storage.data + storage.nbytes)


@view(run=natives.same_memory, samples=[(floats(2, 3), (3, -1))])
def view_as_shape(x: TENSOR, size: SIZES):
    """The same memory in another shape."""


@view(run=natives.same_elements, samples=[(floats(2, 3), (3, 2)), (floats(2, 3), (-1,))])
def reshape(x: TENSOR, shape: SIZES):
    """The same elements in another shape; the same memory where that is possible."""


@view(run=natives.rows_of, samples=[(floats(2, 3, 2),)])
def as_rows(x: TENSOR):
    """All dimensions but the last joined: a matrix."""


@structured(run=natives.copy_of, there="same", halves=EVERYWHERE, samples=[(floats(2, 3),)])
def clone(x: TENSOR):
    """A copy of the tensor."""


# What moves elements without dropping any is undone without a copy; for other views the gradient is put into zeros.
transpose.backward(x=lambda grad, dim0, dim1: transpose(grad, dim0, dim1))
permute.backward(x=lambda grad, dims: unpermute(grad, dims))
unpermute.backward(x=lambda grad, dims: permute(grad, dims))
t.backward(x=lambda grad: t(grad))
reverse_dimensions.backward(x=lambda grad: reverse_dimensions(grad))
as_strided.backward(
    x=lambda grad, layout, steps, size, stride, offset: OPS["placed"](grad, layout, steps, size, stride, offset)
)
expand.backward(x=same)
clone.backward(x=same)
unsqueeze.backward(x=lambda grad, input_shape: reshape(grad, input_shape))
squeeze.backward(x=lambda grad, input_shape: reshape(grad, input_shape))
reshape.backward(x=lambda grad, input_shape: reshape(grad, input_shape))
as_rows.internal().backward(x=lambda grad, input_shape: reshape(grad, input_shape))
view_as_shape.backward(x=lambda grad, input_shape: reshape(grad, input_shape))


# Where a view lies in its base: shape and strides (in bytes) of the base and of the view, and the bytes between their first elements.


@structured(
    run=natives.region, there="same", halves=EVERYWHERE, samples=[(floats(2, 3), (2, 3), (24, 8), (2, 2), (24, 16), 0)]
)
def region(x: TENSOR, layout: SIZES, steps: SIZES, shape: SIZES, strides: SIZES, offset: INT):
    """What lies at a part of x, once x is laid out as given."""


@structured(
    run=natives.placed, there="same", halves=EVERYWHERE, samples=[(floats(2, 2), (2, 3), (24, 8), (2, 2), (24, 16), 0)]
)
def placed(x: TENSOR, layout: SIZES, steps: SIZES, shape: SIZES, strides: SIZES, offset: INT):
    """Zeros in a layout, with x added at a part."""


@structured(
    run=natives.without, there="same", halves=EVERYWHERE, samples=[(floats(2, 3), (2, 3), (24, 8), (2, 2), (24, 16), 0)]
)
def without(x: TENSOR, layout: SIZES, steps: SIZES, shape: SIZES, strides: SIZES, offset: INT):
    """x, laid out as given, with zeros at a part."""


region.backward(
    x=lambda grad, layout, steps, shape, strides, offset: placed(grad, layout, steps, shape, strides, offset)
)
placed.backward(
    x=lambda grad, layout, steps, shape, strides, offset: region(grad, layout, steps, shape, strides, offset)
)
without.backward(
    x=lambda grad, layout, steps, shape, strides, offset: without(grad, layout, steps, shape, strides, offset)
)


@structured(samples="only ever recorded: its rules are samples of the three above")
def copy_slices(base: TENSOR, part: TENSOR, layout: SIZES, steps: SIZES, shape: SIZES, strides: SIZES, offset: INT):
    """A write to a part of a tensor; only ever recorded."""


@structured(samples="only ever recorded: its rule is a sample of `placed`")
def as_strided_view(base: TENSOR, part: TENSOR, layout: SIZES, steps: SIZES, shape: SIZES, strides: SIZES, offset: INT):
    """A view whose history was made anew from its base's; only ever recorded."""


copy_slices.backward(
    base=lambda grad, layout, steps, shape, strides, offset: without(grad, layout, steps, shape, strides, offset),
    part=lambda grad, layout, steps, shape, strides, offset: region(grad, layout, steps, shape, strides, offset),
)
as_strided_view.backward(
    base=lambda grad, layout, steps, shape, strides, offset: placed(grad, layout, steps, shape, strides, offset)
)
for op, name in (
    (copy_slices, "CopySlices"),
    (as_strided_view, "AsStridedBackward0"),
    (view_as_shape, "ViewBackward0"),
    (reverse_dimensions, "PermuteBackward0"),
):
    op.shown = name
for op in (unpermute, reverse_dimensions, spread, slice, as_strided, view_as_shape, region, placed, without):
    op.internal()
for op in (copy_slices, as_strided_view):
    op.internal()
as_strided_view.constant("part")
