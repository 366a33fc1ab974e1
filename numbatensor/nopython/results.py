"""What dtype and rank an op's result has, from the types of its arguments, as far as these tell.

A rank that is not known is None. A dtype has to be known: where it hangs on which operand has no dimensions, and their ranks are not
known, the error names the fix.
"""

import itertools

from numba.core import types
from numba.core.errors import TypingError

from numbatensor.core.promotion import INT64, PROMOTE, default_dtype
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython.tensor_type import NAMES, TensorType
from numbatensor.op import Pointwise, Reduction, View

SAME_RANK = """transpose permute unpermute reverse_dimensions narrow slice t clone flip roll tril triu softmax log_softmax cumsum
    cumprod scatter scatter_add add_slices layer_norm argsort topk_indices softmax_slope log_softmax_slope cleared_at
    index_put index_put_add""".split()
INDICES = "argmax argmin argsort topk_indices nonzero".split()  # int64, whatever they look at
SUMMED = "cumsum cumprod".split()  # int64 of integers
SHIFTED = {"select": -1, "diagonal": -1, "unsqueeze": 1, "unfold": 1}  # how the rank changes


def plain(kind):
    return kind.literal_type if isinstance(kind, types.Literal) else kind


def promote(dtypes):
    """PyTorch's promotion of dtypes of one priority; None of none."""
    found = None
    for d in dtypes:
        found = d if found is None else int(PROMOTE[found, d])
    return found


def outrank(high, low):
    """The dtype where operands of higher priority have one and those of lower priority another."""
    if high is None:
        return low
    if high >= FLOAT32 or low is None:
        return high
    return promote([high, low]) if high == BOOL or low >= FLOAT32 else high


def number_dtype(kind):
    """The dtype that a number counts as."""
    if isinstance(kind, types.Omitted):
        return (
            int(default_dtype[0]) if isinstance(kind.value, float) else BOOL if isinstance(kind.value, bool) else INT64
        )
    kind = plain(kind)
    return (
        BOOL if isinstance(kind, types.Boolean) else INT64 if isinstance(kind, types.Integer) else int(default_dtype[0])
    )


def common_dtype(name, kinds):
    """The dtype that tensors and numbers promote to."""
    tensors = [k for k in kinds if isinstance(k, TensorType)]
    numbers = promote([number_dtype(k) for k in kinds if not isinstance(k, TensorType)])
    unknown = [k for k in tensors if k.ndim is None]
    found = set()
    for chosen in itertools.product((False, True), repeat=len(unknown)):
        left = iter(chosen)
        wide, zeros = [], []
        for k in tensors:
            has_dims = next(left) if k.ndim is None else k.ndim > 0
            (wide if has_dims else zeros).append(k.dtype)
        found.add(outrank(promote(wide), outrank(promote(zeros), numbers)))
    if len(found) > 1:
        shown = ", ".join(map(str, tensors))
        raise TypingError(
            f"{name}: whether the result is {' or '.join(NAMES[d] for d in sorted(found))} depends on which of {shown} has no dimensions, "
            "and their ranks are not known here. Convert one of them with .to(dtype), so that their dtypes agree."
        )
    return found.pop()


def widest(kinds):
    ranks = [k.ndim for k in kinds if isinstance(k, TensorType)]
    return None if None in ranks else max(ranks)


def literal(kind, default=None):
    """The value of an argument that is known when code is made, or `default`."""
    if isinstance(kind, types.Omitted):
        return kind.value
    return kind.literal_value if isinstance(kind, types.Literal) else default


def is_none(kind):
    return isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def reduced_rank(x, dim, keepdim):
    """The rank after a reduction."""
    kept = literal(keepdim)
    if kept:
        return x.ndim
    if x.ndim is None or kept is None:
        return 0 if is_none(dim) and kept is not None else None
    if is_none(dim):
        return 0
    if isinstance(dim, (types.List, types.ListType)):
        return None
    if isinstance(dim, types.BaseTuple):
        return max(x.ndim - len(dim), 0) if len(dim) else None
    return max(x.ndim - 1, 0)


def length(kinds):
    """How many sizes were given, one by one or as one tuple; None of a list, which tells it when the code runs."""
    if any(isinstance(k, (types.List, types.ListType)) for k in kinds):
        return None
    if len(kinds) == 1 and isinstance(kinds[0], types.BaseTuple):
        return len(kinds[0])
    return len(kinds)


def check_dtype(op, dtype):
    if not int(op.row["dtypes"]) >> dtype & 1:
        raise TypingError(f"{op.name} is not defined for {NAMES[dtype]}: convert with .to(dtype) first")


def result_of(op, kinds):
    """The type of an op's result. `kinds`: of all its arguments in order; a list that is given number by number is what is left."""
    operands = list(kinds)
    x = next((k for k in operands if isinstance(k, TensorType)), operands[0])
    if isinstance(op, Pointwise):
        n = int(op.row["tensors"])
        masks = [k for k, name in enumerate(op.inputs) if name in op.masks]
        counted = [k for i, k in enumerate(operands[:n]) if i not in masks]
        dtype = common_dtype(op.name, counted)
        if op.row["promotes"] and dtype < FLOAT32:
            dtype = int(default_dtype[0])
        check_dtype(op, dtype)
        return TensorType(int(op.row["result"]) - 1 if op.row["result"] else dtype, widest(operands[:n]))
    check_dtype(op, x.dtype)
    if isinstance(op, Reduction):
        return TensorType(int(op.row["outcome"][x.dtype]), reduced_rank(x, operands[1], operands[2]))
    source = operands[-1] if op.name == "masked_scatter" else x  # it scatters into zeros where there is no x
    return TensorType(dtype_of(op, source.dtype), rank_of(op, x, operands))


def dtype_of(op, dtype):
    if op.name in INDICES:
        return INT64
    return INT64 if op.name in SUMMED and dtype < FLOAT32 else dtype


def rank_of(op, x, operands):
    if op.name in SAME_RANK:
        return x.ndim
    if op.name in SHIFTED:
        return None if x.ndim is None else max(x.ndim + SHIFTED[op.name], 0)
    if isinstance(op, View) and op.name in ("expand", "spread", "reshape", "view_as_shape"):
        return length(operands[1:2] if op.name == "spread" else operands[1:])
    if op.name in ("argmax", "argmin", "logsumexp"):
        return reduced_rank(x, operands[1], operands[2])
    if op.name == "nonzero":
        return 2
    if op.name == "masked_select":
        return 1
    if op.name == "gather":
        return operands[1].ndim
    return None
