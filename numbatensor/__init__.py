"""A PyTorch-style tensor library whose every kernel is Python compiled by Numba."""

import importlib

from numbatensor import (
    array_functions,
    autograd,
    geometry,
    graph_nodes,
    hooks,
    index_refusals,
    messages,
    methods,
    nopython,
    printing,
    publish,
    python_rules,
    refusals,
    ufuncs,
    version_error,
)
from numbatensor.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from numbatensor.core import sites
from numbatensor.core.threads import get_num_threads, set_num_threads
from numbatensor.creation import (
    arange,
    as_tensor,
    asarray,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from numbatensor.custom_op import custom_op
from numbatensor.devices import device
from numbatensor.dtypes import (
    bfloat16,
    bool,
    double,
    dtype,
    finfo,
    float,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    iinfo,
    int,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    set_default_dtype,
    short,
    uint8,
)
from numbatensor.exchange import from_dlpack
from numbatensor.functional import (
    allclose,
    argmax,
    argmin,
    clamp,
    cumprod,
    cumsum,
    equal,
    flip,
    isclose,
    log_softmax,
    logit,
    logsumexp,
    masked_fill,
    max,
    min,
    nan_to_num,
    norm,
    repeat,
    roll,
    round,
    softmax,
    std,
    tile,
    tril,
    triu,
    var,
    var_mean,
    where,
)
from numbatensor.indexing import (
    argsort,
    gather,
    index_add,
    index_select,
    masked_select,
    nonzero,
    scatter,
    scatter_add,
    sort,
    take_along_dim,
    topk,
)
from numbatensor.joining import cat, chunk, hstack, split, stack, unbind, vstack
from numbatensor.linear_algebra import addmm, bmm, dot, einsum, matmul, mm, mv, outer, tensordot
from numbatensor.making import from_numpy, tensor
from numbatensor.memory import empty_cache, memory_stats, memory_summary
from numbatensor.random import (
    Generator,
    bernoulli,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)
from numbatensor.serialization import load, save
from numbatensor.tensor import Size, Tensor, functions

globals().update({name: f for name, f in functions.items() if name not in globals()})
for name in (
    "flatten",
    "movedim",
    "unflatten",
    "broadcast_to",
    "as_strided",
):
    globals()[name] = getattr(Tensor, name)
clip = clamp
absolute = functions["abs"]
swapaxes = swapdims = functions["transpose"]
import numbatensor.autograd.functional  # noqa: E402
from numbatensor import (  # noqa: E402
    amp,  # noqa: E402
    nn,
    optim,
    utils,
)
from numbatensor.amp import (  # noqa: E402
    autocast,
    clear_autocast_cache,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)

LAZY = {
    "func": "numbatensor.func",
    "vmap": "numbatensor.func",
    "pointwise": "numbatensor.scalars.ops",
    "cfunc": "numbatensor.c_functions",
    "cuda": "numbatensor.cuda",
    "backends": "numbatensor.backends",
    "get_float32_matmul_precision": "numbatensor.backends.cuda",
    "set_float32_matmul_precision": "numbatensor.backends.cuda",
}  # time that most programs need not spend


def __getattr__(name):
    """Modules, and what is in them, that are loaded when first asked for."""
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(LAZY[name])
    return module if LAZY[name].endswith(name) else getattr(module, name)


sites.register_library()
__version__ = "0.1.0"
