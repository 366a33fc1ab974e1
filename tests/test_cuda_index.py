"""Products, indexing, sorting, random numbers and optimisers on a device, the block emulator's, against the CPU: and that none takes a detour."""

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.core.device_ops import detours

pytest.importorskip("greenlet")


@pytest.fixture(autouse=True)
def emulated():
    nt.cuda.emulate()
    before = detours.copy()
    yield
    assert (detours == before).all()


@pytest.fixture(params=["forward", "reverse"])
def order(request):
    nt.cuda.emulate(order=request.param)
    yield request.param
    nt.cuda.emulate(order="forward")


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
