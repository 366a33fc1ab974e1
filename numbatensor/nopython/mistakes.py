"""What users read where their function cannot be compiled: what is wrong, and their lines that lead there, in place of Numba's page.

Numba tells when a compilation ends. There its error is replaced by one of the same class with a short text, as long as Tensors are concerned.
What Numba adds on the way to a caller's function is cut where that one's compilation ends. `NUMBA_FULL_TRACEBACKS=1` keeps all of it.
The error that is replaced, which Numba keeps for the next call, forgets its frames: they hold what callers' variables hold.
"""

import linecache
import pathlib
import re

import numba
from numba.core.errors import ForceLiteralArg, NumbaError, TypingError

from numbatensor.core.private import hear_failures
from numbatensor.nopython.missing import FUNCTIONS
from numbatensor.nopython.parallel import names_ours, ours

OURS, THEIRS = (str(pathlib.Path(file).parent) for file in (__file__, numba.__file__))
INNER = (THEIRS, str(pathlib.Path(OURS).parent), str(pathlib.Path(OURS).parents[1] / "kernels_cpu"))  # no users' files
PLACES, SENTENCES = 4, 3  # how many are shown
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
AFTER = re.compile(r"During: |File \"|Return of: ")  # how lines begin that come after what is said
REASON = re.compile(r"raised a specific error:\s+\w+: ((?:(?!Rejected as).)*?)\s+raised from (\S+):\d+", re.DOTALL)
UNDECIDED = re.compile(r"Undecided type|Type of variable '\$.* cannot be determined")
PLACE = re.compile(r"  File \"(.*)\", line (\d+), in (.*)")
NAMES = (  # how Numba writes types, and how they are written here
    (r"Literal\[(\w+)\]\([^()]*\)", r"\1"),
    (r"\bunicode_type\b", "str"),
    (r"<iv=[^>]*>", ""),
    (r"Module\(<module '([\w.]+)'[^>]*>\)", r"\1"),
)
WORDS = (  # what Numba says, and what is said here
    (r"Unknown attribute '(\w+)' of type (.*)", r"\2 has no attribute '\1' in compiled code"),
    (r"Cannot resolve setattr: \((.*)\)\.(\w+) = (.*)", r"attribute '\2' of \1 cannot be set to \3 in compiled code"),
    (
        r"Can't unify return type from the following types: (.*)",
        r"the function returns values of several types, \1: compiled code needs one",
    ),
    (r"Cannot unify (.*) and (.*) for '\$.*", r"a value is \1 or \2 here: compiled code needs one type"),
    (
        r".*cannot call <numba._DUFunc '(\w+)'> with types .*Tensor.*",
        r"\1() is a @vectorize function: in compiled code it takes arrays, such as x.numpy()",
    ),
    (
        r".*ufunc '(\w+)' called with an explicit output that is not an array",
        r"\1() is a @guvectorize function: in compiled code it takes arrays, such as x.numpy()",
    ),
    (
        r"unsupported type for input operand: (Tensor.*)",
        r"a function made by @vectorize or @guvectorize takes arrays in compiled code, such as x.numpy(), not \1",
    ),
    (
        r"Cannot cast (.*) to OptionalType\((Tensor\([^)]*\))\).*",
        r"\2 or None is expected here, not \1: make a Tensor of it, such as nt.full_like(x, value)",
    ),
    (
        r"Cannot unify (.*) and (.*) for '(\w+).*",
        r"`\3` is \1 or \2 here: compiled code needs one type, or two variables",
    ),
)


def tidy(line):
    """What Numba says, in our words."""
    for pattern, words in NAMES:
        line = re.sub(pattern, words, line)
    for pattern, words in WORDS:
        line = re.sub(f"^{pattern}$", words, line)
    absent = re.match(r"numbatensor has no attribute '(\w+)'", line)
    return f"{line}: {FUNCTIONS[absent[1]]}" if absent and absent[1] in FUNCTIONS else line


def no_implementation(text):
    """Why a function cannot be called with what it is given: what ours said of it, or Numba's first reason."""
    call, reasons = re.search(r">>> (.*)", text), REASON.findall(text)
    said = [reason for reason, file in reasons if file.startswith(OURS)]
    if said or not call:
        return (said or [text])[0].splitlines()[:1]
    why = f": {reasons[0][0].splitlines()[0]}" if reasons else ""
    return [f"compiled code has no {call[1]}{why}"]


def head(text):
    """What an error begins with: what it says, and the places of inner functions that a text of ours names."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Failed in ")]
    end = next((k for k, line in enumerate(lines) if k and AFTER.match(line)), len(lines))
    places = [(m[1], int(m[2]), m[3]) for line in lines[:end] if (m := PLACE.match(line))]
    return [line for line in lines[:end] if not line.startswith("  ")][:SENTENCES], places


def places_of(error, text, function):
    """Where in a function an error is: files, lines, and its name."""
    code = function.__code__
    if getattr(error, "loc", None) is not None:
        found = [(error.loc.filename, error.loc.line)]
    else:
        found = [
            (m[1], int(m[2])) for c in getattr(error, "contexts", ()) if (m := re.search(r" at (\S.*) \((\d+)\)$", c))
        ]
        lines = sorted({int(n) for n in re.findall(r"^File \".*\", line (\d+):", text, re.MULTILINE)})
        found = found[:1] or [(code.co_filename, n) for n in lines] or [(code.co_filename, code.co_firstlineno)]
    return [(*place, function.__name__) for place in found]


def shown(file, line, name):
    """A line of a user's, as tracebacks have it."""
    source = linecache.getline(file, line).strip()
    return f'  File "{file}", line {line}, in {name}' + (f"\n    {source}" if source else "")


def walrus(code):
    """The first line of a function with an assignment inside of an expression; None without one."""
    lines = sorted({n for *_, n in code.co_lines() if n})
    return next((n for n in lines if ":=" in linecache.getline(code.co_filename, n)), None)


def short(error, function):
    """The text of an error."""
    text = COLOUR.sub("", str(error))
    said, inner = head(text)
    code = function.__code__
    places = places_of(error, text, function) + inner
    if text.find("No implementation of function") == text.find(said[0]):
        said = no_implementation(text)
    elif UNDECIDED.match(said[0]) and walrus(code):
        said, places = (
            ["Numba cannot type `:=` here: assign in a statement of its own"],
            [(code.co_filename, walrus(code), code.co_name)],
        )
    if len(places) > PLACES:
        places = places[:2] + places[2 - PLACES :]
    return "\n".join([*map(tidy, said), *[shown(*place) for place in places]])


def told(function, kinds, error):
    """The error that users see where a function fails to compile; None where it is Numba's own."""
    lacking = isinstance(error, AttributeError) and str(error).startswith("module 'numbatensor")
    lacking |= isinstance(error, NotImplementedError) and "Tensor(" in str(error)  # of Numba's, for want of a typing
    if isinstance(error, ForceLiteralArg) or not (lacking or isinstance(error, NumbaError)):
        return None
    inside = function.__code__.co_filename.startswith(INNER)
    if numba.config.FULL_TRACEBACKS or inside:  # type: ignore[attr-defined]
        return None
    if not (any(map(ours, kinds)) or names_ours(function, set()) or "Tensor(" in str(error)):
        return None
    kind = TypingError if lacking else type(error)
    text = short(error, function)
    made = kind.__new__(kind, text)
    made.msg, made.loc = text, getattr(error, "loc", None)
    return made


hear_failures(told)
