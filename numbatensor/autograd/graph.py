"""The graph from outside: hooks of tensors, what becomes of saved values, and edges as inputs of a pass."""

import functools
import threading

from numbatensor import hooks
from numbatensor.core import entries, graph, node_entries
from numbatensor.core.modes import PACKING, set_mode
from numbatensor.graph_nodes import GraphNode as Node
from numbatensor.hooks import RemovableHandle, extras_of, packers
from numbatensor.tensor import Tensor


def register_hook(self, hook):
    """Call ``hook(grad)`` when the gradient of this tensor is complete; a tensor that it returns replaces the gradient.

    Parameters
    ----------
    hook : callable
        Takes the gradient, and gives None or another tensor of its shape and dtype.

    Returns
    -------
    RemovableHandle
        Its ``remove()`` takes the hook away.
    """
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    node = node_entries.leaf_node(self)
    node_entries.slow_down(node, graph.TENSOR_HOOKS)
    by_output = extras_of(node).tensor_hooks
    return RemovableHandle(by_output.setdefault(entries.get(self, entries.OUTPUT_NR), hooks.Hooks()), hook)


def register_post_accumulate_grad_hook(self, hook):
    """Call ``hook(tensor)`` after a pass has added to the `.grad` of this leaf; it returns nothing. Gives a `RemovableHandle`."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if not self.is_leaf:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    node = node_entries.leaf_node(self)
    node_entries.slow_down(node, graph.ACCUMULATED)
    return RemovableHandle(extras_of(node).accumulated, hook)


Tensor.register_hook, Tensor.register_post_accumulate_grad_hook = register_hook, register_post_accumulate_grad_hook


class saved_tensors_hooks:
    """Inside, what ops save goes through ``pack_hook(tensor)``, and ``unpack_hook`` makes the tensor of what that gave.

    A context manager, of this thread; the innermost counts. The tensor that is packed is detached. A hook must not write to it.
    """

    def __init__(self, pack_hook, unpack_hook):
        self.functions = (pack_hook, unpack_hook)

        self.before = []

    def __enter__(self):
        packers().append(self.functions)
        self.before.append(set_mode(PACKING, PACKING))
        return self

    def __exit__(self, *error):
        packers().pop()
        set_mode(PACKING, self.before.pop())


class save_on_cpu(saved_tensors_hooks):
    """Inside, what ops save is kept in the CPU's memory: as copies, which later writes to the tensors do not touch."""

    def __init__(self, pin_memory=False, device_type=None):
        super().__init__(lambda x: x.clone(), lambda kept: kept)


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """Call ``fn`` in a pass when gradients of tensors are complete.

    Parameters
    ----------
    tensors : sequence of Tensor
    fn : callable
        For ``mode="all"``, takes a list with the gradient of each tensor, None for those that got none, once all that get one have
        it; for ``"any"``, takes the first gradient.

    Returns
    -------
    RemovableHandle
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    arrivals: dict = {}  # by thread and pass: which gradients have arrived

    def arrived(k, grad):
        here = threading.get_ident(), hooks.running_pass()
        for one in [one for one in list(arrivals) if one[0] == here[0] and one[1] > here[1]]:
            arrivals.pop(one)  # a pass that failed; those with lower numbers may run still, outside of this one
        grads = arrivals.setdefault(here, {})
        grads[k] = grad if mode == "all" else None
        ended = len(grads) == hooks.reached(nodes)
        if ended:
            arrivals.pop(here)
        if mode == "any" and len(grads) == 1:
            fn(grad)
        elif mode == "all" and ended:
            fn([grads.get(i) for i in range(len(nodes))])

    nodes = [hooks.watched(node_entries.leaf_node(t)) for t in tensors]
    handles = [t.register_hook(functools.partial(arrived, k)) for k, t in enumerate(tensors)]
    return Handles(handles)


class Handles:
    """Several handles as one."""

    def __init__(self, handles):
        self.handles = handles

    def remove(self):
        """Take the hooks away."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.remove()


def increment_version(tensor):
    """Count a write to a tensor, or to each of several, that happened in a way the library could not see."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        entries.count_write(t)


__all__ = ["Node", "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks"]
