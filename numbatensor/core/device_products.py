"""Products of matrices on CUDA devices: ``out = alpha * x @ y + beta * start``.

NVIDIA's library computes those of floats that it can be given (`device_libraries.py`). What it cannot, or where there is none, is computed by
our own tiles (`kernels_cuda/matmul.py`), for every dtype and any strides.
"""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.device_libraries import INT, ONE, multiply_by_library, word_of
from numbatensor.core.devices import parameter, parameters, start
from numbatensor.core.memory import decref
from numbatensor.core.products import (
    addmm_shape,
    begin_with,
    dot_shape,
    is_number,
    lay_out,
    linear_shape,
    matmul_shape,
    new_job,
    result,
)
from numbatensor.core.records import arguments_at, driver_at, new_frame, new_launch, tensor_at
from numbatensor.core.tensors import FLOAT32
from numbatensor.core.there import THREADS, kernel_there

X_ALONG_K, Y_ALONG_K, LARGE = 1, 2, 4  # bits of the kernel's form
ROWS = 65535  # most blocks in a grid's second dimension
VECTOR = 16  # bytes of the widest access
WIDTH = 128  # of a large tile


@njit
def merge_batches(j):
    """Drop dimensions of one batch, and make one of those that one step leads through."""
    kept = j.lead
    for d in range(j.lead - 1, -1, -1):
        n, x_step, y_step = j.shape[d], j.x_steps[d], j.y_steps[d]
        if n == 1:
            continue
        if kept < j.lead and x_step == j.shape[kept] * j.x_steps[kept] and y_step == j.shape[kept] * j.y_steps[kept]:
            j.shape[kept] *= n
        else:
            kept -= 1
            j.shape[kept], j.x_steps[kept], j.y_steps[kept] = n, x_step, y_step
    for d in range(kept, j.lead):
        j.shape[d - kept], j.x_steps[d - kept], j.y_steps[d - kept] = j.shape[d], j.x_steps[d], j.y_steps[d]
    j.lead -= kept


@njit
def in_vectors(j, data, steps, step, item):
    """Whether a matrix can be read in vectors: its address, the step from one to the next and those between batches are multiples of one."""
    size = item * (4 if item <= 4 else 2)
    right = data % size == 0 and step % size == 0
    for d in range(j.lead):
        right = right and steps[d] % size == 0
    return right


@njit
def form_of(j, device):
    """The kernel's form, and what can be read and written in vectors."""
    form, even, item = 0, 0, j.item
    if j.x_row != item or j.x_column == item:
        form |= X_ALONG_K
    if j.y_column != item:
        form |= Y_ALONG_K
    x_step = j.x_row if form & X_ALONG_K else j.x_column
    if (j.x_column == item if form & X_ALONG_K else True) and in_vectors(j, j.x, j.x_steps, x_step, item):
        even |= 1
    y_step = j.y_column if form & Y_ALONG_K else j.y_row
    if (j.y_row == item if form & Y_ALONG_K else True) and in_vectors(j, j.y, j.y_steps, y_step, item):
        even |= 2
    if j.out % VECTOR == 0 and j.n * item % VECTOR == 0:
        even |= 4
    tiles = (j.m + WIDTH - 1) // WIDTH * ((j.n + WIDTH - 1) // WIDTH) * j.batches
    if item <= 4 and tiles >= driver_at(symbol("driver")).units[device]:
        form |= LARGE
    return form, even


@native
def multiply_there(op, out, x, y, turned, beginning, alpha, beta):
    """``out = alpha * x @ y + beta * beginning``: `out` is contiguous; `beginning` is 0 or a tensor to broadcast; numbers are by their bits."""
    o, context = tensor_at(out), new_job()
    if o.numel == 0:
        return 0
    j = lay_out(context, out, x, y, turned)
    if beginning:
        begin_with(j, beginning)
    merge_batches(j)
    if o.dtype >= FLOAT32 and multiply_by_library(op, context, out, beginning, alpha, beta):
        return 0
    form, even = form_of(j, o.device)
    kernel = kernel_there(symbol("op_matmul"), 0, form, o.dtype)
    width = WIDTH if form & LARGE else WIDTH // 2
    blocks = (j.m + width - 1) // width * ((j.n + width - 1) // width)
    last = j.lead - 1
    inner = j.shape[last] if j.lead > 0 else 1
    outer = j.shape[last - 1] if j.lead > 1 and inner * j.shape[last - 1] <= ROWS else 1
    done = 0
    while done < j.batches:
        place, rest, left_x, left_y = done % inner, done // inner, j.x, j.y
        count = min(ROWS, inner - place) if inner > ROWS else inner * outer
        for d in range(last, -1, -1):
            index = place if d == last else rest % j.shape[d]
            rest = rest if d == last else rest // j.shape[d]
            left_x, left_y = left_x + index * j.x_steps[d], left_y + index * j.y_steps[d]
        launch = new_launch()
        parameters(launch, (j.out + done * j.m * j.n * j.item, left_x, left_y, j.old))
        for size in (j.m, j.n, j.k, inner):
            parameter(launch, size)
        for step in (j.x_row, j.x_column, j.y_row, j.y_column, j.old_row, j.old_column):
            parameter(launch, step)
        parameter(launch, j.x_steps[last] if j.lead > 0 else 0)
        parameter(launch, j.y_steps[last] if j.lead > 0 else 0)
        parameter(launch, j.x_steps[last - 1] if j.lead > 1 else 0)
        parameter(launch, j.y_steps[last - 1] if j.lead > 1 else 0)
        parameter(launch, even)
        parameter(launch, alpha)
        parameter(launch, beta)
        start(op, kernel, blocks, count, THREADS, 0, launch, o.device)
        done += count
    return 0


@native
def product_there(op, frame, x, y, turned, beginning, alpha, beta, out):
    """The same, into `out` or a new tensor of a frame's shape; a new reference."""
    made = result(out, frame, tensor_at(x).dtype)
    if attempt(symbol("multiply_there"), op, made, x, y, turned, beginning, alpha, beta) == -1:
        decref(made)
        fail()
    return made


@native
def matmul_there(op, arguments, out):
    """Products of matrices, in batches that broadcast."""
    a, frame = arguments_at(arguments), new_frame()
    one = word_of(matmul_shape(op, arguments, frame), INT, ONE)
    return product_there(op, frame, a.tensors[0], a.tensors[1], 0, 0, one, one, out)


@native
def dot_there(op, arguments, out):
    """Sum of the products of two vectors."""
    a, frame = arguments_at(arguments), new_frame()
    one = word_of(dot_shape(op, arguments, frame), INT, ONE)
    return product_there(op, frame, a.tensors[0], a.tensors[1], 1, 0, one, one, out)


@native
def linear_there(op, arguments, out):
    """``input @ weight.T + bias``"""
    a, frame = arguments_at(arguments), new_frame()
    one = word_of(linear_shape(op, arguments, frame), INT, ONE)
    return product_there(op, frame, a.tensors[0], a.tensors[1], 1, a.tensors[2], one, one, out)


@native
def addmm_there(op, arguments, out):
    """``beta * input + alpha * mat1 @ mat2``"""
    a, frame = arguments_at(arguments), new_frame()
    dtype = addmm_shape(op, arguments, frame)
    alpha, beta = word_of(dtype, a.kinds[4], a.numbers[4]), word_of(dtype, a.kinds[3], a.numbers[3])
    beginning = 0 if is_number(a, 3, 0.0) else a.tensors[0]
    return product_there(op, frame, a.tensors[1], a.tensors[2], 0, beginning, alpha, beta, out)


assert multiply_there and start  # reached through their symbols
