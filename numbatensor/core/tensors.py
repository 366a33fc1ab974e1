"""New tensors, views and the destructors that free them. A function that makes a tensor gives its caller one reference."""

from numba import njit

from numbatensor.core.collection import forget_variable
from numbatensor.core.compiler import c_function, call, native, symbol
from numbatensor.core.devices import FILL_BYTES, FREE, NEW_STORAGE, allocate_there, free_there, new_word, there
from numbatensor.core.handles import release_handle
from numbatensor.core.memory import (
    STORAGE_COUNT,
    atomic_add,
    counted,
    decref,
    free,
    give_back,
    incref,
    load,
    local,
    memset,
    note_bytes,
    release_foreign,
)
from numbatensor.core.modes import inference_bit
from numbatensor.core.pool import LARGE, LARGEST, allocate_large, free_large
from numbatensor.core.python import call_python
from numbatensor.core.records import HEADER, Storage, Tensor, frame_at, local_at, storage_at, tensor_at

STORAGE, TENSOR = Storage.itemsize, Tensor.itemsize
FLOAT32, FLOAT64, FLOAT16, BFLOAT16, BOOL = 6, 7, 8, 9, 0


@njit
def end_storage(here, storage):
    """A storage dies: its memory goes back to where it came from, or its foreign owner is let go."""
    s = storage_at(storage)
    local_at(here).tensors -= STORAGE_COUNT
    if s.log:
        free(s.log)
    if s.owner:
        release_handle(s.owner)
    elif s.device:
        call(there(FREE), s.device, s.data, s.nbytes, s.stream)
    else:
        note_bytes(here, -s.nbytes)
        if s.meminfo:
            release_foreign(s.meminfo)
        elif s.nbytes >= LARGE:
            free_large(s.data, s.nbytes)


@njit
def end_tensor(here, tensor):
    """A tensor dies: it lets go of its storage, node and base."""
    t = tensor_at(tensor)
    local_at(here).tensors -= 1
    if t.node:
        forget_variable(t.node, tensor)
    if atomic_add(t.storage, -1) == 1:
        end_storage(here, t.storage)
        give_back(here, t.storage)
    decref(t.node)
    decref(t.base)


@c_function
def free_storage(payload, size, info):
    """The destructor of storages."""
    end_storage(local(), payload - HEADER)
    return 0


@c_function
def free_tensor(payload, size, info):
    """The destructor of tensors."""
    end_tensor(local(), payload - HEADER)
    return 0


@native
def new_storage_there(here, nbytes):
    """A storage with memory of the device on which this thread makes its tensors."""
    device, owner = local_at(here).device, 0
    stream = local_at(here).streams[device]
    if local_at(here).capture:  # the memory is the graph's
        place = new_word()
        owner = call_python("capture_memory", device, nbytes, place)
        data = load(place)
    else:
        data = allocate_there(device, nbytes)
    s = counted(here, STORAGE, symbol("free_storage"))
    if s == 0:
        if owner:
            release_handle(owner)
        else:
            free_there(device, data, nbytes, stream)
        return 0
    r = storage_at(s)
    r.data, r.nbytes, r.inference, r.device, r.stream, r.owner = data, nbytes, inference_bit(), device, stream, owner
    r.version = r.aliases = r.writer = r.code = r.at = r.log = r.log_lock = r.meminfo = 0
    local_at(here).tensors += STORAGE_COUNT
    return s


@njit
def new_storage(here, nbytes):
    """A storage with memory of its own, aligned to 64 bytes; 0 where there is none. `here`: this thread's record."""
    if local_at(here).device:
        return call(there(NEW_STORAGE), here, nbytes)
    small = nbytes < LARGE
    s = counted(here, STORAGE + (nbytes + 64 if small else 0), symbol("free_storage"))
    if s == 0:
        return 0
    r = storage_at(s)
    data = (s + STORAGE + 63) & ~63
    if not small:
        data = allocate_large(nbytes)
        if data == 0:
            give_back(here, s)
            return 0
    r.data, r.nbytes, r.inference = data, nbytes, inference_bit()
    r.version = r.device = r.owner = r.aliases = r.writer = r.code = r.at = r.log = r.log_lock = r.meminfo = (
        r.stream
    ) = 0
    note_bytes(here, nbytes)
    local_at(here).tensors += STORAGE_COUNT
    return s


