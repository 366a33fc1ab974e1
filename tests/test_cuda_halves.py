"""float16 and bfloat16 on a device: ops of each kind, in the block emulator, where an access of the CPU ends the process."""

import os
import types

import numpy as np
import pytest
from sampled import CASES

import numbatensor as nt
from numbatensor.core.device_detours import detours

pytest.importorskip("greenlet")
HALVES = (nt.float16, nt.bfloat16)


@pytest.fixture(autouse=True, scope="module")
def emulated():
    if os.environ.get("NUMBATENSOR_GPU") != "1":  # make gpu-check: on the device itself
        nt.cuda.emulate()


POINTWISE = "add mul div exp tanh pow where clamp gt maximum isnan neg lerp".split()
REDUCED = "sum mean amax prod var softmax log_softmax logsumexp cumsum argmax layer_norm euclidean_norm all".split()
MOVED = "flip roll tile tril pick index_put cleared_at select_slices gather scatter masked_select masked_scatter clone".split()
MADE = "cat stack matmul linear index_put_add gather_grad nonzero argsort topk_indices nll_loss copy_ transpose expand unfold".split()
CHOSEN = [c for c in CASES if c.op.name in {*POINTWISE, *REDUCED, *MOVED, *MADE} and c.id.endswith("-0")]


def close(found, expected, half):
    """The functions of libdevice round otherwise than ours, so the rounded numbers may be neighbours."""
    assert found.device == "cuda:0" and found.dtype is expected.dtype
    step = nt.finfo(half).eps if expected.dtype is half else 1e-6
    np.testing.assert_allclose(
        found.detach().cpu().double().numpy(), expected.detach().double().numpy(), rtol=step, atol=step
    )


@pytest.mark.parametrize("k", range(len(CHOSEN)), ids=lambda k: f"{CHOSEN[k].id}-{HALVES[k % 2].name}")
def test_an_op_and_its_gradients(k):
    """The dtypes in turn."""
    case, half = CHOSEN[k], HALVES[k % 2]
    index = int(case.op.row["index"])
    here = [
        nt.tensor(a, dtype=half if a.dtype.kind == "f" else None).requires_grad_(w)
        for a, w in zip(case.arrays, case.wanted, strict=True)
    ]
    far = [t.detach().to("cuda").requires_grad_(t.requires_grad) for t in here]
    before = int(detours[index])
    expected, found = case(*here), case(*far)
    assert case.op.there is None or detours[index] == before, "an op with code of its own took a detour"
    close(found, expected, half)
    if not expected.requires_grad:
        return
    seed = nt.rand(expected.shape, dtype=half)
    slopes, slopes_there = (
        nt.autograd.grad(out, [t for t in tensors if t.requires_grad], s, allow_unused=True)
        for out, tensors, s in ((expected, here, seed), (found, far, seed.to("cuda")))
    )
    for a, b in zip(slopes_there, slopes, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b, half)


@pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)
def test_converted_and_moved(half):
    numbers = nt.tensor([[0.1, 70000.0, -1e-7], [float("nan"), float("inf"), 3.0]])
    far = numbers.to("cuda")
    for there, here in (
        (far.to(half), numbers.to(half)),
        (far.t().to(half), numbers.t().to(half)),
        (numbers.to(half).to("cuda").float(), numbers.to(half).float()),
        (numbers.to(half).to("cuda").t().clone(), numbers.to(half).t()),
        (far.to(half).to(nt.float64), numbers.to(half).to(nt.float64)),
    ):
        assert there.dtype is here.dtype and np.array_equal(
            there.cpu().double().numpy(), here.double().numpy(), equal_nan=True
        )


@pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)
def test_rows_in_every_layout(half):
    """Contiguous and aligned, neither, broadcast, with a number, in place."""
    x = nt.from_numpy(np.random.default_rng(0).standard_normal((5, 67)).astype(np.float32)).to(half)
    for f in (
        lambda t: t * 0.7,
        lambda t: t[:, 1:] + t[:, :-1],
        lambda t: t.t() - t[0, 0],
        lambda t: t + t[:1],
        lambda t: t[::-1, ::2] * 2.0,
        lambda t: t.clone().mul_(t[:, :1]),
        lambda t: t > 0.1,
        lambda t: nt.where(t > 0.0, t, 0.5),
    ):
        close(f(x.to("cuda")), f(x), half)


@pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)
def test_views_written_random_and_interface(half):
    def gradient(device):
        x = nt.arange(6, dtype=half).reshape(2, 3).to(device).requires_grad_()
        y = x * 1.0
        y[:, 1].mul_(3.0)
        y[0, :2] = x[1, :2]
        (y * y).sum().backward()
        z = nt.ones(1, dtype=half, device=device).requires_grad_()
        z.as_strided((300,), (0,)).sum().backward()
        return x.grad.cpu().tolist(), z.grad.cpu().tolist()

    assert gradient("cuda") == gradient("cpu")
    for make in (
        lambda **where: nt.rand(100, dtype=half, **where),
        lambda **where: nt.randint(0, 9, (100,), dtype=half, **where),
        lambda **where: nt.bernoulli(nt.full((100,), 0.3, dtype=half, **where)),
        lambda **where: nt.full((3,), 0.1, dtype=half, **where),
        lambda **where: nt.cat([nt.ones(2, dtype=half, **where), nt.ones(2, **where)]),
    ):
        made = []
        for where in ({}, {"device": "cuda"}):
            nt.manual_seed(5)
            made.append(make(**where))
        assert made[0].dtype is made[1].dtype and made[0].tolist() == made[1].cpu().tolist()
    x = nt.tensor([1.5, 2.0], dtype=half, device="cuda")
    shown = x.__cuda_array_interface__
    assert shown["typestr"] == ("<f2" if half is nt.float16 else "<V2") and shown["shape"] == (2,)
    y = nt.from_dlpack(x)
    y.mul_(2.0)
    assert y.dtype is half and x.tolist() == [3.0, 4.0]
    z = nt.as_tensor(types.SimpleNamespace(__cuda_array_interface__=shown, owner=x))
    assert z.dtype is half and z.data_ptr() == x.data_ptr() and z.tolist() == [3.0, 4.0]
