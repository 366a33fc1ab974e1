"""Tensors in generators, classes, lists, dicts and tuples of compiled code."""

import collections
import pathlib
import subprocess
import sys

import numba
import pytest
from numba import njit, types
from numba.experimental import jitclass, structref
from numba.typed import Dict, List

import numbatensor as nt


def test_recursion_generators_and_classes():
    @njit
    def doubled(x, n):
        if n == 0:
            return x
        return doubled(x * 2, n - 1)

    @njit
    def multiples(x, n):
        for k in range(n):
            yield x * k

    @jitclass([("w", numba.typeof(nt.ones(2)))])
    class Model:
        def __init__(self, w):
            self.w = w

        def loss(self, x):
            return (x * self.w).sum()

    assert doubled(nt.ones(1), 4).item() == 16.0
    assert [t.item() for t in multiples(nt.ones(1), 3)] == [0.0, 1.0, 2.0]
    w = nt.ones(2, requires_grad=True)
    model = Model(w)
    model.loss(nt.full((2,), 3.0)).backward()
    assert w.grad.tolist() == [3.0, 3.0] and model.w is w


def test_loops_over_generators():
    """Of what a generator yields nothing is leaked, as the fixture checks, although Numba leaks arrays there."""

    @njit
    def multiples(x, n):
        for k in range(n):
            y = x * k
            yield y
            yield x
            yield y + 1.0

    @njit
    def pairs(x):
        yield x + 1.0, 2
        yield x + 2.0, 3

    @njit
    def total(x):
        t = x * 0.0
        for y in multiples(x, 3):
            t = t + y
        for k, y in enumerate(multiples(x, 2)):
            t = t + y * k
        for y, k in pairs(x):
            t = t + y * k
        listed = list(multiples(x, 2))
        return t, listed[4] * len(listed), [y for y in multiples(x, 1)]

    def plainly(x):
        return total.py_func(x)

    x = nt.ones(2, requires_grad=True)
    found, expected = total(x), plainly(x)
    flat = [(*t[:2], *t[2]) for t in (found, expected)]
    for a, b in zip(*flat, strict=True):
        assert a.tolist() == b.tolist()
    grads = [nt.autograd.grad(sum(t.sum() for t in one), x)[0].tolist() for one in flat]
    assert grads[0] == grads[1]


def test_items_are_popped():
    """Numba itself lets go of a list's last item once more after ``pop(k)``."""

    @njit
    def popped(x):
        items = [x * 0]
        total = items.pop()
        for k in range(8):
            items.append(x * k)
            if len(items) > 4:
                total = total + items.pop(k % 3)
        return total + items.pop(-1), items[0], items

    x = nt.ones(2)
    for found, expected in zip(popped(x)[:2], popped.py_func(x)[:2], strict=True):
        assert found.tolist() == expected.tolist()


def test_what_vmap_looks_into_stays_outside():
    with pytest.raises(TypeError, match="vmap"):
        nt.vmap(njit(lambda x: x * 2))(nt.ones(2))


def test_containers():
    Pair = collections.namedtuple("Pair", ["a", "b"])

    @njit
    def sums(pair, many, both):
        total = pair.a.sum() + pair.b.sum()
        for t in many:
            total = total + t.sum()
        return Pair(total, both[0] + both[1]), [pair.a, pair.b]

    many = List()
    for k in range(3):
        many.append(nt.full((2,), float(k)))
    x = nt.ones(2)
    found, back = sums(Pair(x, x), many, (x, x))
    assert found.a.item() == 10.0 and found.b.tolist() == [2.0, 2.0] and back[0] is x
    del many[0]

    @njit
    def make(n):
        made, named = List(), {}
        for k in range(n):
            made.append(nt.full((2,), float(k)))
            named[k] = made[k] * 2
        return made[n - 1] + named[0]

    assert make(3).tolist() == [2.0, 2.0]


FIELDS = """
import numba, numbatensor as nt
from numba.experimental import jitclass

@jitclass([("w", numba.typeof(nt.ones(2)))])
class Model:
    def __init__(self, w):
        self.w = w

model = Model(nt.ones(2))
for wrong in (nt.ones(2, 2), nt.ones(2, dtype=nt.float64)):
    try:
        model.w = wrong
    except numba.TypingError as error:
        print("has no place where a Tensor(float32, 1-D) is wanted" in str(error))
"""


def test_what_does_not_fit_into_a_field():
    """In a process of its own, since Numba keeps the arguments of what it failed to compile."""
    root = pathlib.Path(nt.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", FIELDS], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["True", "True"]


@structref.register
class PairType(types.StructRef):
    """A pair of Tensors."""


class Pair(structref.StructRefProxy):
    def __new__(cls, first, second):
        return structref.StructRefProxy.__new__(cls, first, second)


structref.define_proxy(Pair, PairType, ["first", "second"])


def test_fields_of_structures():
    @njit
    def product(pair):
        made = pair.first * pair.second
        pair.second = made
        return made.sum()

    x = nt.ones(3, requires_grad=True)
    pair = Pair(x, nt.full((3,), 2.0))
    for _ in range(3):
        y = product(pair)
    y.backward()
    assert y.item() == 6.0 and x.grad.tolist() == [6.0] * 3  # the derivative of 2 x**3


def test_typed_dictionaries():
    kind = numba.typeof(nt.ones(2))

    @njit
    def total(named, key):
        out = nt.zeros(2)
        for name in named:
            out = out + named[name]
        named[key] = out
        return out.sum()

    named = Dict.empty(types.unicode_type, kind)
    x = nt.ones(2, requires_grad=True)
    named["x"], named["y"] = x * 2.0, x * 3.0
    total(named, "x").backward()
    assert x.grad.tolist() == [5.0, 5.0] and named["x"].tolist() == [5.0, 5.0]


def test_functions_as_values_and_closures():
    @njit
    def twice(f, x):
        return f(f(x))

    @njit
    def made(x, scale):
        def inner(y):
            return y * x * scale

        return inner(inner(x))

    square = njit(lambda x: x * x)
    x = nt.full((2,), 2.0, requires_grad=True)
    assert twice(square, x).tolist() == [16.0, 16.0] and made(x, 0.5).tolist() == [2.0, 2.0]


def test_options_of_the_compiler():
    def f(x):
        y = nt.tanh(x) * 2.0
        return (y[0] + y.sum() / 3).sum()

    for options in (
        {"error_model": "numpy"},
        {"fastmath": True},
        {"boundscheck": True},
        {"nogil": True},
        {"inline": "always"},
    ):
        x, z = (nt.tensor([0.5, -1.0, 2.0], requires_grad=True) for _ in range(2))
        njit(**options)(f)(x).backward()
        f(z).backward()
        assert x.grad.tolist() == z.grad.tolist()
