"""Backward passes: gradients added to leaves, or given for the inputs that are asked for."""

import warnings

from numbatensor.core import entries, node_entries, pass_entries
from numbatensor.core.python import loaded_late
from numbatensor.making import tensor
from numbatensor.ops import arranging
from numbatensor.tensor import Tensor


def seed_of(root, gradient, k):
    """The gradient that a pass starts from."""
    if gradient is None:
        if root.numel() != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        seed = tensor(1, dtype=root.dtype).expand(root.shape).clone()
        return seed.to(root.device) if root.is_cuda else seed
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if tuple(gradient.shape) != tuple(root.shape):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{k}] has a shape of {gradient.shape} and output[{k}] has a shape of {root.shape}."
        )
    return gradient


def as_tuple(x):
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def roots_and_seeds(tensors, gradients):
    roots = as_tuple(tensors)
    seeds = (None,) * len(roots) if gradients is None else as_tuple(gradients)
    if len(seeds) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(seeds)} gradients")
    for k, root in enumerate(roots):
        if not isinstance(root, Tensor):
            raise TypeError(f"element {k} of tensors is no Tensor but {type(root).__name__}")
        if not root.requires_grad:
            raise RuntimeError(f"element {k} of tensors does not require grad and does not have a grad_fn")
    return roots, tuple(seed_of(root, seed, k) for k, (root, seed) in enumerate(zip(roots, seeds, strict=True)))


def check_inputs(inputs):
    """The inputs as a tuple of tensors that are part of a graph."""
    inputs = as_tuple(inputs)
    if not inputs:
        raise ValueError("the inputs cannot be empty")
    for k, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"element {k} of inputs is no Tensor but {type(x).__name__}")
        if not x.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        node_entries.leaf_node(x)
    return inputs


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None):
    """Add the gradients of tensors to the `.grad` of leaves.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        What is differentiated.
    grad_tensors : Tensor or sequence of Tensor, optional
        For each, the gradient that the pass starts from, of its shape; 1 for those of one element.
    retain_graph : bool, optional
        Whether the graph can be used again; `create_graph` by default.
    create_graph : bool
        Whether the gradients are part of a graph, and can be differentiated again.
    inputs : Tensor or sequence of Tensor, optional
        The only tensors whose `.grad` is added to; all leaves by default.

    Raises
    ------
    RuntimeError
        If a tensor has no graph, a seed has another shape, a saved value was overwritten, or the graph was freed. No `.grad` has
        changed then.
    """
    run(tensors, grad_tensors, retain_graph, create_graph, inputs, 3)


def run(tensors, grad_tensors, retain_graph, create_graph, inputs, stacklevel):
    """A pass that adds to leaves; `stacklevel` leads from here to the user's line."""
    roots, seeds = roots_and_seeds(tensors, grad_tensors)
    if create_graph:
        warnings.warn(
            "Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient which can "
            "cause a memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you have to use this "
            "function, make sure to reset the .grad fields of your parameters to None after use to break the cycle and avoid the leak.",
            stacklevel=stacklevel,
        )
    retain = int(create_graph if retain_graph is None else retain_graph)
    if inputs is not None:
        inputs = check_inputs(inputs)
        for x in inputs:
            x.retain_grad()
    pass_entries.run_backward(roots, seeds, retain, int(create_graph), inputs, 1)


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph=False,
    allow_unused=None,
    is_grads_batched=False,
    materialize_grads=False,
):
    """The gradients of outputs with respect to inputs; no `.grad` of a leaf is touched.

    Only what leads from the outputs to the inputs is run.

    Parameters
    ----------
    outputs : Tensor or sequence of Tensor
        What is differentiated.
    inputs : Tensor or sequence of Tensor
        With respect to what.
    grad_outputs : Tensor or sequence of Tensor, optional
        For each output, the gradient that the pass starts from.
    retain_graph, create_graph : bool
        As of `backward`.
    allow_unused : bool, optional
        Whether inputs that the outputs do not depend on are allowed: they get None. False by default, unless `materialize_grads`.
    is_grads_batched : bool
        Whether `grad_outputs` have a first dimension more: one pass for each entry, and the gradients stacked.
    materialize_grads : bool
        Whether the gradients of unused inputs are zeros instead of None.

    Returns
    -------
    tuple of Tensor
        One for each input.
    """
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    if is_grads_batched:
        return batched(outputs, inputs, grad_outputs, create_graph, allow_unused, materialize_grads, retain_graph)
    roots, seeds = roots_and_seeds(outputs, grad_outputs)
    inputs = check_inputs(inputs)
    retain = int(create_graph if retain_graph is None else retain_graph)
    found = pass_entries.run_backward(roots, seeds, retain, int(create_graph), inputs, 0)
    for k, g in enumerate(found):
        if g is None and not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {k} appears to not have been used in the graph. Set allow_unused=True if "
                "this is the desired behavior."
            )
    if materialize_grads:
        return tuple(
            entries.new_zeros(tuple(x.shape), x.dtype.code, entries.get(x, entries.DEVICE)) if g is None else g
            for x, g in zip(inputs, found, strict=True)
        )
    return found


def batched(outputs, inputs, grad_outputs, create_graph, allow_unused, materialize_grads, retain_graph):
    """Gradients for each entry of a batch of seeds, stacked."""
    seeds = as_tuple(grad_outputs)
    count = seeds[0].shape[0]
    retain = create_graph if retain_graph is None else retain_graph
    rows = []
    for b in range(count):
        part = tuple(None if s is None else s.select(0, b) for s in seeds)
        last = retain if b == count - 1 else True
        rows.append(grad(outputs, inputs, part, last, create_graph, allow_unused, False, materialize_grads))
    return tuple(
        None if column[0] is None else arranging.stack(list(column), 0, None) for column in zip(*rows, strict=True)
    )


def backward_method(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    """Add the gradients of this tensor to the `.grad` of the leaves that it depends on; see `autograd.backward`."""
    run(self, gradient, retain_graph, create_graph, inputs, 4)


backward_method.__name__ = backward_method.__qualname__ = "backward"
Tensor.backward = loaded_late("call_backward", backward_method)
