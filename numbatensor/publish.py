"""Declared ops as functions, methods, in-place methods and operators: native functions, and the Python behind them.

What the native side declines (NumPy's arrays and numbers, tensors for numbers, `dtype=`) comes to `Slow`, which brings the arguments
into plain form and calls again.
"""

import builtins
import operator

import numpy as np

from numbatensor.core.calls import BOOL, INT, LIST, REST, TENSOR
from numbatensor.core.compiler import address
from numbatensor.core.python import TensorBase, native_function
from numbatensor.core.sites import writer
from numbatensor.hollow import hollow
from numbatensor.making import as_operand, tensor
from numbatensor.op import OPS, Joined, Pointwise, Recorded, Reduction
from numbatensor.ops.steps import Step
from numbatensor.tensor import Tensor, functions, written

ARRAY_API = {"input": "x1", "other": "x2"}  # what NumPy and the array API call the operands
CODE = {name: address(name) for name in ("call_op", "call_in_place", "call_reflected")}


def plain(accepts, value, op, name):
    """A value in the form in which native code takes it."""
    if value is None or type(value) in (builtins.bool, builtins.int, builtins.float):
        return value
    if isinstance(value, TensorBase) and not accepts & TENSOR:
        value = value.tolist()
    if accepts & TENSOR:
        return as_operand(value)
    if accepts & LIST and not isinstance(value, (np.generic, builtins.int)):
        return tuple(operator.index(v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    if accepts & (INT | LIST):
        return operator.index(value)
    if accepts & BOOL:
        return builtins.bool(value)
    raise TypeError(f"{op.name}(): argument '{name}' must not be {type(value).__name__}")


class Slow:
    """The Python behind an op's native functions."""

    def __init__(self, op):
        self.op, self.writer = op, writer(op.name + "_")
        self.accepts = [builtins.int(a) for a in op.row["accepts"]]

        def declined(*args, in_place=False, out=None):
            inner = hollow(args)
            if inner is not None and out is None:
                return inner.perform(op, args, in_place)
            if inner is not None or hollow((out,)):
                raise RuntimeError(f"vmap: {op.name} takes no out= here: let it make a new tensor")
            shown = ", ".join(type(a).__name__ for a in args)
            raise TypeError(f"{op.name}(): unsupported operand types: {shown}")

        def declined_in_place(*args):
            return declined(*args, in_place=True)

        self.fast = native_function(CODE["call_op"], declined, op.address, named=True)
        self.fast_in_place = native_function(CODE["call_in_place"], declined_in_place, op.address, named=True)

    def ordered(self, args, given):
        """The arguments in their order, by position, name or default."""
        op = self.op
        accepts, values = self.accepts, []
        for k, parameter in enumerate(op.parameters):
            names = (op.names[k], op.inputs[k], op.aliases[k], ARRAY_API.get(op.names[k]))
            found = [n for n in names if n in given]
            if k < len(args):
                if found:
                    raise TypeError(f"{op.name}() got multiple values for argument '{op.names[k]}'")
                if accepts[k] & REST and k == len(op.parameters) - 1 and len(args) > k + 1:
                    value, args = args[k:], args[: k + 1]
                else:
                    value = args[k]
            elif found:
                value = given.pop(found[0])
            elif accepts[k] & REST:
                value = ()
            elif parameter.default is parameter.empty:
                raise TypeError(f'{op.name}() missing 1 required positional arguments: "{op.names[k]}"')
            else:
                value = parameter.default
            if accepts[k] & REST and type(value) is builtins.int:
                value = (value,)
            values.append(plain(accepts[k], value, op, op.names[k]))
        if len(args) > len(op.parameters):
            raise TypeError(f"{op.name}() takes {len(op.parameters)} positional arguments but {len(args)} were given")
        if given:
            raise TypeError(f"{op.name}() got an unexpected keyword argument '{next(iter(given))}'")
        if not builtins.any(isinstance(v, TensorBase) for v in values):
            values[0] = tensor(values[0])
        return values

    def changed(self, args, given):
        """The op and its ordered arguments, after what PyTorch's extra keywords make of them."""
        op = self.op
        extra = {k: given.pop(k) for k in list(given) if k in op.keywords}
        values = self.ordered(args, given)
        for keyword, value in extra.items():
            op, values = op.keywords[keyword](op, values, value)
        return op, values

    def function(self, *args, out=None, **given):
        """Called where the native function declines."""
        if isinstance(self.op, Reduction):
            dtype = given.pop("dtype", None)
            if dtype is not None:
                return self.function(args[0].to(dtype), *args[1:], out=out, **given).to(dtype)
        op, values = self.changed(args, given)
        return op.slow.fast(*values) if out is None else op.slow.fast(*values, out=out)

    def in_place(self, *args, **given):
        """Called where the native in-place function declines."""
        op, values = self.changed(args, given)
        return op.slow.fast_in_place(*values)

    def written(self, *args, **given):
        """The in-place form of an op with another dtype: no gradient flows to what it overwrites."""
        return written(args[0], self.function(*args, **given), self.writer)

    def operator(self, x, y):
        """Called where the native function declines an operator's operands."""
        if not isinstance(y, (TensorBase, builtins.int, builtins.float, np.ndarray, np.generic)):
            return NotImplemented
        values = self.ordered((x, y), {})
        return self.fast(*values)

    def reflected(self, x, y):
        return self.operator(y, x)


def named(function, name, op):
    """A bound method as a function with a name and a docstring of its own."""

    def wrapped(*args, **kwargs):
        return function(*args, **kwargs)

    wrapped.__name__ = wrapped.__qualname__ = name
    wrapped.__doc__, wrapped.__module__ = op.__doc__, "numbatensor"
    return wrapped


def publish(op):
    """Make the function of an op, and its methods."""
    slow = Slow(op)
    make = lambda code, function, name: native_function(CODE[code], named(function, name, op), op.address, named=True)
    op.fast = make("call_op", slow.function, op.name)
    op.slow = slow
    if not op.public:
        return
    functions[op.name] = op.fast
    setattr(Tensor, op.name, op.fast)
    if isinstance(op, Pointwise) and not op.masks:
        if op.row["result"] == 0:
            setattr(Tensor, op.name + "_", make("call_in_place", slow.in_place, op.name + "_"))
        elif op.name in COMPARISONS or op.name.startswith("logical_"):
            setattr(Tensor, op.name + "_", named(slow.written, op.name + "_", op))
    for word in OPERATORS.get(op.name, ()):
        setattr(Tensor, f"__{word}__", make("call_op", slow.operator, f"__{word}__"))
        setattr(Tensor, f"__r{word}__", make("call_reflected", slow.reflected, f"__r{word}__"))
        if isinstance(op, Pointwise):
            setattr(Tensor, f"__i{word}__", make("call_in_place", slow.in_place, f"__i{word}__"))
    if op.name in COMPARISONS:
        setattr(Tensor, f"__{op.name}__", make("call_op", slow.operator, f"__{op.name}__"))


OPERATORS = {
    "add": ("add",),
    "sub": ("sub",),
    "mul": ("mul",),
    "div": ("truediv",),
    "pow": ("pow",),
    "bitwise_and": ("and",),
    "bitwise_or": ("or",),
    "bitwise_xor": ("xor",),
    "bitwise_left_shift": ("lshift",),
    "bitwise_right_shift": ("rshift",),
    "remainder": ("mod",),
    "floor_divide": ("floordiv",),
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")

for op_ in list(OPS.values()):
    if not isinstance(op_, (Recorded, Joined, Step)):
        publish(op_)
        op_.finish_rules()

Tensor.__neg__, Tensor.__abs__ = functions["neg"], functions["abs"]
Tensor.__pos__ = lambda self: self
Tensor.view = OPS["view_as_shape"].fast
Tensor.swapaxes = Tensor.swapdims = functions["transpose"]
