"""What Python's garbage collector sees of native memory: the Python objects that only a box's graph keeps alive.

A box shows the objects of the nodes that belong to it alone: all of whose owners are found on the way from it, through its tensor, that one's
base, nodes and their edges. What has another owner is not searched, since that may be in use: a cycle through such a node is not
collected. Only a thread that owns a box can give what hangs on it another owner, and it would need the GIL; so the answer does
not change during a collection.
"""

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from numbatensor.core.compiler import c_function, i64, native, symbol, word
from numbatensor.core.memory import FIELD, decref, exchange, load, store, take
from numbatensor.core.private import PAYLOAD, TYPE
from numbatensor.core.records import Edge, at, block_at, edge_at, node_at, on_stack, state_at, tensor_at

OBJECT = 8  # offset of a handle's object
MOST = 1000  # nodes that are searched from one box
EDGE = Edge.itemsize
ROOM = 256  # nodes that wait to be searched
LEAF_LOCK = FIELD["leaf_lock"]

# A search from one box: nodes that wait, and a list of those of which owners were found.
Search = np.dtype([("count", "i8"), ("seen", "i8"), ("touched", "i8"), ("stack", "i8", ROOM)])
search_at, new_search = at(Search), on_stack(Search)


@intrinsic
def visit_object(typingctx, visit, obj, argument):
    """Call the collector's function on an object."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [word, word])
        return builder.sext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:]), word)

    return i64(i64, i64, i64), codegen


@njit
def forget_variable(node, t):
    """A leaf's node outlives its tensor, or the tensor gets another."""
    if node_at(node).variable == t:
        here = symbol("state")
        take(here + LEAF_LOCK)
        node_at(node).variable = 0
        exchange(here + LEAF_LOCK, 0)


@njit
def alone(block):
    """Whether a block has one owner."""
    return block != 0 and block_at(block).refcount == 1


@njit
def find_owner(search, node):
    """One more owner of a node is found; a node whose owners are all found is searched next."""
    s = search_at(search)
    if node == 0 or s.seen == MOST or s.count == ROOM:
        return
    n = node_at(node)
    if n.found == 0:
        s.seen += 1
        n.next_free = s.touched
        s.touched = node
    n.found += 1
    if n.found == n.refcount:
        s.stack[s.count] = node
        s.count += 1


@njit
def find_owners_in(search, tensor):
    """What a tensor owns, and its base, if nobody else owns them."""
    while alone(tensor):
        find_owner(search, tensor_at(tensor).node)
        tensor = tensor_at(tensor).base


@njit
def show_objects(search, visit, argument):
    """Show the collector the objects of the nodes whose owners are all found."""
    s = search_at(search)
    while s.count:
        s.count -= 1
        n = node_at(s.stack[s.count])
        for handle in (n.state, n.extras):
            if handle:
                found = visit_object(visit, load(handle + OBJECT), argument)
                if found:
                    return found
        for i in range(n.inputs):
            find_owner(search, edge_at(n.edges + i * EDGE).node)
        find_owners_in(search, n.grad)
    return 0


@native
def traverse_graph(tensor, node, visit, argument):
    """Show the collector the objects of the nodes that belong to a tensor, or to a node, that a box owns."""
    search = new_search()
    s = search_at(search)
    s.count = s.seen = s.touched = 0
    find_owners_in(search, tensor)
    find_owner(search, node)
    found = show_objects(search, visit, argument)
    while s.touched:
        n = node_at(s.touched)
        s.touched = n.next_free
        n.found = 0
    return found


@njit
def has_objects():
    """Whether any node has Python objects."""
    return state_at(symbol("state")).hooked != 0


@c_function
def traverse_tensor(obj, visit, argument):
    found = visit_object(visit, load(obj + TYPE), argument)
    tensor = load(obj + PAYLOAD)
    if found == 0 and has_objects() and alone(tensor):
        return traverse_graph(tensor, 0, visit, argument)
    return found


@c_function
def clear_tensor(obj):
    """The box is garbage: let go of its graph."""
    tensor = load(obj + PAYLOAD)
    if has_objects() and alone(tensor):
        node = tensor_at(tensor).node
        if node:
            forget_variable(node, tensor)
        tensor_at(tensor).node = 0
        decref(node)
    return 0


@c_function
def traverse_node(obj, visit, argument):
    found = visit_object(visit, load(obj + TYPE), argument)
    if found == 0:
        return traverse_graph(0, load(obj + PAYLOAD), visit, argument)
    return found


@c_function
def clear_node(obj):
    """The box of a node is garbage: let go of the node."""
    node = load(obj + PAYLOAD)
    if alone(node):
        store(obj + PAYLOAD, 0)
        if node_at(node).box == obj:
            node_at(node).box = 0
        decref(node)
    return 0
