"""Batching rules of views for which the view of one entry is not enough: cheaper gradients, and copies where those are needed."""

from numbatensor.func.batched import Batched, aligned
from numbatensor.func.rules import moved, tried
from numbatensor.ops import structured, views
from numbatensor.tensor import wrap_dim

for op in (views.transpose, views.select, views.narrow, views.slice, views.diagonal, views.unfold):
    op.batched(moved)


def order(op, level, x, dims):
    """A permutation, which leaves the batch in front."""
    if len(dims) != x.ndim:
        op.explain(x, dims)
    return Batched(tried(op, (x, dims), lambda: op.fast(x.value, (0, *[wrap_dim(d, x.ndim) + 1 for d in dims]))), level)


views.permute.batched(order)


def reversed_(op, level, x):
    """`t` and `T`."""
    if op is views.t and x.ndim > 2:
        op.explain(x)
    return Batched(views.permute(x.value, 0, *range(x.ndim, 0, -1)), level)


views.t.batched(reversed_)
views.reverse_dimensions.batched(reversed_)


def expand(op, level, x, size):
    """Sizes behind the batch's."""
    lead = len(size) - x.ndim
    if lead < 0 or any(n < 0 for n in size[:lead]):
        op.explain(x, size)
    return Batched(tried(op, (x, size), lambda: op.fast(aligned(x, level, len(size)), (level.size, *size))), level)


views.expand.batched(expand)


def unsqueeze(op, level, x, dim):
    d = wrap_dim(dim, x.ndim + 1)
    return Batched(tried(op, (x, dim), lambda: op.fast(x.value, d + 1)), level)


views.unsqueeze.batched(unsqueeze)


def squeeze(op, level, x, dim):
    """Never the batch, even if it has one entry."""
    dims = range(x.ndim) if dim is None else [wrap_dim(d, x.ndim) for d in ((dim,) if isinstance(dim, int) else dim)]
    gone = tuple(d + 1 for d in dims if d < x.ndim and x.shape[d] == 1)
    return Batched(op.fast(x.value, gone), level)


views.squeeze.batched(squeeze)


def shape(op, level, x, size):
    """An entry's sizes behind the batch's; -1 is found from an entry's."""
    known = 1
    for n in size:
        known *= n if n != -1 else 1
    if list(size).count(-1) > 1 or (-1 in size and (known == 0 or x.numel() % known)) or min(size, default=0) < -1:
        op.explain(x, size)
    size = tuple(x.numel() // known if n == -1 else n for n in size)
    return Batched(tried(op, (x, size), lambda: op.fast(x.value, (level.size, *size))), level)


views.reshape.batched(shape)
views.view_as_shape.batched(shape)
views.clone.batched(lambda op, level, x: Batched(op.fast(x.value), level))


def matmul(op, level, x, y):
    """Products of batches of matrices; a matrix that is not mapped, times vectors that are, is one product."""
    from_left = not (isinstance(x, Batched) and x.level is level)
    if from_left and x.ndim == 2 and y.ndim == 2 and y.shape[1] == 1 and x.shape[1] == y.shape[0]:
        return Batched(op.fast(y.value.squeeze(2), x.mT).unsqueeze(2), level)
    ndim = max(x.ndim, y.ndim)
    return Batched(tried(op, (x, y), lambda: op.fast(aligned(x, level, ndim), aligned(y, level, ndim))), level)


structured.matmul.batched(matmul)
