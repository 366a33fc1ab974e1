"""``t[...]`` and ``t[...] = value`` in compiled code: ints, slices, None and Ellipsis as views; masks and most index tensors by Python."""

import operator

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from numbatensor.core.compiler import word
from numbatensor.core.promotion import INT64
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython import ops
from numbatensor.nopython.calls import as_word, invoke_cell, put_word, room_for, site
from numbatensor.nopython.function_results import shifted
from numbatensor.nopython.methods import value_of, writable
from numbatensor.nopython.python_calls import as_tensor, code_of
from numbatensor.nopython.results import plain
from numbatensor.nopython.tensor_type import TensorType, record_of, tensor_of
from numbatensor.op import OPS

INT, SLICE, NEW, DOTS, MANY = range(5)
BASIC = {types.Integer: INT, types.SliceType: SLICE, types.NoneType: NEW, types.EllipsisType: DOTS}
SEQUENCES = (types.List, types.ListType, types.BaseTuple)


def items_of(index):
    """The items of an index."""
    return list(index) if isinstance(index, types.BaseTuple) else [index]


def form_of(kind):
    """Which of the forms an item has: MANY are index tensors, masks, and what Python makes such of."""
    kind = plain(kind)
    return next((form for known, form in BASIC.items() if isinstance(kind, known)), MANY)


def elements_of(kind):
    """The dtype and the rank of what many places are named by; a rank that is not known is None."""
    kind = plain(kind)
    if isinstance(kind, SEQUENCES):
        dtype, rank = elements_of(kind[0] if isinstance(kind, types.BaseTuple) and len(kind) else kind.dtype)
        return dtype, shifted(rank, 1)
    if isinstance(kind, types.Boolean):
        return BOOL, 0
    if isinstance(kind, types.Integer):
        return INT64, 0
    kind = as_tensor("t[...]", kind)
    if not isinstance(kind, TensorType):
        raise TypingError(f"a Tensor has no place for an index of type {kind} in compiled code")
    if kind.dtype >= FLOAT32:
        raise TypingError(f"{kind} as an index: tensors used as indices must be long, int, byte or bool tensors")
    return kind.dtype, kind.ndim


def indexed(x, index):
    """The type of a part."""
    items = items_of(index)
    forms = [form_of(k) for k in items]
    if forms.count(DOTS) > 1:
        raise TypingError("an index can only have a single ellipsis ('...')")
    found = [elements_of(k) for k, form in zip(items, forms, strict=True) if form == MANY]
    if x.ndim is None or any(rank is None for _, rank in found):
        return TensorType(x.dtype)
    used = forms.count(INT) + forms.count(SLICE) + sum(rank if dtype == BOOL else 1 for dtype, rank in found)
    if used > x.ndim:
        raise TypingError(f"too many indices for {x}")
    # An integer tensor without dimensions is an int; a mask stands for as many vectors as it has dimensions.
    ranks = [1 if dtype == BOOL else rank for dtype, rank in found if dtype == BOOL or rank]
    slices = x.ndim - used + forms.count(SLICE) + forms.count(NEW)
    return TensorType(x.dtype, slices + max(ranks, default=0))


def is_basic(index):
    return all(form_of(k) != MANY for k in items_of(index))


def is_vector(x, index):
    """Whether an index is one tensor that the op `pick` takes as it is."""
    return isinstance(index, TensorType) and index.dtype == INT64 and bool(index.ndim) and x.ndim is not None


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
            writable(args[0], as_tensor("t[...] =", args[2]))
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


get_by_python, set_by_python = code_of("Tensor.__getitem__"), code_of("Tensor.__setitem__")
PICK = OPS["pick"]


@lower_builtin(operator.getitem, TensorType, types.Any)
def get_part(context, builder, sig, args):
    x, index = sig.args
    if is_vector(x, index):
        others = [types.none] * (len(PICK.parameters) - 3)
        kinds, values = [x, index, *others, types.literal(0)], [*args, *[None] * (len(others) + 1)]
        return ops.code_of(PICK)(context, builder, signature(sig.return_type, *kinds), values)
    if not is_basic(index):
        return get_by_python(context, builder, sig, args)
    room, n = put_items(context, builder, index, args[1])
    result = sig.return_type
    words = [record_of(builder, args[0]), room, n, word(result.kind), site(context, builder)]
    made = invoke_cell(context, builder, "compiled_index", words)
    return impl_ret_new_ref(context, builder, result, tensor_of(context, builder, result, made))


@lower_builtin(operator.setitem, TensorType, types.Any, types.Any)
def set_part(context, builder, sig, args):
    if not is_basic(sig.args[1]) or isinstance(sig.args[2], types.Array):
        return set_by_python(context, builder, sig, args)
    room, n = put_items(context, builder, sig.args[1], args[1])
    form, value = value_of(context, builder, sig.args[2], args[2])
    words = [record_of(builder, args[0]), room, n, form, value, site(context, builder)]
    invoke_cell(context, builder, "compiled_set", words)
    return context.get_dummy_value()
