"""Cells: words that users' compiled code finds by name, and that hold the addresses of native functions.

A cell is published when the library is imported and filled when it is first used, so that code which Numba has cached links in a
process that has not compiled anything yet. Beside them what such code needs of Python: types of arguments, errors, and users' ops.
"""

import ctypes
import functools
import os
import re
import traceback

import numpy as np

from numbatensor.core import compiled, compiled_calls, compiled_composites, compiled_parts, custom_ops, loops
from numbatensor.core.compiler import (
    CORE,
    ROOT,
    address,
    attempt,
    declared,
    digest,
    fail,
    native,
    publish,
    stamp,
    symbol,
)
from numbatensor.core.entries import field
from numbatensor.core.memory import load, store
from numbatensor.core.private import guard_cached
from numbatensor.core.python import (
    PAYLOAD,
    add_reference,
    argument,
    box,
    call_python,
    callback,
    drop_reference,
    ensure,
    entry,
    none,
    release,
    restore_error,
    store_error,
)
from numbatensor.core.records import LAYOUT, tensor_at
from numbatensor.core.tensors import alias
from numbatensor.core.thread_words import get_specific

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


@native
def put_away(unused):
    """Put the error that is set away, on this thread: compiled code may catch it, and then nothing must be set."""
    words = store_error()
    if load(words + 16) and call_python("forget_frames", load(words + 16), load(words + 8)):
        state = ensure()
        drop_reference(load(words + 16))
        store(words + 16, 0)
        release(state)
    return 0


PACKAGE = str(ROOT / "numbatensor") + os.sep


@callback
def forget_frames(address, error):
    """Let go of what the frames of a traceback hold: an error that compiled code has caught lasts until the thread's next one. Gives
    whether the traceback may go too, which holds its callers' frames: where it shows the library alone."""
    found = ctypes.cast(address, ctypes.py_object).value
    traceback.clear_frames(found)
    ours = all(frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in traceback.walk_tb(found))
    raised = ctypes.cast(error, ctypes.py_object).value if error else None
    if ours and isinstance(raised, BaseException):
        raised.__traceback__ = None
    return int(ours)


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


PROCESS = os.urandom(16).hex()  # no other has it, but for those that this one forks, which have its rows too
finders: dict = {}  # of users' ops, by their kind: from a name to the row's address in this process


def row_text(kind, row, name):
    """What compiled code finds the row of a user's op by: by its address, or in another process by its name."""
    return f"{PROCESS}\n{row}\n{kind}\n{name}"


@callback
def find_row(text):
    """The row of a user's op that compiled code names."""
    process, row, kind, name = ctypes.string_at(text).decode().split("\n", 3)
    if process == PROCESS:
        return int(row)
    found = finders[kind](name) if kind in finders else 0
    if not found:
        shown = re.split(r"[\n|]", name)[0]
        raise RuntimeError(
            f"compiled code that Numba has cached uses {shown}, which is not defined in this process, or differently: save the file of the "
            "calling function again, so that it is compiled anew"
        )
    return found


CELLS = (
    *(name for name in declared if name.startswith("compiled_")),
    "box",
    "alias",
    "field",
)
cells = np.zeros(len(CELLS), np.int64)


@functools.cache
def prefix():
    """How names of cells begin: with a fingerprint of what users' code is made for. The cells are published under it when first asked for."""
    found = f"cell_{digest(CORE.name if CORE else stamp())[:8]}_"
    for k, name in enumerate(CELLS):
        publish(found + name, cells.ctypes.data + 8 * k)
    return found


def fits(code):
    """Whether cached object code of a user's was made for this version of the library, or uses nothing of it."""
    used = {v.decode() for v in re.findall(rb"(?:\0|\d)numbatensor_(\d+_cell_\w{8}_)", code)}
    return not used or used == {f"{LAYOUT}_{prefix()}"}


guard_cached(fits)


@callback
def fill_cell(cell):
    """The address of the native function behind a cell, compiled or loaded at its first use."""
    k = (cell - cells.ctypes.data) // 8
    cells[k] = address(CELLS[k])
    return int(cells[k])


@native
def find_cell(cell):
    return call_python("fill_cell", cell)


@native
def fails():
    """What runs in the place of a function that could not be loaded, whatever its arguments: that error is set."""
    fail()
    return 0


@native
def load_cell(cell):
    """The address of the function behind a cell that is not filled yet."""
    found = attempt(symbol("find_cell"), cell)
    return symbol("fails") if found == -1 else found


for name in ("load_cell", "put_away"):
    address(name)  # these two have no cells: one fills them, and one runs while an error is set


assert (
    compiled
    and compiled_calls
    and compiled_composites
    and compiled_parts
    and custom_ops
    and loops
    and alias
    and box
    and field
)  # reached through their symbols
