"""Elements by index on CUDA devices: what `slices.py` and `gather.py` leave to the device's kernels (`kernels_cuda/index.py`).

All indices are checked before anything is written: the device sets a flag, for which the host waits once. In a CUDA graph it does not wait:
there the kernel that checks them stops, which ends the device's work with an error.
"""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.copies import advance
from numbatensor.core.device_sort import sorted_rows
from numbatensor.core.devices import copy_bytes, fill_bytes, parameter, parameters, start, synchronize
from numbatensor.core.iterate import begin, coalesce, operand
from numbatensor.core.memory import decref, load, local, memcpy
from numbatensor.core.packing import packed_as, width_code
from numbatensor.core.python import call_python
from numbatensor.core.records import Tensor, frame_at, launch_at, local_at, new_frame, new_launch, new_view, tensor_at
from numbatensor.core.slices import ADD, PUT, TAKE
from numbatensor.core.table import SCATTERED
from numbatensor.core.tensors import empty, shape_of
from numbatensor.core.there import MOST, THREADS, kernel_there

INT64, OFFSETS, TENSOR = 5, 1, Tensor.itemsize
WALKED, PLACES = 4, 7  # most dimensions that a kernel moves elements along, and finds places in
WIDEST = 8  # bytes of an element that is moved as one
assert (
    copy_into and copy_bytes and fill_bytes and synchronize and packed_as and sorted_rows
)  # reached through their symbols


@njit
def blocks_of(total):
    return (total + THREADS - 1) // THREADS


@native
def word_there(place, device):
    """A word of a device's memory, once all that was asked for before is done."""
    here = new_frame()
    copy_bytes(here, place, 8, device)
    synchronize(device)
    return load(here)


@native
def new_words_there(n):
    """A vector of n words and one more, which is 0."""
    frame = new_frame()
    f = frame_at(frame)
    f.ndim, f.shape[0] = 1, n + 1
    made = empty(frame, INT64)
    t = tensor_at(made)
    if attempt(symbol("fill_bytes"), t.data + 8 * n, 0, 8, t.device) == -1:
        decref(made)
        fail()
    t.shape[0], t.numel = n, n
    return made


@native
def find_offsets(room, index, size, step, adds, walk):
    """Launch the kernel that makes offsets of a packed index of int64. `walk`: a frame whose operand 1 is what is walked, or 0."""
    r, launch, dims = tensor_at(room), new_launch(), 0
    flag = 0 if local_at(local()).capture else r.data + 8 * r.numel
    parameters(launch, (r.data, tensor_at(index).data, flag, r.numel, size, step, adds))
    if walk:
        f = frame_at(walk)
        dims = f.ndim
        for i in range(dims):
            parameter(launch, f.shape[i])
        for i in range(dims):
            parameter(launch, f.strides[1, i])
    op = symbol("op_pick")
    return start(op, kernel_there(op, OFFSETS, dims, INT64), blocks_of(r.numel), 1, THREADS, 0, launch, r.device)


@njit
def checked(room):
    """The offsets, or 0 where an index was out of bounds; -1 where the device failed."""
    t = tensor_at(room)
    if local_at(local()).capture:
        return room
    flag = attempt(symbol("word_there"), t.data + 8 * t.numel, t.device)
    if flag:
        decref(room)
    return flag if flag == -1 else 0 if flag else room


@native
def index_offsets_there(x, indices, count, first):
    """The offset in bytes of each element of the indices, a new tensor of words; 0 where one is out of bounds."""
    t, n = tensor_at(x), tensor_at(load(indices)).numel
    room = new_words_there(n)
    failed = False
    for k in range(count):
        if n and not failed:
            index = attempt(symbol("packed_as"), load(indices + 8 * k), INT64)
            failed = index == -1
            if not failed:
                failed = (
                    attempt(
                        symbol("find_offsets"), room, index, t.shape[first + k], t.strides[first + k], int(k > 0), 0
                    )
                    == -1
                )
                decref(index)
    if failed:
        decref(room)
        fail()
    found = checked(room) if n else room
    if found == -1:
        fail()
    return found


