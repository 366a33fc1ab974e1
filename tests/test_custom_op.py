"""Custom ops: users' compiled functions over arrays as operations."""

import gc
import os
import pathlib
import pickle
import subprocess
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
from numba import njit, objmode, types
from numba.core.errors import NumbaWarning, TypingError

import numbatensor as nt
from numbatensor.autograd import VersionError, gradcheck, gradgradcheck
from numbatensor.utils.checkpoint import checkpoint


@nt.custom_op
def soft_min(x, gamma=1.0):
    """A smooth minimum."""
    low = np.min(x)
    total = 0.0
    for i in range(x.size):
        total += np.exp((low - x[i]) / gamma)
    return low - gamma * np.log(total)


@soft_min.backward
def _(grad, x, gamma, out, needs):
    gx = np.zeros_like(x)
    g = 0.0
    for i in range(x.size):
        p = np.exp((out - x[i]) / gamma)
        gx[i] = grad * p
        g += p * x[i]
    return gx, grad * (out - g) / gamma if needs[1] else 0.0


@nt.custom_op
def cumulate_gradient(grad):
    out = np.empty_like(grad)
    total = 0.0
    for i in range(grad.size - 1, -1, -1):
        total += grad[i]
        out[i] = total
    return out


@nt.custom_op
def cumulate(x):
    out = np.empty_like(x)
    total = 0.0
    for i in range(x.size):
        total += x[i]
        out[i] = total
    return out


cumulate.backward(cumulate_gradient)
cumulate_gradient.backward(lambda grad_of_grad, grad: np.cumsum(grad_of_grad) + 0.0 * grad)


@nt.custom_op
def extremes(x):
    """The least and the greatest element, and where the least is."""
    k = np.argmin(x)
    return x[k], np.max(x), k


@extremes.backward
def _(low, high, where, x, out2):
    g = np.zeros_like(x)
    g[out2] += low
    g[np.argmax(x)] += high
    return g


@nt.custom_op(in_place=True)
def damp_(x, c):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] *= c


@damp_.backward
def _(grad, c):
    return grad * c


@nt.custom_op
def cube(x):
    return x * x * x


@cube.backward
def _(grad, x):
    return 3.0 * x * x * grad


def doubles(*shape, grad=True):
    rng = np.random.default_rng(0)
    return nt.tensor(rng.uniform(0.5, 2.0, shape), requires_grad=grad)


def test_values_and_gradients():
    x = doubles(5)
    y = soft_min(x, 0.3)
    a = x.detach().numpy()
    assert y.shape == () and np.isclose(y.item(), -0.3 * np.log(np.sum(np.exp(-a / 0.3))))
    assert y.grad_fn.name() == "SoftMinBackward0"
    assert gradcheck(lambda x: soft_min(x, 0.3), (x,))
    assert gradcheck(soft_min, (x, nt.tensor(0.7, dtype=nt.float64, requires_grad=True)))
    assert gradcheck(soft_min, (x, nt.tensor(0.7, dtype=nt.float64)))
    assert gradcheck(lambda x: extremes(x)[:2], (x,))
    assert soft_min(x).item() == soft_min(x, gamma=1.0).item() == soft_min(gamma=1, x=x).item()
    assert soft_min.__doc__ == "A smooth minimum." and repr(soft_min) == "<custom op soft_min>"
    assert pickle.loads(pickle.dumps(soft_min)) is soft_min


def test_arguments_of_all_kinds():
    @nt.custom_op
    def kinds(x, n, f, b, nothing, s):
        y = x.copy()
        if b and nothing is None:
            y[0] += n + f + s
        return y

    x = np.zeros(3, np.float32)
    assert kinds(x, 1, 0.5, True, None, nt.tensor(2)).tolist() == [3.5, 0, 0]
    assert kinds(nt.tensor(x), np.int32(1), np.float32(0.5), nt.tensor(True), None, 2).tolist() == [3.5, 0, 0]
    assert kinds(nt.tensor(x), True, 0, False, None, 2.0).dtype is nt.float32
    with pytest.raises(OverflowError):
        kinds(x, 1 << 63, 0.5, True, None, 1)
    with pytest.raises(TypeError, match="expected a Tensor or a number"):
        kinds("x", 1, 0.5, True, None, 1)
    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        kinds(x)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"])
