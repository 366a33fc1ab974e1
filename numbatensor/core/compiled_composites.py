"""Functions made of several ops, as users' compiled code calls them in their common forms."""

from numbatensor.core.compiled import checked, left
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.dispatch import perform
from numbatensor.core.joining import joined
from numbatensor.core.memory import decref, store
from numbatensor.core.records import arguments_at, new_arguments, tensor_at
from numbatensor.core.sites import enter_site


@native
def compiled_join(op, parts, count, dim, kind, site):
    """`cat` or `stack` of tensors, by the address of an array of their addresses."""
    enter_site(site)
    return checked(left(attempt(symbol("joined"), op, parts, count, dim, 0)), kind)


@native
def clamped(arguments):
    """Tensor 0 between bounds 1 and 2."""
    a, inner = arguments_at(arguments), new_arguments()
    b = arguments_at(inner)
    low = perform(symbol("op_clamp_min"), arguments)
    b.count, b.room, b.tensors[0], b.kinds[0] = 2, 0, low, 0
    b.tensors[1], b.kinds[1], b.numbers[1] = a.tensors[2], a.kinds[2], a.numbers[2]
    made = attempt(symbol("perform"), symbol("op_clamp_max"), inner)
    decref(low)
    if made == -1:
        fail()
    return made


@native
def compiled_clamp(arguments, kind, site):
    """`clamp` with two bounds."""
    enter_site(site)
    return checked(left(attempt(symbol("clamped"), arguments)), kind)


@native
def picked(x, dim, indices, drops):
    """The elements at the indices of a dimension that a search found; `drops`: without that dimension."""
    arguments = new_arguments()
    a = arguments_at(arguments)
    a.room, a.tensors[0], a.kinds[0] = 0, x, 0
    if tensor_at(x).ndim == 0:
        a.count = 1
        return perform(symbol("op_clone"), arguments)
    a.count, a.tensors[1], a.kinds[1], a.tensors[2], a.kinds[2], a.numbers[2] = 3, indices, 0, 0, 2, dim
    values = perform(symbol("op_gather"), arguments)
    if drops == 0:
        return values
    made = attempt(symbol("without_dim"), values, dim)
    decref(values)
    if made == -1:
        fail()
    return made


@native
def without_dim(x, dim):
    """A view without a dimension of size 1."""
    arguments = new_arguments()
    a = arguments_at(arguments)
    a.count, a.room, a.tensors[0], a.kinds[0] = 2, 0, x, 0
    a.tensors[1], a.kinds[1], a.numbers[1] = 0, 2, dim
    return perform(symbol("op_squeeze"), arguments)


@native
def found(op, arguments, dim, drops, place):
    """What a search along a dimension finds: the values; the indices are stored at `place`."""
    x = arguments_at(arguments).tensors[0]
    indices = perform(op, arguments)
    values = attempt(symbol("picked"), x, dim, indices, drops)
    if values != -1 and drops and tensor_at(x).ndim:
        kept = indices
        indices = attempt(symbol("without_dim"), kept, dim)
        decref(kept)
        if indices == -1:
            decref(values)
            fail()
    if values == -1:
        decref(indices)
        fail()
    store(place, indices)
    return values


@native
def compiled_found(op, arguments, dim, drops, place, kind, site):
    """`sort`, `topk`, and `max` or `min` along a dimension, by the op that finds the indices."""
    enter_site(site)
    store(place, 0)
    return checked(left(attempt(symbol("found"), op, arguments, dim, drops, place)), kind)


assert joined  # reached through its symbol
