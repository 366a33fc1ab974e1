"""Operators between Tensors and numbers."""

import itertools
import operator

from numba.core import types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from numbatensor.nopython.functions import MATMUL
from numbatensor.nopython.ops import code_of, codes, functions
from numbatensor.nopython.tensor_type import TensorType
from numbatensor.op import OPS, Pointwise
from numbatensor.publish import COMPARISONS, OPERATORS


def template(key, typer):
    """Teach Numba the type of an operator where a Tensor is among its operands."""

    class Operator(AbstractTemplate):
        def generic(self, args, kws):
            if any(isinstance(a, TensorType) for a in args) and not any(isinstance(a, types.Optional) for a in args):
                result, kinds, _ = typer(args, kws)
                return signature(result, *kinds)

    Operator.key, Operator.prefer_literal = key, True
    infer_global(key)(Operator)


def lower(key, code, count):
    """The code of an operator, wherever among its operands there are Tensors."""
    for kinds in itertools.product((TensorType, types.Any, types.Array), repeat=count):
        if TensorType in kinds:
            lower_builtin(key, *kinds)(code)


def declare(key, op):
    template(key, functions[op.name])
    lower(key, codes[op.name], len(op.parameters))


for name, words in OPERATORS.items():
    for text in words:
        text = text + "_" if text in ("and", "or") else text
        declare(getattr(operator, text), OPS[name])
        if isinstance(OPS[name], Pointwise):
            key = getattr(operator, "i" + text.rstrip("_"))
            template(key, functions[name + "_"])
            lower(key, codes[name + "_"], 2)
for name in COMPARISONS:
    declare(getattr(operator, name), OPS[name])
declare(operator.neg, OPS["neg"])
declare(abs, OPS["abs"])


def itself(args, kws):
    return args[0], args, None


template(operator.pos, itself)
lower(operator.pos, lambda context, builder, sig, args: impl_ret_borrowed(context, builder, sig.args[0], args[0]), 1)


def inverted(args, kws):
    return functions["logical_not" if args[0].dtype == 0 else "bitwise_not"](args, kws)


def invert(context, builder, sig, args):
    op = OPS["logical_not" if sig.args[0].dtype == 0 else "bitwise_not"]
    return code_of(op)(context, builder, sig, args)


template(operator.invert, inverted)
lower(operator.invert, invert, 1)


template(operator.matmul, MATMUL[0])
lower(operator.matmul, MATMUL[1], 2)
