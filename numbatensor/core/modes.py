"""What is true for one thread: whether it records gradients. Kept under a pthread key, which compiled code reads in 2 ns."""

import ctypes

import numpy as np
from numba import njit, types

from numbatensor.core.compiler import external, publish, symbol
from numbatensor.core.memory import load
from numbatensor.core.python import argument, as_long, entry, from_long

get_specific = external("pthread_getspecific", 1)
set_specific = external("pthread_setspecific", 2, types.int64, small=True)

made = ctypes.c_uint()
if ctypes.CDLL(None).pthread_key_create(ctypes.byref(made), None):
    raise ImportError("numbatensor: the C library has no thread key left")
key = np.array([made.value], np.int64)
publish("mode_key", key.ctypes.data)

NO_GRAD = 1
ANOMALY, CHECK_NAN, PACKING = (
    1 << 8,
    1 << 9,
    1 << 10,
)  # tracebacks are noted; results checked; what is saved goes through hooks


@njit
def grad_enabled():
    """Whether this thread records."""
    return get_specific(load(symbol("mode_key"))) & NO_GRAD == 0


@njit
def switch_grad(on):
    """Record, or not, on this thread; what was before."""
    here = load(symbol("mode_key"))
    before = get_specific(here)
    set_specific(here, before & ~NO_GRAD if on else before | NO_GRAD)
    return before & NO_GRAD == 0


@njit
def anomaly():
    """Whether this thread is in anomaly mode."""
    return 1 if get_specific(load(symbol("mode_key"))) & ANOMALY else 0


@njit
def noticed():
    """Whether Python is told of each new node of this thread."""
    return get_specific(load(symbol("mode_key"))) & (ANOMALY | PACKING) != 0


@entry
def set_mode(self, args, count):
    """(bits, on): set or clear bits of this thread's modes; whether they were set"""
    here, bits = load(symbol("mode_key")), as_long(argument(args, 0))
    before = get_specific(here)
    set_specific(here, before | bits if as_long(argument(args, 1)) else before & ~bits)
    return from_long(1 if before & bits else 0)


@entry
def get_mode(self, args, count):
    """(bits) -> whether any of these bits of this thread's modes is set"""
    return from_long(1 if get_specific(load(symbol("mode_key"))) & as_long(argument(args, 0)) else 0)


@entry
def set_grad(self, args, count):
    """Record, or not, on this thread; gives what was before."""
    return from_long(1 if switch_grad(as_long(argument(args, 0)) != 0) else 0)


@entry
def get_grad(self, args, count):
    """Whether this thread records."""
    return from_long(1 if grad_enabled() else 0)
