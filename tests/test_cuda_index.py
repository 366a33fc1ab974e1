"""Products, indexing, sorting, random numbers and optimisers on a device, against the CPU: and that none takes a detour."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from numba import types

import numbatensor as nt
from kernels_cuda import sort
from numbatensor.core.device_detours import detours
from numbatensor.cuda.emulator import launch
from numbatensor.ops.indexing import masked_scatter
from tests.device import ORDERS, open_device


@pytest.fixture(autouse=True)
def emulated():
    open_device()
    before = detours.copy()
    yield
    assert (detours == before).all()


@pytest.fixture(params=ORDERS)
def order(request):
    open_device(order=request.param)
    yield request.param
    open_device()


def whole(rng, *shape, dtype="float32", most=4):
    """An array of small integers: what is made of them is exact."""
    return rng.integers(-most, most, shape).astype(dtype)


def agree(function, *arrays):
    """What a function makes on the device, of what is there, is what it makes on the CPU."""
    here = [nt.tensor(a) if isinstance(a, np.ndarray) else a for a in arrays]
    far = [t.to("cuda") if isinstance(t, nt.Tensor) else t for t in here]
    expected, found = function(*here), function(*far)
    assert found.device == "cuda:0" and found.dtype is expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found.cpu().numpy(), expected.numpy())


SIZES = [(1, 1, 1), (0, 2, 3), (2, 3, 0), (31, 33, 17), (65, 4, 9)]


@pytest.mark.parametrize("m, n, k", SIZES)
def test_products(m, n, k, order):
    rng = np.random.default_rng(m)
    if order == "forward":
        agree(nt.matmul, whole(rng, m, k), whole(rng, k, n))
    else:
        agree(lambda x, y: nt.matmul(x.T, y.T), whole(rng, k, m), whole(rng, n, k))


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "int16", "int8", "uint8"])
def test_products_of_dtypes(dtype):
    rng = np.random.default_rng(0)
    most = 4 if dtype.startswith("float") else 120
    x, y = whole(rng, 9, 8, dtype=dtype, most=most), whole(rng, 8, 24, dtype=dtype, most=most)
    agree(lambda s, x, y: nt.addmm(s, x, y, beta=3, alpha=-2), whole(rng, 9, 24, dtype=dtype), x, y)


def test_what_is_added_to_products():
    rng = np.random.default_rng(0)
    x, y = whole(rng, 2, 3), whole(rng, 3, 4)
    agree(nt.addmm, whole(rng, 4), x, y)
    agree(lambda s, x, y: nt.addmm(s, x, y, beta=0, alpha=2), np.full((2, 1), np.nan, np.float32), x, y)


def test_products_of_strides():
    """Every second element, turned around, not aligned: they are read one by one."""
    rng = np.random.default_rng(0)
    x, y = whole(rng, 8, 18), whole(rng, 18, 12)
    agree(lambda x, y: nt.matmul(x[::2, ::2], y[::2]), x, y)
    agree(lambda x, y: nt.matmul(x[1:, 1:], y[1:, 1:]), x, y)
    agree(lambda x, y: nt.matmul(x.T[::2].T, y[:9, :1].expand(9, 5)), x, y)


def test_products_in_batches():
    rng = np.random.default_rng(0)
    agree(nt.matmul, whole(rng, 3, 2, 5, 4), whole(rng, 2, 4, 6))
    agree(nt.matmul, whole(rng, 3, 1, 5, 4), whole(rng, 1, 2, 4, 6))
    agree(lambda x, y: nt.matmul(x.permute(2, 1, 0, 3), y), whole(rng, 5, 2, 3, 4), whole(rng, 2, 1, 2, 4, 3))
    agree(nt.nn.functional.linear, whole(rng, 2, 3, 4), whole(rng, 5, 4), whole(rng, 5))


def test_large_tiles():
    rng = np.random.default_rng(0)
    agree(nt.matmul, whole(rng, 130, 9), whole(rng, 9, 260))


@pytest.mark.parametrize("n", [0, 1, 31, 33, 65])
def test_picking_and_adding_rows(n, order):
    """Repeated and negative indices; what is added at one place is added in order: the sums are the CPU's to the last bit."""
    rng = np.random.default_rng(n)
    index = rng.integers(-7, 7, n)
    x, rows = rng.standard_normal((7, 3)).astype("f4"), rng.standard_normal((n, 3)).astype("f4")
    agree(lambda x, i: x[i], x, index)
    agree(lambda x, i, y: x.index_add(0, i, y), x, index % 7, rows)
    agree(lambda x, i, y: x.clone().index_put_((i,), y), x, index, rows)
    agree(lambda x, i, y: x.clone().index_put_((i,), y, accumulate=True), x, index, rows)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"])
