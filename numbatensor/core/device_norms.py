"""Normalisation of rows on devices: what :mod:`norms` is for the CPU. A missing weight or bias is a null pointer to the kernels.

Beside float16 and bfloat16, weight and bias can be float32; then other kernels run.
"""

from numba import njit

from kernels_cuda.row import MIXED, THREADS, WARP
from numbatensor.core.arguments import float_argument
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.device_reduce import real_word, reduce_there
from numbatensor.core.device_rows import BLOCKS, check_rows, group_for, launch_rows
from numbatensor.core.devices import parameter, parameters, start
from numbatensor.core.halves import computed
from numbatensor.core.memory import bits, decref, number
from numbatensor.core.norms import at_end, vector_of
from numbatensor.core.packing import op_result, packed_as
from numbatensor.core.records import arguments_at, frame_at, launch_at, new_frame, new_launch, tensor_at
from numbatensor.core.row_ops import alike, begin, given, real
from numbatensor.core.rows import job_at, keep, new_job
from numbatensor.core.table import refuse
from numbatensor.core.tensors import empty, shape_of, zero
from numbatensor.core.there import VECTOR, kernel_there

WEIGHT = 3  # the number of the kernel that sums over rows
DEEP = 64  # rows, and more, that a block of that kernel takes where columns are few


@njit
def launch_norm(j, first):
    """Launch the kernel, of those from `first` on, whose pointers are the job's."""
    launch, even = new_launch(), j.n * j.items[0] % VECTOR == 0
    launch_at(launch).count = 0
    for k in range(j.operands):
        even = even and j.pointers[k] % VECTOR == 0
        parameter(launch, j.pointers[k])
    parameter(launch, j.outer)
    parameter(launch, j.n)
    parameter(launch, real_word(number(j.numbers[0]), j.dtype))
    what, level = group_for(j.n)
    launch_rows(j, first + what, 2 * level + (1 if even else 0), j.outer, launch, j.dtype)


@njit
def pack(j, k, dtype):
    """Bring operand k into rows of a dtype; what is missing stays so."""
    t = j.tensors[k]
    j.pointers[k] = tensor_at(keep(j, packed_as(t, dtype))).data if t else 0


@native
def run_norm(job):
    """Run a kernel over rows. What it keeps is the caller's to give back."""
    j = job_at(job)
    mixed = False
    for k in range(j.shared, j.operands):
        mixed |= j.tensors[k] != 0 and tensor_at(j.tensors[k]).dtype != j.dtype
    for k in range(1, j.operands):
        pack(j, k, computed(j.dtype) if mixed and k >= j.shared else j.dtype)
    j.pointers[0] = tensor_at(j.tensors[0]).data
    launch_norm(j, MIXED if mixed else 0)
    return 0


@native
def run_weight(job):
    """The gradient of the weight: each row's mean and scale, sums over parts of the rows, and the sum of those."""
    j, shape = job_at(job), new_frame()
    f, made, rows, n = frame_at(shape), j.tensors[0], j.outer, j.n
    pack(j, 1, j.dtype)
    pack(j, 2, j.dtype)
    grad, x, device = j.pointers[1], j.pointers[2], tensor_at(made).device
    f.ndim, f.shape[0] = 1, rows
    mean = tensor_at(keep(j, empty(shape, computed(j.dtype)))).data
    scale = tensor_at(keep(j, empty(shape, computed(j.dtype)))).data
    j.operands, j.pointers[0], j.pointers[1], j.pointers[2] = 3, mean, x, scale
    launch_norm(j, 0)
    launch = new_launch()
    across = (n + WARP - 1) // WARP
    parts = max(1, min(rows // DEEP, BLOCKS // across))
    part = (rows + parts - 1) // parts
    parts = (rows + part - 1) // part
    f.ndim, f.shape[0], f.shape[1] = 2, parts, n
    partial = made if parts == 1 else keep(j, empty(shape, computed(j.dtype)))
    parameters(launch, (tensor_at(partial).data, grad, x, mean, scale, rows, n, part))
    start(j.op, kernel_there(j.op, WEIGHT, 0, j.dtype), across * parts, 1, THREADS, 0, launch, device)
    return 0 if parts == 1 else reduce_there(symbol("op_sum"), partial, 1, made, 0, 0)


@njit
def ended(j, failed):
    """Give back what a job kept; its result, or its failure."""
    for k in range(j.held):
        decref(j.keeps[k])
    if failed:
        decref(j.tensors[0])
        fail()
    return j.tensors[0]


@njit
def prepared(j, x, n, eps, shape, dtype, out):
    """Set the rows, and make the result."""
    j.outer, j.n, j.inner, j.held = x.numel // max(n, 1), n, 1, 0
    check_rows(j, j.outer, n)
    j.numbers[0], j.items[0] = bits(eps), x.itemsize
    j.tensors[0] = op_result(shape, dtype, out)


@native
def layer_norm_there(op, arguments, out):
    """(x, weight, bias, n, eps): the trailing dimensions of n elements shifted and scaled to mean 0 and variance 1."""
    a, job, shape = arguments_at(arguments), new_job(), new_frame()
    j, x, n = begin(job, op, out, a, 1), tensor_at(a.tensors[0]), a.numbers[3]
    if not given(a, 1) or not real(a.tensors[0]) or not at_end(j, x, n):
        return refuse(op, arguments)
    if not vector_of(a.tensors[1], x, n) or not vector_of(a.tensors[2], x, n):
        return refuse(op, arguments)
    j.operands, j.shared, j.tensors[2], j.tensors[3] = 4, 2, a.tensors[1], a.tensors[2]
    shape_of(shape, x)
    prepared(j, x, n, float_argument(arguments, 4), shape, x.dtype, out)
    return ended(j, x.numel and attempt(symbol("run_norm"), job) == -1)


@native
def layer_norm_grad_there(op, arguments, out):
    """(grad, x, weight, n, eps): the gradient of x."""
    a, job, shape = arguments_at(arguments), new_job(), new_frame()
    j, x, n = begin(job, op, out, a, 2), tensor_at(a.tensors[0]), a.numbers[3]
    if not given(a, 2) or not real(a.tensors[0]) or not alike(x, tensor_at(a.tensors[1])):
        return refuse(op, arguments)
    if not at_end(j, x, n) or not vector_of(a.tensors[2], x, n):
        return refuse(op, arguments)
    j.operands, j.shared, j.tensors[3] = 4, 3, a.tensors[2]
    shape_of(shape, x)
    prepared(j, x, n, float_argument(arguments, 4), shape, x.dtype, out)
    return ended(j, x.numel and attempt(symbol("run_norm"), job) == -1)


@native
def layer_norm_grad_weight_there(op, arguments, out):
    """(grad, x, n, eps): the gradient of the weight, of shape (n,), in the dtype that is computed in."""
    a, job, shape = arguments_at(arguments), new_job(), new_frame()
    j, x, n = begin(job, op, out, a, 2), tensor_at(a.tensors[0]), a.numbers[2]
    if not given(a, 2) or not real(a.tensors[0]) or not alike(x, tensor_at(a.tensors[1])) or not at_end(j, x, n):
        return refuse(op, arguments)
    frame_at(shape).ndim, frame_at(shape).shape[0] = 1, n
    prepared(j, x, n, float_argument(arguments, 3), shape, computed(x.dtype), out)
    if x.numel == 0:
        zero(j.tensors[0])
    return ended(j, x.numel and attempt(symbol("run_weight"), job) == -1)


assert run_norm and run_weight and reduce_there  # reached through their symbols
