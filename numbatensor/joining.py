"""Tensors joined, and taken apart."""

import builtins

import numpy as np

from numbatensor.core import entries
from numbatensor.core.graph import FUNCTION, MULTIPLE, OUTPUT
from numbatensor.core.modes import get_grad
from numbatensor.hollow import Hollow
from numbatensor.making import as_operand
from numbatensor.messages import MANY
from numbatensor.ops import arranging
from numbatensor.tensor import Tensor, wrap_dim


def parts(tensors, name):
    """The tensors of a sequence."""
    if isinstance(tensors, Tensor):
        raise TypeError(f"{name}(): argument 'tensors' must be a tuple of Tensors, not Tensor")
    made = [as_operand(t) for t in tensors]
    if not made:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    for k, t in enumerate(made):
        if not isinstance(t, Tensor):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type(t).__name__}")
    return made


def cat(tensors, dim=0, *, axis=None, out=None):
    """Tensors joined along a dimension, in the dtype that they promote to."""
    return arranging.cat(parts(tensors, "cat()"), dim if axis is None else axis, out)


def stack(tensors, dim=0, *, axis=None, out=None):
    """Tensors joined along a new dimension."""
    return arranging.stack(parts(tensors, "stack()"), dim if axis is None else axis, out)


def hstack(tensors):
    """Tensors joined side by side."""
    made = [t.reshape(1) if t.ndim == 0 else t for t in parts(tensors, "hstack()")]
    return cat(made, 0 if made[0].ndim == 1 else 1)


def vstack(tensors):
    """Tensors joined one above the other."""
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in parts(tensors, "vstack()")], 0)


def split(tensor, split_size_or_sections, dim=0):
    """Views of parts of a dimension, of one size or of given sizes."""
    dim, sizes = wrap_dim(dim, tensor.ndim), split_size_or_sections
    if tensor.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    n = tensor.shape[dim]
    if isinstance(sizes, int):
        if sizes < 0 or (sizes == 0 and n):
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={sizes}")
        sizes = [builtins.min(sizes, n - k) for k in range(0, n, sizes)] if n else [0]
    if sum(sizes) != n or builtins.any(k < 0 for k in sizes):
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but got "
            f"split_sizes={list(sizes)}"
        )
    starts = np.cumsum([0, *sizes]).tolist()
    views = [tensor.narrow(dim, s, k) for s, k in zip(starts[:-1], sizes, strict=True)]
    return restricted(views, "Split" if isinstance(split_size_or_sections, int) else "SplitWithSizes")


def chunk(input, chunks, dim=0):
    """At most so many views of equal parts of a dimension."""
    if chunks < 1:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    dim = wrap_dim(dim, input.ndim)
    n = input.shape[dim] if input.ndim else 0
    if input.ndim and n == 0:
        return split(input, [0] * chunks, dim)
    return split(input, builtins.max(1, -(-n // chunks)), dim)


def unbind(input, dim=0):
    """Views of all slices of a dimension."""
    dim = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        raise RuntimeError("Dimension specified as 0 but tensor has no dimensions")
    return restricted([input.select(dim, k) for k in range(input.shape[dim])], "Unbind")


def restricted(views, name):
    """Views that came out of one call: they must not be written in place."""
    if get_grad():
        for k, v in enumerate(views):
            if not isinstance(v, Hollow):
                entries.set_restriction(v, MULTIPLE | MANY.index(name) << FUNCTION | k << OUTPUT)
    return tuple(views)
