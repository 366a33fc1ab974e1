"""Kernels of CUDA devices that combine many elements: reductions, and ops along one dimension."""

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.core.device_detours import detours
from tests.device import ORDERS, open_device

REDUCTIONS = ["sum", "mean", "prod", "amax", "amin", "all", "any", "count_nonzero", "var", "std"]
DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]
SHAPES = [((), None), ((1,), 0), ((31,), 0), ((32, 3), 0), ((3, 33), 1), ((5, 257), 1), ((2, 1025), 1), ((0, 3), 0)]
SHAPES += [((3, 0), 0), ((4, 5, 6), 1), ((4, 5, 8), (0, 2)), ((70, 2), 0), ((2, 3, 1, 4), (1, 3)), ((9, 40), 0)]


@pytest.fixture(autouse=True, params=ORDERS, scope="module")
def emulated(request):
    open_device(order=request.param)
    before = detours.copy()
    yield
    open_device()
    assert (detours == before).all(), "an op with code of its own took a detour"


def drawn(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.9
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 7, shape).astype(dtype)


def there(x):
    return nt.tensor(x).to("cuda")


def agree(found, expected, precision=1e-5):
    assert found.device == "cuda:0"
    found = found.cpu()
    assert found.dtype is expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=precision, atol=precision)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    for k, (shape, dim) in enumerate(SHAPES):
        for dtype in DTYPES[k % 2 :: 2] if name not in ("mean", "var", "std") else DTYPES[k % 2 : 1 + k % 2]:
            x = drawn(shape, dtype, k)
            call = lambda t: getattr(t, name)() if dim is None else getattr(t, name)(dim)
            if name in ("amax", "amin") and shape == (0, 3):
                with pytest.raises(IndexError):
                    call(there(x))
                continue
            agree(call(there(x)), call(nt.tensor(x)), 1e-4 if name == "prod" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_reductions_of_strided_tensors(dtype):
    x = drawn((6, 7, 8), dtype)
    t = there(x)
    for view in (
        lambda t: t.permute(2, 0, 1),
        lambda t: t[:, 1:, ::2],
        lambda t: t[1:, 3],
        lambda t: t[2, :, 1],
        lambda t: t[:, :1].expand(6, 5, 8),
    ):
        y, expected = view(t), view(nt.tensor(x))
        for dim in range(y.ndim):
            agree(y.sum(dim), expected.sum(dim))
            agree(y.sum(dim, keepdim=True), expected.sum(dim, keepdim=True))
        agree(y.sum(), expected.sum())
        dims = (0, -1) if y.ndim > 1 else 0
        agree(y.sum(dims), expected.sum(dims))


def test_reductions_mind_nan():
    x = drawn((3, 40), "float32")
    x[1, 7], x[2, 3] = np.nan, np.inf
    for name in ("amax", "amin", "sum", "mean"):
        for dim in (0, 1, (0, 1)):
            agree(getattr(there(x), name)(dim), getattr(nt.tensor(x), name)(dim))


@pytest.mark.parametrize(
    "shape, dim", [((9000,), 0), ((2, 9000), 1), ((9001, 3), 0), ((2, 1500, 5), 1), ((1200, 8), 0)]
)
def test_long_reductions_are_cut_into_pieces(shape, dim):
    x = drawn(shape, "float32")
    agree(there(x).sum(dim), nt.tensor(x).sum(dim), 1e-4)
    agree(there(x).std(dim), nt.tensor(x).std(dim))
    agree(there(x > 0).sum(dim), nt.tensor(x > 0).sum(dim))


ROWS = ["softmax", "log_softmax", "logsumexp", "cumsum", "cumprod", "argmax", "argmin"]
WALKS = ROWS[3:]


@pytest.mark.parametrize("name", ROWS)
def test_rows(name):
    shapes = [((), -1), ((1,), 0), ((31,), 0), ((9, 33), 1), ((2, 260), -1), ((4, 3), 0), ((2, 5, 4), 1), ((0, 3), 1)]
    for k, (shape, dim) in enumerate(shapes):
        for dtype in ["float32", "float64"][k % 2 :] + (["int64", "uint8", "bool"] if name in WALKS else []):
            x = drawn(shape, dtype, k)
            agree(getattr(there(x), name)(dim), getattr(nt.tensor(x), name)(dim))


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_a_block(name):
    x = drawn((2, 1025), "float32")
    agree(getattr(there(x), name)(1), getattr(nt.tensor(x), name)(1), 1e-4)
    turned = lambda t: t.t().contiguous().t()
    agree(getattr(turned(there(x)), name)(1), getattr(turned(nt.tensor(x)), name)(1), 1e-4)


@pytest.mark.parametrize("name", ROWS)
def test_rows_beyond_registers_and_chunks(name):
    """Kernels that pass over a row, and rows that are cut into chunks."""
    x = drawn((1, 8196 + (name in WALKS)), "float32") / 8
    agree(getattr(there(x), name)(1), getattr(nt.tensor(x), name)(1), 1e-4)


@pytest.mark.parametrize("n", [8, 5, 8196])
def test_rows_mind_nan_and_infinity(n):
    for k, values in enumerate([[np.nan], [np.inf], [-np.inf], [np.inf, np.nan, -np.inf]]):
        x = drawn((1, n), "float32")
        x[0, 1 : 1 + len(values)] = values
        if k == 2:
            x[...] = -np.inf
        for name in ROWS if n < 10 else ["softmax", "logsumexp"][k % 2 :][:1]:
            agree(getattr(there(x), name)(1), getattr(nt.tensor(x), name)(1), 1e-4)


def test_the_first_of_equals_is_the_extremum():
    for dtype in ("float32", "bool", "uint8"):
        for shape in ((3, 70), (2, 1100), (1, 9000)):
            x = (drawn(shape, "int64") > 3).astype(dtype)
            agree(there(x).argmax(1), nt.tensor(x).argmax(1))
            agree(there(x).argmin(), nt.tensor(x).argmin())


NORMS = [(3, 5, True), (3, 5, False), (9, 12, True), (9, 12, False), (130, 3, True), (2, 1028, True), (1, 8196, True)]


@pytest.mark.parametrize("m, n, weighted", NORMS)
def test_layer_norm(m, n, weighted):
    dtype = "float64" if weighted and m == 3 else "float32"
    x, grad, w, b = drawn((m, n), dtype), drawn((m, n), dtype, 1), drawn(n, dtype, 2), drawn(n, dtype, 3)
    found = []
    for place in (nt.tensor, there):
        leaves = [place(a).requires_grad_() for a in ((x, w, b) if weighted else (x,))]
        out = nt.nn.functional.layer_norm(leaves[0], (n,), *leaves[1:])
        found.append([out.detach(), *nt.autograd.grad(out, leaves, place(grad))])
    for a, b in zip(found[1], found[0], strict=True):
        agree(a, b, 1e-4)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_slopes(name):
    for m, n, dim in ((3, 5, 1), (4, 8, 0), (2, 1028, 1), (1, 8196, 1)):
        x, grad = drawn((m, n), "float32"), drawn((m, n), "float32", 1)
        found = []
        for place in (nt.tensor, there):
            t = place(x).requires_grad_()
            found.append(nt.autograd.grad(getattr(t, name)(dim), t, place(grad))[0])
        agree(found[1], found[0], 1e-4)
