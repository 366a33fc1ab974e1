"""The compiled body of a C function that calls a user's function of Tensors: it never fails, but gives NaN and keeps the error."""

import math

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbatensor.core.compiled_calls import DATA, DTYPE, HEAD, RANK, SIZES, WORDS
from numbatensor.core.compiler import i64, word
from numbatensor.nopython.calls import call_native, function_behind, published, put_word, room_for
from numbatensor.nopython.tensor_type import NUMBA, TensorType, load_word, record_of, tensor_of

ALL = (0, -1)  # slopes: those in all numbers


def body_of(function, number, slopes, which):
    """An intrinsic that calls a compiled function, the result of its compilation, with what C gives as a tuple.

    `number`: the type of its result; `slopes`: nothing, or between which two of all the arguments' numbers the slopes are wanted: one
    takes the place of the result, `ALL` are written at the address that is given last; `which`: the number of who keeps the errors.
    """
    kinds, result = function.signature.args, function.signature.return_type

    def codegen(context, builder, sig, args):
        def native(name, *values):
            status, value = call_native(context, builder, function_behind(context, builder, name), values)
            with builder.if_then(status.is_error, likely=False):
                builder.branch(failed)
            return value

        failed, leave = (builder.append_basic_block(name) for name in ("failed", "leave"))
        given = list(zip(sig.args[0], cgutils.unpack_tuple(builder, args[0]), strict=True))
        made = cgutils.alloca_once_value(builder, word(0))
        answer = cgutils.alloca_once_value(builder, ir.Constant(context.get_value_type(number), math.nan))
        values, words, count = put_arguments(context, builder, kinds, given)
        native("compiled_enter_call", words, count, word(1 if slopes else 0))
        for k, kind in enumerate(kinds):
            if isinstance(kind, TensorType):
                values[k] = tensor_of(context, builder, kind, load_word(builder, words, values[k]))
        context.add_linking_libs([function.library])
        status, found = context.call_internal_no_propagate(builder, function.fndesc, function.signature, values)
        with builder.if_then(status.is_error, likely=False):
            api = context.get_python_api(builder)
            state = api.gil_ensure()
            context.call_conv.raise_error(builder, api, status)
            api.gil_release(state)
            builder.branch(failed)
        if isinstance(result, TensorType):
            record = record_of(builder, found)
            builder.store(record, made)
            at = native("compiled_item", record)
            stored = context.data_model_manager[NUMBA[result.dtype]]
            place = builder.inttoptr(at, stored.get_data_type().as_pointer())
            value = context.cast(builder, stored.from_data(builder, builder.load(place)), NUMBA[result.dtype], number)
        else:
            value = context.cast(builder, found, result, number)
        if slopes:
            out = builder.ptrtoint(given[-1][1] if slopes == ALL else cgutils.alloca_once(builder, value.type), word)
            native("compiled_slopes", words, count, record, *map(word, slopes), out)
            if slopes != ALL:
                value = builder.load(builder.inttoptr(out, value.type.as_pointer()))
        builder.store(value, answer)
        builder.branch(leave)
        builder.position_at_end(failed)
        call_native(
            context, builder, published(builder, "put_away"), [word(0)]
        )  # nothing else may run while an error is set
        call_native(context, builder, function_behind(context, builder, "compiled_keep_error"), [word(which)])
        builder.branch(leave)
        builder.position_at_end(leave)
        last = function_behind(context, builder, "compiled_leave_call")
        call_native(context, builder, last, [words, count, builder.load(made)])
        return builder.load(answer)

    @intrinsic
    def call(typingctx, given):
        return number(given), codegen

    return call


def put_arguments(context, builder, kinds, given):
    """What the function gets, in the place of each tensor where its record will be; the words of the call; how many tensors there are."""
    given, values, tensors = iter(given), [], []
    for kind in kinds:
        if isinstance(kind, TensorType):
            values.append(HEAD + WORDS * len(tensors))
            tensors.append((kind, [next(given) for _ in range(kind.ndim + 1)]))
        else:
            values.append(next(given)[1])
    words = room_for(builder, (HEAD + WORDS * len(tensors)) // 8)
    for k, (kind, (*sizes, (_, data))) in enumerate(tensors):
        place = HEAD + WORDS * k
        if kind.ndim == 0:
            data = cgutils.alloca_once_value(builder, data)
        put_word(builder, words, place + DATA, builder.ptrtoint(data, word))
        put_word(builder, words, place + DTYPE, word(kind.dtype))
        put_word(builder, words, place + RANK, word(kind.ndim))
        for d, (size_kind, size) in enumerate(sizes):
            put_word(builder, words, place + SIZES + 8 * d, context.cast(builder, size, size_kind, i64))
    return values, words, word(len(tensors))


def c_types(kinds):
    """What C gives for arguments: for an array its sizes as ints, and the address of its elements."""
    found = []
    for kind in kinds:
        if isinstance(kind, TensorType):
            number = NUMBA[kind.dtype]
            found += [types.intc] * kind.ndim + [types.CPointer(number) if kind.ndim else number]
        else:
            found.append(kind)
    return found
