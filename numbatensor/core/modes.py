"""What is true for one thread, as bits of a word of its own."""

import numpy as np
from numba import njit

from numbatensor.core.compiler import publish, symbol
from numbatensor.core.memory import load, local, store
from numbatensor.core.python import argument, as_long, entry, from_long
from numbatensor.core.records import local_at

# Nothing is recorded; any write to a storage makes what was saved of it stale; inference mode, where nothing is recorded either.
NO_GRAD, STRICT, INFERENCE = 1, 2, 4
# Tracebacks are noted; gradients are checked for NaN; what is saved goes through hooks.
ANOMALY, CHECK_NAN, PACKING = 8, 16, 32
C_CALL = 64  # C has called a function of a user's: its errors are for `nt.cfunc`
# Autocast (see autocast.py): where it is on; the half types, where they are not bfloat16 on the CPU and float16 on CUDA devices; casts are not kept.
AUTOCAST_CPU, AUTOCAST_CUDA, CPU_FLOAT16, CUDA_BFLOAT16, NO_CACHE = 128, 256, 512, 1024, 2048
AUTOCAST = AUTOCAST_CPU | AUTOCAST_CUDA


UNRECORDED = NO_GRAD | INFERENCE
used = np.zeros(
    1, np.int64
)  # bits that were set in any thread so far: what is zero here no thread has to ask for itself
publish("modes_used", used.ctypes.data)


@njit
def inference_used():
    """Whether any thread was ever in inference mode: until then nobody has to ask."""
    return load(symbol("modes_used")) & INFERENCE != 0


@njit
def mode():
    """This thread's mode."""
    return local_at(local()).mode


@njit
def grad_enabled():
    """Whether this thread records."""
    return mode() & UNRECORDED == 0


@njit
def strict_versions():
    """Whether any write to a storage makes what was saved of it stale."""
    return mode() & STRICT != 0


@njit
def inference_bit():
    """Other than 0 in inference mode."""
    return mode() & INFERENCE if inference_used() else 0


@njit
def replace(mask, bits):
    """Replace the bits of this thread's mode that are in the mask; gives the mode before."""
    m = local_at(local())
    before = m.mode
    m.mode = before & ~mask | bits & mask
    store(symbol("modes_used"), load(symbol("modes_used")) | bits & mask)
    return before


@njit
def anomaly():
    """Whether this thread is in anomaly mode."""
    return 1 if mode() & ANOMALY else 0


@njit
def noticed():
    """Whether Python is told of each new node of this thread."""
    told = ANOMALY | PACKING
    return load(symbol("modes_used")) & told != 0 and mode() & told != 0


@entry
def set_mode(self, args, count):
    """(mask, bits): replace the bits of this thread's mode that are in the mask; gives the mode before"""
    return from_long(replace(as_long(argument(args, 0)), as_long(argument(args, 1))))


@entry
def get_mode(self, args, count):
    """() -> this thread's mode"""
    return from_long(mode())


@entry
def get_grad(self, args, count):
    """Whether this thread records."""
    return from_long(1 if grad_enabled() else 0)
