"""Every op inside of compiled code, from the samples in its declaration: what Python gives, compiled code gives too."""

import functools
import itertools

import numba
import numpy as np
import pytest
from numba import njit, types
from sampled import CASES

import numbatensor as nt
from numbatensor.nopython import all_of_it
from numbatensor.nopython.ops import functions
from numbatensor.op import OPS, Joined, Pointwise, Reduction, View

RUN = [c for c in CASES if not isinstance(c.op, Joined) and not c.op.name.startswith("index_put")]
each = lambda cases: pytest.mark.parametrize("case", cases, ids=lambda c: c.id)
assert all_of_it()


def in_place(case):
    return (
        isinstance(case.op, Pointwise) and hasattr(nt.Tensor, case.op.name + "_") and case.arrays[0].dtype.kind == "f"
    )


@functools.cache
def in_compiled_code(case):
    """The op of a case as a compiled function of the tensors alone: what is no tensor is written in its source."""
    names, words = [], []
    for value in case.arguments:
        if isinstance(value, np.ndarray):
            names.append(f"t{len(names)}")
            words.append(names[-1])
        else:
            words.append(repr(value))
    change = [f"    c = t0.clone()\n    c.{case.op.name}_({', '.join(words[1:])})"] if in_place(case) else ["    c = 0"]
    lines = [f"def run({', '.join(names)}):", *change, f"    return op({', '.join(words)}), c"]
    known = {"op": case.op.fast}
    exec("\n".join(lines), known)
    return njit(known["run"])


def numbers(tensors):
    return [t.detach().numpy().copy() if isinstance(t, nt.Tensor) else t for t in tensors]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        else:
            assert x == y  # an error's text, or None


@each(RUN)
def test_values_and_gradients(case):
    compiled = in_compiled_code(case)
    for dtype in (np.float64, np.float32) if isinstance(case.op, Pointwise) else (np.float64,):
        expected, given = case.tensors(dtype), case.tensors(dtype)
        y, (z, _) = case(*expected), compiled(*given)
        assert y.dtype is z.dtype and y.shape == z.shape and y.requires_grad == z.requires_grad
        same(numbers([y]), numbers([z]))
        if y.requires_grad:
            y.sum().backward()
            z.sum().backward()
            same(numbers(t.grad for t in expected), numbers(t.grad for t in given))


def derivatives(out, tensors):
    """First derivatives of a sum of squares, and derivatives of the sum of theirs; or the error of an op that has none."""
    wanted = [t for t in tensors if t.requires_grad]
    try:
        first = nt.autograd.grad((out * out).sum(), wanted, create_graph=True)
        return numbers([*first, *nt.autograd.grad(sum((g * g).sum() for g in first), wanted, allow_unused=True)])
    except RuntimeError as error:
        return [str(error)]


@each([c for c in RUN if any(c.wanted)])
def test_second_derivatives(case):
    expected, given = case.tensors(), case.tensors()
    same(derivatives(case(*expected), expected), derivatives(in_compiled_code(case)(*given)[0], given))


@each([c for c in RUN if in_place(c)])
def test_in_place(case):
    expected, given = case.tensors(), case.tensors()
    y, (_, z) = expected[0].clone(), in_compiled_code(case)(*given)
    getattr(y, case.op.name + "_")(*expected[1:], *case.arguments[len(expected) :])
    assert z._version == y._version == 1
    same(numbers([y]), numbers([z]))
    if y.requires_grad:
        y.sum().backward()
        z.sum().backward()
        same(numbers(t.grad for t in expected), numbers(t.grad for t in given))


def outcome(function, tensors):
    try:
        return numbers([function(*tensors)])
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


@each(RUN)
def test_other_shapes_fare_as_in_python(case):
    """One operand larger, then every one without elements: the same error, or the same value."""
    compiled = in_compiled_code(case)
    for change in (
        lambda k, t: nt.zeros([n + 2 for n in t.shape], dtype=t.dtype) if k else t,
        lambda k, t: t[:0] if t.ndim else t,
    ):
        tensors = [change(k, t.detach()) for k, t in enumerate(case.tensors())]
        same(outcome(case, tensors), outcome(lambda *ts: compiled(*ts)[0], tensors))


def kind_of(value):
    """The type that an argument has in compiled code, where ints are known by value."""
    if value is None:
        return types.none
    return types.literal(value) if isinstance(value, (bool, int, str)) else numba.typeof(value)


def chosen():
    """Cases and dtypes: all dtypes of views and reductions, and of one pointwise op for each way in which its row decides."""
    known = set()
    for case in (c for c in RUN if c.id.endswith("-0") and c.arrays[0].dtype.kind == "f"):
        row = case.op.row
        way = tuple(int(row[name]) for name in ("dtypes", "result", "promotes", "masks", "tensors"))
        takes = [d for d in nt.dtypes.ALL if int(row["dtypes"]) >> d.code & 1]
        if isinstance(case.op, (View, Reduction)) or (isinstance(case.op, Pointwise) and way not in known):
            known.add(way)
            yield case, takes
        elif not isinstance(case.op, Pointwise):
            yield case, [d for d in takes if d in (nt.bool, nt.int64, nt.float32)]


def typed(op, kinds):
    """The type of a result."""
    return functions[op.name](tuple(kinds), {})[0]


@pytest.mark.parametrize("case, dtypes", list(chosen()), ids=lambda v: getattr(v, "id", ""))
def test_types_of_results(case, dtypes):
    """For every dtype that the op takes; a dtype that it does not take is refused by name."""
    for d in dtypes:
        tensors = [t.detach().to(d) if t.is_floating_point() else t for t in case.tensors()]
        left = iter(tensors)
        given = [next(left) if isinstance(v, np.ndarray) else v for v in case.arguments]
        try:
            made = case(*tensors)
        except Exception:
            continue  # for other reasons than the dtype: a value, or a pair of dtypes
        found = typed(case.op, map(kind_of, given))
        assert (found.dtype, found.ndim or made.ndim) == (made.dtype.code, made.ndim), d
    for d in nt.dtypes.ALL:
        promoted = case.op.row["promotes"] and not d.is_floating_point
        if not int(case.op.row["dtypes"]) >> d.code & 1 and not promoted:
            with pytest.raises(numba.TypingError, match=rf"{case.op.name}\b.*\b{d.name}"):
                typed(
                    case.op,
                    [
                        kind_of(nt.ones(2, 2, dtype=d)) if isinstance(v, np.ndarray) else kind_of(v)
                        for v in case.arguments
                    ],
                )


@pytest.mark.parametrize("x, y", list(itertools.product(nt.dtypes.ALL, repeat=2)), ids=lambda d: d.name)
def test_promotion(x, y):
    a, b = nt.ones(2, dtype=x), nt.ones(2, dtype=y)
    one = nt.ones((), dtype=y)
    for left, right in ((a, b), (a, one), (a, 1), (a, 1.5), (a, True)):
        assert typed(OPS["add"], map(kind_of, (left, right))).dtype == (left + right).dtype.code
