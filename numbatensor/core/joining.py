"""Tensors joined along a dimension: cat and stack, unrecorded, in time linear in their number. The ops' rows need no kernels."""

from numba import njit

from numbatensor.core.arguments import wrap
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.copies import copy_run
from numbatensor.core.devices import MIXED, MOVE, replace_device, there
from numbatensor.core.graph import NATIVE, attach, link, needs_grad, new_node, settle
from numbatensor.core.iterate import PARALLEL, begin, operand, parallel, sweep
from numbatensor.core.memory import free, load, malloc, memcpy, store
from numbatensor.core.modes import grad_enabled
from numbatensor.core.packing import op_result, run_long
from numbatensor.core.promotion import promote
from numbatensor.core.python import PAYLOAD, argument, as_long, box, call_python, entry, tuple_item, tuple_size, unboxed
from numbatensor.core.records import (
    RANK,
    arguments_at,
    frame_at,
    new_arguments,
    new_frame,
    node_at,
    op_at,
    state_at,
    tensor_at,
)
from numbatensor.core.table import conversion, refuse, runner
from numbatensor.core.tensors import FLOAT32, shape_of

assert parallel  # reached through its symbol
RUN = 8  # elements: rows that are no longer are copied a column at a time


@njit
def skipped(x):
    """Whether `cat` passes a tensor over, whatever its dtype says: one that has no elements and one dimension."""
    return x.ndim == 1 and x.shape[0] == 0


@njit
def like_but(x, y, dim):
    """Whether two shapes differ in one dimension at most."""
    if x.ndim != y.ndim:
        return False
    for i in range(x.ndim):
        if i != dim and x.shape[i] != y.shape[i]:
            return False
    return True


