"""Words of which each thread has its own, under pthread keys: compiled code reads them in 2 ns."""

import ctypes

import numpy as np
from numba import types

from numbatensor.core.compiler import external

get_specific = external("pthread_getspecific", 1)
set_specific = external("pthread_setspecific", 2, types.int64, small=True)


def new_key():
    """An array of one number: a key under which each thread keeps a word of its own, 0 at first."""
    made = ctypes.c_uint()
    if ctypes.CDLL(None).pthread_key_create(ctypes.byref(made), None):
        raise ImportError("numbatensor: the C library has no thread key left")
    return np.array([made.value], np.int64)
