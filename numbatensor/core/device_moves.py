"""Tensors brought from one device to another."""

from numbatensor.core.arguments import number_argument
from numbatensor.core.compiler import native, symbol
from numbatensor.core.conversions import contiguous_copy
from numbatensor.core.devices import on
from numbatensor.core.records import arguments_at, tensor_at

assert contiguous_copy  # reached through its symbol


@native
def copy_on(device, t):
    """A contiguous copy of a tensor, unrecorded, on a device; a new reference."""
    return on(device, symbol("contiguous_copy"), t, tensor_at(t).dtype, 0)


@native
def moved(op, arguments, out):
    """A contiguous copy of the first argument on the device whose number is the second."""
    return copy_on(number_argument(arguments, 1), arguments_at(arguments).tensors[0])
