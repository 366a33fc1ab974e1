"""``t[...]`` and ``t[...] = value`` in compiled code: ints, slices, None and Ellipsis as views; masks and index tensors by Python."""

import operator

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from numbatensor.core.compiler import word
from numbatensor.nopython.calls import as_word, invoke_cell, put_word, room_for, site
from numbatensor.nopython.methods import value_of, writable
from numbatensor.nopython.results import plain
from numbatensor.nopython.tensor_type import TensorType, record_of, tensor_of

INT, SLICE, NEW, DOTS = range(4)


def items_of(index):
    """The items of an index."""
    return list(index) if isinstance(index, types.BaseTuple) else [index]


def form_of(kind):
    """Which of the forms an item has."""
    kind = plain(kind)
    if isinstance(kind, types.Integer):
        return INT
    if isinstance(kind, types.SliceType):
        return SLICE
    if isinstance(kind, types.NoneType):
        return NEW
    if isinstance(kind, types.EllipsisType):
        return DOTS
    if isinstance(kind, TensorType):
        raise TypingError(
            "a Tensor as an index is not there in compiled code yet: use index_select, gather, masked_select, masked_fill or where"
        )
    raise TypingError(f"a Tensor has no place for an index of type {kind} in compiled code")


def indexed(x, index):
    """The type of a part."""
    forms = [form_of(k) for k in items_of(index)]
    if forms.count(DOTS) > 1:
        raise TypingError("an index can only have a single ellipsis ('...')")
    if x.ndim is None:
        return x
    used = forms.count(INT) + forms.count(SLICE)
    if used > x.ndim:
        raise TypingError(f"too many indices for {x.shown}")
    return TensorType(x.dtype, x.ndim - forms.count(INT) + forms.count(NEW))


@infer_global(operator.getitem)
class Part(AbstractTemplate):
    key = operator.getitem

    def generic(self, args, kws):
        if isinstance(args[0], TensorType):
            return signature(indexed(*args), *args)


@infer_global(operator.setitem)
class SetPart(AbstractTemplate):
    key = operator.setitem

    def generic(self, args, kws):
        if isinstance(args[0], TensorType):
            indexed(*args[:2])
            writable(args[0], args[2])
            return signature(types.none, *args)


def put_items(context, builder, kind, value):
    """An index on the stack: its address, and how many items it has."""
    kinds = items_of(kind)
    tuple_given = isinstance(kind, types.BaseTuple)
    room = room_for(builder, 4 * len(kinds))
    for k, item in enumerate(kinds):
        part = builder.extract_value(value, k) if tuple_given else value
        form = form_of(item)
        numbers = []
        if form == INT:
            numbers = [as_word(context, builder, item, part)[1]]
        elif form == SLICE:
            found = context.make_helper(builder, plain(item), part)
            numbers = [found.start, found.stop, found.step]
        for j, number in enumerate([word(form), *numbers]):
            put_word(builder, room, 8 * (4 * k + j), number)
    return room, word(len(kinds))


@lower_builtin(operator.getitem, TensorType, types.Any)
def get_part(context, builder, sig, args):
    room, n = put_items(context, builder, sig.args[1], args[1])
    result = sig.return_type
    words = [record_of(builder, args[0]), room, n, word(result.kind), site(context, builder)]
    made = invoke_cell(context, builder, "compiled_index", words)
    return impl_ret_new_ref(context, builder, result, tensor_of(context, builder, result, made))


@lower_builtin(operator.setitem, TensorType, types.Any, types.Any)
def set_part(context, builder, sig, args):
    room, n = put_items(context, builder, sig.args[1], args[1])
    form, value = value_of(context, builder, sig.args[2], args[2])
    words = [record_of(builder, args[0]), room, n, form, value, site(context, builder)]
    invoke_cell(context, builder, "compiled_set", words)
    return context.get_dummy_value()
