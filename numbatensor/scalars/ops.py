"""Ops of users' scalar functions: rows of the dispatch table, made when a function is first used."""

import contextlib
import functools
import importlib
import inspect
import itertools
import pathlib
import threading
import warnings
import weakref

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaError
from numba.extending import typeof_impl

from numbatensor import nopython, publish
from numbatensor.core import sites
from numbatensor.core.cells import finders
from numbatensor.core.compiler import CORE, compile, digest, global_compiler_lock, lock
from numbatensor.core.private import forget_failures, function_of, options_of
from numbatensor.core.python import native_function
from numbatensor.core.records import INPUTS
from numbatensor.core.table import FIXED, FUSED
from numbatensor.op import FLOATING, NUMBA, Pointwise, kind_there, name_of
from numbatensor.scalars import kernels
from numbatensor.scalars.fingerprints import Reached, Scalars, raises, tries_of

CONSTANTS = 1 << 16  # bytes that a kernel for devices has for them
COST = 8  # of an element, an addition's being 1
CASTS = {int: types.int64, "int": types.int64, bool: types.boolean, "bool": types.boolean}
SOURCES = digest(CORE and CORE.name, *[p.read_bytes() for p in sorted(pathlib.Path(__file__).parent.glob("*.py"))])
OWN = {"out": "an op's result is written to what is given as out="}  # names that a parameter cannot have
named: dict = {}  # the families by path, each by its fingerprint
declared: dict = {}  # what `pointwise` gave and still lives, by path: of some no op was wanted yet
unnamed = itertools.count()


def parameters_of(function):
    """The parameters of a scalar function, if an op can have them."""
    found = list(inspect.signature(function).parameters.values())
    name = function.__name__
    for p in found:
        if p.kind is not p.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"pointwise: {name} takes `{p}`: its parameters must be plain ones, one for each operand")
        if p.name in OWN:
            raise TypeError(f"pointwise: {name} has a parameter called {p.name}, but {OWN[p.name]}")
        if p.default is not p.empty and type(p.default) not in (int, float, bool):
            raise TypeError(f"pointwise: the default of {name}'s {p.name} must be a number, not {p.default!r}")
    if not 1 <= len(found) <= INPUTS:
        raise TypeError(f"pointwise: {name} has {len(found)} parameters; an op has 1 to {INPUTS}")
    return found


def path_of(function):
    """What a function is called, and how many parameters it has: compiled code is for so many."""
    return f"{function.__module__}.{function.__qualname__}({len(parameters_of(function))})"


def compiled(function):
    """A scalar function as Numba compiles it into kernels."""
    return function if options_of(function) is not None else njit(function)


