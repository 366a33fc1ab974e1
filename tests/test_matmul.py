"""Matrix products: values against NumPy in float64, for all strides, sizes and dtypes; the same bits on any number of threads."""

import itertools
import os
import threading

import numpy as np
import pytest

import numbatensor as nt

FLOATS, INTEGERS = ("float32", "float64"), ("uint8", "int8", "int16", "int32", "int64")
linear = nt.nn.functional.linear


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return (rng.standard_normal(shape) if dtype in FLOATS else rng.integers(0, 9, shape)).astype(dtype)


# How a matrix can lie in memory: (rows, columns) to a tensor of that shape, and the same values as an array.
def plain(shape, dtype):
    x = numbers(shape, dtype)
    return nt.tensor(x), x


def transposed(shape, dtype):
    x = numbers((*shape[:-2], shape[-1], shape[-2]), dtype)
    return nt.tensor(x).mT, x.swapaxes(-1, -2)


def stepped(shape, dtype):
    x = numbers((*shape[:-2], 2 * shape[-2], 3 * shape[-1]), dtype)
    return nt.tensor(x)[..., ::2, ::3], x[..., ::2, ::3]


def reversed(shape, dtype):
    x = numbers(shape, dtype)
    return nt.tensor(x)[..., ::-1, ::-1], x[..., ::-1, ::-1]


def wide_rows(shape, dtype):
    x = numbers((*shape[:-2], shape[-2], shape[-1] + 5), dtype)
    return nt.tensor(x)[..., 2:-3], x[..., 2:-3]


def one_row(shape, dtype):
    x = numbers((*shape[:-2], 1, shape[-1]), dtype)
    return nt.tensor(x).expand(*shape), np.broadcast_to(x, shape)


def one_column(shape, dtype):
    x = numbers((*shape[:-1], 1), dtype)
    return nt.tensor(x).expand(*shape), np.broadcast_to(x, shape)


LAYOUTS = (plain, transposed, stepped, reversed, wide_rows, one_row, one_column)


