"""Everything that Numba knows of Tensors, brought together: loaded when Numba first meets something of ours."""

import importlib

from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.naming import named_op
from numbatensor.nopython.ops import Function, functions
from numbatensor.nopython.tensor_type import DtypeType as DtypeType
from numbatensor.nopython.tensor_type import TensorType as TensorType
from numbatensor.nopython.user_ops import type_of_user_op

PARTS = "arrays attributes creation indexing iteration methods mistakes modes operators python_methods statements text views"
for part in PARTS.split():  # each tells Numba its own when it is loaded
    importlib.import_module(f"numbatensor.nopython.{part}")


def type_of_op(value):
    """The type of an op that Python's code names."""
    found = named_op(value)
    if found is None:
        return None
    op, added = found
    if hasattr(op, "family"):
        return type_of_user_op(op, added)
    name = op.key + added
    return Function(name, functions[name]) if name in functions else None


def type_of_function(value):
    """The type of a function that Python's code names."""
    name = FUNCTIONS.get(value)
    return Function(name, functions[name]) if name else None
