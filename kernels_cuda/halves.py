"""float16 and bfloat16 as kernels have them: 16 bits in memory, float32 in registers."""

import numpy as np
from llvmlite import ir
from numba import types

try:  # numba-cuda's
    from numba.cuda.extending import models, register_model  # type: ignore[attr-defined]
except ImportError:  # of Numba's own, which looks where all targets do
    from numba.extending import models, register_model

i16, i32, f32 = ir.IntType(16), ir.IntType(32), ir.FloatType()
PACK_FLOAT16, PACK_BFLOAT16 = (
    "cvt.rn.f16.f32 $0, $1;",
    "cvt.rn.bf16.f32 $0, $1;",
)  # to the nearest, ties to even; sm_80 has both


class Half(types.Type):
    """A float of 16 bits. It is only ever in memory: what a kernel reads is a float32."""

    bitwidth = 16

    def __init__(self, name):
        super().__init__(name)


@register_model(Half)
class HalfModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, i16)


float16, bfloat16 = Half("float16"), Half("bfloat16")


def computed(kind):
    """The type of what is computed with, of what memory holds."""
    return types.float32 if isinstance(kind, Half) else kind


def assembled(builder, code, result, given, letters, value):
    """What an instruction of the assembler makes of a value."""
    return builder.call(ir.InlineAsm(ir.FunctionType(result, [given]), code, letters), [value])


def widen(builder, kind, value):
    """The float32 of 16 bits."""
    if kind == float16:
        return assembled(builder, "cvt.f32.f16 $0, $1;", f32, i16, "=f,h", value)
    return builder.bitcast(builder.shl(builder.zext(value, i32), i32(16)), f32)


def narrow(builder, kind, value):
    """The 16 bits nearest to a float32."""
    return assembled(builder, PACK_FLOAT16 if kind == float16 else PACK_BFLOAT16, i16, f32, "=h,f", value)


def widened(kind, bits):
    """The same for the emulator: a NumPy float32 of 16 bits."""
    if kind == float16:
        return np.float32(np.uint16(bits).view(np.float16))
    return np.uint32(int(bits) << 16).view(np.float32)


def narrowed(kind, value):
    """The same for the emulator: the 16 bits nearest to a number."""
    with np.errstate(over="ignore"):
        value = np.float32(value)
        if kind == float16:
            return np.float16(value).view(np.uint16)
    if np.isnan(value):
        return np.uint16(0x7FFF)
    bits = int(value.view(np.uint32))
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF)
