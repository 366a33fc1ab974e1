"""The types of the results of functions that Python runs, from the types of their arguments, by name."""

from numba.core import types
from numba.core.errors import TypingError

from numbatensor import indexing
from numbatensor.core.promotion import INT64, default_dtype
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython.results import (
    common_dtype,
    is_none,
    length,
    literal,
    number_dtype,
    plain,
    promote,
    reduced_rank,
    result_of,
    widest,
)
from numbatensor.nopython.tensor_type import NUMBA, DtypeType, TensorType
from numbatensor.op import OPS

LISTS = (types.List, types.ListType)
TEXT = types.unicode_type


def tensor_first(name, x):
    if not isinstance(x, TensorType):
        raise TypingError(f"{name}(): the first argument must be a Tensor, not {x}")


def chosen(dtype, otherwise):
    """The dtype that an argument names, or another."""
    if isinstance(dtype, DtypeType):
        return dtype.code
    if not is_none(dtype):
        raise TypingError(f"dtype= must be one of the library's dtypes, such as nt.float32, not {dtype}")
    return otherwise


def default():
    return int(default_dtype[0])


def real(dtype):
    return dtype if dtype >= FLOAT32 else default()


def added(dtype):
    return dtype if dtype >= FLOAT32 else INT64


def shifted(rank, by):
    return None if rank is None or by is None else rank + by


def same(input, **others):
    return TensorType(input.dtype, input.ndim)


def whole_like(input, **others):
    return TensorType(INT64, input.ndim)


def nothing(**others):
    return types.none


def along(change=added):
    return lambda input, dim=None, dtype=None, **_: TensorType(chosen(dtype, change(input.dtype)), input.ndim)


def dim_of(dim, axis=None):
    return axis if axis is not None and not is_none(axis) else dim


def kept_of(keepdim, keepdims=None):
    return keepdims if keepdims is not None and not is_none(keepdims) else keepdim


def reduced(change):
    def rule(input, dim, keepdim, axis=None, keepdims=None, **_):
        dim = dim_of(dim, axis)
        dim = types.none if isinstance(plain(dim), types.Boolean) else dim
        return TensorType(change(input.dtype), reduced_rank(input, dim, kept_of(keepdim, keepdims)))

    return rule


def twice(rule):
    return lambda **given: types.UniTuple(rule(**given), 2)


def pair(x):
    """The type of values and their indices."""
    return types.NamedTuple([x, TensorType(INT64, x.ndim)], indexing.Extremum)


def extremum(name):
    def rule(input, dim, keepdim, axis, keepdims, **_):
        dim = dim_of(dim, axis)
        if isinstance(dim, TensorType):
            return result_of(OPS[name], [input, dim])
        if is_none(dim):
            return TensorType(input.dtype, 0)
        return pair(TensorType(input.dtype, reduced_rank(input, dim, kept_of(keepdim, keepdims))))

    return rule


def clamped(input, min, max):
    bounds = [b for b in (min, max) if not is_none(b)]
    found = TensorType(common_dtype("clamp", [input, *bounds[:1]]), widest([input, *bounds[:1]]))
    for b in bounds[1:]:
        found = TensorType(common_dtype("clamp", [found, b]), widest([found, b]))
    return found


def compared(input, other, **_):
    return TensorType(BOOL, widest([input, other]))


def listed(rule=same):
    """Many of one type: their number is known when the code runs."""
    return lambda **given: types.List(rule(**given))


def parts(tensor, split_size_or_sections, dim):
    """A tuple where a tuple tells how many."""
    sizes = split_size_or_sections
    return types.UniTuple(tensor, len(sizes)) if isinstance(sizes, types.BaseTuple) else types.List(tensor)


def found_indices(input, as_tuple=None, **_):
    """The type of the indices of what is not zero: a tuple has as many as the tensor has dimensions."""
    found = literal(as_tuple)
    if found is False:
        return TensorType(INT64, 2)
    if found is None or input.ndim is None:
        raise TypingError("nonzero(): as_tuple has to be written out, and with True the rank has to be known")
    return types.UniTuple(TensorType(INT64, 1), max(input.ndim, 1))


