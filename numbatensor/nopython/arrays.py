"""NumPy's functions on Tensors in compiled code: those that give Tensors outside too."""

import inspect

import numpy as np
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from numbatensor.nopython.operators import lower, template
from numbatensor.nopython.ops import codes, functions
from numbatensor.nopython.python_calls import named
from numbatensor.nopython.tensor_type import TensorType
from numbatensor.ufuncs import OPS

REDUCTIONS = "sum prod mean any all".split()
for key, op in OPS.items():
    template(key, functions[op])
    lower(key, codes[op], key.nin)


def reduced(key, op):
    """Teach Numba ``np.sum(x)`` and ``np.sum(x, axis)`` of a Tensor."""

    class Reduced(AbstractTemplate):
        def generic(self, args, kws):
            given = [*args, *kws.values()]
            if isinstance(args[0] if args else None, TensorType) and len(given) < 3 and set(kws) <= {"axis"}:
                result, kinds, _ = functions[op](given, {})
                names = [named("a"), named("axis")][: len(given)]
                return signature(result, *kinds).replace(pysig=inspect.Signature(names))

    Reduced.key = key
    infer_global(key)(Reduced)
    lower_builtin(key, TensorType)(codes[op])
    lower_builtin(key, TensorType, types.Any)(codes[op])


for name in REDUCTIONS:
    reduced(getattr(np, name), name)
