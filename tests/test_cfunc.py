"""C functions made of functions of Tensors: values, gradients, errors, memory, threads."""

import concurrent.futures
import ctypes
import gc
import subprocess
import sys

import numpy as np
import pytest
from numba import njit, objmode, prange
from numba.core.errors import TypingError
from scipy.integrate import nquad, quad
from scipy.optimize import minimize, rosen, rosen_der

import numbatensor as nt
from numbatensor.memory import memory_stats


@njit
def valley(x):
    """Rosenbrock's."""
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


@njit
def wave(x):
    """exp(-p t) at (t, p)."""
    return nt.exp(-x[1] * x[0])


@njit
def square(x):
    return (x.reshape(2, 2) ** 2).sum()


@njit
def refuses(k):
    if k < 0:
        raise ValueError("a negative number")
    return nt.full((1,), k).sum()


@pytest.fixture(scope="module")
def f():
    return nt.cfunc(valley, "float64(float64[:])", grad=True)


@pytest.fixture(scope="module")
def g():
    return nt.cfunc(square, "float64(float64[:])", grad=True)


X = np.array([1.2, 0.7, 0.3])
doubles = lambda *numbers: (ctypes.c_double * len(numbers))(*numbers)


def test_called_by_ctypes(f):
    x, out = doubles(*X), doubles(0, 0, 0)
    value = f.ctypes(3, x)
    assert value == pytest.approx(rosen(X), rel=1e-14)
    assert f.gradient.ctypes(3, x, out) == value
    assert np.allclose(out, rosen_der(X), rtol=1e-14)
    assert [f.derivative(k).ctypes(3, x) for k in range(3)] == list(out)
    assert list(x) == list(X)
    at_address = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, ctypes.POINTER(ctypes.c_double))(f.address)
    assert at_address(3, x) == value


def test_called_by_python(f):
    for x in (X, list(X), nt.tensor(X), nt.tensor(X).requires_grad_(), np.repeat(X, 2)[::2]):
        assert f(x) == pytest.approx(rosen(X), rel=1e-14)
        value, gradient = f.value_and_gradient(x)
        assert value == f(x) and np.array_equal(gradient, f.gradient(x)) and gradient.shape == (3,)
    assert repr(f) == "<C function double valley(int, double *)>"
    assert f.gradient.prototype == "double valley(int, double *, double *)"


def test_optimised_by_scipy(f):
    start = np.zeros(5)
    found = minimize(f, start, jac=f.gradient, method="BFGS")
    assert np.allclose(found.x, 1.0, atol=1e-4)
    again = minimize(f.value_and_gradient, start, jac=True, method="BFGS")
    assert np.array_equal(found.x, again.x) and found.nit == again.nit


def test_integrated_by_scipy():
    f = nt.cfunc(wave, "float64(float64[:])", grad=True)
    value, _ = quad(f.low_level, 0, 2, args=(0.7,))
    slope, _ = quad(f.derivative(1).low_level, 0, 2, args=(0.7,))
    e = np.exp(-1.4)
    assert value == pytest.approx((1 - e) / 0.7, rel=1e-12)
    assert slope == pytest.approx(2 * e / 0.7 - (1 - e) / 0.49, rel=1e-12)
    bell = nt.cfunc(lambda t: nt.exp(-t * t), "float64(float64)", grad=True)
    assert quad(bell.low_level, -9, 9)[0] == pytest.approx(np.sqrt(np.pi), rel=1e-12)
    assert quad(bell.derivative(0).low_level, 0, 2)[0] == pytest.approx(np.exp(-4) - 1, rel=1e-12)
    assert nquad(f.low_level, [[0, 1], [0, 1]])[0] == pytest.approx(0.7965995992970531, rel=1e-9)


