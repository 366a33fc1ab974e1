"""Hooks: what users attach to tensors and nodes, and how the engine runs it.

Where a node has hooks, its `slow` word says so to the engine, which calls the functions below.
"""

import collections
import itertools
import os
import threading
import traceback
import weakref

from numbatensor.core import graph, node_entries, pass_entries
from numbatensor.core.handles import drop_handles, hold
from numbatensor.core.modes import ANOMALY, PACKING, get_mode, set_mode
from numbatensor.core.python import TensorBase, callback
from numbatensor.core.records import Edge, Node, Output, Saved, view_record

PACKAGE = os.path.dirname(__file__) + os.sep


class Hooks(collections.OrderedDict):
    """Hooks by number, in the order in which they came."""


class Extras:
    """What a node keeps beside its record: `metadata` for users, hooks by kind, and what hooks have packed, by slot."""

    __slots__ = ("accumulated", "metadata", "packed", "posthooks", "prehooks", "tensor_hooks", "__weakref__")

    def __init__(self):
        self.metadata: dict = {}
        self.tensor_hooks: dict = {}  # by output
        self.prehooks, self.posthooks, self.accumulated = (Hooks() for _ in range(3))
        self.packed: dict = {}  # by slot: (function that unpacks, what was packed)


def extras_of(node):
    """The extras of a node, made if need be."""
    extras = node_entries.extras_of(node)
    if extras is None:
        extras = node_entries.set_extras(node, hold(Extras()))
    return extras


class RemovableHandle:
    """Removes a hook; as a context manager, when the context ends."""

    numbers = itertools.count()

    def __init__(self, hooks, hook):
        self.id, self.hooks = next(self.numbers), weakref.ref(hooks)
        hooks[self.id] = hook

    def remove(self):
        """Take the hook away; a second time does nothing."""
        hooks = self.hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.remove()


local = threading.local()


def running_pass():
    """The number of the pass whose hook of a tensor is running."""
    return pass_entries.pass_number(local.call)


def watched(node):
    """A node by its address, and a weak reference to its extras, which die with it: it is not kept alive."""
    return node, weakref.ref(extras_of(node))


def reached(nodes):
    """How many of the watched nodes get a gradient in the pass whose hook of a tensor is running."""
    drop_handles()  # the extras of nodes that are gone
    return sum(pass_entries.in_pass(local.call, node) for node, extras in nodes if extras() is not None)


def called(hook):
    return getattr(hook, "__qualname__", type(hook).__qualname__)


def replaced(hook, made, old):
    """What a hook gave in place of a gradient."""
    if made is None:
        return old
    if not isinstance(made, TensorBase):
        raise TypeError(f"expected hook '{called(hook)}' to return None or a Tensor, but got {type(made).__name__}")
    if old is not None:
        if tuple(made.shape) != tuple(old.shape):
            raise RuntimeError(
                f"hook '{called(hook)}' has changed the size of value: {list(old.shape)} became {list(made.shape)}"
            )
        if made.dtype is not old.dtype:
            raise RuntimeError(
                f"hook '{called(hook)}' has changed the type of value: {old.dtype.name} became {made.dtype.name}"
            )
    return made


def as_tuple(made):
    return made if isinstance(made, tuple) else tuple(made) if isinstance(made, list) else (made,)


def replaced_all(hook, made, old):
    """What a hook of a node gave in place of several gradients."""
    if made is None:
        return old
    made = as_tuple(made)
    if len(made) != len(old):
        raise RuntimeError(
            f"hook '{called(hook)}' has returned an incorrect number of values (got {len(made)}, but expected {len(old)})"
        )
    return tuple(replaced(hook, m, o) for m, o in zip(made, old, strict=True))


def outputs_of(node):
    return range(int(view_record(node, Node)["outputs"]))


def own(call, node, k):
    """The gradient of an output, which a hook may write to: a copy where something else holds it."""
    grad = pass_entries.visit_grad(call, node, k)
    return grad if grad is None or pass_entries.grad_is_alone(call, node, k) else grad.clone()


@callback
def run_tensor_hooks(node, call):
    """Run the hooks of the tensors that a node made; they may replace the gradients."""
    outer, local.call = getattr(local, "call", 0), call
    try:
        for k, hooks in list(extras_of(node).tensor_hooks.items()):
            grad = own(call, node, k) if hooks else None
            if grad is not None:
                for hook in list(hooks.values()):
                    grad = replaced(hook, hook(grad), grad)
                pass_entries.set_visit_grad(call, node, k, grad)
    finally:
        local.call = outer
    return 0