class Family:
    """A user's function, and the ops of it and of its derivatives."""

    def __init__(self, function, gradient):
        self.function, self.gradient = function_of(function), gradient and function_of(gradient)
        self.parameters = parameters_of(self.function)
        self.path = path_of(self.function)
        count = len(inspect.signature(self.gradient).parameters) if self.gradient else 0
        if self.gradient and count != 1 + len(self.parameters):
            raise TypeError(
                f"pointwise: the gradient of {self.name} has {count} parameters; it takes the incoming gradient and the "
                f"{len(self.parameters)} arguments"
            )
        self.casts = [CASTS.get(p.annotation) for p in self.parameters]
        self.compiled, self.compiled_gradient = compiled(function), gradient and compiled(gradient)
        self.reached, self.ops = self.look(), {}
        for one in self.reached:
            if raises(one):
                raise TypeError(f"pointwise: {self.name} raises an error, which no kernel can: return math.nan instead")
        self.digest = self.described(self.reached)
        self.number = self.digest or f"process {threading.get_native_id()} {next(unnamed)}"

    @property
    def name(self):
        return self.function.__name__.strip("<>")

    def look(self):
        """What the function and its gradient reach."""
        return [Reached(f) for f in (self.function, self.gradient) if f]

    def described(self, reached):
        """The fingerprint of all of it; None where there is none."""
        parts = [r.digest for r in reached]
        options = [options_of(f) for f in (self.compiled, self.compiled_gradient) if f]
        return None if None in parts else digest(parts, options, self.casts, self.path, list(map(str, self.parameters)))

    def op(self, *directions):
        """The op of the derivative in some directions, each the number of an argument; made at first use."""
        first = 1 if self.gradient else 0  # a gradient of the user's own comes first; the order of others is no matter
        directions = (*directions[:first], *sorted(directions[first:]))
        if directions not in self.ops:
            with global_compiler_lock, lock:
                if directions not in self.ops:
                    self.ops[directions] = UserPointwise(self, directions)
        return self.ops[directions]

    def depends(self, *which):
        """What code depends on beside our kernels; None where that has no text."""
        reached = self.look()
        if not self.digest:
            self.warn(next(r.unsound for r in reached if r.unsound))
            return None
        if self.described(reached) != self.digest:
            raise RuntimeError(
                f"{self.name}: a global or closure value that it uses has changed since its first call, and code for another "
                "dtype or derivative would differ: make a new function with nt.pointwise, or pass the value as an argument"
            )
        return digest(self.digest, SOURCES, *which)

    def differentiated(self, directions, inputs):
        """The function that gives a derivative, and the places of arguments among its results if it is a gradient of the user's own."""
        if self.gradient and (directions or inputs):
            floats = [k for k, cast in enumerate(self.casts) if not cast]
            return self.compiled_gradient, {k: n for n, k in enumerate(floats)}
        return self.compiled, None

    def kernel(self, directions, dtype, inputs=(), fixed=0):
        """The address of a kernel: of a derivative in some directions, or of the gradients of its `inputs`."""
        depends = self.depends(directions, dtype, inputs, fixed) or ""
        function, nths = self.differentiated(directions, inputs)
        tries = tries_of(self.reached)
        made = kernels.kernel(function, NUMBA[dtype], directions, inputs, self.casts, tries, fixed, nths)
        with self.explained(dtype):
            name = f"{self.name}.{name_of(dtype)}"
            return compile(made, name, arguments=2, fastmath={"contract"}, depends=depends).address

    def kernel_there(self, directions, dtype, inputs, form):
        """A kernel for devices, and its argument types."""
        depends = self.depends(directions, dtype, inputs, form)
        function, nths = self.differentiated(directions, inputs)
        kinds = [kind_there(dtype)] * (1 + bool(inputs) + len(self.parameters))
        there = importlib.import_module("numbatensor.scalars.there")
        return there.kernel(function, kinds, directions, inputs, self.casts, nths, form, depends)

    @contextlib.contextmanager
    def explained(self, dtype, where=""):
        """Say what is wrong where Numba cannot compile it."""
        try:
            yield
        except Exception as error:
            forget_failures()
            if not isinstance(error, NumbaError):
                raise
            raise TypeError(
                f"{self.name}: {kernels.reason(error)}. It was compiled for {name_of(dtype)}{where}:\n{error}"
            ) from None

    @functools.cache  # noqa: B019
    def warn(self, unsound):
        warnings.warn(
            f"{self.name} is compiled anew in every process, since it uses {unsound}, of which there is no fingerprint",
            stacklevel=2,
        )


def shell(family, directions):
    """What stands for the formula of an op where its name, documentation and parameters are asked for."""

    def function(*values):
        return family.compiled(*values)

    inputs = [p.name for p in family.parameters]
    function.__name__ = "_by_".join([family.name, *[inputs[i] for i in directions]])
    function.__doc__ = family.function.__doc__ or f"`{family.name}` of each element."
    if directions:
        function.__doc__ = (
            f"The derivative of `{family.name}` by {', '.join(inputs[i] for i in directions)}, of each element."
        )
    function.__module__ = family.function.__module__
    function.__signature__ = inspect.Signature(family.parameters)  # type: ignore[attr-defined]
    return function


class UserPointwise(Pointwise):
    """A user's scalar function, or a derivative of it, applied to every element of its operands, broadcast.

    On CUDA devices it takes a detour by the CPU if the arrays that it names are too large for the constants of a kernel.
    """

    def __init__(self, family, directions):
        self.family, self.directions = family, directions
        if sum(r.nbytes for r in family.reached) > CONSTANTS:
            self.there = None  # type: ignore[assignment]
        super().__init__(shell(family, directions), None, None, True, FLOATING, (), COST, 0, None)
        self.spelled(**{name: name for name in self.inputs}).internal()
        floats = [k for k, cast in enumerate(family.casts) if cast is None]
        self.constant(*[name for k, name in enumerate(self.inputs) if k not in floats])
        self.backward(**{self.inputs[k]: self.rule(k) for k in floats})
        if len(floats) > 1:
            self.fused = np.zeros((1 << len(self.inputs), 16), np.int64)
            self.row["fused"] = self.fused.ctypes.data
        if directions:
            words = [family.name, *[f"by_{self.inputs[i]}" for i in directions]]
            self.shown = "".join(w.capitalize() for word in words for w in word.split("_")) + "Backward0"
        publish.publish(self)
        self.in_place = native_function(
            publish.CODE["call_in_place"],
            publish.named(self.slow.in_place, self.name + "_", self),
            self.address,
            named=True,
        )

    def make_known(self):
        self.key = "\n".join((self.family.path, self.family.number, " ".join(map(str, self.directions))))

    def which(self, name):
        return 1 + self.inputs.index(name)

    def rule(self, k):
        """The gradient of argument k, as a function of Tensors."""

        def rule(grad, *values):
            return grad * self.family.op(*self.directions, k)(*values)

        names = ["grad", *self.inputs]
        rule.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names[:1]]
            + [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names[1:]]
        )
        return rule

    def kernel_there(self, what, form, dtype):
        return self.family.kernel_there(self.directions, dtype, (what - 1,) if what else (), form)

    def load_there(self, load, what, form, dtype):
        with self.family.explained(dtype, " on a CUDA device"):
            return super().load_there(load, what, form, dtype)

    def compile(self, what, dtype):
        if what > 0:
            bits = what - FUSED
            inputs = [k for k in range(len(self.inputs)) if bits >> k & 1] if bits > 0 else [what - 1]
            place = self.fused[bits] if bits > 0 else self.row["rule"][what - 1]
            place[dtype] = made = self.family.kernel(self.directions, dtype, tuple(inputs))
            return made
        fixed = FIXED - what if what else 0
        made = self.family.kernel(self.directions, dtype, fixed=fixed)
        (self.row["fixed_kernel"][fixed] if fixed else self.row["kernel"])[dtype] = made
        return made


