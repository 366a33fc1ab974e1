"""Trigonometric functions and their inverses.

``x = n * pi/2 + r`` with ``|r| <= pi/4``; sine and cosine of r are polynomials, and n says which of them, and with which sign.
Near zero n times pi/2 is subtracted in parts (Cody and Waite 1980); far from it, ``x * 2/pi`` is summed from those digits of
2/pi that matter to its fraction (Payne and Hanek 1983). Coefficients are minimax fits (Remez).
"""

import functools

import numpy as np
from llvmlite import ir

from kernels_cpu.expression import (
    INFINITY,
    SINGLE,
    Value,
    bits,
    fast_two_sum,
    from_bits,
    function,
    magnitude,
    nearest,
    polynomial,
    power_of_two,
    processor_has,
    root,
    select,
    two_product,
    two_sum,
    with_sign,
)

PI = 3.141592653589793
# (sin r - r) / r**3 and (cos r - 1 + r**2 / 2) / r**4 in r**2, for |r| <= pi / 4
SINE_SINGLE = -0.16666666641526956, 0.008333329374129823, -0.00019839330999033225, 2.7182744893451426e-06
SINE_DOUBLE = (
    -0.16666666666666632,
    0.00833333333332237,
    -0.00019841269829771175,
    2.7557313678668697e-06,
    -2.5050755961839547e-08,
    1.5896666530780505e-10,
)
COSINE_SINGLE = 0.04166664680721307, -0.0013887364486679069, 2.4438091096486947e-05
COSINE_DOUBLE = (
    0.0416666666666666,
    -0.0013888888888874064,
    2.480158728944347e-05,
    -2.7557314340656887e-07,
    2.087572162339473e-09,
    -1.135955931495797e-11,
)
# (atan t - t) / t**3 in t**2, for 0 <= t <= tan(pi / 8)
ARC_SINGLE = (
    -0.33333315497104116,
    0.19998488894438046,
    -0.14243837770707543,
    0.10595915559597324,
    -0.06083223972386297,
)
ARC_DOUBLE = (
    -0.333333333333332,
    0.1999999999995404,
    -0.14285714280244083,
    0.1111111078589614,
    -0.09090897829521835,
    0.07692061509641378,
    -0.06663118890657208,
    0.05847997754163124,
    -0.050397939732353764,
    0.03807698197022213,
    -0.01792078250587361,
)
# (asin s - s) / s**3 in s**2, for 0 <= s <= 1 / 2
ARC_SINE_SINGLE = (
    0.16666753928051548,
    0.0749524176403562,
    0.04547709971973149,
    0.024147596618595425,
    0.04221857426967719,
)
ARC_SINE_DOUBLE = (
    0.16666666666665383,
    0.0750000000034306,
    0.0446428568234719,
    0.030381959331588087,
    0.022371753517506757,
    0.01735977116634761,
    0.013884598089026614,
    0.012173280896823244,
    0.006510849180858113,
    0.01957391222478637,
    -0.016294076779486397,
    0.031958964365854464,
)


@functools.cache
def scaled_pi(exponent):
    """The whole part of ``pi * 2**exponent`` (Machin 1706)."""
    one = 1 << (exponent + 16)

    def arc_tangent(inverse):
        term = total = one // inverse
        k, square = 3, inverse * inverse
        while term:
            term = -term // square
            total += term // k
            k += 2
        return total

    return (16 * arc_tangent(5) - 4 * arc_tangent(239)) >> 16


def pieces(whole, exponent, widths):
    """``whole * 2**-exponent`` as a sum of floats with so many bits each."""
    parts = []
    for width in widths:
        shift = max(whole.bit_length() - width, 0)
        piece = whole >> shift << shift
        parts.append(float(piece >> shift) * 2.0 ** (shift - exponent))
        whole -= piece
    return parts


