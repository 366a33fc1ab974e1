"""The one road that every op takes from its arguments to its result."""

import numpy as np
from numba import njit

from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import broadcast, convert, copy_into
from numbatensor.core.devices import LAUNCH_THERE, PERFORM_ON, there
from numbatensor.core.graph import attach, needs_grad, node_of
from numbatensor.core.halves import computed
from numbatensor.core.iterate import POINTERS, VARIANT, begin, operand, scalar_operand, sweep
from numbatensor.core.memory import decref, incref, load, local
from numbatensor.core.modes import grad_enabled, inference_used
from numbatensor.core.promotion import category, common_dtype, put_number
from numbatensor.core.python import call_python
from numbatensor.core.quick import FEW, SHORT, quick, write_out
from numbatensor.core.recording import reads, record_node, settle_all, wants_record
from numbatensor.core.records import (
    POINTWISE,
    STRUCTURED,
    Frame,
    arguments_at,
    frame_at,
    local_at,
    new_frame,
    on_stack,
    op_at,
    tensor_at,
)
from numbatensor.core.running import run
from numbatensor.core.table import (
    NEGATIVE_POWER,
    OUT_DTYPE,
    OUT_GRAD,
    OUT_SHAPE,
    OVERLAP,
    RAISES,
    SHAPES,
    UNSUPPORTED,
    ZERO_DIVISION,
    conversion,
    kernel_of,
)
from numbatensor.core.tensors import FLOAT16, FLOAT32, empty, itemsize_of, same_shape, shape_of
from numbatensor.core.writes import bump, check_write, overlaps, rebase

NUMBERS = Frame.fields["numbers"][1]
SHORTS = 3  # how many numbers are written out
new_shorts = on_stack(np.dtype([("words", "i8", SHORT * SHORTS)]))


@native
def launch(op, kernel, arguments, out, dtype):
    """Run a kernel over the arguments, all of dtype `dtype` but masks, broadcast to the shape of `out`."""
    o, a, x = op_at(op), arguments_at(arguments), tensor_at(out)
    if x.device:
        return call(there(LAUNCH_THERE), op, arguments, out, dtype)
    frame = new_frame()
    f = frame_at(frame)
    even, numbers = x.contiguous, False
    for k in range(o.operands):
        t = a.tensors[k]
        if t:
            even = even and tensor_at(t).contiguous and same_shape(tensor_at(t), x)
        else:
            numbers = True
    begin(frame, kernel)
    if o.operands == 2 and x.numel >= VARIANT:
        f.op, f.dtype = op, computed(dtype)
    even = even and x.dtype < FLOAT16 and dtype < FLOAT16
    if even and x.numel <= (SHORT if numbers and o.operands <= SHORTS else 0 if numbers else FEW):
        f.pointers[0], room = x.data, 0
        if numbers:
            room = new_shorts()
        for k in range(o.operands):
            if a.tensors[k]:
                f.pointers[k + 1] = tensor_at(a.tensors[k]).data
            else:  # as often as there are elements: cheaper than a sweep, which costs 60 ns
                f.pointers[k + 1] = room
                write_out(room, dtype, a.kinds[k], a.numbers[k], x.numel)
                room += 8 * SHORT
        return call(kernel, frame + POINTERS, x.numel)
    shape_of(frame, x)
    operand(frame, x)
    for k in range(o.operands):
        t = a.tensors[k]
        if t:
            operand(frame, tensor_at(t))
        else:
            address = frame + NUMBERS + 8 * k
            put_number(address, computed(dtype), a.kinds[k], a.numbers[k])
            scalar_operand(frame, address, itemsize_of(computed(dtype)))
    return sweep(frame, o.cost)


@njit
def frame_of(frame, t):
    shape_of(frame, tensor_at(t))
    return frame


@njit
def check_second(op, o, a):
    """Fail where integers would be divided by zero, or raised to a negative number."""
    if o.trait == RAISES:
        if a.kinds[1] == 2 and a.numbers[1] < 0:
            call_python("complain", NEGATIVE_POWER, op, 0, 0)
        return
    zero = a.kinds[1] != 0 and a.numbers[1] == 0
    if a.tensors[1]:
        t = tensor_at(a.tensors[1])
        zero = t.numel != 0 and call_python("has_zero", a.tensors[1]) != 0
    if zero:
        call_python("complain", ZERO_DIVISION, op, 0, 0)


