"""Operations along one dimension: softmax, normalisation, scans, extrema, sorting."""

import math

import numpy as np

from kernels_cpu import extremum, scan, softmax_grad, sort
from kernels_cpu import layer_norm as norm_kernels
from kernels_cpu import softmax as softmax_kernels
from numbatensor.core import device_sort, norms, row_ops
from numbatensor.core.autocast import FULL
from numbatensor.core.table import MIXES, ON_DEVICES, WIDE
from numbatensor.exchange import from_array
from numbatensor.op import EXACT, FLAG, FLOATING, INDEX, INT, NUMBER, OPTIONAL, TENSOR, same, structured
from numbatensor.ops.arranging import cat, flip
from numbatensor.ops.elementary import exp
from numbatensor.ops.reductions import mean, others, prod, sum
from numbatensor.ops.transcendental import rsqrt
from numbatensor.ops.views import spread, unpermute
from numbatensor.samples import floats

ALONG = [(floats(2, 3), 1), (floats(2, 3, 2), -2), (floats(), 0), (floats(0, 3), 1)]
EXTREMA = [(floats(2, 3),), (floats(2, 3), 1), (floats(2, 3), 0, True)]


def walks(*factories):
    """Kernels of three words, over rows or over columns."""
    return tuple((factory, 3, EXACT) for factory in factories)


def groups(name, passes=True):
    """The kernels of devices for a row of a warp, of a block, and for those that are too long for registers."""
    return [f"{name}_by_{word}" for word in ("warp", "block", "passes")[: 3 if passes else 2]]


@structured(
    halves=ON_DEVICES,
    run=row_ops.softmax,
    kernels=walks(*softmax_kernels.SOFTMAX),
    dtypes=FLOATING,
    samples=ALONG,
    there="same",
    there_kernels=groups("softmax:softmax"),
)
def softmax(x: TENSOR, dim: INT):
    """Exponentials along a dimension, divided by their sum."""


@structured(
    halves=ON_DEVICES,
    run=row_ops.softmax,
    kernels=walks(*softmax_kernels.LOG_SOFTMAX),
    dtypes=FLOATING,
    samples=ALONG,
    there="same",
    there_kernels=groups("softmax:log_softmax"),
)
def log_softmax(x: TENSOR, dim: INT):
    """Logarithm of the softmax along a dimension."""


@structured(
    halves=ON_DEVICES,
    run=row_ops.softmax_grad,
    kernels=walks(*softmax_grad.SOFTMAX_GRAD),
    dtypes=FLOATING,
    samples=[(floats(2, 3), floats(2, 3), 1)],
    there="same",
    there_kernels=groups("softmax_grad:softmax_grad"),
)
def softmax_slope(grad: TENSOR, out: TENSOR, dim: INT):
    """``(grad - sum(grad * out)) * out``"""


@structured(
    halves=ON_DEVICES,
    run=row_ops.softmax_grad,
    kernels=walks(*softmax_grad.LOG_SOFTMAX_GRAD),
    dtypes=FLOATING,
    samples=[(floats(2, 3), floats(2, 3), 1)],
    there="same",
    there_kernels=groups("softmax_grad:log_softmax_grad"),
)
def log_softmax_slope(grad: TENSOR, out: TENSOR, dim: INT):
    """``grad - exp(out) * sum(grad)``"""


softmax.backward(x=lambda grad, out, dim: softmax_slope(grad, out, dim))
softmax.formula(x=lambda grad, out, dim: (grad - sum(grad * out, dim, True)) * out)
log_softmax.backward(x=lambda grad, out, dim: log_softmax_slope(grad, out, dim))
log_softmax.formula(x=lambda grad, out, dim: grad - exp(out) * sum(grad, dim, True))


@structured(
    halves=ON_DEVICES,
    run=row_ops.logsumexp,
    kernels=walks(*softmax_kernels.LOGSUMEXP),
    dtypes=FLOATING,
    samples=[*ALONG, (floats(2, 3), 1, True)],
    there="same",
    there_kernels=groups("softmax:logsumexp"),
)
def logsumexp(x: TENSOR, dim: INT, keepdim: FLAG = False):
    """Logarithm of the sum of exponentials along a dimension."""


