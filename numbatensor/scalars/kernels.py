"""Kernels of users' scalar functions: the function, or its derivative in some directions, of every element."""

import re

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from kernels_cpu import pointwise as skeleton
from numbatensor.scalars import teaching
from numbatensor.scalars.kinds import Dual, Real, Scalar, is_number
from numbatensor.scalars.values import Leaf, Pair, Place, constant, packed, unpacked

UNKNOWN = re.compile(r"No implementation of function Function\((.*?)\) found for signature")


def argument_kind(real, levels):
    """The type of an argument with a slope of 1 in some directions."""
    kind = real
    for level in levels:
        kind = Dual(level, kind, real)
    return kind


def seeded(x, levels):
    """A float as an argument with a slope of 1 in some directions."""
    for level in levels:
        x = Pair(level, x, constant(x.place, 1.0))
    return x


def seeding(real, directions, casts):
    """An intrinsic: the arguments of the function, of the floats of one element. `casts`: the types of those that are no floats."""

    @intrinsic
    def seed(typingctx, values):
        levels = [[n for n, i in enumerate(directions) if i == k] for k in range(len(values))]
        kinds = [cast or argument_kind(real, found) for cast, found in zip(casts, levels, strict=True)]

        def codegen(context, builder, signature, args):
            place, made = Place(context, builder, real), []
            for code, cast, found in zip(cgutils.unpack_tuple(builder, args[0]), casts, levels, strict=True):
                x = seeded(Leaf(place, code), found)
                made.append(context.cast(builder, code, real.base, cast) if cast else packed(x))
            return context.make_tuple(builder, types.Tuple(kinds), made)

        return types.Tuple(kinds)(values), codegen

    return seed


def finishing(real, directions, nth):
    """An intrinsic: the derivative in all directions of what the function gave, as a float. `nth`: of a tuple, which one is meant."""

    @intrinsic
    def finish(typingctx, result):
        inner = result[nth] if isinstance(result, types.BaseTuple) and nth is not None else result
        if not isinstance(inner, Scalar) and not is_number(inner):
            return None

        def codegen(context, builder, signature, args):
            place = Place(context, builder, real)
            code = args[0] if inner is result else builder.extract_value(args[0], nth)
            x = unpacked(place, inner, code)
            for level in reversed(range(len(directions))):
                x = x.slope if x.level == level else constant(place, 0.0)
            while isinstance(x, Pair):
                x = x.value
            return x.code

        return real.base(result), codegen

    return finish


def formula(function, real, directions, casts, rule=False, nth=None):
    """A function of floats: the derivative of a scalar function in some directions, each the number of an argument.

    `rule`: times a gradient, which is the first argument. `nth`: the function is that of a gradient, which takes one first, and
    this is which of its results is meant.
    """
    seed, finish = seeding(real, directions, casts), finishing(real, directions, nth)
    inner = function if nth is None else with_one(function)
    if rule:
        return lambda grad, *values: grad * finish(inner(*seed(values)))
    return lambda *values: finish(inner(*seed(values)))


def with_one(function):
    """A function of a gradient for the gradient 1."""

    @register_jitable
    def of_one(*values):
        return function(1.0, *values)

    return of_one


def kernel(function, base, count, directions, casts, tries, fixed, **options):
    """A kernel of a formula of so many arguments. `tries`: whether it is made of exact functions (see `Real`), or of both in turn."""
    made = [formula(function, Real(base, exact), directions, casts, **options) for exact in tries]
    kinds = [base] * (1 + count + bool(options.get("rule")))
    return skeleton.elementwise(made[0], kinds, fixed, *made[1:])


def reason(error):
    """What it is in a scalar function that Numba's error is about."""
    text = str(error)
    found = UNKNOWN.findall(text)
    if found and "of a pointwise function" in text:
        return f"{called(found[-1])} is not known of the numbers of a pointwise function, or has no derivative"
    return "Numba cannot compile it"


def called(shown):
    """The name of a function by the text that shows it."""
    for pattern in (r"<ufunc '(\w+)'>", r"<built-in function (\w+)>", r"<function (\w+)", r"<class '(\w+)'>"):
        found = re.search(pattern, shown)
        if found:
            return f"`{found[1]}`"
    return f"`{shown}`"


assert teaching  # tells Numba what these numbers are
