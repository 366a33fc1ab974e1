"""Slices of a tensor where index tensors say, taken or written: what ``x[:, i, j]``, embeddings and their gradients share.

The indices, of one shape, become one offset in bytes each, which checks them all before anything is written. A kernel then walks
the offsets; around it are loops over the dimensions that are not indexed, merged as :mod:`iterate` merges them. What is added at
one place is added in the order of the indices: threads share the other dimensions, never the indices.
"""

from numba import njit

from kernels_cpu.index import offsets
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.copies import advance
from numbatensor.core.devices import INDEX_OFFSETS, MOVE_INDEXED, there
from numbatensor.core.iterate import (
    FRAME,
    PARALLEL,
    POINTERS,
    begin,
    coalesce,
    operand,
    parallel,
)
from numbatensor.core.memory import decref, load, memcpy, store
from numbatensor.core.packing import free_words, new_words, op_result, packed_as, run_long, width_code
from numbatensor.core.records import RANK, frame_at, new_frame, state_at, tensor_at
from numbatensor.core.table import kernel_of, refuse
from numbatensor.core.tensors import FLOAT32, empty, same_shape

assert packed_as and op_result and parallel  # reached through their symbols
INT64, BOOL = 5, 0
TAKE, PUT, ADD = range(3)  # what a kernel does with elements at an index
# Places in a walk's `numbers`: the dimension that the kernel loops over, and whether threads may share the indices.
INNER, SHARED = 0, 1
TILE = 32  # elements at a time where they lie apart: their cache lines stay for the next row


@njit
def index_kernel(op, x, what):
    """An op's kernel for elements of x; on a device, what it is to do there."""
    if x.device:
        return what
    return kernel_of(op, x.dtype if what == ADD else width_code(x.itemsize))


@njit
def index_fits(x, indices, count, first):
    """Whether index tensors (`count` addresses from `indices` on) are integers of one shape, for dimensions that x has."""
    if count < 1 or first < 0 or first + count > x.ndim:
        return False
    lead = tensor_at(load(indices))
    for k in range(count):
        index = tensor_at(load(indices + 8 * k))
        if index.dtype == BOOL or index.dtype >= FLOAT32 or not same_shape(index, lead):
            return False
    return x.ndim - count + lead.ndim <= RANK


@native
def index_offsets(x, indices, count, first):
    """The offset in bytes of each element of the indices, in new words; 0 where one is out of bounds."""
    t, n = tensor_at(x), tensor_at(load(indices)).numel
    if t.device:
        return call(there(INDEX_OFFSETS), x, indices, count, first)
    room = new_words(n)
    right = True
    for k in range(count):
        if right:
            index = attempt(symbol("packed_as"), load(indices + 8 * k), INT64)
            if index == -1:
                free_words(room, n)
                fail()
            right = offsets(room, tensor_at(index).data, n, t.shape[first + k], t.strides[first + k], k == 0)
            decref(index)
    if not right:
        free_words(room, n)
        return 0
    return room


@njit
def free_offsets(x, room, n):
    """Give back what :func:`index_offsets` gave."""
    if tensor_at(x).device:
        decref(room)
    else:
        free_words(room, n)


@njit
def indexed_shape(frame, x, indices, count, first):
    """Give a frame the shape of x indexed: the indices' shape in place of the dimensions they are for."""
    f, lead = frame_at(frame), tensor_at(load(indices))
    f.ndim = x.ndim - count + lead.ndim
    for i in range(first):
        f.shape[i] = x.shape[i]
    for i in range(lead.ndim):
        f.shape[first + i] = lead.shape[i]
    for i in range(first + count, x.ndim):
        f.shape[i - count + lead.ndim] = x.shape[i]
    return lead.ndim


