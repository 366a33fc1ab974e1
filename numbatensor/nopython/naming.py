"""Which op a native function of Python's is."""

import ctypes

from numbatensor.core.python import NATIVE, ROW
from numbatensor.op import BY_ADDRESS
from numbatensor.publish import CODE


def named_op(value):
    """The op that a native function runs, and what is added to its key: "_" where that is done in place. None where it is another."""
    word = lambda offset: ctypes.c_int64.from_address(id(value) + offset).value
    op = BY_ADDRESS.get(word(ROW))
    added = {CODE["call_op"]: "", CODE["call_in_place"]: "_"}.get(word(NATIVE))
    return None if op is None or added is None else (op, added)


def op_name(value):
    """The key of what a native function runs, or None."""
    found = named_op(value)
    return found and found[0].key + found[1]
