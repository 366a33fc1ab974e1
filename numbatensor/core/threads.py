"""The threads that kernels run on: numba's pool, reached by one compiled loop that is made when it is first wanted.

TBB where it is installed, else OpenMP with a passive wait; never numba's workqueue, which aborts when two threads call it. After
a fork the child runs serially, since OpenMP does not survive one.
"""

import os
import threading
import warnings

from numba import config, njit, prange, types

from numbatensor.core import private
from numbatensor.core.compiler import call, held
from numbatensor.core.memory import state

WORDS = types.int64(types.int64, types.int64, types.int64)
lock = threading.Lock()
chosen = {"threads": None}


def parallel_for(function, context, pieces):
    """Call ``function(context, piece)`` for every piece, on the pool's threads."""
    for k in prange(pieces):
        call(function, context, k)
    return 0


def layer():
    """The threading layer that can be had, or None."""
    for name in ("tbb", "omp"):
        try:
            __import__(f"numba.np.ufunc.{name}pool")
        except ImportError:
            continue
        return name
    return None


def start():
    """Make the pool, unless there is none to be had."""
    with lock:
        if state["parallel_for"][0]:
            return True
        name = layer()
        if name is None:
            warnings.warn(
                "numbatensor: neither TBB nor OpenMP can be loaded; kernels run on one thread (pip install tbb)",
                stacklevel=3,
            )
            return False
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        config.THREADING_LAYER = name
        driver = njit(WORDS, parallel=True, nogil=True, cache=True)(parallel_for)
        result = driver.overloads[WORDS.args]
        state["parallel_for"] = private.address_of_loop(result)
        held.append(driver)
        return state["parallel_for"][0] != 0


def set_num_threads(n):
    """Let kernels run on at most n threads.

    Raises
    ------
    ValueError
        If n is less than 1.
    """
    if n < 1:
        raise ValueError(f"expected at least one thread, got {n}")
    state["threads"] = min(n, config.NUMBA_NUM_THREADS) if n > 1 and start() else 1
    chosen["threads"] = n


def get_num_threads():
    """How many threads kernels run on."""
    return int(state["threads"][0])


def after_fork():
    """In a child, threads of the pool are gone."""
    state["threads"], state["parallel_for"] = 1, 0
    state["pool_lock"] = state["release_lock"] = state["leaf_lock"] = state["locals_lock"] = (
        0  # a thread that held one is gone too
    )
    state["asked"] = 0
    state["forks"] += 1


os.register_at_fork(after_in_child=after_fork)
state["threads"] = 1
