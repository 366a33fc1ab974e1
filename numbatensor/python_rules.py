"""Gradient rules run as functions of Tensors: under `create_graph`, and where a rule is Python's alone."""

import ctypes

from numbatensor.core import entries
from numbatensor.core.handles import table
from numbatensor.core.python import callback
from numbatensor.core.records import Attribute, Edge, Node, Saved, view_record
from numbatensor.op import BY_ADDRESS, Joined, needs_of, plain, undone


def attributes_of(record, op):
    """What a node keeps beside tensors: attributes by name, and `input_shape` and `count`."""
    names, found = [*op.inputs, "input_shape", "count"], {}
    for k, name in enumerate(names):
        a = view_record(int(record["attributes"]) + k * Attribute.itemsize, Attribute)
        kind, value = int(a["kind"]), int(a["value"])
        if kind == 5:
            found[name] = tuple((ctypes.c_int64 * int(a["length"])).from_address(value)) if a["length"] else ()
        else:
            found[name] = plain(kind, value)
    return found


@callback
def run_rule(node, call):
    """Run a node's rules as functions of Tensors, and deliver what they give."""
    record = view_record(node, Node)
    op = BY_ADDRESS[int(record["op"])]
    grad = entries.visit_grad(node, 0)
    if isinstance(op, Joined):
        return split(node, call, record, grad)
    if record["handle"]:
        names, wanted, saved, known = table[int(record["handle"])]
        known = {**known, **{name: entries.unpack_saved(node, k) for k, name in enumerate(saved)}}
    else:
        names = op.inputs
        known = attributes_of(record, op) if record["attributes"] else {}
        for k in range(int(record["saved"])):
            which = int(view_record(int(record["saves"]) + k * Saved.itemsize, Saved)["which"])
            known["out" if which == 0 else names[which - 1]] = entries.unpack_saved(node, k)
        wanted = names[: int(record["inputs"])]
    for i, name in enumerate(names):
        if name not in wanted or name not in op.rules or not edge(record, i):
            continue
        rule = op.rules[name]
        if rule is undone:
            made = undone(grad, known["input_shape"], [known[n] for n in op.inputs[1:]], op)
        else:
            made = rule(grad, *[known[n] for n in needs_of(rule)])
        if made is not None:
            entries.give_gradient(call, node, i, made)
    return 0


def split(node, call, record, grad):
    """The rules of a join: each input's gradient is its part."""
    n = int(record["inputs"])
    dim, new, *lengths = (ctypes.c_int64 * (2 + n)).from_address(int(record["attributes"]))
    start = 0
    for i, length in enumerate(lengths):
        if edge(record, i):
            entries.give_gradient(call, node, i, grad.select(dim, start) if new else grad.narrow(dim, start, length))
        start += length
    return 0


def edge(record, i):
    """The node that the gradient of input i flows to, or 0."""
    return int(view_record(int(record["edges"]) + i * Edge.itemsize, Edge)["node"])
