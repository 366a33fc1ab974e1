"""The native code of users' compiled forwards and backwards: from words to arrays and numbers, and from those to tensors."""

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.core.imputils import fix_returning_optional
from numba.extending import intrinsic

from numbatensor import dtypes
from numbatensor.core import private
from numbatensor.core.compiler import address, held, i64, word
from numbatensor.core.records import RANK
from numbatensor.core.tensors import FLOAT32
from numbatensor.nopython.calls import call_native, put_word, room_for, with_gil, without_gil
from numbatensor.nopython.results import is_none
from numbatensor.nopython.tensor_type import NUMBA, TensorType, array_over, array_type, load_field, load_word, own

# Kinds of arguments: of a Tensor `TensorType.kind`; else minus the number that `Arguments` has for them.
NUMBERS = {-1: types.boolean, -2: types.int64, -3: types.float64, -4: types.none}


def tensor_type(kind):
    return TensorType(kind & 255, (kind >> 8) - 1)


def seen_as(kind, writable=False):
    """What users' functions are given for an argument: a contiguous array, or a number, which a Tensor of no dimensions is too."""
    if kind < 0:
        return NUMBERS[kind]
    t = tensor_type(kind)
    what = "a custom op"
    return array_type(t.dtype, t.ndim, "C", what, readonly=not writable) if t.ndim else number_type(t.dtype)


def number_type(dtype):
    """What a user's function is given for a Tensor of no dimensions."""
    return array_type(dtype, 0, "C", "a custom op").dtype


def kind_of_result(kind):
    """The kind of Tensor that an array or number becomes; None where there is none."""
    kind = types.unliteral(kind)
    dtype, ndim = (kind.dtype, kind.ndim) if isinstance(kind, types.Array) else (kind, 0)
    return TensorType(NUMBA.index(dtype), ndim).kind if dtype in NUMBA and ndim <= RANK else None


def returned(function, kinds, name):
    """The types that a user's function returns for arguments of types, and whether they come as a tuple."""
    call = types.Dispatcher(function).get_call_type(private.cpu.typing_context, tuple(kinds), {})
    if call is None:
        raise TypeError(f"{name} has no signature for ({', '.join(map(str, kinds))})")
    several = isinstance(call.return_type, types.BaseTuple)
    return list(call.return_type) if several else [call.return_type], several


# what a user's function is given, made from words: a type, and the places of its words; or of those of a tuple


def given(context, builder, kind, source, words):
    if isinstance(kind, types.BaseTuple):
        parts = [given(context, builder, k, s, words) for k, s in zip(kind, source, strict=True)]
        return context.make_tuple(builder, kind, parts)
    is_tensor, place = source
    value = load_word(builder, words, 8 * place)
    if isinstance(kind, types.Array):
        sizes = [load_field(builder, value, "shape", i) for i in range(kind.ndim)]
        steps = [word(dtypes.ALL[NUMBA.index(kind.dtype)].itemsize)]
        for size in reversed(sizes[1:]):
            steps.insert(0, builder.mul(steps[0], size))
        own(builder, value)
        return array_over(context, builder, kind, value, sizes, steps, value)
    if is_tensor and kind != types.none:
        place = load_field(builder, value, "data")
        return context.unpack_value(builder, kind, builder.inttoptr(place, context.get_data_type(kind).as_pointer()))
    if kind == types.boolean:
        return builder.icmp_signed("!=", value, word(0))
    if kind == types.float64:
        return builder.bitcast(value, ir.DoubleType())
    return context.get_dummy_value() if kind == types.none else value


# tensors of what it returns


def give(context, builder, kind, value, words, code):
    """Put a tensor of an array or number at a place; `words`: the first four arguments of `custom_result`."""
    if isinstance(kind, types.Optional):
        inner = context.make_helper(builder, kind, value)
        with builder.if_then(inner.valid):
            give(context, builder, kind.type, inner.data, words, code)
        return
    dtype = words[-1]
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        sizes = [*cgutils.unpack_tuple(builder, array.shape), *cgutils.unpack_tuple(builder, array.strides)]
        data, meminfo = (builder.ptrtoint(p, word) for p in (array.data, array.meminfo))
        dtype = NUMBA.index(kind.dtype)
    else:
        value, kind = context.cast(builder, value, kind, NUMBA[dtype]), NUMBA[dtype]
        place = cgutils.alloca_once(builder, context.get_data_type(kind))
        context.pack_value(builder, kind, value, place)
        sizes, data, meminfo = [], builder.ptrtoint(place, word), word(0)
    geometry, ndim = room_for(builder, len(sizes)), len(sizes) // 2
    for k, size in enumerate(sizes):
        put_word(builder, geometry, 8 * k, size)
    args = [*words[:-1], word(words[-1]), data, word(dtype), word(ndim), geometry, meminfo]
    status, found = call_native(context, builder, word(address("custom_result")), args)
    found = builder.select(status.is_error, word(-1), found)
    with builder.if_then(builder.icmp_signed("==", builder.load(code), word(0))):
        builder.store(found, code)


def put_results(context, builder, kind, value, wanted, row, words, results):
    """Put tensors of what a user's function returned at their places; 0, -1, or 1 + the output that shows an argument."""
    several = isinstance(kind, types.BaseTuple)
    parts = cgutils.unpack_tuple(builder, value) if several else [value]
    code = cgutils.alloca_once_value(builder, word(0))
    for k, (part, dtype) in enumerate(zip(kind if several else [kind], wanted, strict=True)):
        if dtype is not None:
            place = builder.add(results, word(8 * k))
            one = cgutils.alloca_once_value(builder, word(0))
            give(context, builder, part, parts[k], [word(row), words, place, dtype], one)
            found = builder.load(one)
            found = builder.select(builder.icmp_signed(">", found, word(0)), word(k + 1), found)
            first = builder.icmp_signed("==", builder.load(code), word(0))
            builder.store(builder.select(first, found, builder.load(code)), code)
    return builder.load(code)