@native
def pointwise(op, arguments, out):
    """Run a pointwise op; into `out` if that is not 0. Gives a new reference to the result."""
    o, a = op_at(op), arguments_at(arguments)
    dtype = common_dtype(a, o.tensors, o.masks)
    if o.promotes and dtype < FLOAT32:
        dtype = load(symbol("default_dtype"))
    if o.dtypes >> dtype & 1 == 0:
        call_python("complain", UNSUPPORTED, op, dtype, 0)
    if o.trait and dtype < FLOAT32:
        check_second(op, o, a)
    result = o.result - 1 if o.result else dtype
    frame = new_frame()
    frame_at(frame).ndim = 0
    mixed = wanted = views = 0
    for k in range(o.tensors):
        t = a.tensors[k]
        if t:
            x = tensor_at(t)
            views |= x.base
            if not broadcast(frame, x):
                call_python("complain", SHAPES, op, arguments, k)
            mixed |= (x.dtype != dtype and o.masks >> k & 1 == 0) << k
            wanted |= needs_grad(x)
    wanted = 1 if wanted and o.result == 0 and dtype >= FLOAT32 and grad_enabled() else 0
    # kernels are found before anything is made or written; those of devices, when they are launched
    here = local_at(local()).device == 0
    kernel = kernel_of(op, computed(dtype)) if here else 0
    if out:
        y = tensor_at(out)
        if not same_shape(y, frame_at(frame)):
            call_python("complain", OUT_SHAPE, op, out, frame)
        if category(result) > category(y.dtype):
            call_python("complain", OUT_DTYPE, result, y.dtype, 0)
        check_write(op, out, wanted)
        for k in range(o.tensors):
            if a.tensors[k] and a.tensors[k] != out and overlaps(y, tensor_at(a.tensors[k])):
                call_python("complain", OVERLAP, op, out, a.tensors[k])
        if here and y.dtype != result:
            conversion(y.dtype, result)
    if wanted and (views or inference_used()):
        settle_all(op, arguments)
    if mixed:
        for k in range(o.tensors):
            if here and mixed >> k & 1:
                conversion(dtype, tensor_at(a.tensors[k]).dtype)
        for k in range(o.tensors):
            if mixed >> k & 1:
                a.tensors[k] = convert(a.tensors[k], dtype)
    made = out
    if out == 0 or tensor_at(out).dtype != result:
        made = empty(frame, result)
    elif wanted:
        # a rule that reads the value that is overwritten gets a copy of it
        for k in range(o.tensors):
            t = a.tensors[k]
            if t and tensor_at(t).storage == tensor_at(out).storage and reads(o, a, k):
                kept = empty(frame_of(frame, t), tensor_at(t).dtype)
                copy_into(kept, t)
                if tensor_at(t).requires_grad:
                    incref(node_of(t))
                    tensor_at(kept).node, tensor_at(kept).output_nr, tensor_at(kept).requires_grad = (
                        node_of(t),
                        tensor_at(t).output_nr,
                        1,
                    )
                if mixed >> k & 1:
                    decref(t)
                mixed |= 1 << k
                a.tensors[k] = kept
    node, final = 0, out if out else made
    if here:
        launch(op, kernel, arguments, made, dtype)
    elif attempt(there(LAUNCH_THERE), op, arguments, made, dtype) == -1:
        node = -1
    if out and node == 0:
        if made != out:
            copy_into(out, made)
        bump(op + (a.tensors[0] != out and mixed & 1 == 0), out)  # one more: by `out=`
    if wanted and node == 0:
        node = attempt(symbol("record"), op, final, arguments, dtype, out)
    if node > 0:
        if out:
            rebase(out, node)
        else:
            attach(made, node)
    if out:
        if made != out:
            decref(made)
        incref(out)
    for k in range(o.tensors):
        if mixed >> k & 1:
            decref(a.tensors[k])
    if node == -1:
        decref(final)
        fail()
    return final