def test_indexing_of_dtypes(dtype):
    rng = np.random.default_rng(0)
    x, y, index = (
        whole(rng, 6, 5, dtype=dtype, most=100),
        whole(rng, 4, 5, dtype=dtype, most=100),
        np.array([1, -1, 1, 3]),
    )
    agree(lambda x, i: x[i], x, index)
    agree(lambda x, i: x[:, i], x, index)
    agree(lambda x, i, y: x.clone().index_put_((i,), y, accumulate=True), x, index, y)
    agree(lambda x, i: x.gather(1, i), x, np.array([[0, 4, 2]]))
    agree(lambda x, i, y: x.scatter(0, i, y), x, np.array([[2, 1], [2, 0]]), y)
    agree(lambda x, i, y: x.scatter_add(0, i, y), x, np.array([[2, 1], [2, 0]]), y)
    agree(lambda x: x.nonzero(), x)
    agree(lambda x, m: x[m], x, x > 1)
    agree(masked_scatter, x, np.arange(30).reshape(6, 5) % 3 == 0, np.concatenate([y, y]))


def test_indexing_of_strides():
    """Several indices, dimensions before, between and after them, views that are turned, more dimensions than a kernel walks."""
    rng = np.random.default_rng(0)
    x, i, j = whole(rng, 4, 3, 5, 2), np.array([[0, -1], [2, 2]]), np.array([1, -2])
    agree(lambda x, i, j: x[:, i, j], x, i, j)
    agree(lambda x, i, j: x[i, :, j], x, i, j)
    agree(lambda x, i: x.permute(3, 2, 1, 0)[..., i], x, i)
    agree(lambda x, i: x[..., i, :].transpose(0, 1), x, i)
    agree(lambda x, i: x.T[::2, i], whole(rng, 6, 8), np.array([0, 3, -1]))
    agree(lambda x, i: x.permute(3, 1, 0, 2).gather(2, i), x, rng.integers(0, 4, (2, 2, 3, 4)))
    wide = whole(rng, 2, 3, 2, 3, 2, 3, 2)
    agree(lambda x, i: x.permute(5, 0, 3, 1, 6, 2, 4)[:, :, :, :, :, :, i], wide, np.array([1, 0, 1]))
    agree(lambda x, i, v: x.clone().index_put_((i, i), v), whole(rng, 3, 3, 4), np.array([0, 2, 0]), whole(rng, 3, 1))


def test_indices_of_the_cpu_are_brought_to_the_tensor():
    x = nt.arange(6.0).reshape(3, 2)
    far, mask = x.to("cuda"), nt.tensor([True, False, True])
    np.testing.assert_array_equal(far[nt.tensor([2, 0])].cpu().numpy(), x[nt.tensor([2, 0])].numpy())
    np.testing.assert_array_equal(far[mask].cpu().numpy(), x[mask].numpy())
    far[nt.tensor([1])] = 7.0
    assert far[1, 0].item() == 7.0


@pytest.mark.parametrize("wrong", [3, -4])
def test_an_index_out_of_bounds_is_refused_before_anything_is_written(wrong):
    x, index = nt.zeros(3, 2, device="cuda"), nt.tensor([0, wrong]).to("cuda")
    with pytest.raises(IndexError):
        x[index]
    with pytest.raises(IndexError):
        x[index] = 1.0
    with pytest.raises(IndexError):
        x.index_put_((index,), nt.ones(2, 2, device="cuda"), accumulate=True)
    with pytest.raises((IndexError, RuntimeError)):
        x.gather(0, index.reshape(2, 1))
    with pytest.raises((IndexError, RuntimeError)):
        x.scatter_(0, index.reshape(2, 1), nt.ones(2, 1, device="cuda"))
    assert (x.cpu() == 0).all()
    with pytest.raises((IndexError, RuntimeError)):
        nt.nn.functional.nll_loss(nt.zeros(2, 3, device="cuda"), index)


