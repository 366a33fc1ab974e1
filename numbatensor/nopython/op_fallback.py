"""Calls of declared ops that Python runs: with arrays as operands, lists, `out=`, `dtype=`, and what else the native functions decline."""

from numba.core import types
from numba.core.errors import TypingError

from numbatensor.nopython import python_calls
from numbatensor.nopython.python_calls import OTHER_FORMS, as_tensor
from numbatensor.nopython.tensor_type import DtypeType, TensorType
from numbatensor.op import Reduction

PATHS = {"view_as_shape": "Tensor.view"}  # where Python finds ops that are not public by their own names


def none(kind):
    return kind is None or isinstance(kind, types.NoneType)


def with_mode(op, kind):
    """The op that `rounding_mode` makes of a division."""
    if not isinstance(kind, (types.StringLiteral, types.NoneType)):
        raise TypingError(f"{op.name}(): rounding_mode has to be written out in compiled code")
    return op.keywords["rounding_mode"](op, [], None if none(kind) else kind.literal_value)[0]


def python_call(op, name, path, typer_of):
    """The typing and the code of an op's calls by Python, which finds it at a path, and its further keywords; `typer_of`: of the native ones."""
    in_place = name != op.name
    extras = [*op.keywords, *(["dtype"] if isinstance(op, Reduction) else []), *([] if in_place else ["out"])]

    def typer(args, kws):
        given = {k: v for k, v in kws.items() if k in extras}
        others = {k: v for k, v in kws.items() if k not in extras}
        final = with_mode(op, given["rounding_mode"]) if "rounding_mode" in given else op
        dtype, out = given.get("dtype"), given.get("out")

        def simple(kind, size):
            """What stands for a type in the native typing: a list is a tuple of a size."""
            if isinstance(kind, OTHER_FORMS[1:]):
                return types.UniTuple(kind.dtype, size)
            kind = as_tensor(name, kind)
            if isinstance(dtype, DtypeType) and isinstance(kind, TensorType):
                return TensorType(dtype.code, kind.ndim)
            return kind

        def native(size):
            return typer_of(final, in_place)(
                [simple(k, size) for k in args], {k: simple(v, size) for k, v in others.items()}
            )[0]

        if in_place and not isinstance(args[0], TensorType):
            raise TypingError(f"{name}() changes a Tensor, not {args[0]}")
        if not none(dtype) and not isinstance(dtype, DtypeType):
            raise TypingError(f"{name}(): dtype= must be one of the library's dtypes, such as nt.float32, not {dtype}")
        if not none(out) and not isinstance(out, TensorType):
            raise TypingError(f"{name}(): out= must be a Tensor, not {out}")
        one, two = native(1), native(2)
        result = TensorType(one.dtype if none(dtype) else dtype.code, one.ndim if one.ndim == two.ndim else None)
        return python_calls.call_of(result if none(out) else out, args, kws)

    return typer, python_calls.code_of(path), extras


def with_python(op, name, typer_of, code):
    """The typing and the code of an op's calls, by whichever way they can go."""
    native = typer_of(op, name != op.name), code
    path = PATHS.get(name) or (f"Tensor.{name}" if name != op.name else name)
    if not op.public and name not in PATHS:
        return native
    typer, python, extras = python_call(op, name, path, typer_of)
    choose, either = python_calls.either(native, (typer, python))
    return lambda args, kws: typer(args, kws) if set(kws) & set(extras) else choose(args, kws), either
