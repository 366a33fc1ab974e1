"""Source lines: where the user's code called an op, read from the interpreter's frame in tens of nanoseconds.

A site is a code object and an instruction offset; it becomes a file and a line only in an error message. Code objects are kept
alive once seen (at most 65536 of them), since a node may outlive the function that made it. Users' compiled code has no frame: while
it runs an op, a word of the thread names the line.
"""

import ctypes
import sys

import numpy as np
from numba import njit, types

from numbatensor.core.compiler import external, native, publish, symbol
from numbatensor.core.memory import load, store
from numbatensor.core.python import add_reference, call_python, callback, drop_reference, gil_held
from numbatensor.core.thread_words import get_specific, new_key, set_specific

LIBRARY, CODES, LIMIT = 512, 4096, 65536
get_frame = external("PyEval_GetFrame", 0)
get_back = external("PyFrame_GetBack", 1)
get_globals = external("PyFrame_GetGlobals", 1)
get_code = external("PyFrame_GetCode", 1)
get_lasti = external("PyFrame_GetLasti", 1, types.int64, small=True)

library = np.zeros(LIBRARY, np.int64)  # hash table of the globals of our own modules
codes = np.zeros(CODES, np.int64)  # direct-mapped: the code objects seen last
publish("library", library.ctypes.data)
publish("codes", codes.ctypes.data)
kept: dict = {}
compiled: dict = {}  # lines of users' compiled code: (file, line) by the word that names it
words: dict = {}
site_key = new_key()
publish("site_key", site_key.ctypes.data)
COMPILED = -1  # stands where an instruction offset stands: `code` is a word of `compiled`
source_lines = np.ones(1, np.int64)  # whether lines are noted
publish("source_lines", source_lines.ctypes.data)
writers: dict = {}  # names of what writes without being an op, by address


@njit
def is_library(globals_):
    k = (globals_ >> 4) % LIBRARY
    start = symbol("library")
    while load(start + 8 * k):
        if load(start + 8 * k) == globals_:
            return True
        k = (k + 1) % LIBRARY
    return False


@native
def find_frame(unused):
    """The nearest frame outside of the library, as a new reference, or 0. Needs the GIL."""
    frame = get_frame()
    owned = False
    while frame:
        known = get_globals(frame)
        drop_reference(known)
        if not is_library(known):
            if not owned:
                add_reference(frame)
            return frame
        back = get_back(frame)
        if owned:
            drop_reference(frame)
        frame, owned = back, True
    return 0


@njit
def mark(record):
    """Note in a record's `code` and `at` the line that runs."""
    record.code = record.at = 0
    if load(symbol("source_lines")) == 0:
        return
    here = get_specific(load(symbol("site_key")))
    if here:
        record.code, record.at = here, COMPILED
        return
    if gil_held() == 0:
        return
    frame = find_frame(0)
    if frame == 0:
        return
    code = get_code(frame)
    record.code, record.at = code, get_lasti(frame)
    drop_reference(frame)
    if load(symbol("codes") + 8 * ((code >> 5) % CODES)) != code:
        call_python("keep_code", code)
    drop_reference(code)


@njit
def enter_site(site):
    """Name the line of compiled code that runs now; `site` has three words: the line's word or 0, its number, its file's name."""
    word = load(site)
    if word == 0:
        word = call_python("keep_site", load(site + 16), load(site + 8))
        store(site, word)
    set_specific(load(symbol("site_key")), word)


@njit
def leave_site():
    set_specific(load(symbol("site_key")), 0)


@callback
def keep_site(file, line):
    """The word that names a line of compiled code; it lasts as long as the process."""
    place = (ctypes.string_at(file).decode(), line)
    word = words.setdefault(place, id(place))
    compiled.setdefault(word, place)
    return word


@callback
def keep_code(code):
    """Keep a code object alive."""
    if code not in kept and len(kept) < LIMIT:
        kept[code] = ctypes.cast(code, ctypes.py_object).value
    if code in kept:
        codes[(code >> 5) % CODES] = code
    return 0


def register_library():
    """Make the frames of the modules loaded so far count as the library's."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "numbatensor" and module is not None:
            address = id(module.__dict__)
            k = (address >> 4) % LIBRARY
            while library[k] and library[k] != address:
                k = (k + 1) % LIBRARY
            library[k] = address


def writer(name):
    """The word by which a storage knows who wrote it, where that is no op."""
    name = sys.intern(name)
    writers[id(name)] = name
    return id(name)


def describe(code, at):
    """`file.py:12` for a site, or what is known instead."""
    if at == COMPILED and code in compiled:
        return ":".join(map(str, compiled[code]))
    if code not in kept:
        return "compiled code" if source_lines[0] or code else "a line that was not noted"
    found = kept[code]
    line = None
    for start, end, number in found.co_lines():
        if start <= at < end:
            line = number
    return f"{found.co_filename}:{line}"
