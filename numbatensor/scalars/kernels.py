"""Kernels of users' scalar functions: the function, or its derivative in some directions, of every element."""

import math
import re

from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from kernels_cpu import pointwise as skeleton
from numbatensor.scalars import teaching
from numbatensor.scalars.kinds import LEVELS, Dual, Real, Scalar, is_number
from numbatensor.scalars.values import Leaf, Pair, below, constant, float_of, packed, place_for, unpacked

MISTAKE = re.compile(r"it gives .+?, which is no number|its gradient gives .+?, one for each argument")
UNKNOWN = re.compile(r"No implementation of function Function\((?!<intrinsic evaluate>)(.*?)\) found for signature")


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


def slope_of(x, levels):
    """The slope of a number in the directions of some levels, the highest first."""
    for level in levels:
        x = below(x, level + 1)
        x = x.slope if x.level == level else constant(x.place, 0.0)
    return float_of(x)


class Evaluation:
    """Derivatives of a compiled function, as a tuple of floats of the floats of one element: what an intrinsic makes of them.

    `directions`: of each level, the argument that has a slope there. `casts`: the types of the arguments that are no floats. `parts`: for
    each derivative, its levels, and which result is meant: the function may be that of a gradient, which takes one first (else None).
    Where the function fails, as ``range`` does with a step of 0, the result is NaN: no kernel can fail.
    """

    def __init__(self, function, real, directions, casts, parts):
        self.function, self.real, self.casts, self.parts = function, real, casts, parts
        self.levels = [[n for n, i in enumerate(directions) if i == k] for k in range(len(casts))]
        self.takes_grad = parts[0][0] is not None
        kinds = [cast or argument_kind(real, found) for cast, found in zip(casts, self.levels, strict=True)]
        self.kinds = tuple([types.float64, *kinds] if self.takes_grad else kinds)

    def typed(self, typingctx, values):
        """The signature, and what makes the code."""
        kind = typingctx.resolve_value_type(self.function)
        sig = kind.get_call_type(typingctx, self.kinds, {})
        several, floating = isinstance(sig.return_type, types.BaseTuple) and self.takes_grad, self.casts.count(None)
        if self.takes_grad and (len(sig.return_type) if several else 1) != floating:
            raise TypingError(f"its gradient gives {sig.return_type}, not {floating} numbers, one for each argument")
        results = [sig.return_type[nth] if several else sig.return_type for nth, _ in self.parts]
        for result in results:
            if not isinstance(result, Scalar) and not is_number(result):
                raise TypingError(f"it gives {result}, which is no number")
        found, floats = kind.dispatcher.overloads[sig.args], types.UniTuple(self.real.base, len(self.parts))

        def codegen(context, builder, signature, args):
            place = place_for(context, builder, (self.real,))
            given = [context.get_constant(types.float64, 1.0)] if self.takes_grad else []
            for code, cast, levels in zip(cgutils.unpack_tuple(builder, args[0]), self.casts, self.levels, strict=True):
                x = seeded(Leaf(place, code), levels)
                given.append(context.cast(builder, code, self.real.base, cast) if cast else packed(x))
            status, code = place.call(found, given)
            made = []
            for result, (nth, wanted) in zip(results, self.parts, strict=True):
                x = unpacked(place, result, builder.extract_value(code, nth) if several else code)
                x = slope_of(x, wanted).code
                made.append(builder.select(status.is_error, constant(place, math.nan).code, x))
            return context.make_tuple(builder, floats, made)

        return floats(values), codegen


def evaluating(evaluation):
    """An intrinsic for the CPU."""

    @intrinsic
    def evaluate(typingctx, values):
        return evaluation.typed(typingctx, values)

    return evaluate


@intrinsic
def times(typingctx, grad, values):
    """Each of several floats times one."""

    def codegen(context, builder, signature, args):
        parts = cgutils.unpack_tuple(builder, args[1])
        return context.make_tuple(builder, values, [builder.fmul(args[0], x) for x in parts])

    return values(grad, values), codegen


def parts_of(directions, inputs, nths):
    """The arguments of `evaluating` for derivatives in some directions, and then by each of `inputs`: all directions, parts, and `apart`.

    `nths`: the place of each argument among the results of a gradient of the user's own, which the first derivative is.
    """
    if nths is None or directions:
        nth, directions = (None, directions) if nths is None else (nths[directions[0]], directions[1:])
        before = [*reversed(range(len(directions)))]
        after = [[len(directions) + j] for j in range(len(inputs))] or [[]]
        return [*directions, *inputs], [(nth, [*level, *before]) for level in after], len(directions)
    return [], [(nths[i], []) for i in inputs], 0


def formula(evaluate, count, rule):
    """A function of floats: derivatives of a scalar function, `count` of them. `rule`: times a gradient, which comes first."""
    if count > 1:
        return lambda grad, *values: times(grad, evaluate(values))
    if rule:
        return lambda grad, *values: grad * evaluate(values)[0]
    return lambda *values: evaluate(values)[0]


def kernel(function, base, directions, inputs, casts, tries, fixed, nths):
    """A kernel of a derivative in some directions, or of the gradients of `inputs`. `tries`: whether it is made of exact functions (see
    `Real`), or of both in turn."""
    directions, parts, apart = parts_of(directions, inputs, nths)
    reals = [Real(base, exact, apart if len(parts) > 1 else LEVELS) for exact in tries]
    evaluations = [evaluating(Evaluation(function, real, directions, casts, parts)) for real in reals]
    made = [formula(evaluate, len(parts), bool(inputs)) for evaluate in evaluations]
    kinds = [base] * (len(parts) + len(casts) + bool(inputs))
    if len(parts) > 1:
        return skeleton.several(made[0], kinds, len(parts), *made[1:])
    return skeleton.elementwise(made[0], kinds, fixed, *made[1:])


def reason(error):
    """What it is in a scalar function that Numba's error is about."""
    text = str(error)
    mistake = MISTAKE.search(text)
    if mistake:
        return mistake[0]
    found = UNKNOWN.findall(text)
    if found and "of a pointwise function" in text:
        return unknown(called(found[-1]))
    return "Numba cannot compile it"


def unknown(name):
    return f"{name} is not known of the numbers of a pointwise function, or has no derivative"


def called(shown):
    """The name of a function by the text that shows it."""
    for pattern in (r"<ufunc '(\w+)'>", r"<built-in function (\w+)>", r"<function (\w+)", r"<class '(\w+)'>"):
        found = re.search(pattern, shown)
        if found:
            return f"`{found[1]}`"
    return f"`{shown}`"


assert teaching  # tells Numba what these numbers are
