"""Whole ops from users' scalar functions: their values, gradients, control flow, caching, errors, and use in compiled code."""

import ast
import math
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import numbatensor as nt
from numbatensor import func
from numbatensor.autograd import gradcheck, gradgradcheck
from numbatensor.op import BY_ADDRESS, OPS

SCALE, TABLE = 2.5, np.array([1.0, -2.0, 0.5])


@nt.pointwise
def swish(x, beta=1.0):
    """The product of x and its logistic function."""
    return x / (1 + math.exp(-beta * x))


@nt.pointwise
def pieces(x):
    if x > 1:
        return x * x
    elif x < -1:
        return 0
    return math.sin(x)


@nt.pointwise
def root(x):
    y = 1.0
    while abs(y * y - x) > 1e-6 * x:
        y = 0.5 * (y + x / y)
    return y


@njit
def series(x, n):
    total = 0.0
    for k in range(n):
        total += x**k / (k + 1)
    return total


@nt.pointwise
def polynomial(x):
    return TABLE[0] + TABLE[1] * x + TABLE[2] * x**2 + SCALE * series(x, 4)


@nt.pointwise
def extremes(x, y):
    return max(x, y) * min(x, 2.0, y) + max(0, x)


@nt.pointwise
def power(x, n: int):
    y = x
    for _ in range(n):
        y = y * x
    return y


@nt.pointwise
def chosen(x, condition: bool):
    return x * 2 if condition else x * x


@nt.pointwise
def powers(x, y):
    return x**y + x**2 + x**-1 + x**0.5 + pow(x, 3) + 2**x


@nt.pointwise
def numpys(x, y):
    return (
        np.exp(x) + np.sin(x) * np.arctan2(x, y) + np.maximum(x, y) + np.hypot(x, y) + np.logaddexp(x, y) + np.sign(x)
    )


@nt.pointwise
def maths(x):
    total = (
        math.erf(x) + math.asin(x / 4) + math.acos(x / 4) + math.atan(x) + math.sinh(x) + math.cosh(x) + math.tan(x / 4)
    )
    total += (
        math.log1p(x * x) + math.expm1(x) + math.asinh(x) + math.acosh(x * x + 2) + math.atanh(x / 4) + math.erfc(x)
    )
    return total + math.log2(x * x + 1) + math.log10(x * x + 1) + math.exp2(x) + math.fabs(x) + math.degrees(x)


@nt.pointwise
def remainders(x, y):
    return x % y + x // y + math.fmod(x, y) + math.floor(x) + math.ceil(x) * x + math.copysign(x, y)


@nt.pointwise
def assignments(x):
    a, b = x, x * 2
    a, b = b * a, a
    if (a < b and not x == 1.0) or bool(x):
        a += b
    a -= 1
    a *= float(x)
    a /= 3
    return +a if math.isfinite(a) else -a


@nt.pointwise
def nested(x):
    return swish(x, 2.0) + swish(x)


def made(factor):
    @nt.pointwise
    def scaled(x):
        return factor * x * x

    return scaled


def f64(*values, requires_grad=True):
    return nt.tensor(list(values), dtype=nt.float64, requires_grad=requires_grad)


CASES = [
    (swish, f64(0.5, -2.0), f64(1.5)),
    (pieces, f64(0.5, 2.0, -3.0)),
    (root, f64(2.0, 0.7)),
    (polynomial, f64(0.5, -0.3)),
    (extremes, f64(1.0, -2.0, 3.0), f64(1.5, 2.5, -0.3)),
    (power, f64(0.4, -0.7), 3),
    (chosen, f64(0.4, -0.7), True),
    (powers, f64(0.4, 1.7), f64(0.3, -1.2)),
    (numpys, f64(0.4, 1.7, -0.3), f64(0.3, -1.2, 0.6)),
    (maths, f64(0.4, -0.7)),
    (remainders, f64(5.3, -4.2), f64(1.7, 1.3)),
    (assignments, f64(0.3, -2.0)),
    (nested, f64(0.3, -2.0)),
    (made(3.0), f64(0.3, -2.0)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0].__name__)
