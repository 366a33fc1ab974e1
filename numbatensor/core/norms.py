"""Normalisation of rows: layer_norm and its gradients, as jobs for the driver in `rows.py`.

A row is all of the trailing dimensions that have n elements together. A missing weight or bias is a vector of ones or
zeros.
"""

from numba import njit

from kernels_cpu.row import STEPS
from numbatensor.core.arguments import float_argument
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.copies import copy_run
from numbatensor.core.halves import computed
from numbatensor.core.memory import bits, decref, incref, store
from numbatensor.core.promotion import put_number
from numbatensor.core.records import arguments_at, frame_at, new_frame, tensor_at
from numbatensor.core.row_ops import alike, begin, given, real
from numbatensor.core.rows import new_job
from numbatensor.core.table import extra_kernel, kernel_of, refuse
from numbatensor.core.tensors import empty, zero

COST = 3  # of an element, an addition's being 1


@njit
def at_end(j, x, n):
    """Let rows lie along the trailing dimensions that have n elements; whether there are such."""
    first, count = x.ndim, 1
    while first > 0 and (first == x.ndim or count != n):
        first -= 1
        count *= x.shape[first]
    j.first, j.last = first, x.ndim - 1
    return count == n and x.ndim > 0


@njit
def vector_of(t, x, n):
    """Whether a weight or bias, if there is one, has an element for each of a row, and the dtype of x or that in which it is computed."""
    return t == 0 or (
        tensor_at(t).numel == n and (tensor_at(t).dtype == x.dtype or tensor_at(t).dtype == computed(x.dtype))
    )


@native
def filled_vector(n, dtype, value):
    """A new tensor of n elements, all of one value, which is given as the bits of a float64."""
    shape = new_frame()
    frame_at(shape).ndim, frame_at(shape).shape[0] = 1, max(n, 1)
    made = empty(shape, dtype)
    x = tensor_at(made)
    put_number(x.data, dtype, 3, value)
    copy_run(x.data, x.itemsize, x.data, 0, x.numel, x.itemsize)
    return made


@njit
def or_filled(t, n, dtype, value):
    """A new reference to a tensor, or to a vector of one value where there is none; -1 if that fails."""
    incref(t)
    return t if t else attempt(symbol("filled_vector"), n, dtype, bits(value))


@njit
def run_with(job, vector, other):
    """Run a job that has taken two vectors, and give these back."""
    made = -1
    if vector != -1 and other != -1:
        made = attempt(symbol("along"), job)
    if vector != -1:
        decref(vector)
    if other != -1:
        decref(other)
    if made == -1:
        fail()
    return made


@native
def layer_norm(op, arguments, out):
    """(x, weight, bias, n, eps): the trailing dimensions of n elements shifted and scaled to mean 0 and variance 1."""
    a, job = arguments_at(arguments), new_job()
    j, x, n = begin(job, op, out, a, 1), tensor_at(a.tensors[0]), a.numbers[3]
    if not given(a, 1) or not real(a.tensors[0]) or not at_end(j, x, n):
        return refuse(op, arguments)
    if not vector_of(a.tensors[1], x, n) or not vector_of(a.tensors[2], x, n):
        return refuse(op, arguments)
    j.operands, j.shared, j.cost, j.numbers[0] = 4, 2, COST, bits(float_argument(arguments, 4))
    kernel_of(op, x.dtype)
    j.tensors[2] = or_filled(a.tensors[1], n, x.dtype, 1.0)
    j.tensors[3] = or_filled(a.tensors[2], n, x.dtype, 0.0)
    return run_with(job, j.tensors[2], j.tensors[3])


@native
def layer_norm_grad(op, arguments, out):
    """(grad, x, weight, n, eps): the gradient of x."""
    a, job = arguments_at(arguments), new_job()
    j, x, n = begin(job, op, out, a, 2), tensor_at(a.tensors[0]), a.numbers[3]
    if not given(a, 2) or not real(a.tensors[0]) or not alike(x, tensor_at(a.tensors[1])):
        return refuse(op, arguments)
    if not at_end(j, x, n) or not vector_of(a.tensors[2], x, n):
        return refuse(op, arguments)
    j.operands, j.shared, j.cost, j.numbers[0] = 4, 3, COST, bits(float_argument(arguments, 4))
    kernel_of(op, x.dtype)
    j.tensors[3] = or_filled(a.tensors[2], n, x.dtype, 1.0)
    return run_with(job, j.tensors[3], 0)


@njit
def rows_together(rows):
    """How many rows are summed in one piece: about the square root of all, so that both levels add few numbers."""
    together = 16
    while together * together < rows:
        together *= 2
    return together


@native
def layer_norm_grad_weight(op, arguments, out):
    """(grad, x, n, eps): the gradient of the weight, of shape (n,): sums over rows, on two levels set by the shape."""
    a, job = arguments_at(arguments), new_job()
    j, x, n = begin(job, op, out, a, 2), tensor_at(a.tensors[0]), a.numbers[2]
    if not given(a, 2) or not real(a.tensors[0]) or not alike(x, tensor_at(a.tensors[1])):
        return refuse(op, arguments)
    if not at_end(j, x, n):
        return refuse(op, arguments)
    kernel_of(op, x.dtype)
    add_rows = extra_kernel(op, 0, x.dtype)
    rows = x.numel // max(n, 1)
    j.group, j.cost, j.numbers[0] = rows_together(rows), COST, bits(float_argument(arguments, 3))
    groups = (rows + j.group - 1) // j.group
    shape = new_frame()
    f = frame_at(shape)
    f.ndim, f.shape[0] = 1, n
    made = out if out else empty(shape, x.dtype)
    incref(out)
    if x.numel == 0:
        zero(made)
        return made
    f.ndim, f.shape[0], f.shape[1] = 2, groups, n
    partial = attempt(symbol("empty"), shape, x.dtype)
    j.out = partial
    if partial == -1 or attempt(symbol("along"), job) == -1:
        decref(made)
        if partial != -1:
            decref(partial)
        fail()
    addresses = new_frame()
    store(addresses, tensor_at(made).data)
    store(addresses + 8, tensor_at(partial).data)
    store(addresses + STEPS, 0)
    store(addresses + STEPS + 8, n * x.itemsize)
    call(add_rows, addresses, groups, n)
    decref(partial)
    decref(partial)
    return made
