"""Operations along a dimension: what each takes and gives, as jobs for the driver in `rows.py`.

Arguments are checked here. The cost of an element is measured, an addition's being 1.
"""

from numba import njit

from kernels_cpu.sort import FEW, candidates
from numbatensor.core.arguments import wrap
from numbatensor.core.compiler import native
from numbatensor.core.promotion import INT64
from numbatensor.core.records import OPERANDS, arguments_at, tensor_at
from numbatensor.core.rows import MOST, ONE, SAME, along, job_at, new_job
from numbatensor.core.table import refuse
from numbatensor.core.tensors import FLOAT32

INT, NONE = 2, 4  # kinds of arguments


@njit
def given(a, tensors):
    """Whether the first arguments of a call are tensors."""
    found = True
    for k in range(tensors):
        found = found and a.tensors[k] != 0
    return found


@njit
def begin(job, op, out, a, tensors):
    """A job over the first tensors of a call, with a result like the first."""
    j = job_at(job)
    j.op, j.out, j.length, j.keepdim, j.columns, j.dense, j.room, j.group, j.second, j.walks = (
        op,
        out,
        SAME,
        0,
        2,
        0,
        0,
        0,
        0,
        0,
    )
    j.operands, j.shared = 1 + tensors, OPERANDS
    for k in range(tensors):
        j.tensors[1 + k] = a.tensors[k]
    if given(a, tensors):
        j.dtype = tensor_at(a.tensors[0]).dtype
    for k in range(OPERANDS):
        j.numbers[k] = 0
    return j


@njit
def at_dim(j, a, k):
    """Let rows lie along the dimension that argument k names; whether there is such a one, and tensors are tensors."""
    if not given(a, j.operands - 1) or a.kinds[k] != INT:
        return False
    rank = tensor_at(a.tensors[0]).ndim
    j.first = j.last = wrap(a.numbers[k], rank)
    if j.first >= rank:
        j.last = -1  # of no dimensions: one row of one element
    return j.first >= 0


@njit
def real(x):
    return tensor_at(x).dtype >= FLOAT32


@native
def softmax(op, arguments, out):
    """(x, dim): one result for each element of a float tensor; softmax and log_softmax."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 1)
    if not at_dim(j, a, 1) or not real(a.tensors[0]):
        return refuse(op, arguments)
    j.cost = 3
    return along(job)


log_softmax = softmax


@njit
def alike(x, y):
    """Whether two tensors have the same shape and dtype."""
    same = x.ndim == y.ndim and x.dtype == y.dtype
    for i in range(x.ndim):
        same = same and x.shape[i] == y.shape[i]
    return same


@native
def softmax_grad(op, arguments, out):
    """(grad, out, dim): the gradient of x of softmax or log_softmax."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 2)
    if not at_dim(j, a, 2) or not real(a.tensors[0]) or not alike(tensor_at(a.tensors[0]), tensor_at(a.tensors[1])):
        return refuse(op, arguments)
    j.dense, j.cost = 1, 2
    return along(job)


log_softmax_grad = softmax_grad


@native
def logsumexp(op, arguments, out):
    """(x, dim, keepdim): one result for each row of a float tensor."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 1)
    if not at_dim(j, a, 1) or not real(a.tensors[0]):
        return refuse(op, arguments)
    j.length, j.keepdim, j.cost = ONE, a.numbers[2], 3
    return along(job)


@native
def cumsum(op, arguments, out):
    """(x, dim): cumsum and cumprod; int64 of integers and bool."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 1)
    if not at_dim(j, a, 1):
        return refuse(op, arguments)
    j.dtype, j.cost, j.walks = max(j.dtype, INT64), 4, 1
    return along(job)


cumprod = cumsum


@native
def argmax(op, arguments, out):
    """(x, dim, keepdim): argmax and argmin, over all elements where dim is None; int64."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 1)
    if a.kinds[1] == NONE and given(a, 1):
        j.first, j.last = 0, tensor_at(a.tensors[0]).ndim - 1
    elif not at_dim(j, a, 1):
        return refuse(op, arguments)
    x = tensor_at(a.tensors[0])
    for i in range(j.first, j.last + 1):
        if x.shape[i] == 0:
            return refuse(op, arguments)
    j.dtype, j.length, j.keepdim, j.columns, j.cost, j.walks = INT64, ONE, a.numbers[2], 12, 1, 1
    return along(job)


argmin = argmax


@njit
def row_length(j, x):
    return x.shape[j.first] if x.ndim else 1


@native
def argsort(op, arguments, out):
    """(x, dim, descending, stable): the indices that sort each row, stable in any case; int64."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 1)
    if not at_dim(j, a, 1) or row_length(j, tensor_at(a.tensors[0])) >= MOST:
        return refuse(op, arguments)
    j.dtype, j.columns, j.cost = INT64, 0, 50
    j.numbers[0] = a.numbers[2]
    j.room = 2 * row_length(j, tensor_at(a.tensors[0]))
    return along(job)


@native
def topk_indices(op, arguments, out):
    """(x, k, dim, largest, sorted): the indices of the k first of each sorted row, in order in any case; int64."""
    a, job = arguments_at(arguments), new_job()
    j = begin(job, op, out, a, 1)
    if not at_dim(j, a, 2) or a.kinds[1] != INT:
        return refuse(op, arguments)
    k, n = a.numbers[1], row_length(j, tensor_at(a.tensors[0]))
    if k < 0 or k > n or n >= MOST or (k == 0 and tensor_at(a.tensors[0]).ndim == 0):
        return refuse(op, arguments)
    j.dtype, j.columns, j.length, j.cost = INT64, 0, k, 10
    j.numbers[0], j.numbers[1], j.second = k, a.numbers[3], k >= FEW
    j.room = 2 * candidates(k, n)
    return along(job)
