"""Jacobians, Hessians and their products with vectors, of functions of tensors: PyTorch's older interface beside `nt.func`.

Products with a tangent come from a gradient of a gradient: a gradient is linear in its cotangent, and what multiplies that is the
Jacobian.
"""

from numbatensor import autograd, creation, joining
from numbatensor.autograd import enable_grad, is_grad_enabled
from numbatensor.tensor import Tensor


def as_tensors(given, what, name):
    """A tensor or tuple of tensors as a tuple, and whether it was one."""
    many = isinstance(given, tuple)
    found = given if many else (given,)
    for k, x in enumerate(found):
        if not isinstance(x, Tensor):
            where = f"value at index {k}" if many else f"given {what}"
            raise TypeError(
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the {where} has type {type(x)}."
            )
    return found, many


def fresh(inputs, create_graph, need_graph=True):
    """New tensors to differentiate with respect to, that are part of the inputs' graphs under `create_graph`."""
    return tuple(
        x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_(need_graph) for x in inputs
    )


def finished(tensors, create_graph):
    """Results without a history that nobody asked for."""
    return tensors if create_graph else tuple(x.detach() for x in tensors)


def one_or_all(tensors, many):
    return tensors if many else tensors[0]


def check_vector(v, other, many):
    """Fail for vectors that do not have the shapes of what they are multiplied with."""
    if len(v) != len(other):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(other)} but got {len(v)}."
            if many
            else "The given v should contain a single Tensor."
        )
    for k, (x, y) in enumerate(zip(v, other, strict=True)):
        if tuple(x.shape) != tuple(y.shape):
            place = f"Entry {k} in " if many else ""
            raise RuntimeError(f"{place}v has invalid size: should be {y.shape} but got {x.shape}.")


def check_outputs(outputs, strict):
    for k, x in enumerate(outputs):
        if strict and not x.requires_grad:
            raise RuntimeError(
                f"Output {k} of the user-provided function does not require gradients. The outputs must be computed in a differentiable "
                "manner from the input when running in strict mode."
            )


def gradients(outputs, inputs, vectors, create_graph, retain_graph=None):
    """Gradients, None where there is no dependence; outputs without history, or None, count as such."""
    pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o is not None and o.requires_grad]
    if not pairs:
        return (None,) * len(inputs)
    known, given = zip(*pairs, strict=True)
    return autograd.grad(known, inputs, given, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True)


FLAT = (
    "The gradient with respect to input {k} is independent of the inputs of the user-provided function. This is not allowed in strict "
    "mode."
)
STRAIGHT = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to input {k} is independent of the "
    "input. This is not allowed in strict mode. You should ensure that your function is twice differentiable and that the jacobian "
    "depends on the inputs (this would be violated by a linear function for example)."
)
INDEPENDENT = (
    "The output of the user-provided function is independent of input {k}. This is not allowed in strict mode."
)
TRICK = (
    "The gradient with respect to the input is independent of entry {k} in the grad_outputs when using the double backward trick to "
    "compute forward mode gradients. This is not allowed in strict mode."
)
CONSTANT = "The jacobian of the user-provided function is independent of input {k}. This is not allowed in strict mode."
TWICE = (
    "The hessian of the user-provided function is independent of entry {k} in the grad_jacobian. This is not allowed in strict mode as "
    "it prevents from using the double backward trick to replace forward mode AD."
)
UNRECORDED = "The jacobian of the user-provided function is independent of input {k}. This is not allowed in strict mode when create_graph=True."


def filled(found, like, strict, text, create_graph=False):
    """Gradients with zeros where there is no dependence; an error, if `strict`."""
    made = []
    for k, (g, x) in enumerate(zip(found, like, strict=True)):
        if g is None and strict:
            raise RuntimeError(text.format(k=k))
        if g is not None and strict and create_graph and not g.requires_grad:
            raise RuntimeError(UNRECORDED.format(k=k))
        made.append(creation.zeros_like(x) if g is None else g)
    return tuple(made)


