"""C functions made of functions of Tensors, with their gradients: `nt.cfunc`."""

import ctypes
import importlib
import itertools
import operator
import weakref

import numba
import numpy as np
from numba.core import types
from numba.extending import is_jitted

from numbatensor.core.cells import raise_again
from numbatensor.core.compiled_calls import OUT_OF_RANGE
from numbatensor.core.private import normalize_signature
from numbatensor.core.python import callback
from numbatensor.nopython.c_calls import ALL, body_of, c_types
from numbatensor.nopython.registration import TensorType
from numbatensor.nopython.tensor_type import NAMES, NUMBA
from numbatensor.tensor import Tensor

REALS = (types.float32, types.float64)
LARGEST = 2**31 - 1  # of C's int
C_NAMES = {types.float64: "double", types.float32: "float", types.intc: "int"}
C_TYPES = {kind: f"c_{name}" for kind, name in C_NAMES.items()}
C_NAMES |= {types.CPointer(k): f"{C_NAMES[k]} *" for k in REALS}
keepers: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # who keeps the errors of which C functions
numbers = itertools.count()


@callback
def c_function_failed(what, a, b):
    """Keep the error that was put away for the functions of number `a`, or refuse a slope in a number that is not there."""
    if what == OUT_OF_RANGE:
        raise IndexError(f"derivative({a}): the function's arguments have {b} numbers in all")
    try:
        raise_again()
    except BaseException as error:
        keeper = keepers.get(a)
        if keeper is not None and keeper.error is None:
            keeper.error = error
    return 0


class Errors:
    """What went wrong first in the C functions that were made of one function."""

    def __init__(self):
        self.error, self.number = None, next(numbers)
        keepers[self.number] = self

    def check(self):
        error, self.error = self.error, None
        if error is not None:
            raise error


class CFunction:
    """A C function. It never raises: where the function of Tensors does, it returns NaN, and `check` raises the error.

    Attributes
    ----------
    prototype : str
        Its declaration in C.
    address : int
        Where it is, as long as this object lives.
    ctypes
        It as a function of `ctypes`, which keeps this object alive.
    """

    def __init__(self, source, slopes=None):
        self.source = source
        result = source.number
        given = c_types(source.kinds) + ([types.CPointer(result)] if slopes == ALL else [])
        names = ", ".join(f"a{k}" for k in range(len(given)))
        known = {"call": body_of(source.compiled, result, slopes, source.errors.number)}
        exec(f"def c_function({names}):\n    return call(({names},))", known)
        self.compiled = numba.cfunc(result(*given))(known["c_function"])
        self.address, self.ctypes = self.compiled.address, self.compiled.ctypes
        self.ctypes.function = self
        kinds = [
            ctypes.c_void_p if isinstance(k, types.CPointer) else getattr(ctypes, C_TYPES.get(k, f"c_{k}"))
            for k in given
        ]
        self.by_address = ctypes.CFUNCTYPE(self.ctypes.restype, *kinds)(
            self.address
        )  # `POINTER` takes microseconds an array
        self.prototype = f"{C_NAMES[result]} {source.name}({', '.join(C_NAMES.get(k, f'{k}_t') for k in given)})"

    def __repr__(self):
        return f"<C function {self.prototype}>"

    def __call__(self, *args):
        """The number that it gives for numbers, and arrays or Tensors; an error is raised at once."""
        given, _ = self.source.arguments(args)
        return self.run(given)

    def run(self, given):
        found = self.by_address(*given)
        if found != found:
            self.check()
        return found

    @property
    def low_level(self):
        """It as a `scipy.LowLevelCallable`."""
        return importlib.import_module("scipy").LowLevelCallable(self.ctypes)

    def check(self):
        """Raise the first error since the last check, if there was one, of all C functions that were made together."""
        self.source.errors.check()


class Gradient(CFunction):
    """A C function that gives a value, and writes its slopes in all numbers of the arguments, one after the other, where its last
    argument says."""

    def __init__(self, source):
        super().__init__(source, ALL)

    def both(self, args):
        """The value, and the gradient as an array for each Tensor (a number, where C gives one)."""
        given, arrays = self.source.arguments(args)
        out = np.empty(sum(a.size for a in arrays), self.source.dtype)
        value = self.run([*given, out.ctypes.data])
        parts, start = [], 0
        for a in arrays:
            parts.append(out[start : start + a.size].reshape(a.shape) if a.ndim else out[start].item())
            start += a.size
        return value, parts[0] if len(parts) == 1 else tuple(parts)

    def __call__(self, *args):
        return self.both(args)[1]


