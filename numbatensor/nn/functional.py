"""Layers and losses as functions."""

import math

import numbatensor as nt

tanh, sigmoid, softplus = nt.tanh, nt.sigmoid, nt.softplus


def activation(name):
    """The function of an activation, with PyTorch's `inplace`."""
    op, in_place = getattr(nt, name), getattr(nt.Tensor, name + "_")

    def function(input, *args, inplace=False, **options):
        return in_place(input, *args, **options) if inplace else op(input, *args, **options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


relu, leaky_relu, elu, selu, silu, hardtanh, mish = map(
    activation, ("relu", "leaky_relu", "elu", "selu", "silu", "hardtanh", "mish")
)
softmax, log_softmax = nt.softmax, nt.log_softmax


def gelu(input, approximate="none"):
    """Each element times the normal distribution function at it; `approximate` is "none" (erf) or "tanh"."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return nt.ops.activations.gelu_tanh(input) if approximate == "tanh" else nt.ops.activations.gelu_erf(input)


def linear(input, weight, bias=None):
    """``input @ weight.T + bias``"""
    if weight.ndim == 1:
        out = input @ weight
        return out if bias is None else out + bias
    return nt.ops.structured.linear(input, weight, bias)


def embedding(input, weight, padding_idx=None):
    """Rows of a table, by number; the row `padding_idx` gets no gradient."""
    rows = weight[input]
    if padding_idx is None:
        return rows
    if not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise AssertionError("Padding_idx must be within num_embeddings")
    padded = (input == padding_idx % weight.shape[0]).unsqueeze(-1)
    return nt.where(padded, rows.detach(), rows)


def dropout(input, p=0.5, training=True, generator=None):
    """Elements set to zero with probability p, the others divided by ``1 - p``."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    if not input.is_floating_point():
        raise RuntimeError(f"dropout: expected a floating-point tensor, got {input.dtype.name}")
    return input * nt.random.dropout_mask(input, p, generator)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-05):
    """The last dimensions shifted and scaled to mean 0 and variance 1 (Ba et al., 2016), then by weight and bias."""
    shape, ndim = tuple(normalized_shape), len(normalized_shape)
    if ndim == 0 or tuple(input.shape[input.ndim - ndim :]) != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {', '.join(map(str, shape))}], but got input of "
            f"size{list(input.shape)}"
        )
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape {list(t.shape)} and "
                f"normalized_shape = {list(shape)}"
            )
    n = math.prod(shape)
    if ndim == 1:
        return nt.ops.rows.layer_norm(input, weight, bias, n, float(eps))
    weight, bias = (None if t is None else t.reshape(n) for t in (weight, bias))
    lead = input.shape[: input.ndim - ndim]
    return nt.ops.rows.layer_norm(input.reshape(*lead, n), weight, bias, n, float(eps)).reshape(input.shape)


def reduce(loss, reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


@nt.amp.in_float32
def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """Negative of the log-probability of each target class.

    Parameters
    ----------
    input : Tensor
        Log-probabilities, (C,), (N, C) or (N, C, d1, ...).
    target : Tensor
        Classes, int64: (), (N,) or (N, d1, ...).
    weight : Tensor, optional
        Of each class, (C,); the mean is divided by the sum of the targets' weights.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if target.dtype is not nt.int64:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.name}")
    number = REDUCTIONS[reduction]
    if input.ndim == 1:
        out = nt.ops.indexing.nll_loss(input.unsqueeze(0), target.reshape(1), weight, ignore_index, number)
        return out.reshape(()) if reduction == "none" else out
    if input.ndim == 2:
        return nt.ops.indexing.nll_loss(input, target, weight, ignore_index, number)
    if input.ndim == 0 or tuple(target.shape) != (input.shape[0], *input.shape[2:]):
        raise RuntimeError(
            f"Expected target size {[input.shape[0], *input.shape[2:]] if input.ndim else []}, got {list(target.shape)}"
        )
    flat = input.movedim(1, -1).reshape(-1, input.shape[1])
    out = nt.ops.indexing.nll_loss(flat, target.reshape(-1), weight, ignore_index, number)
    return out.reshape(target.shape) if reduction == "none" else out


@nt.amp.in_float32
def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Negative log-likelihood of classes under the softmax of logits.

    `input`: (C,), (N, C) or (N, C, d1, ...) logits. `target`: classes (int64) of the shape without C, or probabilities (floats) of
    the shape of `input`.
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = 0 if input.ndim == 1 else 1
    logp = log_softmax(input, dim)
    classes = input.shape[dim]
    scaled = lambda x: x if weight is None else x * weight.reshape([classes] + [1] * (input.ndim - dim - 1))
    if target.is_floating_point():
        if target.shape != input.shape:
            raise RuntimeError(
                f"Expected floating point type for target with class probabilities to have the shape of input: {list(target.shape)} "
                f"and {list(input.shape)}"
            )
        target = target * (1.0 - label_smoothing) + label_smoothing / classes if label_smoothing else target
        loss = -scaled(logp * target).sum(dim)
        return loss.sum() / max(loss.numel(), 1) if reduction == "mean" else reduce(loss, reduction)
    loss = nll_loss(logp, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    used = (target != ignore_index).to(input.dtype)
    spread = -scaled(logp).sum(dim) * used
    if reduction == "mean":
        kept = used if weight is None else weight[nt.where(target != ignore_index, target, 0)] * used
        spread = spread.sum() / kept.sum()
    else:
        spread = reduce(spread, reduction)
    return loss * (1.0 - label_smoothing) + spread * (label_smoothing / classes)


@nt.amp.in_float32
def mse_loss(input, target, reduction="mean"):
    """Square of each difference."""
    d = input - target
    return reduce(d * d, reduction)


@nt.amp.in_float32
def l1_loss(input, target, reduction="mean"):
    """Magnitude of each difference."""
    return reduce((input - target).abs(), reduction)


@nt.amp.in_float32
def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    """Cross entropy of yes-or-no targets under the logistic function of logits, without overflow."""
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    low = nt.softplus(-input, 1.0, math.inf)
    low = low if pos_weight is None else ((pos_weight - 1.0) * target + 1.0) * low
    loss = (1.0 - target) * input + low
    return reduce(loss if weight is None else loss * weight, reduction)
