"""The engine: one walk that counts each node's uses, one that runs every node after all its uses. No recursion.

All that belongs to one backward pass is in its `Visit` records, one a node, so passes in several threads, and passes inside of
a rule, do not disturb each other: a node that another thread's pass holds makes this one step back and try again, and a leaf
that another thread holds is added to under its lock at once.
"""

from numba import njit
from numba.extending import intrinsic

from numbatensor.core.compiler import attempt, external, fail, i64, native, symbol, word
from numbatensor.core.dispatch import launch, pointwise
from numbatensor.core.graph import EDGE, FREED, LEAF, check, node_of, release_saved, settle
from numbatensor.core.memory import decref, exchange, free, incref, load, malloc, memset, store
from numbatensor.core.modes import switch_grad
from numbatensor.core.promotion import put_number
from numbatensor.core.python import LATE, call_python, gil_held, late, restore_thread, save_thread
from numbatensor.core.records import (
    INPUTS,
    Node,
    Visit,
    arguments_at,
    block_at,
    call_at,
    edge_at,
    new_arguments,
    new_call,
    new_frame,
    node_at,
    op_at,
    tensor_at,
    visit_at,
)
from numbatensor.core.rules import NONE, PYTHON, SPLIT, run_rule_natively, split_part
from numbatensor.core.table import kernel_of
from numbatensor.core.tensors import empty, same_shape, shape_of
from numbatensor.core.writes import bump

assert empty  # reached through its symbol, so that its failure can be caught

SUM_TO = LATE.index("sum_to")
VISIT = Visit.itemsize
ARENA = 256  # visits in one piece of memory
GRADS, GRAD, VISIT_OF, LOCK = (
    Visit.fields["grads"][1],
    Visit.fields["grad"][1],
    Node.fields["visit"][1],
    Node.fields["lock"][1],
)


@intrinsic
def claim(typingctx, address, new, old):
    """Replace a word if it is `old`; whether it was."""

    def codegen(context, builder, signature, args):
        found = builder.cmpxchg(builder.inttoptr(args[0], word.as_pointer()), args[2], args[1], "acq_rel", "monotonic")
        return builder.zext(builder.extract_value(found, 1), word)

    return i64(i64, i64, i64), codegen


this_thread = external("pthread_self", 0)
sched_yield = external("sched_yield", 0, small=True)


@njit
def new_visit(c, call_address, node):
    """This pass's record of a node."""
    if c.room == 0:
        arena = malloc(8 + ARENA * VISIT)
        store(arena, c.arena)
        c.arena, c.free, c.room = arena, arena + 8, ARENA
    v = c.free
    c.free += VISIT
    c.room -= 1
    visit = visit_at(v)
    visit.node, visit.call, visit.grad, visit.pending, visit.next, visit.previous = node, call_address, 0, 0, 0, 0
    visit.grads = v + GRAD
    if node_at(node).outputs > 1:
        visit.grads = malloc(8 * node_at(node).outputs)
        memset(visit.grads, 0, 8 * node_at(node).outputs)
    visit.chain = c.visits
    c.visits = v
    incref(node)
    return v


@njit
def hold(c, call_address, node):
    """Give a node a visit of this pass: the visit and whether it is new; 0 where another thread holds the node."""
    old = node_at(node).visit
    if old:
        holder = visit_at(old)
        if holder.call == call_address:
            return old, False
        if call_at(holder.call).thread != c.thread:
            return 0, False
    v = new_visit(c, call_address, node)
    visit_at(v).previous = old
    if claim(node + VISIT_OF, v, old) == 0:
        visit_at(v).call = 0  # lost the race: not in force
        return 0, False
    return v, True


@native
def discover(call_address, root):
    """Hold all nodes that a node's gradient reaches, and count their uses; whether no other thread is in the way."""
    c = call_at(call_address)
    v, new = hold(c, call_address, root)
    if v == 0:
        return 1 if node_at(root).kind == LEAF else 0
    if not new:
        return 1
    stack = v
    while stack:
        visit = visit_at(stack)
        stack = visit.next
        n = node_at(visit.node)
        for i in range(n.inputs):
            parent = edge_at(n.edges + i * EDGE).node
            if parent:
                p, new = hold(c, call_address, parent)
                if p == 0:
                    if node_at(parent).kind != LEAF:
                        return 0
                    continue
                visit_at(p).pending += 1
                if new:
                    visit_at(p).next = stack
                    stack = p
    return 1


@native
def leave(call_address):
    """End a pass: give up its nodes and what it still holds."""
    c = call_at(call_address)
    v = c.visits
    while v:
        visit = visit_at(v)
        n = node_at(visit.node)
        if visit.call:
            n.visit = visit.previous
        for k in range(n.outputs):
            decref(load(visit.grads + 8 * k))
        if visit.grads != v + GRAD:
            free(visit.grads)
        following = visit.chain
        decref(visit.node)
        v = following
    while c.arena:
        arena = c.arena
        c.arena = load(arena)
        free(arena)
    c.visits = c.room = 0
    return 0