def test_dtypes(dtype):
    @nt.custom_op
    def twice(x):
        return np.concatenate((x, x)), x[0]

    x = nt.tensor([1, 0, 1], dtype=getattr(nt, dtype))
    y, first = twice(x)
    assert y.dtype is first.dtype is x.dtype and y.tolist() == x.tolist() * 2 and first.item() == x[0].item()


def test_any_strides_and_no_elements():
    x = doubles(4, 6)
    for part in (lambda x: x[::2, ::-3], lambda x: x.t(), lambda x: x[:0], lambda x: x[1:2]):
        assert np.allclose(cube(part(x)).detach().numpy(), part(x.detach()).numpy() ** 3)
        assert gradcheck(lambda x, part=part: cube(part(x)), (x,))
    y = cumulate(doubles(0))
    y.sum().backward()
    assert y.shape == (0,)
    assert cumulate(doubles(3)[::2]).shape == (2,)


def test_results_are_taken_over_or_copied():
    kept = np.arange(3.0)

    @nt.custom_op
    def results(x):
        y = np.zeros((50, 200))
        y[0, 0] = x[0]
        return y, y, y.T, y[:, 5:], kept, np.array(x[0])

    x = nt.tensor([7.0], dtype=nt.float64)
    before = nt.memory_stats()["bytes"]
    whole, again, turned, part, constant, point = results(x)
    assert whole[0, 0] == again[0, 0] == turned[0, 0] == 7.0 and point.item() == 7.0 and part.shape == (50, 195)
    assert constant.tolist() == [0, 1, 2]
    whole.zero_(), constant.zero_()
    assert again[0, 0] == 7.0 and kept[1] == 1.0

    @nt.custom_op
    def fresh(x):
        return np.zeros(100_000) + x[0]

    y = fresh(x)
    assert y.is_contiguous() and y[99_999] == 7.0
    del whole, again, turned, part, constant, point, y
    assert nt.memory_stats()["bytes"] == before


def test_results_that_show_an_argument_are_refused():
    @nt.custom_op
    def itself(x):
        return x

    @nt.custom_op
    def part(x, y):
        return x + y, y[1:]

    for x in (doubles(4), doubles(8)[::2]):
        with pytest.raises(
            RuntimeError, match="itself returned a result that shows the memory of an argument: return a copy of it"
        ):
            itself(x.detach())
        with pytest.raises(RuntimeError, match="part returned output 1 that shows"):
            part(x.detach(), x.detach())


def test_inputs_cannot_be_written():
    @nt.custom_op
    def writes(x):
        x[0] = 1.0
        return x.sum()

    with pytest.raises(TypingError, match="readonly"):
        writes(doubles(3))


def test_several_outputs():
    x = doubles(5)
    low, high, where = extremes(x)
    assert where.dtype is nt.int64 and not where.requires_grad
    assert low.grad_fn is high.grad_fn and low.requires_grad and high.requires_grad
    high.backward()
    assert np.count_nonzero(x.grad.numpy()) == 1 and x.grad[int(np.argmax(x.detach().numpy()))] == 1.0
    x.grad = None
    low, high, where = extremes(x)
    (low * 2 + high * 3).backward()
    assert sorted(x.grad.tolist())[-2:] == [2.0, 3.0]


def test_integers_have_no_gradient():
    @nt.custom_op
    def picked(x, index):
        return x[index]

    @picked.backward
    def _(grad, x, index):
        g = np.zeros_like(x)
        for k in range(index.size):
            g[index[k]] += grad[k]
        return g

    x, index = doubles(5), nt.tensor([1, 1, 4])
    assert gradcheck(lambda x: picked(x, index), (x,))
    picked(x, index).sum().backward()
    assert x.grad.tolist() == [0, 2, 0, 0, 1]
    assert not cube(nt.tensor([1, 2])).requires_grad


