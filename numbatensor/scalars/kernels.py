"""Kernels of users' scalar functions: the function, or its derivative in some directions, of every element."""

import math
import re

from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from kernels_cpu import pointwise as skeleton
from numbatensor.scalars import teaching
from numbatensor.scalars.kinds import Dual, Real, Scalar, is_number
from numbatensor.scalars.values import Leaf, Pair, Place, constant, float_of, packed, unpacked

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


def evaluating(function, real, directions, casts, nth):
    """An intrinsic: the derivative of a compiled function in some directions, as a float of the floats of one element.

    `casts`: the types of the arguments that are no floats. `nth`: the function is that of a gradient, which takes one first, and this is
    which of its results is meant. Where the function fails, as ``range`` does with a step of 0, the result is NaN: no kernel can fail.
    """
    levels = [[n for n, i in enumerate(directions) if i == k] for k in range(len(casts))]
    kinds = [cast or argument_kind(real, found) for cast, found in zip(casts, levels, strict=True)]
    kinds = tuple(kinds if nth is None else [types.float64, *kinds])

    @intrinsic
    def evaluate(typingctx, values):
        sig = types.Dispatcher(function).get_call_type(typingctx, kinds, {})
        several = isinstance(sig.return_type, types.BaseTuple) and nth is not None
        result = sig.return_type[nth] if several else sig.return_type
        if not isinstance(result, Scalar) and not is_number(result):
            raise TypingError(f"it gives {result}, which is no number")
        found = function.overloads[sig.args]

        def codegen(context, builder, signature, args):
            place = Place(context, builder, real)
            given = [] if nth is None else [context.get_constant(types.float64, 1.0)]
            for code, cast, levels_of in zip(cgutils.unpack_tuple(builder, args[0]), casts, levels, strict=True):
                x = seeded(Leaf(place, code), levels_of)
                given.append(context.cast(builder, code, real.base, cast) if cast else packed(x))
            code = context.declare_function(builder.module, found.fndesc)
            status, code = context.call_conv.call_function(builder, code, sig.return_type, sig.args, given)
            context.add_linking_libs([found.library])
            x = unpacked(place, result, builder.extract_value(code, nth) if several else code)
            for level in reversed(range(len(directions))):
                x = x.slope if x.level == level else constant(place, 0.0)
            return builder.select(status.is_error, constant(place, math.nan).code, float_of(x).code)

        return real.base(values), codegen

    return evaluate


def formula(function, real, directions, casts, rule=False, nth=None):
    """A function of floats: the derivative of a scalar function in some directions. `rule`: times a gradient, which comes first."""
    evaluate = evaluating(function, real, directions, casts, nth)
    if rule:
        return lambda grad, *values: grad * evaluate(values)
    return lambda *values: evaluate(values)


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
