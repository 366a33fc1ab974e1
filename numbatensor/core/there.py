"""Loops over the elements of tensors of a device: what :mod:`iterate` is for the CPU.

A pointwise kernel takes the output's address, for each input an address and a number (which is meant where the address is 0), the
number of elements, and, unless all are contiguous and aligned to vectors (form 0), the sizes of d dimensions and each operand's strides
in bytes (form d): see `kernels_cuda/pointwise.py`.
"""

import numpy as np
from numba import njit

from numbatensor.core.compiler import attempt, fail, native, publish, symbol
from numbatensor.core.conversions import copy_into, empty_on
from numbatensor.core.copies import advance
from numbatensor.core.devices import (
    MOVES,
    copy_bytes,
    on,
    parameter,
    parameters,
    refuse_capture,
    start,
    synchronize,
    use,
)
from numbatensor.core.iterate import begin, coalesce, operand, scalar_operand, swap
from numbatensor.core.memory import decref, load
from numbatensor.core.packing import width_code
from numbatensor.core.python import call_python
from numbatensor.core.records import (
    FORMS,
    DeviceOp,
    Frame,
    frame_at,
    launch_at,
    new_frame,
    new_launch,
    op_at,
    tensor_at,
)
from numbatensor.core.table import ROWS
from numbatensor.core.tensors import itemsize_of, same_shape, shape_of

DEVICE_TABLE = np.zeros(ROWS, DeviceOp)
publish("device_table", DEVICE_TABLE.ctypes.data)
CONVERSIONS_THERE = np.zeros((16, 16, FORMS), np.int64)  # kernels out = x, by target and source dtype
publish("conversions_there", CONVERSIONS_THERE.ctypes.data)
ROW = DeviceOp.itemsize
KERNELS = DeviceOp.fields["kernels"][1]
NUMBERS = Frame.fields["numbers"][1]
DIMENSIONS = 4  # most dimensions of one launch
MOST = 1 << 31  # elements of one launch, and bytes that its sizes count
THREADS = 256
VECTOR = 16  # bytes of the widest access
EACH = 4  # elements that a thread works on in the strided forms
TILES, SIDE = 5, 32  # the form of a copy that transposes, and the side of a tile (`kernels_cuda/transpose.py`)
NARROW = 16  # rows or columns from which that pays
GRID = 65535  # most blocks in a grid's second dimension
# What runs an op there, if it is no code of its own: the code for the CPU, whose parts know devices; the CPU.
UNKNOWN, SAME, DETOUR = range(3)
RUNNER = -1  # what `resolve_there` is asked for beside kernels


@njit
def device_op(op):
    """The address of an op's row of kernels for devices."""
    return symbol("device_table") + op_at(op).index * ROW


@njit
def kernel_there(op, what, form, dtype):
    """A kernel of an op for devices, compiled or loaded if this is its first use: 0 the op's own, 1 + i the rule of input i."""
    slot = what * FORMS + form
    kernel = load(device_op(op) + KERNELS + 8 * (16 * slot + dtype))
    return kernel if kernel else call_python("resolve_there", op, slot, dtype)


@njit
def conversion_there(target, source, form):
    """The kernel that converts elements on devices."""
    kernel = load(symbol("conversions_there") + 8 * (FORMS * (16 * target + source) + form))
    return kernel if kernel else call_python("resolve_there", 0, target * FORMS + form, source)


@njit
def is_number(f, k):
    """Whether operand k of a frame is a number."""
    return k > 0 and f.pointers[k] == 0


@njit
def even(f):
    """Whether all operands of a coalesced frame are contiguous and aligned to vectors."""
    if f.ndim > 1:
        return False
    for k in range(f.operands):
        if not is_number(f, k) and (f.strides[k, 0] != f.itemsizes[k] or f.pointers[k] % VECTOR):
            return False
    return True


