"""The kernels of ops for devices: made of the same declarations as those of the CPU, loaded when an op is first used there."""

import importlib

from kernels_cuda import pointwise, transpose
from numbatensor.core import python
from numbatensor.core.compiler import native_address
from numbatensor.core.records import FORMS
from numbatensor.core.there import CONVERSIONS_THERE, DETOUR, DEVICE_TABLE, RUNNER, SAME, TILES
from numbatensor.op import BY_ADDRESS, DTYPES, itself, kind_there, name_of

KINDS = [kind_there(k) for k in range(len(DTYPES))]  # what memory holds, by dtype
load = None  # how the driver that is open loads a kernel: see `open_backend`


def code_of(there):
    """The native function that `there` is, or names, as "module:name" of `numbatensor.core`, imported when an op is first used there."""
    if not isinstance(there, str):
        return there
    module, _, name = there.partition(":")
    return getattr(importlib.import_module(f"numbatensor.core.{module}"), name)


def resolve_runner(op):
    """What runs an op on devices: the address of its code, or SAME or DETOUR."""
    found = DETOUR if op.there is None else SAME if op.there == "same" else native_address(code_of(op.there))
    DEVICE_TABLE[int(op.row["index"])]["run"] = found
    return found


@python.callback
def resolve_there(op, slot, dtype):
    """Load a kernel for devices: of an op (see `core/there.py`), or, where that is 0, what converts elements."""
    if slot == RUNNER:
        return resolve_runner(BY_ADDRESS[op])
    what, form = divmod(slot, FORMS)
    if op == 0:
        if form == TILES:
            kernel, arguments = transpose.transpose(KINDS[dtype])
        else:
            kernel, arguments = pointwise.elementwise(itself, [KINDS[what], KINDS[dtype]], form)
        handle = load(kernel, arguments, f"to.{name_of(what)}.{name_of(dtype)}.{form}")
        CONVERSIONS_THERE[what, dtype, form] = handle
        return handle
    declared = BY_ADDRESS[op]
    handle = declared.load_there(load, what, form, dtype)
    DEVICE_TABLE[int(declared.row["index"])]["kernels"][slot, dtype] = handle
    return handle
