"""Words of which each thread has its own, under pthread keys: compiled code reads them in 2 ns."""

import ctypes

import numpy as np
from numba import types

from numbatensor.core.compiler import external

get_specific = external("pthread_getspecific", 1)
set_specific = external("pthread_setspecific", 2, types.int64, small=True)


def new_key(destructor=None):
    """An array of one number: a key under which each thread keeps a word of its own, 0 at first.

    `destructor`: address of a C function that gets the word, if it is not 0, when the thread ends.
    """
    made = ctypes.c_uint()
    if ctypes.CDLL(None).pthread_key_create(ctypes.byref(made), ctypes.c_void_p(destructor)):
        raise ImportError("numbatensor: the C library has no thread key left")
    return np.array([made.value], np.int64)
