"""How an op's own code is run: where its tensors are, and in float32 where it does not take float16 and bfloat16."""

from numba import njit

from numbatensor.core.arguments import hold_nothing, let_go, put_in_place
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import contiguous_copy, copy_into
from numbatensor.core.devices import RUN_THERE, there
from numbatensor.core.memory import decref, incref, load, local, memcpy
from numbatensor.core.python import call_python
from numbatensor.core.records import (
    VIEW,
    Arguments,
    arguments_at,
    local_at,
    new_arguments,
    new_frame,
    op_at,
    tensor_at,
)
from numbatensor.core.table import MIXED_FLOATS, MIXES, ON_CPU, ON_DEVICES, WIDE, runner
from numbatensor.core.tensors import FLOAT16, FLOAT32

ARGUMENTS = Arguments.itemsize


@njit
def run_as_it_is(op, arguments, out):
    """Run an op's own code, or what takes its place on a device. Views are geometry, wherever the elements are."""
    if local_at(local()).device and op_at(op).kind != VIEW:
        return call(there(RUN_THERE), op, arguments, out)
    return call(runner(op), op, arguments, out)


@native
def run_plainly(op, arguments, out):
    """The same, for code that is not part of this."""
    return run_as_it_is(op, arguments, out)


@njit
def float_of(op, arguments):
    """The dtype of the floats among an op's tensors: float16 or bfloat16, and no other, unless the op takes float32 beside its first."""
    a, dtype, mixed = arguments_at(arguments), 0, False
    for k in range(op_at(op).tensors):
        if a.tensors[k] and tensor_at(a.tensors[k]).dtype >= FLOAT32:
            given = tensor_at(a.tensors[k]).dtype
            if given == FLOAT32:
                mixed |= k == 0 or op_at(op).halves & MIXES == 0
            else:
                mixed |= dtype != 0 and given != dtype
                dtype = given
    if mixed:
        call_python("complain", MIXED_FLOATS, op, arguments, 0)
    return dtype


@native
def run_in_float32(op, arguments, out):
    """Run an op on copies of its tensors in float32, and round the result. `out`: 0, or the first argument, which is written."""
    dtype, here, held = float_of(op, arguments), new_arguments(), new_frame()
    memcpy(here, arguments, ARGUMENTS)
    hold_nothing(held)
    a, failed, made = arguments_at(here), False, -1
    for k in range(op_at(op).tensors):
        if a.tensors[k] and tensor_at(a.tensors[k]).dtype == dtype and not failed:
            wide = attempt(symbol("contiguous_copy"), a.tensors[k], FLOAT32, 0)
            failed = wide == -1
            if not failed:
                put_in_place(a, k, wide, held)
    if not failed:
        made = attempt(symbol("run_plainly"), op, here, load(held) if out else 0)
    result = made
    if made != -1 and out:
        result = -1 if attempt(symbol("copy_into"), out, made) == -1 else out
        if result == out:
            incref(out)
        decref(made)
    elif made != -1 and tensor_at(made).dtype == FLOAT32 and op_at(op).halves & WIDE == 0:
        result = attempt(symbol("contiguous_copy"), made, dtype, 0)
        decref(made)
    let_go(held)
    if result == -1:
        fail()
    return result


@njit
def run(op, arguments, out):
    """Run an op; in float32 where its code does not take float16 and bfloat16."""
    o, a, here = op_at(op), arguments_at(arguments), ON_DEVICES if local_at(local()).device else ON_CPU
    if o.halves & here == 0:
        for k in range(o.tensors):
            if a.tensors[k] and tensor_at(a.tensors[k]).dtype >= FLOAT16:
                return run_in_float32(op, arguments, out)
    return run_as_it_is(op, arguments, out)


assert run_plainly and contiguous_copy and copy_into  # reached through their symbols
