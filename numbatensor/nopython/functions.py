"""Functions made of declared ops, in compiled code: which there are, and the types of their results."""

import sys

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref

from numbatensor import creation, functional, generator, indexing, joining, linear_algebra, random
from numbatensor.core.compiler import word
from numbatensor.core.promotion import INT64, default_dtype
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython import python_calls
from numbatensor.nopython.calls import invoke_cell, site
from numbatensor.nopython.ops import declare
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
from numbatensor.nopython.tensor_type import NUMBA, DtypeType, TensorType, record_of, tensor_of
from numbatensor.op import OPS
from numbatensor.tensor import Tensor

FUNCTIONS: dict = {}  # Python's functions that compiled code knows, and their names there


def refuse_others(name, kinds):
    wrong = [k for k in kinds if not isinstance(k, TensorType)]
    if wrong:
        raise TypingError(f"{name}(): expected a Tensor, not {', '.join(map(str, wrong))}")


def matmul_type(input, other):
    """The type of a product of matrices."""
    refuse_others("matmul", (input, other))
    if input.dtype != other.dtype:
        raise TypingError(f"matmul: {input.shown} and {other.shown} have two dtypes: convert one with .to(dtype)")
    if input.ndim is None or other.ndim is None:
        return TensorType(input.dtype)
    if input.ndim == 0 or other.ndim == 0:
        raise TypingError(f"matmul: {input.shown} and {other.shown}: both must have dimensions")
    ranks = sorted((input.ndim, other.ndim))
    return TensorType(input.dtype, ranks[1] - (2 if ranks[1] == 1 else 1) if ranks[0] == 1 else ranks[1])


def multiply(context, builder, sig, args):
    """The code of ``x @ y``."""
    words = [record_of(builder, a) for a in args]
    made = invoke_cell(
        context, builder, "compiled_product", [*words, word(sig.return_type.kind), site(context, builder)]
    )
    return impl_ret_new_ref(context, builder, sig.return_type, tensor_of(context, builder, sig.return_type, made))


declare("matmul", lambda args, kws: (matmul_type(*args, **kws), args, None), multiply)
FUNCTIONS[linear_algebra.matmul] = "matmul"


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


def real(dtype):
    return dtype if dtype >= FLOAT32 else int(default_dtype[0])


def added(dtype):
    return dtype if dtype >= FLOAT32 else INT64


def same(input, **others):
    return TensorType(input.dtype, input.ndim)


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


def pair(x):
    """The type of values and their indices."""
    return types.NamedTuple([x, TensorType(INT64, x.ndim)], indexing.Extremum)


def extremum(name):
    def rule(input, dim, keepdim, axis, keepdims):
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


def found_indices(input, as_tuple):
    if literal(as_tuple) is not False:
        raise TypingError("nonzero(as_tuple=True) gives as many tensors as there are dimensions: use nonzero(x)[:, d]")
    return TensorType(INT64, 2)


def many(name, tensors):
    if not isinstance(tensors, types.BaseTuple) or not all(isinstance(t, TensorType) for t in tensors):
        raise TypingError(f"{name}(): compiled code takes a tuple of Tensors, not {tensors}")
    return list(tensors)


def joined(name, new=0):
    def rule(tensors, **_):
        kinds = many(name, tensors)
        ranks = {k.ndim for k in kinds}
        rank = ranks.pop() if len(ranks) == 1 else None
        return TensorType(promote([k.dtype for k in kinds]), None if rank is None else rank + new)

    return rule


def of_rank(n):
    return lambda input, **_: TensorType(input.dtype, n)


def summed(equation, operands):
    return TensorType(many("einsum", types.Tuple(operands))[0].dtype)


def sized(sizes, dtype=None, **_):
    """The type of a new tensor by its sizes."""
    return TensorType(chosen(dtype, int(default_dtype[0])), length(sizes))


def whole(low, high, size, dtype=None, **_):
    size = high if is_none(size) else size
    return TensorType(chosen(dtype, INT64), length([size]))


def like(input, dtype=None, **_):
    return TensorType(chosen(dtype, input.dtype), input.ndim)


def counted(start, end, step, dtype, **_):
    numbers = [number_dtype(k) for k in (start, end, step) if not is_none(k)]
    return TensorType(chosen(dtype, promote(numbers)), 1)


def vector(start, end, steps, dtype, **_):
    return TensorType(chosen(dtype, int(default_dtype[0])), 1)