def called(func, inputs, name):
    outputs, many = as_tensors(func(*inputs), "outputs of the user-provided function", name)
    return outputs, many


def scalar(outputs, many, name):
    """The one number that a function for second derivatives has to give."""
    if many:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")


def check_slopes(slopes, strict, text):
    """Fail, if `strict`, for first derivatives that cannot be differentiated again."""
    for k, g in enumerate(slopes):
        if strict and g is None:
            raise RuntimeError(INDEPENDENT.format(k=k))
        if strict and not g.requires_grad:
            raise RuntimeError(text.format(k=k))


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """The outputs of a function, and a vector times its Jacobian: a gradient for each input.

    Parameters
    ----------
    v : Tensor or tuple of Tensor
        The vector, in the shapes of the outputs; not needed for a single number.
    create_graph : bool
        Whether the results can be differentiated again.
    strict : bool
        Fail where an output does not depend on an input, instead of giving zeros.
    """
    graph = create_graph or is_grad_enabled()
    with enable_grad():
        inputs, many = as_tensors(inputs, "inputs", "vjp")
        inputs = fresh(inputs, create_graph)
        outputs, many_out = called(func, inputs, "vjp")
        check_outputs(outputs, strict)
        if v is not None:
            v = as_tensors(v, "v", "vjp")[0]
            v = tuple(x if create_graph else x.detach() for x in v)
            check_vector(v, outputs, many_out)
        elif len(outputs) != 1 or outputs[0].numel() != 1:
            raise RuntimeError(
                "The vector v can only be None if the user-provided function returns a single Tensor with a single element."
            )
        else:
            v = (creation.ones_like(outputs[0]),)
    with autograd.set_grad_enabled(graph):
        found = filled(gradients(outputs, inputs, v, create_graph), inputs, strict, INDEPENDENT, create_graph)
    return (
        one_or_all(finished(outputs, create_graph), many_out),
        one_or_all(finished(found, create_graph), many),
    )


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """The outputs of a function, and its Jacobian times a vector: a tangent for each output. See `vjp`."""
    with enable_grad():
        inputs, many = as_tensors(inputs, "inputs", "jvp")
        inputs = fresh(inputs, create_graph)
        v = tangent_of(v, inputs, many, create_graph, "jvp")
        outputs, many_out = called(func, inputs, "jvp")
        check_outputs(outputs, strict)
        seeds = tuple(creation.zeros_like(x).requires_grad_() for x in outputs)
        slopes = gradients(outputs, inputs, seeds, True)
        check_slopes(slopes, strict, FLAT)
        found = filled(gradients(slopes, seeds, v, create_graph), outputs, strict, TRICK, create_graph)
    return (
        one_or_all(finished(outputs, create_graph), many_out),
        one_or_all(finished(found, create_graph), many_out),
    )


def tangent_of(v, inputs, many, create_graph, name):
    """A vector in the shapes of the inputs."""
    if v is not None:
        v = as_tensors(v, "v", name)[0]
        v = tuple(x if create_graph else x.detach() for x in v)
        check_vector(v, inputs, many)
        return v
    if len(inputs) != 1 or inputs[0].numel() != 1:
        raise RuntimeError(
            "The vector v can only be None if the input to the user-provided function is a single Tensor with a single element."
        )
    return (creation.ones_like(inputs[0]),)


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The derivatives of all outputs of a function by all its inputs.

    Parameters
    ----------
    vectorize, strategy
        Of PyTorch. The result does not depend on them: rows are computed one by one, natively.

    Returns
    -------
    Tensor, or nested tuple of Tensor
        Of the shape of the output followed by the input's; of outputs, then of inputs, where these are tuples.
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs than inputs, '
            '"forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".'
        )
    with enable_grad():
        inputs, many = as_tensors(inputs, "inputs", "jacobian")
        inputs = fresh(inputs, create_graph)
        outputs, many_out = called(func, inputs, "jacobian")
        check_outputs(outputs, strict)
        made = []
        for i, out in enumerate(outputs):
            rows = []
            for k in range(out.numel()):
                seed = creation.zeros(out.numel(), dtype=out.dtype)
                seed.select(0, k).fill_(1)
                found = gradients((out,), inputs, (seed.reshape(out.shape),), create_graph, True)
                rows.append(row(found, inputs, i, strict, create_graph))
            columns = zip(*rows, strict=True) if rows else [()] * len(inputs)
            shapes = [(*out.shape, *x.shape) for x in inputs]
            parts = tuple(
                joining.stack(c).reshape(s) if c else creation.zeros(s, dtype=out.dtype)
                for c, s in zip(columns, shapes, strict=True)
            )
            made.append(one_or_all(finished(parts, create_graph), many))
    return one_or_all(tuple(made), many_out)


