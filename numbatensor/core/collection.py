"""What Python's garbage collector sees of native memory: the Python objects that only a box's graph keeps alive.

A box shows the objects of the nodes that it alone owns: from its tensor through the nodes with one owner each. What has several owners is
not searched, since one of them may be in use: a cycle through such a node is not collected. Only the thread that owns a box can give
what hangs on it another owner, and it would need the GIL; so the answer does not change during a collection.
"""

from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from numbatensor.core.compiler import c_function, i64, native, symbol, word
from numbatensor.core.memory import decref, load, store
from numbatensor.core.records import Edge, Frame, block_at, edge_at, new_frame, node_at, state_at, tensor_at

TYPE, PAYLOAD, OBJECT = 8, 16, 8  # offsets: an object's type, a box's address; a handle's object
MOST = 1000  # nodes that are searched from one box
EDGE = Edge.itemsize
ROOM = Frame.itemsize // 8  # nodes that wait to be searched


@intrinsic
def visit_object(typingctx, visit, obj, argument):
    """Call the collector's function on an object."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [word, word])
        return builder.sext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:]), word)

    return i64(i64, i64, i64), codegen


@njit
def alone(block):
    """Whether a block has one owner."""
    return block != 0 and block_at(block).refcount == 1


@native
def traverse_graph(node, visit, argument):
    """Show the collector the objects of the nodes that are reached from a node through single owners."""
    stack, count, seen = new_frame(), 0, 0
    if alone(node):
        store(stack, node)
        count = 1
    while count and seen < MOST:
        count -= 1
        seen += 1
        n = node_at(load(stack + 8 * count))
        for handle in (n.state, n.extras):
            if handle:
                found = visit_object(visit, load(handle + OBJECT), argument)
                if found:
                    return found
        for i in range(n.inputs):
            parent = edge_at(n.edges + i * EDGE).node
            if count < ROOM and alone(parent):
                store(stack + 8 * count, parent)
                count += 1
    return 0


@njit
def has_objects():
    """Whether any node has Python objects."""
    return state_at(symbol("state")).hooked != 0


@c_function
def traverse_tensor(obj, visit, argument):
    found = visit_object(visit, load(obj + TYPE), argument)
    tensor = load(obj + PAYLOAD)
    if found == 0 and has_objects() and alone(tensor):
        return traverse_graph(tensor_at(tensor).node, visit, argument)
    return found


@c_function
def clear_tensor(obj):
    """The box is garbage: let go of its graph."""
    tensor = load(obj + PAYLOAD)
    if has_objects() and alone(tensor):
        node = tensor_at(tensor).node
        tensor_at(tensor).node = 0
        decref(node)
    return 0


@c_function
def traverse_node(obj, visit, argument):
    found = visit_object(visit, load(obj + TYPE), argument)
    if found == 0:
        return traverse_graph(load(obj + PAYLOAD), visit, argument)
    return found


@c_function
def clear_node(obj):
    """The box of a node is garbage: let go of the node."""
    node = load(obj + PAYLOAD)
    if alone(node):
        store(obj + PAYLOAD, 0)
        node_at(node).box = 0
        decref(node)
    return 0
