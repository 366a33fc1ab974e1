"""float16 and bfloat16 in compiled code: what a Tensor holds. Numbers made of them are floats."""

from numba import types
from numba.extending import lower_cast, models, register_model

from kernels_cpu.halves import i16, narrow_bfloat16, narrow_float16, widen_bfloat16, widen_float16


class Half(types.Type):
    """A float of 16 bits, as it lies in memory."""

    def __init__(self, name, widen, narrow):
        self.widen, self.narrow = widen, narrow
        super().__init__(name)


@register_model(Half)
class HalfModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, i16)


FLOAT16 = Half("float16", widen_float16, narrow_float16)
BFLOAT16 = Half("bfloat16", widen_bfloat16, narrow_bfloat16)


@lower_cast(Half, types.Number)
@lower_cast(Half, types.Boolean)
def to_number(context, builder, source, target, value):
    return context.cast(builder, source.widen(builder, value), types.float32, target)


@lower_cast(types.Number, Half)
@lower_cast(types.Boolean, Half)
def from_number(context, builder, source, target, value):
    return target.narrow(builder, context.cast(builder, value, source, types.float32))
