"""The pool of large memory, by power of two: fresh pages cost more than the work on them."""

from numba import njit

from numbatensor.core.compiler import native, symbol
from numbatensor.core.memory import FIELD, aligned_alloc, exchange, free, load, madvise, store, take
from numbatensor.core.records import state_at

LARGE = 1 << 15  # smallest pooled block, bytes
LARGEST = 1 << 46  # no machine has more
HUGE = 22  # blocks of 2**22 bytes or more ask for huge pages
POOL_LIMIT = 1 << 32  # most bytes kept for reuse
POOL_LOCK = FIELD["pool_lock"]


@njit
def size_class(size):
    """The smallest k with ``2**k >= size``."""
    k = 0
    while size > 1 << k:
        k += 1
    return k


@native
def allocate_large(size):
    """Address of raw memory of at least `size` bytes, from the pool if it has some; 0 where there is none."""
    if size > LARGEST:
        return 0
    k, here = size_class(size), symbol("state")
    s = state_at(here)
    take(here + POOL_LOCK)
    block = s.pool[k]
    if block:
        s.pool[k] = load(block)
        s.pooled -= 1 << k
    exchange(here + POOL_LOCK, 0)
    if block:
        return block
    if k < HUGE:
        return aligned_alloc(64, 1 << k)
    block = aligned_alloc(1 << HUGE - 1, 1 << k)
    if block:
        madvise(block, 1 << k, 14)  # MADV_HUGEPAGE: fewer page faults and misses of the translation cache
    return block


@native
def free_large(block, size):
    """Keep raw memory for the next block of its size."""
    k, here = size_class(size), symbol("state")
    s = state_at(here)
    if s.pooled + (1 << k) > POOL_LIMIT:
        free(block)
        return 0
    take(here + POOL_LOCK)
    store(block, s.pool[k])
    s.pool[k] = block
    s.pooled += 1 << k
    exchange(here + POOL_LOCK, 0)
    return 0


@native
def empty_pool():
    """Give pooled memory back to the system."""
    here = symbol("state")
    s = state_at(here)
    take(here + POOL_LOCK)
    for k in range(48):
        while s.pool[k]:
            block = s.pool[k]
            s.pool[k] = load(block)
            free(block)
    s.pooled = 0
    exchange(here + POOL_LOCK, 0)
    return 0
