"""float16 and bfloat16: 16 bits in memory, float32 in registers.

A bfloat16 is the upper half of a float32. A float16 (IEEE 754 binary16) has 5 bits of exponent and 10 of fraction: processors convert
it, where they have F16C or are ARM's; elsewhere a few instructions on integers do. What is stored is rounded to the nearest, ties to
even; NaN stays NaN.
"""

import platform

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels_cpu.pointers import array_of, wide

i16, i32, f32, half = ir.IntType(16), ir.IntType(32), ir.FloatType(), ir.HalfType()
INFINITY, EXPONENT = 0x7C00, 0x7F800000  # of float16 in its bits, and of float32 in its own
OVERFLOW = 65520.0  # the least number that rounds to infinity
SMALLEST = 2.0**-14  # the least normal number
BIAS = 112 << 23  # between the exponents of float32 and float16, in the bits of float32


def in_hardware():
    """Whether the processor that code is made for converts float16."""
    if platform.machine() == "aarch64":
        return True
    chosen = numba.config.CPU_FEATURES
    return "+f16c" in chosen if chosen is not None else bool(llvm.get_host_cpu_features().get("f16c"))


def widened_by_integers(builder, value):
    """The float32 of a float16's bits: the fraction moved to its place, the exponent corrected by a product, which is exact."""
    bits = builder.zext(value, i32)
    sign = builder.shl(builder.and_(bits, i32(0x8000)), i32(16))
    size = builder.and_(bits, i32(0x7FFF))
    moved = builder.bitcast(builder.shl(size, i32(13)), f32)
    exact = builder.bitcast(builder.fmul(moved, ir.Constant(f32, 2.0**112)), i32)
    special = builder.or_(builder.shl(size, i32(13)), i32(EXPONENT))
    found = builder.select(builder.icmp_unsigned(">=", size, i32(INFINITY)), special, exact)
    return builder.bitcast(builder.or_(found, sign), f32)


def narrowed_by_integers(builder, value):
    """The bits of the float16 nearest to a float32."""
    bits = builder.bitcast(value, i32)
    sign = builder.lshr(builder.and_(bits, i32(0x80000000)), i32(16))
    size = builder.and_(bits, i32(0x7FFFFFFF))
    number = builder.bitcast(size, f32)
    odd = builder.and_(builder.lshr(size, i32(13)), i32(1))
    normal = builder.lshr(builder.sub(builder.add(size, builder.add(odd, i32(0xFFF))), i32(BIAS)), i32(13))
    # a sum with 0.5, whose last bit is worth as much as the last bit of a subnormal float16, rounds to that bit
    tiny = builder.sub(builder.bitcast(builder.fadd(number, ir.Constant(f32, 0.5)), i32), i32(0x3F000000))
    found = builder.select(builder.fcmp_ordered("<", number, ir.Constant(f32, SMALLEST)), tiny, normal)
    found = builder.select(builder.fcmp_ordered(">=", number, ir.Constant(f32, OVERFLOW)), i32(INFINITY), found)
    found = builder.select(builder.fcmp_unordered("uno", value, value), i32(0x7E00), found)
    return builder.trunc(builder.or_(found, sign), i16)


def widen_float16(builder, value):
    if in_hardware():
        return builder.fpext(builder.bitcast(value, half), f32)
    return widened_by_integers(builder, value)


def narrow_float16(builder, value):
    if in_hardware():
        return builder.bitcast(builder.fptrunc(value, half), i16)
    return narrowed_by_integers(builder, value)


def widen_bfloat16(builder, value):
    return builder.bitcast(builder.shl(builder.zext(value, i32), i32(16)), f32)


def narrow_bfloat16(builder, value):
    bits = builder.bitcast(value, i32)
    odd = builder.and_(builder.lshr(bits, i32(16)), i32(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, i32(0x7FFF))), i32(16))
    found = builder.select(builder.fcmp_unordered("uno", value, value), i32(0x7FC0), rounded)
    return builder.trunc(found, i16)


def conversion(made, result, given):
    """An intrinsic that converts one value by a function that builds LLVM's instructions."""

    @intrinsic
    def convert(typingctx, value):
        return result(given), lambda context, builder, signature, args: made(builder, args[0])

    return convert


def to_float32(made):
    return conversion(made, types.float32, types.uint16)


def from_float32(made):
    return conversion(made, types.uint16, types.float32)


float16_to_float32, float32_to_float16 = to_float32(widen_float16), from_float32(narrow_float16)
bfloat16_to_float32, float32_to_bfloat16 = to_float32(widen_bfloat16), from_float32(narrow_bfloat16)


word_at, get_word, put_word = array_of(types.uint16)
float_at, get_float, put_float = array_of(types.float32)


def widening(convert):
    """A loop ``(target, source, step, n)``: 16-bit elements at steps in bytes become contiguous float32."""

    def loop(target, source, step, n):
        wide()
        t, s = float_at(target), word_at(source)
        if step == 2:
            for i in range(n):
                put_float(t, i, convert(get_word(s, i)))
        else:
            for i in range(n):
                put_float(t, i, convert(get_word(word_at(source + i * step), 0)))

    return loop


def narrowing(convert):
    """A loop ``(target, step, source, n)``: contiguous float32 become 16-bit elements at steps in bytes."""

    def loop(target, step, source, n):
        wide()
        t, s = word_at(target), float_at(source)
        if step == 2:
            for i in range(n):
                put_word(t, i, convert(get_float(s, i)))
        else:
            for i in range(n):
                put_word(word_at(target + i * step), 0, convert(get_float(s, i)))

    return loop
