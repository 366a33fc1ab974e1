"""The negative log-likelihood of classes and its gradient, unrecorded. Kernel 0 is the one of that name, by dtype."""

import numpy as np
from numba import njit

from kernels_cpu.nll import NONE
from numbatensor.core.compiler import call, native, symbol
from numbatensor.core.memory import load
from numbatensor.core.packing import op_result, run_long
from numbatensor.core.records import arguments_at, at, frame_at, new_frame, on_stack, tensor_at, words
from numbatensor.core.table import kernel_of, refuse
from numbatensor.core.tensors import FLOAT32, zero

INT64 = 5
# What a kernel is told: addresses, then steps in bytes, then two numbers.
Likelihood = np.dtype(
    words("x", "out", "target", "weight", "row", "column", "target_step", "weight_step")
    + words("ignored", "reduction", "kernel", "count")
)
likelihood_at, new_likelihood = at(Likelihood), on_stack(Likelihood)


@native
def run_likelihood(job, unused):
    j = likelihood_at(job)
    return call(j.kernel, job, j.count)


@njit
def likelihood_fits(job, x, target, weight, ignored, reduction):
    """Tell a kernel where the targets and weights of log-probabilities x are; whether they fit, the targets' values aside."""
    j, t = likelihood_at(job), tensor_at(target)
    if x.ndim != 2 or x.dtype < FLOAT32 or t.ndim != 1 or t.dtype != INT64 or t.shape[0] != x.shape[0]:
        return False
    j.weight = j.weight_step = 0
    if weight:
        w = tensor_at(weight)
        if w.ndim != 1 or w.shape[0] != x.shape[1] or w.dtype != x.dtype:
            return False
        j.weight, j.weight_step = w.data, w.strides[0]
    j.target, j.target_step, j.ignored, j.reduction = t.data, t.strides[0], ignored, reduction
    j.count = x.shape[0]
    return True


@njit
def fill_likelihood(job, x, target, weight, ignored, reduction):
    """The same; whether all targets are classes, too."""
    if not likelihood_fits(job, x, target, weight, ignored, reduction):
        return False
    j, wrong = likelihood_at(job), 0
    for i in range(j.count):
        k = load(j.target + i * j.target_step)
        wrong |= (k != ignored) & ((k < 0) | (k >= x.shape[1]))
    return wrong == 0


@native
def nll_loss(op, arguments, out):
    """The loss: log-probabilities (N, C), target (N) int64, weight (C) or None, ignored class, reduction (none, mean, sum: 0, 1, 2)."""
    a, job, frame = arguments_at(arguments), new_likelihood(), new_frame()
    j, x = likelihood_at(job), tensor_at(a.tensors[0])
    if not fill_likelihood(job, x, a.tensors[1], a.tensors[2], a.numbers[3], a.numbers[4]):
        refuse(op, arguments)
    j.kernel = kernel_of(op, x.dtype)
    f = frame_at(frame)
    f.ndim, f.shape[0] = 1 if j.reduction == NONE else 0, x.shape[0]
    made = op_result(frame, x.dtype, out)
    j.x, j.row, j.column, j.out = x.data, x.strides[0], x.strides[1], tensor_at(made).data
    run_long(symbol("run_likelihood"), job, j.count)
    return made


@native
def nll_loss_grad(op, arguments, out):
    """Its gradient (N, C): grad, log-probabilities (for their shape alone), target, weight or None, ignored class, reduction."""
    a, job, frame = arguments_at(arguments), new_likelihood(), new_frame()
    j, grad, x = likelihood_at(job), tensor_at(a.tensors[0]), tensor_at(a.tensors[1])
    fits = fill_likelihood(job, x, a.tensors[2], a.tensors[3], a.numbers[4], a.numbers[5])
    each = j.reduction == NONE
    if not fits or grad.dtype != x.dtype or grad.ndim != each or (each and grad.shape[0] != x.shape[0]):
        refuse(op, arguments)
    j.kernel = kernel_of(op, x.dtype)
    f = frame_at(frame)
    f.ndim, f.shape[0], f.shape[1] = 2, x.shape[0], x.shape[1]
    made = op_result(frame, x.dtype, out)
    zero(made)
    # `column` is the gradient's step here
    j.x, j.column, j.row, j.out = (
        grad.data,
        grad.strides[0] if each else 0,
        x.shape[1] * x.itemsize,
        tensor_at(made).data,
    )
    run_long(symbol("run_likelihood"), job, j.count)
    return made
