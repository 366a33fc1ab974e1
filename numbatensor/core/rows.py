"""The driver of operations along a dimension: which rows there are, in what form kernels get them, on which thread.

A row is all of one dimension, or of neighbouring ones, with the indices of the others fixed. Rows reach a kernel in
one of three forms:

- ROWS: each is contiguous (the last dimension): the kernel walks rows where they lie;
- COLUMNS: neighbours in memory belong to neighbouring rows: the kernel walks blocks of columns where they lie;
- MOVED: no column kernel, or too few columns for it: rows are packed as a new tensor's last dimension, and the result
  is moved back.

An operand that does not have the form is copied into it as a whole: one pass over it, which threads share. Which
elements meet in one sum depends on the shape alone.
"""

import numpy as np
from numba import njit

from kernels_cpu.row import NUMBERS, OPERANDS, STEPS, WIDTH
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.devices import ALONG, there
from numbatensor.core.iterate import PARALLEL, parallel
from numbatensor.core.memory import decref, store
from numbatensor.core.packing import free_words, new_words, op_result, packed_as, run_long
from numbatensor.core.records import at, frame_at, new_frame, on_stack, state_at, tensor_at, words
from numbatensor.core.table import extra_kernel, kernel_of
from numbatensor.core.tensors import alias, empty, is_packed, shape_of

ROWS, COLUMNS, MOVED = range(3)
VECTOR = 16  # a block of columns is a multiple of this
CALL = 1 << 13  # elements that are worth a kernel call of their own
CACHE = 1 << 18  # bytes that a block of columns may take: a share of second-level cache
MOST = 1 << 31  # elements in a row, and columns' indices, that fit in the kernels' 32 bits

# One operation along a dimension. Rows lie along the dimensions from `first` to `last`; there are outer * inner of
# them, of n elements. `operands`: of the kernel, the output included; those from `shared` on are the same for all
# rows. `columns`: from how many on the column kernel is worth it, 0: there is none. `second`: the extra kernel is
# another one for rows. `dense`: row kernels want no gaps between rows. `group`: each so many rows give one row of the
# result, 0: each gives one. `room`: words that each thread gets as one operand more. `walks`: on devices, the kernel walks along rows, which it does not keep. `held`: how many of `keeps` are
# to be given back.
Job = np.dtype(
    words("op", "out", "dtype", "first", "last", "length", "keepdim", "operands", "shared", "columns", "second")
    + words("dense", "group", "room", "cost", "walks")
    + words("form", "kernel", "outer", "n", "inner", "width", "units", "pieces", "rooms", "held")
    + [(name, "i8", OPERANDS) for name in ("tensors", "keeps", "pointers", "outer_steps", "steps", "items", "numbers")]
)
job_at, new_job = at(Job), on_stack(Job)
SAME = -1  # length of a row of the result: as of the input's
ONE = -2  # or one element, and the dimension is dropped


@njit
def keep(j, t):
    """Note a tensor to be given back when the job is done."""
    j.keeps[j.held] = t
    j.held += 1
    return t


@njit
def chain(x, low, high):
    """Whether dimensions low to high can be walked as one, and its step in bytes."""
    step = expected = found = 0
    for i in range(high - 1, low - 1, -1):
        if x.shape[i] != 1:
            if found and x.strides[i] != expected:
                return False, 0
            step = step if found else x.strides[i]
            expected = x.strides[i] * x.shape[i]
            found = 1
    return True, step


@njit
def fits(j, x):
    """Whether an operand has the form of the job; its steps from one outer index to the next, and along a row."""
    outer, outer_step = chain(x, 0, j.first)
    along, step = chain(x, j.first, j.last + 1)
    inner, inner_step = chain(x, j.last + 1, x.ndim)
    if j.form == ROWS:
        gaps = j.dense and outer_step != j.n * x.itemsize and j.outer > 1
        return outer and along and not gaps and (step == x.itemsize or j.n == 1), outer_step, step
    return j.form == COLUMNS and outer and along and inner and inner_step == x.itemsize, outer_step, step


@native
def rows_last(job, t):
    """An alias of a tensor whose rows lie along the last dimensions; a new reference."""
    j, made, f = job_at(job), alias(t), frame_at(new_frame())
    x, n = tensor_at(made), tensor_at(made).ndim
    for i in range(n):
        k = i if i < j.first else n - 1 - j.last + i if i <= j.last else j.first + i - j.last - 1
        f.shape[k], f.strides[0, k] = x.shape[i], x.strides[i]
    for k in range(n):
        x.shape[k], x.strides[k] = f.shape[k], f.strides[0, k]
    x.contiguous = 1 if is_packed(x) else 0
    return made


