"""What is true for one thread, as bits of a word of its own."""

import numpy as np
from numba import njit

from numbatensor.core.compiler import publish, symbol
from numbatensor.core.memory import atomic_add, load, store
from numbatensor.core.python import argument, as_long, entry, from_long
from numbatensor.core.thread_words import get_specific, new_key, set_specific

key = new_key()
publish("mode_key", key.ctypes.data)

# Nothing is recorded; any write to a storage makes what was saved of it stale; inference mode, where nothing is recorded either.
NO_GRAD, STRICT, INFERENCE = 1, 2, 4
# Tracebacks are noted; gradients are checked for NaN; what is saved goes through hooks.
ANOMALY, CHECK_NAN, PACKING = 8, 16, 32


# Bits that were set in any thread so far; how many threads do not record. What is zero here no thread has to ask for itself.
used = np.zeros(2, np.int64)
publish("modes_used", used.ctypes.data)
UNRECORDED = NO_GRAD | INFERENCE


@njit
def inference_used():
    """Whether any thread was ever in inference mode: until then nobody has to ask."""
    return load(symbol("modes_used")) & INFERENCE != 0


@njit
def grad_enabled():
    """Whether this thread records."""
    return load(symbol("modes_used") + 8) == 0 or get_specific(load(symbol("mode_key"))) & UNRECORDED == 0


@njit
def set_modes(here, before, now):
    """Replace this thread's mode."""
    change = (now & UNRECORDED != 0) - (before & UNRECORDED != 0)
    if change:
        atomic_add(symbol("modes_used") + 8, change)
    set_specific(here, now)


@njit
def strict_versions():
    """Whether any write to a storage makes what was saved of it stale."""
    return get_specific(load(symbol("mode_key"))) & STRICT != 0


@njit
def inference_bit():
    """Other than 0 in inference mode."""
    return get_specific(load(symbol("mode_key"))) & INFERENCE if inference_used() else 0


@njit
def switch_grad(on):
    """Record, or not, on this thread; what was before."""
    here = load(symbol("mode_key"))
    before = get_specific(here)
    set_modes(here, before, before & ~NO_GRAD if on else before | NO_GRAD)
    return before & NO_GRAD == 0


@njit
def anomaly():
    """Whether this thread is in anomaly mode."""
    return 1 if get_specific(load(symbol("mode_key"))) & ANOMALY else 0


@njit
def noticed():
    """Whether Python is told of each new node of this thread."""
    told = ANOMALY | PACKING
    return load(symbol("modes_used")) & told != 0 and get_specific(load(symbol("mode_key"))) & told != 0


@entry
def set_mode(self, args, count):
    """(mask, bits): replace the bits of this thread's mode that are in the mask; gives the mode before"""
    here, mask = load(symbol("mode_key")), as_long(argument(args, 0))
    before = get_specific(here)
    now = before & ~mask | as_long(argument(args, 1)) & mask
    store(symbol("modes_used"), load(symbol("modes_used")) | now)
    set_modes(here, before, now)
    return from_long(before)


@entry
def get_mode(self, args, count):
    """() -> this thread's mode"""
    return from_long(get_specific(load(symbol("mode_key"))))


@entry
def get_grad(self, args, count):
    """Whether this thread records."""
    return from_long(1 if grad_enabled() else 0)
