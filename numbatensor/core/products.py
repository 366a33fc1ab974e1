"""Matrix products: how tensors become matrices, and who computes which part.

The kernels are our own (`kernels_cpu/matmul.py`), for every dtype: they take any strides, depend on no library, and beat those at
hand. With AVX-512 a product takes 0.2 to 0.6 of the time of PyTorch with MKL, and of OpenBLAS's 0.4 to 1.1 (1.5 for results of few
columns); with AVX2 alone 0.3 to 0.9 of PyTorch's and 0.3 to 1.1 of OpenBLAS's. So no BLAS is called, whose threads would fight ours.

Work is cut along rows, columns and batches, never along the terms of a sum: results do not depend on the number of threads.
"""

import numpy as np
from numba import njit

from kernels_cpu.matmul import BLOCK, Plan
from kernels_cpu.tiles import TALL
from numbatensor.core.compiler import call, native, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.dispatch import NUMBERS
from numbatensor.core.iterate import PARALLEL, begin, operand, parallel, scalar_operand, sweep
from numbatensor.core.memory import incref, memcpy, number
from numbatensor.core.pool import allocate_large, free_large
from numbatensor.core.promotion import BOOL, put_number
from numbatensor.core.python import gil_held, restore_thread, save_thread
from numbatensor.core.records import RANK, arguments_at, at, frame_at, new_frame, on_stack, state_at, tensor_at
from numbatensor.core.table import extra_kernel, kernel_of, refuse
from numbatensor.core.tensors import FLOAT32, empty, shape_of, zero

TERMS, READ = 128, 16  # bytes of multiplied elements, and of x and y, that take as long as one of PARALLEL additions
FEW = 4
FAR = 2048  # bytes between rows of y from which on panels of it are copied, for many rows of x
APART = 4096  # bytes between elements of x that compete for one place in first-level cache: blocks of it are copied
BESIDE = 128  # bytes of columns that stay together when columns are cut
FLOAT = 3  # the kind of a float among arguments

# A product of tensors: a plan, the first and foremost part, and how its addresses move from batch to batch. `per`: in how many
# pieces the rows of one batch can be cut; `pieces`: how many threads share the work; `across`: whether columns are cut instead.
counts = ("kernel", "item", "batches", "lead", "blocks", "per", "pieces", "across")
Job = np.dtype(
    Plan.descr + [(name, "i8") for name in counts] + [(n, "i8", RANK) for n in ("shape", "x_steps", "y_steps")]
)
JOB = Job.itemsize
job_at, new_job = at(Job), on_stack(Job)


@njit
def step_of(x, d):
    """Bytes from one index of a dimension to the next; 0 where it has but one, or is not there."""
    return x.strides[d] if d >= 0 and x.shape[d] != 1 else 0


@njit
def size_of(x, d):
    return x.shape[d] if d >= 0 else 1


@njit
def stack_batches(j, x, y, out):
    """Take the rows of all batches for rows of one matrix, if y is the same for all and the rows of x lie evenly."""
    step, rows = j.x_row, j.m
    for d in range(j.lead - 1, -1, -1):
        if step_of(y, d + y.ndim - out.ndim):
            return
        n, outer = out.shape[d], step_of(x, d + x.ndim - out.ndim)
        if n != 1:
            if rows != 1 and outer != step * rows:
                return
            step, rows = outer if rows == 1 else step, rows * n
    j.m, j.x_row, j.batches, j.lead = rows, step, 1, 0


@njit
def swap(j):
    """Make the product that of the transposed matrices, the other way round."""
    j.m, j.n = j.n, j.m
    j.x, j.x_row, j.x_column, j.y, j.y_row, j.y_column = j.y, j.y_column, j.y_row, j.x, j.x_column, j.x_row
    j.out_row, j.out_column, j.old_row, j.old_column = j.out_column, j.out_row, j.old_column, j.old_row
    for d in range(j.lead):
        j.x_steps[d], j.y_steps[d] = j.y_steps[d], j.x_steps[d]


