"""Steps of optimisers on devices: many parameters in one launch, and the same numbers as on the CPU."""

import warnings

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.core.devices import driver
from tests.device import open_device

MAKES = {
    "sgd": lambda p, **k: nt.optim.SGD(p, lr=0.1, weight_decay=0.1, **k),
    "momentum": lambda p, **k: nt.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, **k),
    "adam": lambda p, **k: nt.optim.Adam(p, lr=0.1, maximize=True, **k),
    "amsgrad": lambda p, **k: nt.optim.AdamW(p, lr=0.1, amsgrad=True, **k),
    "adam_counted": lambda p, **k: nt.optim.Adam(p, lr=0.1, weight_decay=0.1, capturable=True, **k),
    "amsgrad_counted": lambda p, **k: nt.optim.AdamW(p, lr=0.1, amsgrad=True, capturable=True, **k),
}


@pytest.fixture(autouse=True, scope="module")
def emulated():
    open_device()


def launches():
    return int(driver[0]["launched"])


def steps(optimizer, params, rng, count=2):
    for _ in range(count):
        for p in params:
            p.grad = nt.tensor(rng.standard_normal(p.shape)).to(p.dtype).to(p.device)
        optimizer.step()


def both(make, build, count=2):
    """The parameters after some steps on the CPU, and on the device."""
    moved = []
    for device in ("cpu", "cuda"):
        rng = np.random.default_rng(0)
        params = build(lambda *shape: nt.tensor(rng.standard_normal(shape).astype("f4")).to(device).requires_grad_())
        steps(make(params), params, rng, count)
        moved.append([p.detach().cpu().numpy() for p in params])
    return moved