@njit
def device_of(a, tensors, out):
    """The device of an op's tensors: the greatest number among them; -1 where there is no tensor."""
    device = tensor_at(out).device if out else -1
    for k in range(tensors):
        if a.tensors[k]:
            device = max(device, tensor_at(a.tensors[k]).device)
    return device


@native
def performed(op, arguments):
    """Run an op where this thread makes its tensors, and record it."""
    o, a = op_at(op), arguments_at(arguments)
    if o.kind == POINTWISE:
        return pointwise(op, arguments, 0)
    check_dtype(op, a)
    out = run(op, arguments, 0)
    if wants_record(o, a, out) and attempt(symbol("record_call"), op, out, arguments) == -1:
        decref(out)
        fail()
    return out


@native
def perform(op, arguments):
    """Run an op on its arguments and record it; gives a new reference to the result."""
    o, a = op_at(op), arguments_at(arguments)
    if o.kind == POINTWISE:
        made = quick(op, arguments)
        if made:
            return made
    if device_of(a, o.tensors, 0) > 0 or local_at(local()).device:
        return call(there(PERFORM_ON), op, arguments, 0, 0)
    return performed(op, arguments)


@njit
def check_dtype(op, a):
    """Fail unless an op takes tensors of the first argument's dtype."""
    if a.tensors[0]:
        dtype = tensor_at(a.tensors[0]).dtype
        if op_at(op).dtypes >> dtype & 1 == 0:
            call_python("complain", UNSUPPORTED, op, dtype, 0)


@native
def write_structured(op, arguments, out):
    """Run an op that can write in place on its first argument; its rules do not read what is overwritten."""
    o, a = op_at(op), arguments_at(arguments)
    wanted = 1 if wants_record(o, a, out) else 0
    check_write(op, out, wanted)
    for k in range(1, o.tensors):
        if a.tensors[k] and overlaps(tensor_at(out), tensor_at(a.tensors[k])):
            call_python("complain", OVERLAP, op, out, a.tensors[k])
    if wanted:
        settle_all(op, arguments)
    decref(run(op, arguments, out))
    bump(op, out)
    if wanted:
        rebase(out, record_node(op, out, arguments))
    incref(out)
    return out


@native
def perform_into(op, arguments, out, in_place):
    """Run an op and write the result into a tensor: its first argument (`in_place`), or one that must not need a gradient."""
    if device_of(arguments_at(arguments), op_at(op).tensors, out) > 0 or local_at(local()).device:
        return call(there(PERFORM_ON), op, arguments, out, in_place)
    return performed_into(op, arguments, out, in_place)


@native
def performed_into(op, arguments, out, in_place):
    """The same, where this thread makes its tensors."""
    o, a = op_at(op), arguments_at(arguments)
    if in_place == 0 and o.result == 0 and grad_enabled():
        wanted = tensor_at(out).requires_grad
        for k in range(o.tensors):
            wanted |= a.tensors[k] != 0 and needs_grad(tensor_at(a.tensors[k]))
        if wanted:
            call_python("complain", OUT_GRAD, op, 0, 0)
    if o.kind == POINTWISE:
        return pointwise(op, arguments, out)
    check_dtype(op, a)
    if in_place and o.kind == STRUCTURED and (o.trait == 2 or (o.trait and tensor_at(out).contiguous)):
        return write_structured(op, arguments, out)
    if in_place:
        made = performed(op, arguments)
        failed = attempt(symbol("write"), out, made, op) == -1
        decref(made)
        if failed:
            fail()
        incref(out)
        return out
    check_write(op, out, 0)
    made = run(op, arguments, 0)
    y, x = tensor_at(out), tensor_at(made)
    if not same_shape(x, y) or category(x.dtype) > category(y.dtype):
        f = new_frame()
        shape_of(f, x)
        wrong_shape, dtype = not same_shape(x, y), x.dtype
        decref(made)
        if wrong_shape:
            call_python("complain", OUT_SHAPE, op, out, f)
        call_python("complain", OUT_DTYPE, dtype, y.dtype, 0)
    copy_into(out, made)
    decref(made)
    bump(op + 1, out)
    incref(out)
    return out