def test_overwritten_values_are_noticed():
    x, gamma = doubles(4), 0.5
    w = x * 1.0
    y = soft_min(w, gamma)
    w.add_(1.0)
    with pytest.raises(
        VersionError,
        match=r"soft_min saved `x` \(float64 \[4\]\) at \S*test_custom_op.py:\d+, and `add_` at \S*test_custom",
    ):
        y.backward()
    y = soft_min(x * 1.0, gamma)
    y.mul_(2.0)
    with pytest.raises(VersionError, match=r"soft_min saved its output \(float64 \[\]\)"):
        y.backward()
    low, high, where = extremes(x)
    where.add_(1)
    with pytest.raises(VersionError, match="extremes saved its output 2"):
        low.backward()
    w = x * 1.0
    y = cumulate(w)  # saves nothing
    w.add_(1.0), y.mul_(2.0)
    y.sum().backward()
    assert [s.name for s in soft_min(x).grad_fn.saved] == ["x", "out"]


def test_graphs_are_freed_and_kept():
    x = doubles(3)
    y = cube(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()
    assert np.allclose(x.grad.numpy(), 6 * x.detach().numpy() ** 2)
    with nt.no_grad():
        assert not cube(x).requires_grad
    (g,) = nt.autograd.grad(cube(x).sum(), x)
    assert np.allclose(g.numpy(), 3 * x.detach().numpy() ** 2)


def test_hooks():
    x, seen = doubles(3), []
    y = cube(x)
    y.register_hook(lambda g: g * 2)
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append((inputs, outputs)))
    y.sum().backward()
    assert np.allclose(x.grad.numpy(), 6 * x.detach().numpy() ** 2) and seen[0][1][0].tolist() == [2, 2, 2]
    for create in (False, True):
        packed = []
        with nt.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t.clone(), lambda t: t):
            y = cube(x)
        assert len(packed) == 1
        (g,) = nt.autograd.grad(y.sum(), x, create_graph=create)
        assert np.allclose(g.detach().numpy(), 3 * x.detach().numpy() ** 2)


def test_second_derivatives():
    x = doubles(4)
    assert gradgradcheck(lambda x: cumulate(x * x), (x,))
    assert gradcheck(lambda x: cumulate(x)[1:], (x,))
    (g,) = nt.autograd.grad(cube(x).sum(), x, create_graph=True)
    with pytest.raises(
        RuntimeError,
        match="cube cannot be differentiated twice, as its backward is a compiled function: make that a custom op",
    ):
        g.sum().backward()


def test_second_derivatives_of_several_outputs():
    @nt.custom_op
    def rule(grad0, grad1, x):
        return 2.0 * x * grad0 + grad1

    @rule.backward
    def _(grad, x, grad0):
        return 2.0 * x * grad, grad.copy(), 2.0 * grad0 * grad

    op = nt.custom_op(lambda x: (x * x, x.copy()), rule)
    x = doubles(3)
    assert gradcheck(op, (x,)) and gradgradcheck(op, (x,))
    assert gradgradcheck(lambda x: op(x)[1] * x, (x,))


def test_anomaly_mode_names_it():
    op = nt.custom_op(lambda x: x.copy(), lambda grad: grad * np.nan)
    x = doubles(2)
    with (
        pytest.raises(RuntimeError, match="returned nan values"),
        pytest.warns(UserWarning, match="test_anomaly_mode_names_it"),
    ):
        with nt.autograd.detect_anomaly():
            op(x).sum().backward()


@nt.custom_op
def picky(x, bad):
    if bad:
        raise ValueError("bad", bad)
    return x.copy()


@picky.backward
def _(grad, x):
    if x[0] < 0:
        raise IndexError("backward is picky")
    return grad.copy()


def test_errors_arrive_as_themselves():
    x = doubles(3)
    with pytest.raises(ValueError) as caught:
        picky(x, 7)
    assert caught.value.args == ("bad", 7)
    y = picky(-x, 0).sum()
    with pytest.raises(IndexError, match="backward is picky"):
        y.backward()
    assert x.grad is None

    @njit
    def catches(x, bad):
        try:
            return picky(x, bad)
        except Exception:
            return x * 2

    @njit
    def raises(x, bad):
        return picky(x, bad).sum()

    assert catches(x, 1).tolist() == (x * 2).tolist() and catches(x, 0).tolist() == x.tolist()
    with pytest.raises(ValueError) as caught:
        raises(x, 7)
    assert caught.value.args == ("bad", 7)

    @njit
    def backs(x):
        picky(-x, 0).sum().backward()

    with pytest.raises(IndexError, match="backward is picky"):
        backs(x)


