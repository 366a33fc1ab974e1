"""Numbers in the code that Numba makes of a scalar function: what an operation on them leaves behind, slopes included.

`apply` is the whole of it: of numbers with slopes, the value of an operation is the operation on the values, and its slope the sum
of what the rules (`rules.py`) make of each slope. Rules are written in the same operations, so that a slope can have slopes.

A number knows its place, which is what makes code of an operation on floats: LLVM instructions for the CPU (`Processor`), for a
device, or what Python computes (`there.py`). Where there is nothing to make, only types are found.
"""

import math
import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from kernels_cpu import mathematics
from kernels_cpu.traced import Number
from numbatensor.scalars.kinds import Dual, Real, Scalar, common, joined, part

RULES: dict = {}  # by operation: for each operand, what makes of its slope that of the result (None: there is none)
COMPOSED: dict = {}  # operations whose values are made of others
NUMBAS = {"mod": operator.mod, "floordiv": operator.floordiv}  # Numba's own code
BOUNDED = ("sin", "cos", "tan")  # answer NaN where they cannot tell
MOST = 64  # largest whole exponent that is written out as products


class Place:
    """Where code is made, for floats of a type. This one makes none: only types are wanted."""

    def __init__(self, real):
        self.real = real

    def constant(self, number):
        """A number that is known, as code."""

    def known(self, code):
        """The number that code is, if it is a constant."""

    def cast(self, code, kind):
        """Code of a number of one of Numba's own types, as a float."""

    def parts(self, code):
        """The value and the slope in the code of a dual number."""
        return None, None

    def compare(self, sign, x, y):
        """Whether something holds; NaN is unequal to everything."""
        return Truth(None)

    def choose(self, condition, x, y):
        """x where a condition holds, else y."""

    def made(self, name, *codes):
        """An operation on floats."""


class Truth:
    """Whether something holds, where that is not known before the code runs."""

    def __init__(self, code):
        self.code = code


class Value:
    """A number: a Leaf or a Pair."""

    level = -1
    __array_ufunc__ = None  # NumPy's numbers leave it to these operators

    def __neg__(self):
        return apply("neg", self)

    def __pos__(self):
        return self

    def __abs__(self):
        return apply("fabs", self)

    def __bool__(self):
        return bool(self != 0.0)

    def __int__(self):
        return int(float_of(self).code)

    def __lt__(self, other):
        return compare("<", self, other)

    def __le__(self, other):
        return compare("<=", self, other)

    def __gt__(self, other):
        return compare(">", self, other)

    def __ge__(self, other):
        return compare(">=", self, other)

    def __eq__(self, other):
        return compare("==", self, other)

    def __ne__(self, other):
        return compare("!=", self, other)

    __hash__ = None  # type: ignore[assignment]


def infix(name):
    return lambda self, other: apply(name, self, other), lambda self, other: apply(name, other, self)


for word_, name_ in {n: n for n in ("add", "sub", "mul", "mod", "floordiv", "pow")}.items() | {("truediv", "div")}:
    for prefix_, method_ in zip(("", "r"), infix(name_), strict=True):
        setattr(Value, f"__{prefix_}{word_}__", method_)


class Leaf(Value):
    """A float."""

    def __init__(self, place, code):
        self.place, self.code, self.kind = place, code, place.real


class Pair(Value):
    """A value and its slope in direction `level`."""

    def __init__(self, level, value, slope):
        self.level, self.value, self.slope = level, value, slope
        self.place, self.kind = value.place, Dual(level, value.kind, slope.kind)


def constant(place, number):
    """A Python number as a Leaf."""
    return Leaf(place, place.constant(number))


def known(x):
    """The number that a Leaf is, if it is a constant."""
    return x.place.known(x.code) if isinstance(x, Leaf) else None


def unpacked(place, kind, code):
    """What Numba's code holds, as a Value. Numbers of Numba's own types take the width of the others."""
    if isinstance(kind, Dual):
        value, slope = place.parts(code)
        return Pair(kind.level, unpacked(place, kind.value, value), unpacked(place, kind.slope, slope))
    if isinstance(kind, Real):
        return Leaf(place, code)
    if isinstance(kind, types.Literal):
        return constant(place, kind.literal_value)
    return Leaf(place, place.cast(code, kind))


def packed(x):
    """A Value as Numba's code holds it."""
    if isinstance(x, Leaf):
        return x.code
    return joined(x.place.context, x.place.builder, x.kind, packed(x.value), packed(x.slope))


def raised(x, kind):
    """A Value with all the slopes of a type; those that it has not are zero."""
    if isinstance(kind, Real):
        return x
    if x.level == kind.level:
        return Pair(kind.level, raised(x.value, kind.value), raised(x.slope, kind.slope))
    return Pair(kind.level, raised(x, kind.value), raised(constant(x.place, 0.0), kind.slope))


def float_of(x):
    """The float that a number is, without its slopes."""
    return below(x, 0)


def below(x, level):
    """A number without its slopes of a level and of those above it."""
    while x.level >= level:
        x = x.value
    return x


