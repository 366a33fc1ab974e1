"""Element types: their codes, how they promote, and Python numbers as elements."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from kernels_cpu.halves import float32_to_bfloat16, float32_to_float16
from numbatensor.core.compiler import i64, publish, symbol
from numbatensor.core.memory import bits, load, number, store
from numbatensor.core.records import tensor_at
from numbatensor.core.tensors import BFLOAT16, FLOAT16, FLOAT32

BFLOAT16_BITS = np.dtype([("bfloat16", np.uint16)])  # what NumPy, which has no bfloat16, is told that its elements are
DTYPES: tuple = (
    *(np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64, np.float16),
    BFLOAT16_BITS,
)
# codes 10 and 11 are reserved: complex64, complex128
NAMES = (*(np.dtype(d).name for d in DTYPES[:-1]), "bfloat16")
CODES: dict = {np.dtype(d): k for k, d in enumerate(DTYPES)}
INT64, BOOL = 5, 0


def promote_table():
    """PyTorch's promotion of two dtypes of one priority."""
    table = np.zeros((16, 16), np.int64)
    for x in range(len(DTYPES)):
        for y in range(len(DTYPES)):
            low, high = min(x, y), max(x, y)
            table[x, y] = low if high >= FLOAT16 and FLOAT32 <= low < FLOAT16 else high
            if low == 1 and high == 2:
                table[x, y] = 3  # uint8 and int8 fit in int16
            if low == FLOAT16 and high == BFLOAT16:
                table[x, y] = FLOAT32  # neither has the other's numbers
    return table


PROMOTE = promote_table()
publish("promote", PROMOTE.ctypes.data)


@njit
def promote(x, y):
    """The dtype of two operands of one priority; -1 is none."""
    if x < 0:
        return y
    if y < 0:
        return x
    return load(symbol("promote") + 8 * (16 * x + y))


@njit
def outrank(high, low):
    """The dtype where the operands of higher priority have `high` and those of lower priority have `low`."""
    if high < 0:
        return low
    if high >= FLOAT32 or low < 0:
        return high
    if high == BOOL or low >= FLOAT32:
        return promote(high, low)
    return high


@njit
def common_dtype(a, tensors, masks):
    """The dtype that the arguments promote to that are not masks: dimensioned tensors over 0-d ones over Python numbers."""
    dims = zeros = numbers = -1
    for k in range(tensors):
        if masks >> k & 1:
            continue
        t = a.tensors[k]
        if t:
            x = tensor_at(t)
            if x.ndim:
                dims = x.dtype if dims == x.dtype else promote(dims, x.dtype)
            else:
                zeros = promote(zeros, x.dtype)
        elif a.kinds[k] == 3:
            numbers = promote(numbers, load(symbol("default_dtype")))
        else:
            numbers = promote(numbers, INT64 if a.kinds[k] == 2 else BOOL)
    return outrank(dims, outrank(zeros, numbers))


default_dtype = np.array([FLOAT32])
publish("default_dtype", default_dtype.ctypes.data)


@intrinsic
def put_float32(typingctx, address, value):
    def codegen(context, builder, signature, args):
        narrow = builder.fptrunc(args[1], ir.FloatType())
        builder.store(narrow, builder.inttoptr(args[0], ir.FloatType().as_pointer()))
        return context.get_dummy_value()

    return types.none(i64, types.float64), codegen


@njit
def put_half(address, dtype, value):
    """Store a number as float16 or bfloat16, in a whole word."""
    x = types.float32(value)
    store(address, types.int64(float32_to_float16(x) if dtype == FLOAT16 else float32_to_bfloat16(x)))


@njit
def put_number(address, dtype, kind, value):
    """Store a Python number as an element: `kind` 3 means that `value` is the bits of a float64."""
    if dtype >= FLOAT32:
        real = number(value) if kind == 3 else float(value)
        if dtype == FLOAT32:
            put_float32(address, real)
        elif dtype >= FLOAT16:
            put_half(address, dtype, real)
        else:
            store(address, bits(real))
    else:
        whole = int(number(value)) if kind == 3 else value
        store(address, (1 if whole else 0) if dtype == BOOL else whole)


@njit
def category(dtype):
    """0 bool, 1 integer, 2 float: what an in-place op may not leave upwards."""
    return 0 if dtype == BOOL else 1 if dtype < FLOAT32 else 2
