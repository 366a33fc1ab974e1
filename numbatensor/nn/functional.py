"""Layers and losses as functions."""

import numbatensor as nt
from numbatensor.ops import activations

relu, leaky_relu, elu, selu, silu, softplus, hardtanh, mish, tanh, sigmoid = (
    nt.relu,
    nt.leaky_relu,
    nt.elu,
    nt.selu,
    nt.silu,
    nt.softplus,
    nt.hardtanh,
    nt.mish,
    nt.tanh,
    nt.sigmoid,
)
softmax, log_softmax = nt.softmax, nt.log_softmax


def gelu(input, approximate="none"):
    """Each element times the normal distribution function at it; `approximate` is "none" (erf) or "tanh"."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return activations.gelu_tanh(input) if approximate == "tanh" else activations.gelu_erf(input)


def linear(input, weight, bias=None):
    """``input @ weight.T + bias``"""
    out = input @ weight.t()
    return out if bias is None else out + bias


def embedding(input, weight, padding_idx=None):
    """Rows of a table, by number; the row `padding_idx` gets no gradient."""
    rows = weight[input]
    if padding_idx is None:
        return rows
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
    dims = list(range(input.ndim - len(normalized_shape), input.ndim))
    centred = input - input.mean(dims, keepdim=True)
    out = centred * ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def reduce(loss, reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """Negative of the log-probability of each target class. `input`: (N, C) or (C,) log-probabilities; `target`: (N,) or () classes."""
    if input.ndim == 1:
        return nll_loss(
            input.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, reduction if reduction != "none" else "sum"
        )
    if input.ndim != 2:
        raise RuntimeError(f"nll_loss: expected (N, C) log-probabilities, got {tuple(input.shape)}")
    if target.dtype is not nt.int64:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.name}")
    used = target != ignore_index
    safe = nt.where(used, target, 0)
    if safe.numel() and (int(safe.amin()) < 0 or int(safe.amax()) >= input.shape[1]):
        wrong = [t for t in safe.tolist() if not 0 <= t < input.shape[1]][0]
        raise IndexError(f"Target {wrong} is out of bounds.")
    scale = used.to(input.dtype) if weight is None else weight[safe] * used.to(input.dtype)
    loss = -input[nt.arange(input.shape[0]), safe] * scale
    return loss.sum() / scale.sum() if reduction == "mean" else reduce(loss, reduction)


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Negative log-likelihood of classes under the softmax of logits; `target` holds classes, or probabilities of a float dtype."""
    if input.ndim > 2:
        input = input.movedim(1, -1).reshape(-1, input.shape[1])
        target = (
            target.reshape(-1) if not target.is_floating_point() else target.movedim(1, -1).reshape(-1, input.shape[1])
        )
    logp = log_softmax(input, -1)
    if target.is_floating_point():
        classes = input.shape[-1]
        target = target * (1.0 - label_smoothing) + label_smoothing / classes if label_smoothing else target
        loss = -(logp * target * weight if weight is not None else logp * target).sum(-1)
        return loss.sum() / max(loss.numel(), 1) if reduction == "mean" else reduce(loss, reduction)
    loss = nll_loss(logp, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    used = (target != ignore_index).to(input.dtype)
    spread = -(logp if weight is None else logp * weight).sum(-1) * used
    if reduction == "mean":
        spread = spread.sum() / (
            used.sum() if weight is None else (weight[nt.where(target != ignore_index, target, 0)] * used).sum()
        )
    else:
        spread = reduce(spread, reduction)
    return loss * (1.0 - label_smoothing) + spread * (label_smoothing / input.shape[-1])


def mse_loss(input, target, reduction="mean"):
    """Square of each difference."""
    d = input - target
    return reduce(d * d, reduction)


def l1_loss(input, target, reduction="mean"):
    """Magnitude of each difference."""
    return reduce((input - target).abs(), reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    """Cross entropy of yes-or-no targets under the logistic function of logits, without overflow."""
    low = nt.log1p((-input.abs()).exp()) + (-input).clamp(min=0.0)
    if pos_weight is None:
        loss = (1.0 - target) * input + low
    else:
        loss = (1.0 - target) * input + ((pos_weight - 1.0) * target + 1.0) * low
    return reduce(loss if weight is None else loss * weight, reduction)
