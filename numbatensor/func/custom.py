"""Custom Functions inside of `vmap`: by their own `vmap` method, or, where they ask for a generated rule, entry by entry."""

import typing

from numbatensor import joining
from numbatensor.func.batched import KINDS, Batched, at
from numbatensor.func.trees import flatten, unflatten
from numbatensor.hollow import running
from numbatensor.tensor import Tensor


class VmapInfo(typing.NamedTuple):
    """What a Function's `vmap` method is told about the vmap."""

    batch_size: int
    randomness: str


def custom(function, level, args):
    """A custom Function of whole batches.

    Its method is ``vmap(info, in_dims, *args) -> outputs, out_dims``. PyTorch's generated rule maps forward and backward; here they run for
    each entry, with the same result.
    """
    own, generated = getattr(function, "vmap", None), getattr(function, "generate_vmap_rule", False)
    if own is not None and generated:
        raise RuntimeError(
            f"You tried to vmap over {function.__name__}, but it has both generate_vmap_rule=True and an overriden vmap staticmethod. "
            "Please set generate_vmap_rule=False or delete the overriden vmap staticmethod to avoid ambiguity."
        )
    if own is None and not generated:
        raise RuntimeError(
            f"You tried to vmap over {function.__name__}, but it does not have vmap support. Please override and implement the vmap "
            "staticmethod or set generate_vmap_rule=True."
        )
    running.levels.remove(level)
    try:
        if own is not None:
            return mapped(function, level, args)
        if level.size == 0:
            raise RuntimeError(f"vmap: {function.__name__} runs entry by entry, and an empty batch has none")
        rows = [function.apply(*[a.value.select(0, k) if at(a, level) else a for a in args]) for k in range(level.size)]
    finally:
        running.levels.append(level)
    columns = zip(*[flatten(r)[0] for r in rows], strict=True)
    return unflatten([Batched(joining.stack(c), level) for c in columns], flatten(rows[0])[1])


def mapped(function, level, args):
    """The outputs of a Function's own `vmap` method."""
    in_dims = tuple(0 if at(a, level) else None for a in args)
    outputs, out_dims = function.vmap(
        VmapInfo(level.size, level.randomness), in_dims, *[a.value if at(a, level) else a for a in args]
    )
    several = isinstance(outputs, tuple)
    outputs, dims = (outputs, out_dims) if several else ((outputs,), (out_dims,))
    dims = dims if isinstance(dims, tuple) else (dims,) * len(outputs)
    made = tuple(
        Batched(x.movedim(d, 0), level) if d is not None and isinstance(x, Tensor) else x
        for x, d in zip(outputs, dims, strict=True)
    )
    return made if several else made[0]


KINDS["custom"] = custom
