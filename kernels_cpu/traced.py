"""Formulas that are traced: Python code that runs once per dtype, on symbolic numbers, and leaves LLVM instructions behind.

Numba types constants as float64 and the sum of two 32-bit integers as 64-bit, so that vectors have half the lanes, or none; and it
takes 65 ms to compile what is traced in one. Here a constant takes the dtype of the number it meets, an integer has as many
bits as the float it comes from, and tables hold what differs by dtype, by width. A formula has no branch: `select`
computes both sides. Sums and products are rounded as they are written, whatever the kernel's flags; `fma` is fused.
"""

import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

CHOSEN = config.CPU_FEATURES  # type: ignore[attr-defined]
FEATURES = llvm.get_host_cpu_features().flatten() if CHOSEN is None else CHOSEN
FUSED = "+fma" in FEATURES or platform.machine().lower() not in ("x86_64", "amd64", "i686")
STRICT = ("arcp",)  # a flag that means nothing to sums and products, and keeps numba from adding "contract" to them


class Number:
    """A float, an integer of the same width, or a truth value, in the code that is being traced."""

    def __init__(self, builder, value):
        self.builder, self.value, self.type = builder, value, value.type
        self.is_float = isinstance(value.type, (ir.FloatType, ir.DoubleType))

    @property
    def width(self):
        """32 or 64: bits of the float or integer."""
        return {ir.FloatType(): 32, ir.DoubleType(): 64}[self.type] if self.is_float else self.type.width

    def of(self, value):
        """A constant, or a number, as an LLVM value of this number's type."""
        return value.value if isinstance(value, Number) else ir.Constant(self.type, value)

    def binary(self, name, x, y):
        make = getattr(self.builder, ("f" if self.is_float else "") + name)
        flags = {"flags": STRICT} if self.is_float and name != "div" else {}
        return Number(self.builder, make(self.of(x), self.of(y), **flags))

    def integer(self, name, x, y):
        return Number(self.builder, getattr(self.builder, name)(self.of(x), self.of(y)))

    def compare(self, sign, other):
        b = self.builder
        make = b.icmp_signed if not self.is_float else b.fcmp_unordered if sign == "!=" else b.fcmp_ordered
        return Number(b, make(sign, self.value, self.of(other)))

    def call(self, name, *others):
        """An LLVM intrinsic of numbers of one type."""
        kind = ir.FunctionType(self.type, [self.type] * (1 + len(others)))
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [self.type], kind)
        return Number(self.builder, self.builder.call(function, [self.value, *map(self.of, others)]))

    def __add__(self, other):
        return self.binary("add", self, other)

    def __radd__(self, other):
        return self.binary("add", other, self)

    def __sub__(self, other):
        return self.binary("sub", self, other)

    def __rsub__(self, other):
        return self.binary("sub", other, self)

    def __mul__(self, other):
        return self.binary("mul", self, other)

    def __rmul__(self, other):
        return self.binary("mul", other, self)

    def __truediv__(self, other):
        return self.binary("div", self, other)

    def __rtruediv__(self, other):
        return self.binary("div", other, self)

    def __neg__(self):
        return Number(self.builder, self.builder.fneg(self.value)) if self.is_float else 0 - self

    def __lshift__(self, count):
        return self.integer("shl", self, count)

    def __rshift__(self, count):
        return self.integer("lshr", self, count)

    def __and__(self, other):
        return self.integer("and_", self, other)

    def __or__(self, other):
        return self.integer("or_", self, other)

    def __xor__(self, other):
        return self.integer("xor", self, other)

    def __invert__(self):
        return self.integer("xor", self, -1)

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

    __hash__ = None  # type: ignore[assignment]


def number_of(*values):
    """The first that is a number; others are constants of its type."""
    return next(value for value in values if isinstance(value, Number))


def select(condition, x, y):
    """x where the condition holds, else y."""
    kind = number_of(x, y)
    return Number(kind.builder, kind.builder.select(condition.value, kind.of(x), kind.of(y)))


def fma(x, y, z):
    """``x * y + z``, rounded once where the processor can."""
    x = constant(number_of(x, y, z), x)
    return x.call("fma", y, z) if FUSED else x * y + z


def constant(x, value):
    """A constant of the type of x."""
    return Number(x.builder, x.of(value))


def fabs(x):
    """Magnitude of x."""
    return x.call("fabs")


def sqrt(x):
    """Square root of x, rounded correctly."""
    return x.call("sqrt")


def trunc(x):
    """x without its fraction."""
    return x.call("trunc")


def copysign(x, sign):
    """The magnitude of x with the sign of another number."""
    return x.call("copysign", sign)


def bits(x):
    """The bits of a float, as an integer."""
    return Number(x.builder, x.builder.bitcast(x.value, ir.IntType(x.width)))


def from_bits(i):
    """The float that has such bits."""
    return Number(i.builder, i.builder.bitcast(i.value, {32: ir.FloatType(), 64: ir.DoubleType()}[i.width]))


def at_least(x, low):
    """x, or a constant where it is less; NaN stays. One instruction on x86, whose `max` gives its second operand for NaN."""
    return select(x < low, low, x)


def at_most(x, high):
    """x, or a constant where it is greater; NaN stays."""
    return select(x > high, high, x)


def polynomial(x, coefficients):
    """``c[0] + c[1] * x + c[2] * x**2 ...`` by Horner's rule: the order that rounds least and takes the fewest steps."""
    total = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = fma(x, total, c)
    return total


def traced(function):
    """Declare a function of floats of one type by a formula over symbolic numbers: an intrinsic for compiled code, which has it as `formula`."""

    def signature(*arguments):
        kind = types.float32 if all(a == types.float32 for a in arguments) else types.float64

        def codegen(context, builder, signature, args):
            return function(*[Number(builder, a) for a in args]).value

        return kind(*[kind] * len(arguments)), codegen

    def one(typingctx, x):
        return signature(x)

    def two(typingctx, x, y):
        return signature(x, y)

    chosen = (one, two)[function.__code__.co_argcount - 1]
    chosen.__name__, chosen.__doc__ = function.__name__, function.__doc__
    made = intrinsic(chosen)
    made.formula = function
    return made


def rounding(name):
    """A function of one float that LLVM knows, which keeps the type: ``floor``, ``rint``."""

    def function(x):
        return x.call(name)

    return traced(function)