def test_derivatives_of_first_and_second_order(case):
    f, *args = case
    args = [a.detach().requires_grad_() if isinstance(a, nt.Tensor) else a for a in args]
    assert gradcheck(f, tuple(args)) and gradgradcheck(f, tuple(args))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0].__name__)
def test_values_are_python_s(case):
    """And float32 stays float32."""
    f, *args = case
    for dtype, tolerance in ((nt.float64, 1e-6 if f is root else 1e-12), (nt.float32, 2e-5)):
        given = [a.detach().to(dtype) if isinstance(a, nt.Tensor) else a for a in args]
        out = f(*given)
        columns = np.broadcast_arrays(*[a.numpy() if isinstance(a, nt.Tensor) else a for a in given])
        wanted = [plain(f)(*[c.item() for c in row]) for row in zip(*columns, strict=True)]
        assert out.dtype is dtype
        np.testing.assert_allclose(out.numpy(), wanted, rtol=tolerance)


def plain(f):
    """The Python function behind an op; functions of ours that it calls are Python's too."""
    code = f.__wrapped__
    known = {**code.__globals__, "swish": swish.__wrapped__}
    return type(code)(code.__code__, known, code.__name__, code.__defaults__, code.__closure__)


def test_like_the_declared_op():
    """Values, gradients by tensors that are broadcast, promotion, strides, no elements, no dimensions."""
    composed = lambda x, beta: x / (1 + nt.exp(-beta * x))
    rng = np.random.default_rng(0)
    draw = lambda *shape: nt.tensor(rng.standard_normal(shape))
    pairs = [
        (draw(3, 4), draw(4)),
        (draw(4, 3).T, draw(3, 1)),
        (draw(3, 1), draw(1, 4)),
        (draw(0, 3), draw(3)),
        (draw(), draw()),
    ]
    pairs += [(draw(50, 3)[::2], draw(3)), (draw(300, 200), draw(200)), (draw(40, 300).T, 0.5)]
    for x, beta in pairs:
        results = []
        for f in (swish, composed):
            xs = [t.detach().clone().requires_grad_() if isinstance(t, nt.Tensor) else t for t in (x, beta)]
            y = f(*xs)
            (y * y).sum().backward()
            results.append([y, *[t.grad for t in xs if isinstance(t, nt.Tensor)]])
        for got, wanted in zip(*results, strict=True):
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), rtol=1e-11, atol=1e-14)


def test_derivatives_at_special_points():
    """Where branches of the formulas meet, what is smooth stays so; maxima are as those of `nt.maximum`."""
    points = [-np.inf, -1.0, 0.0, 2.0, 1e30, np.inf, np.nan]
    columns = [nt.tensor(c.ravel(), dtype=nt.float64) for c in np.meshgrid(points, points)]
    for name in ("logaddexp", "maximum", "minimum"):
        numpys = getattr(np, name)
        f = nt.pointwise(lambda x, y: numpys(x, y))  # noqa: B023
        assert np.array_equal(f(*columns).numpy(), numpys(*[c.numpy() for c in columns]), equal_nan=True)
        for first in (True, False):
            found = [slopes(op, columns, first) for op in (f, getattr(nt, name))]
            np.testing.assert_allclose(*found, rtol=1e-14)
    for name in ("fmax", "fmin"):
        numpys = getattr(np, name)
        f = nt.pointwise(lambda x, y: numpys(x, y))  # noqa: B023
        assert slopes(f, [f64(1.0), f64(1.0)], True)[:, 0].tolist() == [1, 0]
    assert gradgradcheck(nt.pointwise(lambda x, y: np.logaddexp(x, y)), (f64(0.5, 800.0, 0.0), f64(0.5, 1.0, 800.0)))
    assert gradgradcheck(nt.pointwise(lambda x, y: x**y), (f64(0.5, 2.0), f64(0.0, 0.0)))
    x, y = f64(0.0, np.inf, np.nan, 1e-200, requires_grad=False), nt.zeros(4, dtype=nt.float64)
    assert slopes(nt.pointwise(lambda x, y: x**y), [x, y], True)[0].tolist() == [0, 0, 0, 0]