@njit
def choose(j):
    """How the kernel should go about a product."""
    item = j.item
    j.dots = j.x_column == item and j.y_row == item and min(j.m, j.n) <= FEW
    if j.n < j.m and (j.dots or j.n == 1):
        swap(j)
    j.packs = not j.dots and j.n > 1 and (j.y_column != item or (j.m >= 8 * TALL and abs(j.y_row) >= FAR))
    j.blocks = not j.dots and j.n >= 256 and j.m >= TALL and max(abs(j.x_row), abs(j.x_column)) >= APART


@njit
def move_to(j, whole, batch, i, column):
    """Move a job's addresses to a batch, and in it to a row and a column."""
    x, y = whole.x + i * whole.x_row, whole.y + column * whole.y_column
    there, rest = i * whole.out_row + column * whole.out_column, batch
    for d in range(whole.lead - 1, -1, -1):
        index = rest % whole.shape[d]
        rest //= whole.shape[d]
        x, y = x + index * whole.x_steps[d], y + index * whole.y_steps[d]
    there += batch * whole.m * whole.n * whole.item
    j.x, j.y, j.out = x, y, whole.out + there
    if whole.old == whole.out:
        j.old = j.out
    elif whole.old:
        j.old = whole.old + i * whole.old_row + column * whole.old_column


