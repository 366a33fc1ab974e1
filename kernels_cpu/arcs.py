"""Arc functions: angles of points, of sines and of cosines."""

from kernels_cpu.pairs import PI, both, without
from kernels_cpu.traced import bits, constant, copysign, fabs, fma, from_bits, polynomial, select, sqrt, traced

inf = float("inf")
QUARTERS = [
    both(k * PI / 4, (24, 24), (53, 53)) if k else {32: [0.0, 0.0], 64: [0.0, 0.0]} for k in range(5)
]  # k * pi / 4
TAN_EIGHTH = 0.4142135623730950  # tan(pi / 8)

# Minimax polynomials, relative errors 2**-28 to 2**-30, and 2**-59: (asin(s) / s - 1) / s**2 in s**2, for s to 1 / 2 ...
ASIN = {
    32: (0.166667521, 0.0749531016, 0.0454690196, 0.0241855029, 0.042157013),
    64: (
        0.1666666666666676,
        0.07499999999970869,
        0.04464285717455577,
        0.030381942710250295,
        0.022372214921206238,
        0.01735161318159538,
        0.013980806675072663,
        0.011399025378452471,
        0.010779618725069426,
        0.00370880607920075,
        0.021701605986357387,
        -0.02099078495463544,
        0.03262344129242811,
    ),
}
# ... and (atan(t) / t - 1) / t**2 in t**2, for t to tan(pi / 8)
ATAN = {
    32: (-0.333333164, 0.199985266, -0.142443448, 0.105987281, -0.0608873554),
    64: (
        -0.3333333333333319,
        0.19999999999952278,
        -0.14285714280072134,
        0.11111110777529097,
        -0.09090897593772745,
        0.07692057394224756,
        -0.06663072897504276,
        0.05847668291703863,
        -0.0503833099533692,
        0.03804031910695284,
        -0.01788114994981385,
    ),
}


def choose(condition, k, l, x):
    """Pairs of multiples of pi / 4, by a condition; k and l are such pairs, or numbers of quarters."""
    k, l = ([constant(x, q) for q in QUARTERS[one][x.width]] if isinstance(one, int) else one for one in (k, l))
    return [select(condition, *both) for both in zip(k, l, strict=True)]


def angle(x, y, backwards):
    """The angle from 0 to pi of a point (x, y) with positive coordinates; or of (-x, y), where a condition holds."""
    steep = y > x
    far, near = select(steep, y, x), select(steep, x, y)
    scale = select(far > 1e30, constant(x, 2.0**-20), select(far < 1e-30, constant(x, 2.0**80), 1.0))
    far, near = far * scale, near * scale
    middle = near > far * TAN_EIGHTH
    difference, total = far - near, far + near
    top = select(middle, -difference, near)
    bottom = select(middle, total, select(far == 0.0, 1.0, far))
    inverse = 1.0 / bottom
    t = top * inverse
    lost = fma(t, near - (total - far), (far - difference) - near)
    low = (without(top, t, bottom) - select(middle, lost, 0.0)) * inverse
    straight = (near == inf) & (far == inf)
    t, low = select(straight, 0.0, t), select(far < inf, low, 0.0)
    turned = bits(select(steep, constant(x, -0.0), 0.0)) ^ bits(select(backwards, constant(x, -0.0), 0.0))
    t, low = from_bits(bits(t) ^ turned), from_bits(bits(low) ^ turned)
    one = choose(middle | straight, 1, choose(steep, 2, 0, x), x)
    other = choose(middle | straight, 3, choose(steep, 2, 4, x), x)
    first, second = choose(backwards, other, one, x)
    z = t * t
    return first + (t + fma(z * t, polynomial(z, ATAN[x.width]), low + second))


@traced
def atan(x):
    """Arc tangent of x."""
    a = fabs(x)
    return copysign(angle(constant(x, 1.0), a, x != x), x)


@traced
def atan2(y, x):
    """Angle of a point (x, y), from -pi to pi."""
    return copysign(angle(fabs(x), fabs(y), bits(x) < 0), y)


def arc(x):
    """asin(|x|) where |x| is at most 1/2, and acos(|x|) / 2 elsewhere, as a pair; and where."""
    a = fabs(x)
    large = a > 0.5
    z = select(large, fma(a, -0.5, 0.5), a * a)
    root = sqrt(z)
    s = select(large, root, a)
    lost = select(large, without(z, root, root) / (root + (root + 1e-30)), 0.0)
    return large, s, fma(s * z, polynomial(z, ASIN[x.width]), lost)


def combine(base, times, s, rest):
    """``base + times * (s + rest)`` of pairs, whose base is larger, or 0."""
    first, second = base
    total = fma(times, s, first)
    return total + fma(times, rest, fma(times, s, first - total) + second)


@traced
def asin(x):
    """Arc sine of x; NaN beyond 1."""
    large, s, rest = arc(x)
    return copysign(combine(choose(large, 2, 0, x), select(large, constant(x, -2.0), 1.0), s, rest), x)


@traced
def acos(x):
    """Arc cosine of x; NaN beyond 1."""
    large, s, rest = arc(x)
    negative = x < 0.0
    base = choose(large, choose(negative, 4, 0, x), 2, x)
    return combine(base, copysign(select(large, constant(x, 2.0), 1.0), select(large, x, -x)), s, rest)