@njit
def blocks_of_vectors(n, widest):
    """How many blocks the vector form of a kernel needs, whose threads take two vectors of the widest operand each."""
    per = THREADS * 2 * (VECTOR // widest)
    return (n + per - 1) // per


@native
def send(frame, op, kernel, form, first, size, device):
    """Launch a kernel over the dimensions of a frame from `first` on, of which that one has `size` indices."""
    f, launch = frame_at(frame), new_launch()
    launch_at(launch).count = 0
    n = size
    for i in range(first + 1, f.ndim):
        n *= f.shape[i]
    parameter(launch, f.pointers[0])
    for k in range(1, f.operands):
        parameter(launch, f.pointers[k])
        parameter(launch, load(frame + NUMBERS + 8 * (k - 1)))
    parameter(launch, n)
    if form:
        parameter(launch, size)
        for i in range(first + 1, f.ndim):
            parameter(launch, f.shape[i])
        for k in range(f.operands):
            for i in range(first, f.ndim):
                parameter(launch, 0 if is_number(f, k) else f.strides[k, i])
    blocks = (n + THREADS * EACH - 1) // (THREADS * EACH)
    if form == 0:
        widest = 1
        for k in range(f.operands):
            widest = max(widest, f.itemsizes[k])
        blocks = blocks_of_vectors(n, widest)
    return start(op, kernel, blocks, 1, THREADS, 0, launch, device)


@njit
def leading(f):
    """How many dimensions of a frame are walked here, since one launch does not take them all."""
    lead, rest = max(0, f.ndim - DIMENSIONS), 1
    for i in range(f.ndim - 1, lead, -1):
        rest *= f.shape[i]
        if rest >= MOST:
            return i
    return lead


@native
def sweep_there(frame, op, what, dtype, target, device):
    """Run a kernel over the elements of a frame: of an op, or, where that is 0, what converts dtype to `target`.

    A number among the operands is one whose address is 0.
    """
    coalesce(frame)
    f = frame_at(frame)
    if f.numel == 0:
        return 0
    lead, form = leading(f), 0
    if not even(f):
        form = f.ndim - lead
    kernel = kernel_there(op, what, form, dtype) if op else conversion_there(target, dtype, form)
    rest = 1
    for i in range(lead + 1, f.ndim):
        rest *= f.shape[i]
    most = max(1, (MOST - 1) // rest // VECTOR * VECTOR)
    for i in range(lead):
        f.index[i] = 0
    while True:
        n, done = f.shape[lead], 0
        while done < n:
            m = min(most, n - done)
            send(frame, op, kernel, form, lead, m, device)
            for k in range(f.operands):
                if not is_number(f, k):
                    f.pointers[k] += f.strides[k, lead] * m
            done += m
        for k in range(f.operands):
            if not is_number(f, k):
                f.pointers[k] -= f.strides[k, lead] * n
        if not advance(f, lead):
            break
    return 0


@njit
def tiles(height, width):
    """How many tiles a matrix has."""
    return (height + SIDE - 1) // SIDE * ((width + SIDE - 1) // SIDE)


@njit
def turned(f):
    """The dimension along which the source of a coalesced frame is contiguous while the target is along the last; -1 where that is not so."""
    last, item = f.ndim - 1, f.itemsizes[0]
    if f.strides[0, last] == item and f.strides[1, last] != item and NARROW <= f.shape[last] < MOST:
        for d in range(last):
            if f.strides[1, d] == item and NARROW <= f.shape[d] < MOST and tiles(f.shape[d], f.shape[last]) < MOST:
                return d
    return -1


@native
def transpose_there(frame, d, dtype, device):
    """Copy a coalesced frame's second operand into its first, which are contiguous along dimension d and the last one, by tiles."""
    f = frame_at(frame)
    high, wide, batch = f.ndim - 2, f.ndim - 1, f.ndim - 3
    swap(f, d, high)
    for i in range(max(0, batch)):
        f.index[i] = 0
    kernel, matrices = conversion_there(dtype, dtype, TILES), f.shape[batch] if batch >= 0 else 1
    while True:
        for first in range(0, matrices, GRID):
            launch, out_step, x_step = new_launch(), 0, 0
            if batch >= 0:
                out_step, x_step = f.strides[0, batch], f.strides[1, batch]
            out, x = f.pointers[0] + first * out_step, f.pointers[1] + first * x_step
            parameters(launch, (out, x, f.shape[high], f.shape[wide]))
            for step in (f.strides[0, high], out_step, f.strides[1, wide], x_step):
                parameter(launch, step)
            blocks, count = tiles(f.shape[high], f.shape[wide]), min(GRID, matrices - first)
            start(0, kernel, blocks, count, THREADS, 0, launch, device)
        if batch < 1 or not advance(f, batch):
            return 0


@native
def move_there(frame, target, source, device):
    """Copy a frame's second operand into its first, converted."""
    if target == source:  # elements are moved as they are
        f = frame_at(frame)
        target = source = width_code(f.itemsizes[0])
        coalesce(frame)
        d = turned(f)
        if d >= 0 and f.numel:
            return transpose_there(frame, d, source, device)
    return sweep_there(frame, 0, 0, source, target, device)


@native
def copy_there(out, x):
    """out[...] = x, converted and broadcast, of two tensors of one device."""
    a, b, f = tensor_at(out), tensor_at(x), new_frame()
    use(out)
    use(x)
    if a.dtype == b.dtype and a.contiguous and b.contiguous and a.numel == b.numel:
        return copy_bytes(a.data, b.data, a.numel * a.itemsize, a.device)
    begin(f, 0)
    shape_of(f, a)
    operand(f, a)
    operand(f, b)
    return move_there(f, a.dtype, b.dtype, a.device)


@native
def fill_there(out, number):
    """Set all elements of a tensor to the one whose bits these are."""
    a, frame = tensor_at(out), new_frame()
    use(out)
    begin(frame, 0)
    shape_of(frame, a)
    operand(frame, a)
    scalar_operand(frame, 0, itemsize_of(a.dtype))
    frame_at(frame).numbers[0] = number
    return move_there(frame, a.dtype, a.dtype, a.device)


@native
def copy_between(out, x):
    """out[...] = x, converted and broadcast, where one of them is not the CPU's: bytes travel in the dtype of `out`, contiguous."""
    a, b = tensor_at(out), tensor_at(x)
    if a.device == b.device:
        return copy_there(out, x)
    refuse_capture(MOVES, 0)
    device = a.device if a.device else b.device
    source, target, failed = x, out, False
    if b.contiguous == 0 or b.dtype != a.dtype:
        source = on(b.device, symbol("contiguous_copy"), x, a.dtype, 0)
    if a.contiguous == 0 or not same_shape(a, b):
        target = attempt(symbol("empty_on"), a.device, x, a.dtype)
        failed = target == -1
    if b.device and b.device != device and not failed:
        failed = attempt(symbol("synchronize"), b.device) == -1
    if not failed:
        s, t = tensor_at(source), tensor_at(target)
        failed = attempt(symbol("copy_bytes"), t.data, s.data, s.numel * s.itemsize, device) == -1
        # what comes to the CPU is read there, and what leaves it may be overwritten
        failed = failed or attempt(symbol("synchronize"), device) == -1
    if not failed and target != out:
        failed = attempt(symbol("copy_there") if a.device else symbol("copy_into"), out, target) == -1
    if source != x:
        decref(source)
    if target != out and target != -1:
        decref(target)
    if failed:
        fail()
    return 0


assert copy_bytes and synchronize and copy_into and empty_on  # reached through their symbols
