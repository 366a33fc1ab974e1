"""Picking and placing by index. Index tensors are integers of one shape; `first` is the first dimension that they are for."""

from kernels_cpu import index as kernels
from kernels_cpu import nll
from numbatensor.core import device_masks, device_nll, index, masks
from numbatensor.core import gather as gathering
from numbatensor.core import nll as likelihood
from numbatensor.core.autocast import WIDEST
from numbatensor.op import EVERYWHERE, EXACT, FLOATING, INT, ON_CPU, OPTIONAL, SIZES, TENSOR, same, structured
from numbatensor.ops.elementary import nothing
from numbatensor.samples import floats, reals, truths, whole

NONE = (None,) * 4  # the index tensors that are not given


def moves(*factories):
    """Kernels of two words."""
    return tuple((factory, 2, EXACT) for factory in factories)


@structured(
    run=index.pick,
    there="same",
    halves=EVERYWHERE,
    there_kernels={0: "index:take", 1: "index:offsets"},
    kernels=moves(kernels.take),
    samples=[
        (floats(3, 2), [2, 0, 2]),
        (floats(2, 3, 2), [[2, 0], [1, 1]], *NONE, 1),
        (floats(2, 3), [1, 0, 1], [2, 0, 2]),
        (floats(0, 2), []),
    ],
)
def pick(
    x: TENSOR, i: TENSOR, j: OPTIONAL = None, k: OPTIONAL = None, m: OPTIONAL = None, n: OPTIONAL = None, first: INT = 0
):
    """``x[:, i, j]``: the elements at an index."""


@structured(
    run=index.place,
    there="same",
    kernels=moves(kernels.add_at),
    samples=[(floats(3, 2), [2, 0, 2], *NONE, 0, (3, 2)), (floats(2, 1, 3), [[0, 2, 2]], *NONE, 1, (2, 3))],
)
def place(x: TENSOR, i: TENSOR, j: OPTIONAL, k: OPTIONAL, m: OPTIONAL, n: OPTIONAL, first: INT, size: SIZES):
    """Zeros of a size, with x added at an index; repeated places add up."""


@structured(
    run=index.replace,
    there="same",
    halves=EVERYWHERE,
    there_kernels={0: "index:replace"},
    kernels=moves(kernels.put),
    writes=2,
    samples=[(floats(3, 2), floats(2, 2), [2, 0], *NONE, 0), (floats(2, 3), floats(2, 2), [0, 2], *NONE, 1)],
)
def index_put(x: TENSOR, y: TENSOR, i: TENSOR, j: OPTIONAL, k: OPTIONAL, m: OPTIONAL, n: OPTIONAL, first: INT):
    """x with y put at an index, in place."""


@structured(
    run=index.add_at,
    there="same",
    there_kernels={0: "index:add_at"},
    kernels=moves(kernels.add_at),
    writes=2,
    samples=[(floats(3, 2), floats(3, 2), [2, 0, 2], *NONE, 0)],
)
def index_put_add(x: TENSOR, y: TENSOR, i: TENSOR, j: OPTIONAL, k: OPTIONAL, m: OPTIONAL, n: OPTIONAL, first: INT):
    """x with y added at an index, in place; repeated places add up."""


@structured(
    run=index.cleared_at,
    there="same",
    halves=EVERYWHERE,
    kernels=moves(kernels.put),
    samples=[(floats(3, 2), [2, 0, 2], *NONE, 0)],
)
def cleared_at(x: TENSOR, i: TENSOR, j: OPTIONAL, k: OPTIONAL, m: OPTIONAL, n: OPTIONAL, first: INT):
    """A copy of x with zeros at an index."""


pick.backward(x=lambda grad, i, j, k, m, n, first, input_shape: place(grad, i, j, k, m, n, first, input_shape))
place.backward(x=lambda grad, i, j, k, m, n, first: pick(grad, i, j, k, m, n, first))
cleared_at.backward(x=lambda grad, i, j, k, m, n, first: cleared_at(grad, i, j, k, m, n, first))
index_put.backward(
    x=lambda grad, i, j, k, m, n, first: cleared_at(grad, i, j, k, m, n, first),
    y=lambda grad, i, j, k, m, n, first: pick(grad, i, j, k, m, n, first),
)
index_put_add.backward(x=same, y=lambda grad, i, j, k, m, n, first: pick(grad, i, j, k, m, n, first))


