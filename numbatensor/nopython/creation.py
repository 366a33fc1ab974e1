"""New tensors in compiled code: zeros, ones, empty, full, and their forms that take the shape of another."""

import inspect

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref

from numbatensor import creation
from numbatensor.core.compiler import word
from numbatensor.core.promotion import default_dtype
from numbatensor.nopython import python_calls
from numbatensor.nopython.calls import as_word, invoke_cell, put_word, room_for
from numbatensor.nopython.function_results import chosen
from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.ops import declare
from numbatensor.nopython.results import length, number_dtype, plain
from numbatensor.nopython.tensor_type import DtypeType, TensorType, load_field, record_of, tensor_of

NOTHING, ZEROS, INTEGER = 0, 1, 2
POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def is_size(kind):
    kind = plain(kind)
    return isinstance(kind, types.Integer) or (
        isinstance(kind, types.BaseTuple) and all(isinstance(plain(k), types.Integer) for k in kind)
    )


def typer_of(name, valued=False, shaped=False):
    """The typing of a maker. `valued`: it takes a value; `shaped`: its shape is that of a tensor, else given as sizes."""

    def typer(args, kws):
        unknown = set(kws) - {"dtype", "requires_grad"}
        if unknown:
            raise TypingError(f"{name}() takes dtype= and requires_grad= in compiled code, not {', '.join(unknown)}=")
        if len(args) < 1 + valued or ((valued or shaped) and len(args) > 1 + valued):
            raise TypingError(f"{name}() takes {1 + valued} arguments in compiled code but {len(args)} were given")
        sizes = args[:1] if valued or shaped else args
        if shaped and not isinstance(args[0], TensorType):
            raise TypingError(f"{name}() takes the shape of a Tensor, not of {args[0]}")
        if not shaped and not (
            all(map(is_size, sizes)) and (len(sizes) == 1 or not isinstance(sizes[0], types.BaseTuple))
        ):
            raise TypingError(f"{name}(): sizes must be ints or one tuple of ints, not {', '.join(map(str, sizes))}")
        d = args[0].dtype if shaped else number_dtype(args[1]) if valued else int(default_dtype[0])
        d = chosen(kws.get("dtype", types.none), d)
        result = TensorType(d, args[0].ndim if shaped else length(sizes))
        named = None
        if kws:
            named = [inspect.Parameter(n, POSITIONAL) for n in [f"size{k}" for k in range(len(args))] + [*kws]]
        return result, (*args, *kws.values()), named

    return typer


def put_sizes(context, builder, kinds, values):
    """Sizes on the stack: their address, and how many there are."""
    if isinstance(kinds[0], types.BaseTuple):
        values = [builder.extract_value(values[0], i) for i in range(len(kinds[0]))]
        kinds = list(kinds[0])
    room = room_for(builder, len(kinds))
    for i, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        put_word(builder, room, 8 * i, as_word(context, builder, kind, value)[1])
    return room, word(len(kinds))


def code_of(fill, value=0, valued=False, shaped=False):
    def code(context, builder, sig, args):
        kinds, flag, form, number = list(sig.args), word(0), word(fill), word(value)
        values = list(args)
        keywords = 0
        while len(kinds) > 1 + valued and isinstance(kinds[-1], (DtypeType, types.Boolean, types.BooleanLiteral)):
            kind, given = kinds.pop(), values.pop()
            if not isinstance(kind, DtypeType):
                flag = as_word(context, builder, kind, given)[1]
            keywords += 1
        if valued:
            k, number = as_word(context, builder, kinds[1], values[1])
            form = word(3 if k == 3 else INTEGER)
        result = sig.return_type
        if shaped:
            record = record_of(builder, values[0])
            room = room_for(builder, 12)
            for i in range(12):
                put_word(builder, room, 8 * i, load_field(builder, record, "shape", i))
            count = load_field(builder, record, "ndim")
        else:
            sizes = kinds[:1] if valued else kinds
            room, count = put_sizes(context, builder, sizes, values[: len(sizes)])
        made = invoke_cell(context, builder, "compiled_new", [room, count, word(result.dtype), form, number, flag])
        return impl_ret_new_ref(context, builder, result, tensor_of(context, builder, result, made))

    return code


def made_by_python(name, valued, shaped):
    """The typing and the code where Python makes the tensor: its sizes are a list."""

    def typer(args, kws):
        kind = python_calls.as_tensor(name, args[0]) if args else types.none
        if not args or (shaped and not isinstance(kind, TensorType)):
            raise TypingError(f"{name}() takes sizes, or the shape of a Tensor, not {', '.join(map(str, args))}")
        d = kind.dtype if shaped else number_dtype(args[1]) if valued else int(default_dtype[0])
        return python_calls.call_of(TensorType(chosen(kws.get("dtype", types.none), d)), args, kws)

    return typer, python_calls.code_of(name)


for name, fill, value in (("empty", NOTHING, 0), ("zeros", ZEROS, 0), ("ones", INTEGER, 1), ("full", INTEGER, 0)):
    valued = name == "full"
    for suffix in ("", "_like"):
        shaped = suffix != ""
        native = typer_of(name + suffix, valued, shaped), code_of(fill, value, valued, shaped)
        declare(f"new.{name}{suffix}", *python_calls.either(native, made_by_python(name + suffix, valued, shaped)))
        FUNCTIONS[getattr(creation, name + suffix)] = f"new.{name}{suffix}"
