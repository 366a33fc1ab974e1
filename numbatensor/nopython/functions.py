"""Functions made of declared ops, in compiled code: which there are. Products of matrices are compiled, Python runs the others."""

import sys

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref

from numbatensor import creation, functional, generator, indexing, joining, linear_algebra, making, memory, random
from numbatensor.autograd import backward, grad
from numbatensor.core import threads
from numbatensor.core.compiler import word
from numbatensor.core.promotion import INT64
from numbatensor.nopython import function_results as results
from numbatensor.nopython import python_calls
from numbatensor.nopython.calls import invoke_cell, site
from numbatensor.nopython.function_results import same
from numbatensor.nopython.native_forms import FORMS, with_forms
from numbatensor.nopython.ops import declare
from numbatensor.nopython.results import check_dtype, is_none, length, result_of, widest
from numbatensor.nopython.tensor_type import TensorType, record_of, tensor_of
from numbatensor.nopython.tensors_of_numbers import with_numbers
from numbatensor.op import OPS

FUNCTIONS: dict = {}  # Python's functions that compiled code knows, and their names there


def refuse_others(name, kinds):
    wrong = [k for k in kinds if not isinstance(k, TensorType)]
    if wrong:
        raise TypingError(f"{name}(): expected a Tensor, not {', '.join(map(str, wrong))}")


def matmul_type(input, other):
    """The type of a product of matrices."""
    refuse_others("matmul", (input, other))
    if input.dtype != other.dtype:
        raise TypingError(f"matmul: {input} and {other} have two dtypes: convert one with .to(dtype)")
    check_dtype(OPS["matmul"], input.dtype)
    if input.ndim is None or other.ndim is None:
        return TensorType(input.dtype)
    if input.ndim == 0 or other.ndim == 0:
        raise TypingError(f"matmul: {input} and {other}: both must have dimensions")
    ranks = sorted((input.ndim, other.ndim))
    return TensorType(input.dtype, ranks[1] - (2 if ranks[1] == 1 else 1) if ranks[0] == 1 else ranks[1])


def multiply(context, builder, sig, args):
    """The code of ``x @ y``."""
    words = [record_of(builder, a) for a in args]
    made = invoke_cell(
        context, builder, "compiled_product", [*words, word(sig.return_type.kind), site(context, builder)]
    )
    return impl_ret_new_ref(context, builder, sig.return_type, tensor_of(context, builder, sig.return_type, made))


def multiply_by_python(args, kws):
    kinds = [python_calls.as_tensor("matmul", k) for k in args]
    named = {k: python_calls.as_tensor("matmul", v) for k, v in kws.items()}
    return python_calls.call_of(matmul_type(*kinds, **named), args, kws)


MATMUL = python_calls.either(
    (lambda args, kws: (matmul_type(*args, **kws), args, None), multiply),
    (multiply_by_python, python_calls.code_of("matmul")),
)
declare("matmul", *MATMUL)
FUNCTIONS[linear_algebra.matmul] = "matmul"


PRODUCTS = {"dot": (1, 1), "mv": (2, 1), "mm": (2, 2)}  # the ranks that they take


def with_products(name, parameters, typer, code):
    """The typing and the code of a product that is ``x @ y`` where the ranks are known to be right; Python refuses others."""

    def typed(args, kws):
        found = typer(args, kws)
        return (matmul_type(*args), args, None) if is_product(args, kws) else found

    def is_product(args, kws=()):
        ranks = tuple(k.ndim for k in args if isinstance(k, TensorType))
        return not kws and len(args) == 2 and ranks == PRODUCTS[name]

    def native(context, builder, sig, args):
        return (multiply if is_product(sig.args) else code)(context, builder, sig, args)

    return typed, native


def guarded(name, rule):
    """A rule whose first argument has to be a Tensor, where it takes one."""

    def checked(**given):
        given = {k: v if k in ("data", "array") else python_calls.as_tensor(name, v) for k, v in given.items()}
        if "input" in given:
            results.tensor_first(name, given["input"])
        return rule(**given)

    return checked


def run_by_python(function, path, rule, module="numbatensor", parameters=None):
    """Let compiled code call a function as Python does, by the path under which its module shows it; gives its name there."""
    name = path.rsplit(".", 1)[-1]
    parameters = parameters or python_calls.parameters_of(function)
    key = path if path.startswith("Tensor.") else f"{module.removeprefix('numbatensor').lstrip('.') or 'python'}.{path}"
    how = python_calls.typer_of(name, parameters, guarded(name, rule)), python_calls.code_of(path, module)
    if path in PRODUCTS:
        how = with_products(path, parameters, *how)
    elif path in FORMS:
        how = with_forms(path, parameters, *how)
    declare(key, *(with_numbers(parameters, *how) if path == "tensor" else how))
    FUNCTIONS[function] = key
    return key


