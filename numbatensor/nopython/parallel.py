"""Errors of ops in `prange`: Numba loses them, or leaves them set while code runs on; here they come out of the loop's function.

Numba runs the body of a parallel loop as a function that other threads call. An error that leaves it is made a Python error on that
thread, and then nobody looks. Ours are noted when they are made (`errors.py`), for the loops that are running, and raised after them.
"""

import types as python

from numba.core import types

from numbatensor.core.compiler import word
from numbatensor.core.private import Dispatcher, numba_ir
from numbatensor.nopython.calls import call_native, function_behind, invoke_cell, pass_on


def ours(kind):
    """Whether a type is one of ours, or made of them."""
    return "Tensor(" in str(kind) or str(kind).startswith("numbatensor.")


def names_ours(function, seen):
    """Whether the code of a function names something of the library, or a function that does."""
    if function in seen:
        return False
    seen.add(function)
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    for value in named + [cell.cell_contents for cell in function.__closure__ or ()]:
        value = value.py_func if isinstance(value, Dispatcher) else value
        place = value.__name__ if isinstance(value, python.ModuleType) else getattr(value, "__module__", None)
        if str(place).split(".")[0] == "numbatensor":
            return True
        if isinstance(value, python.FunctionType) and names_ours(value, seen):
            return True
    return False


def may_fail(lowering):
    """Whether an op may run in a function, or in one that it calls."""
    kinds = list(lowering.fndesc.typemap.values())
    called = [k.dispatcher.py_func for k in kinds if isinstance(k, types.Dispatcher)]
    return any(map(ours, kinds)) or any(names_ours(f, set()) for f in called)


def run_parallel(lowering, lower):
    """The code of a parallel loop, which `lower` makes, with what raises the errors in it."""
    context, builder = lowering.context, lowering.builder
    region = invoke_cell(context, builder, "compiled_enter_loop", [word(0)])
    leave = function_behind(context, builder, "compiled_leave_loop")  # afterwards an error may be set
    before = set(lowering.varmap)
    lower()
    made = {s.target.name for s in lowering.statement.init_block.body if isinstance(s, numba_ir.Assign)}
    lowering.shared |= set(lowering.varmap) - before - made  # of a sum, Numba gives one reference several names
    pass_on(context, builder, call_native(context, builder, leave, [region])[0])
