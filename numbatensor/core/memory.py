"""Counted blocks, and the counts that `memory_summary` shows.

A block starts with numba's MemInfo header, so that compiled user code can own it. Each thread keeps lists of free blocks, and counts
for itself, so that threads do not wait for each other.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from numbatensor.core.compiler import address, c_function, external, i64, native, publish, symbol, word
from numbatensor.core.records import CLASSES, HEADER, Local, State, block_at, local_at, state_at
from numbatensor.core.thread_words import get_specific, new_key, set_specific

UNIT = 6  # small blocks are multiples of 2**6 bytes
KEPT = 4096  # most units that a thread keeps for reuse
SLACK = 1 << 15  # bytes that a thread counts for itself before it tells: `peak` is right to so many a thread
NUMBERS = 4096  # sequence numbers that a thread takes at a time

state = np.zeros(1, State)
publish("state", state.ctypes.data)

malloc = external("malloc", 1)
realloc = external("realloc", 2)
free = external("free", 1, types.none)
aligned_alloc = external("aligned_alloc", 2)
madvise = external("madvise", 3, small=True)
memset = external("memset", 3)
memcpy = external("memcpy", 3)


@intrinsic
def atomic_add(typingctx, address, value):
    """Add to a word and return what was there."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], word.as_pointer()), args[1], "acq_rel")

    return i64(i64, i64), codegen


@intrinsic
def atomic_or(typingctx, address, value):
    """Set bits of a word and return what was there."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("or", builder.inttoptr(args[0], word.as_pointer()), args[1], "acq_rel")

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
BYTES, SEQUENCE, LOCALS_LOCK = (FIELD[n] for n in ("bytes", "sequence", "locals_lock"))
STORAGE_COUNT = 1 << 32  # what a storage adds to the word that counts tensors
BLOCKS, LOCAL = Local.fields["blocks"][1], Local.itemsize


@njit
def take(lock):
    """Hold a lock for a few instructions; never while waiting for the GIL."""
    while exchange(lock, 1):
        pass


@native
def new_local(unused):
    """A record for this thread, which finds it from now on."""
    here, made = symbol("state"), malloc(LOCAL)
    memset(made, 0, LOCAL)
    take(here + LOCALS_LOCK)
    local_at(made).next = state_at(here).locals
    state_at(here).locals = made
    exchange(here + LOCALS_LOCK, 0)
    set_specific(load(symbol("local_key")), made)
    return made


@njit
def local():
    """The address of this thread's own record."""
    found = get_specific(load(symbol("local_key")))
    return found if found else new_local(0)


@c_function
def end_thread(mine):
    """A thread ends: what it counted joins the counts of all, and what it kept goes back."""
    here, m = symbol("state"), local_at(mine)
    s = state_at(here)
    take(here + LOCALS_LOCK)
    previous, found = 0, s.locals
    while found and found != mine:
        previous, found = found, local_at(found).next
    if previous:
        local_at(previous).next = m.next
    elif found:
        s.locals = m.next
    s.tensors += m.tensors
    s.nodes += m.nodes
    exchange(here + LOCALS_LOCK, 0)
    atomic_add(here + BYTES, m.bytes)
    for k in range(CLASSES):
        while m.blocks[k]:
            block = m.blocks[k]
            m.blocks[k] = load(block)
            free(block)
    free(m.arena)
    free(m.heap)
    free(mine)
    return 0


local_key = new_key(address("end_thread"))
publish("local_key", local_key.ctypes.data)


@njit
def counts(out):
    """Write how many tensors, storages and nodes there are, and how many bytes they have, to an address."""
    here = symbol("state")
    s = state_at(here)
    take(here + LOCALS_LOCK)
    tensors, nodes, size, found = s.tensors, s.nodes, s.bytes, s.locals
    while found:
        m = local_at(found)
        tensors += m.tensors
        nodes += m.nodes
        size += m.bytes
        found = m.next
    exchange(here + LOCALS_LOCK, 0)
    if size > s.peak:
        s.peak = size
    store(out, tensors % STORAGE_COUNT)
    store(out + 8, tensors // STORAGE_COUNT)
    store(out + 16, nodes)
    store(out + 24, size)


@njit
def counted(here, size, destructor):
    """Address of a new counted block of `size` bytes in all, or 0. `here`: this thread's record."""
    k = (size + (1 << UNIT) - 1) >> UNIT
    block = 0
    if k < CLASSES:
        block = load(here + BLOCKS + 8 * k)
        if block:
            store(here + BLOCKS + 8 * k, load(block))
            local_at(here).kept -= k
    if block == 0:
        block = malloc(k << UNIT)
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
def give_back(here, block):
    """Free a counted block; this thread may keep it for its next one. `here`: this thread's record."""
    k = (block_at(block).size + HEADER + (1 << UNIT) - 1) >> UNIT
    if k < CLASSES and local_at(here).kept < KEPT:
        store(block, load(here + BLOCKS + 8 * k))
        store(here + BLOCKS + 8 * k, block)
        local_at(here).kept += k
    else:
        free(block)


@c_function
def free_block(block, allocator):
    """What numba frees a block with."""
    give_back(local(), block)
    return 0


library = ctypes.CDLL(None)
functions = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in ("malloc", "realloc")]
used_allocator = np.array([*functions, address("free_block"), 0], np.int64)
publish("allocator", used_allocator.ctypes.data)


@intrinsic
def call_destructor(typingctx, function, payload, size):
    """Call a block's destructor."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [word] * 3)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1], args[2], word(0)])
        return context.get_dummy_value()

    return types.none(i64, i64, i64), codegen


@native
def destroy(block):
    """The last owner of a block is gone."""
    b = block_at(block)
    call_destructor(b.destructor, b.payload, b.size)
    give_back(local(), block)
    return 0


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
            destroy(block)


destroy_foreign = external("NRT_MemInfo_call_dtor", 1, types.none)


@njit
def release_foreign(block):
    """One owner less of a block that numba made."""
    if atomic_add(block, -1) == 1:
        destroy_foreign(block)


@njit
def note_bytes(here, change):
    """Account for memory that tensors hold, in this thread's record."""
    m = local_at(here)
    m.bytes += change
    if abs(m.bytes) >= SLACK:
        tell_bytes(here)


@native
def tell_bytes(mine):
    """Add what a thread has counted to the bytes of all."""
    here, m = symbol("state"), local_at(mine)
    total = atomic_add(here + BYTES, m.bytes) + m.bytes
    m.bytes = 0
    s = state_at(here)
    if total > s.peak:
        s.peak = total
    return 0


@njit
def next_number(here):
    """A number for a new node, greater than those that this thread gave before."""
    m = local_at(here)
    if m.sequence == m.end:
        m.sequence = atomic_add(symbol("state") + SEQUENCE, NUMBERS)
        m.end = m.sequence + NUMBERS
    m.sequence += 1
    return m.sequence
