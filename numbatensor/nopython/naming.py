"""Which op a native function of Python's is."""

import ctypes

from numbatensor.core.python import NATIVE, ROW
from numbatensor.op import BY_ADDRESS
from numbatensor.publish import CODE


def op_name(value):
    """The key of the op, or of its in-place form, that a native function runs; None where it is another."""
    word = lambda offset: ctypes.c_int64.from_address(id(value) + offset).value
    op = BY_ADDRESS.get(word(ROW))
    if op is None:
        return None
    return {CODE["call_op"]: op.key, CODE["call_in_place"]: op.key + "_"}.get(word(NATIVE))
