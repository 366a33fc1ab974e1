"""Tensors as text in compiled code: `print`, `str`, `repr`, `format` and f-strings, all as Python writes them."""

from numba.core import types
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from numbatensor.core.private import numba_ir
from numbatensor.nopython import python_calls
from numbatensor.nopython.tensor_type import TensorType

UNWRITTEN = "<object type:"


@lower_builtin("print_item", TensorType)
def print_item(context, builder, sig, args):
    """``print(x)``"""
    api = context.get_python_api(builder)
    obj = python_calls.python_value(context, builder, api, sig.args[0], args[0])
    api.print_object(obj)
    api.decref(obj)
    return context.get_dummy_value()


def written(key, path, others=0):
    """Teach Numba a function that writes a Tensor as text, by the method that Python calls for it, with so many other arguments."""

    class Text(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 1 + others and isinstance(args[0], TensorType):
                return signature(types.unicode_type, *args)

    Text.key = key
    infer_global(key)(Text)
    lower_builtin(key, TensorType, *[types.Any] * others)(python_calls.code_of(path))


written(str, "Tensor.__str__")
written(repr, "Tensor.__repr__")
written(format, "Tensor.__format__", 1)


def refuse_unwritten(lowering, statement):
    """Refuse to write as text what Numba cannot, as floats: it makes `<object type:float64>` of it."""
    text = (
        getattr(lowering.typeof(statement.target.name), "literal_value", None)
        if isinstance(statement, numba_ir.Assign)
        else None
    )
    if isinstance(text, str) and text.startswith(UNWRITTEN) and getattr(statement.value, "op", None) == "call":
        kind = text.removeprefix(UNWRITTEN).rstrip(">")
        raise TypingError(
            f"Numba cannot write a {kind} as text: put a Tensor into the string, or give the number to print() alone"
        )
