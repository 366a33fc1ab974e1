"""Errors in compiled code: they are those of Python, and typing errors say what is wrong."""

import pathlib
import subprocess
import sys

import numba
import pytest
from numba import njit
from numba.core.errors import TypingError

import numbatensor as nt


@njit
def collapsed(x, more):
    while x.ndim > 0:
        x = x.sum(0)
    return x + more


def test_a_rank_that_is_not_known():
    assert collapsed(nt.ones(2, 3), 1.0).item() == 7.0
    with pytest.raises(TypingError, match=r"add: whether the result is float32 or float64 depends .* \.to\(dtype\)"):
        collapsed.compile((numba.typeof(nt.ones(2, 3)), numba.typeof(nt.tensor(1.0, dtype=nt.float64))))


def test_errors_arrive_with_lines():
    @njit
    def stale(x):
        y = x * x
        loss = (y * y).sum()
        y.add_(1)
        loss.backward()

    x = nt.rand(2, requires_grad=True)
    with pytest.raises(nt.autograd.VersionError) as caught:
        stale(x)
    start = stale.py_func.__code__.co_firstlineno
    assert all(f"{__file__}:{start + k}" in str(caught.value) for k in (3, 4))
    assert start + 5 in [entry.lineno + 1 for entry in caught.traceback]


def test_each_function_has_its_name_in_tracebacks():
    @njit
    def one(x):
        return x @ x

    @njit
    def two(x):
        y = x + 1
        return y @ x

    @njit
    def three(x):
        return x.sum(0) + x[7]

    for function in (one, two, three, two, one, three):
        with pytest.raises((RuntimeError, IndexError)) as caught:
            function(nt.ones(2, 3))
        assert caught.traceback[1].name == function.__name__


def test_errors_are_those_of_python():
    def add(x, y):
        return x + y

    def product(x, y):
        return x @ y

    def part(x, y):
        return x[7]

    def leaf(x, y):
        x.detach().requires_grad_().add_(1)

    def scalar(x, y):
        return x.item()

    def no_graph(x, y):
        x.sum().backward()

    def array(x, y):
        return (x * nt.ones(2, requires_grad=True)).numpy()

    for function in (add, product, part, leaf, scalar, no_graph, array):
        x, y = nt.rand(3, 2), nt.rand(5)
        with pytest.raises(Exception) as expected:
            function(x, y)
        with pytest.raises(type(expected.value)) as found:
            njit(function)(x, y)
        assert str(found.value) == str(expected.value)
        expected = found = None


def test_errors_can_be_caught_in_compiled_code():
    @njit
    def inner(x):
        return x @ x

    @njit
    def survive(x, n):
        caught = 0
        for _ in range(n):
            try:
                inner(x)
            except Exception:
                caught += 1
        return caught

    assert survive(nt.rand(2, 3), 5) == 5


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda x: x.tolist(), "Tensor.tolist is not there in compiled code"),
        (lambda x: nt.mean(x.to(nt.int64)), "mean is not defined for int64"),
        (lambda x: x.sum(dim="a"), r"sum\(\): argument 'dim' must not be"),
        (lambda x: x.to(nt.float64) @ x, r"matmul: Tensor\(float64, 1-D\) and Tensor\(float32, 1-D\) have two dtypes"),
        (lambda x: x.tanh(1), r"tanh\(\) takes 1 arguments but 2 were given"),
        (lambda x: x.exp(nope=1), r"exp\(\) got an unexpected keyword argument 'nope'"),
        (lambda x: x[0, 0], "too many indices for Tensor"),
    ],
)
def test_typing_errors_say_what_is_wrong(function, words):
    with pytest.raises(TypingError, match=words):
        njit(function)(nt.rand(3))


def test_a_tensor_is_no_constant():
    known = {"x": nt.ones(2)}
    exec("def add(y):\n    return x + y", known)
    with pytest.raises(TypingError, match="a Tensor cannot be a constant of compiled code"):
        njit(known["add"]).compile((numba.typeof(nt.ones(2)),))
    known.clear()
    njit(lambda: 0)()  # Numba keeps what it failed to make code of until it compiles again


def test_the_default_dtype_may_change():
    @njit
    def half(i):
        return i * 0.5

    assert half(nt.arange(2)).dtype is nt.float32
    nt.set_default_dtype(nt.float64)
    try:
        with pytest.raises(TypeError, match="compiled code expects a Tensor of float32, 1-D and got float64, 1-D"):
            half(nt.arange(2))
    finally:
        nt.set_default_dtype(nt.float32)


@njit
def sometimes(x, n):
    for i in range(n):
        y = x * i
    return y.sum() + (y, x)[0].sum()


@njit
def tried(x):
    try:
        y = x @ x
    except Exception:
        pass
    return y


def test_a_variable_without_a_value():
    assert sometimes(nt.ones(2), 2).item() == 4.0 and tried(nt.ones(2, 2)).tolist() == [[2.0, 2.0]] * 2
    for call in (lambda: sometimes(nt.ones(2), 0), lambda: tried(nt.ones(2, 3))):
        with pytest.raises(UnboundLocalError, match="cannot access local variable 'y'"):
            call()


LEAKS = """
import numbatensor as nt
from numba import njit

@njit
def fails(x):
    y = x * 2
    return y @ x

@njit
def passes_on(x):
    y = x * 2
    z = fails(x)
    return y + z

def tensors():
    return next(int(line.split()[1]) for line in str(nt.memory_summary()).splitlines() if line.startswith("tensors"))

for function in (fails, passes_on):
    before = tensors()
    for _ in range(5):
        try:
            function(nt.ones(2, 3))
        except RuntimeError:
            pass
    print(tensors() - before)
"""


def test_what_leaks_is_shown():
    """Of a function that only passes an error on, Numba leaks what its variables hold; of one whose op fails, nothing is leaked."""
    root = pathlib.Path(nt.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", LEAKS], capture_output=True, text=True, check=True, cwd=root)
    first, second = map(int, done.stdout.split())
    assert first == 0 and second >= 5
