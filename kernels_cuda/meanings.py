"""What the device's functions of floats mean in Python, for the block emulator: of a float32 they make a float32, and nothing raises."""

import math
from fractions import Fraction

import numpy as np


def floating(function):
    """A function of NumPy's floats, for Python's numbers too."""

    def meaning(*values):
        return function(*[v if isinstance(v, np.floating) else np.float64(v) for v in values])

    return meaning


def wide(function):
    """A function of Python's, computed in float64 and rounded; where that raises, NaN or infinity."""

    def meaning(x):
        try:
            value = function(float(x))
        except ValueError:
            value = math.nan
        except OverflowError:
            value = math.inf
        return type(x)(value) if isinstance(x, np.floating) else np.float64(value)

    return meaning


def fma(x, y, z):
    """x times y plus z, rounded once."""
    kind = np.result_type(x, y, z).type
    if kind is np.float64 and np.isfinite([x, y, z]).all():  # longdouble has too few bits
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        return np.float64(exact) if exact else x * y + z
    return kind(np.longdouble(x) * np.longdouble(y) + np.longdouble(z))


NAMES = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
]
NAMES += ["floor", "ceil", "trunc", "rint", "fabs", "copysign", "fmod", "hypot", "nextafter"]
OTHERS = {"pow": np.power, "fmax": np.fmax, "fmin": np.fmin, "rsqrt": lambda x: type(x)(1) / np.sqrt(x)}
OTHERS |= {"a" + name: getattr(np, "arc" + name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "tan2")}
MEANINGS = {name: floating(function) for name, function in (OTHERS | {n: getattr(np, n) for n in NAMES}).items()}
MEANINGS |= {"erf": wide(math.erf), "erfc": wide(math.erfc), "tgamma": wide(math.gamma), "lgamma": wide(math.lgamma)}
MEANINGS["fma"] = fma
