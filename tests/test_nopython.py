"""Tensors inside users' compiled functions."""

import collections
import concurrent.futures
import os
import pathlib
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba import njit, prange
from numba.core.errors import TypingError
from numba.experimental import jitclass
from numba.typed import List
from sampled import CASES

import numbatensor as nt
from numbatensor.op import Joined, Pointwise


def in_compiled_code(case):
    """The op of a case as a compiled function of the tensors alone: what is no tensor is written in its source."""
    names, words = [], []
    for value in case.arguments:
        if isinstance(value, np.ndarray):
            names.append(f"t{len(names)}")
            words.append(names[-1])
        else:
            words.append(repr(value))
    known = {"op": case.op.fast}
    exec(f"def run({', '.join(names)}):\n    return op({', '.join(words)})", known)
    return njit(known["run"])


def writes(case):
    return case.op.row["trait"] == 2 and case.op.name.startswith("index_put")


RUN = [c for c in CASES if not isinstance(c.op, Joined) and not writes(c)]


@pytest.mark.parametrize("case", RUN, ids=lambda c: c.id)
def test_values_and_gradients_are_those_of_python(case):
    compiled = in_compiled_code(case)
    for dtype in (np.float64, np.float32) if isinstance(case.op, Pointwise) else (np.float64,):
        expected, given = case.tensors(dtype), case.tensors(dtype)
        y, z = case(*expected), compiled(*given)
        assert y.dtype is z.dtype and y.shape == z.shape and y.requires_grad == z.requires_grad
        assert np.array_equal(y.detach().numpy(), z.detach().numpy(), equal_nan=True)
        if y.requires_grad:
            y.sum().backward()
            z.sum().backward()
            for a, b in zip(expected, given, strict=True):
                assert (a.grad is None) == (b.grad is None)
                assert a.grad is None or np.array_equal(a.grad.numpy(), b.grad.numpy(), equal_nan=True)


def alike(function, *args):
    """Run a function compiled and as Python; the results have to be equal, as text."""
    found, expected = njit(function)(*args), function(*args)
    assert repr(found) == repr(expected)
    return found


def test_attributes():
    def look(x):
        n, m = x.shape
        return n * m, x.ndim, x.size(0), x.size(-1), x.numel(), x.dim(), len(x), x.dtype == nt.float32, x.itemsize

    def more(x):
        return x.requires_grad, x.is_leaf, x._version, x.is_contiguous(), x.is_floating_point(), x.T, x.mT

    def numbers(x):
        return x.sum().item(), float(x.sum()), int(x.sum()), bool(x.sum() > 1), (x > 0.5).sum().item()

    for function in (look, more, numbers):
        alike(function, nt.rand(3, 4))
    alike(more, nt.rand(3, 4, requires_grad=True).T)


def test_operators():
    def floats(x, y):
        return (
            x + y,
            1 - x,
            2.0 * x,
            x / y,
            x**2,
            2**x,
            -x,
            +x,
            abs(x),
            x > 0.5,
            x == y,
            x != 1,
            x <= y,
            x % 0.3,
            x // y,
        )

    def whole(x):
        return x + 1, x * 2.0, x / 2, ~x, x & 3, x | 1, x ^ 1, x << 1, x >> 1, ~(x > 2)

    def products(x, w, v):
        return x @ w, x @ v, v @ w, v @ v, nt.matmul(x, w), (x + x).matmul(w)

    alike(floats, nt.rand(3, 4), nt.rand(4))
    alike(whole, nt.arange(6))
    alike(products, nt.rand(3, 4), nt.rand(4, 2), nt.rand(4))


def test_in_place():
    def change(x):
        y = x.clone()
        y += 1
        y *= x
        y.add_(x)
        y.tanh_()
        y -= 0.5
        y /= 2
        z = y
        z.zero_()
        y.fill_(3)
        y.copy_(x)
        return y, z, y._version

    alike(change, nt.rand(3))


def test_keywords_and_lists():
    def call(x):
        a = x.sum(0), x.sum(dim=1), nt.sum(x, 1, keepdim=True), x.mean(axis=0), x.sum((0, -1)), x.amax(-1), x.sum()
        b = (
            x.reshape(4, 3),
            x.reshape((2, 6)),
            x.permute(1, 0),
            x.unsqueeze(0),
            x.squeeze(),
            x.reshape(-1),
            x.expand(2, 3, 4),
        )
        return a, b

    alike(call, nt.rand(3, 4))