STASHES = """
import numpy as np
import numbatensor as nt
from numba import njit, objmode

stash = []

@njit
def keep(x):
    with objmode():
        stash.append(x)
    if x[0] < 0:
        raise ValueError("negative")

@nt.custom_op
def op(x):
    keep(x)
    return -x

@op.backward
def _(grad, x):
    keep(x)
    keep(-x)
    return grad.copy()

def attempt(x):
    try:
        op(x).sum().backward()
    except ValueError:
        return len(stash)

for sign in (-1.0, 1.0):
    x = nt.full((100_000,), sign, requires_grad=True)
    attempt(x)
    del x
    others = [nt.zeros(100_000) for _ in range(8)]  # would take the memory of what is freed
    print([float(s[-1]) for s in stash], nt.memory_stats()["bytes"] >= 9 * 400_000)
    del others
stash.clear()
print(nt.memory_stats()["tensors"])
"""


def test_what_a_failing_function_keeps_stays(tmp_path):
    """Python may hold the array that a function was given, so it is leaked where Numba's frames leak it, and never freed."""
    path = tmp_path / "stashes.py"
    path.write_text(STASHES)
    done = subprocess.run([sys.executable, "-W", "ignore", str(path)], capture_output=True, text=True)
    first, second, leaked = done.stdout.splitlines()
    assert (first, second) == ("[-1.0] True", "[-1.0, 1.0, 1.0, -1.0] True"), done.stderr
    assert int(leaked) > 0


def test_a_function_that_raises_leaks_nothing():
    """Where it raises itself, Numba lets go of what it holds (the fixture counts)."""

    @nt.custom_op
    def raising(x, y):
        z = x * 2.0
        for k in range(z.size):
            if z[k] > y[k]:
                raise ValueError(k)
        return z

    @raising.backward
    def _(grad, x, out):
        if grad[0] > 0.0:
            raise ValueError("backward")
        return grad * x

    x = doubles(4)
    for _ in range(3):
        with pytest.raises(ValueError):
            raising(x, x)
        with pytest.raises(ValueError, match="backward"):
            raising(x, 3.0 * x).sum().backward()


def op_of(forward, backward):
    op = nt.custom_op(forward, backward)
    op.__name__ = "op"
    return op


@pytest.mark.parametrize(
    "backward, error",
    [
        (
            lambda grad: grad[1:].copy(),
            r"the backward of op returned a gradient of shape \[2\] for `x`, whose shape is \[3\]",
        ),
        (lambda grad: np.zeros(1), r"of shape \[1\] for `x`, whose shape is \[3\]"),
        (
            lambda grad: np.zeros((1, 3)),
            r"returned array\(float64, 2d, C\) as the gradient of `x`, a Tensor\(float64, 1-D\)",
        ),
        (lambda grad: grad * 1j, r"returned array\(complex128, 1d, C\) as the gradient of `x`"),
        (lambda grad: 1.0, "returned float64 as the gradient of `x`"),
        (lambda grad: (grad * 1.0, grad * 1.0, None), "returned 3 gradients for 2 inputs"),
        (
            lambda grad, y: (grad * 1.0, grad * 1.0),
            "returned array.* as the gradient of `y`, a Tensor.float64, 0-D.: give an array of its rank, or of a Tensor of no",
        ),
    ],
)
def test_wrong_gradients(backward, error):
    op = op_of(lambda x, y: x * y, backward)
    x, y = doubles(3), nt.tensor(2.0, dtype=nt.float64, requires_grad=True)
    with pytest.raises((TypeError, RuntimeError), match=error):
        op(x, y).sum().backward()
    assert x.grad is None and y.grad is None


