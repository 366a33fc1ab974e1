"""Products of matrices on CUDA devices by cuBLASLt, NVIDIA's library, whose function is called by address, as the driver's are.

What an algorithm is chosen by is written down as a `Problem`. Python prepares a plan for one that is new (`cuda/cublas.py`); from then on it is
found here, without Python. The library knows matrices by columns, and ours lie by rows, so it is asked for the transposed product,
``out.T = y.T @ x.T``: its A is y, its B is x.
"""

import numpy as np
from numba import njit

from numbatensor.core.compiler import native, publish, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.devices import LAUNCHED, ask, new_word, stream_of
from numbatensor.core.halves import computed
from numbatensor.core.memory import atomic_add, decref, load, local, store
from numbatensor.core.products import job_at
from numbatensor.core.promotion import put_number
from numbatensor.core.python import call_python
from numbatensor.core.records import (
    LAST,
    PLANS,
    Library,
    Prepared,
    Problem,
    driver_at,
    frame_at,
    library_at,
    new_frame,
    new_problem,
    prepared_at,
    problem_at,
    tensor_at,
)
from numbatensor.core.tensors import FLOAT32, empty

library = np.zeros(1, Library)
publish("product_library", library.ctypes.data)
OPEN, PREPARE, FORGET, FAILED = range(4)  # what `ask_library` is asked for
NONE = 1  # the handle of no library
PLAIN, BIAS = 1, 4  # epilogues: what is done with the product before it is stored
BIAS_POINTER = 8  # the attribute of a product that says where the bias is
NOT_SUPPORTED, OTHER_ARCHITECTURE = 15, 8
UINT8, INT, INT32, ONE = 1, 2, 4, 1
MOST = 1 << 31  # rows, columns and batches
ALIGNED = 256  # bytes that the library asks for at most
BIAS_ALIGNED = 16  # bytes that its kernels take for granted of a bias
WORDS = Problem.itemsize // 8
ALGORITHM = Prepared.fields["algorithm"][1]


@njit
def word_of(dtype, kind, value):
    """A number in the type that is computed in: small integers in 32 bits, small floats in float32."""
    place = new_frame()
    store(place, 0)  # all of the word: words are compared
    put_number(place, max(computed(dtype), INT32), kind, value)
    return load(place)


@njit
def step_of_rows(rows, columns, row, column, item):
    """Elements from row to row of a matrix whose rows lie contiguous, one after the other; -1 of others."""
    if columns > 1 and column != item:
        return -1
    if rows == 1:
        return columns
    return row // item if row % item == 0 and row >= columns * item else -1


@njit
def alignment(address):
    """The power of 2 that an address is a multiple of."""
    found = address & -address
    return found if 0 < found < ALIGNED else ALIGNED


@njit
def describe(place, j, out, d):
    """Write a job down as a problem; whether it is one that the library can be given."""
    p, o, item = problem_at(place), tensor_at(out), j.item
    p.device, p.dtype, p.tf32, p.owner, p.batches = o.device, o.dtype, d.tf32 if o.dtype == FLOAT32 else 0, 0, j.batches
    p.m, p.n, p.k, p.x_turned, p.y_turned = j.m, j.n, j.k, 0, 0
    p.x_step = step_of_rows(j.m, j.k, j.x_row, j.x_column, item)
    if p.x_step < 0:
        p.x_step, p.x_turned = step_of_rows(j.k, j.m, j.x_column, j.x_row, item), 1
    p.y_step = step_of_rows(j.k, j.n, j.y_row, j.y_column, item)
    if p.y_step < 0:
        p.y_step, p.y_turned = step_of_rows(j.n, j.k, j.y_column, j.y_row, item), 1
    x_batch, y_batch = (j.x_steps[0], j.y_steps[0]) if j.lead else (0, 0)
    p.x_batch, p.y_batch = x_batch // item, y_batch // item
    p.x_align, p.y_align, p.out_align = alignment(j.x), alignment(j.y), alignment(j.out)
    fits = j.lead <= 1 and p.x_step >= 0 and p.y_step >= 0 and max(j.m, j.n, j.k, j.batches) < MOST and j.k > 0
    return fits and x_batch >= 0 and y_batch >= 0 and x_batch % item == 0 and y_batch % item == 0