def slopes(f, args, first):
    """Gradients of both arguments, or their sums' second ones by the first, where those are numbers."""
    x, y = (a.clone().requires_grad_() for a in args)
    found = nt.autograd.grad(f(x, y).sum(), (x, y), create_graph=not first)
    if first:
        return np.array([g.tolist() for g in found])
    total = found[0].sum()
    return np.array(nt.autograd.grad(total, x)[0].tolist()) if total.requires_grad else np.zeros(len(x))


def test_arguments():
    x = nt.tensor([1.0, 2.0])
    assert nt.equal(swish(beta=2.0, x=x), swish(x, 2.0)) and nt.equal(swish(x), swish(x, 1.0))
    assert swish(1.0).shape == () and swish(np.ones(2)).dtype is nt.float64
    assert swish(nt.tensor([1, 2])).dtype is nt.float32
    assert swish(x, nt.tensor(2, dtype=nt.int64)).dtype is nt.float32
    out = nt.empty(2)
    assert swish(x, out=out) is out and nt.equal(out, swish(x))
    with pytest.raises(TypeError, match="unexpected keyword argument 'gamma'"):
        swish(x, gamma=1.0)


def test_nan_and_infinity_flow():
    x = nt.tensor([math.nan, math.inf, -math.inf, 0.0], requires_grad=True)
    assert str(swish(x).tolist()) == str([math.nan, math.inf, -0.0, 0.0]).replace("-0.0", "nan") or math.isnan(
        swish(x)[0]
    )
    y = made(1.0)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [math.nan, math.inf, -math.inf, 0.0])


def test_large_angles():
    """Where the kernels' approximations do not reach, in straight code and behind a branch."""
    straight = nt.pointwise(lambda x: math.sin(x) * math.cos(x))
    x = nt.tensor([1e30, -3e25, 2.0], dtype=nt.float64, requires_grad=True)
    straight(x).sum().backward()
    np.testing.assert_allclose(straight(x).tolist(), [math.sin(v) * math.cos(v) for v in x.tolist()])
    np.testing.assert_allclose(x.grad.tolist(), [math.cos(v) ** 2 - math.sin(v) ** 2 for v in x.tolist()])
    branched = nt.pointwise(lambda x: 1.0 if math.sin(x) > 0 else 2.0)
    assert branched(x).tolist() == [1.0 if math.sin(v) > 0 else 2.0 for v in x.tolist()]


def test_third_derivative():
    x = f64(0.3, -1.2)
    cube = nt.pointwise(lambda x: math.exp(2 * x))
    y = cube(x)
    for _ in range(3):
        (y,) = nt.autograd.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(y.tolist(), [8 * math.exp(2 * v) for v in x.tolist()])


