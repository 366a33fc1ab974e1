"""Functions of gradients: `grad`, `vjp` and `jvp`."""

import functools

from numbatensor import autograd, creation
from numbatensor.autograd import is_grad_enabled
from numbatensor.func.batched import wrapped
from numbatensor.func.differentiation import Differentiation, each_entry, tensors_of, with_aux
from numbatensor.func.trees import flatten, unflatten
from numbatensor.tensor import Tensor


def grad_and_value(func, argnums=0, has_aux=False):
    """A function of the same arguments that gives the gradient of a scalar function, and its value.

    Parameters
    ----------
    func : callable
        Gives a tensor without dimensions; with `has_aux`, that and anything else.
    argnums : int or tuple of int
        The arguments, tensors or trees of them, with respect to which the gradient is.

    Returns
    -------
    callable
        Gives ``(gradient, value)``, or ``(gradient, (value, aux))``. Gradients are part of graphs outside, if anything that they depend
        on requires a gradient.
    """
    api = "grad_and_value(f)(*args)"

    @functools.wraps(func, updated=())
    def both(*args, **kwargs):
        with Differentiation() as inputs:
            args, structure = inputs.replace(args, argnums)
            value, aux = with_aux(func(*args, **kwargs), has_aux, api)
            if not isinstance(value, Tensor):
                raise RuntimeError(f"{api}: Expected f(*args) to return a Tensor, got {type(value)}")
            if value.ndim:
                raise RuntimeError(
                    f"{api}: Expected f(*args) to return a scalar Tensor, got tensor with {value.ndim} dims. Maybe you wanted to use "
                    "the vjp or jacrev APIs instead?"
                )
            out = inputs.inside(value)
            reaching = inputs.reaching([out])
            outside = inputs.outer and reaching
            found = inputs.pulled([out], [creation.ones_like(out)], outside, reaching or has_aux)
            made = inputs.tree(found, structure)
            value = value if outside else value.detach()
            return made, (value, inputs.released(aux)) if has_aux else value

    return both


def value_and_grad(func, argnums=0, has_aux=False):
    """A function of the same arguments that gives the value of a scalar function, and its gradient: see `grad_and_value`."""
    both = grad_and_value(func, argnums, has_aux)
    return functools.wraps(func, updated=())(lambda *args, **kwargs: both(*args, **kwargs)[::-1])


