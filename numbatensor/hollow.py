"""Tensors without elements of their own: their box is empty, native code declines them, and their class says what ops on them do.

Nothing here costs a tensor that has elements anything: what native code does not take comes to Python anyway (`publish.py`).
"""

import threading


class EmptyBox(RuntimeError):
    """A box that holds no tensor came to native code that needs one."""


class Hollow:
    """What marks a class of such tensors. It has methods ``perform(op, values, in_place)``, ``join(op, tensors, dim)``,
    ``write(out, source, writer)``, ``custom(function, args)`` and ``kept(function, *args, **options)``: a function of shape and dtype alone,
    applied to what is inside."""


def hollow(values):
    """The first of some values that is hollow, or None."""
    for v in values:
        if isinstance(v, Hollow):
            return v
    return None


class Running(threading.local):
    """The vmaps that this thread is inside of, outermost first. They draw the random numbers of their functions."""

    def __init__(self):
        self.levels = []


running = Running()
anywhere: list = []  # the vmaps of all threads: whether there is any is seen here 40 ns sooner
