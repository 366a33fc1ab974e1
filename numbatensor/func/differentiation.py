"""One transform's view of its inputs: fresh aliases to differentiate with respect to, that stay part of what is outside.

Transforms nest without knowing of each other: an inner one differentiates with respect to an alias of its input. Where the input itself
has a history, the alias is a view of it, and the gradient that the inner transform makes is recorded for the outer one. Inside of `vmap`
an input becomes Batched in every vmap that runs, so that each entry has a gradient of its own.
"""

import contextlib

from numbatensor import autograd, creation, joining
from numbatensor.autograd import enable_grad, inference_mode, is_grad_enabled
from numbatensor.func.batched import Batched, at, lifted, unwrapped, wrapped
from numbatensor.func.trees import flatten, mapped, unflatten
from numbatensor.hollow import running
from numbatensor.tensor import Tensor


class Differentiation:
    """The inputs of a function, ready to be differentiated with respect to: a context in which ops are recorded.

    Attributes
    ----------
    levels : tuple of Level
        The vmaps that run.
    outer : bool
        Whether ops were recorded before, so that graphs outside may want what is computed here.
    inner : list of Tensor
        The aliases, with the dimensions of all batches first.
    """

    def __init__(self):
        self.levels, self.outer, self.inner = tuple(running.levels), is_grad_enabled(), []
        self.modes = contextlib.ExitStack()

    def __enter__(self):
        self.modes.enter_context(inference_mode(False))
        self.modes.enter_context(enable_grad())
        return self

    def __exit__(self, *error):
        self.modes.__exit__(*error)

    def replace(self, args, argnums):
        """The arguments with aliases for those that are chosen, and the structure of these."""
        places = chosen(args, argnums)
        given = [mapped(self.alias, args[k]) for k in places]
        made = list(args)
        for k, x in zip(places, given, strict=True):
            made[k] = x
        return made, flatten(tuple(given) if isinstance(argnums, tuple) else given[0])[1]

    def tree(self, found, structure):
        """What was found for each input, Batched again, in the structure of the inputs."""
        return unflatten([wrapped(x, self.levels) for x in found], structure)

    def alias(self, x):
        """What the function gets in place of an input."""
        if not isinstance(x, Tensor):
            raise ValueError(f"Thing passed to transform API must be Tensor, got {type(x)}")
        if not x.dtype.is_floating_point:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        x = self.inside(x)
        x = x.clone() if x.is_inference() else x
        x = x.expand(x.shape) if self.outer and x.requires_grad else x.detach().requires_grad_()
        self.inner.append(x)
        return wrapped(x, self.levels)

    def inside(self, x):
        """The tensor of all batches, of which the dimensions come first."""
        return unwrapped(lifted(x, self.levels))

    def shape(self, x):
        """The shape of one entry of such a tensor."""
        return tuple(x.shape[len(self.levels) :])

    def connected(self, outputs):
        """Whether gradients of tensors have to be recorded for graphs outside."""
        return self.outer and self.reaching(outputs)

    def reaching(self, outputs):
        """Whether tensors depend on anything outside that requires a gradient."""
        inner = {x.expand(x.shape).grad_fn.next_functions[0][0] for x in self.inner if x.is_leaf}
        if len(inner) < len(self.inner):  # an input has a history
            return True
        left = [x.expand(x.shape).grad_fn for x in outputs if x.requires_grad]
        seen = set(left)
        while left:
            node = left.pop()
            following = [n for n, _ in node.next_functions if n is not None]
            if not following and node not in inner:
                return True
            for n in following:
                if n not in seen:
                    seen.add(n)
                    left.append(n)
        return False

    def released(self, tree):
        """Results without a history that ends in the aliases only."""

        def release(x):
            if not isinstance(x, Tensor) or not x.requires_grad:
                return x
            return x if self.connected([unwrapped(x)]) else x.detach()

        return mapped(release, tree)

    def pulled(self, outputs, cotangents, create_graph, retain_graph=True):
        """The gradients with respect to the inputs; zeros where an output does not depend on them."""
        pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
        found = [None] * len(self.inner)
        if pairs:
            found = autograd.grad(
                [o for o, _ in pairs],
                self.inner,
                [c for _, c in pairs],
                retain_graph=retain_graph,
                create_graph=create_graph,
                allow_unused=True,
            )
        return [creation.zeros_like(x) if g is None else g for x, g in zip(self.inner, found, strict=True)]


def each_entry(function, tensors, levels):
    """A function of tensors that are Batched in no other levels than these; those that are, are taken entry by entry."""
    more = [t.level for t in tensors if isinstance(t, Batched) and t.level not in levels]
    if not more:
        return function(tensors)
    level = max(more, key=lambda one: one.number)
    rows = [
        each_entry(function, [t.value.select(0, k) if at(t, level) else t for t in tensors], levels)
        for k in range(level.size)
    ]
    if not rows:
        empty = function([t.value.new_zeros(t.shape) if at(t, level) else t for t in tensors])
        return [Batched(x.expand(0, *x.shape), level) for x in empty]
    return [Batched(joining.stack(column), level) for column in zip(*rows, strict=True)]


def tensors_of(outputs, api):
    """The leaves of what a function gave, which must be tensors, and their structure."""
    leaves, structure = flatten(outputs)
    if not leaves or leaves == [None]:
        raise RuntimeError(f"{api}: Expected f to be a function that has non-empty output (got output = {leaves})")
    for x in leaves:
        if not isinstance(x, Tensor):
            raise RuntimeError(f"{api}: expected f(*primals) to return only tensors, got unsupported type {type(x)}")
    return leaves, structure


def with_aux(outputs, has_aux, api):
    """What a function gave, as (output, aux)."""
    if not has_aux:
        return outputs, None
    if not (isinstance(outputs, tuple) and len(outputs) == 2):
        raise RuntimeError(f"{api}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return outputs


def chosen(args, argnums):
    """The places of arguments, counted from the front."""
    if not isinstance(argnums, (int, tuple)):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    places = []
    for k in (argnums,) if isinstance(argnums, int) else argnums:
        if not isinstance(k, int):
            raise RuntimeError(f"argnum must be int, got: {type(k)}")
        if not -len(args) <= k < len(args):
            raise RuntimeError(f"Got argnum={k}, but only {len(args)} positional inputs")
        places.append(k % len(args))
    if not places:
        raise RuntimeError("argnums must be non-empty")
    if len(set(places)) != len(places):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    return places