@native
def walk_rows(walk, unused):
    """Run a walk's kernel for each place of the dimensions that it does not loop over."""
    f = frame_at(walk)
    inner, n = f.numbers[INNER], f.pointers[7]
    outer_step, lap = f.pointers[3], n
    if inner == f.ndim:
        f.pointers[4], f.pointers[5], f.pointers[6] = 1, 0, 0
        if abs(outer_step) > f.itemsizes[1]:
            lap = TILE
    else:
        f.pointers[4], f.pointers[5], f.pointers[6] = f.shape[inner], f.strides[0, inner], f.strides[1, inner]
        lap = TILE if abs(f.pointers[5]) > 4 * f.itemsizes[0] else f.pointers[4]
    for i in range(inner):
        f.index[i] = 0
    start, end = 0, n if inner == f.ndim else f.pointers[4]
    while start < end:
        m = min(lap, end - start)
        if inner == f.ndim:
            n = m
        else:
            f.pointers[4] = m
        while True:
            call(f.kernel, walk + POINTERS, n)
            if not advance(f, inner):
                break
        if inner == f.ndim:
            f.pointers[1] += outer_step * m
            f.pointers[2] += 8 * m
        else:
            f.pointers[0] += f.pointers[5] * m
            f.pointers[1] += f.pointers[6] * m
        start += m
    return 0


@native
def share_of_walk(context, i):
    """One thread's share of a walk: a range of a dimension, or of the indices."""
    mine, pieces, dim = new_frame(), load(context + 8), load(context + 16)
    memcpy(mine, load(context), FRAME)
    f = frame_at(mine)
    n = f.pointers[7] if dim == RANK else f.shape[dim]
    low, high = n * i // pieces, n * (i + 1) // pieces
    if low == high:
        return 0
    if dim == RANK:
        f.pointers[2] += 8 * low
        f.pointers[1] += f.pointers[3] * low
        f.pointers[7] = high - low
    else:
        for k in range(2):
            f.pointers[k] += f.strides[k, dim] * low
        f.shape[dim] = high - low
    return walk_rows(mine, 0)


@native
def run_walk(walk):
    """Run a walk, on several threads where that pays."""
    f = frame_at(walk)
    work, threads = 2 * f.numel * f.pointers[7], state_at(symbol("state")).threads
    if work < PARALLEL:
        return walk_rows(walk, 0)
    best, dim = f.pointers[7] if f.numbers[SHARED] else 0, RANK
    for i in range(f.ndim):
        if f.shape[i] > best:
            best, dim = f.shape[i], i
    if threads < 2 or best < 2 * threads:
        return run_long(symbol("walk_rows"), walk, work)
    context = new_frame()
    store(context, walk)
    store(context + 8, threads)
    store(context + 16, dim)
    return parallel(symbol("share_of_walk"), context, threads)


@native
def move_indexed(kernel, arguments_of_move):
    """Run an index kernel. The words: x, the address of the indices, their count, first, offsets, a frame, lead, shared.

    The frame's operand 0 is what is taken from x or put into it; `lead` is the number of the indices' dimensions.
    """
    w = arguments_of_move
    x, indices, count, first = tensor_at(load(w)), load(w + 8), load(w + 16), load(w + 24)
    g, lead = frame_at(load(w + 40)), load(w + 48)
    walk = new_frame()
    begin(walk, kernel)
    f = frame_at(walk)
    f.operands, f.ndim = 2, x.ndim - count
    f.pointers[0], f.pointers[1], f.itemsizes[0], f.itemsizes[1] = x.data, g.pointers[0], x.itemsize, x.itemsize
    for i in range(f.ndim):
        mine, other = (i, i) if i < first else (i + count, i + lead)
        f.shape[i], f.strides[0, i], f.strides[1, i] = x.shape[mine], x.strides[mine], g.strides[0, other]
    coalesce(walk)
    n = tensor_at(load(indices)).numel
    if f.numel == 0 or n == 0:
        return 0
    f.pointers[2], f.pointers[3], f.pointers[7] = load(w + 32), 0, n
    for i in range(lead):
        if g.shape[first + i] != 1:
            f.pointers[3] = g.strides[0, first + i]
    if x.device:
        grain = 0
        for k in range(count):
            grain |= x.strides[first + k]
        return call(there(MOVE_INDEXED), walk, kernel, x.dtype, grain)
    nearest = 0
    for k in range(count):
        step = abs(x.strides[first + k])
        if x.shape[first + k] > 1 and (nearest == 0 or step < nearest):
            nearest = step
    last = f.ndim - 1
    x_step, even = abs(f.strides[0, last]), f.strides[1, last] == x.itemsize
    run = f.shape[last] > 1 and (x_step < nearest or even or n < 16)
    f.numbers[INNER], f.numbers[SHARED] = last if run else f.ndim, load(w + 56)
    return run_walk(walk)


