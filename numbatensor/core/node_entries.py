"""What Python calls for nodes: their gradients, Python objects and saved values."""

from numba import njit

from numbatensor.core.checksums import alias_wrote, checksum_where_shared
from numbatensor.core.collection import LEAF_LOCK
from numbatensor.core.compiler import symbol
from numbatensor.core.graph import (
    HOOKED,
    INTACT,
    SAVED,
    attach,
    check,
    give_history,
    leaf_of,
    link,
    new_node,
    node_of,
    output_of,
    save,
    settle,
    unpack,
    verdict,
)
from numbatensor.core.handles import object_in, release_handle
from numbatensor.core.memory import (
    atomic_add,
    claim,
    decref,
    exchange,
    incref,
    load,
    take,
)
from numbatensor.core.python import (
    PAYLOAD,
    argument,
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
    block_at,
    node_at,
    output_at,
    saved_at,
    storage_at,
    tensor_at,
    visit_at,
)
from numbatensor.core.table import FREED_GRAPH, INFERENCE_SAVE
from numbatensor.core.tensors import (
    alias,
    same_shape,
)
from numbatensor.core.write_log import hold_saved, release_saved_storage
from numbatensor.core.writes import rebase

NEAR = 10_000  # nodes of a pass that an error looks through for the first


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
    return from_long(output_of(leaf_of(t), tensor_at(t).output_nr))


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
    return object_in(node_at(as_long(argument(args, 0))).extras)


@entry
def set_extras(self, args, count):
    """(node, handle) -> what is kept beside the node: the handle's object, unless another thread was first"""
    n, handle = node_at(as_long(argument(args, 0))), as_long(argument(args, 1))
    if n.extras == 0:
        n.extras = handle
        atomic_add(symbol("state") + HOOKED, 1)
    else:
        release_handle(handle)
    return object_in(n.extras)


@entry
def slow_down(self, args, count):
    """(node, bits): the engine asks Python about a node"""
    n = node_at(as_long(argument(args, 0)))
    n.slow |= as_long(argument(args, 1))
    return none()


@entry
def state_of(self, args, count):
    """(node) -> the state of its Python rule, or None"""
    return object_in(node_at(as_long(argument(args, 0))).state)


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
    address = node_at(as_long(argument(args, 0))).saves + as_long(argument(args, 1)) * SAVED
    s, x = saved_at(address), tensor_at(unboxed(argument(args, 2)))
    fits = x.dtype == s.dtype and same_shape(x, s)
    if fits:
        hold_saved(x.storage)
        if s.storage:
            release_saved_storage(s.storage)
        s.storage, s.version, s.data, s.contiguous = x.storage, storage_at(x.storage).version, x.data, x.contiguous
        for i in range(x.ndim):
            s.strides[i] = x.strides[i]
        s.checksum = checksum_where_shared(address)
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
def is_changed_by_array(self, args, count):
    """(node, k) -> whether a NumPy array has changed what a node saved in slot k"""
    address = node_at(as_long(argument(args, 0))).saves + as_long(argument(args, 1)) * SAVED
    return from_long(1 if saved_at(address).storage and alias_wrote(address) else 0)


@entry
def start_of_pass(self, args, count):
    """(node) -> the node from which the pass that runs over a node started; None where none does, or the way is too long"""
    v, steps = node_at(as_long(argument(args, 0))).visit, 0
    while v and visit_at(v).chain and steps < NEAR:
        v = visit_at(v).chain
        steps += 1
    return none() if v == 0 or steps == NEAR else box_node(visit_at(v).node)
