"""Functions made of ops that, as they are mostly called, are one op, or one native function: that runs then, and Python the other calls.

A form tells, from the types of the arguments by name, what runs: an op and its arguments in order, each the name of a parameter or the type of
a constant; None where Python has to.
"""

import inspect

from numba.core import types
from numba.core.imputils import impl_ret_new_ref

from numbatensor import dtypes
from numbatensor.core.compiler import word
from numbatensor.core.promotion import INT64
from numbatensor.core.tensors import BOOL, FLOAT32
from numbatensor.nopython import python_calls
from numbatensor.nopython.calls import as_word, invoke_cell, published, put_word, room_for, site
from numbatensor.nopython.lists import address_of_items
from numbatensor.nopython.ops import accepted, fill, row_of, run
from numbatensor.nopython.results import is_none, literal, plain
from numbatensor.nopython.tensor_type import TensorType, record_of, tensor_of
from numbatensor.op import OPS

NONE = types.Omitted(None)


def constant(value):
    """The type of an argument that the form itself gives."""
    return types.Omitted(value)


def whole(kind):
    kind = kind.value if isinstance(kind, types.Omitted) else plain(kind)
    return isinstance(kind, types.Integer) or type(kind) is int


def tensor(kind):
    return isinstance(kind, TensorType)


def left_out(given, *names):
    """Whether arguments are not given."""
    return all(is_none(given[name]) for name in names)


def indices(kind):
    return tensor(kind) and kind.dtype in (dtypes.int32.code, INT64)


def dim_name(given):
    """Which of two names tells the dimension."""
    return "dim" if is_none(given.get("axis", NONE)) else "axis"


def keepdim_name(given):
    return "keepdim" if is_none(given.get("keepdims", NONE)) else "keepdims"


def along(op):
    return lambda given: (op, "input", "dim") if left_out(given, "dtype") and whole(given["dim"]) else None


def logsumexp(given):
    simple = whole(given["dim"]) and given["input"].dtype >= FLOAT32
    return ("logsumexp", "input", "dim", "keepdim") if simple else None


def searched(op):
    def form(given):
        dim = dim_name(given)
        return (op, "input", dim, keepdim_name(given)) if is_none(given[dim]) or whole(given[dim]) else None

    return form


def spread(op):
    """The form of `var` and `std`: by `unbiased`, or by `correction`."""

    def form(given):
        dim = dim_name(given)
        if not left_out(given, "dtype", "out", "ddof") or isinstance(plain(given[dim]), types.Boolean):
            return None
        by = "correction" if is_none(given["unbiased"]) else "unbiased"
        return op, "input", dim, keepdim_name(given), by

    return form


def norm(given):
    euclidean = literal(given["p"]) in (2, 2.0, "fro") and left_out(given, "dtype")
    return ("euclidean_norm", "input", "dim", "keepdim") if euclidean else None


def extremum(names, find):
    """The form of `max` and `min`. `names`: of the ops for all elements and for two tensors."""

    def form(given):
        dim = dim_name(given)
        if literal(given["out"], True) is not False:
            return None
        if is_none(given[dim]):
            return names[0], "input"
        if tensor(given[dim]):
            return names[1], "input", dim
        return Found(find, dim, keepdim_name(given), "input", dim, constant(True)) if whole(given[dim]) else None

    return form


class Found(tuple):
    """The arguments of an op that finds indices; then the elements there are picked."""

    def __new__(cls, op, dim, keepdim, *operands):
        made = super().__new__(cls, (op, *operands))
        made.dim, made.keepdim = dim, keepdim
        return made


def clamp(given):
    bounds = [name for name in ("min", "max") if not is_none(given[name])]
    if len(bounds) == 1:
        return f"clamp_{bounds[0]}", "input", *bounds
    return ("clamp_both", "input", "min", "max") if bounds else None


def where(given):
    simple = tensor(given["condition"]) and given["condition"].dtype == BOOL
    return ("where", "condition", "input", "other") if simple else None


def masked_fill(given):
    simple = given["input"].dtype >= FLOAT32 and not tensor(given["value"])
    return ("where", "mask", "value", "input") if simple else None


def index_select(given):
    simple = indices(given["index"]) and given["index"].ndim == 1 and given["input"].ndim
    return ("select_slices", "input", "index", "dim") if simple else None


