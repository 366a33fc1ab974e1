"""Operations along a dimension against NumPy and SciPy: shapes, strides, dtypes, ties, NaN, infinities, emptiness."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import special

import numbatensor as nt

SHAPES = [(7,), (4, 1, 6), (5, 40, 3), (64, 10), (3, 2100), (130, 70), (2, 3000, 17)]
EMPTY = [((0,), 0), ((0, 3), 1), ((3, 0, 2), 0), ((3, 0, 20), 2)]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
FLOATS = ["float32", "float64"]


def numbers(shape, dtype="float64", seed=1):
    """Random numbers: floats around 0, integers with many ties."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.standard_normal(shape) * 3).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


def laid_out(x):
    """The elements of an array as tensors of several strides."""
    yield nt.tensor(x)
    if x.ndim:
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        part = wide[tuple(slice(None, None, 2) for _ in x.shape)]
        part[...] = x
        yield nt.from_numpy(part)
        yield nt.from_numpy(np.flip(np.flip(x).copy()))
        yield nt.from_numpy(np.asfortranarray(x))
    if x.ndim > 1:
        yield nt.from_numpy(np.flip(np.flip(x, 0).copy(), 0))
        wider = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
        wider[..., : x.shape[-1]] = x
        yield nt.from_numpy(wider[..., : x.shape[-1]])


def close(got, expected, dtype, scale=1.0):
    assert got.dtype.name == dtype and tuple(got.shape) == expected.shape
    tolerance = (2e-6 if dtype == "float32" else 1e-14) * scale
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=4 * tolerance, atol=tolerance, equal_nan=True)


# softmax and its family


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(shape):
    for dim, dtype in itertools.product(range(len(shape)), FLOATS):
        x = numbers(shape, dtype)
        y = x.astype("f8")
        for t in laid_out(x):
            close(nt.softmax(t, dim), special.softmax(y, dim), dtype)
            close(nt.log_softmax(t, dim - len(shape)), special.log_softmax(y, dim), dtype, 10)
            close(nt.logsumexp(t, dim), special.logsumexp(y, dim), dtype, 10)
        close(nt.logsumexp(nt.tensor(x), dim, keepdim=True), special.logsumexp(y, dim, keepdims=True), dtype, 10)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_gradients(shape):
    for dim, dtype in itertools.product(range(len(shape)), FLOATS):
        x, g = numbers(shape, dtype), numbers(shape, dtype, 2)
        y, w = x.astype("f8"), g.astype("f8")
        p = special.softmax(y, dim)
        expected = {
            nt.softmax: (w - (w * p).sum(dim, keepdims=True)) * p,
            nt.log_softmax: w - p * w.sum(dim, keepdims=True),
        }
        scale = 1 + np.sqrt(shape[dim])
        for f, gradient in expected.items():
            for weight in laid_out(g):
                t = nt.tensor(x, requires_grad=True)
                f(t, dim).backward(weight)
                close(t.grad, gradient, dtype, 10 * scale)


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("dim", [0, 1])
def test_softmax_of_infinities(n, dim):
    inf, nan = np.inf, np.nan
    x = np.zeros((6, n), "f4")
    x[0, 1], x[1, :], x[2, 2], x[3, 0], x[4, 0] = inf, -inf, nan, -inf, 1e30
    x[5, 0], x[5, 1] = inf, nan
    rest = np.arange(n)
    soft = np.full((6, n), nan)
    soft[3] = np.where(rest == 0, 0, 1 / (n - 1))
    soft[4] = rest == 0
    log = np.full((6, n), nan)
    log[3] = np.where(rest == 0, -inf, -np.log(n - 1))
    log[4] = np.where(rest == 0, 0, -1e30)
    total = np.array([inf, -inf, nan, np.log(n - 1), 1e30, nan])
    t = nt.tensor(np.ascontiguousarray(x if dim else x.T))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = nt.softmax(t, dim), nt.log_softmax(t, dim), nt.logsumexp(t, dim)
    for out, expected in zip(got, (soft, log, total), strict=True):
        out = out.numpy()
        np.testing.assert_allclose(out if dim or out.ndim == 1 else out.T, expected, rtol=1e-6)


