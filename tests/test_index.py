"""Elements by index, mask and order: values against NumPy, gradients against PyTorch, misuse, threads."""

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.nn import functional as F

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"]
rng = np.random.default_rng(0)


def some(shape, dtype="float64"):
    """Small whole numbers in a dtype: sums of them are exact."""
    return np.asarray(rng.integers(0, 2 if dtype == "bool" else 50, shape)).astype(dtype)


def laid_out(x):
    """Tensors of the same elements that lie otherwise: packed, turned, backwards, with gaps."""
    yield nt.tensor(x)
    if x.ndim and x.size:
        yield nt.from_numpy(np.ascontiguousarray(x.T).T)
        turn = (slice(None, None, -1),) * x.ndim
        yield nt.from_numpy(x[turn].copy()[turn])
        gaps = np.zeros([2 * n for n in x.shape], x.dtype)[(slice(None, None, 2),) * x.ndim]
        gaps[...] = x
        yield nt.from_numpy(gaps)


def same(ours, theirs):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape and ours.dtype.numpy == theirs.dtype
    np.testing.assert_array_equal(ours.detach().numpy(), theirs)


i, j = np.array([2, 0, -1, 2]), np.array([1, 3, 0, -4])
grid = np.array([[0, 2], [-3, 1], [1, 1]])
mask = np.arange(60).reshape(3, 4, 5) % 3 == 1
INDICES = [
    1,
    -1,
    slice(None, None, -1),
    (Ellipsis, slice(4, 0, -2)),
    (None, 1, slice(1, 3)),
    (slice(None), None, 2),
    i,
    grid,
    (i, j),
    (slice(None), j),
    (Ellipsis, i),
    (grid[:, :1], grid[0]),
    (slice(None), i, j),
    (i, slice(1, 3), j),
    (1, slice(None), i),
    (i, None, j),
    (slice(None, None, 2), grid),
    [0, 2],
    ([1, 2], [0, 1]),
    mask,
    mask[:, 0, 0],
    (slice(None), mask[0, :, 0]),
    (slice(None), mask[0]),
    np.zeros((0,), int),
    np.zeros((3, 4, 5), bool),
    np.array(1),
]


