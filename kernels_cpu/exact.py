"""What `mathematics` offers, with the C library's functions for those that answer NaN beyond a bound."""

from math import cos, sin, tan  # noqa: F401

from kernels_cpu import mathematics