@njit
def begins_with(p, epilogue, old, step):
    """Say what a problem's product is added to: a matrix, or a bias at the address `old`."""
    p.epilogue, p.owner, p.old_step, p.bias_align = epilogue, 0, step, ALIGNED
    p.old_align = alignment(old)
    if epilogue != PLAIN:  # where the bias is, is said in the plan: each thread has its own
        p.owner, p.old_align, p.bias_align = local(), p.out_align, p.old_align


@njit
def plan_of(place, op):
    """The plan for a problem; Python prepares it where there is none."""
    hashed = 0
    for k in range(WORDS):
        hashed = (hashed ^ load(place + 8 * k)) * 0x9E3779B97F4A7C1
    slot = (hashed >> 32) % PLANS
    plan = library_at(symbol("product_library")).plans[slot]
    while plan:
        k = 0
        while k < WORDS and load(plan + 8 * k) == load(place + 8 * k):
            k += 1
        if k == WORDS:
            return plan
        plan = prepared_at(plan).next
    return call_python("ask_library", PREPARE, place, slot, op)


@njit
def usable_plan(place, op):
    """The plan for a problem; 0 where the library has no algorithm for it."""
    plan = plan_of(place, op)
    if prepared_at(plan).usable:
        return plan
    if prepared_at(plan).fleeting:
        call_python("ask_library", FORGET, plan, 0, 0)
    return 0


@njit
def is_bias(j, beta, one):
    """Whether what a job begins with is a vector that is added to each row. One that `out` lies over is not: it is read late."""
    contiguous = (j.old_column == j.item or j.n == 1) and (j.old_row == 0 or j.m == 1)
    return contiguous and beta == one and j.old % BIAS_ALIGNED == 0 and j.old != j.out


@native
def run_plan(op, plan, context, old, bias, alpha, beta):
    """Do a product by a plan: 0, or what the library says where it failed."""
    d, c, j, frame = library_at(symbol("product_library")), prepared_at(plan), job_at(context), new_frame()
    memory, numbers, place = 0, new_frame(), new_word()
    if c.workspace:
        frame_at(frame).ndim, frame_at(frame).shape[0] = 1, c.workspace
        memory = empty(frame, UINT8)
    stream, r = stream_of(c.device), driver_at(symbol("driver"))
    r.last[atomic_add(symbol("driver") + LAUNCHED, 1) % LAST] = op
    store(numbers, alpha)
    store(numbers + 8, beta)
    status = 0
    if bias:
        store(place, bias)
        status = ask(d.set_attribute, c.product, BIAS_POINTER, place, 8)
    if status == 0:
        status = ask(
            d.multiply,
            d.handles[c.device],
            c.product,
            numbers,
            j.y,
            c.y,
            j.x,
            c.x,
            numbers + 8,
            old,
            c.old,
            j.out,
            c.out,
            plan + ALGORITHM,
            tensor_at(memory).data if memory else 0,
            c.workspace,
            stream,
        )
    if memory:
        decref(memory)
    if c.fleeting:
        call_python("ask_library", FORGET, plan, 0, 0)
    return status


@native
def multiply_by_library(op, context, out, beginning, alpha, beta):
    """Let the library do a job: whether it did. `beginning`: see `multiply_there`."""
    d, j, o, place = library_at(symbol("product_library")), job_at(context), tensor_at(out), new_problem()
    if d.off or d.handles[o.device] == NONE or not describe(place, j, out, d):
        return 0
    stream_of(o.device)
    if d.handles[o.device] == 0 and call_python("ask_library", OPEN, o.device, 0, 0) == NONE:
        return 0
    p, old, bias, plan = problem_at(place), j.out, 0, 0
    if beginning == 0:
        beta = 0
    elif is_bias(j, beta, word_of(o.dtype, INT, ONE)):
        begins_with(p, BIAS, j.old, j.n)
        plan = usable_plan(place, op)
        if plan:
            bias, beta = j.old, 0
    if plan == 0:
        step = j.n
        if beginning:
            step, old = step_of_rows(j.m, j.n, j.old_row, j.old_column, j.item), j.old
            if step < 0 or j.batches > 1:
                step, old = j.n, j.out
        begins_with(p, PLAIN, old, step)
        plan = usable_plan(place, op)
        if plan == 0:
            return 0
        if beginning and old != j.old:
            copy_into(out, beginning)
    status = run_plan(op, plan, context, old, bias, alpha, beta)
    if status == NOT_SUPPORTED or status == OTHER_ARCHITECTURE:
        return 0
    if status:
        call_python("ask_library", FAILED, status, op, 0)
    return 1