@njit
def widen(f, grain):
    """Move elements that lie next to each other as one, while that keeps every address a multiple of its size."""
    last = f.ndim - 1
    if last < 0:
        return
    item = f.itemsizes[0]
    while item < WIDEST and f.shape[last] % 2 == 0 and f.strides[0, last] == item and f.strides[1, last] == item:
        mixed = grain | f.pointers[0] | f.pointers[1] | f.pointers[3]
        for i in range(last):
            mixed |= f.strides[0, i] | f.strides[1, i]
        if mixed % (2 * item):
            break
        item *= 2
        f.shape[last] //= 2
        f.strides[0, last] = f.strides[1, last] = item
    f.itemsizes[0] = item


@native
def launch_move(walk, op, kernel, lead, size, order, device):
    """Launch a kernel that moves elements, over the dimensions from `lead` on, of which that one has `size` indices."""
    f, launch = frame_at(walk), new_launch()
    launch_at(launch).count = 0
    inner, n, step = size, f.pointers[7], f.pointers[3]
    for i in range(lead + 1, f.ndim):
        inner *= f.shape[i]
    by_rows = inner > 1
    if by_rows and step:
        by_rows = abs(f.strides[1, f.ndim - 1]) < abs(step)
    for word in (f.pointers[0], f.pointers[1], tensor_at(f.pointers[2]).data, order):
        parameter(launch, word)
    for word in (n, inner, n * inner, int(by_rows), step):
        parameter(launch, word)
    for i in range(lead, f.ndim):
        parameter(launch, size if i == lead else f.shape[i])
    for k in range(2):
        for i in range(lead, f.ndim):
            parameter(launch, f.strides[k, i])
    return start(op, kernel, blocks_of(n * inner), 1, THREADS, 0, launch, device)


