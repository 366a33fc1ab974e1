"""What Python calls for a backward pass: to run one, and from the hooks and rules that run in one."""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.engine import deliver, leave, start_call, wanted
from numbatensor.core.graph import (
    EDGE,
)
from numbatensor.core.memory import (
    decref,
    free,
    incref,
    load,
    malloc,
    store,
)
from numbatensor.core.modes import anomaly
from numbatensor.core.python import (
    PAYLOAD,
    argument,
    as_long,
    box,
    entry,
    from_long,
    is_tensor,
    new_tuple,
    none,
    set_item,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.records import (
    block_at,
    call_at,
    edge_at,
    new_call,
    node_at,
    tensor_at,
    visit_at,
)
from numbatensor.core.rules import undo_view_recorded
from numbatensor.core.visits import GRADS, find_visit


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
def wants_gradient(self, args, count):
    """(call, node, i) -> whether the running pass uses the gradient of input i of a node"""
    call_record, node, i = as_long(argument(args, 0)), as_long(argument(args, 1)), as_long(argument(args, 2))
    parent = edge_at(node_at(node).edges + i * EDGE).node
    return from_long(1 if wanted(call_at(call_record), call_record, parent) else 0)


@entry
def view_gradient(self, args, count):
    """(node, grad) -> the gradient of what the op of a node viewed, recorded where that is wanted"""
    return box(undo_view_recorded(as_long(argument(args, 0)), unboxed(argument(args, 1))))


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