def test_gradients_that_are_none():
    def backward(grad, x, y, needs):
        return (y * grad if needs[0] else None), (np.sum(x * grad) if needs[1] else None)

    op = nt.custom_op(lambda x, y: x * y, backward)
    x, y = doubles(3), nt.tensor(2.0, dtype=nt.float64, requires_grad=True)
    op(x, y.detach()).sum().backward()
    assert y.grad is None and x.grad.tolist() == [2, 2, 2]
    op(x, y).sum().backward()
    assert y.grad.item() == x.detach().sum().item()
    (g,) = nt.autograd.grad(op(x, y).sum(), y)
    assert g.item() == y.grad.item()
    alone = nt.custom_op(lambda x, c: x * c, lambda grad, c, needs: grad * c if needs[0] and c > 0.0 else None)
    assert nt.autograd.grad(alone(x, 2.0).sum(), x)[0].tolist() == [2, 2, 2]
    assert nt.autograd.grad(alone(x, -2.0).sum(), x, allow_unused=True) == (None,)
    same = nt.custom_op(lambda x: x.copy(), lambda grad: grad)
    same(x).sum().backward()
    assert x.grad.tolist() == [5, 5, 5]


def test_declarations_that_are_refused():
    with pytest.raises(TypeError, match="takes `z` after 1 gradient; what it can have there is needs, out, x"):
        op_of(lambda x: x * 1.0, lambda grad, z: grad)(doubles(2))
    with pytest.raises(
        TypeError, match="takes `x` after 2 gradients; what it can have there is needs, out, out0, out1, y"
    ):
        op_of(lambda y: (y * 1.0, y * 1.0), lambda grad, more, x: grad)(doubles(2))
    with pytest.raises(TypeError, match="takes 1 gradients first, of 2 results"):
        op_of(lambda y: (y * 1.0, y * 1.0), lambda grad: grad)(doubles(2))
    with pytest.raises(TypeError, match="made of functions"):
        nt.custom_op(3)
    with pytest.raises(TypeError, match=r"plain parameters, not \*x"):
        nt.custom_op(lambda *x: x[0])
    with pytest.raises(TypeError, match="takes `x` after 1 gradient; what it can have there is needs, out"):
        nt.custom_op(lambda x: None, lambda grad, x: grad, in_place=True)(doubles(2))
    with pytest.raises(RuntimeError, match="was used before its backward"):
        used = nt.custom_op(lambda x: x * 1.0)
        used(doubles(2, grad=False))
        used.backward(lambda grad: grad)
    with pytest.raises(TypeError, match="takes `out1` after 1 gradient"):
        op_of(lambda x: x * 1.0, lambda grad, out1: grad)(doubles(2))
    with pytest.raises(TypeError, match="must return arrays or numbers"):
        nt.custom_op(lambda x: "x")(doubles(2))
    with pytest.raises(TypeError, match="must return arrays or numbers"):
        nt.custom_op(lambda x: x * 1j)(doubles(2))
    with pytest.raises(TypeError, match="its function must return nothing"):
        nt.custom_op(lambda x: x, in_place=True)(doubles(2, grad=False))
    with pytest.raises(RuntimeError, match="<lambda> has no backward, and one of its arguments requires grad"):
        nt.custom_op(lambda x: x * 1.0)(doubles(2))


def test_functions_that_are_compiled_already():
    forward, backward = njit(lambda x: x * 2.0), njit(lambda grad: grad * 2.0)
    assert gradcheck(nt.custom_op(forward, backward), (doubles(2, 3),))
    read = types.Array(types.float64, 1, "C", readonly=True)
    declared = njit([types.float64[:](read)])(lambda x: x * 2.0)
    assert nt.custom_op(declared)(doubles(2, grad=False)).shape == (2,)
    with pytest.raises((TypeError, TypingError)):
        nt.custom_op(declared)(doubles(2, 2, grad=False))


@pytest.mark.filterwarnings("ignore::numba.NumbaWarning")
def test_without_the_gil():
    held = []

    @njit(nogil=True)
    def forward(x):
        with objmode():
            held.append(threading.current_thread().name)
        return x * 2.0

    op = nt.custom_op(forward, lambda grad: grad * 2.0)
    assert op(doubles(2, grad=False)).shape == (2,) and held


# in place