@njit
def storage_over(here, data, nbytes, meminfo):
    """A storage over memory that a block of numba's owns, of which it becomes an owner; 0 where there is no room for it."""
    s = new_storage(here, 0)
    if s:
        r = storage_at(s)
        incref(meminfo)
        r.data, r.nbytes, r.meminfo = data, nbytes, meminfo
        note_bytes(here, nbytes)
    return s


@njit
def new_tensor(here, storage, data):
    """A tensor record over a storage, whose reference it takes; geometry is left to the caller. `here`: this thread's record."""
    t = counted(here, TENSOR, symbol("free_tensor"))
    local_at(here).tensors += 1
    x = tensor_at(t)
    x.device = storage_at(storage).device
    x.storage, x.data, x.node, x.output_nr, x.requires_grad, x.base, x.seen, x.restriction, x.box = (
        storage,
        data,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    )
    return t


@njit
def blank(storage, data):
    """A tensor record over a storage, whose reference it takes; geometry is left to the caller."""
    return new_tensor(local(), storage, data)


@njit
def itemsize_of(dtype):
    """Bytes of an element, by the dtype's code."""
    if dtype <= 2:
        return 1
    if dtype == 3 or dtype >= FLOAT16:
        return 2
    if dtype == 4 or dtype == FLOAT32:
        return 4
    return 8


@njit
def new_contiguous(here, x, numel, dtype):
    """A new contiguous tensor with the shape of a tensor or frame, or 0. `here`: this thread's record."""
    item = itemsize_of(dtype)
    s = new_storage(here, numel * item)
    if s == 0:
        return 0
    t = new_tensor(here, s, storage_at(s).data)
    y = tensor_at(t)
    y.dtype, y.itemsize, y.ndim, y.numel, y.contiguous = dtype, item, x.ndim, numel, 1
    step = item
    for i in range(x.ndim - 1, -1, -1):
        y.shape[i] = x.shape[i]
        y.strides[i] = step
        step *= x.shape[i]
    return t


@njit
def like(x, dtype):
    """A new contiguous tensor with the shape of a tensor, or 0."""
    return new_contiguous(local(), x, x.numel, dtype)


@native
def empty(frame, dtype):
    """A new contiguous tensor with the shape of a frame."""
    f = frame_at(frame)
    numel = 1
    for i in range(f.ndim):
        numel *= f.shape[i]
        if numel > LARGEST:
            call_python("complain", 0, numel, 0, 0)
    t = new_contiguous(local(), f, numel, dtype)
    if t == 0:
        call_python("complain", 0, numel * itemsize_of(dtype), 0, 0)
    return t


@njit
def shape_of(frame, t):
    """Give a frame the shape of a tensor or node."""
    f = frame_at(frame)
    f.ndim = t.ndim
    for i in range(t.ndim):
        f.shape[i] = t.shape[i]


@njit
def same_shape(x, y):
    if x.ndim != y.ndim:
        return False
    for i in range(x.ndim):
        if x.shape[i] != y.shape[i]:
            return False
    return True


@njit
def is_packed(x):
    """Whether the elements lie one after the other in row-major order."""
    step = x.itemsize
    for i in range(x.ndim - 1, -1, -1):
        if x.shape[i] != 1 and x.strides[i] != step:
            return x.numel == 0
        step *= x.shape[i]
    return True


@native
def alias(t):
    """A tensor of the same storage and geometry, outside the graph."""
    x = tensor_at(t)
    incref(x.storage)
    a = blank(x.storage, x.data)
    y = tensor_at(a)
    y.dtype, y.itemsize, y.ndim, y.numel, y.contiguous = x.dtype, x.itemsize, x.ndim, x.numel, x.contiguous
    for i in range(x.ndim):
        y.shape[i] = x.shape[i]
        y.strides[i] = x.strides[i]
    return a


@njit
def zero(t):
    """Clear a new contiguous tensor."""
    x = tensor_at(t)
    if x.device:
        call(there(FILL_BYTES), x.data, 0, x.numel * x.itemsize, x.device)
    elif x.numel:
        memset(x.data, 0, x.numel * x.itemsize)
