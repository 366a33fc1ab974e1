"""Element types, under PyTorch's names."""

import builtins

import numpy as np

from numbatensor.core.promotion import CODES, DTYPES, PROMOTE, default_dtype


class dtype:
    """The type of a tensor's elements. `nt.float32` and its like are the only instances."""

    __slots__ = ("code", "numpy", "name")

    def __init__(self, code):
        self.code, self.numpy = code, np.dtype(DTYPES[code])
        self.name = self.numpy.name

    @property
    def is_floating_point(self):
        """Whether it is a float."""
        return self.numpy.kind == "f"

    @property
    def itemsize(self):
        """Bytes of an element."""
        return self.numpy.itemsize

    def __repr__(self):
        return f"numbatensor.{self.name}"

    def __reduce__(self):
        return as_dtype, (self.name,)


ALL = [dtype(code) for code in range(len(DTYPES))]
bool, uint8, int8, int16, int32, int64, float32, float64 = ALL
float, double, int, long, short = float32, float64, int32, int64, int16
PYTHON = {builtins.bool: bool, builtins.int: int64, builtins.float: float32}


def as_dtype(x):
    """The dtype that a dtype, a NumPy dtype, a name or a Python type means.

    Raises
    ------
    TypeError
        If there is no such dtype.
    """
    if isinstance(x, dtype):
        return x
    if x in PYTHON:
        return get_default_dtype() if PYTHON[x] is float32 else PYTHON[x]
    try:
        return ALL[CODES[np.dtype(x)]]
    except (TypeError, KeyError):
        raise TypeError(f"numbatensor has no dtype {x!r}; there are {', '.join(d.name for d in ALL)}") from None


def get_default_dtype():
    """The dtype of floats where none is named."""
    return ALL[default_dtype[0]]


def set_default_dtype(d):
    """Choose the dtype of floats where none is named: float32 or float64."""
    d = as_dtype(d)
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    default_dtype[0] = d.code


def promote_types(x, y):
    """The smallest dtype that both promote to."""
    return ALL[PROMOTE[as_dtype(x).code, as_dtype(y).code]]