def test_constant_and_identity():
    x = f64(1.0, 2.0)
    nt.pointwise(lambda x: 3)(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]
    nt.pointwise(lambda x: x)(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_failures_inside_give_nan():
    f = nt.pointwise(lambda x: x + len(range(0, 3, int(x))))
    for n in (2, 100_000):
        assert f(nt.zeros(n)).isnan().all() and f(nt.ones(n))[-1] == 4.0


def test_second_derivatives_of_others_are_not_poisoned():
    """A slope that is zero for all values is no slope: it does not meet infinity."""
    f = nt.pointwise(lambda x, y: math.sqrt(x) + y * y)
    x, y = f64(0.0), f64(2.0)
    (by_y,) = nt.autograd.grad(f(x, y).sum(), y, create_graph=True)
    assert nt.autograd.grad(by_y.sum(), y)[0].tolist() == [2.0]


def test_gradient_of_ones_own():
    straight_through = nt.pointwise(lambda x: math.floor(x), gradient=lambda grad, x: grad)
    x = f64(1.5, -0.5)
    y = straight_through(x)
    y.backward(f64(2.0, 3.0, requires_grad=False))
    assert y.tolist() == [1.0, -1.0] and x.grad.tolist() == [2.0, 3.0]

    @nt.pointwise(gradient=lambda grad, x, y, n: (grad * 2 * x * y, grad * x * x))
    def product(x, y, n: int):
        return x * x * y

    a, b = f64(0.3, 0.4), f64(1.3, -0.4)
    assert gradcheck(product, (a, b, 2)) and gradgradcheck(product, (a, b, 2))
    outer = nt.pointwise(lambda x: straight_through(x) + x)
    with pytest.raises(TypeError, match="`straight_through`|straight_through has a gradient of its own"):
        outer(x)


def test_in_place():
    x = f64(0.5, 2.0)
    y = x * 1
    assert swish.in_place(y, 1.5) is y
    y.sum().backward()
    got, x.grad = x.grad, None
    swish(x, 1.5).sum().backward()
    assert nt.equal(got, x.grad)
    with pytest.raises(RuntimeError, match="leaf"):
        swish.in_place(x)


def test_overwritten_arguments_are_noticed():
    x = f64(0.5, 2.0)
    y = x * 1
    z = swish(y)
    y.add_(1)
    with pytest.raises(nt.autograd.VersionError, match="swish saved `x`"):
        z.sum().backward()


def test_graph_and_anomaly_mode():
    x = f64(0.5, 2.0)
    assert swish(x).grad_fn.name() == "SwishBackward0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with nt.autograd.detect_anomaly():
            swish(x).sum().backward()
    got, x.grad = x.grad, None
    swish(x).sum().backward()
    np.testing.assert_allclose(got.tolist(), x.grad.tolist())


def test_transforms():
    x = f64(0.5, 2.0, requires_grad=False)
    assert nt.equal(func.vmap(swish, in_dims=(0, None))(x, 1.5), swish(x, 1.5))
    rows = nt.tensor(np.arange(6.0).reshape(2, 3))
    assert nt.equal(func.vmap(swish)(rows, x), swish(rows, x.reshape(2, 1)))
    slopes = func.vmap(func.grad(swish))(x)
    hessian = func.hessian(lambda x: swish(x).sum())(x)
    s = 1 / (1 + np.exp(-x.numpy()))
    np.testing.assert_allclose(slopes.numpy(), s + x.numpy() * s * (1 - s))
    np.testing.assert_allclose(hessian.numpy(), np.diag(s * (1 - s) * (2 + x.numpy() * (1 - 2 * s))))


@nt.pointwise
def wave(x, y, z):
    """Exact code answers where the approximations do not."""
    return math.sin(x * y) * z + math.exp(-z * z) * x


@nt.pointwise
def blend(x, y, n: int, w):
    total = x
    for k in range(n):
        total = total * w + math.tanh(y) / (k + 1)
    return total if total > 0 else total * w


@nt.pointwise(gradient=lambda grad, x, y: (grad * y * math.exp(x * y), grad * x * math.exp(x * y)))
def product(x, y):
    return math.exp(x * y)


@nt.pointwise
def five(a, b, c, d, e):
    return a * b + math.exp(c * d) * e - a / (2.0 + e * e)


@pytest.mark.parametrize("f, count", [(swish, 2), (wave, 3), (blend, 4), (product, 2), (five, 5)], ids=lambda c: str(c))
@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_all_gradients_by_one_kernel(f, count, dtype):
    """They are those of the rules of each input, over all ways in which operands lie in memory."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: nt.tensor(rng.uniform(0.2, 1.2, shape), dtype=dtype)
    layouts = [
        [()],
        [(4,)],
        [(3, 4), (4,)],
        [(4, 3), (4, 1), (3,)],
        [(0, 3), (3,)],
        [(700, 3), (3,)],
        [(300, 40), (300, 1)],
    ]
    for shapes in layouts:
        for turned in (False, True):
            given = [draw(*shapes[k % len(shapes)]) for k in range(count)]
            given = [x.T.contiguous().T if turned and x.ndim == 2 else x for x in given]
            if f is blend:
                given[2] = 3
            some = [*given[:-1], 0.5] if count > 2 else given
            for args in (given, some):
                xs = [x.detach().requires_grad_() if isinstance(x, nt.Tensor) else x for x in args]
                tensors = [x for x in xs if isinstance(x, nt.Tensor)]
                y = f(*xs)
                seed = nt.tensor(rng.standard_normal(y.shape), dtype=dtype)
                seed = seed.T.contiguous().T if turned and y.ndim == 2 else seed
                fused = nt.autograd.grad(y, tensors, seed, retain_graph=True)
                apart = nt.autograd.grad(y, tensors, seed, create_graph=True)
                for a, b in zip(fused, apart, strict=True):
                    assert a.dtype is dtype and a.shape == b.shape
                    np.testing.assert_allclose(
                        a.numpy(),
                        b.detach().numpy(),
                        rtol=2e-4 if dtype is nt.float32 else 1e-10,
                        atol=1e-4 if dtype is nt.float32 else 1e-10,
                    )
                for x in tensors:
                    (alone,) = nt.autograd.grad(y, x, seed, retain_graph=True)
                    assert alone.shape == x.shape
    assert f.op.fused.any()


def test_all_gradients_where_approximations_do_not_reach():
    x, y = f64(1e20, 2.0, math.nan, 0.5), f64(3.0, 1e25, 1.0, 0.25)
    z = f64(1.0, 2.0, 3.0, 4.0)
    made = nt.autograd.grad(wave(x, y, z).sum(), (x, y, z))
    wanted = nt.autograd.grad(wave(x, y, z).sum(), (x, y, z), create_graph=True)
    for a, b in zip(made, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12)
    assert not made[0][:2].isnan().any() and made[0][2].isnan()


def test_gradients_of_derivatives_by_one_kernel():
    x, y = f64(0.3, -1.2), f64(0.7, 0.4)
    for f in (swish, product):
        (by_x,) = nt.autograd.grad(f(x, y).sum(), x, create_graph=True)
        made = nt.autograd.grad(by_x.sum(), (x, y), retain_graph=True)
        wanted = nt.autograd.grad(by_x.sum(), (x, y), create_graph=True)
        np.testing.assert_allclose([g.tolist() for g in made], [g.tolist() for g in wanted], rtol=1e-12)
        assert f.op.family.op(0).fused.any()


swish_in_place = swish.in_place


@njit
def in_compiled_code(x, beta):
    y = swish(x, beta) + swish(x, beta=2.0) * 1.0
    swish_in_place(y)
    return y.sum() + swish(2.0, 3.0)


def test_in_compiled_code():
    """Of Tensors the op, of numbers the function."""
    results = []
    for f in (in_compiled_code, in_compiled_code.py_func):
        x = f64(0.5, 2.0)
        y = f(x, 1.5)
        y.backward()
        results.append((y.item(), x.grad.tolist()))
    np.testing.assert_allclose(results[0][0], results[1][0])
    np.testing.assert_allclose(*[r[1] for r in results])


def test_functions_of_one_name():
    """They are told apart; equal ones share a row of the table."""
    a, b, again = made(2.0), made(5.0), made(2.0)
    x = f64(1.0, 3.0)
    assert a(x).tolist() == [2.0, 18.0] and b(x).tolist() == [5.0, 45.0] and again(x).tolist() == a(x).tolist()
    assert again.op is a.op and a.op is not b.op
    known = len(BY_ADDRESS)
    for _ in range(20):
        made(2.0)(x)
    assert len(BY_ADDRESS) == known

    @nt.pointwise
    def tanh(x):
        return x + 1

    assert tanh(x).tolist() == [2.0, 4.0] and OPS["tanh"] is not tanh.op and nt.tanh(x)[0] < 1


def test_changed_values_are_refused():
    """Kernels of one op are never of two functions."""
    factor = 2.0

    @nt.pointwise
    def f(x):
        return factor * x

    x = f64(1.0)
    assert f(x).tolist() == [2.0]
    factor = 3.0
    with pytest.raises(RuntimeError, match="has changed since its first call"):
        f(x.to(nt.float32))


def refused(f, match, *args):
    with pytest.raises(TypeError, match=match):
        nt.pointwise(f)(*args or (f64(1.0),))


def raising(x):
    if x < 0:
        raise ValueError("negative")
    return x


def test_errors():
    refused(lambda x: math.lgamma(x), "`lgamma` is not known of the numbers")
    refused(lambda x: np.sinc(x), "`sinc` is not known")
    refused(lambda x: nt.tanh(x), "`tanh` is a function of Tensors")
    refused(lambda *x: x, "plain ones")
    refused(lambda x, out: x, "parameter called out")
    refused(lambda x, mode="a": x, "must be a number")
    refused(lambda a, b, c, d, e, f, g: a, "7 parameters")
    refused(lambda: 1.0, "0 parameters")
    refused(raising, "return math.nan instead")
    refused(lambda x: (x, x), "lambda: it gives UniTuple.*, which is no number")
    refused(lambda x: None, "lambda: Numba cannot compile it|it gives none, which is no number")
    product, x = lambda x, y: x * y, f64(1.0)
    with pytest.raises(
        TypeError, match="the gradient of lambda has 2 parameters; it takes the incoming gradient and the 2 arguments"
    ):
        nt.pointwise(product, gradient=lambda grad, x: (grad, grad))(x, x)
    for gradient in (lambda grad, x, y: grad * y, lambda grad, x, y: (grad, grad, grad)):
        with pytest.raises(TypeError, match="its gradient gives .*, not 2 numbers, one for each argument"):
            nt.pointwise(product, gradient=gradient)(x, x).sum().backward()
    with pytest.raises(TypeError, match="expected a function"):
        nt.pointwise(product, gradient=3)
    with pytest.raises(TypeError, match="expected a function"):
        nt.pointwise(3)
    with pytest.raises(RuntimeError, match="size of tensor"):
        swish(f64(1.0, 2.0), f64(1.0, 2.0, 3.0))


def test_functions_made_in_threads():
    """At once, and of the same function at once."""
    x, found, shared = f64(1.0, 2.0, requires_grad=False), {}, made(77.0)

    def work(k):
        found[k] = made(100.0 + k)(x).tolist(), shared(x).tolist()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {k: ([100.0 + k, 4 * (100.0 + k)], [77.0, 308.0]) for k in range(4)}


PROGRAM = """
import math, sys, warnings
import numpy as np
import numbatensor as nt
from numba import njit
from numbatensor.core import compiler
warnings.simplefilter("error")
FACTOR = float(sys.argv[1])

@njit
def helper(x):
    return FACTOR * x

def made(power):
    @nt.pointwise
    def f(x):
        return helper(x) ** power + math.exp(x) % 3
    return f

x = nt.tensor([1.0, 2.0], requires_grad=True)
out = []
for power in (2, 3):
    y = made(power)(x)
    (g,) = nt.autograd.grad(y.sum(), x, create_graph=True)
    out += [y.tolist(), g.tolist(), nt.autograd.grad(g.sum(), x)[0].tolist()]
before = dict(compiler.counts)
print([out, before["compiled"], before["loaded"]])
"""


def run(program, *args):
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout)


def test_a_second_process_compiles_nothing():
    """Unless a value that the function uses is another."""
    run(PROGRAM, "1.5")
    first, second = run(PROGRAM, "1.5"), run(PROGRAM, "1.5")
    assert first[0] == second[0] and second[1] == 0
    other = run(PROGRAM, "1.75")
    assert other[0] != first[0]
    assert run(PROGRAM, "1.75")[0] == other[0] and run(PROGRAM, "1.5")[0] == first[0]


def test_no_fingerprint_no_cache():
    """What cannot be told apart is not kept, and said."""

    class Opaque:
        value = 2.0

    opaque = Opaque()
    f = nt.pointwise(lambda x: x * (2.0 if opaque is None else 3.0))
    with (
        pytest.warns(UserWarning, match="compiled anew in every process, since it uses `opaque`"),
        pytest.raises(TypeError),
    ):
        f(f64(1.0))


CALLER = """
import sys
import numbatensor as nt
from numba import njit
sys.path.insert(0, sys.argv[1])
import caller
x = nt.tensor([1.0, 2.0], requires_grad=True)
y = caller.outer(x)
y.backward()
print([y.item(), x.grad.tolist(), len(caller.outer.stats.cache_hits)])
"""


def test_callers_that_numba_has_cached(tmp_path):
    """They find the function of the process that they run in, also where it was edited since."""
    (tmp_path / "caller.py").write_text(
        "from numba import njit\nfrom inner import f\n@njit(cache=True)\ndef outer(x):\n    return f(x).sum()\n"
    )
    source = "import numbatensor as nt\n@nt.pointwise\ndef f(x):\n    return {} * x * x\n"
    for factor, hits in ((2.0, 0), (2.0, 1), (3.0, 1)):
        (tmp_path / "inner.py").write_text(source.format(factor) + "# " + "x" * int(factor) + "\n")
        assert run(CALLER, str(tmp_path)) == [5 * factor, [2 * factor, 4 * factor], hits]


def test_callers_that_numba_has_cached_of_what_is_no_function_of_numbers_now(tmp_path):
    """Nothing of such functions is loaded then."""
    (tmp_path / "caller.py").write_text(
        "from numba import njit\nfrom inner import f\n@njit(cache=True)\ndef outer(x):\n    return f(x).sum()\n"
    )
    (tmp_path / "inner.py").write_text("import numbatensor as nt\n@nt.pointwise\ndef f(x):\n    return x * x\n")
    run(CALLER, str(tmp_path))
    (tmp_path / "inner.py").write_text("import numbatensor as nt\nf = nt.exp\n")
    done = subprocess.run([sys.executable, "-c", CALLER, str(tmp_path)], capture_output=True, text=True)
    assert "cached uses inner.f(1), which is not defined in this process" in done.stderr


def test_compiled_code_keeps_the_function_that_it_was_compiled_with():
    """Also where another has taken the name before the line that calls it is first reached."""
    source = "import numbatensor as nt\n@nt.pointwise\ndef redefined(x):\n    return {} * x\n"
    names = {"__name__": __name__}
    exec(source.format(2.0), names)
    f = names["redefined"]

    @njit
    def outer(x, reached):
        return f(x) if reached else x + 0.0

    x = f64(1.0, 2.0)
    outer(x, False)
    exec(source.format(3.0), names)
    assert names["redefined"](x).tolist() == [3.0, 6.0] and outer(x, True).tolist() == [2.0, 4.0]


LEAVES = st.sampled_from(["x", "y", "0.5", "1.7", "2"])
UNARY = [
    "math.sin({})",
    "math.tanh({})",
    "math.exp(-abs({}))",
    "math.sqrt(1.5 + ({}) * ({}))",
    "-({})",
    "math.atan({})",
]
BINARY = ["({} + {})", "({} - {})", "({} * {})", "({} / (2.0 + math.cos({})))", "max({}, {})", "({} if x > y else {})"]


def grown(inner):
    one = st.tuples(st.sampled_from(UNARY), inner).map(lambda p: p[0].format(*[p[1]] * p[0].count("{}")))
    two = st.tuples(st.sampled_from(BINARY), inner, inner).map(lambda p: p[0].format(p[1], p[2]))
    return one | two


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.recursive(LEAVES, grown, max_leaves=8))
def test_drawn_expressions(text):
    """Values are Python's, and both gradients agree with central differences."""
    names = {"math": math}
    exec(f"def drawn(x, y):\n    return {text} + 0.0 * x", names)
    drawn, f = names["drawn"], nt.pointwise(names["drawn"])
    x, y = f64(0.31, -1.2, 0.83), f64(0.47, 0.9, -0.66)
    z = f(x, y)
    z.sum().backward()
    h = 1e-6
    for k, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        np.testing.assert_allclose(z[k].item(), drawn(a, b), rtol=1e-12, atol=1e-13)
        by_x = (drawn(a + h, b) - drawn(a - h, b)) / (2 * h)
        by_y = (drawn(a, b + h) - drawn(a, b - h)) / (2 * h)
        np.testing.assert_allclose([x.grad[k].item(), y.grad[k].item()], [by_x, by_y], rtol=1e-6, atol=1e-8)


def test_float32_kernels_compute_in_float32():
    """No arithmetic in float64 where functions have literals and integers."""
    import re

    from numbatensor.core import compiler
    from tests.test_nevers import DOUBLE

    f = nt.pointwise(lambda x, y: 2 * x + 0.1 * math.exp(x) ** 3 / (1 + y * 7) - np.maximum(x, 3))
    old, compiler.read = compiler.read, lambda path: None
    try:
        x = nt.tensor([1.0, 2.0], requires_grad=True)
        f(x, x).backward(nt.ones(2))
    finally:
        compiler.read = old
    for made in compiler.held[-6:]:
        if isinstance(made, compiler.Compiled) and made.library is not None:
            assert not re.findall(DOUBLE, made.library.get_llvm_str())


def test_nothing_is_loaded_before_it_is_used():
    program = "import numbatensor, sys; print([m for m in sys.modules if m.startswith('numbatensor.scalars')])"
    assert run(program) == []
