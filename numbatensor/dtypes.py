"""Element types, under PyTorch's names."""

import builtins

import numpy as np

from numbatensor.core.promotion import CODES, DTYPES, NAMES, PROMOTE, default_dtype
from numbatensor.core.tensors import BFLOAT16, FLOAT32


class dtype:
    """The type of a tensor's elements. `nt.float32` and its like are the only instances.

    `itemsize`: bytes of an element. `numpy`: the NumPy dtype of their numbers: float32 for bfloat16, which NumPy does not have.
    """

    __slots__ = ("code", "itemsize", "name", "numpy")

    def __init__(self, code):
        self.code, self.name, self.itemsize = code, NAMES[code], np.dtype(DTYPES[code]).itemsize
        self.numpy = np.dtype(np.float32 if code == BFLOAT16 else DTYPES[code])

    @property
    def is_floating_point(self):
        """Whether it is a float."""
        return self.code >= FLOAT32

    def __repr__(self):
        return f"numbatensor.{self.name}"

    def __reduce__(self):
        return as_dtype, (self.name,)


ALL = [dtype(code) for code in range(len(DTYPES))]
bool, uint8, int8, int16, int32, int64, float32, float64, float16, bfloat16 = ALL
float, double, half, int, long, short = float32, float64, float16, int32, int64, int16
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
        return ALL[NAMES.index(x) if x in NAMES else code_of(np.dtype(x))]
    except (TypeError, KeyError):
        raise TypeError(f"numbatensor has no dtype {x!r}; there are {', '.join(d.name for d in ALL)}") from None


def code_of(dtype):
    """The code of a NumPy dtype; bfloat16 is one that another package has taught NumPy. Raises KeyError."""
    return BFLOAT16 if dtype.name == "bfloat16" else CODES[dtype]


def get_default_dtype():
    """The dtype of floats where none is named."""
    return ALL[default_dtype[0]]


def set_default_dtype(d):
    """Choose the dtype of floats where none is named."""
    d = as_dtype(d)
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    default_dtype[0] = d.code


class finfo:
    """The limits of a floating-point dtype, of the default one where none is named.

    `bits`; `eps`: the step from 1 to the next number; `max` and `min`; `tiny`, also `smallest_normal`; `resolution`: ``10**-precision``.
    `digits`: binary digits, so that all integers up to ``2**digits`` are numbers of the dtype.
    """

    def __init__(self, dtype=None):
        d = get_default_dtype() if dtype is None else as_dtype(dtype)
        if not d.is_floating_point:
            raise TypeError(f"finfo() requires a floating point input type. Use iinfo to handle {d}")
        found = np.finfo(d.numpy)
        self.dtype, self.bits, self.digits = d.name, 8 * d.itemsize, 8 if d is bfloat16 else found.nmant + 1
        self.eps = 2.0 ** (1 - self.digits)
        self.tiny = self.smallest_normal = builtins.float(found.tiny)
        self.max = (2.0 - self.eps) * 2.0 ** (found.maxexp - 1)
        self.min = -self.max
        self.resolution = 0.01 if d is bfloat16 else 10.0**-found.precision

    def __repr__(self):
        named = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in named)}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype: `bits`, `min`, `max`."""

    def __init__(self, dtype):
        d = as_dtype(dtype)
        if d.is_floating_point or d is bool:
            raise TypeError(f"iinfo() requires an integer input type, not {d}")
        found = np.iinfo(d.numpy)
        self.dtype, self.bits, self.min, self.max = d.name, found.bits, found.min, found.max

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def promote_types(x, y):
    """The smallest dtype that both promote to."""
    return ALL[PROMOTE[as_dtype(x).code, as_dtype(y).code]]