def test_arguments_of_all_kinds():
    def mixed(a, w, s, k):
        y = (w @ a).sum() * s
        for _ in range(k):
            y = y * y
        return y

    f = nt.cfunc(mixed, "float64(float64[:], float64[:, :], float64, int64)", grad=True)
    assert f.prototype == "double mixed(int, double *, int, int, double *, double, int64_t)"
    a, w = np.array([0.5, 2.0]), np.array([[1.0, -1.0], [2.0, 0.25], [0.0, 1.0]])
    value, (da, dw, ds) = f.value_and_gradient(a, w, 0.5, 1)
    total = (w @ a).sum()
    assert value == f(a, w, 0.5, 1) == pytest.approx((total * 0.5) ** 2)
    outside = 2 * total * 0.25
    assert np.allclose(da, outside * w.sum(0)) and np.allclose(dw, outside * np.tile(a, (3, 1)))
    assert ds == pytest.approx(2 * total**2 * 0.5)
    assert [f.derivative(k)(a, w, 0.5, 1) for k in (1, 2, 7, 8)] == pytest.approx([da[1], dw[0, 0], dw[2, 1], ds])
    assert f.value_and_gradient(np.zeros(0), np.zeros((3, 0)), 0.5, 1)[0] == 0.0


def test_float32():
    f = nt.cfunc(lambda x: (x * x).sum(), "float32(float32[:])", grad=True)
    value, gradient = f.value_and_gradient([1.0, 2.0])
    assert value == 5.0 and gradient.dtype == np.float32 and gradient.tolist() == [2.0, 4.0]
    assert f.prototype == "float <lambda>(int, float *)"


def test_results_of_all_kinds():
    numbers = [nt.cfunc(h, "float64(float64[:])") for h in (lambda x: x.sum().item(), lambda x: len(x), lambda x: True)]
    assert [h([0.5, 1.0]) for h in numbers] == [1.5, 2.0, 1.0]
    tensors = [
        lambda x: x.argmax(),
        lambda x: x.reshape(1, 1, 2)[:, :, 1],
        lambda x: x.float().sum(),
        lambda x: (x > 0).any(),
    ]
    made = [nt.cfunc(h, "float64(float64[:])", grad=True) for h in tensors]
    assert [h([0.5, 1.0]) for h in made] == [1.0, 1.0, 1.5, 1.0]
    assert [h.gradient([0.5, 1.0]).tolist() for h in made] == [[0, 0], [0, 1], [1, 1], [0, 0]]


def test_what_the_caller_does_not_record_is_recorded_here(f):
    for mode in (nt.no_grad, nt.inference_mode):
        with mode():
            assert np.allclose(f.gradient(X), rosen_der(X)) and f(X) == pytest.approx(rosen(X))
            assert not nt.is_grad_enabled()


def test_a_function_may_differentiate_within():
    @njit
    def descent(x):
        """The least value of (z - x)^2 + z^2 after some steps."""
        z = nt.zeros((1,), dtype=x.dtype).requires_grad_()
        for _ in range(50):
            (((z - x.detach()) ** 2) + z * z).sum().backward()
            slope = z.grad
            if slope is not None:
                with nt.no_grad():
                    z -= 0.2 * slope
                slope.zero_()
        return ((z.detach() - x) ** 2).sum()

    f = nt.cfunc(descent, "float64(float64[:])", grad=True)
    assert f([3.0]) == pytest.approx(2.25) and f.gradient([3.0]) == pytest.approx(3.0)


def test_memory_of_the_caller_is_only_read():
    """The function gets a copy: what it writes is its own, and what it keeps may outlive the memory."""
    kept = []

    @njit
    def keeps(x):
        x *= 2.0
        with objmode():
            kept.append(x)
        return x.sum()

    f = nt.cfunc(keeps, "float64(float64[:])")
    x = np.ones(100_000)
    assert f(x) == 200_000.0 and x.sum() == 100_000.0
    x[:] = -1.0
    del x
    assert kept.pop().sum().item() == 200_000.0


