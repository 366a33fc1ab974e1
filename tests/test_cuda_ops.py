"""Every op on a device. Of the emulator's, an access of the CPU to the device's memory ends the process."""

import numpy as np
import pytest
from numba import njit

import numbatensor as nt
from numbatensor.core.device_detours import detours
from tests.device import open_device
from tests.sampled import CASES


@pytest.fixture(autouse=True, scope="module")
def emulated():
    open_device()


def close(x, y):
    """Compare with what the CPU gives: the functions of libdevice round differently from ours."""
    tight = 1e-5 if y.dtype is nt.float32 else 1e-9
    np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=tight, atol=tight)


def there(tensors):
    """The same leaves on the device."""
    return [t.detach().to("cuda").requires_grad_(t.requires_grad) for t in tensors]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_op_and_its_gradients(case):
    here = case.tensors()
    far = there(here)
    before = detours.copy()
    expected, found = case(*here), case(*far)
    assert found.device == "cuda:0" and found.dtype is expected.dtype
    close(found.cpu(), expected)
    assert (detours == before).all(), "an op took a detour by the CPU"
    if not expected.requires_grad:
        return
    seed = nt.rand(expected.shape, dtype=expected.dtype)
    wanted = [t for t in here if t.requires_grad]
    slopes = nt.autograd.grad(expected, wanted, seed, allow_unused=True)
    slopes_there = nt.autograd.grad(found, [t for t in far if t.requires_grad], seed.to("cuda"), allow_unused=True)
    for a, b in zip(slopes_there, slopes, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.device == "cuda:0"
            close(a.cpu(), b)
    assert (detours == before).all(), "a gradient took a detour by the CPU"


def second_slopes(case, tensors):
    """Gradients of the sum of squared gradients of an op's squared result; None where there are none."""
    wanted = [t for t in tensors if t.requires_grad]
    out = case(*tensors)
    if not out.requires_grad:
        return None
    slopes = nt.autograd.grad((out * out).sum(), wanted, allow_unused=True, create_graph=True)
    squares = [(s * s).sum() for s in slopes if s is not None and s.requires_grad]
    return nt.autograd.grad(sum(squares), wanted, allow_unused=True) if squares else None


@pytest.mark.parametrize("case", [c for c in CASES if any(c.wanted)], ids=lambda case: case.id)
def test_second_gradients(case):
    here = case.tensors()
    before, expected, found = detours.copy(), second_slopes(case, here), second_slopes(case, there(here))
    assert (detours == before).all(), "a second gradient took a detour by the CPU"
    assert (found is None) == (expected is None)
    for a, b in zip(found or (), expected or (), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.device == "cuda:0"
            close(a.cpu(), b)


def test_what_needs_the_cpu_says_so():
    """Users' code over arrays."""
    x = nt.ones(3, device="cuda")

    @nt.custom_op
    def twice(x):
        return x * 2

    functions = [twice, njit(lambda x: x.numpy().sum())]
    for function in functions:
        with pytest.raises(RuntimeError, match="x.cpu()"):
            function(x)
    assert njit(lambda x: x.sum().item())(x) == 3.0
    assert njit(lambda x: nt.tanh(x) * 2.0)(x).device == "cuda:0"


def test_single_elements_of_the_cpu_are_moved_and_given_back():
    """Of another dtype, too: the op then puts a converted tensor in the place of the one that was moved."""
    x = nt.ones(3, device="cuda", requires_grad=True)
    for number in (nt.tensor(2.0, dtype=nt.float64), nt.tensor(2.0), nt.tensor(2)):
        y = x * number
        assert y.device == "cuda:0" and y.dtype is nt.float32 and y.tolist() == [2.0, 2.0, 2.0]
    scale = nt.tensor(3.0, dtype=nt.float64, requires_grad=True)
    (x * scale).sum().backward()
    assert scale.grad.device == "cpu" and scale.grad.item() == 3.0 and x.grad.tolist() == [3.0, 3.0, 3.0]
