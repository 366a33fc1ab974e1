"""Gradient rules run as functions of Tensors: under `create_graph`, and where a rule is Python's alone."""

import ctypes
import warnings

from numbatensor.core import graph, node_entries, pass_entries
from numbatensor.core.modes import ANOMALY, CHECK_NAN, get_mode
from numbatensor.core.python import callback
from numbatensor.core.records import Attribute, Node, Saved, view_record
from numbatensor.core.rules import CUSTOM
from numbatensor.hooks import after_rule, unpacked
from numbatensor.op import BY_ADDRESS, Joined, needs_of, plain


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


def saved_of(node, record, op):
    """What a node saved, by name."""
    known = attributes_of(record, op) if record["attributes"] else {}
    for k in range(int(record["saved"])):
        which = int(view_record(int(record["saves"]) + k * Saved.itemsize, Saved)["which"])
        known["out" if which == 0 else op.inputs[which - 1]] = unpacked(node, k)
    return known


@callback
def run_rule(node, call):
    """Run a node's rules as functions of Tensors, and deliver what they give."""
    record = view_record(node, Node)
    watch = get_mode() & ANOMALY
    grads = tuple(pass_entries.visit_grad(call, node, k) for k in range(int(record["outputs"])))
    wanted = [bool(pass_entries.wants_gradient(call, node, i)) for i in range(int(record["inputs"]))]
    try:
        made = gradients(node, record, grads, wanted)
        if watch and get_mode() & CHECK_NAN:
            check_nan(node, made)
    except Exception:
        if watch:
            blame(node)
        raise
    if record["slow"] & graph.POSTHOOKS:
        made = after_rule(node, made, grads)
    for i, grad in enumerate(made):
        if wanted[i] and grad is not None:
            pass_entries.give_gradient(call, node, i, grad)
    return 0


def gradients(node, record, grads, wanted):
    """The gradients of a node's inputs, None where they are not wanted."""
    op = BY_ADDRESS[int(record["op"])]
    if op.row["rule_kind"][0] == CUSTOM:
        return op.gradients(node, grads, wanted)
    if isinstance(op, Joined):
        return split(record, grads[0], wanted)
    state = node_entries.state_of(node)
    if state is not None and not isinstance(state, tuple):  # of a custom function
        return state.gradients(node, grads, wanted)
    if state is None:
        names, known = op.inputs, saved_of(node, record, op)
    else:
        names, saved, kept = state
        known = {**kept, **{name: unpacked(node, k) for k, name in enumerate(saved)}}
    made = []
    for name, want in zip(names, wanted, strict=False):
        if not want or name not in op.rules:
            made.append(None)
            continue
        rule = op.formulas.get(name, op.rules[name])
        if rule is None:
            made.append(pass_entries.view_gradient(node, grads[0]))
        else:
            made.append(rule(grads[0], *[known[n] for n in needs_of(rule)]))
    return tuple(made)


def split(record, grad, wanted):
    """The gradients of a join: each input's is its part."""
    dim, new, *lengths = (ctypes.c_int64 * (2 + len(wanted))).from_address(int(record["attributes"]))
    start, made = 0, []
    for want, length in zip(wanted, lengths, strict=True):
        part = (grad.select(dim, start) if new else grad.narrow(dim, start, length)) if want else None
        made.append(part)
        start += length
    return tuple(made)


def check_nan(node, made):
    """Fail where a rule gave NaN."""
    for i, grad in enumerate(made):
        if grad is not None and bool((grad != grad).any()):
            raise RuntimeError(
                f"Function '{node_entries.node_box(node).name()}' returned nan values in its {i}th output."
            )


def blame(node):
    """Warn where the forward call was of a node whose rule failed."""
    extras = node_entries.extras_of(node)
    lines = extras.metadata.get("traceback_") if extras else None
    name = node_entries.node_box(node).name()
    if lines:
        warnings.warn(
            f"Error detected in {name}. Traceback of forward call that caused the error:\n{''.join(lines)}",
            stacklevel=2,
        )
    else:
        warnings.warn(
            f"Error detected in {name}. No forward pass information available. Enable detect anomaly during forward pass for more "
            "information.",
            stacklevel=2,
        )
