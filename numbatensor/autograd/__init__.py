"""Gradients: backward passes, and the modes that say what is recorded."""

import contextlib
import functools

from numbatensor.autograd import graph
from numbatensor.autograd.backward import backward, grad
from numbatensor.core.modes import get_grad, set_grad


class GradMode(contextlib.ContextDecorator):
    """A context and decorator that sets whether this thread records."""

    def __init__(self, mode):
        self.mode, self.before = mode, []

    def __enter__(self):
        self.before.append(set_grad(int(self.mode)))
        return self

    def __exit__(self, *error):
        set_grad(self.before.pop())

    def _recreate_cm(self):
        return type(self)(self.mode)


class no_grad(GradMode):
    """Operations inside are not recorded. A context manager and a decorator; of this thread only."""

    def __init__(self, mode=False):
        super().__init__(False)

    def __new__(cls, function=None):
        made = super().__new__(cls)
        if callable(function):
            made.__init__()
            return functools.wraps(function)(made(function))
        return made


class enable_grad(GradMode):
    """Operations inside are recorded. A context manager and a decorator; of this thread only."""

    def __init__(self, mode=True):
        super().__init__(True)


class set_grad_enabled(GradMode):
    """Record or not from now on; as a context manager, inside only."""

    def __init__(self, mode):
        super().__init__(bool(mode))
        self.before.append(set_grad(int(self.mode)))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        set_grad(self.before.pop())


def is_grad_enabled():
    """Whether this thread records."""
    return bool(get_grad())
