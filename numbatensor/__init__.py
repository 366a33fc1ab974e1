"""A PyTorch-style tensor library whose every kernel is Python compiled by Numba."""

from numbatensor import autograd, graph_nodes, messages, printing, publish, python_rules, refusals
from numbatensor.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from numbatensor.core import sites
from numbatensor.core.threads import get_num_threads, set_num_threads
from numbatensor.creation import (
    Generator,
    arange,
    as_tensor,
    asarray,
    bernoulli,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    manual_seed,
    multinomial,
    normal,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    zeros,
    zeros_like,
)
from numbatensor.dtypes import (
    bool,
    double,
    dtype,
    float,
    float32,
    float64,
    get_default_dtype,
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
from numbatensor.functional import (
    addmm,
    allclose,
    argmax,
    argmin,
    argsort,
    bmm,
    cat,
    chunk,
    clamp,
    cumprod,
    cumsum,
    dot,
    einsum,
    equal,
    flip,
    gather,
    hstack,
    index_add,
    index_select,
    isclose,
    log_softmax,
    logit,
    logsumexp,
    masked_fill,
    masked_select,
    matmul,
    max,
    min,
    mm,
    mv,
    nan_to_num,
    nonzero,
    norm,
    outer,
    repeat,
    roll,
    round,
    scatter,
    scatter_add,
    softmax,
    sort,
    split,
    stack,
    std,
    take_along_dim,
    tensordot,
    tile,
    topk,
    tril,
    triu,
    unbind,
    var,
    var_mean,
    vstack,
)
from numbatensor.memory import memory_stats, memory_summary
from numbatensor.serialization import load, save
from numbatensor.tensor import Size, Tensor, from_numpy, functions, tensor

globals().update(functions)
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
from numbatensor import nn, optim, utils  # noqa: E402

sites.register_library()
__version__ = "0.1.0"