@native
def copy_part_rows(context, i):
    """One share of contiguous rows copied to places a step apart. Words: target, step, source, bytes of a row, rows, item, pieces."""
    target, step, source, run = load(context), load(context + 8), load(context + 16), load(context + 24)
    rows, item, pieces = load(context + 32), load(context + 40), load(context + 48)
    if rows == 1:
        low, high = (run * i // pieces) & ~63, run if i == pieces - 1 else (run * (i + 1) // pieces) & ~63
        memcpy(target + low, source + low, high - low)
        return 0
    low, high = rows * i // pieces, rows * (i + 1) // pieces
    if run > RUN * item:
        for k in range(low, high):
            memcpy(target + k * step, source + k * run, run)
    else:
        for k in range(0, run, item):
            copy_run(target + low * step + k, step, source + low * run + k, run, high - low, item)
    return 0


@njit
def copy_part(out, data, x, dim, new):
    """Copy a tensor to a part of a contiguous one, as large but along `dim` (or in no dimension, a `new` one), that starts at `data`."""
    o, t = tensor_at(out), tensor_at(x)
    if t.numel == 0:
        return
    frame = new_frame()
    if t.device == 0 and t.dtype == o.dtype and t.contiguous:
        rows = 1
        for i in range(dim):
            rows *= t.shape[i]
        threads = state_at(symbol("state")).threads if t.numel >= PARALLEL else 1
        store(frame, data)
        store(frame + 8, o.strides[dim - 1] if dim else 0)
        store(frame + 16, t.data)
        store(frame + 24, t.numel // rows * t.itemsize)
        store(frame + 32, rows)
        store(frame + 40, t.itemsize)
        store(frame + 48, threads)
        if threads > 1:
            parallel(symbol("copy_part_rows"), frame, threads)
        else:
            run_long(symbol("copy_part_rows"), frame, t.numel)
        return
    begin(frame, 0 if o.dtype == t.dtype else conversion(o.dtype, t.dtype))
    shape_of(frame, t)
    operand(frame, o)
    operand(frame, t)
    f = frame_at(frame)
    f.pointers[0] = data
    for i in range(f.ndim):
        f.strides[0, i] = o.strides[i + 1 if new and i >= dim else i]
    if t.device:
        call(there(MOVE), frame, o.dtype, t.dtype, t.device)
    else:
        sweep(frame, 1)


@njit
def join(op, arguments, out, new):
    """Tensors one after the other along a dimension: address of the array of them, their count, dim."""
    a, frame = arguments_at(arguments), new_frame()
    parts, count, f = a.numbers[0], a.numbers[1], frame_at(frame)
    if count < 1:
        refuse(op, arguments)
    first, dtype = 0, -1
    for k in range(count):
        t = tensor_at(load(parts + 8 * k))
        dtype = t.dtype if dtype == t.dtype else promote(dtype, t.dtype)
        if first == 0 and (new or not skipped(t)):
            first = load(parts + 8 * k)
    if first == 0:
        first = load(parts)
    x = tensor_at(first)
    dim = wrap(a.numbers[2], x.ndim + new)
    if dim < 0 or x.ndim + new == 0 or x.ndim + new > RANK:
        refuse(op, arguments)
    length = 0
    for k in range(count):
        t = tensor_at(load(parts + 8 * k))
        if new or not skipped(t):
            if not like_but(t, x, -1 if new else dim):
                refuse(op, arguments)
            length += 1 if new else t.shape[dim]
        if t.dtype != dtype:
            conversion(dtype, t.dtype)
    f.ndim = x.ndim + new
    for i in range(f.ndim):
        f.shape[i] = length if i == dim else x.shape[i - 1 if new and i > dim else i]
    made = op_result(frame, dtype, out)
    o = tensor_at(made)
    data = o.data
    for k in range(count):
        part = load(parts + 8 * k)
        t = tensor_at(part)
        if new or not skipped(t):
            copy_part(made, data, part, dim, new)
            data += o.strides[dim] * (1 if new else t.shape[dim])
    return made


@native
def joined(op, parts, count, dim, out):
    """Join an array of tensors and record it: a node with as many inputs, which keeps dim, whether dim is new, and the lengths."""
    arguments = new_arguments()
    a = arguments_at(arguments)
    a.count = 3
    for k in range(3):
        a.tensors[k], a.kinds[k] = 0, 2
    a.numbers[0], a.numbers[1], a.numbers[2] = parts, count, dim
    wanted = False
    for k in range(count):
        wanted |= needs_grad(tensor_at(load(parts + 8 * k)))
    wanted = wanted and out == 0 and grad_enabled()
    if wanted:
        for k in range(count):
            settle(load(parts + 8 * k))
    device = tensor_at(load(parts)).device if count else 0
    for k in range(count):
        if tensor_at(load(parts + 8 * k)).device != device:
            call_python("driver_failed", MIXED, op, 0)
    before = replace_device(device)
    made = attempt(runner(op), op, arguments, out)
    replace_device(before)
    if made == -1:
        fail()
    x, new = tensor_at(made), op_at(op).trait
    if not wanted or x.dtype < FLOAT32:
        return made
    node = new_node(NATIVE, op, count, 0, 2 + count, made)
    place = node_at(node).attributes
    along = wrap(dim, x.ndim)
    store(place, along)
    store(place + 8, new)
    for k in range(count):
        part = load(parts + 8 * k)
        t = tensor_at(part)
        link(node, k, part)
        length = 1
        if new == 0:
            length = 0 if skipped(t) and x.ndim > 1 else t.shape[along]
        store(place + 8 * (2 + k), length)
    attach(made, node)
    return made


@entry
def join_tensors(self, args, count):
    """(row, tuple of tensors, dim, out or None) -> Tensor"""
    row, tensors, out = as_long(argument(args, 0)), argument(args, 1), 0
    n = tuple_size(tensors)
    if argument(args, 3) != symbol("none"):
        out = unboxed(argument(args, 3))
    for k in range(n):
        unboxed(tuple_item(tensors, k))  # fails for an empty box, before there is anything to free
    parts = malloc(8 * n + 8)
    for k in range(n):
        store(parts + 8 * k, load(tuple_item(tensors, k) + PAYLOAD))
    made = attempt(symbol("joined"), row, parts, n, as_long(argument(args, 2)), out)
    free(parts)
    if made == -1:
        fail()
    return box(made)


@native
def cat(op, arguments, out):
    """Tensors joined along a dimension, in the dtype that they promote to: address of the array of them, their count, dim."""
    return join(op, arguments, out, 0)


@native
def stack(op, arguments, out):
    """Tensors joined along a new dimension: address of the array of them, their count, dim."""
    return join(op, arguments, out, 1)
