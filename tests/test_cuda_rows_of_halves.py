"""Kernels of devices that combine many elements of 16 bits, in the block emulator: they read and write the halves as they are, and compute in float32."""

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.core.device_detours import detours
from numbatensor.core.promotion import CODES
from numbatensor.core.table import ON_DEVICES
from numbatensor.core.there import DETOUR, DEVICE_TABLE
from numbatensor.op import OPS

pytest.importorskip("greenlet")

HALVES = pytest.mark.parametrize("half", [nt.float16, nt.bfloat16], ids=["float16", "bfloat16"])
SUM = int(OPS["sum"].row["index"])
REDUCTIONS = ["sum", "mean", "prod", "amax", "amin", "all", "any", "count_nonzero", "var", "std"]
SHAPES = [((), None), ((31,), 0), ((32, 3), 0), ((3, 64), 1), ((2, 1032), 1), ((0, 3), 0), ((3, 0), 0), ((4, 5, 8), 1)]
SHAPES += [((4, 5, 8), (0, 2)), ((70, 2), 0), ((9, 40), 0)]


@pytest.fixture(autouse=True, scope="module")
def emulated():
    nt.cuda.emulate(order="reverse")
    before = detours.copy()
    yield
    nt.cuda.emulate()
    assert (detours == before).all(), "an op with code of its own took a detour"


def drawn(shape, half, seed=0):
    return nt.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32)).to(half)


def agree(found, expected, units=1):
    """Compare with what the CPU makes of the same halves: both round a float32, and may differ by units in the last place."""
    assert found.device == "cuda:0" and found.dtype is expected.dtype and found.shape == expected.shape
    precision = units * nt.finfo(expected.dtype).eps if expected.is_floating_point() else 0
    found, expected = found.detach().cpu().double().numpy(), expected.detach().double().numpy()
    np.testing.assert_allclose(found, expected, rtol=precision, atol=precision / 16)


def native(name, half):
    """Whether kernels of an op for a half type have been loaded."""
    row = OPS[name].row
    code = [str(d) for d in (nt.float16, nt.bfloat16)].index(str(half)) + CODES[np.dtype(np.float16)]
    return row["halves"] & ON_DEVICES and DEVICE_TABLE[int(row["index"])]["kernels"][:, code].any()


@HALVES
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, half):
    for k, (shape, dim) in enumerate(SHAPES):
        x = drawn(shape, half, k)
        call = lambda t: getattr(t, name)() if dim is None else getattr(t, name)(dim)
        if name in ("amax", "amin") and shape == (0, 3):
            with pytest.raises(IndexError):
                call(x.to("cuda"))
            continue
        agree(call(x.to("cuda")), call(x))
    assert native(name, half)


@HALVES
def test_reductions_of_strided_tensors_and_unaligned_starts(half):
    x = drawn((6, 7, 16), half)
    t = x.to("cuda")
    for view in (
        lambda t: t.permute(2, 0, 1),
        lambda t: t[:, 1:, ::2],
        lambda t: t[1:, 3, 1:],
        lambda t: t[2, :, 1],
        lambda t: t[:, :1].expand(6, 5, 16),
        lambda t: t.flatten()[1:],
        lambda t: t.flatten()[8:],
    ):
        y, expected = view(t), view(x)
        for dim in (*range(y.ndim), None):
            agree(y.sum(dim), expected.sum(dim))
            agree(y.std(dim), expected.std(dim))
            agree(y.amax() if dim is None else y.amax(dim), expected.amax() if dim is None else expected.amax(dim))


@HALVES
@pytest.mark.parametrize("shape, dim", [((9000,), 0), ((3001, 3), 0), ((1, 1500, 8), 1)])
def test_long_reductions_are_cut_into_pieces(shape, dim, half):
    """The accumulators of pieces are float32: a sum of halves would stand still."""
    x = (drawn(shape, half) / 16 + 1).to(half)
    agree(x.to("cuda").mean(dim), x.mean(dim))
    agree(x.to("cuda").std(dim), x.std(dim))
    agree((x > 1).to("cuda").sum(dim), (x > 1).sum(dim))


@HALVES
def test_the_cpu_takes_halves_where_an_op_makes_a_detour(half):
    x, before = drawn((3, 40), half), int(detours[SUM])
    x.to("cuda").sum(1)
    known, DEVICE_TABLE[SUM]["run"] = int(DEVICE_TABLE[SUM]["run"]), DETOUR
    try:
        agree(x.to("cuda").sum(1), x.sum(1))
        assert detours[SUM] == before + 1
    finally:
        DEVICE_TABLE[SUM]["run"], detours[SUM] = known, before


@HALVES
def test_reductions_mind_nan_and_overflow(half):
    x = drawn((3, 40), half)
    x[1, 7], x[2, 3] = np.nan, np.inf
    for name in ("amax", "amin", "sum", "mean"):
        for dim in (0, 1, (0, 1)):
            agree(getattr(x.to("cuda"), name)(dim), getattr(x, name)(dim))
    x = nt.full((64,), 60000.0, dtype=half)
    agree(x.to("cuda").mean(), x.mean())
    agree(x.to("cuda").sum(), x.sum())
    agree(x.to("cuda").var(), x.var())


ROWS = ["softmax", "log_softmax", "logsumexp", "cumsum", "cumprod", "argmax", "argmin"]
WALKS = ROWS[3:]


