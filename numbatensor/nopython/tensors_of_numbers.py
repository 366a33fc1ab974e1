"""``nt.tensor(...)`` of numbers, of tuples of them, nested or not, and of lists: the elements are stored one by one."""

from numba.core import cgutils, types
from numba.core.imputils import impl_ret_new_ref

from numbatensor.core.compiler import word
from numbatensor.core.promotion import INT64
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython import python_calls
from numbatensor.nopython.calls import as_word, invoke_cell, put_word, room_for
from numbatensor.nopython.lists import address_of_items
from numbatensor.nopython.native_forms import bound
from numbatensor.nopython.results import is_none, literal, number_dtype, plain
from numbatensor.nopython.tensor_type import NUMBA, load_field, tensor_of


def shape_of(data):
    """The sizes of nested tuples of numbers; None where they are not of one shape, or hold something else."""
    if isinstance(plain(data), (types.Number, types.Boolean)):
        return ()
    if not isinstance(data, types.BaseTuple) or not len(data):
        return None
    inner = {shape_of(k) for k in data}
    return (len(data), *inner.pop()) if len(inner) == 1 and None not in inner else None


def numbers_in(builder, kind, value):
    """The types and values of the numbers in nested tuples."""
    if not isinstance(kind, types.BaseTuple):
        return [(kind, value)]
    return [one for k, inner in enumerate(kind) for one in numbers_in(builder, inner, builder.extract_value(value, k))]


def is_simple(given, result):
    """Whether the elements can be stored as they are: Python has its own way from fractions to integers and to truth values."""
    data = given["data"]
    kind = data.dtype if isinstance(data, types.List) else None
    simple = isinstance(kind, (types.Number, types.Boolean)) if kind else shape_of(data) is not None
    if not simple or not is_none(given["device"]) or isinstance(given["data"], types.Complex):
        return False
    asks = literal(given["requires_grad"], True)
    if asks and result.dtype < FLOAT32:
        return False
    return result.dtype >= FLOAT32 or result.dtype == natural(data) or (natural(data) == INT64 and result.dtype != BOOL)


def natural(data):
    """The dtype of numbers where none is named; -1 where they are of several."""
    if isinstance(data, types.List):
        return number_dtype(data.dtype)
    if isinstance(data, types.BaseTuple):
        found = {natural(k) for k in data}
        return found.pop() if len(found) == 1 else -1
    return number_dtype(data)


def store_number(context, builder, dtype, place, kind, value):
    """Store a number as an element at an address."""
    stored = NUMBA[dtype]
    if isinstance(kind, types.Literal):
        value, kind = context.get_constant(kind.literal_type, kind.literal_value), kind.literal_type
    made = context.cast(builder, value, kind, stored)
    made = context.data_model_manager[stored].as_data(builder, made)
    builder.store(made, builder.inttoptr(place, made.type.as_pointer()))


def with_numbers(parameters, typer, code):
    """The typing and the code of `tensor`; `typer`, `code`: as Python runs it."""
    loose = [p.replace(kind=python_calls.ANY) for p in parameters]

    def typed(args, kws):
        result, kinds, named = typer(args, kws)
        given = bound(loose, args, kws)
        if not kws or not is_simple(given, result):
            return result, kinds, named
        return result, tuple(given.values()), [python_calls.named(p.name, p.default) for p in loose]

    def native(context, builder, sig, args):
        result = sig.return_type
        if python_calls.keywords_of(sig.args) or not is_simple(bound(loose, sig.args), result):
            return code(context, builder, sig, args)
        kinds, values = bound(loose, sig.args), bound(loose, args)
        flag = as_word(context, builder, kinds["requires_grad"], values["requires_grad"])[1]
        data, value = kinds["data"], values["data"]
        listed = isinstance(data, types.List)
        first, count = address_of_items(context, builder, data, value) if listed else (None, None)
        sizes = [count] if listed else list(map(word, shape_of(data)))
        room = room_for(builder, len(sizes))
        for k, n in enumerate(sizes):
            put_word(builder, room, 8 * k, n)
        words = [room, word(len(sizes)), word(result.dtype), word(0), word(0), flag]
        record = invoke_cell(context, builder, "compiled_new", words)
        step = context.get_abi_sizeof(context.get_data_type(NUMBA[result.dtype]))
        with builder.if_then(builder.icmp_unsigned("!=", record, word(0))):  # 0: an error is on its way to a handler
            at = load_field(builder, record, "data")
            if listed:
                inner = context.data_model_manager[data.dtype]
                with cgutils.for_range(builder, count) as loop:
                    pointer = builder.inttoptr(first, inner.get_data_type().as_pointer())
                    one = inner.from_data(builder, builder.load(builder.gep(pointer, [loop.index])))
                    place = builder.add(at, builder.mul(loop.index, word(step)))
                    store_number(context, builder, result.dtype, place, data.dtype, one)
            else:
                for k, (kind, one) in enumerate(numbers_in(builder, data, value)):
                    store_number(context, builder, result.dtype, builder.add(at, word(k * step)), kind, one)
        return impl_ret_new_ref(context, builder, result, tensor_of(context, builder, result, record))

    return typed, native
