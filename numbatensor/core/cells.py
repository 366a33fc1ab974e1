"""Cells: words that users' compiled code finds by name, and that hold the addresses of native functions.

A cell is published when the library is imported and filled when it is first used, so that code which Numba has cached links in a
process that has not compiled anything yet. Beside them what such code needs of Python: types of arguments, and errors.
"""

import ctypes
import traceback

import numpy as np
from numba import njit, types

from numbatensor.core import compiled, compiled_calls, compiled_parts
from numbatensor.core.compiled_calls import ensure, release
from numbatensor.core.compiler import address, declared, external, native, publish, symbol
from numbatensor.core.entries import field
from numbatensor.core.memory import load, malloc, store
from numbatensor.core.modes import get_specific, new_key, set_specific
from numbatensor.core.python import (
    PAYLOAD,
    add_reference,
    argument,
    box,
    call_python,
    callback,
    drop_reference,
    entry,
    none,
)
from numbatensor.core.records import (
    tensor_at,
)
from numbatensor.core.tensors import alias

numba_types = np.zeros((16, 16), np.int64)  # Numba's types of tensors, by dtype and rank; alive as long as the process
publish("numba_types", numba_types.ctypes.data)


@native
def get_numba_type(function, args, count):
    """What Numba takes a tensor for; Python makes what is not known yet."""
    obj = argument(args, 0)
    if load(obj + PAYLOAD) == 0:
        return 1
    x = tensor_at(load(obj + PAYLOAD))
    found = load(symbol("numba_types") + 8 * (16 * x.dtype + x.ndim))
    if found == 0:
        return 1
    add_reference(found)
    return found


fetch_error = external("PyErr_Fetch", 3, types.none)
restore_error = external("PyErr_Restore", 3, types.none)
error_key = new_key()
publish("error_key", error_key.ctypes.data)


@njit
def drop_error(words):
    """Forget an error that was put away. Needs the GIL."""
    for k in range(3):
        obj = load(words + 8 * k)
        store(words + 8 * k, 0)
        if obj:
            drop_reference(obj)


@native
def put_away(unused):
    """Put the error that is set away, on this thread: compiled code may catch it, and then nothing must be set."""
    state = ensure()
    here = load(symbol("error_key"))
    words = get_specific(here)
    if words == 0:
        words = malloc(24)
        for k in range(3):
            store(words + 8 * k, 0)
        set_specific(here, words)
    drop_error(words)
    fetch_error(words, words + 8, words + 16)
    if load(words + 16):
        call_python("forget_frames", load(words + 16))
    release(state)
    return 0


@callback
def forget_frames(address):
    """Let go of what the frames of a traceback hold: an error that compiled code has caught lasts until the thread's next one."""
    traceback.clear_frames(ctypes.cast(address, ctypes.py_object).value)
    return 0


@entry
def raise_again(self, args, count):
    """() raise the error that was put away on this thread"""
    words = get_specific(load(symbol("error_key")))
    if words == 0 or load(words) == 0:
        return none()
    restore_error(load(words), load(words + 8), load(words + 16))
    for k in range(3):
        store(words + 8 * k, 0)
    return 0


CELLS = (
    *(name for name in declared if name.startswith("compiled_")),
    "box",
    "alias",
    "field",
)
cells = np.zeros(len(CELLS), np.int64)
for k, name in enumerate(CELLS):
    publish("cell_" + name, cells.ctypes.data + 8 * k)


@callback
def fill_cell(cell):
    """The address of the native function behind a cell, compiled or loaded at its first use."""
    k = (cell - cells.ctypes.data) // 8
    cells[k] = address(CELLS[k])
    return int(cells[k])


@native
def load_cell(cell):
    return call_python("fill_cell", cell)


for name in ("load_cell", "put_away"):
    address(name)  # these two have no cells: one fills them, and one runs while an error is set


assert compiled and compiled_calls and compiled_parts and alias and box and field  # reached through their symbols
