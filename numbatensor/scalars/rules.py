"""What may be done with the numbers of a pointwise function, and how slopes go through it.

A rule takes the slope of one operand and the operands, and gives what it adds to the slope of the result. It is written in the
operations themselves, so derivatives of any order follow. Where two branches meet, the slope is that of the branch taken.
"""

import math

from numbatensor.scalars.values import COMPOSED, RULES, apply, where


def operation(name):
    return lambda *xs: apply(name, *xs)


exp, log, sqrt, sin, cos, sinh, cosh = map(operation, ("exp", "log", "sqrt", "sin", "cos", "sinh", "cosh"))
exp2, tan, tanh, trunc, floor = map(operation, ("exp2", "tan", "tanh", "trunc", "floor"))
pow, hypot = map(operation, ("pow", "hypot"))
fabs, copysign = map(operation, ("fabs", "copysign"))


def sign(x):
    """-1, 0 or 1, as x is negative, zero or positive."""
    return where(x > 0.0, 1.0, where(x < 0.0, -1.0, x * 0.0))


def pow_slope(t, x, y):
    """Of the base; 0 where the exponent is, whatever the base."""
    safe = where(y == 0.0, where(x * x > 0.0, x, 1.0), x)
    return t * y * pow(safe, y - 1.0)


def pow_slope_of_exponent(t, x, y):
    """0 where the base is zero and the exponent is not negative."""
    safe = where(x == 0.0, 1.0, x)
    return where(x == 0.0, where(y >= 0.0, 0.0, t * pow(x, y) * log(x)), t * pow(x, y) * log(safe))


def square_of_radius(x, y):
    """``x ** 2 + y ** 2``, or infinity at the origin, where an angle has no slope."""
    r = x * x + y * y
    return where(r == 0.0, math.inf, r)


def share(t, x, y):
    """Of the larger of two, x; half of it of equals: as `nt.maximum` has it, with NaN too."""
    return where(x == y, t * 0.5, where(x < y, 0.0, t))


def sigmoid(x):
    """``1 / (1 + exp(-x))``; no exponential is infinite, so no derivative is NaN."""
    e = exp(where(x > 0.0, -x, x))
    return where(x > 0.0, 1.0, e) / (1.0 + e)


LN2, LN10, ROOT = math.log(2.0), math.log(10.0), 2.0 / math.sqrt(math.pi)

RULES.update(
    {
        "add": (lambda t, x, y: t, lambda t, x, y: t),
        "sub": (lambda t, x, y: t, lambda t, x, y: -t),
        "mul": (lambda t, x, y: t * y, lambda t, x, y: x * t),
        "div": (lambda t, x, y: t / y, lambda t, x, y: -t * (x / y) / y),
        "mod": (lambda t, x, y: t, lambda t, x, y: -t * floor(x / y)),
        "floordiv": (None, None),
        "pow": (pow_slope, pow_slope_of_exponent),
        "neg": (lambda t, x: -t,),
        "fabs": (lambda t, x: t * sign(x),),
        "exp": (lambda t, x: t * exp(x),),
        "exp2": (lambda t, x: t * exp2(x) * LN2,),
        "expm1": (lambda t, x: t * exp(x),),
        "log": (lambda t, x: t / x,),
        "log2": (lambda t, x: t / (x * LN2),),
        "log10": (lambda t, x: t / (x * LN10),),
        "log1p": (lambda t, x: t / (x + 1.0),),
        "sqrt": (lambda t, x: t / (sqrt(x) + sqrt(x)),),
        "sin": (lambda t, x: t * cos(x),),
        "cos": (lambda t, x: -t * sin(x),),
        "tan": (lambda t, x: t * (1.0 + tan(x) * tan(x)),),
        "asin": (lambda t, x: t / sqrt(1.0 - x * x),),
        "acos": (lambda t, x: -t / sqrt(1.0 - x * x),),
        "atan": (lambda t, x: t / (1.0 + x * x),),
        "atan2": (lambda t, x, y: t * y / square_of_radius(x, y), lambda t, x, y: -t * x / square_of_radius(x, y)),
        "sinh": (lambda t, x: t * cosh(x),),
        "cosh": (lambda t, x: t * sinh(x),),
        "tanh": (lambda t, x: t * (1.0 - tanh(x) * tanh(x)),),
        "asinh": (lambda t, x: t / sqrt(x * x + 1.0),),
        "acosh": (lambda t, x: t / sqrt(x * x - 1.0),),
        "atanh": (lambda t, x: t / (1.0 - x * x),),
        "erf": (lambda t, x: t * ROOT * exp(-x * x),),
        "erfc": (lambda t, x: -t * ROOT * exp(-x * x),),
        "hypot": (lambda t, x, y: t * (x / hypot(x, y)), lambda t, x, y: t * (y / hypot(x, y))),
        "fmod": (lambda t, x, y: t, lambda t, x, y: -t * trunc(x / y)),
        "copysign": (lambda t, x, y: t * sign(x) * copysign(1.0, y), None),
        "maximum": (share, lambda t, x, y: share(t, y, x)),
        "minimum": (lambda t, x, y: share(t, y, x), share),
        "logaddexp": (lambda t, x, y: t * sigmoid(x - y), lambda t, x, y: t * sigmoid(y - x)),
        "floor": (None,),
        "ceil": (None,),
        "trunc": (None,),
        "rint": (None,),
    }
)


def logaddexp(x, y):
    """``log(exp(x) + exp(y))``."""
    low, high = where(x > y, y, x), where(x > y, x, y)
    return high + apply("log1p", exp(where(low == high, 0.0, low - high)))  # of an infinity and itself, that


# What is made of others, but whose slopes are not those of the branch taken.
COMPOSED.update(
    {
        "maximum": lambda x, y: where(x != x, x, where(x > y, x, y)),  # as NumPy's: NaN where there is one
        "minimum": lambda x, y: where(x != x, x, where(x < y, x, y)),
        "logaddexp": logaddexp,
    }
)

# What is made of others.
MADE = {
    "pos": lambda x: x,
    "sign": sign,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "radians": lambda x: x * (math.pi / 180.0),
    "degrees": lambda x: x * (180.0 / math.pi),
    "max": lambda x, y: where(y > x, y, x),  # as Python's
    "min": lambda x, y: where(y < x, y, x),
    "fmax": lambda x, y: where(y != y, x, where(x >= y, x, y)),  # NaN only where both are
    "fmin": lambda x, y: where(y != y, x, where(x <= y, x, y)),
    "float": lambda x: x,
}

# What has a truth value.
TESTS = {
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "bool": lambda x: x != 0.0,
    "not": lambda x: x == 0.0,
    "isnan": lambda x: x != x,
    "isinf": lambda x: fabs(x) == math.inf,
    "isfinite": lambda x: fabs(x) < math.inf,
}
