"""Modes: what is true for operations of this thread, as context managers and decorators."""

import functools
import inspect

from numbatensor.core.modes import INFERENCE, NO_GRAD, STRICT, get_mode, set_mode
from numbatensor.core.sites import source_lines


class Mode:
    """Bits of this thread's mode, set inside of a `with` block or of the functions that this decorates."""

    mask = bits = 0

    def __init__(self):
        self.before = []

    def __enter__(self):
        self.before.append(set_mode(self.mask, self.bits))
        return self

    def __exit__(self, *error):
        set_mode(self.mask, self.before.pop())

    def again(self):
        """The same mode as another object, for one run of a function: several threads may run it at once."""
        made = Mode()
        made.mask, made.bits = self.mask, self.bits
        return made

    def __call__(self, function):
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def wrapped(*args, **kwargs):
                return (yield from inside(self, function(*args, **kwargs)))

        else:

            @functools.wraps(function)
            def wrapped(*args, **kwargs):
                with self.again():
                    return function(*args, **kwargs)

        return wrapped

    def __repr__(self):
        return f"{type(self).__module__}.{type(self).__name__}"


def inside(mode, generator):
    """A generator whose body runs in a mode; what is done between its steps does not."""
    step, value = generator.send, None
    try:
        while True:
            try:
                with mode.again():
                    made = step(value)
            except StopIteration as end:
                return end.value
            try:
                value = yield made
                step = generator.send
            except GeneratorExit:
                raise
            except BaseException as error:
                step, value = generator.throw, error
    finally:
        with mode.again():
            generator.close()


class Bare(Mode):
    """A mode that decorates with or without parentheses."""

    def __new__(cls, function=None):
        made = super().__new__(cls)
        if not callable(function):
            return made
        made.__init__()
        return made(function)


class no_grad(Bare):
    """Operations inside are not recorded. A context manager and a decorator; of this thread only."""

    mask = bits = NO_GRAD


class enable_grad(Bare):
    """Operations inside are recorded. A context manager and a decorator; of this thread only."""

    mask = NO_GRAD


class Lasting(Mode):
    """A mode that begins when it is named, and that a context manager or a decorator restricts to its inside."""

    def begin(self, bits):
        """Set the bits of this thread's mode."""
        self.bits = bits
        self.first = set_mode(self.mask, bits)

    def __enter__(self):
        self.before.append(self.first)
        return self

    def __call__(self, function):
        set_mode(self.mask, self.first)
        return super().__call__(function)


class set_grad_enabled(Lasting):
    """Record or not from now on; as a context manager or decorator, inside only."""

    mask = NO_GRAD

    def __init__(self, mode):
        super().__init__()
        if not isinstance(mode, (bool, int)):
            raise TypeError(
                f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}"
            )
        self.mode = bool(mode)
        self.begin(0 if mode else NO_GRAD)

    def __repr__(self):
        return f"{super().__repr__()}(mode={self.mode})"


class Switched(Mode):
    """A mode that can be turned on and off, and that decorates with or without parentheses."""

    def __new__(cls, mode=True):
        made = super().__new__(cls)
        if not callable(mode):
            return made
        made.__init__()
        return made(mode)

    def __init__(self, mode=True):
        super().__init__()
        self.mode = bool(mode)

    def __repr__(self):
        return f"{super().__repr__()}(mode={self.mode})"


class inference_mode(Switched):
    """Operations inside are never recorded, and what they make can never be: tensors without a version.

    A context manager and a decorator; of this thread only. With False, the inside is out of inference mode, and records.
    """

    mask = NO_GRAD | INFERENCE

    def __init__(self, mode=True):
        super().__init__(mode)
        self.bits = self.mask if mode else 0


class strict_versions(Switched):
    """Inside, a value that was saved is taken for overwritten after any write to its storage, as in PyTorch.

    Else only writes that touch it count. A context manager and a decorator; of the thread that runs the backward pass.
    """

    mask = STRICT

    def __init__(self, mode=True):
        super().__init__(mode)
        self.bits = self.mask if mode else 0


def is_grad_enabled():
    """Whether this thread records, where inference mode does not keep it from that."""
    return not get_mode() & NO_GRAD


def is_inference_mode_enabled():
    """Whether this thread is in inference mode."""
    return bool(get_mode() & INFERENCE)


def set_source_lines(mode):
    """Note, or do not, the source line of each recorded operation and each write, for error messages; gives what was before."""
    before = bool(source_lines[0])
    source_lines[0] = bool(mode)
    return before