def matrix(n, m, dtype, **_):
    return TensorType(chosen(dtype, int(default_dtype[0])), 2)


def data_type(name, data):
    """Dtype and rank of what a tensor is made of."""
    if isinstance(data, TensorType):
        return data.dtype, data.ndim
    if isinstance(data, types.Array):
        if data.dtype not in NUMBA:
            raise TypingError(f"{name}(): there is no dtype for an array of {data.dtype}")
        return NUMBA.index(data.dtype), data.ndim
    if isinstance(data, types.BaseTuple) and len(data):
        inner = [data_type(name, k) for k in data]
        return promote([d for d, _ in inner]), inner[0][1] + 1
    if isinstance(plain(data), (types.Number, types.Boolean)):
        return number_dtype(data), 0
    raise TypingError(
        f"{name}(): compiled code makes tensors of numbers, tuples of them, arrays and Tensors, not of {data}"
    )


def copied(data, dtype, **_):
    d, rank = data_type("tensor", data)
    return TensorType(chosen(dtype, d), rank)


def shared(array):
    return TensorType(*data_type("from_numpy", array))


RULES = {
    functional: {
        "softmax": along(lambda d: d),
        "log_softmax": along(lambda d: d),
        "cumsum": along(),
        "cumprod": along(),
        "logsumexp": reduced(real),
        "max": extremum("maximum"),
        "min": extremum("minimum"),
        "argmax": reduced(lambda d: INT64),
        "argmin": reduced(lambda d: INT64),
        "var": reduced(lambda d: d),
        "std": reduced(lambda d: d),
        "norm": reduced(lambda d: d),
        "clamp": clamped,
        "isclose": compared,
        "allclose": lambda **_: types.boolean,
        "equal": lambda **_: types.boolean,
        "round": same,
        "nan_to_num": same,
        "logit": lambda input, eps: TensorType(real(input.dtype), input.ndim),
        "masked_fill": lambda input, mask, value: TensorType(input.dtype, widest([input, mask])),
        "where": lambda condition, input, other: result_of(OPS["where"], [condition, input, other]),
        "flip": same,
        "roll": same,
        "repeat": lambda input, repeats: TensorType(input.dtype, length(repeats)),
        "tile": lambda input, dims: TensorType(input.dtype),
        "tril": same,
        "triu": same,
    },
    indexing: {
        "gather": lambda input, dim, index: TensorType(input.dtype, index.ndim),
        "scatter": same,
        "scatter_add": same,
        "index_select": same,
        "index_add": same,
        "take_along_dim": lambda input, indices, dim: TensorType(input.dtype, 1 if is_none(dim) else input.ndim),
        "masked_select": of_rank(1),
        "nonzero": found_indices,
        "argsort": lambda input, **_: TensorType(INT64, input.ndim),
        "sort": lambda input, **_: pair(TensorType(input.dtype, input.ndim)),
        "topk": lambda input, **_: pair(TensorType(input.dtype, input.ndim)),
    },
    joining: {"cat": joined("cat"), "stack": joined("stack", 1)},
    linear_algebra: {
        "mm": of_rank(2),
        "mv": of_rank(1),
        "bmm": of_rank(3),
        "dot": of_rank(0),
        "outer": of_rank(2),
        "addmm": of_rank(2),
        "einsum": summed,
        "tensordot": lambda a, b, dims: TensorType(a.dtype),
    },
    random: {
        "rand": sized,
        "randn": sized,
        "randint": whole,
        "rand_like": like,
        "randn_like": like,
        "bernoulli": lambda input, **_: TensorType(input.dtype, input.ndim),
        "randperm": lambda n, dtype=None, **_: TensorType(chosen(dtype, INT64), 1),
        "multinomial": lambda input, **_: TensorType(INT64, input.ndim),
    },
    generator: {"manual_seed": lambda seed: types.none},
    creation: {"arange": counted, "linspace": vector, "eye": matrix},
    sys.modules[Tensor.__module__]: {"tensor": copied, "from_numpy": shared},
}


def guarded(name, rule):
    """A rule whose first argument has to be a Tensor, where it takes one."""

    def checked(**given):
        if "input" in given:
            tensor_first(name, given["input"])
        return rule(**given)

    return checked


for module, rules in RULES.items():
    for name, rule in rules.items():
        function = getattr(module, name, None)
        if function is None:
            continue
        declare(f"python.{name}", python_calls.typer_of(function, guarded(name, rule)), python_calls.code_of(function))
        FUNCTIONS[function] = f"python.{name}"
