"""What Python calls beside ops: the parts of a tensor, new tensors, and the backward pass."""

from numba import njit

from numbatensor.core.collection import LEAF_LOCK, forget_variable
from numbatensor.core.compiler import attempt, external, fail, native, symbol
from numbatensor.core.conversions import convert
from numbatensor.core.engine import deliver, leave, start_call, wanted
from numbatensor.core.graph import (
    EDGE,
    HOOKED,
    INTACT,
    SAVED,
    attach,
    check,
    give_history,
    is_ambiguous,
    link,
    needs_grad,
    new_node,
    node_of,
    output_of,
    save,
    settle,
    unpack,
    verdict,
)
from numbatensor.core.handles import OBJECT, release_handle
from numbatensor.core.memory import (
    atomic_add,
    claim,
    decref,
    empty_pool,
    exchange,
    free,
    incref,
    load,
    malloc,
    store,
    take,
)
from numbatensor.core.modes import anomaly
from numbatensor.core.python import (
    PAYLOAD,
    TYPE,
    add_reference,
    argument,
    as_float,
    as_long,
    box,
    box_node,
    call_python,
    entry,
    from_long,
    is_tensor,
    none,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.recording import told
from numbatensor.core.records import (
    RANK,
    block_at,
    call_at,
    edge_at,
    frame_at,
    new_call,
    new_frame,
    node_at,
    output_at,
    saved_at,
    storage_at,
    tensor_at,
    visit_at,
)
from numbatensor.core.table import FREED_GRAPH, INFERENCE_SAVE, INFERENCE_VERSION
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
from numbatensor.core.visits import GRADS, find_visit
from numbatensor.core.write_log import hold_saved, release_saved_storage
from numbatensor.core.writes import bump, extent, rebase, write, write_number

new_tuple = external("PyTuple_New", 1)
set_item = external("PyTuple_SetItem", 3, small=True)
NEAR = 10_000  # nodes of a pass that an error looks through for the first


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
) = range(14)


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
def leaf_node(self, args, count):
    """(x) -> address of the node its gradient flows to"""
    t = unboxed(argument(args, 0))
    settle(t)
    return from_long(node_of(t))


@entry
def grad_holder(self, args, count):
    """(x) -> address of the record that holds `.grad`, of a node's output; made if need be"""
    t = unboxed(argument(args, 0))
    x = tensor_at(t)
    if x.node == 0:
        x.node = new_node(0, 0, 0, 0, 0, t)
        node_at(x.node).variable = t
    return from_long(output_of(x.node, x.output_nr))


@entry
def set_kept_grad(self, args, count):
    """(output record, tensor or None)"""
    o = output_at(as_long(argument(args, 0)))
    old = o.grad
    o.grad = 0
    if is_tensor(argument(args, 1)):
        o.grad = unboxed(argument(args, 1))
        incref(o.grad)
    decref(old)
    return none()


@entry
def output_record(self, args, count):
    """(node, k) -> address of what a node knows of its output k"""
    return from_long(output_of(as_long(argument(args, 0)), as_long(argument(args, 1))))


@entry
def node_box(self, args, count):
    """(address) -> the object that shows a node"""
    return box_node(as_long(argument(args, 0)))


@entry
def node_address(self, args, count):
    """(node) -> its address; 0 where the garbage collector has taken it"""
    return from_long(load(argument(args, 0) + PAYLOAD))


@entry
def leaf_variable(self, args, count):
    """(node) -> the tensor of a leaf's node, or None if it is gone"""
    n, here = node_at(as_long(argument(args, 0))), symbol("state")
    take(here + LEAF_LOCK)
    t = n.variable
    owners = block_at(t).refcount if t else 0
    while owners > 0 and claim(t, owners + 1, owners) == 0:
        owners = block_at(t).refcount
    exchange(here + LEAF_LOCK, 0)
    return box(t) if owners > 0 else none()


@entry
def extras_of(self, args, count):
    """(node) -> what is kept beside it, or None"""
    handle = node_at(as_long(argument(args, 0))).extras
    found = load(handle + OBJECT) if handle else symbol("none")
    add_reference(found)
    return found


@entry
def set_extras(self, args, count):
    """(node, handle) -> what is kept beside the node: the handle's object, unless another thread was first"""
    n, handle = node_at(as_long(argument(args, 0))), as_long(argument(args, 1))
    if n.extras == 0:
        n.extras = handle
        atomic_add(symbol("state") + HOOKED, 1)
    else:
        release_handle(handle)
    found = load(n.extras + OBJECT)
    add_reference(found)
    return found


@entry
def slow_down(self, args, count):
    """(node, bits): the engine asks Python about a node"""
    n = node_at(as_long(argument(args, 0)))
    n.slow |= as_long(argument(args, 1))
    return none()


