"""Python objects that native memory depends on, each named by a handle: two words, the second the object's address.

A handle owns a reference. Native destructors may run without the GIL, so they do not drop it: they put the handle on a list, and
ask the interpreter (`Py_AddPendingCall`, which needs no GIL) to drain it.
"""

from numba import njit

from numbatensor.core.compiler import c_function, external, native, symbol
from numbatensor.core.memory import FIELD, exchange, free, load, malloc, store, take
from numbatensor.core.python import add_reference, argument, drop_reference, entry, from_long, none
from numbatensor.core.records import state_at

RELEASED, LOCK = FIELD["released"], FIELD["release_lock"]
OBJECT = 8  # offset in a handle
add_pending = external("Py_AddPendingCall", 2, small=True)


@njit
def next_released():
    """The next released handle, or 0."""
    here = symbol("state")
    take(here + LOCK)
    s = state_at(here)
    handle = s.released
    if handle:
        s.released = load(handle)
    exchange(here + LOCK, 0)
    return handle


@native
def drop_released(unused):
    """Drop the objects whose handles were released; what dropping them releases joins the list. Needs the GIL."""
    state_at(symbol("state")).asked = 0
    handle = next_released()
    while handle:
        drop_reference(load(handle + OBJECT))
        free(handle)
        handle = next_released()
    return 0


@c_function
def drain(argument):
    """What the interpreter runs at its next safe point."""
    return drop_released(0)


@njit
def release_handle(handle):
    """Let go of a Python object; it is dropped when a thread next holds the GIL."""
    here = symbol("state")
    take(here + LOCK)
    s = state_at(here)
    store(handle, s.released)
    s.released = handle
    ask = s.asked == 0
    s.asked = 1
    exchange(here + LOCK, 0)
    if ask and add_pending(symbol("drain"), 0):
        s.asked = 0  # the interpreter's queue is full: the next release asks again


@entry
def drop_handles(self, args, count):
    """() drop the objects whose handles were released"""
    drop_released(0)
    return none()


@entry
def hold(self, args, count):
    """(object) -> handle that keeps it alive, for native memory to own

    Objects that are let go of are dropped first: the interpreter asks for that in its main thread only, which may wait for long.
    """
    if state_at(symbol("state")).released:
        drop_released(0)
    handle = malloc(16)
    add_reference(argument(args, 0))
    store(handle, 0)
    store(handle + OBJECT, argument(args, 0))
    return from_long(handle)


@njit
def object_in(handle):
    """A new reference to the object of a handle; to None for 0."""
    found = load(handle + OBJECT) if handle else symbol("none")
    add_reference(found)
    return found