def test_errors(g):
    """NaN for C, and the first error for `check`; Python raises at once."""
    good, odd, out = doubles(1, 2, 3, 4), doubles(1, 2, 3), doubles(5, 5, 5)
    assert g.ctypes(4, good) == 30.0
    g.check()
    shape = r"shape '\[2, 2\]' is invalid for input of size 3"
    for call in (g.ctypes, g.derivative(0).ctypes, lambda n, x: g.gradient.ctypes(n, x, out)):
        assert np.isnan(call(3, odd))
        with pytest.raises(RuntimeError, match=shape):
            g.check()
        g.check()
    assert list(out) == [5, 5, 5]
    assert np.isnan(g.ctypes(3, odd)) and np.isnan(g.ctypes(-1, odd))
    with pytest.raises(RuntimeError, match=shape):
        g.gradient.check()
    for call in (g, g.gradient, g.value_and_gradient, g.derivative(0)):
        with pytest.raises(RuntimeError, match=shape):
            call([1.0, 2.0, 3.0])
    assert np.isnan(g.ctypes(-1, good))
    with pytest.raises(RuntimeError, match="negative dimension -1"):
        g.check()
    with pytest.raises(IndexError, match=r"derivative\(4\): the function's arguments have 4 numbers in all"):
        g.derivative(4)([1.0, 2.0, 3.0, 4.0])
    many = nt.cfunc(lambda x: x * 2.0, "float64(float64[:])", grad=True)
    with pytest.raises(RuntimeError, match="a Tensor with 2 elements cannot be converted to Scalar"):
        many.gradient([1.0, 2.0])
    assert g([1.0, 2.0, 3.0, 4.0]) == 30.0


def test_errors_of_the_user():
    f = nt.cfunc(refuses, "float64(int64)")
    assert f(3) == 3.0 and np.isnan(f.ctypes(-1))
    with pytest.raises(ValueError, match="a negative number") as caught:
        f.check()
    assert [frame.name for frame in caught.traceback][-1] == "refuses"
    with pytest.raises(ValueError, match="a negative number"):
        f(-2)


def test_a_stale_value_is_an_error():
    def stale(x):
        y = x * 1.0
        z = (y * y).sum()
        y.add_(1.0)
        return z

    f = nt.cfunc(stale, "float64(float64[:])", grad=True)
    assert f([1.0, 2.0]) == 5.0
    with pytest.raises(nt.autograd.VersionError, match="add_"):
        f.gradient([1.0, 2.0])


def test_refusals():
    plus = lambda x: (x + 1.0).sum()
    for signature, text in (
        ("int64(float64[:])", "gives a float64 or float32, not int64"),
        ("float64(complex128)", "arguments of a C function are floats, arrays"),
        ("float64(int64[:])", "arguments of a C function are floats, arrays"),
        ("float64(float64[::1, :])", "arrays of float64 or float32 row by row"),
    ):
        with pytest.raises(TypeError, match=text):
            nt.cfunc(plus, signature)
    with pytest.raises(TypeError, match="a gradient of float64 needs arguments of it"):
        nt.cfunc(plus, "float64(float32[:])", grad=True)
    with pytest.raises(TypeError, match="a gradient of float64 needs arguments of it"):
        nt.cfunc(lambda k: nt.ones(1).sum(), "float64(int64)", grad=True)
    with pytest.raises(TypeError, match="which has no gradient"):
        nt.cfunc(lambda x: x.sum().item(), "float64(float64[:])", grad=True)
    with pytest.raises(TypeError, match="must give a Tensor of one element or a number, not"):
        nt.cfunc(lambda x: (x, x), "float64(float64[:])")
    with pytest.raises(TypingError, match="nothing_like_that"):
        nt.cfunc(lambda x: x.nothing_like_that(), "float64(float64[:])")
    f = nt.cfunc(plus, "float64(float64[:])")
    assert not hasattr(f, "gradient")
    with pytest.raises(TypeError, match="takes 1 arguments but 2 were given"):
        f(X, X)
    with pytest.raises(ValueError, match=r"takes Tensor\(float64, 1-D\) here, not an array of shape \(1, 3\)"):
        f(X[None])
    with pytest.raises(TypeError, match="made of a function of Tensors, not of 3"):
        nt.cfunc(3, "float64(float64[:])")
    h = nt.cfunc(lambda x, k: (x * k).sum(), "float64(float64[:], int32)")
    assert h(X, np.int64(2)) == 2 * X.sum()
    with pytest.raises(OverflowError, match="takes an int32 here, into which 4294967296 does not fit"):
        h(X, 1 << 32)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        h(X, 2.5)


