"""The places of nodes in one backward pass: who is held by whom, what is reached, and what leads to the inputs that are asked for.

All that belongs to a pass is in its `Visit` records, one a node, so passes in several threads, and passes inside of a rule, do not
disturb each other: a node that another thread's pass holds makes this one step back and try again; a leaf that another thread
holds gets a visit in a hash table of this pass alone.
"""

from numba import njit

from numbatensor.core.compiler import external, native, symbol
from numbatensor.core.graph import EDGE, LEAF
from numbatensor.core.memory import (
    claim,
    decref,
    free,
    incref,
    load,
    local,
    malloc,
    memset,
    next_number,
    realloc,
    store,
)
from numbatensor.core.python import call_python
from numbatensor.core.records import Node, Visit, call_at, edge_at, local_at, node_at, state_at, visit_at
from numbatensor.core.table import NO_MEMORY

VISIT = Visit.itemsize
ARENA = 256  # visits in one piece of memory
HEAP = 64  # nodes that can be ready at first
BUCKETS = 1024  # of the hash table; a power of two
GRADS, GRAD, KEEP, VISIT_OF = (
    Visit.fields["grads"][1],
    Visit.fields["grad"][1],
    Visit.fields["keep"][1],
    Node.fields["visit"][1],
)

this_thread = external("pthread_self", 0)


@njit
def new_visit(c, call_address, node):
    """This pass's record of a node."""
    if c.room == 0:
        m = local_at(local())
        arena, m.arena = m.arena, 0
        if arena == 0:
            arena = malloc(8 + ARENA * VISIT)
        store(arena, c.arena)
        c.arena, c.free, c.room = arena, arena + 8, ARENA
    v = c.free
    c.free += VISIT
    c.room -= 1
    visit = visit_at(v)
    visit.node, visit.call, visit.grad, visit.keep, visit.pending, visit.next = node, call_address, 0, 0, 0, 0
    visit.epoch = c.epoch
    visit.previous = visit.needed = visit.captured = visit.left = visit.rooted = 0
    visit.grads, visit.kept = v + GRAD, v + KEEP
    outputs = node_at(node).outputs
    if outputs > 1:
        visit.grads = malloc(16 * outputs)
        visit.kept = visit.grads + 8 * outputs
        memset(visit.grads, 0, 16 * outputs)
    visit.chain = c.visits
    c.visits = v
    return v


@njit
def bucket_of(c, node):
    return c.foreign + 8 * ((node >> 6) & (BUCKETS - 1))


@native
def foreign_visit(call_address, node):
    """This pass's visit of a leaf that another pass holds, made if need be."""
    c = call_at(call_address)
    if c.foreign == 0:
        c.foreign = malloc(8 * BUCKETS)
        memset(c.foreign, 0, 8 * BUCKETS)
    v = load(bucket_of(c, node))
    while v:
        if visit_at(v).node == node:
            return v
        v = visit_at(v).bucket
    v = new_visit(c, call_address, node)
    visit_at(v).bucket = load(bucket_of(c, node))
    store(bucket_of(c, node), v)
    return v


@njit
def find_visit(c, call_address, node):
    """This pass's visit of a node, or 0."""
    v = node_at(node).visit
    if v and visit_at(v).call == call_address:
        return v
    if c.foreign:
        v = load(bucket_of(c, node))
        while v:
            if visit_at(v).node == node:
                return v
            v = visit_at(v).bucket
    return 0


@njit
def hold(c, call_address, node):
    """Give a node a visit of this pass: the visit and whether it is new; 0 where another thread holds the node."""
    old = node_at(node).visit
    if old:
        holder = visit_at(old)
        ours = (
            holder.epoch == c.epoch
        )  # else of a pass that began before a fork: of an outer one, or of a thread that is gone
        if ours and holder.call == call_address:
            return old, False
        if ours and call_at(holder.call).thread != c.thread:
            if node_at(node).kind == LEAF:
                return foreign_visit(call_address, node), False
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
        return 0
    if visit_at(v).rooted == 0:
        visit_at(v).rooted = 1
        incref(root)
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
                    return 0
                visit_at(p).pending += 1
                if new:
                    visit_at(p).next = stack
                    stack = p
    return 1


