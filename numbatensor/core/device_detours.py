"""Ops that a device has no code for: the CPU does the work, on copies of the tensors. Slow, and always right."""

import numpy as np
from numba import njit

from numbatensor.core.arguments import hold_nothing, let_go, put_in_place
from numbatensor.core.compiler import attempt, fail, native, publish, symbol
from numbatensor.core.conversions import copy_into, empty_on
from numbatensor.core.device_moves import copy_on
from numbatensor.core.devices import DETOURS, refuse_capture, replace_device
from numbatensor.core.dispatch import launch
from numbatensor.core.graph import SAVED, unpack
from numbatensor.core.halves import computed
from numbatensor.core.iterate import begin, operand, scalar_operand, sweep
from numbatensor.core.memory import atomic_add, decref, incref, load, local, memcpy, memset, store
from numbatensor.core.records import (
    OPERANDS,
    Arguments,
    arguments_at,
    local_at,
    new_arguments,
    new_frame,
    node_at,
    op_at,
    saved_at,
    tensor_at,
)
from numbatensor.core.running import run
from numbatensor.core.table import ROWS, extra_kernel, kernel_of
from numbatensor.core.tensors import empty, shape_of

ARGUMENTS = Arguments.itemsize
detours = np.zeros(ROWS, np.int64)  # how often each op took one
publish("detours", detours.ctypes.data)


@njit
def begin_detour(op):
    """Count a detour, unless a graph is captured, which cannot hold it; the device where this thread makes its tensors."""
    refuse_capture(DETOURS, op)
    atomic_add(symbol("detours") + 8 * op_at(op).index, 1)
    return local_at(local()).device


@native
def bring_arguments(here, arguments, count, held):
    """Arguments whose tensors are copies on the CPU, which `held` owns, by argument."""
    memcpy(here, arguments, ARGUMENTS)
    hold_nothing(held)
    a = arguments_at(here)
    for k in range(count):
        if a.tensors[k]:
            t = attempt(symbol("copy_on"), 0, a.tensors[k])
            if t == -1:
                let_go(held)
                fail()
            put_in_place(a, k, t, held)
    return 0


@native
def run_as_on_cpu(op, arguments, out):
    """Run an op where this thread makes its tensors on the CPU."""
    return run(op, arguments, out)


@native
def run_detour(op, arguments, out):
    """Run an op on the CPU; the result is on the device where this thread makes its tensors. `out`: 0, or the first argument."""
    device, here, held = begin_detour(op), new_arguments(), new_frame()
    bring_arguments(here, arguments, op_at(op).tensors, held)
    replace_device(0)
    made = attempt(symbol("run_as_on_cpu"), op, here, load(held) if out else 0)
    replace_device(device)
    result = -1
    if made != -1:
        if out:
            result = -1 if attempt(symbol("copy_into"), out, made) == -1 else out
            if result == out:
                incref(out)
        else:
            result = attempt(symbol("copy_on"), device, made)
        decref(made)
    let_go(held)
    if result == -1:
        fail()
    return result


@native
def launch_on_cpu(op, arguments, out, dtype):
    """Run a pointwise op's kernel on the CPU."""
    return launch(op, kernel_of(op, computed(dtype)), arguments, out, dtype)


@native
def launch_detour(op, arguments, out, dtype):
    """Run a pointwise op on the CPU, into a tensor of a device."""
    device, here, held = begin_detour(op), new_arguments(), new_frame()
    bring_arguments(here, arguments, op_at(op).operands, held)
    made = attempt(symbol("empty_on"), 0, out, tensor_at(out).dtype)
    failed = made == -1
    if not failed:
        replace_device(0)
        failed = attempt(symbol("launch_on_cpu"), op, here, made, dtype) == -1
        replace_device(device)
        failed = failed or attempt(symbol("copy_into"), out, made) == -1
        decref(made)
    let_go(held)
    if failed:
        fail()
    return out


@native
def rule_on_cpu(node, i, grad, held):
    """The gradient of input i by the kernel of a pointwise op; what is held is given back by the caller."""
    n, f = node_at(node), new_frame()
    o, dtype = op_at(n.op), tensor_at(grad).dtype
    begin(f, extra_kernel(n.op, i, computed(dtype)))
    shape_of(f, n)
    out = empty(f, dtype)
    store(held, out)
    operand(f, tensor_at(out))
    operand(f, tensor_at(grad))
    for k in range(n.saved):
        s = saved_at(n.saves + k * SAVED)
        if o.saves[i] >> s.which & 1:
            if s.storage:
                far = unpack(node, k)
                t = attempt(symbol("copy_on"), 0, far)
                decref(far)
                if t == -1:
                    fail()
                store(held + 8 * (1 + k), t)
                operand(f, tensor_at(t))
            else:
                scalar_operand(f, s.data, s.itemsize)
    sweep(f, o.cost)
    return 0


@native
def rule_detour(node, i, grad):
    """The same, for a gradient on a device."""
    n, held = node_at(node), new_frame()
    device, made = begin_detour(n.op), -1
    memset(held, 0, 8 * (OPERANDS + 1))
    near = copy_on(0, grad)
    replace_device(0)
    failed = attempt(symbol("rule_on_cpu"), node, i, near, held) == -1
    replace_device(device)
    decref(near)
    if not failed:
        made = attempt(symbol("copy_on"), device, load(held))
    for k in range(OPERANDS + 1):
        decref(load(held + 8 * k))
    if made == -1:
        fail()
    return made


assert (
    copy_into and empty_on and copy_on and run_as_on_cpu and launch_on_cpu and rule_on_cpu and bring_arguments
)  # reached through symbols