class PointwiseFunction(Scalars):
    """A whole op made of a scalar function by `nt.pointwise`. Each has a class of its own, whose call is the op's native function."""

    def __init__(self, function, gradient):
        functools.update_wrapper(self, function_of(function))
        self.given = function, gradient
        declared.setdefault(path_of(self.__wrapped__), weakref.WeakSet()).add(self)

    @functools.cached_property
    def op(self):
        """The op; made at the first call. Functions that are the same in all that they depend on share one."""
        with global_compiler_lock, lock:
            family = Family(*self.given)
            family = named.setdefault(family.path, {}).setdefault(family.number, family)
            op = family.op()
        type(self).__call__ = staticmethod(op.fast)
        return op

    @property
    def in_place(self):
        """The same op, written into its first argument."""
        return self.op.in_place

    def __repr__(self):
        return f"<pointwise function {self.__qualname__}>"

    def __reduce__(self):
        if "<" in self.__qualname__:
            return pointwise_of, self.given
        return self.__qualname__


@typeof_impl.register(PointwiseFunction)
def type_of_pointwise(value, context):
    return nopython.all_of_it().type_of_user_op(value.op)


def pointwise_of(function, gradient):
    """The object for a scalar function."""

    def first_call(*args, **kwargs):
        return made.op.fast(*args, **kwargs)

    made = type("PointwiseFunction", (PointwiseFunction,), {"__call__": staticmethod(first_call)})(function, gradient)
    return made


def pointwise(function=None, *, gradient=None):
    """A whole op from a scalar function: its gradient is derived, and all of it is one loop.

    The function takes numbers and gives one, and is compiled by Numba: control flow, `math` and NumPy's functions of numbers, other
    compiled functions, globals and closures. The op takes Tensors and numbers, which are broadcast and promoted as those of other ops,
    integers to the default dtype; it has derivatives of any order. In-place it is ``f.in_place(x, ...)``. It can be used inside of
    functions under Numba's `@njit`.

    A parameter annotated `int` or `bool` comes to the function as that; it has no gradient.

    Parameters
    ----------
    gradient : callable, optional
        Gives the gradient in place of the one that is derived: a scalar function of the incoming gradient and the arguments, that
        gives a number for each parameter, as a tuple where there are several. It must be linear in the incoming gradient.

    Examples
    --------
    >>> @nt.pointwise
    ... def swish(x, beta):
    ...     return x / (1 + math.exp(-beta * x))
    >>> swish(nt.ones(2), 1.5)
    tensor([0.8176, 0.8176])
    """
    if function is None:
        return lambda f: pointwise(f, gradient=gradient)
    for one in (function, gradient):
        if one is not None and not (callable(one) and inspect.isfunction(function_of(one))):
            raise TypeError(f"pointwise: expected a function of numbers, not {one!r}")
    return pointwise_of(function, gradient)


def find_row(key):
    """The row of the op that compiled code names: that of the same function, or else the only one of its name; 0 where there is none."""
    path, number, directions = key.split("\n")
    for one in declared.get(path, ()):
        assert one.op is not None  # it is in `named` now
    known = named.get(path, {})
    found = known.get(number) or (next(iter(known.values())) if len(known) == 1 and "<" not in path else None)
    return found.op(*map(int, directions.split())).address if found else 0


finders["pointwise"] = find_row
sites.register_library()
