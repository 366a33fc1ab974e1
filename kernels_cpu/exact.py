"""The names of `mathematics`, with the C library's functions for those that answer NaN beyond a bound."""

import math

from kernels_cpu.mathematics import *  # noqa: F403

sin, cos, tan = math.sin, math.cos, math.tan