def test_softmax_of_far_rows():
    x = numbers((50, 30), "float32") + np.linspace(-1e4, 1e4, 50, dtype="f4")[:, None]
    close(nt.softmax(nt.tensor(x), 1), special.softmax(x.astype("f8"), 1), "float32")
    close(nt.log_softmax(nt.tensor(x), 1), special.log_softmax(x.astype("f8"), 1), "float32", 10)


@pytest.mark.parametrize("shape, dim", [*EMPTY, ((3, 0), 1), ((0, 2), 0)])
def test_nothing_to_do(shape, dim):
    t = nt.tensor(np.zeros(shape, "f4"))
    for f in (nt.softmax, nt.log_softmax, nt.cumsum, nt.cumprod, nt.argsort):
        assert tuple(f(t, dim).shape) == shape
    values, indices = nt.sort(t, dim)
    assert tuple(values.shape) == tuple(indices.shape) == shape


def test_no_dimensions():
    t = nt.tensor(2.0)
    assert nt.softmax(t, 0).item() == 1.0 and nt.log_softmax(t, -1).item() == 0.0
    assert nt.argmax(t).item() == 0 and nt.argsort(t).item() == 0 and nt.sort(t).values.item() == 2.0
    assert nt.max(t, 0).indices.item() == 0 and nt.argmax(t).shape == ()


# layer_norm


def normalised(x, dims, weight, bias, eps):
    y = (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)
    return y, y * (1 if weight is None else weight) + (0 if bias is None else bias)


@pytest.mark.parametrize(
    "shape, size", [((3, 5), (5,)), ((2, 3, 4), (3, 4)), ((64, 10), (10,)), ((40, 1000), (1000,)), ((5, 7, 33), (33,))]
)
def test_layer_norm(shape, size):
    for dtype, scaled, moved in itertools.product(FLOATS, (True, False), (True, False)):
        x, g = numbers(shape, dtype) + 5, numbers(shape, dtype, 2)
        weight = numbers(size, dtype, 3) if scaled else None
        bias = numbers(size, dtype, 4) if moved else None
        y, w = x.astype("f8"), g.astype("f8")
        dims = tuple(range(len(shape) - len(size), len(shape)))
        unit, expected = normalised(y, dims, weight, bias, 1e-5)
        tensors = [None if v is None else nt.tensor(v, requires_grad=True) for v in (weight, bias)]
        for t in laid_out(x):
            close(nt.nn.functional.layer_norm(t, size, *tensors), expected, dtype, 20)
        t = nt.tensor(x, requires_grad=True)
        nt.nn.functional.layer_norm(t, size, *tensors).backward(nt.tensor(g))
        outer = tuple(range(len(shape) - len(size)))
        if scaled:
            close(tensors[0].grad, (w * unit).sum(outer), dtype, 200)
        if moved:
            close(tensors[1].grad, w.sum(outer), dtype, 200)
        h = w if weight is None else w * weight
        scale = 1 / np.sqrt(y.var(dims, keepdims=True) + 1e-5)
        gradient = scale * (h - h.mean(dims, keepdims=True) - unit * (h * unit).mean(dims, keepdims=True))
        close(t.grad, gradient, dtype, 50)


def test_layer_norm_far_from_zero():
    x = (np.random.default_rng(5).standard_normal((8, 4000)) + 1000).astype("f4")
    got = nt.nn.functional.layer_norm(nt.tensor(x), (4000,)).numpy()
    np.testing.assert_allclose(got, normalised(x.astype("f8"), 1, None, None, 1e-5)[1], atol=3e-4)


# scans


@pytest.mark.parametrize("shape", SHAPES)
def test_scans(shape):
    for dim, dtype in itertools.product(range(len(shape)), [*FLOATS, "int32", "bool"]):
        x = numbers(shape, dtype)
        wide = "f8" if dtype.startswith("float") else "i8"
        out = dtype if wide == "f8" else "int64"
        for t in laid_out(x):
            close(nt.cumsum(t, dim), np.cumsum(x, dim, wide), out, 500 if wide == "f8" else 0)
        factors = x if wide == "i8" else (1 + numbers(shape, dtype) / 1000).astype(dtype)
        got = nt.cumprod(nt.tensor(factors), dim)
        close(got, np.cumprod(factors, dim, wide), out, 2000 if wide == "f8" else 0)


