"""float16 and bfloat16: how their elements become float32 and back. Every op computes in float32 (see `kernels_cpu/halves.py`).

Pointwise ops bring their operands into blocks of float32, as they do what is not contiguous; other ops run on converted arguments.
"""

from numba import njit

from kernels_cpu.halves import (
    bfloat16_to_float32,
    float16_to_float32,
    float32_to_bfloat16,
    float32_to_float16,
    narrowing,
    widening,
)
from numbatensor.core.compiler import native
from numbatensor.core.tensors import FLOAT16, FLOAT32

widen_float16, widen_bfloat16 = (njit(widening(f)) for f in (float16_to_float32, bfloat16_to_float32))
narrow_float16, narrow_bfloat16 = (njit(narrowing(f)) for f in (float32_to_float16, float32_to_bfloat16))
ROOM = 4  # bits of a frame's word for each operand


@njit
def computed(dtype):
    """The dtype in which an op on a dtype computes."""
    return FLOAT32 if dtype >= FLOAT16 else dtype


@njit
def half_of(f, k):
    """The dtype of operand k of a frame where that is float16 or bfloat16, else 0."""
    return f.halves >> (ROOM * k) & 15


@native
def widen_run(target, source, step, n, dtype):
    """n elements of a half type at steps in bytes, as contiguous float32."""
    if dtype == FLOAT16:
        widen_float16(target, source, step, n)
    else:
        widen_bfloat16(target, source, step, n)
    return 0


@native
def narrow_run(target, step, source, n, dtype):
    """n contiguous elements of float32, as a half type at steps in bytes."""
    if dtype == FLOAT16:
        narrow_float16(target, step, source, n)
    else:
        narrow_bfloat16(target, step, source, n)
    return 0
