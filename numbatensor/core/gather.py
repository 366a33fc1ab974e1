"""Elements by an index of their own along one dimension: gather, scatter and scatter_add, unrecorded.

All three walk the index. Beside it run the tensor that has the dimension, with step 0 along it, and the other tensor. What is
added at one place is added in the order of the index: threads share the other dimensions only. Kernel 0 is `gather` or `scatter`
by the width of an element, or `scatter_add` by dtype.
"""

from numba import njit

from kernels_cpu.index import within
from numbatensor.core.arguments import wrap
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.copies import advance
from numbatensor.core.devices import MOVE_ALONG, there
from numbatensor.core.index import cleared_result, copy_for_writing, listed_shape
from numbatensor.core.iterate import FRAME, PARALLEL, POINTERS, begin, coalesce, operand, parallel, swap
from numbatensor.core.memory import decref, load, memcpy, store
from numbatensor.core.packing import op_result, packed_as, run_long
from numbatensor.core.records import arguments_at, frame_at, new_frame, state_at, tensor_at
from numbatensor.core.slices import ADD, PUT, TAKE, broadcast_copy, index_kernel
from numbatensor.core.table import refuse
from numbatensor.core.tensors import FLOAT32, shape_of

assert (
    copy_for_writing and cleared_result and packed_as and op_result and broadcast_copy and parallel
)  # reached through their symbols
INT64, BOOL = 5, 0
CHECK = 0  # place in a walk's `numbers`: whether its indices are still to be checked
STRETCH = 1024  # indices at a time: 8 KiB
SHORT = 16  # a row of the index that is shorter is not worth a call: a longer dimension is walked inside


@native
def walk_index(walk, unused):
    """Run a walk's kernel along its last dimension, for each place of the others; 1 and an early end at an index out of bounds.

    Where indices are still to be checked, they are so a stretch at a time, and the kernel finds them in first-level cache.
    """
    f = frame_at(walk)
    inner, check = f.ndim - 1, f.numbers[CHECK]
    n = f.shape[inner]
    f.pointers[5], f.pointers[6], f.pointers[7] = f.strides[0, inner], f.strides[1, inner], f.strides[2, inner]
    for i in range(inner):
        f.index[i] = 0
    while True:
        start = 0
        while start < n:
            m = min(STRETCH, n - start) if check else n
            if check and not within(f.pointers[2], m, f.pointers[4]):
                return 1
            call(f.kernel, walk + POINTERS, m)
            start += m
            for k in range(3):
                f.pointers[k] += m * f.pointers[5 + k]
        for k in range(3):
            f.pointers[k] -= n * f.pointers[5 + k]
        if not advance(f, inner):
            return 0


@native
def share_of_index(context, i):
    """One thread's share of a walk: a range of a dimension. Notes in the context where an index is out of bounds."""
    mine, pieces, dim = new_frame(), load(context + 8), load(context + 16)
    memcpy(mine, load(context), FRAME)
    f = frame_at(mine)
    n = f.shape[dim]
    low, high = n * i // pieces, n * (i + 1) // pieces
    if low == high:
        return 0
    for k in range(3):
        f.pointers[k] += f.strides[k, dim] * low
    f.shape[dim] = high - low
    if walk_index(mine, 0):
        store(context + 24, 1)
    return 0


@native
def run_index(walk, shared):
    """Run a walk, on several threads where that pays: 1 at an index out of bounds.

    `shared`: whether they may share the dimension of the index, too.
    """
    f = frame_at(walk)
    last = f.ndim - 1
    if f.shape[last] < SHORT:
        for i in range(last):
            if f.shape[i] > f.shape[last]:
                swap(f, i, last)
    if f.numbers[CHECK] and f.strides[2, last] != 8:
        if not within(f.pointers[2], f.numel, f.pointers[4]):
            return 1
        f.numbers[CHECK] = 0
    work, threads = 2 * f.numel, state_at(symbol("state")).threads
    if work < PARALLEL:
        return walk_index(walk, 0)
    best = dim = 0
    for i in range(f.ndim):
        if f.shape[i] > best and (shared or f.strides[0, i]):
            best, dim = f.shape[i], i
    if threads < 2 or best < 2 * threads:
        return run_long(symbol("walk_index"), walk, work)
    context = new_frame()
    store(context, walk)
    store(context + 8, threads)
    store(context + 16, dim)
    store(context + 24, 0)
    parallel(symbol("share_of_index"), context, threads)
    return load(context + 24)


@njit
def index_is_right(x, index, dim):
    """Whether an index is of integers, and reaches no farther than x in the dimensions that it is not for."""
    if index.dtype == BOOL or index.dtype >= FLOAT32 or max(index.ndim, 1) != max(x.ndim, 1) or dim < 0:
        return False
    for i in range(min(x.ndim, index.ndim)):
        if i != dim and index.shape[i] > x.shape[i] and index.numel:
            return False
    return True


@native
def packed_index(op, arguments, x, index, dim):
    """The index as contiguous int64, its elements unchecked; a new reference."""
    if not index_is_right(tensor_at(x), tensor_at(index), dim):
        refuse(op, arguments)
    return packed_as(index, INT64)