@HALVES
@pytest.mark.parametrize("name", ROWS)
def test_rows(name, half):
    shapes = [((), -1), ((31,), 0), ((9, 40), 1), ((2, 264), -1), ((4, 3), 0), ((2, 5, 4), 1), ((0, 3), 1)]
    for k, (shape, dim) in enumerate(shapes):
        x = drawn(shape, half, k)
        agree(getattr(x.to("cuda"), name)(dim), getattr(x, name)(dim), 2)
    x = drawn((9, 41), half)
    for view in (lambda t: t[1:, 1:], lambda t: t.flatten()[1:].view(23, 16), lambda t: t[:, ::2]):
        agree(getattr(view(x.to("cuda")), name)(1), getattr(view(x), name)(1), 2)
    assert native(name, half)


@HALVES
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_a_block_and_beyond_registers(name, half):
    for shape in ((1, 1032), (1, 8200 + (name in WALKS))):
        x = drawn(shape, half) / 8
        agree(getattr(x.to("cuda"), name)(1), getattr(x, name)(1), 2)


@HALVES
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_slopes(name, half):
    for m, n, dim in ((3, 5, 1), (4, 8, 0), (2, 1032, 1), (1, 8200, 1)):
        x, grad, found = drawn((m, n), half), drawn((m, n), half, 1), []
        for device in ("cpu", "cuda"):
            t = x.to(device).requires_grad_()
            found.append(nt.autograd.grad(getattr(t, name)(dim), t, grad.to(device))[0])
        agree(found[1], found[0], 2)
    assert native(name + "_slope", half)


NORMS = [
    (3, 5, None),
    (9, 16, None),
    (9, 16, "alike"),
    (9, 16, "wide"),
    (3, 5, "wide"),
    (9, 24, "bias"),
    (130, 8, "wide"),
]
NORMS += [(1, 1032, "wide")]


def check_layer_norm(m, n, weights, half):
    """Weight and bias of the elements' type, of float32, or one of each; the gradient of the weight has the weight's dtype."""
    x, grad = drawn((m, n), half), drawn((m, n), half, 1)
    w, b = drawn(n, half, 2), drawn(n, half, 3)
    if weights == "wide":
        w = w.float() + 1e-4
    if weights in ("wide", "bias"):
        b = b.float()
    found = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in ((x, w, b) if weights else (x,))]
        out = nt.nn.functional.layer_norm(leaves[0], (n,), *leaves[1:])
        grads = nt.autograd.grad(out, leaves, grad.to(device))
        assert [g.dtype for g in grads] == [t.dtype for t in leaves]
        found.append([out, *grads])
    for k, (a, b) in enumerate(zip(found[1], found[0], strict=True)):
        agree(a, b, 2 if b.dtype is half and k < 2 else 64 if b.dtype is half else 16)
    assert native("layer_norm", half) and native("layer_norm_slope", half)


@HALVES
@pytest.mark.parametrize("m, n, weights", NORMS)
def test_layer_norm(m, n, weights, half):
    check_layer_norm(m, n, weights, half)


@pytest.mark.parametrize("weights, half", [("wide", nt.bfloat16), ("alike", nt.float16)])
def test_layer_norm_of_rows_beyond_registers(weights, half):
    check_layer_norm(1, 8200, weights, half)


@HALVES
def test_layer_norm_refuses_other_weights(half):
    x = drawn((3, 8), half).to("cuda")
    other = nt.bfloat16 if half is nt.float16 else nt.float16
    for weight in (nt.ones(8, dtype=other, device="cuda"), nt.ones(8, dtype=nt.float64, device="cuda")):
        with pytest.raises(RuntimeError, match=f"a weight of {weight.dtype.name} does not go with an input of"):
            nt.nn.functional.layer_norm(x, (8,), weight)
    for device in ("cpu", "cuda"):
        with pytest.raises(RuntimeError, match="do not go together|does not go with an input of float32"):
            nt.nn.functional.layer_norm(nt.ones(3, 8, device=device), (8,), nt.ones(8, dtype=half, device=device))


@HALVES
def test_products(half):
    """Any strides, sizes that fill no tile, batches; sums are float32, and rounded once."""
    here, turned = (lambda t: t), (lambda t: t.mT.contiguous().mT)
    sizes = [(5, 7, 3, here, here), (66, 9, 3, here, turned), (3, 8, 66, turned, here), (8, 40, 8, turned, turned)]
    for m, k, n, a, b in (*sizes, (3, 0, 2, here, here)):
        x, y = drawn((m, k), half), drawn((k, n), half, 1)
        agree(a(x).to("cuda") @ b(y).to("cuda"), x @ y, 2)
    x, y = drawn((1, 2, 5, 8), half), drawn((2, 8, 6), half, 1)
    agree(x.to("cuda") @ y.to("cuda"), x @ y, 2)
    agree(x.to("cuda")[..., 1:] @ y.to("cuda")[:, 1:, ::2], x[..., 1:] @ y[:, 1:, ::2], 2)
    assert native("matmul", half)


@HALVES
def test_sums_of_products_start_anywhere(half):
    x, w, b, c = drawn((5, 16), half), drawn((24, 16), half, 1), drawn(24, half, 2), drawn((5, 24), half, 3)
    grad = drawn((5, 24), half, 4)
    found = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in (x, w, b, c)]
        out = nt.addmm(leaves[3], leaves[0], leaves[1].T, beta=0.5, alpha=-2)
        rows = nt.nn.functional.linear(*leaves[:3])
        found.append([out, rows, *nt.autograd.grad((out, rows), leaves, (grad.to(device), grad.to(device)))])
    for a, b in zip(found[1], found[0], strict=True):
        agree(a, b, 4)
