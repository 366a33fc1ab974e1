"""Methods of Tensors in compiled code that are no declared ops, and conversions to numbers."""

import inspect

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from numbatensor import dtypes
from numbatensor.core.compiler import word
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython import python_calls
from numbatensor.nopython.attributes import same, shape, shape_type, truth
from numbatensor.nopython.calls import as_word, invoke_cell, site
from numbatensor.nopython.ops import declare
from numbatensor.nopython.results import is_none, plain
from numbatensor.nopython.tensor_type import (
    NUMBA,
    DtypeType,
    TensorType,
    array_over,
    array_type,
    load_field,
    record_of,
    tensor_of,
)
from numbatensor.tensor import Tensor


def method(name, typer):
    """Declare a method: its typing, and its code."""
    return lambda code: declare(f"Tensor.{name}", typer, code)


def takes(*names, result=same, check=None):
    """A typing of a method by the names of its parameters, those with a default as (name, default)."""
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for n in names:
        name, default = n if isinstance(n, tuple) else (n, inspect.Parameter.empty)
        parameters.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default))
    known = inspect.Signature(parameters)

    def typer(args, kws):
        try:
            bound = known.bind(*args, **kws)
        except TypeError as error:
            raise TypingError(str(error)) from None
        given = [bound.arguments[p.name] if p.name in bound.arguments else types.Omitted(p.default) for p in parameters]
        kind = result if isinstance(result, types.Type) else result(*given)
        return kind, tuple(given), parameters

    return typer


def number_of(x, *_):
    """The type of an element as a Python number: all integers are int64, all floats float64."""
    return types.boolean if x.dtype == BOOL else types.int64 if x.dtype < FLOAT32 else types.float64


def element(context, builder, kind, value, result):
    """The one element of a tensor."""
    at = invoke_cell(context, builder, "compiled_item", [record_of(builder, value)])
    stored = NUMBA[kind.dtype]
    place = cgutils.alloca_once(builder, context.get_data_type(stored))
    builder.store(ir.Constant(context.get_data_type(stored), 0), place)
    with builder.if_then(builder.icmp_unsigned("!=", at, word(0))):  # it is 0 where an error is on its way to a handler
        builder.store(builder.load(builder.inttoptr(at, context.get_data_type(stored).as_pointer())), place)
    loaded = context.data_model_manager[stored].from_data(builder, builder.load(place))
    return context.cast(builder, loaded, stored, result)


@method("item", takes(result=number_of))
def item(context, builder, sig, args):
    return element(context, builder, sig.args[0], args[0], sig.return_type)