def picked(condition, input, other):
    if is_none(input) and is_none(other):
        return found_indices(condition, types.literal(True))
    return result_of(OPS["where"], [condition, input, other])


def many(name, tensors):
    if isinstance(tensors, LISTS) and isinstance(tensors.dtype, TensorType):
        return [tensors.dtype]
    if not isinstance(tensors, types.BaseTuple) or not all(isinstance(t, TensorType) for t in tensors):
        raise TypingError(f"{name}(): compiled code takes a tuple or a list of Tensors, not {tensors}")
    return list(tensors)


def joined(name, rank=lambda rank: rank):
    def rule(tensors, **_):
        kinds = many(name, tensors)
        ranks = {k.ndim for k in kinds}
        found = ranks.pop() if len(ranks) == 1 else None
        return TensorType(promote([k.dtype for k in kinds]), None if found is None else rank(found))

    return rule


def of_rank(n):
    return lambda input, **_: TensorType(input.dtype, n)


def summed(equation, operands):
    return TensorType(many("einsum", types.Tuple(operands))[0].dtype)


def sized(sizes, size=types.none, dtype=None, **_):
    """The type of a new tensor by its sizes."""
    return TensorType(chosen(dtype, default()), length(sizes if is_none(size) else [size]))


def whole(low, high, size, dtype=None, **_):
    size = high if is_none(size) else size
    return TensorType(chosen(dtype, INT64), length([size]))


def drawn(mean, std, size, dtype, **_):
    tensors = [k for k in (mean, std) if isinstance(k, TensorType)]
    if tensors:
        return TensorType(tensors[0].dtype, widest(tensors))
    return TensorType(chosen(dtype, default()), length([size]))


def like(input, dtype=None, **_):
    return TensorType(chosen(dtype, input.dtype), input.ndim)


def counted(start, end, step, dtype, **_):
    numbers = [number_dtype(k) for k in (start, end, step) if not is_none(k)]
    return TensorType(chosen(dtype, promote(numbers)), 1)


def vector(start, end, steps, dtype, **_):
    return TensorType(chosen(dtype, default()), 1)


def matrix(n, m, dtype, **_):
    return TensorType(chosen(dtype, default()), 2)


def array_dtype(name, array):
    """Our dtype of an array's elements."""
    if array.dtype not in NUMBA:
        raise TypingError(f"{name}(): there is no dtype for an array of {array.dtype}")
    return NUMBA.index(array.dtype)


def data_type(name, data):
    """Dtype and rank of what a tensor is made of."""
    if isinstance(data, TensorType):
        return data.dtype, data.ndim
    if isinstance(data, types.Array):
        return array_dtype(name, data), data.ndim
    if isinstance(data, LISTS):
        d, rank = data_type(name, data.dtype)
        return d, shifted(rank, 1)
    if isinstance(data, types.BaseTuple) and len(data):
        inner = [data_type(name, k) for k in data]
        return promote([d for d, _ in inner]), shifted(inner[0][1], 1)
    if isinstance(plain(data), (types.Number, types.Boolean)):
        return number_dtype(data), 0
    raise TypingError(
        f"{name}(): compiled code makes tensors of numbers, tuples and lists of them, arrays and Tensors, not of {data}"
    )


def copied(name):
    def rule(data, dtype, **_):
        d, rank = data_type(name, data)
        return TensorType(chosen(dtype, d), rank)

    return rule


def shared(array):
    if not isinstance(array, types.Array):
        raise TypingError(f"from_numpy(): the argument must be an array, not {array}")
    return TensorType(*data_type("from_numpy", array))


def differentiated(outputs, inputs, allow_unused, materialize_grads, **_):
    """The types of the gradients: they may be None where `allow_unused` is given."""
    kinds = [inputs] if isinstance(inputs, TensorType) else many("grad", inputs)
    if isinstance(inputs, LISTS):
        raise TypingError("grad(): compiled code takes a Tensor or a tuple of Tensors as inputs, not a list")
    if literal(allow_unused, default=True) and not literal(materialize_grads):
        kinds = [types.Optional(k) for k in kinds]
    return types.Tuple(kinds)