def index_add(given):
    simple = indices(given["index"]) and tensor(given["source"]) and given["source"].dtype == given["input"].dtype
    return ("add_slices", "input", "index", "source", "dim") if simple and literal(given["alpha"]) == 1 else None


def repeated(name):
    def form(given):
        sizes = given[name]
        sizes = sizes[0] if len(sizes) == 1 else types.Tuple(sizes)
        count = len(sizes) if isinstance(sizes, types.BaseTuple) else 1
        if given["input"].ndim is None or (name == "repeats" and count < given["input"].ndim):
            return None
        return "tile", "input", name

    return form


def nll_loss(given):
    number = {"none": 0, "mean": 1, "sum": 2}.get(literal(given["reduction"]))
    x, target = given["input"], given["target"]
    if number is None or x.ndim != 2 or not tensor(target) or target.dtype != INT64:
        return None
    return "nll_loss", "input", "target", "weight", "ignore_index", constant(number)


def joined(op, least=0, dim=None):
    """The form of `cat` and its like. `least`: how many dimensions each must have at least; `dim`: in place of an argument."""

    def form(given):
        tensors = given["tensors"]
        kinds = [tensors.dtype] if isinstance(tensors, types.List) else list(tensors)
        if not isinstance(tensors, (types.List, types.BaseTuple)) or not left_out(given, *{"out"} & set(given)):
            return None
        if any(k.ndim is None or k.ndim < least for k in kinds) and least:
            return None
        along = constant(dim(kinds[0])) if dim else "dim" if is_none(given["axis"]) else "axis"
        return (op, "tensors", along) if dim or whole(given[along]) else None

    return form


FORMS = {
    "softmax": along("softmax"),
    "log_softmax": along("log_softmax"),
    "cumsum": along("cumsum"),
    "cumprod": along("cumprod"),
    "logsumexp": logsumexp,
    "max": extremum(("amax", "maximum"), "argmax"),
    "min": extremum(("amin", "minimum"), "argmin"),
    "argmax": searched("argmax"),
    "argmin": searched("argmin"),
    "var": spread("var"),
    "std": spread("std"),
    "norm": norm,
    "clamp": clamp,
    "round": lambda given: ("rint", "input") if literal(given["decimals"]) == 0 else None,
    "where": where,
    "masked_fill": masked_fill,
    "flip": lambda given: ("flip", "input", "dims") if not is_none(given["dims"]) else ("flip", "input", "args"),
    "roll": lambda given: None if is_none(given["dims"]) else ("roll", "input", "shifts", "dims"),
    "repeat": repeated("repeats"),
    "tile": repeated("dims"),
    "tril": lambda given: ("tril", "input", "diagonal"),
    "triu": lambda given: ("triu", "input", "diagonal"),
    "gather": lambda given: ("gather", "input", "index", "dim") if indices(given["index"]) else None,
    "index_select": index_select,
    "index_add": index_add,
    "nonzero": lambda given: ("nonzero", "input") if literal(given["as_tuple"]) is False else None,
    "argsort": lambda given: ("argsort", "input", "dim", "descending", "stable"),
    "sort": lambda given: Found("argsort", "dim", constant(True), "input", "dim", "descending", "stable"),
    "topk": lambda given: Found("topk_indices", "dim", constant(True), "input", "k", "dim", "largest", "sorted"),
    "cat": joined("cat"),
    "stack": joined("stack"),
    "hstack": joined("cat", 1, lambda x: 0 if x.ndim == 1 else 1),
    "vstack": joined("cat", 2, lambda x: 0),
    "addmm": lambda given: ("addmm", "input", "mat1", "mat2", "beta", "alpha"),
    "relu": lambda given: ("relu", "input") if literal(given["inplace"]) is False else None,
    "linear": lambda given: ("linear", "input", "weight", "bias") if given["weight"].ndim == 2 else None,
    "nll_loss": nll_loss,
}


def operand(given, part):
    """The type of an operand of a form."""
    kind = given[part] if isinstance(part, str) else part
    if isinstance(kind, tuple):  # of ``*sizes``
        return kind[0] if len(kind) == 1 else types.Tuple(kind)
    return kind


def bound(parameters, args, kws=None):
    """The types of a call's arguments by name."""
    arguments = inspect.Signature(parameters).bind(*args, **(kws or {})).arguments
    given = {p.name: () if p.kind is p.VAR_POSITIONAL else types.Omitted(p.default) for p in parameters}
    return {**given, **arguments}


