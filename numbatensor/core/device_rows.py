"""The driver of operations along a dimension on devices: what :mod:`rows` is for the CPU.

Kernels get rows that lie one after the other: other operands are copied into that form, and the result back from it. Which kernel runs, and
into what pieces few long rows are cut, is set by the sizes alone.
"""

from numba import njit

from kernels_cuda.row import BY_BLOCK, BY_PASSES, BY_WARP, FEWEST, LEVELS, THREADS, WARP
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.devices import parameter, start
from numbatensor.core.memory import decref
from numbatensor.core.packing import op_result, packed_as
from numbatensor.core.records import launch_at, new_frame, new_launch, tensor_at
from numbatensor.core.rows import ONE, job_at, keep, rows_last
from numbatensor.core.tensors import empty, shape_of
from numbatensor.core.there import VECTOR, copy_there, kernel_there

CHUNK = 8192  # elements of a long row, and more, that one block works on where rows are few
BLOCKS = 1024  # that are enough for a device


@njit
def rows_aligned(j):
    """Whether all rows of all operands begin at multiples of a vector."""
    even = True
    for k in range(j.operands):
        t = tensor_at(j.tensors[k])
        one = k == 0 and j.length == ONE
        even = even and (one or (j.pointers[k] % VECTOR == 0 and j.n * t.itemsize % VECTOR == 0))
    return even


@njit
def launch_rows(j, what, form, rows, launch):
    """Launch a kernel that gives each row a warp, or a block."""
    threads = THREADS
    if what == BY_WARP:
        threads = min(THREADS, rows * WARP)
    per = threads // WARP if what == BY_WARP else 1
    device = tensor_at(j.tensors[0]).device
    kernel = kernel_there(j.op, what, form, tensor_at(j.tensors[1]).dtype)
    start(j.op, kernel, (rows + per - 1) // per, 1, threads, 0, launch, device)


@njit
def level_of(n, threads):
    """Which form of a kernel has room for n elements in the registers of so many threads; LEVELS if none has."""
    level = 0
    while level < LEVELS and n > threads * (FEWEST << level):
        level += 1
    return level


@njit
def group_for(n):
    """Which kernel takes rows of n elements, and the level of its form."""
    level = level_of(n, WARP)
    if level < LEVELS:
        return BY_WARP, level
    level = level_of(n, THREADS)
    return (BY_BLOCK, level) if level < LEVELS else (BY_PASSES, 0)


@native
def run_registers(job):
    """Run a kernel that keeps rows in registers, where they fit."""
    j, launch = job_at(job), new_launch()
    launch_at(launch).count = 0
    for k in range(j.operands):
        parameter(launch, j.pointers[k])
    rows = j.outer * j.inner
    parameter(launch, rows)
    parameter(launch, j.n)
    even = 1 if rows_aligned(j) else 0
    what, level = group_for(j.n)
    launch_rows(j, what, 2 * level + even, rows, launch)
    return 0


@native
def run_walks(job):
    """Run a kernel that walks along rows."""
    j, launch = job_at(job), new_launch()
    launch_at(launch).count = 0
    rows = j.outer * j.inner
    parameter(launch, j.pointers[0])
    parameter(launch, j.pointers[1])
    parameter(launch, 0)
    parameter(launch, rows)
    parameter(launch, j.n)
    parameter(launch, 1)
    parameter(launch, j.n)
    what = BY_WARP if j.n <= WARP * (FEWEST << LEVELS - 1) else BY_BLOCK
    launch_rows(j, what, 1 if rows_aligned(j) else 0, rows, launch)
    return 0


@native
def run_there_along(job):
    """Bring the operands into rows, run the kernel and bring the result back. What it keeps is the caller's to give back."""
    j = job_at(job)
    made = j.tensors[0]
    for k in range(1, j.operands):
        t = j.tensors[k]
        if j.inner > 1:
            t = keep(j, rows_last(job, t))
        j.pointers[k] = tensor_at(keep(j, packed_as(t, tensor_at(t).dtype))).data
    if j.inner > 1 and j.length != ONE:
        made = keep(j, rows_last(job, made))
    target = made
    if not tensor_at(made).contiguous:
        shape = new_frame()
        shape_of(shape, tensor_at(made))
        target = keep(j, empty(shape, j.dtype))
    j.pointers[0] = tensor_at(target).data
    if j.walks:
        run_walks(job)
    else:
        run_registers(job)
    return 0 if target == made else copy_there(made, target)


@native
def along_there(job, shape):
    """Run a job whose rows are known; gives a new reference to the result, of a frame's shape."""
    j = job_at(job)
    made = op_result(shape, j.dtype, j.out)
    j.tensors[0], j.held = made, 0
    if tensor_at(made).numel:
        failed = attempt(symbol("run_there_along"), job) == -1
        for k in range(j.held):
            decref(j.keeps[k])
        if failed:
            decref(made)
            fail()
    return made


assert run_there_along  # reached through its symbol
