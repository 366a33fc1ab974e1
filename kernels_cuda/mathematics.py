"""Scalar functions for kernels: the names of Python's `math`, and of formulas on integers and floats, as `kernels_cpu` has them.

Functions of floats are libdevice's, in the precision of their arguments: most err by at most 2 units in the last place.
"""

# ruff: noqa: F401
from math import e, inf, nan, pi

import numpy as np
from llvmlite import ir
from numba import cuda, int64, types
from numba.cuda.extending import intrinsic

from kernels_cuda.meanings import MEANINGS
from kernels_cuda.pointers import emulated

device = cuda.jit(device=True)


def libdevice(name, count=1, meaning=None):
    """A function of libdevice, as an intrinsic on floats of one type."""

    def call(builder, values):
        kind = values[0].type
        symbol = f"__nv_{name}" + ("f" if kind == ir.FloatType() else "")
        function = builder.module.globals.get(symbol) or ir.Function(
            builder.module, ir.FunctionType(kind, [kind] * count), symbol
        )
        return builder.call(function, values)

    def typed(typingctx, kinds):
        kind = typingctx.unify_types(*kinds)
        if not isinstance(kind, types.Float):
            return None

        def codegen(context, builder, signature, args):
            return call(builder, [context.cast(builder, a, k, kind) for a, k in zip(args, signature.args, strict=True)])

        return kind(*kinds), codegen

    functions = {
        1: lambda typingctx, x: typed(typingctx, (x,)),
        2: lambda typingctx, x, y: typed(typingctx, (x, y)),
        3: lambda typingctx, x, y, z: typed(typingctx, (x, y, z)),
    }
    functions[count].__name__ = name
    return emulated(meaning or MEANINGS[name])(intrinsic(functions[count]))


