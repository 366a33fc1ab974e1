"""Ops of users' scalar functions in compiled code: of Tensors the op, of numbers the function itself."""

from numba.core import types
from numba.core.imputils import lower_constant
from numba.extending import models, register_model

from numbatensor.nopython.ops import Function, code_in_place, code_of, declare, functions, no_value, typer_of
from numbatensor.nopython.tensor_type import TensorType


class UserFunction(Function):
    """A pointwise function of a user's."""

    def __init__(self, key, typer, scalar):
        self.scalar = scalar
        super().__init__(key, typer)

    def get_call_type(self, context, args, kws):
        if any(isinstance(k, TensorType) for k in (*args, *kws.values())):
            return super().get_call_type(context, args, kws)
        return self.scalar.get_call_type(context, args, kws)

    def get_impl_key(self, sig):
        if any(isinstance(k, TensorType) for k in sig.args):
            return super().get_impl_key(sig)
        return self.scalar.get_impl_key(sig)


register_model(UserFunction)(models.OpaqueModel)
lower_constant(UserFunction)(no_value)


def type_of_user_op(op, added=""):
    """The type of a user's op, or (`added` is "_") of its in-place form."""
    if op.key not in functions:
        declare(op.key, typer_of(op), code_of(op))
        declare(op.key + "_", typer_of(op, in_place=True), code_in_place(op))
    key = op.key + added
    if added or op.directions:
        return Function(key, functions[key])
    return UserFunction(key, functions[key], types.Dispatcher(op.family.compiled))
