"""What users read where their function cannot be compiled: the op, the types, their lines, and no page of Numba's."""

import gc
import sys
import weakref

import numba
import numpy as np
import pytest
from numba import njit
from numba.core.errors import NumbaNotImplementedError, TypingError

import numbatensor as nt

G = nt.ones(2)


def either(x):
    if x.ndim > 1:
        return x
    return x.to(nt.float64)


def twice(x):
    for k in range(3):
        x = x.sum() if k else x.to(nt.float64)
    return x


def stored(x):
    x.foo = 1


def unranked(x):
    y = x
    if x.size(0) > 5:
        y = x.sum()
    return y.shape


def walrus(x):
    if (y := x.sum()).item() > 0:
        return y
    return x.sum()


def walrus_in_a_loop(x):
    while (y := x.sum().item()) > 1.0:
        x = x * 0.5
    return x, y


MISTAKES = [
    (walrus, "Numba cannot type `:=` here: assign in a statement of its own"),
    (walrus_in_a_loop, "Numba cannot type `:=` here: assign in a statement of its own"),
    (
        lambda x: f"{x} {x.sum().item()}",
        "Numba cannot write a float64 as text: put a Tensor into the string, or give the number to print() alone",
    ),
    (lambda x: nt.mean(x.to(nt.int64)), "mean is not defined for int64: convert with .to(dtype) first"),
    (
        lambda x: x.to(nt.float64) @ x,
        "matmul: Tensor(float64, 1-D) and Tensor(float32, 1-D) have two dtypes: convert one with .to(dtype)",
    ),
    (lambda x: x[0, 0], "too many indices for Tensor(float32, 1-D)"),
    (lambda x: x.foo(), "Tensor(float32, 1-D) has no attribute 'foo' in compiled code"),
    (lambda x: nt.foo(x), "module 'numbatensor' has no attribute 'foo'"),
    (
        lambda x: nt.save(x, "f"),
        "numbatensor has no attribute 'save' in compiled code: it is for all of the program: call it outside",
    ),
    (lambda x: x.exp(nope=1), "exp() got an unexpected keyword argument 'nope' (in compiled code)"),
    (lambda x: x.tanh(1), "tanh() takes 1 arguments but 2 were given"),
    (
        lambda x: x + G,
        "a Tensor cannot be a constant of compiled code: make the global, or what a closure holds, an argument",
    ),
    (lambda x: x + "a", "add(): argument 'other' must not be str in compiled code"),
    (lambda x: "a" + x, "add(): argument 'input' must not be str in compiled code"),
    (lambda x: nt.exp(x, out=1), "exp(): out= must be a Tensor, not int"),
    (
        lambda x: np.linalg.norm(x),
        "compiled code has no norm(Tensor(float32, 1-D)): np.linalg.norm() only supported for array types",
    ),
    (
        either,
        "the function returns values of several types, Tensor(float32, 1-D), Tensor(float64, 1-D): compiled code needs one",
    ),
    (
        twice,
        "`x` is Tensor(float32, 1-D) or Tensor(float64, 1-D) here: compiled code needs one type, or two variables"
        if sys.version_info >= (3, 13)  # where Numba knows the variable's name
        else "a value is Tensor(float32, any rank) or Tensor(float64, any rank) here: compiled code needs one type",
    ),
    (stored, "attribute 'foo' of Tensor(float32, 1-D) cannot be set to int in compiled code"),
    (unranked, "the rank is not known here, so .shape has no length: use .size(dim) and .ndim"),
]


@pytest.mark.parametrize("function, words", MISTAKES, ids=range(len(MISTAKES)))
def test_what_is_wrong_comes_first_and_then_the_line(function, words):
    with pytest.raises(TypingError) as caught:
        njit(function)(nt.rand(3))
    first, *lines = str(caught.value).splitlines()
    assert first == words
    assert 1 <= len(lines) <= 4 and lines[0].startswith(f'  File "{__file__}", line ')
    number = int(lines[0].split("line ")[1].split(",")[0])
    assert 0 <= number - function.__code__.co_firstlineno <= 4


def test_lines_of_the_calls_that_lead_there():
    @njit
    def inner(x):
        return x.exp(nope=1)

    @njit
    def middle(x):
        return inner(x) + 1

    @njit
    def outer(x):
        return middle(x)

    for _ in range(2):  # Numba keeps the error of the first
        with pytest.raises(TypingError) as caught:
            outer(nt.ones(2))
        first, *lines = str(caught.value).splitlines()
        assert first == "exp() got an unexpected keyword argument 'nope' (in compiled code)"
        assert [line.rsplit(" ", 1)[1] for line in lines[::2]] == ["outer", "middle", "inner"]
        assert [line.strip() for line in lines[1::2]] == [
            "return middle(x)",
            "return inner(x) + 1",
            "return x.exp(nope=1)",
        ]


def test_many_calls_are_few_lines():
    @njit
    def f(x):
        return x.exp(nope=1)

    for _ in range(6):
        f = njit(lambda x, f=None, g=f: g(x))
    with pytest.raises(TypingError) as caught:
        f(nt.ones(2))
    assert len(str(caught.value).splitlines()) <= 12 and str(caught.value).endswith("return x.exp(nope=1)")


def test_numbas_text_can_be_had(monkeypatch):
    monkeypatch.setattr(numba.config, "FULL_TRACEBACKS", 1)
    with pytest.raises(
        TypingError, match="(?s)Failed in nopython mode pipeline.*There are .* candidate implementations"
    ):
        njit(lambda x: x[0, 0]).compile((numba.typeof(nt.ones(2)),))


def test_other_functions_keep_numbas_text():
    with pytest.raises(TypingError, match="Failed in nopython mode pipeline"):
        njit(lambda a: a + "b")(1)


def test_none_where_a_tensor_is_wanted():
    @njit
    def slope(x):
        return x.grad + x

    with pytest.raises(TypeError, match=r"expected Tensor\(float32, 1-D\), got None: test for None before") as caught:
        slope(nt.ones(2))
    assert slope.py_func.__code__.co_firstlineno + 2 in [entry.lineno + 1 for entry in caught.traceback]


def test_a_gradient_is_a_tensor():
    def assign(x):
        x.grad = 3.0

    words = r"Tensor\(float32, 1-D\) or None is expected here, not float64: make a Tensor of it, such as nt.full_like"
    with pytest.raises(NumbaNotImplementedError, match=words):
        njit(assign)(nt.ones(2))


MODEL = nt.nn.Linear(2, 2)


def test_modules_and_optimizers_stay_outside():
    optimizer = nt.optim.SGD([nt.ones(2, requires_grad=True)], lr=0.1)
    for outside, words in ((MODEL, "Linear cannot be.*pass its parameters"), (optimizer, "SGD cannot be.*call step")):
        with pytest.raises(TypeError, match=words):
            njit(lambda outside, x: x)(outside, nt.ones(2))
    with pytest.raises(TypingError, match=r"(?s)Untyped global name 'MODEL'.*MODEL\(x\)"):
        njit(lambda x: MODEL(x))(nt.ones(2))


def test_failures_keep_no_arguments():
    """Numba keeps the error of a failed compilation: with it, it kept the frames of callers, and what they held."""

    class Held:
        pass

    @njit
    def wrong(x):
        return x.exp(nope=1)

    def call():
        held = Held()
        with pytest.raises(TypingError):
            wrong(nt.ones(2))
        return weakref.ref(held)

    held = call()
    gc.collect()
    assert held() is None and wrong.signatures == []