logsumexp.backward(
    x=lambda grad, out, x, dim, keepdim, input_shape: (
        spread(grad, input_shape, dim, keepdim) * exp(x - spread(out, input_shape, dim, keepdim))
    )
)


@structured(
    halves=MIXES | ON_DEVICES,
    run=norms.layer_norm,
    kernels=walks(norm_kernels.layer_norm),
    dtypes=FLOATING,
    samples=[(floats(2, 4), floats(4), floats(4), 4, 1e-5), (floats(2, 3, 4), None, None, 4, 1e-5)],
    there="device_norms:layer_norm_there",
    there_kernels=groups("layer_norm:layer_norm") + groups("layer_norm:mixed"),
)
def layer_norm(x: TENSOR, weight: OPTIONAL, bias: OPTIONAL, n: INT, eps: NUMBER):
    """The last dimension (of n elements) shifted and scaled to mean 0 and variance 1 (Ba et al., 2016), then by weight and bias."""


@structured(
    halves=MIXES | ON_DEVICES,
    run=norms.layer_norm_grad,
    kernels=walks(norm_kernels.layer_norm_grad),
    dtypes=FLOATING,
    samples=[(floats(2, 4), floats(2, 4), floats(4), 4, 1e-5)],
    there="device_norms:layer_norm_grad_there",
    there_kernels=groups("layer_norm:layer_norm_grad") + groups("layer_norm:mixed_grad"),
)
def layer_norm_slope(grad: TENSOR, x: TENSOR, weight: OPTIONAL, n: INT, eps: NUMBER):
    """The gradient of what `layer_norm` normalises."""


@structured(
    halves=MIXES | WIDE | ON_DEVICES,
    run=norms.layer_norm_grad_weight,
    kernels=walks(norm_kernels.layer_norm_grad_weight, norm_kernels.add_rows),
    dtypes=FLOATING,
    samples=[(floats(2, 4), floats(2, 4), 4, 1e-5)],
    there="device_norms:layer_norm_grad_weight_there",
    there_kernels=[*groups("layer_norm:moments"), "layer_norm:layer_norm_grad_weight"],
)
def layer_norm_slope_of_weight(grad: TENSOR, x: TENSOR, n: INT, eps: NUMBER):
    """The gradient of the weight of `layer_norm`."""


def normalised(x, eps):
    """x with mean 0 and variance 1 along the last dimension, and what it was multiplied with."""
    centred = x - mean(x, -1, True)
    scale = rsqrt(mean(centred * centred, -1, True) + eps)
    return centred * scale, scale


def layer_norm_formula(grad, x, weight, eps):
    out, scale = normalised(x, eps)
    grad = grad if weight is None else grad * weight
    return scale * (grad - mean(grad, -1, True) - out * mean(grad * out, -1, True))


layer_norm.backward(
    x=lambda grad, x, weight, n, eps: layer_norm_slope(grad, x, weight, n, eps),
    weight=lambda grad, x, n, eps: layer_norm_slope_of_weight(grad, x, n, eps),
    bias=same,
)
layer_norm.formula(x=layer_norm_formula, weight=lambda grad, x, eps: grad * normalised(x, eps)[0])


@structured(
    halves=ON_DEVICES,
    run=row_ops.cumsum,
    kernels=walks(*scan.CUMSUM),
    samples=ALONG,
    there="same",
    there_kernels=groups("scan:cumsum", False),
)
def cumsum(x: TENSOR, dim: INT):
    """Sum of the elements so far along a dimension."""


@structured(
    halves=ON_DEVICES,
    run=row_ops.cumsum,
    kernels=walks(*scan.CUMPROD),
    samples=[*ALONG, ([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0]], 1)],
    there="same",
    there_kernels=groups("scan:cumprod", False),
)
def cumprod(x: TENSOR, dim: INT):
    """Product of the elements so far along a dimension."""


