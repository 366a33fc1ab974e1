"""What Python calls beside ops: the parts of a tensor, new tensors, and the backward pass."""

from numba import njit

from numbatensor.core.compiler import attempt, external, fail, native, symbol
from numbatensor.core.conversions import convert
from numbatensor.core.engine import GRADS, deliver, leave, start_call
from numbatensor.core.graph import EDGE, attach, check, link, needs_grad, new_node, node_of, save, settle, unpack
from numbatensor.core.memory import decref, empty_pool, free, incref, load, malloc, store
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
    is_tensor,
    none,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.records import (
    RANK,
    edge_at,
    frame_at,
    new_call,
    new_frame,
    node_at,
    storage_at,
    tensor_at,
    visit_at,
)
from numbatensor.core.tensors import alias, blank, empty, is_packed, itemsize_of, new_storage, same_shape, zero
from numbatensor.core.writes import extent, rebase, write, write_number

new_tuple = external("PyTuple_New", 1)
set_item = external("PyTuple_SetItem", 3, small=True)


@njit
def read_shape(obj, frame):
    """Give a frame the numbers in a tuple."""
    f = frame_at(frame)
    if tuple_size(obj) > RANK:
        call_python("complain", 10, tuple_size(obj), 0, 0)
    f.ndim = tuple_size(obj)
    for i in range(f.ndim):
        f.shape[i] = as_long(tuple_item(obj, i))


@entry
def new_empty(self, args, count):
    """(shape, dtype code) -> Tensor"""
    f = new_frame()
    read_shape(argument(args, 0), f)
    return box(empty(f, as_long(argument(args, 1))))


@entry
def new_zeros(self, args, count):
    """(shape, dtype code) -> Tensor of zeros"""
    f = new_frame()
    read_shape(argument(args, 0), f)
    t = empty(f, as_long(argument(args, 1)))
    zero(t)
    return box(t)


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
    """(address, shape, strides, dtype code, handle) -> Tensor over memory that a Python object owns"""
    f, g = new_frame(), new_frame()
    read_shape(argument(args, 1), f)
    read_shape(argument(args, 2), g)
    data, dtype = as_long(argument(args, 0)), as_long(argument(args, 3))
    s = new_storage(0)
    t = blank(s, data)
    set_geometry(t, dtype, f, g, data)
    low, high = extent(tensor_at(t))
    r = storage_at(s)
    r.data, r.nbytes, r.owner, r.aliases = low, high - low, as_long(argument(args, 4)), 1
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
    if x.node and x.dtype == y.dtype and same_shape(x, y):  # `.grad`, and the graphs that lead to it, stay
        y.node = x.node
        incref(y.node)
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
def to_dtype(self, args, count):
    """(x, dtype code) -> Tensor of another dtype, recorded"""
    return box(convert(unboxed(argument(args, 0)), as_long(argument(args, 1))))


@entry
def write_into(self, args, count):
    """(out, x): out[...] = x, a tensor or number: recorded where that is wanted, and counted"""
    out, obj = unboxed(argument(args, 0)), argument(args, 1)
    kind = load(obj + TYPE)
    if kind == symbol("type_float"):
        write_number(out, 3, as_float(obj))
    elif kind == symbol("type_int") or kind == symbol("type_bool"):
        write_number(out, 2, as_long(obj))
    else:
        write(out, unboxed(obj))
    add_reference(argument(args, 0))
    return argument(args, 0)


@entry
def address_of(self, args, count):
    """(x) -> address of the record"""
    return from_long(unboxed(argument(args, 0)))


@entry
def shape_tuple(self, args, count):
    """(x) -> shape"""
    x = tensor_at(unboxed(argument(args, 0)))
    made = new_tuple(x.ndim)
    for i in range(x.ndim):
        set_item(made, i, from_long(x.shape[i]))
    return made


@entry
def stride_tuple(self, args, count):
    """(x) -> strides in bytes"""
    x = tensor_at(unboxed(argument(args, 0)))
    made = new_tuple(x.ndim)
    for i in range(x.ndim):
        set_item(made, i, from_long(x.strides[i]))
    return made


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
        return 1 if needs_grad(t) else 0
    if which == 4:
        return t.data
    if which == 5:
        return t.contiguous
    if which == 6:
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
    return t.seen


NDIM, NUMEL, DTYPE, REQUIRES_GRAD, DATA, CONTIGUOUS, VERSION, NODE, OUTPUT_NR, BASE, STORAGE, RESTRICTION, SEEN = range(
    13
)


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
    x = tensor_at(unboxed(argument(args, 0)))
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
def leaf_node(self, args, count):
    """(x) -> address of the node its gradient flows to"""
    t = unboxed(argument(args, 0))
    settle(t)
    return from_long(node_of(t))


