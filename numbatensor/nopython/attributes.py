"""Attributes of Tensors in compiled code, and where their methods are found."""

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref
from numba.core.typing.templates import AttributeTemplate, infer_getattr, signature
from numba.extending import lower_getattr

from numbatensor import dtypes
from numbatensor.core import entries
from numbatensor.core.compiler import word
from numbatensor.core.python import NativeFunction
from numbatensor.nopython import missing
from numbatensor.nopython.calls import invoke_cell
from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.naming import op_name
from numbatensor.nopython.ops import Method, code_of, functions
from numbatensor.nopython.tensor_type import (
    DtypeType,
    TensorType,
    load_field,
    record_of,
    tensor_of,
)
from numbatensor.op import OPS
from numbatensor.tensor import Tensor

truth = lambda builder, value: builder.icmp_signed("!=", value, word(0))
OTHER_NAMES = {"view_as_shape": "view"}  # what a method is called after `views.py` has seen it
ATTRIBUTES: dict = {}  # name: type of the attribute, from the Tensor's


def attribute(name, kind):
    """Declare an attribute: its type, or the function that gives it, and its code over the record's address."""

    def declared(code):
        ATTRIBUTES[name] = (lambda x: kind) if isinstance(kind, types.Type) else kind

        @lower_getattr(TensorType, name)
        def lowered(context, builder, source, value):
            return code(context, builder, source, value, record_of(builder, value))

        return code

    return declared


def shape_type(x, name=".shape"):
    if x.ndim is None:
        one = ".stride(dim)" if "stride" in name else ".size(dim)"
        raise TypingError(f"the rank is not known here, so {name} has no length: use {one} and .ndim")
    return types.UniTuple(types.intp, x.ndim)


@attribute("shape", shape_type)
def shape(context, builder, kind, value, record):
    sizes = [load_field(builder, record, "shape", i) for i in range(kind.ndim)]
    return context.make_tuple(builder, shape_type(kind), sizes)


@attribute("ndim", types.intp)
def ndim(context, builder, kind, value, record):
    return load_field(builder, record, "ndim") if kind.ndim is None else word(kind.ndim)


@attribute("itemsize", types.intp)
def itemsize(context, builder, kind, value, record):
    return word(dtypes.ALL[kind.dtype].itemsize)


@attribute("dtype", lambda x: DtypeType(x.dtype))
def dtype(context, builder, kind, value, record):
    return context.get_dummy_value()


@attribute("requires_grad", types.boolean)
def requires_grad(context, builder, kind, value, record):
    return truth(builder, invoke_cell(context, builder, "field", [record, word(entries.REQUIRES_GRAD)]))


@attribute("is_leaf", types.boolean)
def is_leaf(context, builder, kind, value, record):
    return truth(builder, invoke_cell(context, builder, "compiled_is_leaf", [record]))


@attribute("_version", types.intp)
def version(context, builder, kind, value, record):
    return invoke_cell(context, builder, "field", [record, word(entries.VERSION)])


@attribute("grad", lambda x: types.Optional(x))
def grad(context, builder, kind, value, record):
    made = invoke_cell(context, builder, "compiled_grad", [record, word(kind.kind)])
    result = types.Optional(kind)
    found = context.make_helper(builder, result)
    found.valid = builder.icmp_unsigned("!=", made, word(0))
    found.data = tensor_of(context, builder, kind, made)
    return impl_ret_new_ref(context, builder, result, found._getvalue())


def turned(op, fixed=()):
    """An attribute that is a view."""

    def code(context, builder, kind, value, record):
        kinds = [types.literal(n) for n in fixed]
        sig = signature(kind, kind, *kinds)
        return code_of(OPS[op])(context, builder, sig, [value, *[None] * len(fixed)])

    return code


same = lambda x: x
attribute("T", same)(turned("reverse_dimensions"))
attribute("mT", same)(turned("transpose", (-2, -1)))


@infer_getattr
class TensorAttributes(AttributeTemplate):
    """Attributes, then methods: those of `methods.py`, ops, and functions that are methods."""

    key = TensorType

    def generic_resolve(self, x, name):
        if name in ATTRIBUTES:
            return ATTRIBUTES[name](x)
        if f"Tensor.{name}" in functions:
            return Method(f"Tensor.{name}", functions[f"Tensor.{name}"], x)
        found = getattr(Tensor, OTHER_NAMES.get(name, name), None)
        known = (
            op_name(found) if isinstance(found, NativeFunction) else FUNCTIONS.get(found) if callable(found) else None
        )
        if known in functions:
            return Method(known, functions[known], x)
        if found is not None:
            why = missing.METHODS.get(name, "Python's own")
            raise TypingError(f"Tensor.{name} is not there in compiled code: {why} (see docs/numba.md)")