def test_scans_of_integers_are_int64():
    for dtype in INTEGERS:
        x = numbers((5, 30), dtype)
        for dim in (0, 1):
            close(nt.cumsum(nt.tensor(x), dim), np.cumsum(x, dim, "i8"), "int64", 0)


def test_scans_pass_on_nan():
    x = np.array([1, np.inf, -np.inf, 2, np.nan, 3])
    with np.errstate(all="ignore"):
        sums, products = nt.cumsum(nt.tensor(x), 0), nt.cumprod(nt.tensor(x), 0)
    np.testing.assert_array_equal(sums.numpy(), [1, np.inf, *[np.nan] * 4])
    np.testing.assert_array_equal(products.numpy(), [1, np.inf, -np.inf, -np.inf, np.nan, np.nan])


# largest and smallest


@pytest.mark.parametrize("shape", SHAPES)
def test_extrema(shape):
    for dim, dtype in itertools.product(range(len(shape)), [*FLOATS, "uint8", "int64"]):
        x = numbers(shape, dtype)
        for t in laid_out(x):
            for name in ("max", "min"):
                expected = getattr(np, "arg" + name)(x, dim)
                np.testing.assert_array_equal(getattr(nt, "arg" + name)(t, dim).numpy(), expected)
                values, indices = getattr(nt, name)(t, dim, keepdim=True)
                np.testing.assert_array_equal(indices.numpy(), np.expand_dims(expected, dim))
                np.testing.assert_array_equal(values.numpy(), getattr(x, name)(dim, keepdims=True))
            assert nt.argmax(t).item() == x.argmax() and nt.argmin(t).item() == x.argmin()
        assert nt.argmax(nt.tensor(x), dim).dtype is nt.int64
        assert nt.argmax(nt.tensor(x), None, True).shape == (1,) * len(shape)


