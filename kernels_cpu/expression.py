"""Scalar formulas that become LLVM code directly, so that the loop around them vectorises.

A formula is a Python function of `Value`s. Python's operators on a `Value` append one LLVM instruction each; constants take
the type of the value they meet, so that nothing in a float32 formula can turn into float64. There is no branch to write: a
choice is `select`, and both of its sides are computed. Numba types one call, whatever the length of the formula: a loop over
`exp` compiles in half the time of the same polynomial written as jitted functions.

Every instruction carries the flag `contract` and no other: ``a * b + c`` is one rounding where the processor has FMA, and two
elsewhere, and no looser flag of the caller (numba adds those only where there are none) reaches the formulas.
"""

import functools
import inspect
import math

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import lower_builtin, type_callable

BIT = ir.IntType(1)
CONTRACT = ("contract",)
INFINITY, NOT_A_NUMBER = math.inf, math.nan


@functools.cache
def processor_has(feature):
    """Whether numba compiles for a processor with a feature, as LLVM spells it."""
    if config.CPU_FEATURES is not None:
        return f"+{feature}" in config.CPU_FEATURES.split(",")
    return bool(llvm.get_host_cpu_features().get(feature))


class Format:
    """The layout of a binary floating point type (IEEE 754): `digits` of significand, exponent `bias`, integer of its width."""

    def __init__(self, llvm_type, width, digits):
        self.type, self.integer, self.width, self.digits = llvm_type, ir.IntType(width), width, digits
        self.bias = (1 << (width - digits - 1)) - 1
        self.fraction = digits - 1  # bits below the exponent
        self.magic = 1.5 * 2.0**self.fraction  # added to a number, rounds it to a whole one in its lowest bits
        self.magic_bits = ((self.bias + self.fraction) << self.fraction) + (1 << (self.fraction - 1))
        self.smallest_normal = 2.0 ** (1 - self.bias)
        self.largest = (2.0 - 2.0**-self.fraction) * 2.0**self.bias


SINGLE, DOUBLE = Format(ir.FloatType(), 32, 24), Format(ir.DoubleType(), 64, 53)
FORMATS = {str(f.type): f for f in (SINGLE, DOUBLE)} | {str(f.integer): f for f in (SINGLE, DOUBLE)}


