"""Everything that Numba knows of Tensors, brought together: loaded when Numba first meets something of ours."""

from numbatensor.nopython import (
    arrays,
    attributes,
    creation,
    indexing,
    iteration,
    methods,
    modes,
    operators,
    python_methods,
    statements,
    text,
    views,
)
from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.naming import op_name
from numbatensor.nopython.ops import Function, functions
from numbatensor.nopython.tensor_type import DtypeType as DtypeType
from numbatensor.nopython.tensor_type import TensorType as TensorType

PARTS = (
    arrays,
    attributes,
    creation,
    indexing,
    iteration,
    methods,
    modes,
    operators,
    python_methods,
    statements,
    text,
    views,
)  # each tells Numba its own when it is loaded


def type_of_op(value):
    """The type of an op that Python's code names."""
    name = op_name(value)
    return Function(name, functions[name]) if name in functions else None


def type_of_function(value):
    """The type of a function that Python's code names."""
    name = FUNCTIONS.get(value)
    return Function(name, functions[name]) if name else None