RULES = {
    functional: {
        "softmax": results.along(lambda d: d),
        "log_softmax": results.along(lambda d: d),
        "cumsum": results.along(),
        "cumprod": results.along(),
        "logsumexp": results.reduced(results.real),
        "max": results.extremum("maximum"),
        "min": results.extremum("minimum"),
        "argmax": results.reduced(lambda d: INT64),
        "argmin": results.reduced(lambda d: INT64),
        "var": results.reduced(lambda d: d),
        "std": results.reduced(lambda d: d),
        "var_mean": results.twice(results.reduced(lambda d: d)),
        "norm": results.reduced(lambda d: d),
        "clamp": results.clamped,
        "isclose": results.compared,
        "allclose": lambda **_: types.boolean,
        "equal": lambda **_: types.boolean,
        "round": same,
        "nan_to_num": same,
        "logit": lambda input, eps: TensorType(results.real(input.dtype), input.ndim),
        "masked_fill": lambda input, mask, value: TensorType(input.dtype, widest([input, mask])),
        "where": results.picked,
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
        "masked_select": results.of_rank(1),
        "nonzero": results.found_indices,
        "argsort": results.whole_like,
        "sort": lambda input, **_: results.pair(input),
        "topk": lambda input, **_: results.pair(input),
    },
    joining: {
        "cat": results.joined("cat"),
        "stack": results.joined("stack", lambda rank: rank + 1),
        "hstack": results.joined("hstack", lambda rank: max(rank, 1)),
        "vstack": results.joined("vstack", lambda rank: max(rank, 2)),
        "split": results.parts,
        "chunk": results.listed(),
        "unbind": results.listed(lambda input, dim: TensorType(input.dtype, results.shifted(input.ndim, -1))),
    },
    linear_algebra: {
        "mm": results.of_rank(2),
        "mv": results.of_rank(1),
        "bmm": results.of_rank(3),
        "dot": results.of_rank(0),
        "outer": results.of_rank(2),
        "addmm": results.of_rank(2),
        "einsum": results.summed,
        "tensordot": lambda a, b, dims: TensorType(a.dtype),
    },
    random: {
        "rand": results.sized,
        "randn": results.sized,
        "randint": results.whole,
        "rand_like": results.like,
        "randn_like": results.like,
        "randint_like": results.like,
        "bernoulli": same,
        "normal": results.drawn,
        "randperm": lambda n, dtype=None, **_: TensorType(results.chosen(dtype, INT64), 1),
        "multinomial": results.whole_like,
    },
    generator: {
        "manual_seed": results.nothing,
        "seed": lambda: types.uint64,
        "initial_seed": lambda: types.uint64,
        "get_rng_state": lambda: TensorType(1, 1),
        "set_rng_state": results.nothing,
    },
    creation: {
        "arange": results.counted,
        "linspace": results.vector,
        "eye": results.matrix,
        "as_tensor": results.copied("as_tensor"),
    },
    threads: {"get_num_threads": lambda: types.intp, "set_num_threads": results.nothing},
    memory: {"empty_cache": results.nothing, "memory_summary": lambda: results.TEXT},
    making: {"tensor": results.copied("tensor"), "from_numpy": results.shared},
}
for module_, rules in RULES.items():
    for name_, rule_ in rules.items():
        run_by_python(getattr(module_, name_), name_, rule_)
run_by_python(backward, "autograd.backward", results.nothing)
run_by_python(grad, "autograd.grad", results.differentiated)

# nn.functional lies below this package: what it is made of is known here by name, and looked up when all is loaded.
LOSS_ROWS = ("nll_loss", "cross_entropy")


def loss_type(name, input, target, reduction, **_):
    """The type of a loss: a number unless nothing is reduced."""
    rank = 0 if results.literal(reduction) in ("mean", "sum") else None
    if name in LOSS_ROWS:
        full = target.ndim if target.dtype < results.FLOAT32 else results.shifted(input.ndim, -1)
        return TensorType(input.dtype, full if results.literal(reduction) == "none" else rank)
    full = widest([input, target])
    dtype = results.common_dtype(name, [input, target])
    return TensorType(dtype, full if results.literal(reduction) == "none" else rank)


def activated(op):
    return lambda input, inplace, **others: result_of(OPS[op], [input, *others.values()])


NN = sys.modules["numbatensor.nn.functional"]
for name_ in ("relu", "leaky_relu", "elu", "selu", "silu", "hardtanh", "mish"):
    parameters_ = [
        python_calls.named(public, p.default) for public, p in zip(OPS[name_].names, OPS[name_].parameters, strict=True)
    ]
    parameters_[0] = python_calls.named("input")
    run_by_python(
        getattr(NN, name_),
        name_,
        activated(name_),
        "numbatensor.nn.functional",
        [*parameters_, python_calls.named("inplace", False).replace(kind=python_calls.ALONE)],
    )
for name_, rule_ in {
    "gelu": same,
    "dropout": same,
    "layer_norm": same,
    "linear": lambda input, weight, bias: TensorType(
        input.dtype, input.ndim if weight.ndim == 2 else results.shifted(input.ndim, -1) if weight.ndim == 1 else None
    ),
    "embedding": lambda input, weight, padding_idx: TensorType(
        weight.dtype, results.shifted(input.ndim, results.shifted(weight.ndim, -1))
    ),
    **{
        loss: (lambda loss: lambda **given: loss_type(loss, **given))(loss)
        for loss in (*LOSS_ROWS, "mse_loss", "l1_loss", "binary_cross_entropy_with_logits")
    },
}.items():
    run_by_python(getattr(NN, name_), name_, rule_, "numbatensor.nn.functional")
