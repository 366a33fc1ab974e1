"""Matrix products: ``out[i, j] (+)= sum over p of x[i, p] * y[p, j]``, for operands of any strides.

The scheme is that of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), with BLIS's small
kernel: a tile of `out` stays in registers while `p` runs; the columns of `y` that it meets lie packed in the nearest cache.
The tile is written in LLVM's vectors. Every element sums over `p` in one order, wherever its tile begins, so no way of
splitting `out` over threads changes a result.

One thread, against a BLAS on one thread, products of 256 to 1024 (time of ours / theirs): see :func:`products`.
"""

import math
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

word = ir.IntType(64)
KINDS = {np.dtype(str(kind)): kind for kind in (
    types.float32, types.float64, types.int8, types.int16, types.int32, types.int64, types.uint8)}


class Product(NamedTuple):
    """What a piece of a batch of products needs to know, as int64 words; strides count elements.

    `kernel` is the address of the compiled product of one pair of matrices, `itemsize` the size of an element. `batch` is the
    address of `batch_rank` dimensions, each a :data:`BATCH`; stride 0 broadcasts. Every product of the batch falls into
    `row_pieces` by `column_pieces` pieces.
    """

    kernel: int
    itemsize: int
    out: int
    x: int
    y: int
    m: int
    n: int
    k: int
    out_row: int
    x_row: int
    x_col: int
    y_row: int
    y_col: int
    accumulate: int
    batch_rank: int
    batch: int
    row_pieces: int
    column_pieces: int


CONTEXT = np.dtype([(name, np.int64) for name in Product._fields])
BATCH = np.dtype([(name, np.int64) for name in ("size", "out", "x", "y")])


def registers():
    """The bytes of a vector register, and how many rows of two vectors a tile can hold in them."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 8  # 8, 12 and 14 rows are equally fast; 8 divides more shapes
    if features.get("avx"):
        return 32, 6
    return 16, 4 if llvm.get_process_triple().startswith("x86") else 8
