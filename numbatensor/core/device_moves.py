"""Tensors brought from one device to another."""

from numbatensor.core.arguments import number_argument
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import copy_into, empty_on
from numbatensor.core.memory import decref
from numbatensor.core.records import arguments_at, tensor_at

assert copy_into  # reached through its symbol


@native
def copy_on(device, t):
    """A contiguous copy of a tensor, unrecorded, on a device; a new reference."""
    made = empty_on(device, t, tensor_at(t).dtype)
    if attempt(symbol("copy_into"), made, t) == -1:
        decref(made)
        fail()
    return made


@native
def moved(op, arguments, out):
    """A contiguous copy of the first argument on the device whose number is the second."""
    return copy_on(number_argument(arguments, 1), arguments_at(arguments).tensors[0])