def place_of(*values):
    return next(v.place for v in values if isinstance(v, Value))


def lifted(*values):
    """Values, constants among them as Leaves."""
    place = place_of(*values)
    return [v if isinstance(v, Value) else constant(place, v) for v in values]


def apply(name, *xs):
    """An operation on numbers, with its slopes."""
    xs = lifted(*xs)
    if name == "pow" and is_whole(known(xs[1])):
        return whole_power(xs[0], int(known(xs[1])))
    level = max(x.level for x in xs)
    if level < 0:
        return primitive(name, *xs)
    values, slope = [x.value if x.level == level else x for x in xs], None
    alone = [below(v, xs[0].place.real.apart) for v in values] if level > xs[0].place.real.apart else values
    for x, rule in zip(xs, RULES[name], strict=True):
        if x.level == level and rule is not None:
            term = rule(x.slope, *alone)
            slope = term if slope is None else slope + term
    value = apply(name, *values)
    return value if slope is None else Pair(level, value, slope)


def is_whole(exponent):
    """Whether an exponent is known, whole and small."""
    return exponent is not None and abs(exponent) <= MOST and exponent == int(exponent)


def whole_power(x, n):
    """A power of a whole exponent that is known: products, which are exact for negative numbers, and whose slopes are whole powers."""
    if n < 0:
        return 1.0 / whole_power(x, -n)
    made = None
    while n:
        if n & 1:
            made = x if made is None else made * x
        n >>= 1
        x = x * x if n else x
    return constant(x.place, 1.0) if made is None else made


def compare(sign, x, y):
    """A comparison of values; NaN is unequal to everything."""
    x, y = map(float_of, lifted(x, y))
    return x.place.compare(sign, x.code, y.code)


def where(condition, x, y):
    """x where the condition holds, else y: with the slopes of what is chosen."""
    x, y = lifted(x, y)
    kind = common(x.kind, y.kind)
    return chosen(condition, raised(x, kind), raised(y, kind))


def chosen(condition, x, y):
    if isinstance(x, Pair):
        return Pair(x.level, chosen(condition, x.value, y.value), chosen(condition, x.slope, y.slope))
    return Leaf(x.place, x.place.choose(condition, x.code, y.code))


ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "neg": "fneg"}
INTRINSICS = {"fabs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint"}
INTRINSICS |= {"copysign": "copysign"}


def primitive(name, *xs):
    """An operation on floats."""
    if name in COMPOSED:
        return COMPOSED[name](*xs)
    return Leaf(xs[0].place, xs[0].place.made(name, *[x.code for x in xs]))


class Instructions(Place):
    """A place in the code that a compiler of Numba's makes."""

    def __init__(self, context, builder, real):
        super().__init__(real)
        self.context, self.builder = context, builder

    def constant(self, number):
        return ir.Constant(self.context.get_value_type(self.real), float(number))

    def known(self, code):
        return code.constant if isinstance(code, ir.Constant) and isinstance(code.constant, (int, float)) else None

    def cast(self, code, kind):
        number = self.known(code)
        return self.context.cast(self.builder, code, kind, self.real.base) if number is None else self.constant(number)

    def parts(self, code):
        return part(self.builder, code, 0), part(self.builder, code, 1)

    def compare(self, sign, x, y):
        make = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return Truth(make(sign, x, y))

    def choose(self, condition, x, y):
        return self.builder.select(condition.code, x, y)

    def made(self, name, *codes):
        if name in ARITHMETIC:
            return getattr(self.builder, ARITHMETIC[name])(*codes)
        return self.function(name, codes)

    def function(self, name, codes):
        """A function of floats."""

    def call(self, found, args):
        """The status and the result of a compiled function."""


class Processor(Instructions):
    """The same, for the CPU."""

    def function(self, name, codes):
        context, b, real = self.context, self.builder, self.real
        if name == "fmod":
            return b.frem(*codes)
        if name in INTRINSICS:
            first, *others = [Number(b, c) for c in codes]
            return first.call(INTRINSICS[name], *others).value
        if name in NUMBAS or (real.exact and name in BOUNDED):
            function = NUMBAS.get(name) or getattr(math, name)
            code = context.get_function(function, signature(real.base, *[real.base] * len(codes)))
            made = code(b, codes)
            context.add_linking_libs(getattr(code, "libs", ()))
            return made
        return getattr(mathematics, name).formula(*[Number(b, c) for c in codes]).value

    def call(self, found, args):
        context, described = self.context, found.fndesc
        context.add_linking_libs([found.library])
        function = context.declare_function(self.builder.module, described)
        return context.call_conv.call_function(self.builder, function, described.restype, described.argtypes, args)


PLACES: dict = {False: Processor}  # by whether numbers are for devices (see `there.py`)


def place_for(context, builder, kinds):
    """The place of an operation on numbers of some types."""
    real = next(k for k in kinds if isinstance(k, Scalar)).real
    return PLACES[real.there](context, builder, real)


def place_of_types(kinds):
    """The same, where only the type of the result is wanted."""
    return Place(next(k for k in kinds if isinstance(k, Scalar)).real)