def row(found, inputs, i, strict, create_graph):
    """The gradients of one element of output i."""
    made = []
    for k, (g, x) in enumerate(zip(found, inputs, strict=True)):
        if strict and g is None:
            raise RuntimeError(
                f"Output {i} of the user-provided function is independent of input {k}. This is not allowed in strict mode."
            )
        if strict and create_graph and not g.requires_grad:
            raise RuntimeError(
                f"The jacobian of the user-provided function is independent of input {k}. This is not allowed in strict mode when "
                "create_graph=True."
            )
        made.append(creation.zeros_like(x) if g is None else g)
    return made


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The second derivatives of a function of one number by all its inputs: see `jacobian`."""
    inputs, many = as_tensors(inputs, "inputs", "hessian")

    def slope(*given):
        outputs, several = called(func, given, "hessian")
        scalar(outputs, several, "hessian")
        check_outputs(outputs, strict)
        found = gradients(outputs, given, (creation.ones_like(outputs[0]),), True)
        check_slopes(found, strict, STRAIGHT)
        return filled(found, given, False, INDEPENDENT)

    made = jacobian(slope, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)
    return made if many else made[0][0]


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """The value of a function of one number, and a vector times its Hessian. See `vjp`."""
    with enable_grad():
        inputs, many = as_tensors(inputs, "inputs", "vhp")
        inputs = fresh(inputs, create_graph)
        v = tangent_of(v, inputs, many, create_graph, "vhp")
        outputs, several = called(func, inputs, "vhp")
        scalar(outputs, several, "vhp")
        check_outputs(outputs, strict)
        slopes = gradients(outputs, inputs, (creation.ones_like(outputs[0]),), True)
        check_slopes(slopes, strict, STRAIGHT)
        found = filled(gradients(slopes, inputs, v, create_graph), inputs, strict, CONSTANT, create_graph)
    return finished(outputs, create_graph)[0], one_or_all(finished(found, create_graph), many)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """The value of a function of one number, and its Hessian times a vector.

    Hessians are symmetric where second derivatives are continuous: there `vhp` gives the same, and costs less.
    """
    with enable_grad():
        inputs, many = as_tensors(inputs, "inputs", "hvp")
        inputs = fresh(inputs, create_graph)
        v = tangent_of(v, inputs, many, create_graph, "hvp")
        outputs, several = called(func, inputs, "hvp")
        scalar(outputs, several, "hvp")
        check_outputs(outputs, strict)
        slopes = gradients(outputs, inputs, (creation.ones_like(outputs[0]),), True)
        check_slopes(slopes, strict, STRAIGHT)
        seeds = tuple(creation.zeros_like(x).requires_grad_() for x in inputs)
        twice = gradients(slopes, inputs, seeds, True)
        found = filled(gradients(twice, seeds, v, create_graph), inputs, strict, TWICE, create_graph)
    return finished(outputs, create_graph)[0], one_or_all(finished(found, create_graph), many)
