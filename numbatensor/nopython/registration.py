"""Everything that Numba knows of Tensors, brought together: loaded when Numba first meets something of ours."""

from numba.core import registry

from numbatensor.nopython import attributes, creation, indexing, modes, operators
from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.naming import op_name
from numbatensor.nopython.ops import Function, functions
from numbatensor.nopython.tensor_type import TensorType as TensorType

registry.cpu_target.typing_context.refresh()  # a compilation may be under way
registry.cpu_target.target_context.refresh()
PARTS = (attributes, creation, indexing, modes, operators)  # each tells Numba its own when it is loaded


def type_of_op(value):
    """The type of an op that Python's code names."""
    name = op_name(value)
    return Function(name, functions[name]) if name in functions else None


def type_of_function(value):
    """The type of a function that Python's code names."""
    name = FUNCTIONS.get(value)
    return Function(name, functions[name]) if name else None