def native_code(function, kinds, sources, row, wanted):
    """The address of code ``(words, results)`` around a user's function; its errors become Python's.

    `wanted`: the dtype of each result, or None for what is dropped. `row`: of a forward, whose results must not show arguments.
    """

    @intrinsic
    def run(typingctx, words, results):
        call = types.Dispatcher(function).get_call_type(typingctx, tuple(kinds), {})
        found = function.overloads[call.args]

        def codegen(context, builder, sig, args):
            words, results = args
            values = [given(context, builder, k, s, words) for k, s in zip(kinds, sources, strict=True)]
            cast = [context.cast(builder, v, k, to) for v, k, to in zip(values, kinds, call.args, strict=True)]
            callee = context.declare_function(builder.module, found.fndesc)
            status, value = context.call_conv.call_function(builder, callee, call.return_type, call.args, cast)
            context.add_linking_libs([found.library])
            code = cgutils.alloca_once_value(builder, word(-1))
            with builder.if_else(status.is_error) as (failed, done):
                with failed:
                    state = with_gil(builder)
                    context.call_conv.raise_error(builder, context.get_python_api(builder), status)
                    without_gil(builder, state)
                with done:
                    value = fix_returning_optional(context, builder, call, status, value)
                    put = put_results(context, builder, call.return_type, value, wanted, row, words, results)
                    builder.store(put, code)
                    context.nrt.decref(builder, call.return_type, value)
            for kind, value in zip(kinds, values, strict=True):
                context.nrt.decref(builder, kind, value)
            return builder.load(code)

        return i64(i64, i64), codegen

    return compiled(lambda words, results: run(words, results))


def compiled(function):
    """The address of a function of two words. Its code stays as long as the process: a node may outlive all who know of it."""
    made = njit(function)
    made.compile((i64, i64))
    held.append(made)
    return private.address_of_loop(made.overloads[(i64, i64)])


def compile_forward(variant):
    """The native code of a forward; the kinds of its results, and whether they are a tuple."""
    op, kinds = variant.op, variant.kinds
    seen = [seen_as(kind, op.in_place and i == 0) for i, kind in enumerate(kinds)]
    if op.in_place and not isinstance(seen[0], types.Array):
        raise TypeError(
            f"{op.__name__} writes into an array, and a Tensor of no dimensions comes as a number: give it x.reshape(1)"
        )
    sources = [(kind >= 0, i) for i, kind in enumerate(kinds)]
    parts, several = returned(op.function, seen, op.__name__)
    if op.in_place:
        if parts != [types.none]:
            raise TypeError(
                f"{op.__name__} writes its first argument in place, so its function must return nothing, not {parts}"
            )
        return native_code(op.function, seen, sources, variant.address, [None]), [kinds[0]], False
    results = [kind_of_result(kind) for kind in parts]
    for kind, result in zip(parts, results, strict=True):
        if result is None:
            raise TypeError(
                f"{op.__name__} must return arrays or numbers of the dtypes that Tensors have, or a tuple of them, not {kind}"
            )
    wanted = [result & 255 for result in results]
    return native_code(op.function, seen, sources, variant.address, wanted), results, several


def sources_of(variant):
    """What a backward is given, one by one: a type, and where it comes from (see `core/custom_ops.py`)."""
    op, n, q = variant.op, len(variant.kinds), len(variant.results)
    for k, kind in enumerate(variant.results):
        yield (types.none if kind & 255 < FLOAT32 else seen_as(kind)), (True, n + q + k)
    outs = [(seen_as(kind), (True, n + k)) for k, kind in enumerate(variant.results)]
    for name in variant.given:
        if name in op.inputs:
            i = op.inputs.index(name)
            yield seen_as(variant.kinds[i]), (variant.kinds[i] >= 0, i)
        elif name == "needs":
            yield types.UniTuple(types.boolean, n), [(False, n + 2 * q + i) for i in range(n)]
        elif name == "out" and variant.several:
            kinds, sources = zip(*outs, strict=True)
            yield types.BaseTuple.from_types(kinds), list(sources)
        else:
            yield outs[int(name.removeprefix("out") or 0)]


def compile_backward(variant):
    """The native code of a backward."""
    op = variant.op
    function = op.backward_function
    kinds, sources = zip(*sources_of(variant), strict=True)
    parts, several = returned(function, kinds, f"the backward of {op.__name__}")
    if len(parts) > len(op.inputs):
        raise TypeError(f"the backward of {op.__name__} returned {len(parts)} gradients for {len(op.inputs)} inputs")
    wanted = []
    for kind, input, name in zip(parts, variant.kinds, op.inputs, strict=False):
        kind = kind.type if isinstance(kind, types.Optional) else kind
        dtype = input & 255 if input >= 0 and input & 255 >= FLOAT32 and not is_none(kind) else None
        wanted.append(dtype)
        if dtype is None:
            continue
        is_number = isinstance(kind, (types.Integer, types.Float))
        found = TensorType(0, 0).kind if is_number else kind_of_result(kind)
        if found is None or found >> 8 != input >> 8:
            raise TypeError(
                f"the backward of {op.__name__} returned {kind} as the gradient of `{name}`, a {tensor_type(input)}: give an array of its "
                "rank, or of a Tensor of no dimensions a number"
            )
    return native_code(function, kinds, sources, 0, wanted)
