"""Counted blocks, the pool of large ones, and the counts that `memory_summary` shows.

A block starts with numba's MemInfo header, so that compiled user code can own it. Small blocks come from malloc, which beats
a locked free list (26 ns against 42); large ones are pooled by power of two, since fresh pages cost more than the work on them.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from numbatensor.core.compiler import external, i64, native, publish, symbol, word
from numbatensor.core.records import HEADER, State, block_at, state_at

LARGE = 1 << 15  # smallest pooled block, bytes
LARGEST = 1 << 46  # no machine has more
HUGE = 22  # blocks of 2**22 bytes or more ask for huge pages
POOL_LIMIT = 1 << 32  # most bytes kept for reuse

state = np.zeros(1, State)
publish("state", state.ctypes.data)

malloc = external("malloc", 1)
realloc = external("realloc", 2)
free = external("free", 1, types.none)
aligned_alloc = external("aligned_alloc", 2)
madvise = external("madvise", 3, small=True)
memset = external("memset", 3)
memcpy = external("memcpy", 3)
# What numba frees a block with: the functions above. Else it takes Python's, which are others under `python -X dev`.
library = ctypes.CDLL(None)
functions = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in ("malloc", "realloc", "free")]
used_allocator = np.array([*functions, 0], np.int64)
publish("allocator", used_allocator.ctypes.data)
call_destructor = external("NRT_MemInfo_call_dtor", 1, types.none)


@intrinsic
def atomic_add(typingctx, address, value):
    """Add to a word and return what was there."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], word.as_pointer()), args[1], "acq_rel")

    return i64(i64, i64), codegen


@intrinsic
def exchange(typingctx, address, value):
    """Store a word and return what was there, atomically."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("xchg", builder.inttoptr(args[0], word.as_pointer()), args[1], "acq_rel")

    return i64(i64, i64), codegen


@intrinsic
def claim(typingctx, address, new, old):
    """Replace a word if it is `old`; whether it was."""

    def codegen(context, builder, signature, args):
        found = builder.cmpxchg(builder.inttoptr(args[0], word.as_pointer()), args[2], args[1], "acq_rel", "monotonic")
        return builder.zext(builder.extract_value(found, 1), word)

    return i64(i64, i64, i64), codegen


@intrinsic
def load(typingctx, address):
    """The word at an address."""
    return i64(i64), lambda context, builder, signature, args: builder.load(
        builder.inttoptr(args[0], word.as_pointer())
    )


@intrinsic
def store(typingctx, address, value):
    """Put a word at an address."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], word.as_pointer()))
        return context.get_dummy_value()

    return types.none(i64, i64), codegen


@intrinsic
def bits(typingctx, value):
    """The 64 bits of a float64, as an int64."""
    return i64(types.float64), lambda context, builder, signature, args: builder.bitcast(args[0], word)


@intrinsic
def number(typingctx, value):
    """The float64 of 64 bits."""
    return types.float64(i64), lambda context, builder, signature, args: builder.bitcast(args[0], ir.DoubleType())


def bits_of_float(value):
    """The 64 bits of a Python float, as an int."""
    return int(np.float64(value).view(np.int64))


FIELD = {name: 8 * k for k, name in enumerate(State.names[:-1])}
TENSORS, BYTES, POOLED = (FIELD[n] for n in ("tensors", "bytes", "pooled"))
STORAGE_COUNT = 1 << 32  # what a storage adds to the word that counts tensors
POOL_LOCK = FIELD["pool_lock"]


@njit
def take(lock):
    """Hold a lock for a few instructions; never while waiting for the GIL."""
    while exchange(lock, 1):
        pass


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


@njit
def counted(size, destructor):
    """Address of a new counted block of `size` bytes in all, or 0."""
    block = malloc(size)
    if block:
        b = block_at(block)
        b.refcount, b.destructor, b.info, b.payload, b.size, b.allocator = (
            1,
            destructor,
            0,
            block + HEADER,
            size - HEADER,
            symbol("allocator"),
        )
    return block


@njit
def incref(block):
    """One more owner of a block, or nothing for 0."""
    if block:
        atomic_add(block, 1)


@njit
def decref(block):
    """One owner of a block less; the last one frees it."""
    if block:
        if atomic_add(block, -1) == 1:
            call_destructor(block)


@njit
def note_bytes(change):
    """Account for memory that tensors hold."""
    here = symbol("state")
    total = atomic_add(here + BYTES, change) + change
    s = state_at(here)
    if total > s.peak:
        s.peak = total
