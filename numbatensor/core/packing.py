"""What ops on whole arrays ask for before they start: contiguous operands, room for words, results, and the GIL let go."""

from numba import njit

from numbatensor.core.compiler import attempt, call, native
from numbatensor.core.conversions import contiguous_copy
from numbatensor.core.iterate import PARALLEL
from numbatensor.core.memory import free, incref, malloc
from numbatensor.core.pool import LARGE, allocate_large, free_large
from numbatensor.core.python import call_python, gil_held, restore_thread, save_thread
from numbatensor.core.records import Arguments, tensor_at
from numbatensor.core.tensors import empty

TENSORS_AT = Arguments.fields["tensors"][1]


@native
def packed_as(t, dtype):
    """The tensor itself, or its elements in a contiguous tensor of a dtype, unrecorded; a new reference."""
    x = tensor_at(t)
    if x.contiguous and x.dtype == dtype:
        incref(t)
        return t
    return contiguous_copy(t, dtype, 0)


@njit
def tensors_from(arguments, k):
    """Address of the addresses of the tensors from argument k on."""
    return arguments + TENSORS_AT + 8 * k


@native
def op_result(frame, dtype, out):
    """The tensor that an op writes into: `out`, or a new one with a frame's shape; a new reference."""
    if out:
        incref(out)
        return out
    return empty(frame, dtype)


@native
def new_words(n):
    """Room for n words, for :func:`free_words`."""
    room = malloc(8 * n + 8) if 8 * n < LARGE else allocate_large(8 * n)
    if room == 0:
        call_python("complain", 0, 8 * n, 0, 0)
    return room


@native
def free_words(room, n):
    """Give room back."""
    if 8 * n < LARGE:
        free(room)
        return 0
    return free_large(room, 8 * n)


@native
def run_long(function, context, work):
    """Call ``function(context, 0)`` on this thread, without the GIL where the work is long."""
    if work < PARALLEL or gil_held() == 0:
        return call(function, context, 0)
    thread = save_thread()
    status = attempt(function, context, 0)
    restore_thread(thread)
    return status


@njit
def width_code(itemsize):
    """The dtype whose kernels move elements of so many bytes: uint8, int16, int32, int64."""
    return 1 if itemsize == 1 else 3 if itemsize == 2 else 4 if itemsize == 4 else 5
