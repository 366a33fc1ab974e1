"""Tensors brought from one device to another."""

from numbatensor.core.arguments import number_argument
from numbatensor.core.compiler import native, symbol
from numbatensor.core.conversions import contiguous_copy
from numbatensor.core.devices import MOVES, copy_bytes, on, refuse_capture, synchronize, use
from numbatensor.core.memory import local
from numbatensor.core.records import Local, arguments_at, tensor_at

assert contiguous_copy  # reached through its symbol
ITEM = Local.fields["item"][1]


@native
def copy_on(device, t):
    """A contiguous copy of a tensor, unrecorded, on a device; a new reference."""
    return on(device, symbol("contiguous_copy"), t, tensor_at(t).dtype, 0)


@native
def moved(op, arguments, out):
    """A contiguous copy of the first argument on the device whose number is the second."""
    return copy_on(number_argument(arguments, 1), arguments_at(arguments).tensors[0])


@native
def item_there(t):
    """The address of a copy of the one element of a tensor, once all that was asked for before is done; it lasts until the thread asks again."""
    x, place = tensor_at(t), local() + ITEM
    refuse_capture(MOVES, 0)
    use(t)
    copy_bytes(place, x.data, x.itemsize, x.device)
    synchronize(x.device)
    return place