@native
def product_piece(context, i):
    """One thread's share of a product."""
    whole, mine = job_at(context), new_job()
    memcpy(mine, context, JOB)
    j = job_at(mine)
    if whole.blocks:
        j.block = allocate_large(BLOCK)  # 0, if there is no memory: then nothing is copied
    if whole.across:
        grain = BESIDE // whole.item
        units = whole.n // grain
        first = units * i // whole.pieces * grain
        j.n = (whole.n if i == whole.pieces - 1 else units * (i + 1) // whole.pieces * grain) - first
        for batch in range(whole.batches):
            move_to(j, whole, batch, 0, first)
            call(whole.kernel, mine, 0)
    else:
        unit, last = whole.batches * whole.per * i // whole.pieces, whole.batches * whole.per * (i + 1) // whole.pieces
        while unit < last:
            batch, first = unit // whole.per, unit % whole.per
            end = min(whole.per, first + last - unit)
            j.m = (whole.m if end == whole.per else end * TALL) - first * TALL
            move_to(j, whole, batch, first * TALL, 0)
            call(whole.kernel, mine, 0)
            unit += end - first
    if j.block:
        free_large(j.block, BLOCK)
    return 0


@njit
def run(context):
    """Do a job, on several threads where that pays."""
    j, s = job_at(context), state_at(symbol("state"))
    work = j.batches * (j.m * j.n * j.k * max(j.item, 4) // TERMS + (j.m + j.n) * j.k * j.item // READ)
    j.pieces, j.across, j.per = 1, 0, max(1, j.m // TALL)
    if work >= PARALLEL and s.threads > 1:
        columns = j.n * j.item // BESIDE
        j.across = j.batches * j.per < s.threads and columns > j.batches * j.per
        j.pieces = min(s.threads, columns if j.across else j.batches * j.per)
        if j.pieces > 1:
            parallel(symbol("product_piece"), context, j.pieces)
            return
    thread = save_thread() if work >= PARALLEL and gil_held() else 0
    if j.batches == 1 and j.blocks == 0:
        call(j.kernel, context, 0)
    else:
        product_piece(context, 0)
    if thread:
        restore_thread(thread)


@njit
def lay_out(context, out, x, y, turned):
    """A job for ``out = x @ y``, of tensors: `out` is new and contiguous. `turned`: y is given transposed."""
    o, a, b, j = tensor_at(out), tensor_at(x), tensor_at(y), job_at(context)
    rows, columns = b.ndim - 2, b.ndim - 1
    if turned:
        rows, columns = columns, rows
    j.kernel, j.item, j.out, j.x, j.y, j.old, j.block = 0, a.itemsize, o.data, a.data, b.data, 0, 0
    j.m, j.n, j.k = size_of(a, a.ndim - 2), size_of(b, columns), a.shape[a.ndim - 1]
    j.x_row, j.x_column, j.y_row, j.y_column = (
        step_of(a, a.ndim - 2),
        step_of(a, a.ndim - 1),
        step_of(b, rows),
        step_of(b, columns),
    )
    j.out_row, j.out_column, j.old_row, j.old_column = j.n * j.item, j.item, 0, 0
    j.batches, j.lead = o.numel // (j.m * j.n), max(o.ndim - 2, 0)
    if j.batches > 1:
        stack_batches(j, a, b, o)
        for d in range(j.lead):
            j.shape[d] = o.shape[d]
            j.x_steps[d], j.y_steps[d] = step_of(a, d + a.ndim - o.ndim), step_of(b, d + b.ndim - o.ndim)
    return j


@njit
def begin_with(j, start):
    """Let a tensor, broadcast, be what a product is added to."""
    s = tensor_at(start)
    j.old, j.old_row, j.old_column = s.data, step_of(s, s.ndim - 2), step_of(s, s.ndim - 1)


@native
def multiply(kernel, out, x, y, turned, start):
    """``out = start + x @ y``: `out` is new and contiguous; `start` is 0 or a tensor to broadcast. `turned`: y is given transposed."""
    a = tensor_at(x)
    if tensor_at(out).numel == 0:
        return 0
    if a.shape[a.ndim - 1] == 0:
        if start:
            return copy_into(out, start)
        zero(out)
        return 0
    context = new_job()
    j = lay_out(context, out, x, y, turned)
    j.kernel = kernel
    if start:
        begin_with(j, start)
    choose(j)
    if start and (j.batches > 1 or (not j.dots and j.n > 1 and j.old_column != j.item)):
        copy_into(out, start)
        j.old, j.old_row, j.old_column = j.out, j.out_row, j.out_column
    run(context)
    return 0


@njit
def result(out, frame, dtype):
    """The tensor to write a result into, with a new reference."""
    if out:
        incref(out)
        return out
    return empty(frame, dtype)


@njit
def matmul_shape(op, arguments, frame):
    """Give a frame the shape of :func:`matmul`'s result; refuses arguments that do not fit."""
    a, f = arguments_at(arguments), frame_at(frame)
    x, y = tensor_at(a.tensors[0]), tensor_at(a.tensors[1])
    f.ndim = max(x.ndim, y.ndim)
    fits = min(x.ndim, y.ndim) >= 2 and x.dtype == y.dtype and x.dtype != BOOL
    fits = fits and x.shape[x.ndim - 1] == y.shape[y.ndim - 2]
    for d in range(f.ndim - 2):
        p, q = size_of(x, d + x.ndim - f.ndim), size_of(y, d + y.ndim - f.ndim)
        fits = fits and (p == q or p == 1 or q == 1)
        f.shape[d] = q if p == 1 else p
    if not fits:
        refuse(op, arguments)
    f.shape[f.ndim - 2], f.shape[f.ndim - 1] = x.shape[x.ndim - 2], y.shape[y.ndim - 1]
    return x.dtype


@njit
def multiplied(arguments, out, frame, dtype, turned, start):
    """The product of the first two arguments, with a frame's shape. `turned`, `start`: see :func:`multiply`."""
    kernel = kernel_of(symbol("op_matmul"), dtype)
    made, a = result(out, frame, dtype), arguments_at(arguments)
    multiply(kernel, made, a.tensors[0], a.tensors[1], turned, start)
    return made


@native
def matmul(op, arguments, out):
    """Products of matrices, in batches that broadcast: tensors 0 and 1, of one dtype, both at least 2-D."""
    frame = new_frame()
    return multiplied(arguments, out, frame, matmul_shape(op, arguments, frame), 0, 0)


@njit
def dot_shape(op, arguments, frame):
    """Give a frame the shape of :func:`dot`'s result; refuses arguments that do not fit."""
    a = arguments_at(arguments)
    x, y = tensor_at(a.tensors[0]), tensor_at(a.tensors[1])
    fits = x.ndim == 1 and y.ndim == 1 and x.dtype == y.dtype and x.dtype != BOOL
    if not fits or x.shape[0] != y.shape[0]:
        refuse(op, arguments)
    frame_at(frame).ndim = 0
    return x.dtype


@native
def dot(op, arguments, out):
    """Sum of the products of two vectors."""
    frame = new_frame()
    return multiplied(arguments, out, frame, dot_shape(op, arguments, frame), 1, 0)


@njit
def linear_shape(op, arguments, frame):
    """Give a frame the shape of :func:`linear`'s result; refuses arguments that do not fit."""
    a = arguments_at(arguments)
    x, w = tensor_at(a.tensors[0]), tensor_at(a.tensors[1])
    fits = x.ndim >= 1 and w.ndim == 2 and x.dtype == w.dtype and x.dtype != BOOL
    fits = fits and x.shape[x.ndim - 1] == w.shape[1]
    if a.tensors[2]:
        b = tensor_at(a.tensors[2])
        fits = (
            fits
            and b.dtype == x.dtype
            and (b.ndim == 0 or (b.ndim == 1 and (b.shape[0] == 1 or b.shape[0] == w.shape[0])))
        )
    if not fits:
        refuse(op, arguments)
    shape_of(frame, x)
    frame_at(frame).shape[x.ndim - 1] = w.shape[0]
    return x.dtype


@native
def linear(op, arguments, out):
    """``input @ weight.T + bias`` for an input of any rank but 0; no bias is None."""
    frame = new_frame()
    dtype = linear_shape(op, arguments, frame)
    return multiplied(arguments, out, frame, dtype, 1, arguments_at(arguments).tensors[2])


@njit
def is_number(a, k, value):
    """Whether an argument is a certain number."""
    return (number(a.numbers[k]) if a.kinds[k] == FLOAT else float(a.numbers[k])) == value


@njit
def addmm_shape(op, arguments, frame):
    """Give a frame the shape of :func:`addmm`'s result; refuses arguments that do not fit."""
    a = arguments_at(arguments)
    s, x, y = tensor_at(a.tensors[0]), tensor_at(a.tensors[1]), tensor_at(a.tensors[2])
    fits = x.ndim == 2 and y.ndim == 2 and s.ndim <= 2 and x.dtype == y.dtype and s.dtype == x.dtype and x.dtype != BOOL
    fits = fits and x.shape[1] == y.shape[0]
    fits = fits and (x.dtype >= FLOAT32 or (a.kinds[3] != FLOAT and a.kinds[4] != FLOAT))
    f = frame_at(frame)
    f.ndim, f.shape[0], f.shape[1] = 2, x.shape[0], y.shape[y.ndim - 1]
    for d in range(s.ndim):
        fits = fits and (s.shape[d] == 1 or s.shape[d] == f.shape[d + 2 - s.ndim])
    if not fits:
        refuse(op, arguments)
    return x.dtype


@native
def addmm(op, arguments, out):
    """``beta * input + alpha * mat1 @ mat2``, where the input broadcasts; it is not looked at where beta is 0."""
    a, frame = arguments_at(arguments), new_frame()
    dtype = addmm_shape(op, arguments, frame)
    kernel = kernel_of(symbol("op_matmul"), dtype)
    plain = is_number(a, 4, 1.0)
    adds, alone = plain and is_number(a, 3, 1.0), plain and is_number(a, 3, 0.0)
    combination = 0 if adds or alone else extra_kernel(op, 0, dtype)
    made = result(out, frame, dtype)
    multiply(kernel, made, a.tensors[1], a.tensors[2], 0, a.tensors[0] if adds else 0)
    if combination:
        combine(op, arguments, made, combination)
    return made


@njit
def combine(op, arguments, out, kernel):
    """``out = beta * input + alpha * out``"""
    a, frame, o = arguments_at(arguments), new_frame(), tensor_at(out)
    begin(frame, kernel)
    shape_of(frame, o)
    operand(frame, o)
    operand(frame, tensor_at(a.tensors[0]))
    operand(frame, o)
    for k in range(3, 5):
        address = frame + NUMBERS + 8 * k
        put_number(address, o.dtype, a.kinds[k], a.numbers[k])
        scalar_operand(frame, address, o.itemsize)
    sweep(frame, 1)
