"""The driver of operations along a dimension on devices: what :mod:`rows` is for the CPU.

Kernels get rows that lie one after the other: other operands are copied into that form, and the result back from it. Which kernel runs, and
into what pieces few long rows are cut, is set by the sizes alone.
"""

from numba import njit

from kernels_cuda import row as kernels
from kernels_cuda.row import BY_BLOCK, BY_PASSES, BY_WARP, FEWEST, LEVELS, LONG, MIXED, THREADS, WARP
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.device_reduce import PARTIAL, block_pass, new_pass, pass_at
from numbatensor.core.devices import parameter, parameters, start
from numbatensor.core.halves import computed
from numbatensor.core.memory import decref
from numbatensor.core.packing import op_result, packed_as
from numbatensor.core.python import call_python
from numbatensor.core.records import frame_at, launch_at, new_frame, new_launch, tensor_at
from numbatensor.core.rows import ONE, job_at, keep, rows_last
from numbatensor.core.table import MANY_ROWS
from numbatensor.core.tensors import empty, itemsize_of, shape_of
from numbatensor.core.there import MOST, VECTOR, copy_there, kernel_there

CHUNK = 8192  # elements of a long row, and more, that one block works on where rows are few
BLOCKS = 1024  # that are enough for a device
halvings = njit(kernels.halvings)


@njit
def check_rows(j, rows, n):
    """Refuse what kernels that count in 32 bits cannot take: too many rows, or, where they do not walk in chunks, too long ones."""
    if rows >= MOST or (n >= MOST and not j.walks):
        call_python("complain", MANY_ROWS, j.op, rows, n)


@njit
def rows_aligned(j):
    """Whether all rows of all operands begin at multiples of a vector; a result of one element a row does not matter."""
    even = j.n * tensor_at(j.tensors[1]).itemsize % VECTOR == 0
    for k in range(1 if j.length == ONE else 0, j.operands):
        even = even and j.pointers[k] % VECTOR == 0
    return even


@njit
def lanes_of(j, what, form):
    """How many threads of a warp share a row: where rows are short, a warp has several."""
    if j.walks or what % MIXED != BY_WARP or form >> 1:
        return WARP
    size = VECTOR // tensor_at(j.tensors[1]).itemsize if form & 1 else 1
    return WARP >> halvings(j.n, max(FEWEST, size))


@njit
def launch_rows(j, what, form, rows, launch, dtype):
    """Launch a kernel that gives each row some lanes of a warp, a warp, or a block."""
    group, lanes = what % MIXED, lanes_of(j, what, form)
    threads = LONG if group == BY_PASSES else THREADS
    if group == BY_WARP:
        threads = min(threads, (rows * lanes + WARP - 1) // WARP * WARP)
    per = threads // lanes if group == BY_WARP else 1
    device = tensor_at(j.tensors[0]).device
    kernel = kernel_there(j.op, what, form, dtype)
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
    launch_rows(j, what, 2 * level + even, rows, launch, j.dtype)
    return 0


@njit
def pieces_of(rows, n):
    """Into how many chunks each row is cut, and the elements of a chunk, a multiple of CHUNK."""
    chunks = max(1, min((n + CHUNK - 1) // CHUNK, BLOCKS // rows), n >> 30)
    chunk = ((n + chunks - 1) // chunks + CHUNK - 1) // CHUNK * CHUNK
    return (n + chunk - 1) // chunk, chunk


@njit
def walk_places(j, dtype, out, x, more, rows, n, chunks, chunk):
    """Launch a kernel that walks along chunks of rows."""
    launch = new_launch()
    parameters(launch, (out, x, more, rows, n, chunks, chunk))
    what = BY_WARP if chunks == 1 and n <= WARP * (FEWEST << LEVELS - 1) else BY_BLOCK
    even = out % VECTOR == 0 and x % VECTOR == 0 and n * itemsize_of(dtype) % VECTOR == 0
    launch_rows(j, what, 1 if even else 0, rows, launch, dtype)


@native
def new_pieces(j, n, dtype):
    """Address of room for n elements, one for each chunk; kept by the job."""
    shape = new_frame()
    frame_at(shape).ndim, frame_at(shape).shape[0] = 1, n
    return tensor_at(keep(job_at(j), empty(shape, dtype))).data


@njit
def totals_of(j, totals, chunks, chunk):
    """What the elements of each chunk combine to."""
    p, x = pass_at(new_pass()), tensor_at(j.tensors[1])
    p.op = symbol("op_prod") if j.op == symbol("op_cumprod") else symbol("op_sum")
    p.dtype, p.acc, p.device, p.out, p.source, p.wide = x.dtype, computed(j.dtype), x.device, totals, j.pointers[1], 0
    p.outcome = p.acc
    p.item, p.centres, p.outer, p.outer_step, p.n = x.itemsize, 0, j.outer * j.inner, j.n * x.itemsize, j.n
    p.step, p.inner, p.form, p.count, p.second = x.itemsize, 1, PARTIAL, 0, 0
    block_pass(p, chunks, chunk)


@native
def run_walks(job):
    """Run a kernel that walks along rows. Where these are few and long, chunks of them: see `kernels_cuda/scan.py`, and `extremum.py`."""
    j = job_at(job)
    rows, n, dtype, out, x = j.outer * j.inner, j.n, tensor_at(j.tensors[1]).dtype, j.pointers[0], j.pointers[1]
    chunks, chunk = pieces_of(rows, n)
    if chunks == 1:
        walk_places(j, dtype, out, x, 0, rows, n, 1, n)
        return 0
    running = computed(j.dtype)
    found = new_pieces(job, rows * chunks, running)
    if j.length == ONE:
        walk_places(j, dtype, found, x, 0, rows * chunks, n, chunks, chunk)
        walk_places(j, dtype, out, x, found, rows, chunks, 1, n)
    else:
        totals_of(j, found, chunks, chunk)
        walk_places(j, running, found, found, 0, rows, chunks, 1, chunks)
        walk_places(j, dtype, out, x, found, rows * chunks, n, chunks, chunk)
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
    check_rows(j, j.outer * j.inner, j.n)
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
