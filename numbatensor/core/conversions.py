"""Broadcasting, and copies that convert."""

from numba import njit

from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.devices import COPY_BETWEEN, on, there
from numbatensor.core.graph import NATIVE, attach, link, needs_grad, new_node, settle
from numbatensor.core.iterate import begin, operand, sweep
from numbatensor.core.memory import decref, incref
from numbatensor.core.modes import grad_enabled
from numbatensor.core.records import frame_at, new_frame, tensor_at
from numbatensor.core.table import conversion
from numbatensor.core.tensors import FLOAT32, empty, shape_of


@njit
def broadcast(frame, x):
    """Widen a frame's shape by a tensor's; whether they fit."""
    f = frame_at(frame)
    if x.ndim > f.ndim:
        grow = x.ndim - f.ndim
        for i in range(f.ndim - 1, -1, -1):
            f.shape[i + grow] = f.shape[i]
        for i in range(grow):
            f.shape[i] = 1
        f.ndim = x.ndim
    lead = f.ndim - x.ndim
    for i in range(x.ndim):
        if f.shape[lead + i] == 1:
            f.shape[lead + i] = x.shape[i]
        elif x.shape[i] != 1 and x.shape[i] != f.shape[lead + i]:
            return False
    return True


@native
def empty_like(x, dtype, unused):
    """A new contiguous tensor with the shape of a tensor."""
    f = new_frame()
    shape_of(f, tensor_at(x))
    return empty(f, dtype)


@native
def empty_on(device, x, dtype):
    """A new contiguous tensor of a device with the shape of a tensor."""
    return on(device, symbol("empty_like"), x, dtype, 0)


@native
def copy_into(out, x):
    """out[...] = x, converted and broadcast; neither is recorded nor counted."""
    a, b = tensor_at(out), tensor_at(x)
    if a.device | b.device:
        return call(there(COPY_BETWEEN), out, x)
    f = new_frame()
    begin(f, 0 if a.dtype == b.dtype else conversion(a.dtype, b.dtype))
    shape_of(f, a)
    operand(f, a)
    operand(f, b)
    return sweep(f, 1)


@native
def contiguous_copy(x, dtype, unused):
    """A contiguous copy of a tensor, in a dtype and where this thread makes its tensors, unrecorded; a new reference."""
    f = new_frame()
    shape_of(f, tensor_at(x))
    made = empty(f, dtype)
    if attempt(symbol("copy_into"), made, x) == -1:
        decref(made)
        fail()
    return made


@native
def convert(x, dtype):
    """The tensor in another dtype, recorded where it is wanted; a new reference."""
    t = tensor_at(x)
    if t.dtype == dtype:
        incref(x)
        return x
    made = on(t.device, symbol("contiguous_copy"), x, dtype, 0)
    if needs_grad(t) and grad_enabled() and dtype >= FLOAT32:
        settle(x)
        node = new_node(NATIVE, symbol("op_to"), 1, 0, 0, made)
        link(node, 0, x)
        attach(made, node)
    return made


assert copy_into and empty_like and contiguous_copy  # reached through their symbols