@pytest.mark.parametrize("n", [0, 1, 31, 257, 1025])
def test_masks(n, order):
    rng = np.random.default_rng(n)
    x, mask = rng.standard_normal(n).astype("f4"), rng.random(n) < 0.4
    agree(lambda x, m: x[m], x, mask)
    agree(lambda m: m.nonzero(), mask)
    agree(masked_scatter, x, mask, -x)


def test_masks_that_are_broadcast():
    rng = np.random.default_rng(0)
    x, mask = whole(rng, 2, 3, 4), np.array([[True], [False], [True]])
    agree(nt.masked_select, x, mask)
    agree(lambda x: x.permute(2, 0, 1).nonzero(), x)
    agree(lambda x: x.nonzero(), np.array(3.0, np.float32))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_likelihoods(reduction, order):
    rng = np.random.default_rng(0)
    x, target = whole(rng, 270, 5), rng.integers(0, 5, 270)
    target[::7] = 2
    loss = lambda x, t, w: nt.nn.functional.nll_loss(x, t, w, ignore_index=2, reduction=reduction)
    agree(loss, x, target, np.array([1, 2, 1, 4, 1], np.float32))


def test_sums_of_many_likelihoods_are_accurate():
    """Threads sum by 64: one after the other, the sum of equal numbers drifts, here by ``2e-6`` and for a million rows by ``4e-5``."""
    n = 65536
    x, target = nt.full((n, 1), -0.7, device="cuda"), nt.zeros(n, dtype=nt.int64, device="cuda")
    for reduction, expected in (("sum", n * float(np.float32(0.7))), ("mean", float(np.float32(0.7)))):
        found = nt.nn.functional.nll_loss(x, target, reduction=reduction).item()
        assert abs(found - expected) < 1e-6 * expected


@pytest.mark.parametrize("n", [0, 1, 33, 129])
def test_sorting(n, order):
    rng = np.random.default_rng(n)
    x = rng.integers(-9, 9, (2, n)).astype("f4")
    x[:, ::5] = np.nan
    x[:, 1::7] = -0.0
    x[:, 2::9] = np.inf
    agree(lambda x: x.argsort(stable=True), x)
    agree(lambda x: nt.argsort(x, descending=True), x)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float64"])
def test_sorting_of_dtypes(dtype):
    rng = np.random.default_rng(0)
    x = whole(rng, 3, 6, 2, dtype=dtype, most=100)
    agree(lambda x: nt.argsort(x, 1), x)
    agree(lambda x: nt.topk(x, 3, 1)[1], x)
    agree(lambda x: nt.topk(x.T, 2, 0, largest=False)[1], x[0])


