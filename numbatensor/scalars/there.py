"""Users' scalar functions on CUDA devices: the same rules, told to the compiler for devices, and computed by Python in the emulator."""

import builtins
import functools
import operator
import types as python

import numpy as np
from numba.core.errors import NumbaError, TypingError
from numba.cuda.extending import intrinsic

from kernels_cuda import mathematics, pointwise
from kernels_cuda.halves import computed
from kernels_cuda.mathematics import called
from kernels_cuda.meanings import MEANINGS
from kernels_cuda.pointers import emulated
from numbatensor.core.private import function_of
from numbatensor.cuda import compiler
from numbatensor.cuda.emulated_names import Names
from numbatensor.scalars import kernels, teaching
from numbatensor.scalars.fingerprints import Scalars
from numbatensor.scalars.kinds import Real
from numbatensor.scalars.values import PLACES, Instructions, Leaf, Place, Value, lifted

NAMES = {"rint": "round", "mod": "modulo", "floordiv": "floor_divide"}  # what the kernels' mathematics calls otherwise
FAILURES = (ArithmeticError, ValueError, LookupError)  # what is NaN; Python also fails at numbers like ``1 / 0``


class Device(Instructions):
    """A place in the code of a kernel for devices."""

    def made(self, name, *codes):
        if name == "neg":  # NVVM reads the LLVM of old, which has no instruction for it
            return self.builder.fsub(self.constant(-0.0), *codes)
        return super().made(name, *codes)

    def function(self, name, codes):
        base, function = self.real.base, getattr(mathematics, NAMES.get(name, name))
        typing = self.context.typing_context
        _, call = called(typing, typing.resolve_value_type(function), (base,) * len(codes))
        return call(self.context, self.builder, codes)

    def call(self, found, args):
        """The status and the result of a compiled function."""
        described = found.fndesc
        self.context.add_linking_libs([found.library])
        function = described.declare_function(self.builder.module)
        return described.call_conv.call_function(self.builder, function, described.restype, described.argtypes, args)


PLACES[True] = Device


@functools.cache
def tell(typingctx):
    """Tell the compiler for devices of what types results are, as Numba's own is told; how they are made it finds there."""
    templates, typeof = compiler.extension()
    for function, typed in teaching.templates:
        teaching.register(function, typed, templates.AbstractTemplate, templates.infer_global)
    typeof.register(Scalars)(lambda value, context: typingctx.resolve_value_type(value.op.family.compiled))
    typingctx.refresh()


class Computed(Place):
    """Where Python computes. A constant is a float of Python's, and anything else one of NumPy's."""

    def __init__(self, real):
        super().__init__(real)
        self.kind = np.dtype(str(real.base)).type

    def constant(self, number):
        return float(number)

    def known(self, code):
        return code if type(code) is float else None

    def compare(self, sign, x, y):
        return bool(SIGNS[sign](self.kind(x), self.kind(y)))

    def choose(self, condition, x, y):
        return x if condition else y

    def made(self, name, *codes):
        return self.kind(FLOATS[name](*map(self.kind, codes)))


SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
FLOATS = MEANINGS | {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
FLOATS |= {"neg": operator.neg, "mod": np.remainder, "floordiv": np.floor_divide}


class Converter:
    """Makes functions over into such as Python can compute with a pointwise function's numbers."""

    def __init__(self):
        self.known = {}

    def __call__(self, value):
        if isinstance(value, Scalars):
            value = value.given[0]
        value = function_of(value)
        if isinstance(value, python.ModuleType):
            return Names(self, value)
        if isinstance(value, np.ufunc) or (callable(value) and value.__hash__ and value in teaching.FUNCTIONS):
            return knowing(value, teaching.FUNCTIONS.get(value))
        if isinstance(value, python.FunctionType):
            return self.function(value)
        if getattr(value, "__module__", "") in ("math", "numpy") and callable(value):
            return knowing(value, None)
        return value

    def function(self, f):
        if f in self.known:
            return self.known[f]
        codes = [f.__code__]
        for code in codes:
            codes.extend(c for c in code.co_consts if isinstance(c, python.CodeType))
        cells, known = tuple(python.CellType() for _ in f.__closure__ or ()), {"__builtins__": builtins}
        made = self.known[f] = python.FunctionType(f.__code__, known, f.__name__, f.__defaults__, cells)
        made.__kwdefaults__ = f.__kwdefaults__
        outside = vars(builtins) | f.__globals__
        known.update({n: self(outside[n]) for code in codes for n in code.co_names if n in outside})
        for cell, source in zip(cells, f.__closure__ or (), strict=True):
            cell.cell_contents = self(source.cell_contents)
        return made


def knowing(function, rule):
    """A function of numbers, and of the numbers of a pointwise function by its rule."""

    def known(*args):
        if not any(isinstance(a, Value) for a in args):
            return function(*args)
        if rule is None:
            raise TypeError(kernels.unknown(f"`{function.__name__}`"))
        return rule(*lifted(*args))

    return known


class Meaning:
    """What Python computes in place of compiled code: see `kernels.Evaluation`."""

    def __init__(self, evaluation):
        self.evaluation, self.place, self.function = evaluation, Computed(evaluation.real), None

    def __call__(self, values):
        e, place = self.evaluation, self.place
        self.function = self.function or Converter()(e.function)
        given = [1.0] if e.takes_grad else []
        for value, cast, levels in zip(values, e.casts, e.levels, strict=True):
            x = kernels.seeded(Leaf(place, place.kind(value)), levels)
            given.append(x if cast is None else bool(value) if str(cast) == "bool" else int(value))
        try:
            found = self.function(*given)
        except FAILURES:
            return (place.kind(np.nan),) * len(e.parts)
        several = isinstance(found, tuple) and e.takes_grad
        results = [found[nth] if several else found for nth, _ in e.parts]
        return tuple(
            place.kind(kernels.slope_of(x if isinstance(x, Value) else Leaf(place, float(x)), levels).code)
            for x, (_, levels) in zip(results, e.parts, strict=True)
        )


def line_of(error):
    """The line of source that a compiler was at when it failed, as text."""
    found, at = None, error.__traceback__
    while at:
        found, at = getattr(at.tb_frame.f_locals.get("self"), "loc", None) or found, at.tb_next
    return found.strformat() if found else ""


def evaluating(evaluation, depends):
    """An intrinsic for devices: see `kernels.Evaluation`."""

    def evaluate(typingctx, values):
        tell(typingctx)
        try:
            return evaluation.typed(typingctx, values)
        except NumbaError as error:  # numba-cuda, whose errors are others, does not note where it was
            raise TypingError(f"{error}\n{line_of(error)}") from None

    evaluate.depends = depends
    return emulated(Meaning(evaluation))(intrinsic(evaluate))


def kernel(function, kinds, directions, inputs, casts, nths, form, depends):
    """A kernel for devices of a derivative in some directions, or of the gradient of the one of `inputs`, and its argument types.

    `kinds`: numba types of the result and the operands in memory. `depends`: what its machine code depends on, as text; None where
    it is not to be kept.
    """
    directions, parts, _ = kernels.parts_of(directions, inputs, nths)
    real = Real(computed(kinds[0]), there=True)
    evaluate = evaluating(kernels.Evaluation(function, real, directions, casts, parts), depends)
    return pointwise.elementwise(kernels.formula(evaluate, 1, bool(inputs)), kinds, form)
