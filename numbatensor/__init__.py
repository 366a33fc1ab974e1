"""A PyTorch-style tensor library whose every kernel is Python compiled by Numba."""

from numbatensor import autograd, graph_nodes, inplace, messages, printing
from numbatensor.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from numbatensor.core import sites
from numbatensor.core.threads import get_num_threads, set_num_threads
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
from numbatensor.memory import memory_stats, memory_summary
from numbatensor.tensor import Size, Tensor, from_numpy, globals_of_ops, matmul, tensor

globals().update({name: f for name, f in globals_of_ops.items()})
sites.register_library()
__version__ = "0.1.0"