class Value:
    """A number of the code that is being built."""

    __slots__ = ("builder", "llvm")
    __hash__ = None

    def __init__(self, builder, value):
        self.builder, self.llvm = builder, value

    @property
    def type(self):
        return self.llvm.type

    @property
    def format(self):
        return FORMATS[str(self.type)]

    @property
    def whole(self):
        return isinstance(self.type, ir.IntType)

    def constant(self, number):
        """A number of this type."""
        return number if isinstance(number, Value) else Value(self.builder, ir.Constant(self.type, number))

    def either(self, single, double):
        """What a formula takes for float32, or for float64."""
        return single if self.format is SINGLE else double

    def operate(self, operation, *others, **options):
        operands = [self.llvm] + [self.constant(other).llvm for other in others]
        return Value(self.builder, getattr(self.builder, operation)(*operands, **options))

    def arithmetic(self, operation, other):
        if self.whole:
            return self.operate(operation, other)
        return self.operate("f" + operation, other, flags=CONTRACT)

    def __add__(self, other):
        return self.arithmetic("add", other)

    def __sub__(self, other):
        return self.arithmetic("sub", other)

    def __mul__(self, other):
        return self.arithmetic("mul", other)

    def __truediv__(self, other):
        return self.operate("fdiv", other, flags=CONTRACT)

    def __mod__(self, other):
        return self.operate("frem", other, flags=CONTRACT)

    def __rsub__(self, other):
        return self.constant(other) - self

    def __rtruediv__(self, other):
        return self.constant(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self.constant(0) - self if self.whole else self.operate("fneg")

    def __and__(self, other):
        return self.operate("and_", other)

    def __or__(self, other):
        return self.operate("or_", other)

    def __xor__(self, other):
        return self.operate("xor", other)

    def __invert__(self):
        return self.operate("not_")

    def __lshift__(self, other):
        return self.operate("shl", other)

    def __rshift__(self, other):
        return self.operate("ashr", other)

    def compare(self, sign, other):
        if self.whole:
            return self.operate_comparison("icmp_signed", sign, other)
        return self.operate_comparison("fcmp_unordered" if sign == "!=" else "fcmp_ordered", sign, other, flags=CONTRACT)

    def operate_comparison(self, operation, sign, other, **options):
        return Value(self.builder, getattr(self.builder, operation)(sign, self.llvm, self.constant(other).llvm, **options))

    def __lt__(self, other):
        return self.compare("<", other)

    def __le__(self, other):
        return self.compare("<=", other)

    def __gt__(self, other):
        return self.compare(">", other)

    def __ge__(self, other):
        return self.compare(">=", other)

    def __eq__(self, other):
        return self.compare("==", other)

    def __ne__(self, other):
        return self.compare("!=", other)


def intrinsic(name, x, *others):
    """A function that LLVM knows, of values of one type."""
    values = [x.llvm] + [x.constant(other).llvm for other in others]
    function = x.builder.module.declare_intrinsic(
        f"llvm.{name}", [x.type], ir.FunctionType(x.type, [x.type] * len(values))
    )
    return Value(x.builder, x.builder.call(function, values))


def select(condition, x, y):
    """`x` where the condition holds, `y` elsewhere; both are computed."""
    known = x if isinstance(x, Value) else y
    values = (known.constant(one).llvm for one in (x, y))
    return Value(known.builder, known.builder.select(condition.llvm, *values))


def bits(x):
    """The integer with the bits of a float."""
    return Value(x.builder, x.builder.bitcast(x.llvm, x.format.integer))


def from_bits(k):
    """The float with the bits of an integer."""
    return Value(k.builder, k.builder.bitcast(k.llvm, k.format.type))


def to_float(k):
    """The float nearest to an integer."""
    return Value(k.builder, k.builder.sitofp(k.llvm, k.format.type))


def magnitude(x):
    """The absolute value."""
    return intrinsic("fabs", x)


def with_sign(x, y):
    """`x` with the sign bit of `y`."""
    return intrinsic("copysign", x, y)


def root(x):
    """The square root, correctly rounded."""
    return intrinsic("sqrt", x)


def polynomial(x, coefficients):
    """``coefficients[0] + coefficients[1] * x + ...`` by Horner's rule, one FMA a term."""
    *rest, total = coefficients
    for c in reversed(rest):
        total = x * total + c
    return total


def clamp(x, low, high):
    """`x` between two bounds; NaN stays."""
    x = select(x < low, low, x)
    return select(x > high, high, x)


def nearest(x):
    """``(n, k)``: the whole number nearest to `x`, as a float and as an integer, for ``|x| < 2 ** (digits - 2)``."""
    shifted = x + x.format.magic
    return shifted - x.format.magic, bits(shifted) - x.format.magic_bits


def power_of_two(k, unit):
    """``2 ** k`` of the type of `unit`, for exponents of normal numbers."""
    f = unit.format
    return from_bits((k + f.bias) << f.fraction)


def scale(x, k):
    """``x * 2 ** k``, rounded once (to a subnormal too), for ``|k| <= 2 * bias``: two factors, as one may overflow."""
    half = k >> 1
    return x * power_of_two(half, x) * power_of_two(k - half, x)


def two_sum(x, y):
    """``(s, e)``: the rounded sum and what rounding lost, ``s + e = x + y`` (Knuth 1969)."""
    s = x + y
    z = s - x
    return s, (x - (s - z)) + (y - z)


def fast_two_sum(x, y):
    """`two_sum` for ``|x| >= |y|`` (Dekker 1971)."""
    s = x + y
    return s, y - (s - x)


def two_product(x, y):
    """``(p, e)``: the rounded product and what rounding lost.

    One FMA; without it, products of halves of the significands (Dekker 1971), each exact: ``llvm.fma`` would call libm.
    """
    y = x.constant(y)
    p = x.operate("fmul", y, flags=("nsz",))
    if processor_has("fma") or not llvm.get_process_triple().startswith(("x86", "i")):
        return p, intrinsic("fma", x, y, -p)
    mask = -1 << ((x.format.digits + 1) // 2)
    a, c = from_bits(bits(x) & mask), from_bits(bits(y) & mask)
    b, d = x - a, y - c
    return p, ((a * c - p) + a * d + b * c) + b * d


def floats(*arguments):
    """The float type that holds all arguments: integers count as float64, as in Python's `math`."""
    widest = types.float32
    for one in arguments:
        if isinstance(one, (types.Integer, types.Boolean)) or one == types.float64:
            widest = types.float64
        elif one != types.float32:
            return None
    return widest


def function(python, result=None):
    """Declare a formula: a function of `Value`s that numba-compiled code and Python code call by its name.

    Parameters
    ----------
    python : callable
        What it is for Python's and NumPy's numbers.
    result : numba type, optional
        What it returns, if not the type of its arguments.
    """

    def declare(formula):
        count = len(inspect.signature(formula).parameters)

        @functools.wraps(formula)
        def declared(*arguments):
            if any(isinstance(a, Value) for a in arguments):
                return formula(*arguments)
            with np.errstate(all="ignore"):
                return python(*arguments)

        @type_callable(declared)
        def typed(context):
            def signature(*arguments):
                kind = floats(*arguments)
                return kind and (result or kind)(*(kind,) * count)

            return {
                1: lambda x: signature(x),
                2: lambda x, y: signature(x, y),
                3: lambda x, y, z: signature(x, y, z),
            }[count]

        @lower_builtin(declared, types.VarArg(types.Any))
        def build(context, builder, signature, arguments):
            return formula(*(Value(builder, a) for a in arguments)).llvm

        return declared

    return declare


def each(python):
    """A function of Python floats for Python's and NumPy's numbers, in the argument's type."""

    def call(x):
        return np.float32(python(float(x))) if isinstance(x, np.float32) else python(float(x))

    return call