@njit
def even_lead(g, first, lead):
    """Whether one step leads from each element of the indices to the next in a frame's operand 0."""
    outer = -1
    for i in range(first, first + lead):
        if g.shape[i] != 1:
            if outer >= 0 and g.strides[0, outer] != g.strides[0, i] * g.shape[i]:
                return False
            outer = i
    return True


@njit
def prepare_move(w, x, indices, count, first, room, frame, lead, shared):
    for k, value in enumerate((x, indices, count, first, room, frame, lead, shared)):
        store(w + 8 * k, value)


@njit
def lay(frame, x, indices, count, first, other):
    """Make a tensor, broadcast to the shape of x indexed, a frame's operand 0."""
    begin(frame, 0)
    indexed_shape(frame, x, indices, count, first)
    operand(frame, other)


@native
def broadcast_copy(frame, t):
    """A copy of a tensor with a frame's shape."""
    made = empty(frame, tensor_at(t).dtype)
    copy_into(made, t)
    return made


@native
def pick_slices(op, arguments, out, x, indices, count, first):
    """The elements of x at indices of the dimensions from `first` on."""
    t = tensor_at(x)
    if not index_fits(t, indices, count, first):
        refuse(op, arguments)
    kernel = index_kernel(op, t, TAKE)
    room = index_offsets(x, indices, count, first)
    if room == 0:
        refuse(op, arguments)
    frame, words, n = new_frame(), new_frame(), tensor_at(load(indices)).numel
    lead = indexed_shape(frame, t, indices, count, first)
    made = attempt(symbol("op_result"), frame, t.dtype, out)
    if made != -1:
        lay(frame, t, indices, count, first, tensor_at(made))
        prepare_move(words, x, indices, count, first, room, frame, lead, 1)
        if attempt(symbol("move_indexed"), kernel, words) == -1:
            decref(made)
            made = -1
    free_offsets(x, room, n)
    if made == -1:
        fail()
    return made


@native
def write_slices(x, indices, count, first, source, kernel):
    """Put a tensor, of the dtype of x and broadcast, at indices of the dimensions from `first` on.

    1 where it does not broadcast or an index is wrong; nothing was written then.
    """
    t, s = tensor_at(x), tensor_at(source)
    if not index_fits(t, indices, count, first):
        return 1
    frame, words, n = new_frame(), new_frame(), tensor_at(load(indices)).numel
    lead = indexed_shape(frame, t, indices, count, first)
    f = frame_at(frame)
    if s.ndim > f.ndim:
        return 1
    for i in range(s.ndim):
        if s.shape[i] != 1 and s.shape[i] != f.shape[f.ndim - s.ndim + i]:
            return 1
    room = index_offsets(x, indices, count, first)
    if room == 0:
        return 1
    lay(frame, t, indices, count, first, s)
    wide = 0
    if s.storage == t.storage or not even_lead(f, first, lead):
        wide = attempt(symbol("broadcast_copy"), frame, source)
        if wide == -1:
            free_offsets(x, room, n)
            fail()
        lay(frame, t, indices, count, first, tensor_at(wide))
    prepare_move(words, x, indices, count, first, room, frame, lead, 0)
    status = attempt(symbol("move_indexed"), kernel, words)
    free_offsets(x, room, n)
    decref(wide)
    if status == -1:
        fail()
    return 0


assert move_indexed  # reached through its symbol
