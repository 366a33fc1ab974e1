"""The negative log-likelihood of classes and its gradient on CUDA devices (`kernels_cuda/nll.py`).

The host waits once, for whether all targets are classes: for the loss, not for its gradient, and not in a CUDA graph.
"""

from numba import njit

from kernels_cpu.nll import MEAN, NONE
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.device_index import blocks_of, new_words_there, word_there
from numbatensor.core.devices import parameter, parameters, start
from numbatensor.core.memory import decref, local
from numbatensor.core.nll import likelihood_at, likelihood_fits, new_likelihood
from numbatensor.core.packing import op_result
from numbatensor.core.records import arguments_at, frame_at, local_at, new_frame, new_launch, tensor_at
from numbatensor.core.table import refuse
from numbatensor.core.tensors import zero
from numbatensor.core.there import MOST, THREADS, kernel_there

CHECK, LOSS, GRAD, WEIGHTS = range(4)
assert op_result  # reached through its symbol


@native
def targets_fit(job, classes, device):
    """1 where all targets are classes or ignored, else 0."""
    j, launch = likelihood_at(job), new_launch()
    if j.count == 0 or local_at(local()).capture:
        return 1
    flag = new_words_there(0)
    place = tensor_at(flag).data
    parameters(launch, (place, j.target, j.count, j.target_step, classes, j.ignored))
    status = attempt(symbol("launch_likelihood"), CHECK, 0, tensor_at(flag).dtype, blocks_of(j.count), launch, device)
    if status != -1:
        status = attempt(symbol("word_there"), place, device)
    decref(flag)
    if status == -1:
        fail()
    return 1 - status


@native
def launch_likelihood(what, form, dtype, blocks, launch, device):
    op = symbol("op_nll_loss")
    return start(op, kernel_there(op, what, form, dtype), blocks, 1, THREADS, 0, launch, device)


@njit
def job_of(op, arguments, job, x, target, weight, ignored, reduction):
    """Tell a job where everything is; refuses what does not fit."""
    if not likelihood_fits(job, x, target, weight, ignored, reduction) or x.shape[0] >= MOST:
        refuse(op, arguments)
    return likelihood_at(job)


@njit
def add_parameters(launch, j, out, first, second, classes):
    """What `nll_loss` and `weights` take: `first` and `second` are the strides of x."""
    parameters(launch, (out, j.x, j.target, j.weight, j.count))
    for word in (first, second, j.target_step, j.weight_step, classes, j.ignored):
        parameter(launch, word)


@native
def nll_loss_there(op, arguments, out):
    """The loss: log-probabilities (N, C), target (N) int64, weight (C) or None, ignored class, reduction (none, mean, sum: 0, 1, 2)."""
    a, job, frame, launch = arguments_at(arguments), new_likelihood(), new_frame(), new_launch()
    x = tensor_at(a.tensors[0])
    j = job_of(op, arguments, job, x, a.tensors[1], a.tensors[2], a.numbers[3], a.numbers[4])
    if targets_fit(job, x.shape[1], x.device) == 0:
        refuse(op, arguments)
    f = frame_at(frame)
    f.ndim, f.shape[0] = 1 if j.reduction == NONE else 0, x.shape[0]
    made = op_result(frame, x.dtype, out)
    j.x = x.data
    add_parameters(launch, j, tensor_at(made).data, x.strides[0], x.strides[1], x.shape[1])
    blocks = blocks_of(j.count) if j.reduction == NONE else 1
    if blocks and attempt(symbol("launch_likelihood"), LOSS, j.reduction, x.dtype, blocks, launch, x.device) == -1:
        decref(made)
        fail()
    return made


@native
def write_slopes(job, made, share, grad_step):
    """Launch the kernel of the gradient, after the one that sums the weights where they are needed."""
    j, launch, m = likelihood_at(job), new_launch(), tensor_at(made)
    if share:
        add_parameters(launch, j, tensor_at(share).data, 0, 0, m.shape[1])
        launch_likelihood(WEIGHTS, 0, m.dtype, 1, launch, m.device)
    parameters(launch, (m.data, j.x, j.target, j.weight, tensor_at(share).data if share else 0, j.count))
    for word in (m.strides[0], grad_step, j.target_step, j.weight_step, m.shape[1], j.ignored):
        parameter(launch, word)
    return launch_likelihood(GRAD, 0, m.dtype, blocks_of(j.count), launch, m.device)


@native
def nll_loss_grad_there(op, arguments, out):
    """Its gradient (N, C): grad, log-probabilities (for their shape alone), target, weight or None, ignored class, reduction."""
    a, job, frame = arguments_at(arguments), new_likelihood(), new_frame()
    grad, x = tensor_at(a.tensors[0]), tensor_at(a.tensors[1])
    j = job_of(op, arguments, job, x, a.tensors[2], a.tensors[3], a.numbers[4], a.numbers[5])
    each = j.reduction == NONE
    if grad.dtype != x.dtype or grad.ndim != each or (each and grad.shape[0] != x.shape[0]):
        refuse(op, arguments)
    f = frame_at(frame)
    f.ndim, f.shape[0], f.shape[1] = 2, x.shape[0], x.shape[1]
    made = op_result(frame, x.dtype, out)
    zero(made)
    j.x = grad.data
    if j.count == 0:
        return made
    share = attempt(symbol("new_words_there"), 0) if j.reduction == MEAN else 0
    failed = share == -1
    if not failed:
        failed = attempt(symbol("write_slopes"), job, made, share, grad.strides[0] if each else 0) == -1
        decref(share)
    if failed:
        decref(made)
        fail()
    return made


assert launch_likelihood and write_slopes and new_words_there and word_there  # reached through their symbols
