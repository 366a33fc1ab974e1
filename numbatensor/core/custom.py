"""Nodes of custom functions: any number of outputs, a rule in Python."""

from numba import njit

from numbatensor.core.compiler import call, symbol
from numbatensor.core.graph import HOOKED, NATIVE, SIDE, attach, link, new_node, output_of, save, settle
from numbatensor.core.memory import atomic_add, decref, incref
from numbatensor.core.python import argument, as_long, entry, is_tensor, late, none, tuple_item, tuple_size, unboxed
from numbatensor.core.recording import told
from numbatensor.core.records import node_at, output_at, storage_at, tensor_at
from numbatensor.core.writes import REBASE_VIEW

PLAIN, DIFFERENTIABLE, DIRTY = range(3)  # outputs: no part of the graph; part of it; inputs that were written in place


@njit
def describe_output(output, x):
    """Note the shape and dtype of an output."""
    o = output_at(output)
    o.retains = o.grad = 0
    o.dtype, o.itemsize, o.device, o.ndim = x.dtype, x.itemsize, x.device, x.ndim
    for i in range(x.ndim):
        o.shape[i] = x.shape[i]


@entry
def record_function(self, args, count):
    """(row, outputs, kinds, inputs, saved, whiches, handle): one node for all outputs

    Outputs and inputs are tensors or None; `kinds` says what each output is; `whiches`: see `graph.save`.
    """
    row, outputs, kinds, inputs, saved, whiches = (
        as_long(argument(args, 0)),
        argument(args, 1),
        argument(args, 2),
        argument(args, 3),
        argument(args, 4),
        argument(args, 5),
    )
    outs, some = tuple_size(outputs), 0
    for k in range(outs):
        if some == 0 and is_tensor(tuple_item(outputs, k)):
            some = unboxed(tuple_item(outputs, k))
    for i in range(tuple_size(inputs)):
        if is_tensor(tuple_item(inputs, i)):
            settle(unboxed(tuple_item(inputs, i)))
    node = new_node(NATIVE, row, tuple_size(inputs), tuple_size(saved), (outs - 1) * (SIDE // 8), some)
    n = node_at(node)
    n.more, n.attributes = n.attributes, 0
    for k in range(outs):
        t = some
        if is_tensor(tuple_item(outputs, k)):
            t = unboxed(tuple_item(outputs, k))
        describe_output(output_of(node, k), tensor_at(t))
    n.outputs = outs
    for i in range(tuple_size(inputs)):
        if is_tensor(tuple_item(inputs, i)):
            link(node, i, unboxed(tuple_item(inputs, i)))
    for k in range(tuple_size(saved)):
        t = unboxed(tuple_item(saved, k))
        save(node, k, t, as_long(tuple_item(whiches, k)), storage_at(tensor_at(t).storage).version)
    n.state = as_long(argument(args, 6))
    atomic_add(symbol("state") + HOOKED, 1)
    told(node)
    for k in range(outs):
        kind = as_long(tuple_item(kinds, k))
        if kind != PLAIN:
            t = unboxed(tuple_item(outputs, k))
            incref(node)
            attach(t, node)
            tensor_at(t).output_nr = k
            if kind == DIRTY and tensor_at(t).base:
                call(late(REBASE_VIEW), t)
    decref(node)
    return none()