@structured(
    run=index.index_select,
    there="same",
    halves=EVERYWHERE,
    kernels=moves(kernels.take),
    samples=[(floats(3, 2), [2, 0, 2], 0), (floats(2, 3), [1], -1)],
)
def select_slices(x: TENSOR, index: TENSOR, dim: INT):
    """Slices of a dimension, by number."""


@structured(
    run=index.index_select_grad,
    there="same",
    kernels=moves(kernels.add_at),
    samples=[(floats(3, 2), [2, 0, 2], (3, 2), 0)],
)
def place_slices(x: TENSOR, index: TENSOR, size: SIZES, dim: INT):
    """Zeros of a size, with slices added at numbers of a dimension."""


@structured(
    run=index.index_add,
    there="same",
    kernels=moves(kernels.add_at),
    writes=1,
    samples=[(floats(3, 2), [2, 0, 2], floats(3, 2), 0), (floats(2, 3), [1], floats(2, 1), 1)],
)
def add_slices(x: TENSOR, index: TENSOR, source: TENSOR, dim: INT):
    """A copy of x with slices added at numbers of a dimension."""


select_slices.backward(x=lambda grad, index, dim, input_shape: place_slices(grad, index, input_shape, dim))
place_slices.backward(x=lambda grad, index, dim: select_slices(grad, index, dim))
add_slices.backward(x=same, source=lambda grad, index, dim: select_slices(grad, index, dim))


@structured(
    run=gathering.gather,
    there="same",
    halves=EVERYWHERE,
    kernels=moves(kernels.gather),
    samples=[(floats(3, 2), [[2, 0], [2, 1]], 0), (floats(2, 3), [[2], [0]], 1)],
)
def gather(x: TENSOR, index: TENSOR, dim: INT):
    """``out[i, j] = x[index[i, j], j]`` for dim 0, and so on."""


@structured(
    run=gathering.gather_grad,
    there="same",
    kernels=moves(kernels.scatter_add),
    samples=[(floats(2, 2), [[2, 0], [2, 1]], (3, 2), 0)],
)
def gather_grad(x: TENSOR, index: TENSOR, size: SIZES, dim: INT):
    """Zeros of a size with ``out[index[i, j], j] += x[i, j]`` for dim 0, and so on."""


@structured(
    run=gathering.scatter,
    there="same",
    halves=EVERYWHERE,
    kernels=moves(kernels.scatter),
    writes=1,
    samples=[(floats(3, 2), [[2, 0], [1, 1]], floats(2, 2), 0)],
)
def scatter(x: TENSOR, index: TENSOR, src: TENSOR, dim: INT):
    """A copy of x with ``out[index[i, j], j] = src[i, j]`` for dim 0, and so on."""


@structured(
    run=gathering.scatter_add,
    there="same",
    kernels=moves(kernels.scatter_add),
    writes=1,
    samples=[(floats(3, 2), [[2, 0], [2, 1]], floats(2, 2), 0)],
)
def scatter_add(x: TENSOR, index: TENSOR, src: TENSOR, dim: INT):
    """A copy of x with ``out[index[i, j], j] += src[i, j]`` for dim 0, and so on."""


gather.backward(x=lambda grad, index, dim, input_shape: gather_grad(grad, index, input_shape, dim))
gather_grad.backward(x=lambda grad, index, dim: gather(grad, index, dim))
scatter.backward(
    x=lambda grad, index, dim: scatter(grad, index, nothing(gather(grad, index, dim)), dim),
    src=lambda grad, index, dim: gather(grad, index, dim),
)
scatter_add.backward(x=same, src=lambda grad, index, dim: gather(grad, index, dim))