def test_parts():
    def read(x):
        a = x[0], x[1, 2], x[:, 1], x[0:2], x[::2, 1:], x[-1, -2], x[None], x[..., 0], x[:, None, 1], x[::-1]
        return a, x[2:0:-1], x[5:], x[...], x[1:2, 0:3:2]

    def write(x, v):
        y = x.clone()
        y[0] = 1
        y[1, 2] = 7.5
        y[:, 1] = y[:, 0]
        y[2] = v
        y[::2, 3:] = -1
        y[1] = v[None]
        return y, y._version

    alike(read, nt.rand(3, 4))
    alike(write, nt.rand(3, 4), nt.rand(4))


def test_new_tensors():
    def make(n, x):
        a = (
            nt.zeros(n, 2),
            nt.ones((2, n)),
            nt.full((2,), 3.5),
            nt.full((n,), 2),
            nt.zeros(()),
            nt.zeros(3, dtype=nt.int64),
        )
        b = nt.ones(2, dtype=nt.float64, requires_grad=True), nt.zeros_like(x), nt.full_like(x, 7), nt.tensor(1.5)
        c = (
            nt.tensor((1, 2)),
            nt.arange(5),
            nt.linspace(0, 1, 3),
            nt.eye(n),
            nt.tensor(np.ones(3)),
            nt.arange(0, 1, 0.25),
        )
        return a, b, c

    def draw(n):
        nt.manual_seed(3)
        return nt.rand(n, 2), nt.randn(2), nt.randint(0, 10, (4,)), nt.randperm(5), nt.rand(2, dtype=nt.float64)

    alike(make, 3, nt.rand(2, 2))
    alike(draw, 3)


def test_functions_that_python_runs():
    def first(x):
        a = nt.softmax(x, 1), x.softmax(-1), nt.log_softmax(x, dim=0), nt.cumsum(x, 0), x.max(), nt.clamp(x, 0.2, 0.5)
        return a, x.clamp(min=0.3), nt.where(x > 0.5, x, 0.0), x.max(1), nt.min(x, 0).values, x.argmax(), nt.topk(x, 2)

    def second(x):
        a = x.sort(1), x.std(), x.var(0), x.norm(), nt.cat((x, x)), nt.stack((x, x), 1), nt.allclose(x, x), nt.tril(x)
        return a, x.flip(0), nt.einsum("ij,ij->i", x, x), x.flatten(), x.masked_fill(x > 0.5, 0.0), nt.outer(x[0], x[1])

    alike(first, nt.rand(3, 4))
    alike(second, nt.rand(3, 4))


def test_dtypes():
    def convert(x, i):
        return x.double(), x.to(nt.int64), i + 1.5, i * True, x + i, x.type_as(i), i.float(), i / 2, x.double() + x

    alike(convert, nt.rand(3), nt.arange(3))


@njit
def collapsed(x, more):
    while x.ndim > 0:
        x = x.sum(0)
    return x + more


def test_a_rank_that_is_not_known():
    assert collapsed(nt.ones(2, 3), 1.0).item() == 7.0
    with pytest.raises(TypingError, match=r"add: whether the result is float32 or float64 depends .* \.to\(dtype\)"):
        collapsed.compile((numba.typeof(nt.ones(2, 3)), numba.typeof(nt.tensor(1.0, dtype=nt.float64))))


def rollout(x, w, steps):
    for _ in range(steps):
        x = nt.tanh(x @ w) + 0.1 * x
        if x.sum().item() > 2.0:
            x = x * 0.5
    return x


def test_one_graph():
    w, x = nt.rand(3, 3, requires_grad=True), nt.rand(2, 3)
    compiled = njit(rollout)
    grads = []
    for function in (rollout, compiled):
        w.grad = None
        (function(x * w.mean(), w, 5) ** 2).mean().backward()
        grads.append(w.grad)
    assert nt.equal(*grads)
    (twice,) = nt.autograd.grad((compiled(x, w, 2) ** 2).sum(), w, create_graph=True)
    (expected,) = nt.autograd.grad((rollout(x, w, 2) ** 2).sum(), w, create_graph=True)
    assert nt.equal(*[nt.autograd.grad(g.sum(), w)[0] for g in (twice, expected)])
    assert nt.autograd.gradcheck(lambda a, b: compiled(a, b, 3), [t.double().requires_grad_() for t in (x, w.detach())])


def test_hooks_in_between():
    seen = []
    w = nt.rand(3, requires_grad=True)
    y = w * 2
    y.register_hook(lambda grad: seen.append(grad) or grad * 10)

    @njit
    def go(y):
        (y * y).sum().backward()

    go(y)
    assert len(seen) == 1 and nt.allclose(w.grad, 80 * w)