@njit
def only_owner(t):
    """Whether a tensor is a plain buffer that nobody else can see."""
    x = tensor_at(t)
    return (
        block_at(t).refcount == 1
        and block_at(x.storage).refcount == 1
        and x.contiguous != 0
        and x.requires_grad == 0
        and x.base == 0
    )


@native
def add_in_place(x, y):
    """x += y for tensors of one shape and dtype, unrecorded."""
    a = new_arguments()
    r = arguments_at(a)
    r.tensors[0], r.tensors[1] = x, y
    r.kinds[0] = r.kinds[1] = 0
    return launch(symbol("op_add"), kernel_of(symbol("op_add"), tensor_at(x).dtype), a, x, tensor_at(x).dtype)


@native
def add_tensors(x, y):
    """x + y, recorded where it is wanted."""
    a = new_arguments()
    r = arguments_at(a)
    r.tensors[0], r.tensors[1] = x, y
    r.kinds[0] = r.kinds[1] = 0
    return pointwise(symbol("op_add"), a, 0)


@native
def fitted(node, grad):
    """A gradient with the shape and dtype of a node's output: summed over what was broadcast. Takes and gives a reference."""
    n, g = node_at(node), tensor_at(grad)
    if n.outputs > 1:
        return grad
    if not same_shape(n, g):
        summed = attempt(late(SUM_TO), grad, node)
        decref(grad)
        if summed == -1:
            fail()
        grad = summed
    if tensor_at(grad).dtype != n.dtype:
        converted = attempt(symbol("convert"), grad, n.dtype)
        decref(grad)
        if converted == -1:
            fail()
        grad = converted
    return grad


@native
def accumulate(leaf, grad, recorded):
    """Add a gradient to a leaf's `.grad`. Takes the reference."""
    while exchange(leaf + LOCK, 1):
        if gil_held():
            thread = save_thread()
            sched_yield()
            restore_thread(thread)
    n = node_at(leaf)
    failed = 0
    if n.grad == 0:
        if only_owner(grad) or recorded:
            n.grad = grad
            grad = 0
        else:
            f = new_frame()
            shape_of(f, tensor_at(grad))
            made = attempt(symbol("empty"), f, tensor_at(grad).dtype)
            failed = made == -1
            if not failed:
                failed = attempt(symbol("copy_into"), made, grad) == -1
                n.grad = made
    elif recorded or tensor_at(n.grad).requires_grad:
        made = attempt(symbol("add_tensors"), n.grad, grad)
        failed = made == -1
        if not failed:
            decref(n.grad)
            n.grad = made
    else:
        failed = attempt(symbol("add_in_place"), n.grad, grad) == -1
        bump(symbol("op_add"), n.grad)
    exchange(leaf + LOCK, 0)
    decref(grad)
    if failed:
        fail()
    return 0


@native
def deliver(call_address, node, output_nr, grad):
    """Add to the gradient that a node has got so far. Takes the reference."""
    c = call_at(call_address)
    grad = fitted(node, grad)
    v = node_at(node).visit
    if v == 0 or visit_at(v).call != call_address:
        if c.accumulate == 0:
            decref(grad)
            return 0
        return accumulate(node, grad, c.create_graph)
    slot = visit_at(v).grads + 8 * output_nr
    old = load(slot)
    if old == 0:
        store(slot, grad)
    elif only_owner(old) and c.create_graph == 0:
        failed = attempt(symbol("add_in_place"), old, grad)
        decref(grad)
        if failed == -1:
            fail()
    else:
        made = attempt(symbol("add_tensors"), old, grad)
        decref(grad)
        if made == -1:
            fail()
        decref(old)
        store(slot, made)
    return 0


@native
def step(call_address, v):
    """Send a node's gradient on to its inputs."""
    c, visit = call_at(call_address), visit_at(v)
    node = visit.node
    n = node_at(node)
    if n.kind == FREED:
        call_python("complain", 8, 0, 0, 0)
    given = False
    for k in range(n.outputs):
        given |= load(visit.grads + 8 * k) != 0
    if not given:
        return 0
    if n.retains:
        incref(visit.grad)
        decref(n.grad)
        n.grad = visit.grad
    o = op_at(n.op)
    python, split = c.create_graph != 0, o.rule_kind[0] == SPLIT
    for i in range(0 if split else n.inputs):
        python |= i >= INPUTS or (o.rule_kind[i] == PYTHON and edge_at(n.edges + i * EDGE).node != 0)
    for k in range(n.saved):
        check(node, k)
    if python:
        call_python("run_rule", node, call_address)
    elif split:
        start = 0
        for i in range(n.inputs):
            e, length = edge_at(n.edges + i * EDGE), load(n.attributes + 8 * (2 + i))
            if e.node:
                part = split_part(visit.grad, load(n.attributes), start, length, load(n.attributes + 8))
                deliver(call_address, e.node, e.output_nr, part)
            start += length
    else:
        for i in range(n.inputs):
            e = edge_at(n.edges + i * EDGE)
            if e.node and o.rule_kind[i] != NONE:
                deliver(call_address, e.node, e.output_nr, run_rule_natively(node, i, visit.grad))
    if c.retain == 0 and n.saved:
        release_saved(n)
        n.kind = FREED
    return 0