def check(got, x, y, start=0):
    """Compare with the product in float64: integers wrap, and floats err by half a rounding a term at most, of the terms' sum."""
    dtype = str(got.numpy().dtype)
    x, y, start = (np.asarray(a).astype("f8" if dtype in FLOATS else "i8") for a in (x, y, start))
    expected = x @ y + start
    assert got.shape == expected.shape and got.is_contiguous()
    if dtype in FLOATS:
        size = np.abs(x) @ np.abs(y) + np.abs(start)
        k = x.shape[-1]
        assert (np.abs(got.numpy() - expected) <= (k / 2 + 8) * np.finfo(dtype).eps * size).all()
    else:
        np.testing.assert_array_equal(got.numpy(), expected.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_strides(left, dtype):
    sizes = [(5, 7, 6), (64, 33, 40), (9, 300, 35), (1, 20, 50), (50, 20, 1), (3, 40, 70), (70, 40, 3)]
    for right, (m, k, n) in itertools.product(LAYOUTS, sizes):
        (x, a), (y, b) = left((m, k), dtype), right((k, n), dtype)
        check(x @ y, a, b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sizes_around_the_tiles(dtype):
    for m, n in itertools.product((1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 17), (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)):
        for k in (1, 2, 17):
            (x, a), (y, b) = plain((m, k), dtype), plain((k, n), dtype)
            check(x @ y, a, b)
            check(x @ nt.tensor(np.ascontiguousarray(b.T)).mT, a, b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_strides_and_many_terms(dtype):
    for left, right in [(plain, plain), (transposed, plain), (plain, transposed), (transposed, stepped)]:
        (x, a), (y, b) = left((70, 1100), dtype), right((1100, 300), dtype)
        check(x @ y, a, b)
        (x, a), (y, b) = left((1100, 60), dtype), right((60, 1100), dtype)
        check(x @ y, a, b)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap(dtype):
    for layout in (plain, transposed, stepped):
        for m, k, n in [(3, 4, 5), (20, 300, 37), (1, 9, 40), (33, 8, 1)]:
            (x, a), (y, b) = layout((m, k), dtype), layout((k, n), dtype)
            check(x @ y, a, b)
    start = numbers((5,), dtype)
    (x, a), (y, b) = plain((3, 4), dtype), plain((4, 5), dtype)
    check(nt.addmm(nt.tensor(start), x, y), a, b, start)
    check(linear(x, y.mT, nt.tensor(start)), a, b, start)


BATCHES = [
    ((3,), (3,)),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((4,), ()),
    ((), (4,)),
    ((1,), (2, 3)),
    ((2, 3), (1, 1)),
    ((2, 0), (2, 1)),
]


@pytest.mark.parametrize("layout", [plain, transposed, reversed, one_row])
def test_batches_broadcast(layout):
    for (left, right), (m, k, n) in itertools.product(BATCHES, [(4, 5, 6), (1, 30, 2), (40, 3, 1)]):
        (x, a), (y, b) = layout((*left, m, k), "float64"), layout((*right, k, n), "float64")
        check(x @ y, a, b)


def test_batches_of_expanded_and_permuted_tensors():
    a = numbers((4, 5, 3), "float32")
    x = nt.tensor(a)
    check(x.permute(1, 0, 2) @ x.permute(1, 2, 0), a.transpose(1, 0, 2), a.transpose(1, 2, 0))
    b = numbers((3, 7), "float32")
    check(x @ nt.tensor(b).expand(4, 3, 7), a, b)
    check(x[::2] @ nt.tensor(b), a[::2], b)
    check(x[:, :1].expand(4, 6, 3) @ nt.tensor(b), np.broadcast_to(a[:, :1], (4, 6, 3)), b)


def test_no_elements():
    for m, k, n in [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0)]:
        x, y, c = nt.ones(m, k), nt.ones(k, n), nt.full((n,), 2.0)
        assert (x @ y).tolist() == [[0.0] * n] * m
        assert linear(x, y.mT, c).tolist() == nt.addmm(c, x, y).tolist() == [[2.0] * n] * m
        assert (nt.ones(3, m, k) @ y).shape == (3, m, n)


def test_vectors():
    a, b, m, n = (numbers(s, "float64") for s in ((5,), (7,), (5, 7), (3, 5, 7)))
    x, y, u, v = map(nt.tensor, (a, b, m, n))
    for got, expected in [
        (x @ x, a @ a),
        (x @ u, a @ m),
        (u @ y, m @ b),
        (v @ y, n @ b),
        (x @ v, a @ n),
        (x[::2] @ x[::-2], a[::2] @ a[::-2]),
        (nt.dot(x, x), a @ a),
        (nt.mv(u, y), m @ b),
        (nt.mv(u.t(), x), m.T @ a),
        (nt.outer(x, y), np.outer(a, b)),
        (nt.mm(u, u.t()), m @ m.T),
        (nt.bmm(v, v.mT), n @ n.swapaxes(1, 2)),
        (nt.matmul(u.t(), x), m.T @ a),
    ]:
        assert got.shape == np.shape(expected)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", FLOATS)
def test_linear(dtype):
    w, c = numbers((5, 6), dtype), numbers((5,), dtype)
    v, d = nt.tensor(w), nt.tensor(c)
    for shape in [(6,), (4, 6), (64, 6), (2, 3, 6), (3, 0, 6)]:
        a = numbers(shape, dtype)
        x = nt.tensor(a)
        check(linear(x, v), a, w.T)
        check(linear(x, v, d), a, w.T, c)
        check(linear(x, v[::-1], d[::-1]), a, w[::-1].T, c[::-1])
        check(linear(x, v[:1], d[:1]), a, w[:1].T, c[:1])


def test_linear_on_a_strided_batch():
    x, w, c = numbers((4, 3, 6), "float32"), numbers((5, 6), "float32"), numbers((5,), "float32")
    check(linear(nt.tensor(x).transpose(0, 1), nt.tensor(w), nt.tensor(c)), x.transpose(1, 0, 2), w.T, c)


@pytest.mark.parametrize("beta, alpha", [(1, 1), (0, 1), (1, 0), (2, 1), (1, 3), (0.5, -2.0), (0, 2)])
def test_addmm(beta, alpha):
    a, b = numbers((4, 6), "float64"), numbers((6, 5), "float64")
    starts = [numbers(shape, "float64") for shape in [(4, 5), (5,), (1, 5), (4, 1), (1, 1), ()]]
    for c in [*starts, np.asfortranarray(starts[0])]:
        got = nt.addmm(nt.from_numpy(c), nt.tensor(a), nt.tensor(b), beta=beta, alpha=alpha)
        np.testing.assert_allclose(got.numpy(), beta * c + alpha * (a @ b), rtol=1e-12, atol=1e-12)


def test_addmm_does_not_look_at_the_input_where_beta_is_0():
    c, x = nt.full((2, 2), float("nan")), nt.ones(2, 2)
    assert nt.addmm(c, x, x, beta=0).tolist() == [[2.0, 2.0]] * 2
    assert nt.addmm(c, x, x, beta=0, alpha=2).tolist() == [[4.0, 4.0]] * 2


def test_nan_and_infinity_pass_through():
    x, y = nt.tensor([[float("nan"), 0.0], [1.0, float("inf")]]), nt.tensor([[1.0], [0.0]])
    np.testing.assert_array_equal((x @ y).numpy(), [[np.nan], [np.nan]])
    np.testing.assert_array_equal((x @ nt.ones(2, 40)).numpy()[:, 39], [np.nan, np.inf])


def test_gradients():
    x, w, c = (nt.tensor(numbers(s, "float64"), requires_grad=True) for s in ((2, 3, 4), (5, 4), (5,)))
    g = numbers((2, 3, 5), "float64")
    (linear(x, w, c) * nt.tensor(g)).sum().backward()
    a, b = x.detach().numpy(), w.detach().numpy()
    np.testing.assert_allclose(x.grad.numpy(), g @ b, rtol=1e-12)
    np.testing.assert_allclose(w.grad.numpy(), np.einsum("bno,bni->oi", g, a), rtol=1e-12)
    np.testing.assert_allclose(c.grad.numpy(), g.sum((0, 1)), rtol=1e-12)


ones = nt.ones
ERRORS = [
    (lambda: ones(2, 3) @ ones(4, 4), r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x4\)"),
    (lambda: ones(2, 3) @ ones(3, 3).double(), "same dtype"),
    (
        lambda: nt.matmul(ones(()), ones(4, 4)),
        "both arguments to matmul need to be at least 1D, but they are 0D and 2D",
    ),
    (lambda: ones(2, 2).bool() @ ones(2, 2).bool(), "not implemented for 'Bool'"),
    (lambda: ones(2, 3, 4) @ ones(3, 4, 5), None),
    (lambda: nt.mm(ones(2), ones(2, 2)), None),
    (lambda: nt.bmm(ones(2, 2), ones(2, 2, 2)), "batch1 must be a 3D tensor"),
    (lambda: nt.dot(ones(2, 2), ones(2)), "1D tensors expected, but got 2D and 1D tensors"),
    (lambda: nt.dot(ones(2), ones(3)), None),
    (lambda: nt.mv(ones(2, 3), ones(4)), None),
    (lambda: nt.addmm(ones(3), ones(2, 3), ones(4, 2)), r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x2\)"),
    (lambda: nt.addmm(ones(3), ones(2, 3), ones(3, 2)), None),
    (lambda: linear(ones(2, 3), ones(2, 4)), r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x2\)"),
    (lambda: linear(ones(2, 3), ones(2, 3), ones(3)), None),
]


def test_errors():
    for call, text in ERRORS:
        with pytest.raises(RuntimeError, match=text):
            call()


@pytest.fixture
def threads():
    before = nt.get_num_threads()
    yield
    nt.set_num_threads(before)


LARGE = [
    ((200, 120), (120, 150)),
    ((3, 300), (300, 4000)),
    ((1, 900), (900, 1100)),
    ((1100, 900), (900, 1)),
    ((70, 70, 50), (70, 50, 60)),
    ((3, 250, 60), (60, 100)),
]


@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_on_any_number_of_threads(dtype, threads):
    for (left, right), one, two in itertools.product(LARGE, (plain, transposed), (plain, transposed)):
        (x, a), (y, b) = one(left, dtype), two(right, dtype)
        made = []
        for n in (1, 2):
            nt.set_num_threads(n)
            made.append((x @ y).numpy())
        check(x @ y, a, b)
        assert made[0].tobytes() == made[1].tobytes()


def test_calls_from_four_threads_at_once(threads):
    nt.set_num_threads(2)
    (x, _), (y, _) = plain((150, 200), "float32"), transposed((200, 130), "float32")
    expected, wrong = (x @ y).numpy().tobytes(), []

    def work():
        for _ in range(20):
            if (x @ y).numpy().tobytes() != expected:
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_fork(threads):
    nt.set_num_threads(2)
    (x, _), (y, _) = plain((150, 200), "float32"), plain((200, 130), "float32")
    expected = (x @ y).numpy().tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if (x @ y).numpy().tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