class Differentiable(CFunction):
    """A C function with its gradient."""

    def __init__(self, source):
        super().__init__(source)
        self.gradient = Gradient(source)

    def value_and_gradient(self, *args):
        """Both, in one pass: for ``jac=True`` of `scipy.optimize.minimize`."""
        return self.gradient.both(args)

    def derivative(self, k):
        """A C function of the same arguments: the slope in the k-th of their numbers, all arguments counted one after the other."""
        if k < 0:
            raise IndexError(f"derivative({k}): numbers are counted from 0 on")
        return CFunction(self.source, (k, k + 1))


class Source:
    """What C functions are made of: a user's function, compiled for the arguments of a signature."""

    def __init__(self, function, signature, gradient):
        arguments, self.number = normalize_signature(signature)
        if self.number not in REALS:
            raise TypeError(
                f"a C function of Tensors gives a float64 or float32, not {self.number}: there is no NaN for errors"
            )
        self.name, self.errors = function.__name__, Errors()
        self.kinds = tuple(map(kind_of, arguments))
        tensors = [k for k in self.kinds if isinstance(k, TensorType)]
        if gradient and {NUMBA[k.dtype] for k in tensors} != {self.number}:
            raise TypeError(f"a gradient of {self.number} needs arguments of it, and no other floats, not {arguments}")
        self.dtype = NAMES[NUMBA.index(self.number)]
        function = function if is_jitted(function) else numba.njit(function)
        function.compile(self.kinds)
        self.compiled = function.overloads[self.kinds]
        result = self.compiled.signature.return_type
        if not isinstance(result, (TensorType, types.Integer, types.Float, types.Boolean)):
            raise TypeError(f"{self.name} must give a Tensor of one element or a number, not {result}")
        if gradient and not isinstance(result, TensorType):
            raise TypeError(f"{self.name} gives a number, which has no gradient: it must give a Tensor of one element")

    def arguments(self, args):
        """What C gets for Python's arguments, and the arrays among them, those of no dimensions too."""
        if len(args) != len(self.kinds):
            raise TypeError(f"{self.name} takes {len(self.kinds)} arguments but {len(args)} were given")
        given, arrays = [], []
        for kind, value in zip(self.kinds, args, strict=True):
            if not isinstance(kind, TensorType):
                given.append(operator.index(value))
                if not kind.minval <= value <= kind.maxval:
                    raise OverflowError(f"{self.name} takes an {kind} here, into which {value} does not fit")
                continue
            value = value.detach().array() if isinstance(value, Tensor) else value
            array = np.asarray(value, NAMES[kind.dtype], order="C")
            if array.ndim != kind.ndim or max(array.shape, default=0) > LARGEST:
                raise ValueError(f"{self.name} takes {kind} here, not an array of shape {array.shape}")
            arrays.append(array)
            given += [*array.shape, array.ctypes.data] if kind.ndim else [array.item()]
        return given, arrays


def kind_of(argument):
    """What the function gets for an argument of C: Tensors for arrays and floats, else the number."""
    if isinstance(argument, types.Array) and argument.dtype in REALS and argument.ndim and argument.layout != "F":
        return TensorType(NUMBA.index(argument.dtype), argument.ndim)
    if argument in REALS:
        return TensorType(NUMBA.index(argument), 0)
    if isinstance(argument, types.Integer):
        return argument
    raise TypeError(
        f"arguments of a C function are floats, arrays of float64 or float32 row by row, and integers, not {argument}"
    )


def cfunc(function, signature, grad=False):
    """A C function made of a function of Tensors, for `scipy.LowLevelCallable`, ctypes and other compiled code.

    Parameters
    ----------
    function
        A function that Numba has compiled, or can compile. It gets a Tensor for each float and array, and gives a Tensor of one
        element or a number.
    signature
        As in `numba.cfunc`: ``"float64(float64[:], int64)"``. For an array C gives its sizes, each an ``int``, and the address of its
        elements, row by row: ``double f(int n, double *x, int64_t k)``.
    grad : bool
        Whether the gradient is wanted too, as `gradient`, `value_and_gradient` and `derivative`.
    """
    if not callable(function):
        raise TypeError(f"a C function is made of a function of Tensors, not of {function!r}")
    source = Source(function, signature, grad)
    return Differentiable(source) if grad else CFunction(source)
