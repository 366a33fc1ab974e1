"""Tensors joined, and taken apart."""

import builtins

import numpy as np

from numbatensor.core import entries
from numbatensor.op import Recorded, from_array
from numbatensor.tensor import as_operand, wrap_dim


def cat(tensors, dim=0, *, axis=None):
    """Tensors joined along a dimension."""
    tensors = [as_operand(t) for t in tensors]
    if not tensors:
        raise RuntimeError("cat(): expected a non-empty list of Tensors")
    tensors = [t for t in tensors if t.shape != (0,)] or tensors[:1]
    dim = wrap_dim(dim if axis is None else axis, tensors[0].ndim)
    made = from_array(np.concatenate([t.array() for t in tensors], axis=dim))
    starts = np.cumsum([0, *[t.shape[dim] for t in tensors]]).tolist()
    for k in range(len(tensors)):
        if f"t{k}" not in CAT.rules:
            CAT.rules[f"t{k}"] = Joined(k)
    return CAT.record(made, {f"t{k}": t for k, t in enumerate(tensors)}, {"dim": dim, "starts": starts})


class Joined:
    """The rules of a join: input k's gradient is its part of the whole."""

    def __init__(self, k):
        self.k = k

    def __call__(self, grad, dim, starts):
        return grad.narrow(dim, starts[self.k], starts[self.k + 1] - starts[self.k])


CAT = Recorded("cat", "Tensors joined along a dimension.").backward()


def stack(tensors, dim=0, *, axis=None):
    """Tensors joined along a new dimension."""
    dim = dim if axis is None else axis
    return cat([t.unsqueeze(dim) for t in tensors], wrap_dim(dim, tensors[0].ndim + 1))


def hstack(tensors):
    """Tensors joined side by side."""
    tensors = [t.reshape(1) if t.ndim == 0 else t for t in tensors]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def vstack(tensors):
    """Tensors joined one above the other."""
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)


def split(tensor, split_size_or_sections, dim=0):
    """Views of parts of a dimension, of one size or of given sizes."""
    dim, sizes = wrap_dim(dim, tensor.ndim), split_size_or_sections
    n = tensor.shape[dim]
    if isinstance(sizes, int):
        sizes = [builtins.min(sizes, n - k) for k in range(0, n, sizes)] or [0]
    if sum(sizes) != n:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but got "
            f"split_sizes={list(sizes)}"
        )
    starts = np.cumsum([0, *sizes]).tolist()
    return restricted(tensor.narrow(dim, s, k) for s, k in zip(starts[:-1], sizes, strict=True))


def chunk(input, chunks, dim=0):
    """At most so many views of equal parts of a dimension."""
    n = input.shape[wrap_dim(dim, input.ndim)]
    return split(input, builtins.max(1, -(-n // chunks)), dim)


def unbind(input, dim=0):
    """Views of all slices of a dimension."""
    dim = wrap_dim(dim, input.ndim)
    return restricted(input.select(dim, k) for k in range(input.shape[dim]))


def restricted(views):
    """Views that came out of one call: they must not be written in place."""
    made = tuple(views)
    for v in made:
        entries.set_restriction(v, 1)
    return made
