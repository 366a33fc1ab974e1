"""What Numba is told of the numbers of pointwise functions: operators, and functions of Python, `math` and NumPy.

All of it is kept (`FUNCTIONS`, `templates`): compilers for devices are told the same, and so is what computes in their place (`there.py`).
"""

import inspect
import itertools
import math
import operator

import numpy as np
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast

from numbatensor.scalars.kinds import Scalar, is_number
from numbatensor.scalars.rules import MADE, TESTS
from numbatensor.scalars.values import RULES, apply, float_of, packed, place_for, place_of_types, raised, unpacked

FUNCTIONS: dict = {}  # by function of Python's, `math`'s or NumPy's: its rule
templates: list = []  # (function, what finds the type of its result)

OPERATORS = {
    "add": (operator.add, operator.iadd),
    "sub": (operator.sub, operator.isub),
    "mul": (operator.mul, operator.imul),
    "div": (operator.truediv, operator.itruediv),
    "mod": (operator.mod, operator.imod),
    "floordiv": (operator.floordiv, operator.ifloordiv),
    "pow": (operator.pow, operator.ipow, pow),
    "neg": (operator.neg,),
    "pos": (operator.pos,),
    "not": (operator.not_,),
    "bool": (bool,),
    "float": (float,),
    "fabs": (abs,),
} | {name: (getattr(operator, name),) for name in ("lt", "le", "gt", "ge", "eq", "ne")}
NUMPYS = {
    "fabs": ("abs", "absolute", "fabs"),
    "pow": ("power", "float_power"),
    "div": ("divide", "true_divide"),
    "sub": ("subtract",),
    "mul": ("multiply",),
    "mod": ("mod", "remainder"),
    "floordiv": ("floor_divide",),
    "neg": ("negative",),
    "pos": ("positive",),
    "asin": ("arcsin",),
    "acos": ("arccos",),
    "atan": ("arctan",),
    "atan2": ("arctan2",),
    "asinh": ("arcsinh",),
    "acosh": ("arccosh",),
    "atanh": ("arctanh",),
    "radians": ("radians", "deg2rad"),
    "degrees": ("degrees", "rad2deg"),
}
PYTHONS = ("max", "min", "float", "bool", "not")  # what is not NumPy's under that name


def functions_of(name):
    """Python's functions that are an operation."""
    found = [*OPERATORS.get(name, ()), getattr(math, name, None)]
    found += [getattr(np, n, None) for n in NUMPYS.get(name, () if name in PYTHONS else (name,))]
    return {f for f in found if f is not None}


def declare(function, typed):
    """Tell Numba of what type a function's result is. `typed`: gives a signature of a typing context and the types of arguments."""
    templates.append((function, typed))
    register(function, typed, AbstractTemplate, infer_global)


def register(function, typed, base, infer):
    """The same, to one of Numba's compilers, whose class of templates this is, and where it keeps them."""

    class Template(base):
        key = function

        def generic(self, args, kws):
            return None if kws else typed(self.context, args)

    infer(function)(Template)


def teach(function, rule, truth=False):
    """Tell Numba what a function is of numbers. `rule`: from Values to a Value, or (`truth`) to a Truth."""
    count = len(inspect.signature(rule).parameters)

    def result_of(kinds):
        place = place_of_types(kinds)
        made = rule(*[unpacked(place, k, None) for k in kinds])
        return types.boolean if truth else made.kind

    def typed(context, args):
        fits = len(args) == count and all(isinstance(a, Scalar) or is_number(a) for a in args)
        if fits and any(isinstance(a, Scalar) for a in args):
            return signature(result_of(args), *args)

    FUNCTIONS[function] = rule
    declare(function, typed)

    def code(context, builder, sig, args):
        place = place_for(context, builder, sig.args)
        made = rule(*[unpacked(place, k, a) for k, a in zip(sig.args, args, strict=True)])
        return made.code if truth else packed(raised(made, sig.return_type))

    for kinds in itertools.product((Scalar, types.Any), repeat=count):
        if Scalar in kinds:
            lower_builtin(function, *kinds)(code)


def operation(name, count):
    """The rule of an operation."""
    return (lambda x: apply(name, x)) if count == 1 else (lambda x, y: apply(name, x, y))


for name_, rules_ in RULES.items():
    for function_ in functions_of(name_):
        teach(function_, operation(name_, len(rules_)))
for name_, rule_ in MADE.items():
    for function_ in functions_of(name_):
        teach(function_, rule_)
for name_, rule_ in TESTS.items():
    for function_ in functions_of(name_):
        teach(function_, rule_, truth=True)


def teach_extremum(function, rule):
    """Tell Numba what Python's ``max(x, y, ...)`` is of numbers; all are brought to one type before."""

    def typed(context, args):
        if len(args) < 2 or not any(isinstance(a, Scalar) for a in args):
            return None
        if not all(isinstance(a, Scalar) or is_number(a) for a in args):
            return None
        kind = args[0]
        for other in args[1:]:
            kind = context.unify_pairs(kind, other)
        return signature(kind, *[kind] * len(args))

    declare(function, typed)

    @lower_builtin(function, types.VarArg(Scalar))
    def code(context, builder, sig, args):
        place = place_for(context, builder, sig.args)
        found, *others = [unpacked(place, k, a) for k, a in zip(sig.args, args, strict=True)]
        for one in others:
            found = rule(found, one)
        return packed(raised(found, sig.return_type))


teach_extremum(max, MADE["max"])
teach_extremum(min, MADE["min"])


def type_of_whole(context, args):
    """``int(x)``: a constant, without slopes."""
    if len(args) == 1 and isinstance(args[0], Scalar):
        return signature(types.int64, args[0])


declare(int, type_of_whole)


@lower_builtin(int, Scalar)
def whole(context, builder, sig, args):
    place = place_for(context, builder, sig.args)
    inner = float_of(unpacked(place, sig.args[0], args[0])).code
    return context.cast(builder, inner, place.real.base, types.int64)


@lower_cast(types.Number, Scalar)
@lower_cast(types.Boolean, Scalar)
@lower_cast(Scalar, Scalar)
def cast(context, builder, source, target, value):
    place = place_for(context, builder, (target,))
    return packed(raised(unpacked(place, source, value), target))
