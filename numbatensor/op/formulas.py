"""Formulas on numbers, as the compiler takes them."""

import dis
import math
import types as python

import numpy as np

from kernels_cpu import exact, mathematics
from kernels_cpu import pointwise as skeleton
from numbatensor.core.compiler import kernel
from numbatensor.op.base import Op

EXACT, REASSOCIATED = frozenset({"contract"}), frozenset({"contract", "reassoc", "nsz"})  # LLVM's freedoms


def itself(x):
    return x


def globals_read(code):
    """The global names that a function reads: `math` in ``math.tanh``, not `tanh`."""
    return sorted({one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"})


def scalar(function, dtype, functions=mathematics):
    """A declared formula with its literals in `dtype`, and `math`, or `mathematics`, replaced by another module's functions.

    ``1.0 - out * out`` would otherwise compute float32 in float64. The module says what it has under other names (`REPLACED`), and how a
    formula that a formula calls is compiled (`device`).
    """
    code = function.__code__
    kind = np.dtype(dtype).type
    if np.dtype(dtype).kind == "f":
        code = code.replace(co_consts=tuple(kind(c) if type(c) in (int, float) else c for c in code.co_consts))
    known = dict(function.__globals__)
    for name in globals_read(code):
        if known.get(name) is math or known.get(name) is mathematics:
            known[name] = functions
        elif isinstance(known.get(name), Op):
            known[name] = functions.device(scalar(known[name].function, dtype, functions))
        elif name in functions.REPLACED:
            known[name] = getattr(functions, name, known[name])
    return python.FunctionType(code, known, function.__name__, function.__defaults__, function.__closure__)


def is_bounded(function):
    """Whether a formula uses functions that answer NaN beyond a bound."""
    inner = [function.__globals__.get(name) for name in globals_read(function.__code__)]
    return any(name in mathematics.BOUNDED for name in function.__code__.co_names) or any(
        isinstance(op, Op) and is_bounded(op.function) for op in inner
    )


def elementwise(name, function, kinds, dtype, fixed=0):
    def make():
        unbounded = scalar(function, dtype, exact) if np.dtype(dtype).kind == "f" and is_bounded(function) else None
        return skeleton.elementwise(scalar(function, dtype), kinds, fixed, unbounded)

    return kernel(make, f"{name}.{fixed}", 2, {"contract"}, is_ours(function))


def is_ours(function):
    """Whether a formula stands in our sources."""
    return function.__module__.startswith(("numbatensor.op.", "numbatensor.ops."))