def test_in_place():
    x = doubles(2, 3)
    y = x * 1.0
    z = damp_(y, 0.5)
    assert z is y and y._version == 1 and y.grad_fn.name() == "DampBackward0"
    y.sum().backward()
    assert x.grad.tolist() == [[0.5] * 3] * 2
    assert gradcheck(lambda x: damp_(x * x, 0.3), (x,))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        damp_(x, 0.5)
    with nt.no_grad():
        damp_(x, 0.5)
    assert x._version == 1
    w = x * x
    y = w * w
    damp_(w, 0.5)
    with pytest.raises(VersionError, match=r"mul saved `.` .* and `damp_` at \S*test_custom_op.py"):
        y.sum().backward()
    with pytest.raises(TypeError, match="writes into a Tensor, not a float"):
        damp_(1.0, 0.5)
    with pytest.raises(TypeError, match="a Tensor of no dimensions comes as a number"):
        damp_(nt.tensor(1.0), 0.5)


def test_in_place_on_views():
    x = doubles(4, 4)
    y = x * 1.0
    damp_(y[::2, ::-1], 0.5)
    damp_(y.t(), 3.0)
    y.sum().backward()
    assert x.grad.tolist() == [[1.5] * 4, [3.0] * 4] * 2
    assert np.allclose(y.detach().numpy(), x.detach().numpy() * x.grad.numpy())
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        damp_(nt.zeros(1, 4).expand(3, 4), 0.5)


def test_in_place_with_an_argument_in_the_same_memory():
    @nt.custom_op(in_place=True)
    def shift_(x, y):
        for i in range(x.size):
            x[i] = 2.0 * y[i]

    t = nt.tensor([1.0, 2.0, 3.0, 4.0])
    shift_(t[1:], t[:-1])
    assert t.tolist() == [1, 2, 4, 6]
    shift_(t, t)
    assert t.tolist() == [2, 4, 8, 12]


def test_an_error_in_place_still_counts():
    @nt.custom_op(in_place=True)
    def fails_(x):
        x[0] = 9.0
        raise ValueError("too late")

    x = nt.zeros(3)
    with pytest.raises(ValueError, match="too late"):
        fails_(x)
    assert x[0] == 9.0 and x._version == 1
    y = nt.zeros(6)[::2]
    with pytest.raises(ValueError, match="too late"):
        fails_(y)
    assert y[0] == 0.0


# compiled code


def test_in_compiled_code():
    @njit
    def f(x):
        y = soft_min(x, 0.5) + soft_min(x, gamma=2)
        low, high, where = extremes(x)
        return y * low + high, where

    x = doubles(5)
    y, where = f(x)
    expected, place = f.py_func(x)
    assert y.item() == expected.item() and where.item() == place.item() and where.dtype is nt.int64
    assert gradcheck(lambda x: f(x)[0], (x,))
    assert f(doubles(3))[0].dtype is nt.float64


def test_backward_in_compiled_code():
    @njit(nogil=True)
    def step(x):
        y = cube(x)
        damp = y.reshape((1, -1))
        damp_(damp, 0.5)
        damp.sum().backward()

    x = doubles(3)
    step(x)
    assert np.allclose(x.grad.numpy(), 1.5 * x.detach().numpy() ** 2)

    @njit
    def stale(x):
        y = x * 1.0
        z = cube(y)
        y.add_(1.0)
        z.sum().backward()

    with pytest.raises(
        VersionError, match=r"cube saved `x` .* at \S*test_custom_op.py:\d+, and `add_` at \S*test_custom_op.py:\d+"
    ):
        stale(x)


def test_in_compiled_code_in_place_returns_the_tensor():
    @njit
    def f(x):
        return damp_(x, 0.5)

    x = nt.ones(2, 2)
    assert f(x) is x and x[0, 0] == 0.5 and x._version == 1


def test_what_compiled_code_refuses():
    @njit
    def unknown_rank(x, n):
        while n:
            x, n = x.sum(0), n - 1
        return cube(x)

    with pytest.raises(TypingError, match="the rank of `x` is not known here"):
        unknown_rank(doubles(2, 2), 1)
    with pytest.raises(TypingError, match="`x` must be a Tensor, a number or None"):
        njit(lambda: cube("x"))()
    with pytest.raises(TypingError, match="missing a required argument"):
        njit(lambda: cube())()


