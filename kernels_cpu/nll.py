"""The negative log-likelihood of classes: of each row of log-probabilities, the one that a target picks.

Strides are in bytes; a weight address of 0 means that all classes weigh 1. Targets are int64 and were checked. Sums are float64 for
either type, for accuracy: they are over few numbers next to the rows.
"""

from numba import types

from kernels_cpu.arrays import array
from kernels_cpu.pointers import word_at

NONE, MEAN, SUM = range(3)
get_target, _ = array(types.int64, 2, 4)


def nll_loss(kind):
    """``loss[i] = -weight[t[i]] * x[i, t[i]]``, or their sum, or that divided by the sum of the weights; 0 where t[i] is ignored."""
    (get, _), (_, put), (get_weight, _) = array(kind, 0, 4), array(kind, 1, 4), array(kind, 3, 4)

    def kernel(addresses, n):
        x, out, target, weight = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        row, column, target_step, weight_step = (
            word_at(addresses, 4),
            word_at(addresses, 5),
            word_at(addresses, 6),
            word_at(addresses, 7),
        )
        ignored, reduction = word_at(addresses, 8), word_at(addresses, 9)
        total = weights = 0.0
        for i in range(n):
            t = get_target(target + i * target_step, 0)
            loss = scale = kind(0)
            if t != ignored:
                scale = get_weight(weight + t * weight_step, 0) if weight else kind(1)
                loss = -scale * get(x + i * row + t * column, 0)
            if reduction == NONE:
                put(out, i, loss)
            total += loss
            weights += scale
        if reduction == SUM:
            put(out, 0, kind(total))
        elif reduction == MEAN:
            put(out, 0, kind(total / weights))
        return 0

    return kernel


def nll_loss_grad(kind):
    """``out[i, t[i]] = -weight[t[i]] * grad``, or ``grad[i]``, or grad divided by the sum of the weights; `out` was cleared."""
    (get_grad, _), (_, put), (get_weight, _) = array(kind, 0, 4), array(kind, 1, 4), array(kind, 3, 4)

    def kernel(addresses, n):
        grad, out, target, weight = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        row, grad_step, target_step, weight_step = (
            word_at(addresses, 4),
            word_at(addresses, 5),
            word_at(addresses, 6),
            word_at(addresses, 7),
        )
        ignored, reduction = word_at(addresses, 8), word_at(addresses, 9)
        share = 1.0
        if reduction == MEAN:
            weights = 0.0
            for i in range(n):
                t = get_target(target + i * target_step, 0)
                if t != ignored:
                    weights += get_weight(weight + t * weight_step, 0) if weight else kind(1)
            share = 1.0 / weights
        for i in range(n):
            t = get_target(target + i * target_step, 0)
            if t != ignored:
                scale = get_weight(weight + t * weight_step, 0) if weight else kind(1)
                put(out + i * row, t, -scale * get_grad(grad + i * grad_step, 0) * kind(share))
        return 0

    return kernel
