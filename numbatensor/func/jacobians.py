"""Jacobians and Hessians.

Their rows come from one backward pass each, over one graph. Passes run natively: of a function of five small ops one takes about 5 us,
little more than one op on batched tensors (4 us); and the function itself runs once, not for a batch of rows.
"""

import functools
import math

from numbatensor import creation, joining
from numbatensor.func.differentiation import Differentiation, tensors_of, with_aux
from numbatensor.func.gradients import differential
from numbatensor.func.trees import unflatten


def directions(x, inputs):
    """For each element of an entry of x, a tensor like x that is 1 there, in all entries, and 0 elsewhere."""
    lead, shape = len(inputs.levels), inputs.shape(x)
    n = math.prod(shape)
    rows = creation.eye(n, dtype=x.dtype).reshape(n, *[1] * lead, *shape)
    return rows.expand(n, *x.shape).unbind(0) if n else ()


def assembled(rows, x, y, inputs, dim):
    """Derivatives of y by x, of the shape of both: from one tensor for each element of one, put along a dimension."""
    lead = tuple(x.shape[: len(inputs.levels)])
    shape = (*lead, *inputs.shape(y), *inputs.shape(x))
    if not rows:
        return creation.zeros(shape, dtype=y.dtype)
    return joining.stack(rows, dim).reshape(shape)


def jacrev(func, argnums=0, *, has_aux=False, chunk_size=None):
    """A function of the same arguments that gives the Jacobian, by one backward pass for each element of the output.

    Parameters
    ----------
    func : callable
        Gives tensors, or trees of them; with `has_aux`, those and anything else.
    argnums : int or tuple of int
        The arguments, tensors or trees of them, with respect to which the Jacobian is.
    chunk_size : int, optional
        Of PyTorch: how many rows it computes at a time. Here they are computed one by one.

    Returns
    -------
    callable
        Gives a tree like the output, of trees like the arguments, of tensors of the shape of the output followed by the argument's.
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func, updated=())
    def jacobian(*args, **kwargs):
        api = "vjp(f, *primals)"
        with Differentiation() as inputs:
            args, structure = inputs.replace(args, argnums)
            outputs, aux = with_aux(func(*args, **kwargs), has_aux, api)
            leaves, form = tensors_of(outputs, api)
            parts = []
            for out in leaves:
                if not out.dtype.is_floating_point:
                    raise RuntimeError(
                        "vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype "
                        f"{out.dtype.name}"
                    )
                y = inputs.inside(out)
                outside = inputs.connected([y])
                rows = [inputs.pulled([y], [seed], outside) for seed in directions(y, inputs)]
                columns = zip(*rows, strict=True) if rows else [()] * len(inputs.inner)
                found = [
                    assembled(list(c), x, y, inputs, len(inputs.levels))
                    for c, x in zip(columns, inputs.inner, strict=True)
                ]
                parts.append(inputs.tree(found, structure))
            made = unflatten(parts, form)
            return (made, inputs.released(aux)) if has_aux else made

    return jacobian


def jacfwd(func, argnums=0, has_aux=False, *, randomness="error"):
    """A function of the same arguments that gives the Jacobian, by one backward pass for each element of the input: see `jacrev`.

    It costs less than `jacrev` where outputs have more elements than inputs.
    """

    @functools.wraps(func, updated=())
    def jacobian(*args, **kwargs):
        api = "jvp(f, primals, tangents)"
        with Differentiation() as inputs:
            args, structure = inputs.replace(args, argnums)
            outputs, aux = with_aux(func(*args, **kwargs), has_aux, api)
            leaves, form = tensors_of(outputs, api)
            wide = [inputs.inside(x) for x in leaves]
            outside = inputs.connected(wide)
            push = differential(inputs, wide)
            table = [[] for _ in wide]  # of each output: derivatives by each input
            for k, x in enumerate(inputs.inner):
                columns = []
                for direction in directions(x, inputs):
                    tangents = [direction if j == k else creation.zeros_like(z) for j, z in enumerate(inputs.inner)]
                    made = push(tangents, outside)
                    columns.append(
                        [creation.zeros_like(y) if t is None else t for t, y in zip(made, wide, strict=True)]
                    )
                for i, y in enumerate(wide):
                    found = assembled([c[i] for c in columns], x, y, inputs, y.ndim)
                    table[i].append(found if outside else found.detach())
            made = unflatten([inputs.tree(found, structure) for found in table], form)
            return (made, inputs.released(aux)) if has_aux else made

    return jacobian


def hessian(func, argnums=0):
    """A function of the same arguments that gives the second derivatives: `jacrev` of `jacrev`.

    PyTorch's is `jacfwd` of `jacrev`, with the same result; here a forward derivative would be two more backward ones.
    """
    return jacrev(jacrev(func, argnums), argnums)