@native
def job_piece(job, piece):
    """One thread's share of the rows, or of the blocks of columns."""
    j, addresses = job_at(job), new_frame()
    low, high = j.units * piece // j.pieces, j.units * (piece + 1) // j.pieces
    for k in range(OPERANDS):
        store(addresses + NUMBERS + 8 * k, j.numbers[k])
    if j.room:
        store(addresses + 8 * j.operands, j.rooms + piece * 8 * j.room)
        store(addresses + STEPS + 8 * j.operands, 0)
    for k in range(j.operands):
        store(addresses + 8 * k, j.pointers[k] + low * j.outer_steps[k])
        store(addresses + STEPS + 8 * k, j.steps[k] if j.form == COLUMNS else j.outer_steps[k])
    if j.group:
        for u in range(low, high):
            for k in range(j.operands):
                store(addresses + 8 * k, j.pointers[k] + u * (j.group if k else 1) * j.outer_steps[k])
            call(j.kernel, addresses, min(j.group, j.outer - u * j.group), j.n)
        return 0
    if j.form != COLUMNS:
        return call(j.kernel, addresses, high - low, j.n)
    per = (j.inner + j.width - 1) // j.width
    for u in range(low, high):
        outer, start = u // per, u % per * j.width
        for k in range(j.operands):
            store(addresses + 8 * k, j.pointers[k] + outer * j.outer_steps[k] + start * j.items[k])
        call(j.kernel, addresses, j.n, min(j.width, j.inner - start))
    return 0


@njit
def column_width(j):
    """How many columns a kernel call gets: what stays in cache, but is worth a call, and as even as vectors allow."""
    n = max(1, j.n)
    cached = max(CACHE // (n * j.items[1]), 4 * VECTOR)
    width = min(WIDTH, max(VECTOR, CALL // n, min(cached, j.outer * j.inner // 16)))
    blocks = (j.inner + width - 1) // width
    return ((j.inner + blocks - 1) // blocks + VECTOR - 1) // VECTOR * VECTOR


@njit
def bring(job, k):
    """Bring operand k into form."""
    j = job_at(job)
    t, x = j.tensors[k], tensor_at(j.tensors[k])
    shared = k >= j.shared
    even, outer_step, step = (x.contiguous != 0, 0, 0) if shared else fits(j, x)
    if not even:
        source = keep(j, rows_last(job, t)) if j.form == MOVED and not shared else t
        t = keep(j, packed_as(source, x.dtype))
        if not shared:
            step = x.itemsize * (j.inner if j.form == COLUMNS else 1)
            outer_step = step * j.n
    j.pointers[k], j.outer_steps[k], j.steps[k], j.items[k] = tensor_at(t).data, outer_step, step, x.itemsize


@njit
def divide(j):
    """Set how many kernel calls there are, and how many threads share them."""
    j.units, j.pieces = j.outer * j.inner, 1
    if j.form == COLUMNS:
        j.width = column_width(j)
        j.units = j.outer * ((j.inner + j.width - 1) // j.width)
    if j.group:
        j.units = (j.outer + j.group - 1) // j.group
    if j.outer * j.n * j.inner * j.cost >= PARALLEL:
        j.pieces = max(1, min(state_at(symbol("state")).threads, j.units))


@native
def run_job(job):
    """Bring the operands into form and run the kernels on them. What it keeps is the caller's to give back."""
    j = job_at(job)
    for k in range(1, j.operands):
        bring(job, k)
    target = made = j.tensors[0]
    item = tensor_at(made).itemsize
    m = 1 if j.length == ONE else j.n if j.length == SAME else j.length
    if j.form == MOVED and m != 1:
        target = made = keep(j, rows_last(job, made))
        if not tensor_at(made).contiguous:
            f = new_frame()
            shape_of(f, tensor_at(made))
            made = keep(j, empty(f, tensor_at(made).dtype))
    j.steps[0] = item * (j.inner if j.form == COLUMNS else 1)
    j.pointers[0], j.items[0], j.outer_steps[0] = tensor_at(made).data, item, j.steps[0] * m
    divide(j)
    if j.room:
        j.rooms = new_words(j.room * j.pieces)
    if j.pieces > 1:
        parallel(symbol("job_piece"), job, j.pieces)
    else:
        run_long(symbol("job_piece"), job, j.outer * j.n * j.inner * j.cost)
    return 0 if target == made else copy_into(target, made)


@native
def along(job):
    """Run a job; gives a new reference to the result."""
    j = job_at(job)
    x = tensor_at(j.tensors[1])
    j.outer = j.n = j.inner = 1
    shape = new_frame()
    f = frame_at(shape)
    f.ndim = 0
    for i in range(x.ndim):
        m, dropped = x.shape[i], False
        if i < j.first:
            j.outer *= m
        elif i > j.last:
            j.inner *= m
        else:
            j.n *= m
            dropped = j.length == ONE and not j.keepdim
            m = 1 if j.length == ONE else m if j.length == SAME else j.length
        if not dropped:
            f.shape[f.ndim] = m
            f.ndim += 1
    if x.device:
        return call(there(ALONG), job, shape)
    j.form = ROWS if j.inner == 1 else COLUMNS if j.columns and j.inner >= j.columns and j.n < MOST else MOVED
    j.kernel = extra_kernel(j.op, 0, x.dtype) if j.form == COLUMNS or j.second else kernel_of(j.op, x.dtype)
    made = op_result(shape, j.dtype, j.out)
    j.tensors[0], j.held, j.rooms = made, 0, 0
    if tensor_at(made).numel:
        failed = attempt(symbol("run_job"), job) == -1
        for k in range(j.held):
            decref(j.keeps[k])
        if j.rooms:
            free_words(j.rooms, j.room * j.pieces)
        if failed:
            decref(made)
            fail()
    return made