@native
def move_all(walk, what, dtype, grain, order):
    """Run a walk between x (operand 0) and another tensor (1): pointers 2, 3 and 7 are the offsets' tensor, the other's step, and how many."""
    f = frame_at(walk)
    device, n = tensor_at(f.pointers[2]).device, f.pointers[7]
    if what != ADD:
        widen(f, grain)
        dtype = width_code(f.itemsizes[0])
    lead, rest = max(0, f.ndim - WALKED), n
    for i in range(f.ndim - 1, lead, -1):
        rest *= f.shape[i]
        if rest >= MOST:
            lead, rest = i, rest // f.shape[i]
            break
    op = symbol("op_pick") if what == TAKE else symbol("op_index_put") if what == PUT else symbol("op_index_put_add")
    kernel = kernel_there(op, 0, f.ndim - lead, dtype)
    if lead == f.ndim:
        return launch_move(walk, op, kernel, lead, 1, order, device)
    most = max(1, (MOST - 1) // rest)
    for i in range(lead):
        f.index[i] = 0
    while True:
        done, size = 0, f.shape[lead]
        while done < size:
            m = min(most, size - done)
            launch_move(walk, op, kernel, lead, m, order, device)
            for k in range(2):
                f.pointers[k] += f.strides[k, lead] * m
            done += m
        for k in range(2):
            f.pointers[k] -= f.strides[k, lead] * size
        if not advance(f, lead):
            return 0


@native
def move_indexed_there(walk, what, dtype, grain):
    """The same, with the order of the offsets where two of them may be equal. `grain`: all strides of what is indexed, joined by `or`."""
    f, order = frame_at(walk), 0
    if what == ADD or (what == PUT and f.pointers[7] > 1):
        order = sorted_rows(f.pointers[2], f.pointers[7], 0)
    data = tensor_at(order).data if order else 0
    failed = attempt(symbol("move_all"), walk, what, dtype, grain, data) == -1
    decref(order)
    if failed:
        fail()
    return 0


@njit
def walk_index_shape(walk, x, index, dim):
    """A frame over the shape of an index, in row-major order, whose operand 1 is x with step 0 along `dim`."""
    begin(walk, 0)
    f = frame_at(walk)
    shape_of(walk, index)
    operand(walk, index)
    f.operands, f.pointers[1], f.itemsizes[1] = 2, x.data, x.itemsize
    for k in range(f.ndim):
        f.strides[1, k] = 0 if k == dim or k >= x.ndim else x.strides[k]
    coalesce(walk)


@native
def along_offsets(x, index, dim):
    """The offset in x of what each element of a packed index names along a dimension; 0 where one is out of bounds."""
    t, i, walk = tensor_at(x), tensor_at(index), new_frame()
    walk_index_shape(walk, t, i, dim)
    size, step = (t.shape[dim], t.strides[dim]) if t.ndim else (1, t.itemsize)
    if frame_at(walk).ndim > PLACES:
        call_python("complain", SCATTERED, frame_at(walk).ndim, PLACES, 0)
    room = new_words_there(i.numel)
    if attempt(symbol("find_offsets"), room, index, size, step, 0, walk) == -1:
        decref(room)
        fail()
    found = checked(room)
    if found == -1:
        fail()
    return found


@native
def move_along_there(what, x, index, other, dim):
    """Move elements between x and a tensor that is walked as the index is: 0 where an index is out of bounds, else 1."""
    t, i, o, view, walk = tensor_at(x), tensor_at(index), tensor_at(other), new_view(), new_frame()
    if i.numel == 0:
        return 1
    room = along_offsets(x, index, dim)
    if room == 0:
        return 0
    memcpy(view, other, TENSOR)  # as much of the other as the index is large
    v = tensor_at(view)
    v.ndim, v.numel, v.contiguous = i.ndim, i.numel, 0
    packed = o.contiguous != 0 and o.numel == i.numel
    for k in range(i.ndim):
        v.shape[k], v.strides[k] = i.shape[k], o.strides[k] if k < o.ndim else 0
        packed = packed and k < o.ndim and o.shape[k] == i.shape[k]
    mine, failed = other, False
    if not packed:
        mine = attempt(symbol("packed_as"), view, o.dtype)
        failed = mine == -1
    if not failed:
        f = frame_at(walk)
        f.ndim, f.operands, f.numel, f.itemsizes[0] = 0, 2, 1, t.itemsize
        f.pointers[0], f.pointers[1], f.pointers[2], f.pointers[3] = t.data, tensor_at(mine).data, room, t.itemsize
        f.pointers[7] = i.numel
        failed = attempt(symbol("move_indexed_there"), walk, what, t.dtype, 0) == -1
    if not failed and mine != other and what == TAKE:
        failed = attempt(symbol("copy_into"), view, mine) == -1
    decref(room)
    if mine != other and mine != -1:
        decref(mine)
    if failed:
        fail()
    return 1


assert find_offsets and move_all and word_there and move_indexed_there  # reached through their symbols


@native
def triangle_there(op, x, made, upper, diagonal):
    """Triangles of matrices, in the packed tensor `made`."""
    t, m, launch, done = tensor_at(x), tensor_at(made), new_launch(), 0
    height, width = t.shape[t.ndim - 2], t.shape[t.ndim - 1]
    rows, most = t.numel // width, max(1, (MOST - 1) // width)
    packed, failed = packed_as(x, t.dtype), False
    while done < rows and not failed:
        n = min(most, rows - done)
        launch_at(launch).count = 0
        for address in (m.data, tensor_at(packed).data):
            parameter(launch, address + done * width * t.itemsize)
        for word in (n * width, height, width, done % height, diagonal):
            parameter(launch, word)
        failed = attempt(symbol("start_triangle"), op, n * width, upper, width_code(t.itemsize), launch, t.device) == -1
        done += n
    decref(packed)
    if failed:
        fail()
    return 0


@native
def start_triangle(op, n, upper, dtype, launch, device):
    return start(op, kernel_there(op, 0, upper, dtype), blocks_of(n), 1, THREADS, 0, launch, device)


assert start_triangle  # reached through its symbol