@functools.cache
def half_pi(digits, fused):
    """Parts of pi/2. Products of n and the first parts are exact; one FMA needs no such room."""
    widths = (digits,) * 3 if fused else (digits // 2,) * 3 + (digits,)
    return pieces(scaled_pi(400), 401, widths)


@functools.cache
def near(digits, fused):
    """Up to where `subtracted` has the precision that the functions need."""
    return 2.0 ** (digits * 5 // 7) if fused else 2.0 ** (digits // 2)


def subtracted(x):
    """``(r, k)`` with ``x = k * pi/2 + r`` near zero."""
    n, k = nearest(x * (2 / PI))
    for part in half_pi(x.format.digits, processor_has("fma")):
        x = x - n * part
    return x, k


@functools.cache
def digits_of_two_over_pi(digits):
    """2/pi as whole numbers of so many bits, enough for the largest float."""
    count = (128 if digits == 24 else 1024) // digits + 6
    whole = (1 << (2 * count * digits + 1)) // scaled_pi(count * digits)
    return [whole >> (digits * (count - 1 - i)) & ((1 << digits) - 1) for i in range(count)]


def digit(x, i):
    """The i-th of the `digits_of_two_over_pi`, as a float of the type of x."""
    builder, f = x.builder, x.format
    chosen = digits_of_two_over_pi(f.digits)
    kind = ir.ArrayType(f.type, len(chosen))
    name = f"kernels_cpu.two_over_pi.{f.width}"
    table = builder.module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(builder.module, kind, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(kind, [float(c) for c in chosen])
    return Value(builder, builder.load(builder.gep(table, [ir.Constant(f.integer, 0), i.llvm], inbounds=True)))


def summed(x):
    """``(r, k)`` with ``x = k * pi/2 + r`` far from zero."""
    f = x.format
    width = f.digits
    a = magnitude(x)
    exponent = (bits(a) >> f.fraction) - (f.bias + f.fraction)  # a = whole * 2**exponent
    finite = a < INFINITY
    skipped = (select(finite, exponent, 0) - 2) * (65536 // width + 1) >> 16  # digits whose product is a multiple of 4
    skipped = select(skipped > 0, skipped, 0)
    whole = from_bits((bits(a) & ((1 << f.fraction) - 1)) | ((f.bias + f.fraction) << f.fraction))
    unit = power_of_two(exponent - skipped * width - width, x)
    high = low = x.constant(0.0)
    for i in range(5):
        p, lost = two_product(whole * unit * 2.0 ** (-width * i), digit(x, skipped + i))
        for part in (p, lost):
            part = part - 4 * nearest(0.25 * part)[0] if i < 2 else part
            high, rest = two_sum(high, part)
            low = low + rest
    high, low = fast_two_sum(high, low)
    n, k = nearest(high)
    high, low = fast_two_sum(high - n, low)
    first, second, *_ = half_pi(width, True)
    p, lost = two_product(high, first)
    r = p + (lost + (high * second + low * first))
    negative = x < 0
    return select(finite, select(negative, -r, r), x - x), select(negative, -k, k)


def quadrant(x):
    """``(r, k)`` with ``x = k * pi/2 + r`` and ``|r| <= pi/4``."""
    far = magnitude(x) > near(x.format.digits, processor_has("fma"))
    r, k = subtracted(x)
    s, j = summed(x)
    return select(far, s, r), select(far, j, k)


def sine(r):
    z = r * r
    return r + r * z * polynomial(z, r.either(SINE_SINGLE, SINE_DOUBLE))


def cosine(r):
    z = r * r
    return 1 - (0.5 * z - z * z * polynomial(z, r.either(COSINE_SINGLE, COSINE_DOUBLE)))


def turned(r, k):
    """``sin(k * pi/2 + r)``."""
    y = select((k & 1) == 0, sine(r), cosine(r))
    return from_bits(bits(y) ^ ((k & 2) << (r.format.width - 2)))


@function(np.sin)
def sin(x):
    """The sine of an angle in radians."""
    r, k = quadrant(x)
    return select(x == 0, x, turned(r, k))


@function(np.cos)
def cos(x):
    """The cosine of an angle in radians."""
    r, k = quadrant(x)
    return turned(r, k + 1)


@function(np.tan)
def tan(x):
    """The tangent of an angle in radians: the sine over the cosine of what is left of it."""
    r, k = quadrant(x)
    s, c = sine(r), cosine(r)
    even = (k & 1) == 0
    y = select(even, s, c) / select(even, c, -s)
    return select(x == 0, x, y)


def arc_sine(s):
    z = s * s
    return s + s * z * polynomial(z, s.either(ARC_SINE_SINGLE, ARC_SINE_DOUBLE))


def angle_parts(x):
    """pi/2 as a float and the rest."""
    first, second, *_ = half_pi(x.format.digits, True)
    return first, second


@function(np.arcsin)
def asin(x):
    """The angle whose sine is x; above one half, ``pi/2 - 2 asin(sqrt((1 - x) / 2))``."""
    a = magnitude(x)
    far = a > 0.5
    p = arc_sine(select(far, root(0.5 - 0.5 * a), a))
    high, low = angle_parts(x)
    return with_sign(select(far, high - (2 * p - low), p), x)


@function(np.arccos)
def acos(x):
    """The angle whose cosine is x."""
    a = magnitude(x)
    far = a > 0.5
    p = arc_sine(select(far, root(0.5 - 0.5 * a), a))
    high, low = angle_parts(x)
    signed = with_sign(p, x)
    return select(
        far, select(x < 0, 2 * high - (2 * p - 2 * low), 2 * p), high - (signed - low)
    )


def arc(y, x):
    """The angle of a point (x, y) of the first quadrant."""
    high, low = angle_parts(x)
    swapped = y > x
    up, along = select(swapped, x, y), select(swapped, y, x)
    shrink = select(along > x.format.largest / 4, x.constant(0.25), 1.0)
    up, along = up * shrink, along * shrink
    along = select(along == 0, 1.0, along)
    both = up == INFINITY
    up, along = select(both, 1.0, up), select(both, 1.0, along)
    middle = up > 0.41421356237309503 * along
    t = select(middle, up - along, up) / select(middle, up + along, along)
    z = t * t
    r = t + t * z * polynomial(z, x.either(ARC_SINGLE, ARC_DOUBLE))
    base = select(middle, x.constant(0.5), 0.0)
    base = select(swapped, 1 - base, base)
    return base * high + (select(swapped, -r, r) + base * low)


@function(np.arctan)
def atan(x):
    """The angle whose tangent is x."""
    return with_sign(arc(magnitude(x), x.constant(1.0)), x)


@function(np.arctan2)
def atan2(y, x):
    """The angle of the point (x, y), from -pi to pi."""
    high, low = angle_parts(x)
    a = arc(magnitude(y), magnitude(x))
    return with_sign(select(bits(x) < 0, 2 * high - (a - 2 * low), a), y)
