"""Calls of custom ops in users' compiled code."""

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, models, register_model

from numbatensor.core.compiler import word
from numbatensor.nopython.calls import as_word, invoke_cell, put_word, room_for, row_named, site
from numbatensor.nopython.custom_code import tensor_type
from numbatensor.nopython.results import is_none, plain
from numbatensor.nopython.tensor_type import TensorType, load_word, record_of, tensor_of


class CustomOpType(types.Callable, types.Opaque):
    """A custom op; its value says nothing."""

    def __init__(self, op):
        self.op = op
        super().__init__(f"numbatensor.custom_op({op.__name__} at {id(op):#x})")

    @property
    def key(self):
        return self.op

    def get_call_type(self, context, args, kws):
        op = self.op
        try:
            bound = op.signature.bind(*args, **kws)
        except TypeError as error:
            raise TypingError(f"{op.__name__}(): {error}") from None
        kinds = [bound.arguments.get(p.name, types.Omitted(p.default)) for p in op.signature.parameters.values()]
        variant = variant_of(op, kinds)
        results = [tensor_type(kind) for kind in variant.results]
        if op.in_place:
            result = kinds[0]
        else:
            result = types.BaseTuple.from_types(tuple(results)) if variant.several else results[0]
        return signature(result, *kinds, recvr=self).replace(pysig=op.signature)

    def get_call_signatures(self):
        return [], True

    def get_impl_key(self, sig):
        return "numbatensor.custom_op"


register_model(CustomOpType)(models.OpaqueModel)


def variant_of(op, kinds):
    """What a custom op is for arguments of types."""
    found = []
    for kind, name in zip(kinds, op.inputs, strict=True):
        bare = plain(kind)
        value = kind.value if isinstance(kind, types.Omitted) else None
        if isinstance(bare, TensorType):
            if bare.ndim is None:
                raise TypingError(f"{op.__name__}(): the rank of `{name}` is not known here, and an array's must be")
            found.append(bare.kind)
        elif isinstance(kind, types.Omitted):
            found.append(
                -(4 if value is None else 1 if isinstance(value, bool) else 2 if isinstance(value, int) else 3)
            )
        elif is_none(kind):
            found.append(-4)
        elif isinstance(bare, types.Boolean):
            found.append(-1)
        elif isinstance(bare, (types.Integer, types.Float)):
            found.append(-2 if isinstance(bare, types.Integer) else -3)
        else:
            raise TypingError(f"{op.__name__}(): `{name}` must be a Tensor, a number or None, not {bare}")
    return op.variant(tuple(found))


def row_of(context, builder, variant):
    """The address of a custom op's row: by name where code that Numba keeps on the disk can find it so in another process."""
    if not variant.op.has_name():
        return builder.ptrtoint(context.add_dynamic_addr(builder, variant.address, info="custom op"), word)
    return row_named(context, builder, "custom op", variant.address, variant.text())


@lower_builtin("numbatensor.custom_op", types.VarArg(types.Any))
def call_custom_op(context, builder, sig, args):
    op, kinds, args = sig.args[0].op, sig.args[1:], args[1:]
    variant = variant_of(op, kinds)
    row = row_of(context, builder, variant)
    n, q = len(kinds), len(variant.results)
    words = room_for(builder, 2 * n + q)
    for i, (kind, value) in enumerate(zip(kinds, args, strict=True)):
        is_tensor = isinstance(kind, TensorType)
        put_word(
            builder, words, 8 * i, record_of(builder, value) if is_tensor else as_word(context, builder, kind, value)[1]
        )
    invoke_cell(context, builder, "compiled_custom", [row, words, site(context, builder)])
    made = [
        tensor_of(context, builder, tensor_type(kind), load_word(builder, words, 8 * (2 * n + k)))
        for k, kind in enumerate(variant.results)
    ]
    value = context.make_tuple(builder, sig.return_type, made) if variant.several else made[0]
    return impl_ret_new_ref(context, builder, sig.return_type, value)