exp, exp2, expm1, log, log2, log10, log1p = map(libdevice, ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p"))
sqrt, rsqrt, cbrt, sin, cos, tan = map(libdevice, ("sqrt", "rsqrt", "cbrt", "sin", "cos", "tan"))
asin, acos, atan, sinh, cosh, tanh = map(libdevice, ("asin", "acos", "atan", "sinh", "cosh", "tanh"))
asinh, acosh, atanh, erf, erfc = map(libdevice, ("asinh", "acosh", "atanh", "erf", "erfc"))
gamma, lgamma = map(libdevice, ("tgamma", "lgamma"))
ceil, fabs, floor, round, trunc = map(libdevice, ("ceil", "fabs", "floor", "rint", "trunc"))
atan2, copysign, fmod, hypot, pow = (libdevice(name, 2) for name in ("atan2", "copysign", "fmod", "hypot", "pow"))
fma = libdevice("fma", 3)


REPLACED: tuple = ("power", "magnitude", "rounded_down", "rounded_up", "cut", "rounded", "truncated_quotient")
REPLACED += ("remainder_of_truncated", "remainder_of_rounded_down", "quotient_rounded_down", "larger", "smaller")


@emulated(lambda x, value: type(x)(value))
@intrinsic
def like(typingctx, x, value):
    """A number in the type of another: a literal alone is a float64."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], value, x)

    return x(x, value), codegen


def called(typingctx, kind, kinds):
    """What a function, given by its type, returns for argument types, and how to call it in the code being built."""
    signature = kind.get_call_type(typingctx, kinds, {})

    def call(context, builder, args):
        made = context.get_function(kind, signature)
        context.add_linking_libs(getattr(made, "libs", ()))
        wanted, count = list(signature.args), len(signature.args) - 1
        rest = wanted.pop() if isinstance(wanted[-1], (types.StarArgTuple, types.StarArgUniTuple)) else None
        wanted += rest.types if rest else ()
        args = [context.cast(builder, a, k, t) for a, k, t in zip(args, kinds, wanted, strict=True)]
        return made(builder, [*args[:count], context.make_tuple(builder, rest, args[count:])] if rest else args)

    return signature.return_type, call


def by_type(of_floats, of_integers, count=1):
    """One of two functions, as an argument is a float or none is."""

    def typed(typingctx, kinds):
        chosen = of_floats if any(isinstance(k, types.Float) for k in kinds) else of_integers
        result, call = called(typingctx, typingctx.resolve_value_type(chosen), kinds)
        return result(*kinds), lambda context, builder, signature, args: call(context, builder, args)

    def meaning(*values):
        return (of_floats if any(isinstance(v, np.floating) for v in values) else of_integers)(*values)

    functions = {
        1: lambda typingctx, x: typed(typingctx, (x,)),
        2: lambda typingctx, x, y: typed(typingctx, (x, y)),
    }
    return emulated(meaning)(intrinsic(functions[count]))


@device
def isnan(x):
    return x != x


@device
def isinf(x):
    return x - x != x - x and x == x


@device
def isfinite(x):
    return x - x == x - x


@device
def sigmoid(x):
    """``1 / (1 + exp(-x))``"""
    return like(x, 1.0) / (like(x, 1.0) + exp(-x))


@device
def softplus(x):
    """``log(1 + exp(x))``, without overflow."""
    return (x if x > like(x, 0.0) or x != x else like(x, 0.0)) + log1p(exp(-fabs(x)))


@device
def modulo(x, y):
    """What is left of x after the quotient rounded down: it has the sign of y."""
    rest, zero = fmod(x, y), like(x, 0.0)
    return rest + y if rest != zero and (rest < zero) != (y < zero) else rest


@device
def floor_divide(x, y):
    """The quotient, rounded down: of what is a multiple of y, so that it is nearly whole before it is rounded."""
    rest, zero, one = fmod(x, y), like(x, 0.0), like(x, 1.0)
    if y == zero:
        return x / y
    quotient = (x - rest) / y
    if rest != zero and (rest < zero) != (y < zero):
        quotient = quotient - one
    if quotient == zero:
        return copysign(zero, x / y)
    below = floor(quotient)
    return below + one if quotient - below > like(x, 0.5) else below


@device
def larger(x, y):
    """The larger of two numbers; NaN where one is."""
    return x if x > y or x != x else y


@device
def smaller(x, y):
    """The smaller of two numbers; NaN where one is."""
    return x if x < y or x != x else y


@device
def itself(x):
    return x


@device
def power_of_integers(x, y):
    """x to the power of y, by squaring; a negative exponent gives what the reciprocal rounds to."""
    base, left, out = int64(x), int64(y), int64(1)
    if left < 0:
        return out if base == 1 or (base == -1 and left % 2 == 0) else -out if base == -1 else out - out
    while left > 0:
        if left & 1:
            out = int64(out * base)
        base = int64(base * base)
        left >>= 1
    return out


@device
def magnitude_of_integer(x):
    return x if x > 0 else -x


@device
def quotient_of_floats(x, y):
    return trunc(x / y)


@device
def quotient_of_integers(x, y):
    """The quotient, rounded towards zero."""
    down = x // y
    return down + 1 if down < 0 and down * y != x else down


@device
def remainder_of_integers(x, y):
    """What is left of x after the quotient rounded towards zero: it has the sign of x."""
    rest = x % y
    return rest - y if rest != 0 and (rest < 0) != (x < 0) else rest


@device
def remainder_of_integers_down(x, y):
    return x % y


@device
def quotient_of_integers_down(x, y):
    return x // y


power = by_type(pow, power_of_integers, 2)
magnitude = by_type(fabs, magnitude_of_integer)
rounded_down, rounded_up, cut, rounded = (by_type(f, itself) for f in (floor, ceil, trunc, round))
truncated_quotient = by_type(quotient_of_floats, quotient_of_integers, 2)
remainder_of_truncated = by_type(fmod, remainder_of_integers, 2)
remainder_of_rounded_down = by_type(modulo, remainder_of_integers_down, 2)
quotient_rounded_down = by_type(floor_divide, quotient_of_integers_down, 2)