def grad(func, argnums=0, has_aux=False):
    """A function of the same arguments that gives the gradient of a scalar function: see `grad_and_value`.

    With `has_aux` it gives ``(gradient, aux)``.
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func, updated=())
    def gradient(*args, **kwargs):
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def vjp(func, *primals, has_aux=False):
    """The value of a function, and a function that multiplies a cotangent with its Jacobian, from the left.

    Returns
    -------
    tuple
        ``(output, vjp_fn)`` or ``(output, vjp_fn, aux)``. ``vjp_fn(cotangents)`` takes what has the structure of the output and gives
        a tuple of what has the structure of the inputs.
    """
    api = "vjp(f, *primals)"
    with Differentiation() as inputs:
        given, structure = inputs.replace(primals, tuple(range(len(primals))))
        outputs, aux = with_aux(func(*given), has_aux, api)
        leaves, form = tensors_of(outputs, api)
        for x in leaves:
            if not x.dtype.is_floating_point:
                raise RuntimeError(
                    "vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype "
                    f"{x.dtype.name}"
                )
        wide = [inputs.inside(x) for x in leaves]
        outside = inputs.connected(wide)
        shown = inputs.released(outputs)
        aux = inputs.released(aux)

    def vjp_fn(cotangents, retain_graph=True, create_graph=None):
        """The product of a cotangent with the Jacobian."""
        found, other = flatten(cotangents)
        if other != form:
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. cotangents: "
                f"{other}, primal output: {form}"
            )
        for k, (c, x) in enumerate(zip(found, leaves, strict=True)):
            if tuple(c.shape) != tuple(x.shape):
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[{k}] has a shape of {c.shape} and output[{k}] has a shape of {x.shape}."
                )

        def pull(rows):
            rows = [inputs.inside(c.to(o.dtype)) for c, o in zip(rows, wide, strict=True)]
            graph = is_grad_enabled() and (outside or any(c.requires_grad for c in rows))
            graph = graph if create_graph is None else create_graph
            return [wrapped(g, inputs.levels) for g in inputs.pulled(wide, rows, graph, retain_graph)]

        return unflatten(each_entry(pull, found, inputs.levels), structure)

    return (shown, vjp_fn, aux) if has_aux else (shown, vjp_fn)


def differential(inputs, wide):
    """Functions of one tangent for each input, that give the tangents of outputs: by a gradient of a gradient.

    The gradient is linear in its cotangent v, and what multiplies v is the Jacobian: its derivative by v is the Jacobian from the
    other side.
    """
    seeds = [creation.zeros_like(x).requires_grad_() for x in wide]
    pairs = [(o, v) for o, v in zip(wide, seeds, strict=True) if o.requires_grad]
    found = [None] * len(inputs.inner)
    if pairs:
        outputs, given = zip(*pairs, strict=True)
        found = autograd.grad(outputs, inputs.inner, given, create_graph=True, allow_unused=True)

    def push(tangents, create_graph):
        known = [(g, t) for g, t in zip(found, tangents, strict=True) if g is not None and g.requires_grad]
        made = [None] * len(seeds)
        if known:
            gradients, given = zip(*known, strict=True)
            made = autograd.grad(
                gradients, seeds, given, retain_graph=True, create_graph=create_graph, allow_unused=True
            )
        return made

    return push


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """The value of a function, and its Jacobian times a tangent; by a gradient of a gradient.

    Parameters
    ----------
    primals, tangents : tuple
        The inputs, and a direction for each.
    strict : bool
        Fail where the output does not depend on the inputs.

    Returns
    -------
    tuple
        ``(output, tangent)`` or ``(output, tangent, aux)``.
    """
    api = "jvp(f, primals, tangents)"
    if not isinstance(primals, tuple):
        raise RuntimeError(f"{api}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")
    directions, form = flatten(tangents)
    points, structure = flatten(primals)
    if form != structure:
        raise RuntimeError(
            f"{api}: Expected primals and tangents to have the same python structure. For example, if primals is a tuple of 3 tensors, "
            f"tangents also must be. Got primals with structure {structure} and tangents with structure {form}"
        )
    for name, leaves in (("primals", points), ("tangents", directions)):
        if not leaves:
            raise RuntimeError(f"{api}: Expected {name} to contain at least one Tensor.")
        for x in leaves:
            if not isinstance(x, Tensor):
                raise RuntimeError(f"{api}: Expected {name} to only contain Tensors, got {type(x)}")
    for x, t in zip(points, directions, strict=True):
        if tuple(x.shape) != tuple(t.shape):
            raise RuntimeError(
                "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not supported. "
                f"Tensor is of size {list(x.shape)} while the given forward gradient is of size {list(t.shape)}."
            )
    with Differentiation() as inputs:
        given, _ = inputs.replace(primals, tuple(range(len(primals))))
        outputs, aux = with_aux(func(*given), has_aux, api)
        leaves, form = tensors_of(outputs, api)
        wide = [inputs.inside(x) for x in leaves]
        rows = [inputs.inside(t.to(x.dtype)) for t, x in zip(directions, points, strict=True)]
        outside = inputs.connected(wide) or (inputs.outer and any(t.requires_grad for t in rows))
        made = differential(inputs, wide)(rows, outside)
        if strict and any(t is None for t in made):
            raise RuntimeError(
                "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This is not allowed with "
                "strict=True."
            )
        made = [creation.zeros_like(x) if t is None else t for t, x in zip(made, wide, strict=True)]
        pushed = unflatten([wrapped(t if outside else t.detach(), inputs.levels) for t in made], form)
        shown = inputs.released(outputs)
        return (shown, pushed, inputs.released(aux)) if has_aux else (shown, pushed)