@entry
def grad_holder(self, args, count):
    """(x) -> address of the node that holds `.grad`, made if need be"""
    t = unboxed(argument(args, 0))
    x = tensor_at(t)
    if x.node == 0:
        x.node = new_node(0, 0, 0, 0, 0, t)
    return from_long(x.node)


@entry
def set_node_grad(self, args, count):
    """(node, tensor or None)"""
    n = node_at(as_long(argument(args, 0)))
    old = n.grad
    n.grad = 0
    if is_tensor(argument(args, 1)):
        n.grad = unboxed(argument(args, 1))
        incref(n.grad)
    decref(old)
    return none()


@entry
def own_node(self, args, count):
    """(node): one more owner"""
    incref(as_long(argument(args, 0)))
    return none()


@entry
def disown_node(self, args, count):
    """(node): one owner less"""
    decref(as_long(argument(args, 0)))
    return none()


@entry
def record_python(self, args, count):
    """(row, out, inputs, saved, whiches, handle, in_place): a node whose rule is Python's. The inputs are tensors or None."""
    row, out, inputs, saved, whiches = (
        as_long(argument(args, 0)),
        unboxed(argument(args, 1)),
        argument(args, 2),
        argument(args, 3),
        argument(args, 4),
    )
    node = new_node(1, row, tuple_size(inputs), tuple_size(saved), 0, out)
    for i in range(tuple_size(inputs)):
        obj = tuple_item(inputs, i)
        if is_tensor(obj):
            settle(unboxed(obj))
            link(node, i, unboxed(obj))
    for k in range(tuple_size(saved)):
        t = unboxed(tuple_item(saved, k))
        save(node, k, t, as_long(tuple_item(whiches, k)), storage_at(tensor_at(t).storage).version)
    node_at(node).handle = as_long(argument(args, 5))
    if as_long(argument(args, 6)):
        rebase(out, node)
    else:
        attach(out, node)
    return none()


@entry
def unpack_saved(self, args, count):
    """(node, k) -> Tensor"""
    node, k = as_long(argument(args, 0)), as_long(argument(args, 1))
    check(node, k)
    return box(unpack(node, k))


@entry
def visit_grad(self, args, count):
    """(node, output_nr) -> the gradient that reached an output of a node in the running pass, or None"""
    v = node_at(as_long(argument(args, 0))).visit
    if v == 0:
        return none()
    g = load(load(v + GRADS) + 8 * as_long(argument(args, 1)))
    if g == 0:
        return none()
    incref(g)
    return box(g)


@entry
def give_gradient(self, args, count):
    """(call, node, i, grad): deliver the gradient of input i"""
    node, i, grad = as_long(argument(args, 1)), as_long(argument(args, 2)), unboxed(argument(args, 3))
    incref(grad)
    e = edge_at(node_at(node).edges + i * EDGE)
    deliver(as_long(argument(args, 0)), e.node, e.output_nr, grad)
    return none()


@entry
def run_backward(self, args, count):
    """(roots, seeds, retain, create_graph, captured): one pass; gives the gradients of the captured (node, output_nr) pairs, a tuple

    `captured` is a tuple of tensors, or None to add to the leaves' `.grad`.
    """
    roots, seeds, captured = argument(args, 0), argument(args, 1), argument(args, 4)
    capture = captured != symbol("none")
    n = tuple_size(roots)
    for k in range(n):
        unboxed(tuple_item(roots, k))  # fails for an empty box, before there is anything to give back
        unboxed(tuple_item(seeds, k))
    call_record = new_call()
    start_call(call_record, as_long(argument(args, 2)), as_long(argument(args, 3)), 0 if capture else 1)
    words = malloc(16 * n + 16)
    for k in range(n):
        store(words + 8 * k, load(tuple_item(roots, k) + PAYLOAD))
        store(words + 8 * (n + k), load(tuple_item(seeds, k) + PAYLOAD))
    failed = attempt(symbol("backward_many"), call_record, words, words + 8 * n, n) == -1
    free(words)
    made = 0
    if not failed and capture:
        made = new_tuple(tuple_size(captured))
        for k in range(tuple_size(captured)):
            t = tensor_at(unboxed(tuple_item(captured, k)))
            g = 0
            if t.node:
                v = node_at(t.node).visit
                if v and visit_at(v).call == call_record:
                    g = load(load(v + GRADS) + 8 * t.output_nr)
            if g:
                incref(g)
                set_item(made, k, box(g))
            else:
                add_reference(symbol("none"))
                set_item(made, k, symbol("none"))
    leave(call_record)
    if failed:
        fail()
    return made if made else none()
