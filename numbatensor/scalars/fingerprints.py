"""What the code of a user's scalar function depends on, as text that is equal in every process: the key of its object code.

It covers the bytecode and constants of the function and of those that it calls, the values of their globals, closures and defaults, and
how Numba was told to compile them. Where a value cannot be told apart from others by its text, there is no fingerprint.
"""

import builtins
import collections
import dis
import types as python

import numpy as np

from numbatensor.core.compiler import digest
from numbatensor.core.private import options_of
from numbatensor.core.python import NativeFunction

FIXED = ("math", "numpy", "operator", "builtins", "numba")  # modules whose versions all object code depends on
PLAIN = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis))
ABSENT = object()


class Unsound(Exception):
    """A value whose text does not say what compiled code takes from it."""


class Reached:
    """All code that a function reaches, and a description of all that this code depends on."""

    def __init__(self, function):
        self.codes, self.names, self.seen, self.unsound = [], set(), {}, None
        self.loads, self.nbytes = collections.Counter(), 0  # of arrays: each mention is a constant of its own
        try:
            self.digest = digest(self.function(function))
        except Unsound as found:
            self.digest, self.unsound = None, str(found)

    def function(self, f):
        """The text of a function of Python's."""
        if f in self.seen:
            return self.seen[f]
        self.seen[f] = f"function {len(self.seen)}"
        codes, read, attributes = [f.__code__], set(), set()
        for code in codes:
            codes.extend(c for c in code.co_consts if isinstance(c, python.CodeType))
            for one in dis.get_instructions(code):
                if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                    read.add(one.argval)
                elif "ATTR" in one.opname or "METHOD" in one.opname:
                    attributes.add(one.argval)
                if one.opname.startswith("LOAD_"):
                    self.loads[one.argval] += 1
        self.codes += codes
        self.names |= read | attributes
        text = [
            [(c.co_code, c.co_names, c.co_varnames, c.co_freevars, c.co_exceptiontable) for c in codes],
            [repr(c) for code in codes for c in code.co_consts if not isinstance(c, python.CodeType)],
            [self.value(f"{f.__name__}'s default", v, ()) for v in f.__defaults__ or ()],
        ]
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            self.names.add(name)
            text.append((name, self.value(name, contents(cell), attributes)))
        for name in sorted(read):
            value = f.__globals__.get(name, vars(builtins).get(name, ABSENT))
            text.append((name, self.value(name, value, attributes)))
        self.seen[f] = digest(text)
        return self.seen[f]

    def value(self, name, value, attributes):
        """The text of a value that code names; `attributes`: what the code may ask of it."""
        options = options_of(value)
        if options is not None:
            return f"compiled {options} {self.function(value.py_func)}"
        if isinstance(value, Scalars):
            if value.given[1] is not None:
                raise TypeError(
                    f"pointwise: {name} has a gradient of its own, which is not known where another scalar function calls it"
                )
            return f"pointwise {self.value(name, value.given[0], attributes)}"
        if isinstance(value, python.FunctionType):
            return self.function(value)
        if isinstance(value, NativeFunction):
            raise TypeError(
                f"pointwise: `{name}` is a function of Tensors, and a scalar function has numbers: use that of `math`"
            )
        if value is ABSENT:
            return "absent"
        if type(value) in PLAIN:
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, (np.generic, np.ndarray)) and value.dtype != object:
            whole = np.asarray(value)
            self.nbytes += whole.nbytes * max(1, self.loads[name])
            return digest(type(value).__name__, whole.dtype.str, whole.shape, whole.strides, whole.tobytes())
        if isinstance(value, (tuple, list)):
            inner = [self.value(name, v, attributes) for v in value]
            return f"{type(value).__name__} {getattr(value, '_fields', '')} {inner}"
        if isinstance(value, python.ModuleType):
            return self.module(value, attributes)
        if str(getattr(value, "__module__", None) or type(value).__module__).split(".")[0] in FIXED:
            called = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
            if called:
                return f"{getattr(value, '__module__', '')}.{called}"
        raise Unsound(f"`{name}`, which is of type {type(value).__name__}")

    def module(self, module, attributes):
        """The text of what may be asked of a module."""
        if module.__name__.split(".")[0] in FIXED:
            return module.__name__
        known = vars(module)
        return repr(
            [module.__name__, *[(n, self.value(n, known[n], attributes)) for n in sorted(attributes) if n in known]]
        )


def contents(cell):
    """What a closure's cell holds."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


class Scalars:
    """What `nt.pointwise` gives: a base class, so that one such function is known where another calls it."""


CALLS = frozenset("math np numpy exp log log1p expm1 sqrt sin cos tan sinh cosh tanh pi e square float abs".split())
BOUNDED = {"sin", "cos", "tan"}
BRANCHING = ("JUMP", "COMPARE", "IS_OP", "CONTAINS", "FOR_ITER", "RAISE")


def passes_nan(reached):
    """Whether NaN in the middle of a function always comes out of it: there is no branch, no comparison and no call but of such functions."""
    straight = all(
        not any(word in one.opname for word in BRANCHING)
        for code in reached.codes
        for one in dis.get_instructions(code)
    )
    return straight and len(reached.codes) == 1 and reached.names <= CALLS


def tries_of(reached):
    """Whether kernels are made of exact functions, or of those that answer NaN beyond their bounds, or of both in turn."""
    if not any(r.names & BOUNDED for r in reached):
        return (False,)
    return (False, True) if all(map(passes_nan, reached)) else (True,)


def raises(reached):
    """Whether a function has a `raise` or an `assert`."""
    return any(one.opname == "RAISE_VARARGS" for code in reached.codes for one in dis.get_instructions(code))
