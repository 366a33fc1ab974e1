"""Python objects that native memory depends on, held in one Python table and named by handles.

Native memory never owns a `PyObject*`: its destructors may run without the GIL. They put the handle on a list, and ask the
interpreter (`Py_AddPendingCall`, which needs no GIL) to drain it; `drop_handles` lets the objects go.
"""

from numba import njit

from numbatensor.core.compiler import attempt, c_function, external, native, symbol
from numbatensor.core.memory import FIELD, exchange, free, load, malloc, state, store, take
from numbatensor.core.python import call_python, callback, entry, from_long
from numbatensor.core.records import state_at

RELEASED, LOCK = FIELD["released"], FIELD["release_lock"]
table: dict[int, object] = {}
add_pending = external("Py_AddPendingCall", 2, small=True)


@native
def ask_python(unused):
    return call_python("drop_handles", 0)


@c_function
def drain(argument):
    """What the interpreter runs at its next safe point."""
    attempt(symbol("ask_python"), argument)
    return 0


@njit
def release_handle(handle):
    """Let go of a Python object; it is dropped when a thread next holds the GIL."""
    here = symbol("state")
    take(here + LOCK)
    s = state_at(here)
    first = s.released == 0
    store(handle, s.released)
    s.released = handle
    exchange(here + LOCK, 0)
    if first:
        add_pending(symbol("drain"), 0)


@entry
def take_released(self, args, count):
    """The next released handle, or 0; frees it."""
    here = symbol("state")
    take(here + LOCK)
    s = state_at(here)
    handle = s.released
    if handle:
        s.released = load(handle)
    exchange(here + LOCK, 0)
    if handle:
        free(handle)
    return from_long(handle)


@entry
def new_handle(self, args, count):
    """A word that names an object."""
    return from_long(malloc(16))


@callback
def drop_handles(unused=0):
    """Drop the objects whose handles were released."""
    while state["released"][0]:
        table.pop(take_released(), None)
    return 0


def hold(value):
    """The handle of an object, for native memory to own."""
    handle = new_handle()
    table[handle] = value
    return handle