def live():
    stats = memory_stats()
    return {name: stats[name] for name in ("tensors", "storages", "nodes", "bytes") if name in stats}


def test_nothing_leaks(f, g):
    @njit
    def often(call, x, n):
        total = 0.0
        for _ in range(n):
            total += call(len(x), x.ctypes)
        return total

    calls = f.ctypes, f.derivative(1).ctypes
    x, out = doubles(*X), doubles(0, 0, 0)
    for call in calls:
        call(3, x)
    before = live()
    for call in calls:
        assert often(call, X, 100_000) == pytest.approx(1e5 * call(3, x))
    for _ in range(10_000):
        f.gradient.ctypes(3, x, out)
    assert live() == before
    flat = nt.cfunc(lambda x: x.reshape(2, 2).sum(), "float64(float64[:])", grad=True)
    flat.gradient.ctypes(3, x, out)
    before = live()
    for _ in range(1000):
        flat.gradient.ctypes(3, x, out)
    with pytest.raises(RuntimeError):
        flat.check()
    assert live() == before


def test_it_lives_as_long_as_it_is_used():
    call = nt.cfunc(wave, "float64(float64[:])").ctypes
    low_level = nt.cfunc(wave, "float64(float64[:])").low_level
    gc.collect()
    assert call(2, doubles(1.0, 2.0)) == pytest.approx(np.exp(-2.0))
    assert quad(low_level, 0, 1, args=(1.0,))[0] == pytest.approx(1 - np.exp(-1))


def test_threads_of_python(f, g):
    f(X), f.gradient(X)

    def work(k):
        x, out = doubles(*(X + k)), doubles(0, 0, 0)
        for _ in range(2000):
            f.gradient.ctypes(3, x, out)
            assert np.isnan(g.ctypes(3, x))
        return list(out)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for k, found in enumerate(pool.map(work, range(4))):
            assert np.allclose(found, rosen_der(X + k))
    with pytest.raises(RuntimeError, match="is invalid for input of size 3"):
        g.check()


def test_threads_of_c(f, g):
    """Threads that Python has not made, and does not know."""
    value, slope, fails = f.ctypes, f.derivative(0).ctypes, g.ctypes

    @njit(parallel=True)
    def everywhere(points, out):
        for k in prange(len(points)):
            x = points[k].copy()
            out[k, 0], out[k, 1], out[k, 2] = value(3, x.ctypes), slope(3, x.ctypes), fails(3, x.ctypes)

    points = np.random.default_rng(0).normal(size=(500, 3))
    out = np.zeros((500, 3))
    everywhere(points, out)
    assert np.allclose(out[:, 0], [rosen(p) for p in points])
    assert np.allclose(out[:, 1], [rosen_der(p)[0] for p in points])
    assert np.isnan(out[:, 2]).all()
    with pytest.raises(RuntimeError, match="is invalid for input of size 3"):
        g.check()


PTHREAD = """
import ctypes
import numbatensor as nt

def loop(n):
    x = nt.full((3,), 0.5, dtype=nt.float64).requires_grad_()
    for _ in range(n):
        (x * x).sum().backward()
    return x.reshape(2, 2).sum()

f = nt.cfunc(loop, "float64(int64)")
c, thread = ctypes.CDLL(None), ctypes.c_ulong()
for _ in range(50):
    assert c.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(f.address), ctypes.c_void_p(20)) == 0
    c.pthread_join(thread, None)
try:
    f.check()
except RuntimeError as error:
    print(error, nt.memory_stats()["tensors"])
"""


def test_a_thread_that_only_c_knows():
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", PTHREAD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "shape '[2, 2]' is invalid for input of size 3 0\n"


def test_import_does_not_load_it():
    code = "import sys, numbatensor; print([m for m in sys.modules if 'c_functions' in m or 'nopython.ops' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_compiled_code_calls_it(f):
    call = f.ctypes

    @njit
    def twice(x):
        return 2.0 * call(len(x), x.ctypes)

    assert twice(X) == pytest.approx(2 * rosen(X))
