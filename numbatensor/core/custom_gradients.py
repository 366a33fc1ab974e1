"""The gradients of custom ops: a user's compiled backward, run over what a node saved (see `custom_ops.py`)."""

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.custom_ops import (
    GRAD_SHAPE,
    TENSOR,
    is_float,
    kind_of,
    lent,
    release,
    run_user,
    saves_input,
    saves_output,
    take_inputs_back,
)
from numbatensor.core.graph import ATTRIBUTE, EDGE, check, output_of, unpack
from numbatensor.core.memory import decref, free, load, malloc, memset, store
from numbatensor.core.python import (
    argument,
    as_long,
    box,
    call_python,
    entry,
    is_tensor,
    new_tuple,
    none,
    set_item,
    tuple_item,
    unboxed,
)
from numbatensor.core.records import attribute_at, custom_at, edge_at, new_frame, node_at, output_at, tensor_at
from numbatensor.core.rules import saved_slot
from numbatensor.core.tensors import empty, same_shape, shape_of, zero


@native
def lent_value(node, slot):
    """What a node saved in a slot, as a backward gets it."""
    t = unpack(node, slot)
    made = attempt(symbol("lent"), t)
    decref(t)
    if made == -1:
        fail()
    return made


@native
def fill_words(node, grads, words):
    """What a backward is given; gradients that are missing are zeros."""
    n = node_at(node)
    o = custom_at(n.op)
    p, q = o.parameters, o.outputs
    for i in range(p):
        if kind_of(o, i) != TENSOR:
            store(words + 8 * i, attribute_at(n.attributes + i * ATTRIBUTE).value)
        elif saves_input(o, i):
            store(words + 8 * i, lent_value(node, saved_slot(n, 1 + i)))
    for k in range(q):
        if saves_output(o, k):
            store(words + 8 * (p + k), lent_value(node, saved_slot(n, -k)))
        if is_float(o, k):
            grad = load(grads + 8 * k)
            if grad:
                store(words + 8 * (p + q + k), lent(grad))
            else:
                f, y = new_frame(), output_at(output_of(node, k))
                shape_of(f, y)
                made = empty(f, y.dtype)
                zero(made)
                store(words + 8 * (p + q + k), made)
    return 0


@native
def check_gradients(node, results):
    """Fail where a gradient has not the shape of its input."""
    n = node_at(node)
    for i in range(n.inputs):
        e, grad = edge_at(n.edges + i * EDGE), load(results + 8 * i)
        if grad and e.node and not same_shape(tensor_at(grad), output_at(output_of(e.node, e.output_nr))):
            call_python("custom_error", GRAD_SHAPE, node, i, grad)
    return 0


@native
def custom_gradients(node, grads, needs, results):
    """Run the backward of a node's custom op: the gradients of its inputs, or 0, as new references; all 0 where it fails."""
    n = node_at(node)
    o = custom_at(n.op)
    p, q = o.parameters, o.outputs
    memset(results, 0, 8 * p)
    if o.backward == 0:
        call_python("compile_backward", n.op)
    words = malloc(8 * (2 * p + 2 * q))
    memset(words, 0, 8 * (p + 2 * q))
    for i in range(p):
        store(words + 8 * (p + 2 * q + i), load(needs + 8 * i))
    code = attempt(symbol("fill_words"), node, grads, words)
    if code == 0:
        code = run_user(o, o.backward, words, results)
    take_inputs_back(o, words)
    release(words + 8 * p, 2 * q)
    free(words)
    if code == 0:
        code = attempt(symbol("check_gradients"), node, results)
    if code:
        release(results, p)
        fail()
    return 0


@entry
def custom_rule(self, args, count):
    """(node, grads, needs) -> the gradients of the inputs, outside of the graph: tensors or None"""
    node, given, flags = as_long(argument(args, 0)), argument(args, 1), argument(args, 2)
    n = node_at(node)
    for k in range(n.saved):
        check(node, k)
    p, q = n.inputs, n.outputs
    words = malloc(8 * (2 * p + q))
    needs, grads = words + 8 * p, words + 16 * p
    for i in range(p):
        store(needs + 8 * i, as_long(tuple_item(flags, i)))
    for k in range(q):
        grad = tuple_item(given, k)
        store(grads + 8 * k, unboxed(grad) if is_tensor(grad) else 0)
    made = attempt(symbol("custom_gradients"), node, grads, needs, words)
    if made == 0:
        made = new_tuple(p)
        for i in range(p):
            set_item(made, i, box(load(words + 8 * i)) if load(words + 8 * i) else none())
    free(words)
    if made == -1:
        fail()
    return made
