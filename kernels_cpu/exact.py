"""The names of `mathematics` and of formulas on floats, in code that is right for every argument where those answer NaN."""

import math

from numba.extending import register_jitable

from kernels_cpu.mathematics import *  # noqa: F403
from kernels_cpu.mathematics import copysign, fabs

sin, cos, tan = math.sin, math.cos, math.tan


@register_jitable
def remainder_of_truncated(x, y):
    return copysign(fabs(x) % fabs(y), x)


@register_jitable
def remainder_of_rounded_down(x, y):
    return x % y


@register_jitable
def quotient_rounded_down(x, y):
    return x // y


fmod, modulo, floor_divide = remainder_of_truncated, remainder_of_rounded_down, quotient_rounded_down
