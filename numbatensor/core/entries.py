"""What Python calls beside ops: the parts of a tensor, new tensors, and the backward pass."""

from numba import njit

from numbatensor.core.collection import forget_variable
from numbatensor.core.compiler import native, symbol
from numbatensor.core.conversions import convert
from numbatensor.core.devices import on
from numbatensor.core.graph import (
    is_ambiguous,
    needs_grad,
)
from numbatensor.core.memory import counts, decref, incref, load, local, store
from numbatensor.core.pool import empty_pool
from numbatensor.core.python import (
    PAYLOAD,
    TYPE,
    add_reference,
    argument,
    as_float,
    as_long,
    box,
    call_python,
    entry,
    from_long,
    new_tuple,
    none,
    set_item,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.records import (
    RANK,
    frame_at,
    new_frame,
    node_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.table import INFERENCE_VERSION
from numbatensor.core.tensors import (
    alias,
    blank,
    empty,
    is_packed,
    itemsize_of,
    new_storage,
    same_shape,
    zero,
)
from numbatensor.core.writes import bump, check_write, extent, write, write_number


@njit
def read_shape(obj, frame):
    """Give a frame the numbers in a tuple."""
    f = frame_at(frame)
    if tuple_size(obj) > RANK:
        call_python("complain", 10, tuple_size(obj), 0, 0)
    f.ndim = tuple_size(obj)
    for i in range(f.ndim):
        f.shape[i] = as_long(tuple_item(obj, i))


@native
def new_zero(frame, dtype, unused):
    """A new tensor with the shape of a frame, of zeros."""
    t = empty(frame, dtype)
    zero(t)
    return t


@native
def new_blank(frame, dtype, unused):
    """A new tensor with the shape of a frame."""
    return empty(frame, dtype)


@entry
def new_empty(self, args, count):
    """(shape, dtype code, device) -> Tensor"""
    f = new_frame()
    read_shape(argument(args, 0), f)
    return box(on(as_long(argument(args, 2)), symbol("new_blank"), f, as_long(argument(args, 1)), 0))


@entry
def new_zeros(self, args, count):
    """(shape, dtype code, device) -> Tensor of zeros"""
    f = new_frame()
    read_shape(argument(args, 0), f)
    return box(on(as_long(argument(args, 2)), symbol("new_zero"), f, as_long(argument(args, 1)), 0))


assert new_zero and new_blank  # reached through their symbols


@njit
def set_geometry(t, dtype, shape, strides, data):
    """Shape and strides (bytes) of a tensor record."""
    x, f, g = tensor_at(t), frame_at(shape), frame_at(strides)
    x.dtype, x.itemsize, x.ndim, x.data = dtype, itemsize_of(dtype), f.ndim, data
    x.numel = 1
    for i in range(f.ndim):
        x.shape[i], x.strides[i] = f.shape[i], g.shape[i]
        x.numel *= f.shape[i]
    x.contiguous = 1 if is_packed(x) else 0


@entry
def new_foreign(self, args, count):
    """(address, shape, strides, dtype code, handle, device) -> Tensor over memory that a Python object owns"""
    f, g = new_frame(), new_frame()
    read_shape(argument(args, 1), f)
    read_shape(argument(args, 2), g)
    data, dtype, device = as_long(argument(args, 0)), as_long(argument(args, 3)), as_long(argument(args, 5))
    s = new_storage(local(), 0)
    storage_at(s).device = device
    t = blank(s, data)
    set_geometry(t, dtype, f, g, data)
    low, high = extent(tensor_at(t))
    r = storage_at(s)
    r.data, r.nbytes, r.owner, r.aliases = low, high - low, as_long(argument(args, 4)), device == 0
    return box(t)


@entry
def detach(self, args, count):
    """(x) -> Tensor of the same storage and counter, outside of the graph"""
    return box(alias(unboxed(argument(args, 0))))


@entry
def adopt(self, args, count):
    """(x, y): the box of x, a leaf, shows y's memory from now on; y must be a new tensor, whose box is left empty"""
    obj, other = argument(args, 0), argument(args, 1)
    old, new = unboxed(obj), unboxed(other)
    x, y = tensor_at(old), tensor_at(new)
    y.requires_grad = x.requires_grad
    if (
        x.node and x.dtype == y.dtype and x.device == y.device and same_shape(x, y)
    ):  # `.grad`, and the graphs that lead to it, stay
        y.node, x.node = x.node, 0
        if node_at(y.node).variable == old:
            node_at(y.node).variable = new
    x.box, y.box = 0, obj
    store(obj + PAYLOAD, new)
    store(other + PAYLOAD, 0)
    decref(old)
    return none()


@entry
def release_pool(self, args, count):
    """() give pooled memory back to the system"""
    empty_pool()
    return none()


@entry
def count_memory(self, args, count):
    """(address): put the numbers of tensors, storages, nodes and bytes into the words there"""
    counts(as_long(argument(args, 0)))
    return none()


@entry
def to_dtype(self, args, count):
    """(x, dtype code) -> Tensor of another dtype, recorded"""
    return box(convert(unboxed(argument(args, 0)), as_long(argument(args, 1))))


@entry
def write_into(self, args, count):
    """(out, x, writer): out[...] = x, a tensor or number: recorded where that is wanted, and counted"""
    out, obj, writer = unboxed(argument(args, 0)), argument(args, 1), as_long(argument(args, 2))
    kind = load(obj + TYPE)
    if kind == symbol("type_float"):
        write_number(out, 3, as_float(obj), writer)
    elif kind == symbol("type_int") or kind == symbol("type_bool"):
        write_number(out, 2, as_long(obj), writer)
    else:
        write(out, unboxed(obj), writer)
    add_reference(argument(args, 0))
    return argument(args, 0)


@entry
def address_of(self, args, count):
    """(x) -> address of the record"""
    return from_long(unboxed(argument(args, 0)))


@njit
def numbers(values, n):
    """A tuple of the first n words."""
    made = new_tuple(n)
    for i in range(n):
        set_item(made, i, from_long(values[i]))
    return made


@entry
def shape_tuple(self, args, count):
    """(x) -> shape"""
    x = tensor_at(unboxed(argument(args, 0)))
    return numbers(x.shape, x.ndim)


@entry
def stride_tuple(self, args, count):
    """(x) -> strides in bytes"""
    x = tensor_at(unboxed(argument(args, 0)))
    return numbers(x.strides, x.ndim)


@native
def field(x, which):
    t = tensor_at(x)
    if which == 0:
        return t.ndim
    if which == 1:
        return t.numel
    if which == 2:
        return t.dtype
    if which == 3:
        return 1 if needs_grad(t) and not is_ambiguous(t) else 0
    if which == 4:
        return t.data
    if which == 5:
        return t.contiguous
    if which == 6:
        if storage_at(t.storage).inference:
            call_python("complain", INFERENCE_VERSION, 0, 0, 0)
        return storage_at(t.storage).version
    if which == 7:
        return t.node
    if which == 8:
        return t.output_nr
    if which == 9:
        return t.base
    if which == 10:
        return t.storage
    if which == 11:
        return t.restriction
    if which == 12:
        return t.seen
    if which == 14:
        return t.device
    return 1 if storage_at(t.storage).inference else 0


(
    NDIM,
    NUMEL,
    DTYPE,
    REQUIRES_GRAD,
    DATA,
    CONTIGUOUS,
    VERSION,
    NODE,
    OUTPUT_NR,
    BASE,
    STORAGE,
    RESTRICTION,
    SEEN,
    INFERENCE,
    DEVICE,
) = range(15)


@entry
def get(self, args, count):
    """(x, which) -> a field of the record"""
    return from_long(field(unboxed(argument(args, 0)), as_long(argument(args, 1))))


@entry
def set_requires_grad(self, args, count):
    """(x, flag)"""
    tensor_at(unboxed(argument(args, 0))).requires_grad = as_long(argument(args, 1))
    return none()


@entry
def set_restriction(self, args, count):
    """(x, restriction)"""
    tensor_at(unboxed(argument(args, 0))).restriction = as_long(argument(args, 1))
    return none()


@entry
def drop_node(self, args, count):
    """(x): forget the history"""
    t = unboxed(argument(args, 0))
    x = tensor_at(t)
    if x.node:
        forget_variable(x.node, t)
    decref(x.node)
    x.node = x.requires_grad = 0
    return none()


@entry
def box_of(self, args, count):
    """(address) -> the box of a tensor record, or None for 0"""
    t = as_long(argument(args, 0))
    if t == 0:
        return none()
    incref(t)
    return box(t)


@entry
def begin_write(self, args, count):
    """(x, writer): count a write outside of the graph that is to come, if x may be written"""
    t = unboxed(argument(args, 0))
    check_write(0, t, 0)
    bump(as_long(argument(args, 1)), t)
    return none()


@entry
def count_write(self, args, count):
    """(x): a write that nobody saw"""
    bump(0, unboxed(argument(args, 0)))
    return none()