@structured(
    run=masks.masked_select,
    there=device_masks.masked_select_there,
    halves=EVERYWHERE,
    kernels=moves(kernels.compress, kernels.count),
    samples=[(floats(2, 3), truths(2, 3))],
)
def masked_select(x: TENSOR, mask: TENSOR):
    """The elements where a mask is true, as a vector."""


@structured(
    run=masks.masked_scatter,
    there=device_masks.masked_scatter_there,
    halves=EVERYWHERE,
    kernels=moves(kernels.spread, kernels.count),
    samples=[(floats(2, 3), truths(2, 3), floats(3)), (None, truths(2, 3), floats(3))],
)
def masked_scatter(x: OPTIONAL, mask: TENSOR, source: TENSOR):
    """A copy of x (None: zeros) whose elements where the mask is true come, in order, from a source."""


masked_select.backward(x=lambda grad, mask: masked_scatter(None, mask, grad))
masked_scatter.backward(
    x=lambda grad, mask: masked_scatter(grad, mask, nothing(masked_select(grad, mask))),
    source=lambda grad, mask: masked_select(grad, mask),
)


@structured(
    run=masks.nonzero,
    there=device_masks.nonzero_there,
    halves=ON_CPU,
    there_kernels={0: "masks:count", 1: "masks:scan", 2: "masks:where", 3: "masks:unravel"},
    kernels=moves(kernels.count, kernels.places),
    samples=[(whole(0, 2),)],
)
def nonzero(x: TENSOR):
    """The indices of the elements that are not zero, one row each."""


@structured(
    run=likelihood.nll_loss,
    there=device_nll.nll_loss_there,
    there_kernels={0: "nll:check", 1: "nll:nll_loss", 2: "nll:nll_loss_grad", 3: "nll:weights"},
    kernels=moves(nll.nll_loss),
    dtypes=FLOATING,
    samples=[(floats(3, 4), [1, 3, 0], None, -100, 0), (floats(3, 4), [1, 3, 1], reals(0.2, 1.0, (4,)), 3, 1)],
)
def nll_loss(x: TENSOR, target: TENSOR, weight: OPTIONAL, ignore_index: INT, reduction: INT):
    """Minus the log-probability of each target class; `reduction` is 0 for each, 1 for their mean, 2 for their sum."""


@structured(
    run=likelihood.nll_loss_grad,
    there=device_nll.nll_loss_grad_there,
    kernels=moves(nll.nll_loss_grad),
    dtypes=FLOATING,
    samples=[
        (floats(3), floats(3, 4), [1, 3, 0], None, -100, 0),
        (floats(), floats(3, 4), [1, 3, 1], reals(0.2, 1.0, (4,)), 3, 1),
    ],
)
def nll_loss_grad(grad: TENSOR, x: TENSOR, target: TENSOR, weight: OPTIONAL, ignore_index: INT, reduction: INT):
    """The gradient of `nll_loss`."""


nll_loss.backward(
    x=lambda grad, x, target, weight, ignore_index, reduction: nll_loss_grad(
        grad, x, target, weight, ignore_index, reduction
    )
)
nll_loss_grad.backward(
    grad=lambda g, target, weight, ignore_index, reduction: nll_loss(g, target, weight, ignore_index, reduction)
)
for op in (pick, place, index_put, index_put_add, cleared_at, select_slices, place_slices, add_slices):
    op.internal()
for op in (gather, gather_grad, scatter, scatter_add, masked_select, masked_scatter, nonzero, nll_loss, nll_loss_grad):
    op.internal()
for op in (pick, place, index_put, index_put_add, cleared_at):
    op.constant("i", "j", "k", "m", "n")
for op in (select_slices, place_slices, add_slices, gather, gather_grad, scatter, scatter_add):
    op.constant("index")
for op in (masked_select, masked_scatter):
    op.constant("mask")
nonzero.constant("x")
nll_loss.constant("target", "weight")
nll_loss_grad.constant("x", "target", "weight")
for op in (index_put, index_put_add, scatter_add):
    op.under_autocast(cuda=WIDEST)
