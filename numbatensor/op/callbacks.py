"""What the core asks Python for: code that the table is missing, and the errors of arguments."""

import ctypes

import numpy as np

from numbatensor.core import entries
from numbatensor.core import python as native
from numbatensor.core.promotion import DTYPES
from numbatensor.core.records import Arguments as ArgumentsRecord
from numbatensor.core.records import view_record
from numbatensor.core.table import CONVERSIONS
from numbatensor.op.base import BY_ADDRESS, NUMBA, name_of
from numbatensor.op.formulas import elementwise, itself
from numbatensor.op.structured_ops import Joined


def decoded(op, arguments):
    """The Python values in an argument record; tensors as Tensors."""
    a, values = view_record(arguments, ArgumentsRecord), []
    for k in range(len(op.parameters)):
        kind, number = int(a["kinds"][k]), int(a["numbers"][k])
        if a["tensors"][k]:
            values.append(entries.box_of(int(a["tensors"][k])))
        elif kind == 5:
            values.append(tuple(int(n) for n in a["lists"][number : number + int(a["lengths"][k])]))
        else:
            values.append(plain(kind, number))
    return values


def plain(kind, number):
    """The Python value of a number by its kind."""
    return None if kind in (0, 4) else bool(number) if kind == 1 else number if kind == 2 else float_of_bits(number)


def float_of_bits(number):
    return float(np.int64(number).view(np.float64))


@native.callback
def refused(op, arguments):
    """Raise the error of arguments that an op cannot take."""
    declared = BY_ADDRESS[op]
    if isinstance(declared, Joined):
        parts, count, dim = (int(n) for n in view_record(arguments, ArgumentsRecord)["numbers"][:3])
        found = (ctypes.c_int64 * count).from_address(parts)
        declared.explain([entries.box_of(t) for t in found], dim)
    values = decoded(declared, arguments)
    if declared.explain:
        declared.explain(*values)
    shown = ", ".join(
        f"{n}={list(v.shape) if isinstance(v, native.TensorBase) else v}"
        for n, v in zip(declared.names, values, strict=True)
    )
    raise RuntimeError(f"{declared.name}: these arguments do not fit together: {shown}")


@native.callback
def resolve(op, what, dtype):
    """Compile, or load, what a slot of the table is missing."""
    if op == 0:
        target, source = what, dtype
        name = f"to.{name_of(target)}.{name_of(source)}"
        made = elementwise(name, itself, [NUMBA[target], NUMBA[source]], DTYPES[source])
        CONVERSIONS[target, source] = made
        return made
    return int(BY_ADDRESS[op].compile(what, dtype))


@native.callback
def trace_again(op):
    """Write an op's rules down for results that are part of a graph."""
    BY_ADDRESS[op].trace_again()
    return 0