@entry
def state_of(self, args, count):
    """(node) -> the state of its Python rule, or None"""
    handle = node_at(as_long(argument(args, 0))).state
    found = load(handle + OBJECT) if handle else symbol("none")
    add_reference(found)
    return found


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
    for k in range(tuple_size(saved)):
        if storage_at(tensor_at(unboxed(tuple_item(saved, k))).storage).inference:
            release_handle(as_long(argument(args, 5)))
            call_python("complain", INFERENCE_SAVE, 0, 0, 0)
    node = new_node(1, row, tuple_size(inputs), tuple_size(saved), 0, out)
    for i in range(tuple_size(inputs)):
        obj = tuple_item(inputs, i)
        if is_tensor(obj):
            settle(unboxed(obj))
            link(node, i, unboxed(obj))
    for k in range(tuple_size(saved)):
        t = unboxed(tuple_item(saved, k))
        save(node, k, t, as_long(tuple_item(whiches, k)), storage_at(tensor_at(t).storage).version)
    node_at(node).state = as_long(argument(args, 5))
    atomic_add(symbol("state") + HOOKED, 1)
    told(node)
    if as_long(argument(args, 6)):
        rebase(out, node)
    else:
        attach(out, node)
    return none()


@njit
def check_slot(node, k):
    """Fail if a node has let go of what it saved."""
    if k >= node_at(node).saved:
        call_python("complain", FREED_GRAPH, 0, 0, 0)


@entry
def saved_alias(self, args, count):
    """(node, k) -> what a node saved in slot k, outside of the graph"""
    node, k = as_long(argument(args, 0)), as_long(argument(args, 1))
    check_slot(node, k)
    t = unpack(node, k)
    made = alias(t)
    decref(t)
    return box(made)


@entry
def release_slot(self, args, count):
    """(node, k): let go of what a node saved in slot k; a hook keeps it"""
    s = saved_at(node_at(as_long(argument(args, 0))).saves + as_long(argument(args, 1)) * SAVED)
    if s.storage:
        release_saved_storage(s.storage)
        s.storage = 0
    return none()


@entry
def fill_slot(self, args, count):
    """(node, k, x): make x what a node saved in slot k, until it is released; its shape and dtype must be those"""
    s, t = (
        saved_at(node_at(as_long(argument(args, 0))).saves + as_long(argument(args, 1)) * SAVED),
        unboxed(argument(args, 2)),
    )
    x = tensor_at(t)
    fits = x.dtype == s.dtype and same_shape(x, s)
    if fits:
        hold_saved(x.storage)
        if s.storage:
            release_saved_storage(s.storage)
        s.storage, s.version, s.data, s.contiguous = x.storage, storage_at(x.storage).version, x.data, x.contiguous
        for i in range(x.ndim):
            s.strides[i] = x.strides[i]
    return from_long(1 if fits else 0)


@entry
def with_history(self, args, count):
    """(node, k, x) -> x, as the tensor that a node saved in slot k"""
    node, t = as_long(argument(args, 0)), alias(unboxed(argument(args, 2)))
    give_history(node, saved_at(node_at(node).saves + as_long(argument(args, 1)) * SAVED), t)
    return box(t)


@entry
def unpack_saved(self, args, count):
    """(node, k) -> Tensor"""
    node, k = as_long(argument(args, 0)), as_long(argument(args, 1))
    check_slot(node, k)
    check(node, k)
    return box(unpack(node, k))


@entry
def verdict_of(self, args, count):
    """(node, k, address of four words) -> whether what a node saved in slot k is stale: see `graph.verdict`"""
    address = node_at(as_long(argument(args, 0))).saves + as_long(argument(args, 1)) * SAVED
    return from_long(verdict(address, as_long(argument(args, 2))) if saved_at(address).storage else INTACT)


@entry
def start_of_pass(self, args, count):
    """(node) -> the node from which the pass that runs over a node started; None where none does, or the way is too long"""
    v, steps = node_at(as_long(argument(args, 0))).visit, 0
    while v and visit_at(v).chain and steps < NEAR:
        v = visit_at(v).chain
        steps += 1
    return none() if v == 0 or steps == NEAR else box_node(visit_at(v).node)


@njit
def grad_slot(call_record, node, k):
    """Where the running pass keeps the gradient of a node's output, or 0."""
    v = find_visit(call_at(call_record), call_record, node)
    return load(v + GRADS) + 8 * k if v else 0


@entry
def visit_grad(self, args, count):
    """(call, node, k) -> the gradient that reached output k of a node in the running pass, or None"""
    slot = grad_slot(as_long(argument(args, 0)), as_long(argument(args, 1)), as_long(argument(args, 2)))
    g = load(slot) if slot else 0
    if g == 0:
        return none()
    incref(g)
    return box(g)