@njit
def move_along(kernel, x, index, other, dim, shared, fresh):
    """Run a kernel over an index: between x, which has the dimension, and another tensor. 1, or 0 where an index is out of bounds; -1: it failed.

    `fresh`: whether what is written may be spoilt by an index out of bounds; else all are checked before.
    """
    t, i, o = tensor_at(x), tensor_at(index), tensor_at(other)
    if t.device:
        return attempt(there(MOVE_ALONG), kernel, x, index, other, dim)
    walk = new_frame()
    begin(walk, kernel)
    f = frame_at(walk)
    shape_of(walk, i)
    operand(walk, i)
    f.operands = 3
    f.pointers[2], f.pointers[0], f.pointers[1] = i.data, t.data, o.data
    f.itemsizes[0], f.itemsizes[1], f.itemsizes[2] = t.itemsize, o.itemsize, 8
    for k in range(f.ndim):
        f.strides[2, k] = f.strides[0, k]
        f.strides[0, k] = 0 if k == dim or k >= t.ndim else t.strides[k]
        f.strides[1, k] = o.strides[k] if k < o.ndim else 0
    f.pointers[3], f.pointers[4] = (t.strides[dim], t.shape[dim]) if t.ndim else (t.itemsize, 1)
    f.numbers[CHECK] = fresh
    if not fresh and not within(i.data, i.numel, f.pointers[4]):
        return 0
    coalesce(walk)
    return int(f.numel == 0 or run_index(walk, shared) == 0)


@native
def gather(op, arguments, out):
    """``out[i, j] = x[index[i, j], j]`` for dim 0: x, index, dim."""
    a, frame = arguments_at(arguments), new_frame()
    x, t = a.tensors[0], tensor_at(a.tensors[0])
    dim = wrap(a.numbers[2], t.ndim)
    kernel = index_kernel(op, t, TAKE)
    index = packed_index(op, arguments, x, a.tensors[1], dim)
    shape_of(frame, tensor_at(index))
    made = attempt(symbol("op_result"), frame, t.dtype, out)
    right = made if made == -1 else move_along(kernel, x, index, made, dim, 1, out == 0)
    decref(index)
    if right != 1 and made != -1:
        decref(made)
    if right == -1:
        fail()
    if right == 0:
        refuse(op, arguments)
    return made


@njit
def reaches(source, index):
    """Whether a tensor has an element for each of an index: it is as large, or has no dimensions."""
    if source.ndim == 0:
        return True
    if source.ndim != max(index.ndim, 1):
        return False
    for k in range(index.ndim):
        if index.shape[k] > source.shape[k] and index.numel:
            return False
    return True


@native
def scatter_into(op, arguments, made, index, source, dim, kernel, fresh):
    """Run a kernel that writes a source into the tensor `made`, whose reference is taken and given."""
    packed = attempt(symbol("packed_index"), op, arguments, made, index, dim)
    if packed == -1:
        decref(made)
        fail()
    s, dtype = tensor_at(source), tensor_at(made).dtype
    own = 0
    if s.dtype != dtype:
        own = attempt(symbol("packed_as"), source, dtype)
    elif s.storage == tensor_at(made).storage:
        frame = new_frame()
        shape_of(frame, s)
        own = attempt(symbol("broadcast_copy"), frame, source)
    right = own if own == -1 else move_along(kernel, made, packed, own if own else source, dim, 0, fresh)
    decref(packed)
    if right != 1:
        decref(made)
    if own != -1:
        decref(own)
    if right == -1:
        fail()
    if right == 0:
        refuse(op, arguments)
    return made


@njit
def scatter_copy(op, arguments, out, kernel):
    """A copy of x with a source written where an index says: x, index, source, dim."""
    a = arguments_at(arguments)
    dim = wrap(a.numbers[3], tensor_at(a.tensors[0]).ndim)
    source = tensor_at(a.tensors[2])
    fits = source.ndim == 0 or source.dtype == tensor_at(a.tensors[0]).dtype
    if not fits or not reaches(source, tensor_at(a.tensors[1])):
        refuse(op, arguments)
    made = copy_for_writing(a.tensors[0], out)
    return scatter_into(op, arguments, made, a.tensors[1], a.tensors[2], dim, kernel, out == 0)


@native
def scatter(op, arguments, out):
    """A copy of x with ``out[index[i, j], j] = source[i, j]`` for dim 0: x, index, source (or one element), dim. `out` may be x."""
    return scatter_copy(op, arguments, out, index_kernel(op, tensor_at(arguments_at(arguments).tensors[0]), PUT))


@native
def scatter_add(op, arguments, out):
    """A copy of x with ``out[index[i, j], j] += source[i, j]`` for dim 0: x, index, source, dim. `out` may be x."""
    return scatter_copy(op, arguments, out, index_kernel(op, tensor_at(arguments_at(arguments).tensors[0]), ADD))


@native
def gather_grad(op, arguments, out):
    """Zeros of a size with ``out[index[i, j], j] += grad[i, j]`` for dim 0: grad, index, size, dim."""
    a, f = arguments_at(arguments), new_frame()
    dim = wrap(a.numbers[3], a.lengths[2])
    if not listed_shape(f, arguments, 2) or not reaches(tensor_at(a.tensors[0]), tensor_at(a.tensors[1])):
        refuse(op, arguments)
    dtype = tensor_at(a.tensors[0]).dtype
    kernel = index_kernel(op, tensor_at(a.tensors[0]), ADD)
    made = cleared_result(f, dtype, out)
    return scatter_into(op, arguments, made, a.tensors[1], a.tensors[0], dim, kernel, out == 0)