@pytest.mark.parametrize("n", [3, 40, 5000])
def test_first_of_equals_and_nan_before_all(n):
    for dtype in FLOATS:
        x = np.zeros((4, n), dtype)
        x[1, [n // 2, n - 1]] = 5, 5
        x[2, [0, n // 2, n - 1]] = np.inf, np.nan, np.nan
        x[3, [1, n - 1]] = -0.0, -np.inf
        for t, dim in ((nt.tensor(x), 1), (nt.tensor(x.T.copy()), 0)):
            assert nt.argmax(t, dim).tolist() == [0, n // 2, n // 2, 0]
            assert nt.argmin(t, dim).tolist() == [0, 0, n // 2, n - 1]
        everywhere = nt.tensor(np.repeat(x, 20, 0).T.copy())
        assert nt.argmax(everywhere, 0).tolist() == np.repeat([0, n // 2, n // 2, 0], 20).tolist()
        assert nt.argmin(everywhere, 0).tolist() == np.repeat([0, 0, n // 2, n - 1], 20).tolist()


def test_extremes_of_integers():
    for dtype in INTEGERS:
        limits = np.iinfo(dtype)
        x = np.full((2, 50), limits.min, dtype)
        x[0, 20], x[1, 30] = limits.max, limits.min + 1
        assert nt.argmax(nt.tensor(x), 1).tolist() == [20, 30]
        assert nt.argmin(nt.tensor(~x), 1).tolist() == [20, 30]
        assert nt.argsort(nt.tensor(x), 1)[:, -1].tolist() == [20, 30]


def test_nothing_has_no_extremum():
    assert tuple(nt.argmax(nt.tensor(np.zeros((0, 3))), 1).shape) == (0,)
    for f in (lambda t: nt.argmax(t), lambda t: nt.argmin(t, 0), lambda t: nt.max(t, 0)):
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            f(nt.tensor(np.zeros((0, 3))))


# order


@pytest.mark.parametrize("shape", SHAPES)
def test_sort(shape):
    for dim, dtype in itertools.product(range(len(shape)), [*FLOATS, "int8", "int32", "int64"]):
        x = numbers(shape, dtype)
        order = np.argsort(x, dim, kind="stable")
        back = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
        for t in laid_out(x):
            np.testing.assert_array_equal(nt.argsort(t, dim).numpy(), order)
            np.testing.assert_array_equal(nt.argsort(t, dim, descending=True).numpy(), back)
        values, indices = nt.sort(nt.tensor(x), dim)
        np.testing.assert_array_equal(values.numpy(), np.sort(x, dim))
        np.testing.assert_array_equal(indices.numpy(), order)
        for k in {1, min(3, x.shape[dim]), x.shape[dim] // 2, x.shape[dim]}:
            for largest in (True, False):
                values, indices = nt.topk(nt.tensor(x), k, dim, largest)
                expected = np.flip(np.sort(x, dim), dim) if largest else np.sort(x, dim)
                np.testing.assert_array_equal(values.numpy(), np.take(expected, range(k), dim))
                np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), dim), values.numpy())


@pytest.mark.parametrize("n", [10, 45, 3000])
def test_sort_of_all_sizes_of_numbers(n):
    for dtype in [*FLOATS, "int64"]:
        rng = np.random.default_rng(7)
        if dtype == "int64":
            x = rng.integers(-(2**62), 2**62, (3, n)) >> rng.integers(0, 60, (3, n))
        else:
            x = (rng.standard_normal((3, n)) * 10.0 ** rng.integers(-30, 30, (3, n))).astype(dtype)
            x[:, :3] = np.inf, -np.inf, 0
            x[:, 3:6] = -0.0, np.nan, -np.nan
        np.testing.assert_array_equal(nt.argsort(nt.tensor(x), 1).numpy(), np.argsort(x, 1, kind="stable"))
        assert (
            nt.topk(nt.tensor(x), 2, 1, largest=False).indices.tolist()
            == np.argsort(x, 1, kind="stable")[:, :2].tolist()
        )


def test_descending_order_begins_with_nan():
    x = np.array([1, np.nan, -0.0, 0.0, np.inf, -np.inf, np.nan], "f4")
    got = [nt.argsort(nt.tensor(x), descending=True).tolist(), nt.topk(nt.tensor(x), 3).indices.tolist()]
    assert got == [[1, 6, 4, 0, 2, 3, 5], [1, 6, 4]]


@pytest.mark.parametrize("make", [np.arange, lambda n: np.arange(n)[::-1], lambda n: np.arange(n) % 7, np.zeros])
def test_order_of_what_is_not_random(make):
    x = np.ascontiguousarray(make(20000)).astype("f4")
    np.testing.assert_array_equal(nt.argsort(nt.tensor(x)).numpy(), np.argsort(x, kind="stable"))
    assert nt.topk(nt.tensor(x), 5).values.tolist() == np.sort(x)[::-1][:5].tolist()


def test_topk_of_too_many():
    with pytest.raises((RuntimeError, IndexError)):
        nt.topk(nt.tensor([1.0, 2.0]), 3)


# threads


def test_results_do_not_depend_on_threads():
    x = numbers((300, 700), "float32")
    calls = [
        lambda t, f=f, d=d: f(t, d)
        for f in (nt.softmax, nt.log_softmax, nt.logsumexp, nt.cumsum, nt.argmax)
        for d in (0, 1)
    ]
    calls += [lambda t: nt.nn.functional.layer_norm(t, (700,)), lambda t: nt.argsort(t, 1), lambda t: nt.argmax(t)]
    before, made = nt.get_num_threads(), {}
    try:
        for threads in (1, 2):
            nt.set_num_threads(threads)
            made[threads] = [f(nt.tensor(x)).numpy() for f in calls]
    finally:
        nt.set_num_threads(before)
    for one, two in zip(made[1], made[2], strict=True):
        np.testing.assert_array_equal(one, two)