def test_runs_are_merged(order):
    """Rows of more than one tile, by the kernels themselves: on a device a tile has 2048 elements."""
    n, rows, tile = 201, 2, sort.TILES[0]
    x = np.random.default_rng(0).integers(-9, 9, (rows, n))
    ranks, places = np.zeros(x.size, np.int64), np.zeros(x.size, np.int64)
    kernel, kinds = sort.sort_tiles(types.int64, 0)
    tiles = -(-n // tile)
    launch(kernel, rows * tiles, tile // 2, (ranks, places, x.ravel(), n, tiles, 0), kinds, order=order)
    kernel, kinds = sort.merge_runs(types.int64, 0)
    while tile < n:
        before, ranks, places = (ranks, places), np.zeros_like(ranks), np.zeros_like(places)
        launch(kernel, -(-x.size // 32), 32, (ranks, places, *before, n, tile, x.size), kinds, order=order)
        tile *= 2
    np.testing.assert_array_equal(places.reshape(x.shape), np.argsort(x, 1, kind="stable"))


MERGED = """
import numpy as np
import numbatensor as nt
from numbatensor.core import compiler, device_sort
compiler.CORE, device_sort.LARGEST = None, 0
for n, order in ((100, "forward"), (201, "reverse")):
    nt.cuda.emulate(order=order)
    x = np.random.default_rng(n).integers(-9, 9, (2, n)).astype("f4")
    found = nt.tensor(x).to("cuda").argsort(1, stable=True).cpu().numpy()
    np.testing.assert_array_equal(found, np.argsort(x, 1, kind="stable"))
"""


def test_rows_of_several_tiles():
    """As on a device, but for the largest tile: it has 64 elements in a process of its own. After one merge, and after two."""
    subprocess.run([sys.executable, "-c", MERGED], cwd=pathlib.Path(__file__).parents[1], check=True)


def test_elements_in_another_order():
    rng = np.random.default_rng(0)
    x = whole(rng, 5, 7)
    agree(lambda x: x.flip(0, 1), x)
    agree(lambda x: x.T.flip(0), x)
    agree(lambda x: x.roll((2, -3), (0, 1)), x)
    agree(lambda x: x.tile(2, 1, 2), x)
    agree(lambda x: x.tril(1), x)
    agree(lambda x: x.T.triu(-2), x)
    agree(lambda x: nt.triu(x), whole(rng, 2, 3, 4, dtype="int16"))


FILLS = {
    "uniform_": lambda x: x.uniform_(-1.0, 3.0),
    "uniform_ between numbers that are not exact": lambda x: x.uniform_(0.3, 0.7),
    "random_": lambda x: x.random_(-5, 100),
    "bernoulli_": lambda x: x.bernoulli_(0.3),
    "dropout": lambda x: nt.nn.functional.dropout(x.fill_(1.0), 0.4),
}


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers_are_those_of_the_cpu(name, dtype, order):
    made = []
    for device in ("cpu", "cuda"):
        nt.manual_seed(7)
        x = nt.zeros(3, 37, dtype=getattr(nt, dtype), device=device)
        first = FILLS[name](x)
        made.append([first.cpu().numpy().copy(), FILLS[name](x.T).cpu().numpy()])
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][1], made[1][1])


def test_random_numbers_of_other_kinds():
    draws = [
        lambda d: nt.randn(501, device=d),
        lambda d: nt.randn(501, device=d, dtype=nt.float64),
        lambda d: nt.zeros(99, device=d).exponential_(2.0),
        lambda d: nt.randint(-3, 9, (64,), device=d),
        lambda d: nt.randint(0, 2, (64,), device=d, dtype=nt.bool),
        lambda d: nt.rand(3, 5, device=d, requires_grad=True).detach(),
        lambda d: nt.bernoulli(nt.linspace(0.0, 1.0, 70).to(d)),
        lambda d: nt.zeros(70, dtype=nt.int8).to(d).bernoulli_(nt.linspace(0.0, 1.0, 70).to(d)),
        lambda d: nt.zeros(70, dtype=nt.uint8).to(d).random_(),
    ]
    for k, draw in enumerate(draws):
        made = []
        for device in ("cpu", "cuda"):
            nt.manual_seed(k)
            made.append(draw(device))
            assert made[-1].device.type == device
        np.testing.assert_allclose(made[1].cpu().numpy(), made[0].numpy(), rtol=2e-6, atol=2e-6)


OPTIMIZERS = {
    "sgd": lambda p: nt.optim.SGD(p, lr=0.1, weight_decay=0.1),
    "momentum": lambda p: nt.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: nt.optim.Adam(p, lr=0.1),
    "amsgrad": lambda p: nt.optim.AdamW(p, lr=0.1, amsgrad=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimizers(name, dtype):
    moved = []
    for device in ("cpu", "cuda"):
        rng = np.random.default_rng(0)
        params = [nt.tensor(rng.standard_normal(s).astype(dtype)).to(device) for s in ((33,), (), (3, 7))]
        params[2] = params[2].T
        params = [p.requires_grad_() for p in params]
        optimizer = OPTIMIZERS[name](params)
        for _ in range(3):
            for p in params:
                p.grad = nt.tensor(rng.standard_normal(p.shape).astype(dtype)).to(device)
            optimizer.step()
        assert all(
            v.device.type == device for s in optimizer.state.values() for v in s.values() if isinstance(v, nt.Tensor)
        )
        moved.append([p.detach().cpu().numpy() for p in params])
    for here, far in zip(*moved, strict=True):
        np.testing.assert_allclose(far, here, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_more_dimensions_than_can_be_walked_are_refused():
    x = nt.zeros(*[2] * 9, device="cuda").permute(0, 2, 4, 6, 8, 1, 3, 5, 7)
    index = nt.zeros(*[2] * 9, dtype=nt.int64, device="cuda").permute(1, 0, 3, 2, 5, 4, 7, 6, 8)
    with pytest.raises(RuntimeError, match="dimensions do not lie evenly in memory"):
        x.gather(3, index)
    assert x.contiguous().gather(3, index.contiguous()).shape == x.shape
