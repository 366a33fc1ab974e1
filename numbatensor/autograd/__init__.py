"""Gradients: backward passes, and the modes that say what is recorded."""

from numbatensor.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    set_source_lines,
    strict_versions,
)
from numbatensor.core import entries
from numbatensor.core.compiler import address
from numbatensor.core.python import native_function
from numbatensor.tensor import Tensor, tensor

__all__ = [
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
    "set_source_lines",
    "strict_versions",
]


def seed_of(root, gradient):
    """The gradient that a pass starts from."""
    if gradient is None:
        if root.numel() != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        return tensor(1, dtype=root.dtype).expand(root.shape).clone()
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if tuple(gradient.shape) != tuple(root.shape):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[0] has a shape of {gradient.shape} and output[0] has a shape of {root.shape}."
        )
    return gradient


def as_tuple(x):
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def roots_and_seeds(tensors, gradients):
    roots = as_tuple(tensors)
    seeds = (
        (None,) * len(roots)
        if gradients is None
        else tuple(gradients)
        if isinstance(gradients, (tuple, list))
        else (gradients,)
    )
    for k, root in enumerate(roots):
        if not root.requires_grad:
            raise RuntimeError(f"element {k} of tensors does not require grad and does not have a grad_fn")
    return roots, tuple(seed_of(r, g) for r, g in zip(roots, seeds, strict=True))


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None):
    """Add the gradients of tensors to the `.grad` of leaves: of all that they depend on, or of `inputs`."""
    roots, seeds = roots_and_seeds(tensors, grad_tensors)
    retain = int(create_graph if retain_graph is None else retain_graph)
    if inputs is None:
        entries.run_backward(roots, seeds, retain, int(create_graph), None)
        return
    inputs = as_tuple(inputs)
    for x, g in zip(inputs, grad(roots, inputs, seeds, retain_graph, create_graph, allow_unused=True), strict=True):
        if g is not None:
            x.grad = g if x.grad is None else x.grad + g


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, allow_unused=False):
    """The gradients of outputs with respect to inputs, as a tuple; no `.grad` is touched."""
    roots, seeds = roots_and_seeds(outputs, grad_outputs)
    inputs = as_tuple(inputs)
    for x in inputs:
        if not x.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        entries.leaf_node(x)
    retain = int(create_graph if retain_graph is None else retain_graph)
    found = entries.run_backward(roots, seeds, retain, int(create_graph), inputs)
    for k, g in enumerate(found):
        if g is None and not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {k} appears to not have been used in the graph. Set allow_unused=True if "
                "this is the desired behavior."
            )
    return found


def backward_method(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    """Add the gradients of this tensor to the `.grad` of the leaves that it depends on."""
    backward(self, gradient, retain_graph, create_graph, inputs=inputs)


backward_method.__name__ = backward_method.__qualname__ = "backward"
Tensor.backward = native_function(address("call_backward"), backward_method, named=True)