@callback
def run_prehooks(node, call):
    """Run the hooks that come before a node's rule; they may replace the gradients."""
    hooks = list(extras_of(node).prehooks.values())
    grads = tuple(own(call, node, k) if hooks else None for k in outputs_of(node))
    if hooks:
        for hook in hooks:
            grads = replaced_all(hook, hook(grads), grads)
        for k, grad in enumerate(grads):
            pass_entries.set_visit_grad(call, node, k, grad)
    return 0


def after_rule(node, made, grads):
    """The gradients of a node's inputs, after the hooks that come after its rule."""
    for hook in list(extras_of(node).posthooks.values()):
        before, made = made, replaced_all(hook, hook(made, grads), made)
        for i, grad in enumerate(made):
            if grad is not None and before[i] is None:
                check_shape(node, i, grad)
    return made


def summable(got, shape):
    """Whether a gradient of shape `got` can be summed to a shape: what broadcasting would have made of it."""
    lead = len(got) - len(shape)
    return lead >= 0 and all(n in (1, m) for n, m in zip(shape, got[lead:], strict=True))


def input_shape(node, i):
    """The shape of input i of a node, or None where its gradient goes nowhere."""
    edge = view_record(int(view_record(node, Node)["edges"]) + i * Edge.itemsize, Edge)
    if not edge["node"]:
        return None
    output = view_record(node_entries.output_record(int(edge["node"]), int(edge["output_nr"])), Output)
    return [int(n) for n in output["shape"][: output["ndim"]]]


def check_shape(node, i, grad):
    """Fail where a hook gave a gradient, for an input that had none, which cannot be one of it."""
    shape, got = input_shape(node, i), list(grad.shape)
    if shape is not None and not summable(got, shape):
        raise RuntimeError(
            f"a hook of {node_entries.node_box(node).name()} returned an invalid gradient at index {i} - got {got} but expected shape "
            f"compatible with {shape}"
        )


@callback
def run_posthooks(node, call):
    """Run what comes after a leaf's `.grad` is complete."""
    extras = extras_of(node)
    for hook in list(extras.posthooks.values()):
        hook((), (pass_entries.kept_grad(call, node),))
    leaf = node_entries.leaf_variable(node)
    if leaf is not None:
        for hook in list(extras.accumulated.values()):
            if hook(leaf) is not None:
                raise RuntimeError("hooks should return None.")
    return 0


@callback
def forget_hooks(node):
    """Drop the hooks of a node that cannot run again: what they hold must not keep its graph alive."""
    extras = node_entries.extras_of(node)
    if extras is not None:
        for hooks in (extras.tensor_hooks, extras.prehooks, extras.posthooks, extras.packed):
            hooks.clear()
    return 0


# saved values that go through hooks


def packers():
    """The pairs of functions that pack and unpack what is saved on this thread, the innermost last."""
    if not hasattr(local, "packers"):
        local.packers = []
    return local.packers


def pack(node, k, functions):
    """Send a saved value through a hook: what it gives is kept in its place."""
    packer, unpacker = functions
    extras = extras_of(node)
    extras.packed[k] = (unpacker, packer(node_entries.saved_alias(node, k)))
    node_entries.release_slot(node, k)
    node_entries.slow_down(node, graph.UNPACKED)


def unpack(packed):
    """What a hook makes of what was packed."""
    unpacker, value = packed
    made = unpacker(value)
    if not isinstance(made, TensorBase):
        raise TypeError(
            f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(made).__name__}"
        )
    return made


def unpacked(node, k):
    """What a node saved in slot k, with its history."""
    extras = node_entries.extras_of(node)
    if extras is None or k not in extras.packed:
        return node_entries.unpack_saved(node, k)
    return node_entries.with_history(node, k, unpack(extras.packed[k]))


@callback
def fill_slots(node):
    """Unpack what hooks have packed, for a native rule."""
    for k, packed in extras_of(node).packed.items():
        made = unpack(packed)
        if not node_entries.fill_slot(node, k, made):
            raise RuntimeError(
                f"unpack_hook gave a tensor of {made.dtype.name} {list(made.shape)}, which is not what was saved: its shape and dtype "
                "must be those of what the pack_hook got"
            )
    return 0


@callback
def empty_slots(node):
    """A native rule has run: let go of what was unpacked."""
    for k in extras_of(node).packed:
        node_entries.release_slot(node, k)
    return 0


@callback
def notice_node(node):
    """A node was made in anomaly mode, or while what is saved goes through hooks."""
    if get_mode() & ANOMALY:
        frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(PACKAGE)]
        extras_of(node).metadata["traceback_"] = traceback.format_list(frames)
    if get_mode() & PACKING and packers():
        record, functions = view_record(node, Node), packers()[-1]
        set_mode(PACKING, 0)
        try:
            for k in range(int(record["saved"])):
                if view_record(int(record["saves"]) + k * Saved.itemsize, Saved)["storage"]:
                    pack(node, k, functions)
        finally:
            set_mode(PACKING, PACKING)
    return 0
