"""Nodes: what a forward pass leaves behind for the engine."""

from numba import njit

from numbatensor.core.checksums import alias_wrote, checksum_where_shared
from numbatensor.core.collection import forget_variable
from numbatensor.core.compiler import c_function, call, native, symbol
from numbatensor.core.copies import copy_run
from numbatensor.core.handles import release_handle
from numbatensor.core.memory import (
    FIELD,
    atomic_add,
    bits,
    claim,
    counted,
    decref,
    give_back,
    incref,
    local,
    next_number,
    store,
)
from numbatensor.core.modes import strict_versions
from numbatensor.core.python import LATE, call_python, late
from numbatensor.core.records import (
    HEADER,
    Attribute,
    Edge,
    Node,
    Output,
    Saved,
    Tensor,
    attribute_at,
    edge_at,
    frame_at,
    local_at,
    new_frame,
    node_at,
    output_at,
    saved_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.sites import mark
from numbatensor.core.tensors import blank, empty
from numbatensor.core.write_log import hold_saved, overwritten, release_saved_storage

LEAF, NATIVE, FREED = 0, 1, 2
NODE_OF = Tensor.fields["node"][1]
INTACT = -1
# What the engine must ask Python about (`Node.slow`): hooks of a tensor, of the node before and after its rule, saved values that
# hooks unpack, what is called once `.grad` is complete; and that the gradient of an output is kept, which it does alone.
TENSOR_HOOKS, PREHOOKS, POSTHOOKS, UNPACKED, ACCUMULATED, RETAINS = (1 << k for k in range(6))
# Why a view must not be written in place: a kind, whether it is for being a view of such a view, which of the functions of many
# outputs it came from (`messages.MANY`) or 1 + its op's index, and which output it is.
FREE, MULTIPLE, NO_GRAD_VIEW, INFERENCE_VIEW, CUSTOM_VIEW = range(5)
KIND, CHAINED, FUNCTION, OP, OUTPUT = 15, 16, 5, 8, 32  # a mask, a bit, and the first bits of the others
REGENERATE = LATE.index("regenerate")
NODE, EDGE, SAVED, ATTRIBUTE = Node.itemsize, Edge.itemsize, Saved.itemsize, Attribute.itemsize
FIRST, LOCK, SIDE = (
    Node.fields["retains"][1],
    Node.fields["lock"][1],
    Output.itemsize,
)  # the first output's record is the end of the node's
NUMBER = Saved.fields["number"][1]
HOOKED = FIELD["hooked"]


@njit
def output_of(node, k):
    """The record of a node's output k."""
    if k == 0:
        return node + FIRST
    return node_at(node).more + (k - 1) * SIDE


@njit
def let_go(handle):
    """A node lets go of its Python object."""
    if handle:
        atomic_add(symbol("state") + HOOKED, -1)
        release_handle(handle)


@njit
def release_saved(n):
    """Give back what a node saved."""
    for k in range(n.saved):
        s = saved_at(n.saves + k * SAVED)
        if s.storage:
            release_saved_storage(s.storage)
            s.storage = 0
    n.saved = 0
    let_go(n.state)
    n.state = 0


@c_function
def free_node(payload, size, info):
    """A node dies. What only it owns joins a list, so a chain of a million nodes is freed without recursion."""
    head, here = 0, local()
    first = payload - HEADER
    node = first
    while True:
        n = node_at(node)
        release_saved(n)
        let_go(n.extras)
        for k in range(n.outputs):
            decref(output_at(output_of(node, k)).grad)
        for i in range(n.inputs):
            e = edge_at(n.edges + i * EDGE)
            parent = e.node
            e.node = 0
            if parent:
                if atomic_add(parent, -1) == 1:
                    node_at(parent).refcount = 1
                    node_at(parent).next_free = head
                    head = parent
        n.inputs = 0
        local_at(here).nodes -= 1
        if node != first:
            give_back(here, node)
        if head == 0:
            break
        node = head
        head = node_at(node).next_free
    return 0


@native
def new_node(kind, op, inputs, saved, words, t):
    """A node for a tensor's history, with room for edges, saved values and words of attributes."""
    here = local()
    address = counted(here, NODE + inputs * EDGE + saved * SAVED + 8 * words, symbol("free_node"))
    local_at(here).nodes += 1
    n, x = node_at(address), tensor_at(t)
    n.kind, n.op, n.inputs, n.saved, n.outputs = kind, op, inputs, saved, 1
    n.edges, n.saves = address + NODE, address + NODE + inputs * EDGE
    n.attributes = n.saves + saved * SAVED if words else 0
    n.grad = n.retains = n.lock = n.visit = n.next_free = n.state = n.extras = n.slow = n.box = n.code = n.at = 0
    n.more = n.variable = n.found = 0
    n.dtype, n.itemsize, n.device, n.ndim = x.dtype, x.itemsize, x.device, x.ndim
    for i in range(x.ndim):
        n.shape[i] = x.shape[i]
    for i in range(inputs):
        edge_at(n.edges + i * EDGE).node = 0
    for k in range(saved):
        s = saved_at(n.saves + k * SAVED)
        s.storage = 0
    n.sequence = next_number(here)
    return address


@njit
def needs_grad(x):
    """Whether ops on a tensor are recorded: a view's base may have become part of the graph since the view was made."""
    return x.requires_grad != 0 or (
        x.base != 0 and x.seen != storage_at(x.storage).version and tensor_at(x.base).requires_grad != 0
    )


@njit
def is_ambiguous(x):
    """Whether a view was made without recording, and its base, which is recorded, was written since."""
    return (
        x.restriction & KIND > MULTIPLE
        and x.seen != storage_at(x.storage).version
        and tensor_at(x.base).requires_grad != 0
    )


@njit
def settle(t):
    """Bring the history of a view up to date, whose base was written since; before anything else is written."""
    x = tensor_at(t)
    if x.base and x.seen != storage_at(x.storage).version and needs_grad(x):
        call(late(REGENERATE), t)


@njit
def leaf_of(t):
    """The node of a leaf, made on first use by the thread that comes first."""
    x = tensor_at(t)
    if x.node == 0:
        made = new_node(LEAF, 0, 0, 0, 0, t)
        node_at(made).variable = t
        if claim(t + NODE_OF, made, 0) == 0:
            node_at(made).variable = 0
            decref(made)
    return x.node


@njit
def node_of(t):
    """The node a tensor's gradient flows to; 0 where none is wanted. `settle` comes first."""
    return leaf_of(t) if tensor_at(t).requires_grad else 0


@njit
def link(node, i, t):
    """Make input i of a node a tensor that is settled; whether its gradient is wanted."""
    e = edge_at(node_at(node).edges + i * EDGE)
    e.node, e.output_nr = 0, 0
    if t == 0:
        return False
    parent = node_of(t)
    if parent == 0:
        return False
    incref(parent)
    e.node, e.output_nr = parent, tensor_at(t).output_nr
    return True


@njit
def save(node, k, t, which, version):
    """Save a tensor in slot k: its storage at a version, and its geometry. `which`: 1 + the input, or minus the output."""
    address = node_at(node).saves + k * SAVED
    s, x = saved_at(address), tensor_at(t)
    hold_saved(x.storage)
    s.storage, s.version, s.data, s.dtype, s.itemsize = x.storage, version, x.data, x.dtype, x.itemsize
    s.ndim, s.numel, s.contiguous, s.which = x.ndim, x.numel, x.contiguous, which
    for i in range(x.ndim):
        s.shape[i] = x.shape[i]
        s.strides[i] = x.strides[i]
    s.checksum = checksum_where_shared(address)


@njit
def keep_attributes(node, a, operands, x, count):
    """Keep the arguments that are no tensors, the first input's shape, and how many of its elements make one of the output's."""
    place = node_at(node).attributes
    room = place + (operands + 2) * ATTRIBUTE
    for k in range(operands):
        b = attribute_at(place + k * ATTRIBUTE)
        b.kind, b.value = a.kinds[k], a.numbers[k]
        if b.kind == 5:
            b.value, b.length = room, a.lengths[k]
            for i in range(b.length):
                store(room + 8 * i, a.lists[a.numbers[k] + i])
            room += 8 * b.length
    b = attribute_at(place + operands * ATTRIBUTE)
    b.kind, b.value, b.length = 5, room, x.ndim
    for i in range(x.ndim):
        store(room + 8 * i, x.shape[i])
    b = attribute_at(place + (operands + 1) * ATTRIBUTE)
    b.kind, b.value = 3, bits(count)


@native
def leave_node(t, node):
    """A tensor gets another node: what its old one retained goes along, and a leaf's node is no longer its own."""
    x, n = tensor_at(t), node_at(node)
    old = output_at(output_of(x.node, x.output_nr))
    if old.retains:
        n.retains, n.grad, old.retains, old.grad = 1, old.grad, 0, 0
        n.slow |= RETAINS
    forget_variable(x.node, t)
    return 0


@njit
def attach(t, node):
    """Make a node the history of a tensor; takes the reference."""
    x = tensor_at(t)
    if x.node:
        leave_node(t, node)
    decref(x.node)
    x.node, x.output_nr, x.requires_grad = node, 0, 1
    x.seen = storage_at(x.storage).version
    mark(node_at(node))
    return node


@njit
def verdict(address, found):
    """INTACT, or what `overwritten` gives where a saved value must not be read; it puts the write into the words from `found` on."""
    s = saved_at(address)
    if storage_at(s.storage).version == s.version:
        return INTACT
    result = overwritten(address, found)
    return result if result or strict_versions() else INTACT


@njit
def check(node, k):
    """Fail if a saved value was overwritten."""
    address = node_at(node).saves + k * SAVED
    s = saved_at(address)
    if s.storage:
        found = new_frame()
        result = verdict(address, found)
        if result != INTACT:
            call_python("stale", node, k, result, found)
        if alias_wrote(address):
            call_python("alias_wrote", node, k)


@njit
def give_history(node, s, t):
    """Make a tensor part of the graph in the place of a saved value."""
    x = tensor_at(t)
    if s.which <= 0:
        incref(node)
        x.node, x.output_nr, x.requires_grad = node, -s.which, 1
    elif s.which <= node_at(node).inputs:
        e = edge_at(node_at(node).edges + (s.which - 1) * EDGE)
        if e.node:
            incref(e.node)
            x.node, x.output_nr, x.requires_grad = e.node, e.output_nr, 1


@native
def unpack(node, k):
    """What a node saved in slot k, as a tensor with its history; `check` comes first."""
    s = saved_at(node_at(node).saves + k * SAVED)
    if s.storage == 0:
        f = new_frame()
        frame_at(f).ndim = 0
        t = empty(f, s.dtype)
        copy_run(tensor_at(t).data, s.itemsize, s.data, s.itemsize, 1, s.itemsize)
        return t
    incref(s.storage)
    t = blank(s.storage, s.data)
    x = tensor_at(t)
    x.dtype, x.itemsize, x.ndim, x.numel, x.contiguous = s.dtype, s.itemsize, s.ndim, s.numel, s.contiguous
    for i in range(s.ndim):
        x.shape[i] = s.shape[i]
        x.strides[i] = s.strides[i]
    x.seen = storage_at(s.storage).version
    give_history(node, s, t)
    return t