def agree(moved, rtol=1e-5):
    for here, far in zip(*moved, strict=True):
        np.testing.assert_allclose(far, here, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", ["sgd", "adam_counted"])
def test_many_parameters_take_few_launches(name):
    """32 in one; what counts their steps is one more. The first step also makes what is remembered."""
    sizes = [(3, 5), (0,), (1100,), ()] + [(k,) for k in range(1, 31)]
    build = lambda new: [new(*s) for s in sizes]
    agree(both(MAKES[name], build, 1))
    params = build(lambda *s: nt.ones(*s, device="cuda", requires_grad=True))
    optimizer = MAKES[name](params)
    steps(optimizer, params, np.random.default_rng(0), 1)
    before = launches()
    optimizer.step()
    assert launches() - before == (4 if "counted" in name else 2)


@pytest.mark.parametrize("dtype", [nt.float16, nt.bfloat16])
@pytest.mark.parametrize("name", MAKES)
def test_parameters_of_16_bits_share_launches(name, dtype):
    """They are read and written as they are; a step is computed in float32, so a last bit may fall otherwise than on the CPU."""
    build = lambda device: [
        (nt.arange(float(n)) / 7 - 3).to(dtype).to(device).requires_grad_() for n in (5, 1100, 0, 33)
    ]
    here, far = build("cpu"), build("cuda")
    for params in (here, far):
        optimizer = MAKES[name](params)
        steps(optimizer, params, np.random.default_rng(0), 2)
    last = 2**-10 if dtype is nt.float16 else 2**-7
    for a, b in zip(here, far, strict=True):
        assert b.dtype is dtype
        np.testing.assert_allclose(
            b.detach().cpu().float().numpy(), a.detach().float().numpy(), rtol=last, atol=last / 4
        )
    before = launches()
    optimizer.step()
    assert launches() - before == (2 if "counted" in name else 1)


@pytest.mark.parametrize("name", MAKES)
def test_what_does_not_go_together_keeps_its_order(name):
    """Dtypes and strides take turns; two parameters share memory, one is there twice."""

    def build(new):
        x, y, z = new(6, 4), new(8), new(5)
        turned = new(4, 3).detach().t().requires_grad_()
        wide = new(7).detach().double().requires_grad_()
        part, rest = (y.detach()[k:].requires_grad_() for k in (0, 4))
        return [x, turned, wide, part, z, rest, x, new(3)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree(both(MAKES[name], build), 1e-4)


def test_a_gradient_that_is_a_parameter():
    """The second step reads what the first has written, as on the CPU."""
    moved = []
    for device in ("cpu", "cuda"):
        x, y = (nt.full((4,), v, device=device, requires_grad=True) for v in (1.0, 2.0))
        x.grad, y.grad = nt.ones(4, device=device), x.detach()
        nt.optim.SGD([x, y], lr=0.5).step()
        moved.append([x.tolist(), y.tolist()])
    assert moved[0] == moved[1] == [[0.5] * 4, [1.75] * 4]


def test_what_came_before_an_error_is_done():
    """As on the CPU: the parameters before have moved, and their writes are counted."""
    for device in ("cpu", "cuda"):
        params = [nt.ones(3, device=device, requires_grad=True) for _ in range(3)]
        optimizer = nt.optim.SGD(params, lr=0.5, momentum=0.9)
        for p in params:
            p.grad = nt.ones(3, device=device)
        optimizer.state[params[1]]["momentum_buffer"] = nt.zeros(4, device=device)
        before = [p._version for p in params]
        with pytest.raises(RuntimeError, match="the optimizer's state does not fit its parameter"):
            optimizer.step()
        assert [p.tolist() for p in params] == [[0.5] * 3, [1.0] * 3, [1.0] * 3]
        assert [p._version - v for p, v in zip(params, before, strict=True)] == [1, 0, 0]


def test_where_steps_are_counted():
    """A state goes from an optimiser that counts on the CPU to one that counts on the device, and back."""
    make = lambda p, capturable: nt.optim.Adam([p], lr=0.1, betas=(0.0, 0.99), capturable=capturable)
    p, far = nt.ones(5, requires_grad=True), nt.ones(5, device="cuda", requires_grad=True)
    rng, rng_there, state = np.random.default_rng(1), np.random.default_rng(1), None
    here = make(p, False)
    for capturable in (False, True, True, False):
        optimizer = make(far, capturable)
        if state:
            optimizer.load_state_dict({**state, "param_groups": optimizer.state_dict()["param_groups"]})
        steps(here, [p], rng)
        steps(optimizer, [far], rng_there)
        np.testing.assert_allclose(far.tolist(), p.tolist(), rtol=1e-5)
        counted, state = optimizer.state[far]["step"], optimizer.state_dict()
        assert int(counted) == here.state[p]["step"]
        assert isinstance(counted, nt.Tensor) == capturable
        if capturable:
            assert counted.device == "cuda:0" and counted.dtype is nt.float32 and counted.shape == ()
    beginning = nt.optim.Adam([far], capturable=True)
    beginning.state[far]["step"] = nt.tensor(3, dtype=nt.int64)  # a counter of the CPU, of another dtype
    beginning.step()
    assert beginning.state[far]["step"].item() == 4


@pytest.mark.parametrize("name", ["momentum", "amsgrad_counted"])
def test_a_graph_keeps_what_optimisers_remember(name):
    """The memory of their arrays is the graph's too: what takes the place of a dropped optimiser does not change under it."""
    x, far = nt.ones(4, requires_grad=True), nt.ones(4, device="cuda", requires_grad=True)
    x.grad, far.grad = nt.ones(4), nt.ones(4, device="cuda")
    here, there = MAKES[name]([x]), MAKES[name]([far])
    here.step()
    there.step()
    graph = nt.cuda.graph(there.step)
    there = None
    others = [nt.zeros(4, device="cuda") for _ in range(8)]
    for _ in range(2):
        here.step()
        graph()
    np.testing.assert_allclose(far.tolist(), x.tolist(), rtol=1e-5)
    assert all(y.tolist() == [0] * 4 for y in others)