@native
def walk(call_address):
    """Run every node after all its uses."""
    c = call_at(call_address)
    while c.ready:
        v = c.ready
        visit = visit_at(v)
        c.ready = visit.next
        n = node_at(visit.node)
        if n.kind == LEAF:
            continue
        step(call_address, v)
        for i in range(n.inputs):
            parent = edge_at(n.edges + i * EDGE).node
            if parent:
                p = node_at(parent).visit
                if p and visit_at(p).call == call_address:
                    visit_at(p).pending -= 1
                    if visit_at(p).pending == 0:
                        visit_at(p).next = c.ready
                        c.ready = p
        if c.keep == 0:
            for k in range(n.outputs):
                decref(load(visit.grads + 8 * k))
                store(visit.grads + 8 * k, 0)
    return 0


@native
def finish(call_address):
    """Add what reached the leaves to their `.grad`."""
    c = call_at(call_address)
    v = c.visits
    while v:
        visit = visit_at(v)
        if node_at(visit.node).kind == LEAF and visit.grad and visit.call:
            grad = visit.grad
            visit.grad = 0
            accumulate(visit.node, grad, c.create_graph)
        v = visit.chain
    return 0


@njit
def start_call(call_address, retain, create_graph, accumulates):
    c = call_at(call_address)
    c.thread, c.visits, c.ready, c.retain, c.create_graph = this_thread(), 0, 0, retain, create_graph
    c.accumulate, c.arena, c.free, c.room, c.keep = accumulates, 0, 0, 0, 1 - accumulates


@native
def hold_graph(call_address, roots, count):
    """Hold the graph of all roots (an array of nodes), waiting for other threads' passes over it to end."""
    c = call_at(call_address)
    while True:
        free_way = 1
        for k in range(count):
            if free_way:
                free_way = discover(call_address, load(roots + 8 * k))
        if free_way:
            break
        leave(call_address)
        if gil_held():
            thread = save_thread()
            sched_yield()
            restore_thread(thread)
        else:
            sched_yield()
    for k in range(count):
        v = node_at(load(roots + 8 * k)).visit
        if visit_at(v).call == call_address and visit_at(v).pending == 0:
            listed = False
            r = c.ready
            while r:
                listed |= r == v
                r = visit_at(r).next
            if not listed:
                visit_at(v).next = c.ready
                c.ready = v
    return 0


@native
def root_node(root):
    """The node that a root's gradient enters."""
    settle(root)
    node = node_of(root)
    if node == 0:
        call_python("complain", 7, 0, 0, 0)
    return node


@native
def backward_many(call_address, roots, seeds, count):
    """One pass from an array of tensors with an array of seeds; on success the visits stay held, for `leave`."""
    c = call_at(call_address)
    nodes = malloc(8 * count + 8)
    for k in range(count):
        node = attempt(symbol("root_node"), load(roots + 8 * k))
        if node == -1:
            free(nodes)
            fail()
        store(nodes + 8 * k, node)
    failed = attempt(symbol("hold_graph"), call_address, nodes, count) == -1
    recording = switch_grad(c.create_graph)
    for k in range(count):
        if not failed:
            root, seed = load(roots + 8 * k), load(seeds + 8 * k)
            incref(seed)
            failed = (
                attempt(symbol("deliver"), call_address, load(nodes + 8 * k), tensor_at(root).output_nr, seed) == -1
            )
    if not failed:
        failed = attempt(symbol("walk"), call_address) == -1
    if not failed and c.accumulate:
        failed = attempt(symbol("finish"), call_address) == -1
    switch_grad(recording)
    free(nodes)
    if failed:
        fail()
    return 0


@native
def backward_from(root):
    """Add the gradients of a tensor of one element to the `.grad` of the leaves that it depends on."""
    x, frame = tensor_at(root), new_frame()
    shape_of(frame, x)
    seed = empty(frame, x.dtype)
    put_number(tensor_at(seed).data, x.dtype, 2, 1)
    call_record, words = new_call(), new_frame()
    start_call(call_record, 0, 0, 1)
    store(words, root)
    store(words + 8, seed)
    incref(root)
    failed = attempt(symbol("backward_many"), call_record, words, words + 8, 1) == -1
    leave(call_record)
    decref(seed)
    decref(root)
    if failed:
        fail()
    return 0