@native
def prune(call_address):
    """Find the nodes from which a captured one is reached: in an order that has every node before those that lead to it."""
    c = call_at(call_address)
    ready = done = 0
    v = c.visits
    while v:
        visit = visit_at(v)
        visit.left = visit.pending
        if visit.call and visit.pending == 0:
            visit.next = ready
            ready = v
        v = visit.chain
    while ready:
        v = ready
        visit = visit_at(v)
        ready = visit.next
        visit.next = done
        done = v
        n = node_at(visit.node)
        for i in range(n.inputs):
            parent = edge_at(n.edges + i * EDGE).node
            if parent:
                p = find_visit(c, call_address, parent)
                visit_at(p).left -= 1
                if visit_at(p).left == 0:
                    visit_at(p).next = ready
                    ready = p
    while done:
        visit = visit_at(done)
        n = node_at(visit.node)
        for i in range(n.inputs):
            parent = edge_at(n.edges + i * EDGE).node
            if parent:
                p = visit_at(find_visit(c, call_address, parent))
                visit.needed |= p.needed | p.captured
        done = visit.next
    return 0


@native
def grow_heap(c_address):
    """Room for twice as many nodes that are ready."""
    c, m = call_at(c_address), local_at(local())
    room = max(HEAP, 2 * c.heap_room)
    larger = 0
    if room == HEAP:
        larger, m.heap = m.heap, 0
    if larger == 0:
        larger = realloc(c.heap, 8 * room)
    if larger == 0:
        call_python("complain", NO_MEMORY, 8 * room, 0, 0)
    c.heap, c.heap_room = larger, room
    return 0


@njit
def order_of(v):
    """What was made later is run earlier."""
    return node_at(visit_at(v).node).sequence


@njit
def push_ready(c, call_address, v):
    """A node has got all its gradient: it joins the heap of those that can run, the latest on top."""
    if c.ready == c.heap_room:
        grow_heap(call_address)
    k, heap, order = c.ready, c.heap, order_of(v)
    c.ready += 1
    while k:
        above = (k - 1) >> 1
        other = load(heap + 8 * above)
        if order_of(other) >= order:
            break
        store(heap + 8 * k, other)
        k = above
    store(heap + 8 * k, v)


@njit
def pop_ready(c):
    """The node that can run and was made last."""
    heap = c.heap
    top = load(heap)
    c.ready -= 1
    last, count = load(heap + 8 * c.ready), c.ready
    order = order_of(last)
    k = 0
    while 2 * k + 1 < count:
        below = 2 * k + 1
        if below + 1 < count and order_of(load(heap + 8 * below + 8)) > order_of(load(heap + 8 * below)):
            below += 1
        other = load(heap + 8 * below)
        if order_of(other) <= order:
            break
        store(heap + 8 * k, other)
        k = below
    store(heap + 8 * k, last)
    return top


@native
def leave(call_address):
    """End a pass: give up its nodes and what it still holds."""
    c = call_at(call_address)
    v, roots = c.visits, 0
    while v:
        visit = visit_at(v)
        n = node_at(visit.node)
        if n.visit == v:
            n.visit = visit.previous
        for k in range(n.outputs):
            decref(load(visit.grads + 8 * k))
            decref(load(visit.kept + 8 * k))
        if visit.grads != v + GRAD:
            free(visit.grads)
        if visit.rooted:
            visit.next = roots
            roots = v
        v = visit.chain
    while roots:
        node = visit_at(roots).node
        roots = visit_at(roots).next
        decref(node)
    m = local_at(local())
    while c.arena:
        arena = c.arena
        c.arena = load(arena)
        if m.arena:
            free(arena)
        else:
            m.arena = arena
    free(c.foreign)
    if c.heap_room == HEAP and m.heap == 0:
        m.heap = c.heap
    else:
        free(c.heap)
    c.visits = c.room = c.foreign = c.ready = c.heap = c.heap_room = 0
    return 0


@njit
def start_call(call_address, retain, create_graph, accumulates, pruned, watch):
    c = call_at(call_address)
    c.thread, c.visits, c.ready, c.retain, c.create_graph = this_thread(), 0, 0, retain, create_graph
    c.accumulate, c.pruned, c.watch, c.arena, c.free, c.room, c.foreign = accumulates, pruned, watch, 0, 0, 0, 0
    c.epoch = state_at(symbol("state")).forks
    c.heap = c.heap_room = 0
    c.number = next_number(local())