def converts(key, result):
    """Teach Numba what ``float(x)`` and its like are of a Tensor."""

    class Converted(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 1 and isinstance(args[0], TensorType):
                return signature(result, args[0])

    Converted.key = key
    infer_global(key)(Converted)

    @lower_builtin(key, TensorType)
    def code(context, builder, sig, args):
        return element(context, builder, sig.args[0], args[0], result)


for key, result in ((float, types.float64), (int, types.int64), (bool, types.boolean)):
    converts(key, result)


@infer_global(len)
class Length(AbstractTemplate):
    key = len

    def generic(self, args, kws):
        if len(args) == 1 and isinstance(args[0], TensorType):
            return signature(types.intp, args[0])


@lower_builtin(len, TensorType)
def length(context, builder, sig, args):
    return invoke_cell(context, builder, "compiled_length", [record_of(builder, args[0])])


def numel(context, builder, sig, args):
    return load_field(builder, record_of(builder, args[0]), "numel")


for name in ("numel", "nelement"):
    method(name, takes(result=types.intp))(numel)


@method("dim", takes(result=types.intp))
def dim(context, builder, sig, args):
    return load_field(builder, record_of(builder, args[0]), "ndim")


@method("size", takes(("dim", None), result=lambda x, dim: shape_type(x) if is_none(dim) else types.intp))
def size(context, builder, sig, args):
    record = record_of(builder, args[0])
    if is_none(sig.args[1]):
        return shape(context, builder, sig.args[0], args[0], record)
    k = as_word(context, builder, sig.args[1], args[1])[1]
    return invoke_cell(context, builder, "compiled_size", [record, k])


def strides_type(x, dim):
    if is_none(dim):
        return shape_type(x, "stride()")
    return types.intp


@method("stride", takes(("dim", None), result=strides_type))
def stride(context, builder, sig, args):
    x, record = sig.args[0], record_of(builder, args[0])
    in_elements = lambda step: builder.sdiv(step, word(dtypes.ALL[x.dtype].itemsize))
    if is_none(sig.args[1]):
        steps = [in_elements(load_field(builder, record, "strides", i)) for i in range(x.ndim)]
        return context.make_tuple(builder, sig.return_type, steps)
    k = as_word(context, builder, sig.args[1], args[1])[1]
    invoke_cell(context, builder, "compiled_size", [record, k])  # it refuses a dimension that there is not
    k = builder.add(
        k, builder.select(builder.icmp_signed("<", k, word(0)), load_field(builder, record, "ndim"), word(0))
    )
    at = builder.add(record, builder.mul(k, word(8)))
    return in_elements(load_field(builder, at, "strides"))


@method("data_ptr", takes(result=types.intp))
def data_ptr(context, builder, sig, args):
    return load_field(builder, record_of(builder, args[0]), "data")


@method("is_contiguous", takes(result=types.boolean))
def is_contiguous(context, builder, sig, args):
    return truth(builder, load_field(builder, record_of(builder, args[0]), "contiguous"))


@method("is_floating_point", takes(result=types.boolean))
def is_floating_point(context, builder, sig, args):
    return cgutils.true_bit if sig.args[0].dtype >= FLOAT32 else cgutils.false_bit


@method("detach", takes())
def detach(context, builder, sig, args):
    made = invoke_cell(context, builder, "alias", [record_of(builder, args[0])])
    return impl_ret_new_ref(context, builder, sig.return_type, tensor_of(context, builder, sig.return_type, made))


@method("requires_grad_", takes(("requires_grad", True), result=lambda x, _: x))
def set_requires_grad(context, builder, sig, args):
    flag = as_word(context, builder, sig.args[1], args[1])[1]
    invoke_cell(context, builder, "compiled_requires_grad", [record_of(builder, args[0]), flag])
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


# What runs where a backward pass needs Python to look: it raises, or runs the pass.
BACKWARD = python_calls.parameters_of(Tensor.backward)
look = python_calls.code_of("Tensor.backward")


@method("backward", python_calls.typer_of("backward", BACKWARD, lambda **_: types.none))
def backward(context, builder, sig, args):
    if not all(map(is_none, sig.args[1:])):
        look(context, builder, sig, args)
        return context.get_dummy_value()
    left = invoke_cell(context, builder, "compiled_backward", [record_of(builder, args[0])])
    with builder.if_then(truth(builder, left), likely=False):
        look(context, builder, signature(types.none, sig.args[0]), args[:1])
    return context.get_dummy_value()


@method("zero_", takes())
def zero(context, builder, sig, args):
    return overwritten(context, builder, sig, args, 0, word(2), word(0))


def overwritten(context, builder, sig, args, which, form, value):
    words = [record_of(builder, args[0]), form, value, word(which), site(context, builder)]
    invoke_cell(context, builder, "compiled_overwrite", words)
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


def value_of(context, builder, kind, value):
    """What is written, a tensor or number, as two words (see `compiled.write_here`)."""
    if isinstance(kind, TensorType):
        return word(0), record_of(builder, value)
    form, number = as_word(context, builder, kind, value)
    return word(form), number


def writable(x, value):
    if not isinstance(value, TensorType) and not isinstance(plain(value), (types.Number, types.Boolean)):
        raise TypingError(f"a Tensor or a number can be written into a Tensor, not {value}")
    return x


@method("copy_", takes("source", result=writable))
def copy(context, builder, sig, args):
    return overwritten(context, builder, sig, args, 2, *value_of(context, builder, sig.args[1], args[1]))


@method("fill_", takes("value", result=writable))
def fill(context, builder, sig, args):
    return overwritten(context, builder, sig, args, 1, *value_of(context, builder, sig.args[1], args[1]))


def converted(x, dtype):
    if isinstance(dtype, TensorType):
        return TensorType(dtype.dtype, x.ndim)
    if not isinstance(dtype, DtypeType):
        raise TypingError(f"to(): the argument must be a dtype, such as nt.float32, or a Tensor, not {dtype}")
    return TensorType(dtype.code, x.ndim)


def to_dtype(context, builder, sig, args):
    words = [record_of(builder, args[0]), word(sig.return_type.dtype), site(context, builder)]
    made = invoke_cell(context, builder, "compiled_convert", words)
    return impl_ret_new_ref(context, builder, sig.return_type, tensor_of(context, builder, sig.return_type, made))


method("to", takes("dtype", result=converted))(to_dtype)
method("type_as", takes("other", result=converted))(to_dtype)
for name in ("float", "double", "half", "bfloat16", "int", "long", "short", "bool"):
    code = getattr(dtypes, name).code
    method(name, takes(result=lambda x, code=code: TensorType(code, x.ndim)))(to_dtype)


def shared_array(x):
    if x.ndim is None:
        raise TypingError("numpy(): the rank is not known here, and an array's must be")
    return array_type(x.dtype, x.ndim, "A", "numpy()")


@method("numpy", takes(result=shared_array))
def numpy(context, builder, sig, args):
    """An array over the tensor's memory, which it keeps alive; it counts as a write, and writes through it are noticed."""
    kind, record = sig.args[0], record_of(builder, args[0])
    owner = invoke_cell(context, builder, "compiled_numpy", [record, site(context, builder)])
    sizes = [load_field(builder, record, "shape", i) for i in range(kind.ndim)]
    steps = [load_field(builder, record, "strides", i) for i in range(kind.ndim)]
    made = array_over(context, builder, sig.return_type, record, sizes, steps, owner)
    return impl_ret_new_ref(context, builder, sig.return_type, made)
