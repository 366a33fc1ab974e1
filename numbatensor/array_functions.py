"""What NumPy's other functions do with Tensors: those that have a counterpart here give recorded Tensors, all others what NumPy makes of them.

NumPy asks the methods of that name for `np.sum`, `np.mean`, `np.reshape` and their like; what has no method becomes an array, of Tensors
that need no gradient.
"""

import inspect

import numpy as np

from numbatensor import functional, indexing, joining, linear_algebra
from numbatensor.making import as_operand
from numbatensor.tensor import Tensor

COUNTERPARTS: dict = {}  # by NumPy's function: ours, with NumPy's names of the parameters, and its signature


def counterpart(of):
    """Declare what runs in the place of a function of NumPy."""

    def declared(function):
        COUNTERPARTS[of] = function, inspect.signature(function)
        return function

    return declared


def all_or_along(name):
    """A function along an axis, or over all elements in one row where none is given."""

    def function(a, axis=None):
        return getattr(a.reshape(-1) if axis is None else a, name)(0 if axis is None else axis)

    return function


def searched(name):
    """A function along an axis, or over all elements, whose dimension may be kept."""
    return lambda a, axis=None, *, keepdims=False: getattr(functional, name)(a, axis, keepdims)


def operands(*values):
    """Arrays as Tensors; what is not given stays None."""
    return [value if value is None else as_operand(value) for value in values]


counterpart(np.where)(lambda condition, x=None, y=None: functional.where(*operands(condition, x, y)))
counterpart(np.clip)(lambda a, a_min=None, a_max=None: functional.clamp(*operands(a, a_min, a_max)))
for name in ("argmax", "argmin"):
    counterpart(getattr(np, name))(searched(name))
for name in ("cumsum", "cumprod"):
    counterpart(getattr(np, name))(all_or_along(name))
counterpart(np.concatenate)(lambda arrays, axis=0: joining.cat(arrays, axis))
counterpart(np.stack)(lambda arrays, axis=0: joining.stack(arrays, axis))
counterpart(np.hstack)(lambda tup: joining.hstack(tup))
counterpart(np.vstack)(lambda tup: joining.vstack(tup))
counterpart(np.sort)(lambda a, axis=-1: indexing.sort(a, axis).values)
counterpart(np.argsort)(lambda a, axis=-1: indexing.argsort(a, axis))
counterpart(np.outer)(lambda a, b: linear_algebra.outer(*(x.reshape(-1) for x in operands(a, b))))
counterpart(np.einsum)(lambda subscripts, *arrays: linear_algebra.einsum(subscripts, *operands(*arrays)))
counterpart(np.tril)(lambda m, k=0: functional.tril(m, k))
counterpart(np.triu)(lambda m, k=0: functional.triu(m, k))
counterpart(np.isclose)(
    lambda a, b, rtol=1e-05, atol=1e-08, equal_nan=False: functional.isclose(a, b, rtol, atol, equal_nan)
)


def call(self, func, types, args, kwargs):
    """A function of NumPy with Tensors among its arguments."""
    if not all(issubclass(kind, (Tensor, np.ndarray)) for kind in types):
        return NotImplemented
    ours, known = COUNTERPARTS.get(func, (None, None))
    if ours is not None:
        try:
            known.bind(*args, **kwargs)
        except TypeError:  # arguments that only NumPy knows
            ours = None
    return func._implementation(*args, **kwargs) if ours is None else ours(*args, **kwargs)


Tensor.__array_function__ = call  # type: ignore[attr-defined]