def test_many_threads():
    @njit(nogil=True)
    def train(x, n):
        for _ in range(n):
            y = cube(x)
            soft_min(y, 0.5).backward()

    tensors = [doubles(20) for _ in range(4)]
    train(tensors[0], 1)
    tensors[0].grad = None
    threads = [threading.Thread(target=train, args=(x, 200)) for x in tensors]
    threads += [
        threading.Thread(target=lambda x=x: [cube(x).sum().backward() for _ in range(100)]) for x in tensors[:2]
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert np.allclose(tensors[2].grad.numpy(), tensors[3].grad.numpy(), rtol=1e-12)


def test_a_node_outlives_its_op():
    def made(k):
        @nt.custom_op
        def scaled(x):
            return x * k

        @scaled.backward
        def _(grad):
            return grad * k

        @njit
        def f(x):
            return scaled(x)

        return f(x * 2.0), scaled(x)

    x = doubles(3)
    first, second = made(3.0)
    third, fourth = made(5.0)
    gc.collect()
    (first + second + third + fourth).sum().backward()
    assert x.grad.tolist() == [2 * 3 + 3 + 2 * 5 + 5.0] * 3


PROGRAM = """
import sys
import numpy as np
import numbatensor as nt
from numba import njit

@nt.custom_op
def power(x, n):
    return x ** n

@power.backward
def _(grad, x, n):
    return grad * n * x ** (n - 1)

@njit(cache=True)
def f(x):
    return (power(x, 2) + power(x, 3.0)).sum()

x = nt.tensor(np.array([1.0, 2.0]), requires_grad=True)
f(x).backward()
print(x.grad.tolist(), sum(f.stats.cache_hits.values()))
"""


def run(path, folder):
    env = dict(os.environ, NUMBA_CACHE_DIR=str(folder), PYTHONPATH=os.pathsep.join([str(path.parent), *sys.path]))
    return subprocess.run([sys.executable, "-c", f"import {path.stem}"], capture_output=True, text=True, env=env)


def test_cached_code_works_in_another_process(tmp_path):
    path = pathlib.Path(tmp_path / "program_of_a_user.py")
    path.write_text(PROGRAM)
    for hits in (0, 1):
        done = run(path, tmp_path / "cache")
        assert done.stdout.strip() == f"[5.0, 16.0] {hits}", done.stderr


def test_cached_code_for_another_op_is_refused(tmp_path):
    """The op lies in a file of its own, which Numba's cache does not look at."""
    op, user = PROGRAM.split("@njit")
    (tmp_path / "ops_of_a_user.py").write_text(op)
    path = pathlib.Path(tmp_path / "caller_of_a_user.py")
    path.write_text("from ops_of_a_user import *\n@njit" + user)
    assert run(path, tmp_path / "cache").returncode == 0
    (tmp_path / "ops_of_a_user.py").write_text(op.replace("return x ** n\n", "return np.sum(x ** n)\n"))
    done = run(path, tmp_path / "cache")
    assert "cached uses power, which is not defined in this process, or differently: save the file" in done.stderr
    (tmp_path / "ops_of_a_user.py").write_text(
        "import numpy as np\nimport numbatensor as nt\nfrom numba import njit\npower = nt.pow"
    )
    assert "cached uses power, which is not defined in this process" in run(path, tmp_path / "cache").stderr


def test_compiled_code_keeps_the_op_that_it_was_compiled_with(monkeypatch):
    """Also where another has taken the name before the line that calls it is first reached."""
    module = ModuleType("redefined_ops")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = "import numbatensor as nt\n@nt.custom_op\ndef op(x):\n    return x * {}\n"
    exec(source.format(2.0), vars(module))
    op = module.op
    assert op.has_name()

    @njit
    def f(x, reached):
        return op(x) if reached else x * 1.0

    x = doubles(3, grad=False)
    f(x, False)
    exec(source.format(3.0), vars(module))
    assert not op.has_name() and f(x, True).tolist() == (x * 2.0).tolist()


def test_ops_without_a_name_are_not_cached(tmp_path):
    local = nt.custom_op(lambda x: x * 2.0)

    @njit(cache=True)
    def f(x):
        return local(x)

    with pytest.warns(NumbaWarning, match="dynamic globals"):
        assert f(nt.ones(2)).tolist() == [2, 2]


# transforms


def test_vmap_runs_it_entry_by_entry():
    x = doubles(3, 4)
    assert np.allclose(nt.vmap(lambda r: soft_min(r, 0.5))(x).tolist(), [soft_min(r, 0.5).item() for r in x])
    low, high, where = nt.vmap(extremes)(x)
    assert low.shape == high.shape == where.shape == (3,)
    g = nt.vmap(nt.func.grad(lambda r: cube(r).sum()))(x)
    assert np.allclose(g.detach().numpy(), 3 * x.detach().numpy() ** 2)


@nt.custom_op
def scaled_gradient(grad, x, c):
    return 2.0 * c * x * grad, np.sum(x * x * grad)


scaled_gradient.backward(
    lambda by_x, by_c, grad, x, c: (
        2.0 * c * x * by_x + x * x * by_c,
        2.0 * c * grad * by_x + 2.0 * x * grad * by_c,
        np.sum(2.0 * x * grad * by_x),
    )
)
scaled = nt.custom_op(lambda x, c: c * x * x, scaled_gradient)


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_transforms_keep_dtypes(dtype):
    """Where float literals make float64 of float32 in a backward, too."""
    x, c = nt.tensor([[0.5, 1.0, 2.0], [1.5, 0.7, 0.2]], dtype=dtype), nt.tensor(3.0, dtype=dtype)
    total = lambda r, c: scaled(r, c).sum()
    by_x, by_c = nt.vmap(nt.func.grad(total, (0, 1)), (0, None))(x, c)
    one = nt.func.grad(lambda x: nt.vmap(scaled, (0, None))(x, c).sum())(x)
    jacobian = nt.func.jacrev(scaled, (0, 1))(x[0], c)
    hessian = nt.func.hessian(total, (0, 1))(x[0], c)
    pushed = nt.func.jvp(lambda r: scaled(r, c), (x[0],), (x[1],))
    for made, wanted in (
        (by_x, 6.0 * x),
        (by_c, (x * x).sum(1)),
        (one, 6.0 * x),
        (jacobian[0], 6.0 * nt.eye(3) * x[0]),
        (jacobian[1], x[0] * x[0]),
        (hessian[0][0], 6.0 * nt.eye(3)),
        (hessian[1][0], 2.0 * x[0]),
        (hessian[1][1], nt.tensor(0.0)),
        (pushed[1], 6.0 * x[0] * x[1]),
    ):
        assert made.dtype is dtype
        np.testing.assert_allclose(made.numpy(), wanted.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
@pytest.mark.parametrize(
    "backward", [lambda grad, x: 3.0 * x * x * grad, lambda grad, x: (3 * x * x * grad).astype(np.float32)]
)
def test_gradients_take_the_dtype_of_their_input(dtype, backward):
    op = nt.custom_op(lambda x: x * x * x, backward)
    x = nt.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    for create in (False, True):
        (g,) = nt.autograd.grad(op(x).sum(), x, create_graph=create)
        assert g.dtype is dtype and g.tolist() == [3.0, 12.0]
    again = checkpoint(op, x, use_reentrant=False)
    again.register_hook(lambda g: g * 2.0)
    with nt.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), nt.tensor):
        (again + op(x)).sum().backward()
    assert x.grad.dtype is dtype and x.grad.tolist() == [9.0, 36.0]
    assert cubed(x, op).dtype is dtype


def cubed(x, op):
    """The gradient that compiled code finds."""

    @njit
    def run(x):
        op(x).sum().backward()

    x = x.detach().requires_grad_()
    run(x)
    return x.grad


def test_inference_mode():
    with nt.inference_mode():
        x = nt.ones(2)
        assert cube(x).is_inference()
    w = nt.ones(2, requires_grad=True)
    op = nt.custom_op(lambda x, w: x * w, lambda grad, x: (None, grad * x))
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        op(x, w)
