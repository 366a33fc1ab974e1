"""The dispatch table: a row for each op, and how its empty slots are filled."""

import numpy as np
from numba import njit

from numbatensor.core.compiler import publish, symbol
from numbatensor.core.halves import computed
from numbatensor.core.memory import load
from numbatensor.core.python import call_python
from numbatensor.core.records import Op, op_at

ROWS = 4096
TABLE = np.zeros(ROWS, Op)
publish("table", TABLE.ctypes.data)
RESERVED = (
    "to",
    "add",
    "sum",
    "reshape",
    "expand",
    "copy_slices",
    "as_strided_view",
    "copy",
    "moved",
)  # ops that the core itself runs
for k, name in enumerate(RESERVED):
    publish("op_" + name, TABLE.ctypes.data + k * Op.itemsize)
CONVERSIONS = np.zeros((16, 16), np.int64)  # kernels out = x, by target and source dtype
publish("conversions", CONVERSIONS.ctypes.data)

# What complain() is told.
NO_MEMORY, SHAPES, UNSUPPORTED, OUT_SHAPE, OUT_DTYPE, LEAF_IN_PLACE, OVERLAP, NO_GRAD_FN, FREED_GRAPH, RESTRICTED = (
    range(10)
)
TOO_MANY_DIMENSIONS, EMPTY_BOX, OUT_GRAD, COPY_SHAPE, ZERO_DIVISION, NEGATIVE_POWER = range(10, 16)
INFERENCE_WRITE, INFERENCE_SAVE, AMBIGUOUS, INFERENCE_VERSION, MIXED_FLOATS, SCATTERED, MANY_ROWS = range(16, 23)
# Of an op and float16 and bfloat16: its code for the CPU takes them, its code for devices does; it takes float32 beside them; its result stays float32.
ON_CPU, ON_DEVICES, MIXES, WIDE = 1, 2, 4, 8
DIVIDES, RAISES = 1, 2  # traits of pointwise ops: what their second operand must not be, of integers
FIXED = -1  # resolve() is asked for FIXED - k: the variant of a pointwise kernel whose operand k is one value
FUSED = 64  # and for FUSED + bits of inputs: the kernel of all their gradients
RUN = -1  # what resolve() is asked for beside kernels: the code of `Op.run`


@njit
def kernel_of(op, dtype):
    """The kernel of an op for a compute dtype, compiled or loaded if this is its first use."""
    kernel = op_at(op).kernel[dtype]
    return kernel if kernel else call_python("resolve", op, 0, dtype)


@njit
def extra_kernel(op, i, dtype):
    """Kernel i of an op that has several."""
    kernel = op_at(op).rule[i, dtype]
    return kernel if kernel else call_python("resolve", op, 1 + i, dtype)


@njit
def runner(op):
    """The code that runs an op, compiled or loaded if this is its first use."""
    run = op_at(op).run
    return run if run else call_python("resolve", op, RUN, 0)


@njit
def refuse(op, arguments):
    """Fail because an op cannot take its arguments: the op's Python side says why."""
    return call_python("refused", op, arguments)


@njit
def conversion(target, source):
    """The kernel that converts elements, as what they are computed in."""
    target, source = computed(target), computed(source)
    kernel = load(symbol("conversions") + 8 * (16 * target + source))
    return kernel if kernel else call_python("resolve", 0, target, source)