def ours(index):
    """An index with tensors in place of arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    made = tuple(nt.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)
    return made if isinstance(index, tuple) else made[0]


def test_getitem():
    for dtype in DTYPES:
        x = some((3, 4, 5), dtype)
        for index in INDICES:
            for t in laid_out(x) if dtype in ("float32", "int16") else [nt.tensor(x)]:
                same(t[ours(index)], x[index])
    same(nt.tensor(x)[nt.tensor(i.astype("i4"))], x[i])
    assert nt.tensor(5.0)[()].item() == 5.0 and nt.tensor(5.0)[None].shape == (1,)


def test_setitem():
    for dtype in DTYPES:
        x = some((3, 4, 5), dtype)
        for index in INDICES:
            y = some(x[index].shape, dtype)
            for value in (1, y, y[..., :1] if y.ndim else y):
                want = x.copy()
                want[index] = value
                for t in laid_out(x) if dtype in ("float64", "int8") else [nt.tensor(x)]:
                    before = t._version
                    t[ours(index)] = nt.tensor(value) if isinstance(value, np.ndarray) else value
                    same(t, want)
                    assert t._version == before + 1
    t = nt.arange(4)
    t[nt.tensor([3, 2, 1, 0])] = t
    assert t.tolist() == [3, 2, 1, 0]
    t[nt.tensor([0, 0, 0])] = nt.tensor([7, 8, 9])
    assert t.tolist() == [9, 2, 1, 0]


def test_one_dimension():
    for dtype in ("float32", "int64", "int16", "bool"):
        x = some((3, 4, 5), dtype)
        for t in laid_out(x):
            for dim in (0, 1, -1):
                k = nt.tensor(i % 3)
                same(nt.index_select(t, dim, k), np.take(x, i % 3, dim))
                where = rng.integers(0, x.shape[dim], (3, 4, 5)) if dim else rng.integers(0, 3, (2, 3, 4))
                part = tuple(slice(n) for n in where.shape)
                rest = x[tuple(slice(None) if d == dim % 3 else s for d, s in enumerate(part))]
                same(nt.gather(t, dim, nt.tensor(where)), np.take_along_axis(rest, where, dim))
                same(nt.take_along_dim(t, nt.tensor(where), dim), np.take_along_axis(x, where, dim)) if dim else None
                src = some((3, 4, 5), dtype)
                put = x.copy()
                np.put_along_axis(
                    put[tuple(slice(None) if d == dim % 3 else s for d, s in enumerate(part))], where, src[part], dim
                )
                same(nt.scatter(t, dim, nt.tensor(where), nt.tensor(src)), put)
                if dtype != "bool":
                    summed = x.copy()
                    at = list(np.ogrid[part])
                    at[dim] = where
                    np.add.at(summed, tuple(at), src[part])
                    same(nt.scatter_add(t, dim, nt.tensor(where), nt.tensor(src)), summed)
                    source = some([4 if d == dim % 3 else n for d, n in enumerate(x.shape)], dtype)
                    summed = x.copy()
                    np.add.at(np.moveaxis(summed, dim, 0), i % 3, np.moveaxis(source, dim, 0))
                    same(nt.index_add(t, dim, k, nt.tensor(source)), summed)
    same(nt.scatter(nt.zeros(2, 3), 1, nt.tensor([[0], [2]]), 5.0), np.array([[5, 0, 0], [0, 0, 5]], "f4"))
    same(nt.take_along_dim(nt.tensor(x), nt.tensor([59, 0])), x.reshape(-1)[[59, 0]])


def test_masks():
    x = np.where(some((4, 5)) > 25, some((4, 5)) - 25.0, -0.0)
    x[0, 0] = np.nan
    for dtype in DTYPES:
        y = np.nan_to_num(x).clip(0).astype(dtype) if dtype[0] != "f" else x.astype(dtype)
        for t in laid_out(y):
            same(nt.nonzero(t), np.argwhere(y))
            for m in (y != 0, y[0] != 0, y[:, :1] != 0):
                chosen = np.broadcast_to(m, y.shape)
                for u in laid_out(m):
                    same(nt.masked_select(t, u), y[chosen])
    rows, columns = nt.nonzero(nt.tensor(x), as_tuple=True)
    same(rows, np.nonzero(x)[0])
    same(columns, np.nonzero(x)[1])
    assert nt.nonzero(nt.zeros(0, 3)).shape == (0, 2) and nt.masked_select(nt.zeros(3), nt.zeros(3) > 0).shape == (0,)


def test_cat():
    for dtype in DTYPES:
        for dim in (0, 1, -1):
            parts = [some([n if d == dim % 3 else m for d, m in enumerate((2, 3, 4))], dtype) for n in (1, 0, 3)]
            for made in zip(*[laid_out(p) for p in parts], strict=False):
                same(nt.cat(made, dim), np.concatenate(parts, dim))
            same(nt.stack([nt.tensor(parts[2])] * 3, dim), np.stack([parts[2]] * 3, dim))
    same(nt.cat([nt.zeros(0), nt.ones(2, 2)]), np.ones((2, 2), "f4"))
    many = nt.cat([nt.tensor([1.0, 2.0])] * 100_000)
    assert many.shape == (200_000,) and many.sum().item() == 300_000.0
    x = some((300, 401), "float32")
    same(nt.cat([nt.tensor(x), nt.from_numpy(x.T.copy()).t()], 1), np.concatenate([x, x], 1))


def test_cat_promotes():
    mixed = nt.cat([nt.tensor([1, 2]), nt.tensor([0.5]), nt.tensor([True])])
    assert mixed.dtype is nt.float32 and mixed.tolist() == [1.0, 2.0, 0.5, 1.0]
    assert nt.cat([nt.tensor([1], dtype=nt.uint8), nt.tensor([-1], dtype=nt.int8)]).dtype is nt.int16


def test_order():
    for dtype in DTYPES:
        x = some((3, 4, 5), dtype)
        for t in laid_out(x):
            for dims in ((), (0,), (-1,), (0, 2), (0, 1, 2)):
                same(nt.flip(t, dims), np.flip(x, dims))
            same(nt.roll(t, 2, 1), np.roll(x, 2, 1))
            same(nt.roll(t, (-1, 7, 3), (0, 2, 0)), np.roll(x, (-1, 7, 3), (0, 2, 0)))
            same(nt.roll(t, 11), np.roll(x, 11))
            same(nt.tile(t, (2, 3)), np.tile(x, (2, 3)))
            same(t.repeat(2, 1, 3, 1), np.tile(x, (2, 1, 3, 1)))
            for k in (-9, -1, 0, 2, 9):
                same(nt.tril(t, k), np.tril(x, k))
                same(nt.triu(t, k), np.triu(x, k))
    same(nt.tile(nt.tensor(3.0), (2,)), np.full(2, 3.0, "f4"))
    same(nt.flip(nt.zeros(0, 2), (0,)), np.zeros((0, 2), "f4"))
    same(nt.tril(nt.zeros(2, 0)), np.zeros((2, 0), "f4"))
    many = some((2,) * 8)
    same(nt.tile(nt.tensor(many), (2,) * 8), np.tile(many, (2,) * 8))


def test_embedding():
    w = some((7, 4), "float32")
    for shape in ((5,), (2, 3), (), (0,)):
        k = rng.integers(0, 7, shape)
        same(F.embedding(nt.tensor(k), nt.tensor(w)), w[k])
    t = nt.tensor(w, requires_grad=True)
    F.embedding(nt.tensor([1, 1, 3]), t, padding_idx=3).sum().backward()
    assert t.grad[:, 0].tolist() == [0, 2, 0, 0, 0, 0, 0]


def gradients(library, f, arrays):
    """The value of f and the gradients of a weighted sum of it."""
    tensors = [library.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
    out = f(library, *tensors)
    weights = np.cos(np.arange(out.numel(), dtype="f8")).reshape(tuple(out.shape))
    (out * library.tensor(weights)).sum().backward()
    return [out.detach().numpy(), *[t.grad.numpy() for t in tensors if t.requires_grad]]


x3, y3 = rng.standard_normal((2, 3, 4, 5))
along = rng.integers(0, 3, (2, 4, 5))
CASES = {
    "getitem": (lambda t, x, a, b: x[a, b], [x3, i, j]),
    "getitem_middle": (lambda t, x, a: x[:, a], [x3, i]),
    "getitem_apart": (lambda t, x, a, b: x[a, :, b], [x3, i, j]),
    "getitem_mask": (lambda t, x, m: x[m], [x3, mask]),
    "index_select": (lambda t, x, a: t.index_select(x, 1, a), [x3, i % 3]),
    "index_add": (lambda t, x, y, a: t.index_add(x, 0, a, y, alpha=2), [x3, y3[:2], np.array([1, 1])]),
    "gather": (lambda t, x, a: t.gather(x, 0, a), [x3, along]),
    "take_along_dim": (lambda t, x, a: t.take_along_dim(x, a, 2), [x3, along[:1, :, :3]]),
    "scatter": (
        lambda t, x, y, a: t.scatter(x, 0, a, y),
        [x3, y3, np.arange(60).reshape(3, 20)[:, ::-1].reshape(3, 4, 5) % 3],
    ),
    "scatter_add": (lambda t, x, y, a: t.scatter_add(x, 0, a, y), [x3, y3[:2], along]),
    "masked_select": (lambda t, x, m: t.masked_select(x, m), [x3, mask]),
    "cat": (lambda t, x, y: t.cat([x, y, x], 1), [x3, y3]),
    "stack": (lambda t, x, y: t.stack([x, y], -1), [x3, y3]),
    "flip": (lambda t, x: t.flip(x, (0, 2)), [x3]),
    "roll": (lambda t, x: t.roll(x, (1, -2), (0, 1)), [x3]),
    "tile": (lambda t, x: t.tile(x, (2, 1, 2, 1)), [x3]),
    "repeat": (lambda t, x: x.repeat(2, 1, 1, 3), [x3]),
    "tril": (lambda t, x: t.tril(x, 1), [x3]),
    "triu": (lambda t, x: t.triu(x, -1), [x3]),
}


def put(t, x, y, *index):
    out = x * 1.0
    out[index] = y
    return out


CASES["setitem"] = (put, [x3, y3[:, 0, 0], np.array([2, 0, 1]), np.array([1, 1, 2]), np.array([4, 0, 0])])
CASES["setitem_rows"] = (put, [x3, y3[0], np.array([2, 0])])


@pytest.mark.peer
def test_gradients_as_pytorch():
    torch = pytest.importorskip("torch")
    for name, (f, arrays) in CASES.items():
        for a, b in zip(gradients(nt, f, arrays), gradients(torch, f, arrays), strict=True):
            np.testing.assert_allclose(a, b, 1e-12, 1e-12, err_msg=name)


def cubes(x):
    return (x * x * x).sum()


def test_second_gradients():
    for name in ("getitem", "gather", "scatter_add", "index_add", "flip", "cat", "tril"):
        f, arrays = CASES[name]
        x = nt.tensor(arrays[0], requires_grad=True)
        others = [nt.tensor(a) for a in arrays[1:]]
        (g,) = nt.autograd.grad(cubes(f(nt, x, *others)), x, create_graph=True)
        g.sum().backward()
        step = 1e-4
        slopes = []
        for d in (step, -step):
            u = nt.tensor(arrays[0] + d, requires_grad=True)
            slopes.append(nt.autograd.grad(cubes(f(nt, u, *others)), u)[0].sum().item())
        assert x.grad.sum().item() == pytest.approx((slopes[0] - slopes[1]) / (2 * step), rel=1e-6), name
        del g


@pytest.mark.peer
def test_nll_as_pytorch():
    torch = pytest.importorskip("torch")
    for dtype, rtol in (("f4", 2e-6), ("f8", 1e-13)):
        logits = rng.standard_normal((64, 10)).astype(dtype)
        target, weight = rng.integers(0, 10, 64), rng.random(10).astype(dtype)
        target[::5] = 3
        for w in (None, weight):
            for reduction in ("mean", "sum", "none"):
                for ignored in (-100, 3):
                    found = []
                    for library in (nt, torch):
                        x = library.tensor(logits, requires_grad=True)
                        options = {"ignore_index": ignored, "reduction": reduction}
                        functional = library.nn.functional
                        scale = None if w is None else library.tensor(w)
                        loss = functional.nll_loss(
                            functional.log_softmax(x, -1), library.tensor(target), scale, **options
                        )
                        (
                            loss * library.arange(loss.numel()).reshape(loss.shape)
                        ).sum().backward() if loss.ndim else loss.backward()
                        found.append((loss.detach().numpy(), x.grad.numpy()))
                    for a, b in zip(*found, strict=True):
                        np.testing.assert_allclose(a, b, rtol, rtol)


def test_nll_misuse():
    x = nt.zeros(3, 4)
    for wrong in (4, -1):
        with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
            F.nll_loss(x, nt.tensor([0, wrong, 1]))
    with pytest.raises(RuntimeError, match="Long"):
        F.nll_loss(x, nt.tensor([0, 1, 2], dtype=nt.int32))
    assert np.isnan(F.nll_loss(x, nt.tensor([-100] * 3)).item())
    assert F.nll_loss(x, nt.tensor([-100] * 3), reduction="sum").item() == 0.0


def test_out_of_bounds_changes_nothing():
    x = nt.arange(12).reshape(3, 4)
    before = x.tolist()
    far, deep = nt.tensor([0, 3]), nt.tensor([[0, 0, 0, -4]])
    for wrong in (
        lambda: x[far],
        lambda: x[:, nt.tensor([-5])],
        lambda: x.index_select(0, far),
        lambda: x.gather(0, deep),
        lambda: x.scatter_(0, deep, deep),
        lambda: x.scatter_add_(0, deep, deep),
        lambda: x.index_add_(0, far, x[:2]),
        lambda: x.__setitem__(far, 1),
        lambda: x.__setitem__((nt.tensor([0, 1]), nt.tensor([0, 9])), 1),
        lambda: F.embedding(far, x),
    ):
        for _ in range(3):
            with pytest.raises((IndexError, RuntimeError), match="out of bounds|out of range"):
                wrong()
    with pytest.raises(IndexError, match="too many indices"):
        x[0, far, far]
    with pytest.raises(IndexError):
        x[nt.tensor([0.5])]
    with pytest.raises(IndexError):
        x[nt.tensor([True, False])]
    with pytest.raises((RuntimeError, ValueError)):
        x[nt.tensor([0, 1])] = nt.tensor([1, 2, 3])
    with pytest.raises((RuntimeError, ValueError)):
        nt.cat([x, x[:, :2]], 0)
    assert x.tolist() == before


def test_threads_do_not_change_the_result():
    x, g = rng.standard_normal((300, 64)).astype("f4"), rng.standard_normal((5000, 64)).astype("f4")
    k, deep = rng.integers(0, 300, 5000), rng.integers(0, 300, (2000, 64))

    def run():
        t, rows, where = nt.tensor(x, requires_grad=True), nt.tensor(k), nt.tensor(deep)
        out = [t[rows], nt.gather(t, 0, where), nt.scatter_add(t, 0, where, nt.tensor(g[:2000])), nt.tril(t), t.flip(1)]
        out.append(nt.index_add(t, 0, rows, nt.tensor(g)))
        (t[rows] * nt.tensor(g)).sum().backward()
        (nt.gather(t, 0, where) * nt.tensor(g[:2000])).sum().backward()
        return [o.detach().numpy().copy() for o in out] + [t.grad.numpy().copy()]

    before = nt.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            nt.set_num_threads(threads)
            found.append(run())
    finally:
        nt.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found[0][0], x[k])


def test_index_put():
    x = nt.zeros(2, 3, requires_grad=True)
    y = x * 1.0
    v = nt.tensor([1.0, 2.0, 4.0], requires_grad=True)
    rows, columns = nt.tensor([0, 1, 0]), nt.tensor([2, 0, 2])
    assert y.index_put_((rows, columns), v, accumulate=True) is y and y._version == 1
    assert y.tolist() == [[0.0, 0.0, 5.0], [2.0, 0.0, 0.0]]
    y.sum().backward()
    assert v.grad.tolist() == [1.0, 1.0, 1.0] and x.grad.tolist() == [[1.0] * 3] * 2