def form_of(name, parameters, args, kws=None):
    """The form that a call has, or None."""
    kinds = [*args, *(kws or {}).values()]
    if any(isinstance(k, (types.Array, types.ListType)) for k in kinds):
        return None
    given = bound(parameters, args, kws)
    form = FORMS[name](given)
    if form is None or form[0] in ("cat", "stack", "clamp_both"):
        return form
    op = OPS[form[0]]
    fits = all(accepted(op, k, operand(given, part)) for k, part in enumerate(form[1:]))
    return form if fits and tensor(operand(given, form[1])) or form[0] == "where" and fits else None


def with_forms(name, parameters, typer, code):
    """The typing and the code of a function, natively in its common forms; `typer`, `code`: as Python runs it."""
    loose = [p if p.kind is p.VAR_POSITIONAL else p.replace(kind=python_calls.ANY) for p in parameters]
    many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    loose = parameters if many else loose

    def typed(args, kws):
        result, kinds, named = typer(args, kws)  # refuses what Python would
        if not kws or many or form_of(name, parameters, args, kws) is None:
            return result, kinds, named
        given = bound(parameters, args, kws)
        return result, tuple(given.values()), [python_calls.named(p.name, p.default) for p in parameters]

    def native(context, builder, sig, args):
        form = None if python_calls.keywords_of(sig.args) else form_of(name, loose, sig.args)
        if form is None:
            return code(context, builder, sig, args)
        kinds, values = bound(loose, sig.args), bound(loose, args)

        def value(part):
            found = values[part] if isinstance(part, str) else None
            if not isinstance(found, tuple):
                return found
            kind = operand(kinds, part)
            return found[0] if len(found) == 1 else context.make_tuple(builder, kind, found)

        made = made_by(context, builder, sig.return_type, form, lambda part: operand(kinds, part), value)
        return impl_ret_new_ref(context, builder, sig.return_type, made)

    return typed, native


def made_by(context, builder, result, form, kind, value):
    """The code of a form. `kind`, `value`: of the part of a name."""
    name, *parts = form
    kinds, values = list(map(kind, parts)), list(map(value, parts))
    if name in ("cat", "stack"):
        return join(context, builder, result, name, kinds, values)
    if name == "clamp_both":
        arguments = fill(context, builder, OPS["where"], kinds, values)
        words = [arguments, word(result.kind), site(context, builder)]
        return tensor_of(context, builder, result, invoke_cell(context, builder, "compiled_clamp", words))
    op = OPS[name]
    if isinstance(form, Found):
        dim = as_word(context, builder, kind(form.dim), value(form.dim))[1]
        kept = as_word(context, builder, kind(form.keepdim), value(form.keepdim))[1]
        return found(context, builder, result, op, fill(context, builder, op, kinds, values), dim, kept)
    return run(context, builder, op, result, kinds, values)


def found(context, builder, result, op, arguments, dim, kept):
    """The values and indices of a search."""
    place, drops = room_for(builder, 1), builder.zext(builder.icmp_signed("==", kept, word(0)), word)
    kind, row = result[0], row_of(context, builder, op)
    words = [row, arguments, dim, drops, place, word(kind.kind), site(context, builder)]
    values = invoke_cell(context, builder, "compiled_found", words)
    indices = builder.load(builder.inttoptr(place, word.as_pointer()))
    both = [tensor_of(context, builder, k, t) for k, t in zip(result, (values, indices), strict=True)]
    return context.make_tuple(builder, result, both)


def join(context, builder, result, name, kinds, values):
    """The code of `cat` and `stack`."""
    tensors, count = kinds[0], None
    if isinstance(tensors, types.List):
        parts, count = address_of_items(context, builder, tensors, values[0])
    else:
        parts, count = room_for(builder, len(tensors)), word(len(tensors))
        for k in range(len(tensors)):
            put_word(builder, parts, 8 * k, record_of(builder, builder.extract_value(values[0], k)))
    dim = as_word(context, builder, kinds[1], values[1])[1]
    words = [published(builder, "op_" + name), parts, count, dim, word(result.kind), site(context, builder)]
    return tensor_of(context, builder, result, invoke_cell(context, builder, "compiled_join", words))
