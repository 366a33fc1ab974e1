"""Parallel loops of users' compiled code that are running, and the errors of ops in them.

Numba loses an error that leaves the body of a `prange` on a thread of its pool, and leaves it set while code runs on where that thread is
Python's. So a loop is known here while it runs; it takes the first error in its body, and raises it at its end. A thread of the pool
does not know for which loop it works: of several at a time, all take its error, since the results of one of them are missing.
"""

import itertools
import sys
import threading

from numbatensor.core.compiler import native
from numbatensor.core.modes import C_CALL, get_mode, set_mode
from numbatensor.core.python import call_python, callback, clear_error, ensure, release

running: dict = {}  # loops by their numbers
numbers = itertools.count(1)


class Loop:
    """A parallel loop: the thread that began it, the frame of Python which that was called from, its modes, and the error if any."""

    def __init__(self, frame):
        self.thread, self.frame, self.mode, self.error = threading.get_ident(), frame, get_mode(), None


@callback
def enter_loop():
    k = next(numbers)
    running[k] = Loop(sys._getframe().f_back)
    return k


@callback
def leave_loop(k):
    error = running.pop(k).error
    try:
        if error is not None:
            raise error
    finally:
        del error  # which holds this frame
    return 0


def note(error, frame):
    """Tell the loops that wait for it of an error which compiled code has just made; `frame`: the frame of Python it is made in."""
    here = [loop for loop in running.values() if loop.thread == threading.get_ident() and loop.frame is frame]
    if not here and (frame is not None or get_mode() & C_CALL):
        return  # Python's or C's code was called from the loop, and sees the error
    waiting = here[-1:] or list(running.values())
    for loop in waiting:
        loop.error = loop.error or error
    if waiting:
        set_mode(-1, here[-1].mode if here else 0)


@native
def compiled_enter_loop(unused):
    """A number for a parallel loop that begins."""
    return call_python("enter_loop")


@native
def compiled_leave_loop(k):
    """The end of a parallel loop: fails if an op failed in it."""
    state = ensure()
    clear_error()
    release(state)
    call_python("leave_loop", k)
    return 0