@entry
def grad_is_alone(self, args, count):
    """(call, node, k) -> whether nothing but the running pass, and one box, holds the gradient of an output and its memory"""
    g = load(grad_slot(as_long(argument(args, 0)), as_long(argument(args, 1)), as_long(argument(args, 2))))
    alone = block_at(g).refcount == 2 and block_at(tensor_at(g).storage).refcount == 1
    return from_long(1 if alone else 0)


@entry
def kept_grad(self, args, count):
    """(call, leaf) -> the gradient that a leaf got in this pass, noted for its hooks"""
    call_record = as_long(argument(args, 0))
    g = visit_at(find_visit(call_at(call_record), call_record, as_long(argument(args, 1)))).keep
    if g == 0:
        return none()
    incref(g)
    return box(g)


@entry
def set_visit_grad(self, args, count):
    """(call, node, k, tensor or None): replace the gradient of output k of a node in the running pass"""
    slot, obj = (
        grad_slot(as_long(argument(args, 0)), as_long(argument(args, 1)), as_long(argument(args, 2))),
        argument(args, 3),
    )
    if slot:
        old = load(slot)
        store(slot, 0)
        if is_tensor(obj):
            incref(unboxed(obj))
            store(slot, unboxed(obj))
        decref(old)
    return none()


@entry
def pass_number(self, args, count):
    """(call) -> a number that no other pass has"""
    return from_long(call_at(as_long(argument(args, 0))).number)


@entry
def in_pass(self, args, count):
    """(call, node) -> whether the running pass brings a gradient to a node"""
    call_record, node = as_long(argument(args, 0)), as_long(argument(args, 1))
    reached = find_visit(call_at(call_record), call_record, node) and wanted(call_at(call_record), call_record, node)
    return from_long(1 if reached else 0)


@entry
def count_write(self, args, count):
    """(x): a write that nobody saw"""
    bump(0, unboxed(argument(args, 0)))
    return none()


@entry
def wants_gradient(self, args, count):
    """(call, node, i) -> whether the running pass uses the gradient of input i of a node"""
    call_record, node, i = as_long(argument(args, 0)), as_long(argument(args, 1)), as_long(argument(args, 2))
    parent = edge_at(node_at(node).edges + i * EDGE).node
    return from_long(1 if wanted(call_at(call_record), call_record, parent) else 0)


@entry
def give_gradient(self, args, count):
    """(call, node, i, grad): deliver the gradient of input i"""
    node, i, grad = as_long(argument(args, 1)), as_long(argument(args, 2)), unboxed(argument(args, 3))
    incref(grad)
    e = edge_at(node_at(node).edges + i * EDGE)
    deliver(as_long(argument(args, 0)), e.node, e.output_nr, grad)
    return none()


@native
def captured_grads(call_record, captured):
    """A tuple: of each of the captured tensors, the gradient that this pass found, or None."""
    n = tuple_size(captured)
    made = new_tuple(n)
    for k in range(n):
        t = tensor_at(unboxed(tuple_item(captured, k)))
        v = find_visit(call_at(call_record), call_record, t.node) if t.node else 0
        g = load(visit_at(v).kept + 8 * t.output_nr) if v else 0
        if g:
            incref(g)
            set_item(made, k, box(g))
        else:
            set_item(made, k, none())
    return made


@entry
def run_backward(self, args, count):
    """(roots, seeds, retain, create_graph, captured, accumulate): one pass

    `captured`: a tuple of tensors, to whose gradients the pass is restricted, or None. Where it does not `accumulate` to the `.grad` of
    leaves, it gives the gradients of the captured tensors.
    """
    roots, seeds, captured = argument(args, 0), argument(args, 1), argument(args, 4)
    pruned = captured != symbol("none")
    accumulates = as_long(argument(args, 5))
    n, asked = tuple_size(roots), tuple_size(captured) if pruned else 0
    for k in range(n):
        unboxed(tuple_item(roots, k))  # fails for an empty box, before there is anything to give back
        unboxed(tuple_item(seeds, k))
    call_record = new_call()
    start_call(
        call_record, as_long(argument(args, 2)), as_long(argument(args, 3)), accumulates, 1 if pruned else 0, anomaly()
    )
    words = malloc(8 * (2 * n + asked) + 8)
    for k in range(n):
        store(words + 8 * k, load(tuple_item(roots, k) + PAYLOAD))
        store(words + 8 * (n + k), load(tuple_item(seeds, k) + PAYLOAD))
    for k in range(asked):
        store(words + 8 * (2 * n + k), tensor_at(unboxed(tuple_item(captured, k))).node)
    failed = attempt(symbol("backward_many"), call_record, words, words + 8 * n, n, words + 16 * n, asked) == -1
    free(words)
    made = attempt(symbol("captured_grads"), call_record, captured) if pruned and not failed else 0
    leave(call_record)
    if failed or made == -1:
        fail()
    return made if made else none()


assert captured_grads  # reached through its symbol