def cumprod_rule(grad, out, x, dim):
    """For each element, the sum over the products it is part of, without it; exact where elements are zero."""
    if x.ndim == 0:
        return grad
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
        chosen = part * from_array(here).to(x.device, x.dtype)
        total = chosen if total is None else total + chosen
    return total


cumsum.backward(x=lambda grad, dim: flip(cumsum(flip(grad, dim), dim), dim))
cumprod.backward(x=cumprod_rule)


def others_by_scans(grad, x, input_shape, dim, keepdim):
    """`others`, with all derivatives where elements are zero: what comes before each element, times what comes after it."""
    if x.numel() == 0 or not (x == 0.0).any():
        return others(grad, x, input_shape, dim, keepdim)
    dims = [dim] if isinstance(dim, int) else dim or range(x.ndim)
    dims = [d % x.ndim for d in dims]
    order = [d for d in range(x.ndim) if d not in dims] + dims
    turned = x.permute(order)
    rows = turned.reshape(-1, math.prod(input_shape[d] for d in dims))
    m, n = rows.shape
    one = from_array(np.ones((m, 1), x.dtype.numpy)).to(x.device, x.dtype)
    before = cumprod(cat((one, rows.narrow(1, 0, n - 1)), 1), 1)
    after = flip(cumprod(cat((one, flip(rows.narrow(1, 1, n - 1), 1)), 1), 1), 1)
    alone = unpermute((before * after).reshape(turned.shape), order)
    return spread(grad, input_shape, dim, keepdim) * alone


prod.formula(x=others_by_scans)


@structured(
    halves=ON_DEVICES,
    run=row_ops.argmax,
    kernels=walks(*extremum.ARGMAX),
    samples=EXTREMA,
    there="same",
    there_kernels=groups("extremum:argmax", False),
)
def argmax(x: TENSOR, dim: INDEX = None, keepdim: FLAG = False):
    """Index of the largest element, of all or along a dimension; the first of several, NaN before all."""


@structured(
    halves=ON_DEVICES,
    run=row_ops.argmax,
    kernels=walks(*extremum.ARGMIN),
    samples=EXTREMA,
    there="same",
    there_kernels=groups("extremum:argmin", False),
)
def argmin(x: TENSOR, dim: INDEX = None, keepdim: FLAG = False):
    """Index of the smallest element, of all or along a dimension; the first of several, NaN before all."""


@structured(
    run=row_ops.argsort,
    there=device_sort.argsort_there,
    there_kernels={0: "sort:sort_tiles", 1: "sort:merge_runs", 2: "sort:ranks"},
    kernels=walks(sort.argsort),
    samples=[(floats(2, 3),), (floats(2, 3), 0, True)],
)
def argsort(x: TENSOR, dim: INT = -1, descending: FLAG = False, stable: FLAG = False):
    """Indices that sort a dimension; equal elements stay in order, NaN counts as largest."""


@structured(
    run=row_ops.topk_indices,
    there=device_sort.topk_indices_there,
    kernels=walks(sort.topk_few, sort.topk_many),
    samples=[(floats(2, 3), 2), (floats(3, 2), 1, 0, False)],
)
def topk_indices(x: TENSOR, k: INT, dim: INT = -1, largest: FLAG = True, sorted: FLAG = True):
    """Indices of the k largest or smallest elements of a dimension, in order."""


for op in (argmax, argmin, argsort, topk_indices):
    op.internal().constant("x")
for op in (softmax, log_softmax, softmax_slope, log_softmax_slope, logsumexp, cumsum, cumprod):
    op.internal()
for op in (layer_norm, layer_norm_slope, layer_norm_slope_of_weight):
    op.internal()
for op in (softmax, log_softmax, logsumexp, cumsum, cumprod, layer_norm):
    op.under_autocast(cuda=FULL)
for op in (softmax_slope, log_softmax_slope, layer_norm_slope, layer_norm_slope_of_weight):
    op.constant(*op.tensor_names)  # under `create_graph` the formulas are used