def test_a_training_step():
    @njit(nogil=True)
    def step(w, x, target, lr):
        loss = ((x @ w - target) ** 2).mean()
        loss.backward()
        g = w.grad
        if g is not None:
            with nt.no_grad():
                w -= lr * g
            g.zero_()
        return loss.item()

    x, w = nt.rand(16, 3), nt.zeros(3, requires_grad=True)
    target = x @ nt.tensor([1.0, -2.0, 0.5])
    losses = [step(w, x, target, 0.5) for _ in range(300)]
    assert losses[-1] < 1e-3 * losses[0] and nt.allclose(w.detach(), nt.tensor([1.0, -2.0, 0.5]), atol=0.1)


def test_modes():
    def switch(x):
        with nt.no_grad():
            y = x * 2
            with nt.enable_grad():
                z = x * 3
        return y.requires_grad, z.requires_grad, (x * 4).requires_grad, nt.is_grad_enabled()

    alike(switch, nt.rand(2, requires_grad=True))

    @njit
    def interrupted(x):
        with nt.no_grad():
            y = x @ nt.zeros(7)
        return y

    with pytest.raises(RuntimeError):
        interrupted(nt.rand(2, 2))
    assert nt.is_grad_enabled()


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
    njit(lambda: 0)()  # Numba keeps what it failed to compile until it compiles again


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


def test_what_vmap_looks_into_stays_outside():
    with pytest.raises(TypeError, match="vmap"):
        nt.vmap(njit(lambda x: x * 2))(nt.ones(2))


def test_arrays():
    @njit
    def write(x):
        a = x.numpy()
        for i in range(a.size):
            a[i] += 1.0
        return a

    x = nt.zeros(3)
    a = write(x)
    assert x.tolist() == [1.0, 1.0, 1.0] and x._version == 1
    del x
    a[0] = 5.0
    assert a.tolist() == [5.0, 1.0, 1.0]
    w = nt.rand(3, requires_grad=True)
    y = w * w
    loss = (y * y).sum()
    write(y.detach())
    with pytest.raises(nt.autograd.VersionError):
        loss.backward()


def test_element_writes_are_counted():
    @njit
    def write(x):
        x[0] = 1.0

    w = nt.rand(3, requires_grad=True)
    y = w * w
    loss = (y * y).sum()
    write(y)
    with pytest.raises(nt.autograd.VersionError, match="__setitem__"):
        loss.backward()


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


def test_threads():
    @njit(nogil=True)
    def train(x, w, n):
        for _ in range(n):
            (nt.tanh(x @ w) * x).sum().backward()
        return w.grad

    x = nt.rand(4, 4)
    weights = [nt.rand(4, 4, requires_grad=True) for _ in range(4)]
    train(x, weights[0].detach().requires_grad_(), 1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda w: train(x, w, 300), weights))
    for w, g in zip(weights, found, strict=True):
        assert nt.allclose(g, train(x, w.detach().clone().requires_grad_(), 300), rtol=1e-4)


def test_errors_in_threads():
    @njit(nogil=True)
    def product(x):
        return x @ x

    def attempt(k):
        try:
            product(nt.rand(2, 3))
        except RuntimeError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(attempt, range(200)))) == 1


def test_a_long_graph_dies_in_compiled_code():
    @njit
    def long(x, n):
        y = x
        for _ in range(n):
            y = y + 1.0
        return y.sum().item()

    assert long(nt.zeros(1, requires_grad=True), 300_000) == 300_000.0


CACHED = """
import time
import numbatensor as nt
from numba import njit, prange

@njit(cache=True)
def made(n):
    return nt.tanh(nt.ones(n)).sum().item() * 2

@njit(cache=True)
def square(x):
    y = (x * x + nt.softmax(x, 0).sum()).sum()
    y.backward()
    return y

print(made(3), len(made.stats.cache_hits))
x = nt.ones(3, requires_grad=True)
print(square(x).item(), x.grad.tolist(), len(square.stats.cache_hits))
try:
    square(nt.ones(3))
except RuntimeError as error:
    print(error)
"""


def test_cache_in_a_second_process(tmp_path):
    program = tmp_path / "cached.py"
    program.write_text(CACHED)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(pathlib.Path(nt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    run = lambda: subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True, env=environment
    ).stdout.splitlines()
    first, second = run(), run()
    assert [line.rsplit(" ", 1)[0] for line in first[:2]] == [line.rsplit(" ", 1)[0] for line in second[:2]]
    assert [line[-1] for line in second[:2]] == ["1", "1"] and first[2:] == second[2:]


def test_independent_graphs_in_a_parallel_loop():
    @njit(parallel=True)
    def slopes(w, x, n):
        out = np.zeros(n)
        for i in prange(n):
            y = w.detach().requires_grad_()
            (nt.tanh(x @ y) * i).sum().backward()
            g = y.grad
            if g is not None:
                out[i] = g.sum().item()
        return out

    found = slopes(nt.rand(3, 3), nt.rand(2, 3), 100)
    assert np.allclose(found, found[1] * np.arange(100), rtol=1e-4)
