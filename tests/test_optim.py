"""Optimisers: the same numbers as PyTorch's, groups and state, and that a step is one counted write."""

import collections
import copy
import itertools

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.memory import memory_stats

SHAPES = [(3, 4), (5,), (), (37, 7)]


def train(library, make, dtype, steps=4):
    """Parameters after some steps with random gradients; one of them has none at first."""
    rng = np.random.default_rng(0)
    new = lambda x: library.tensor(x)
    params = [new(np.asarray(rng.standard_normal(s), dtype)).requires_grad_() for s in SHAPES]
    optimizer = make(library.optim, params)
    for step in range(steps):
        for k, p in enumerate(params):
            g = np.asarray(rng.standard_normal(SHAPES[k]), dtype)
            p.grad = new(g) if step or k else None
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach().numpy() for p in params]


def agree(make, dtype):
    torch = pytest.importorskip("torch")
    rtol, atol = (2e-6, 1e-6) if dtype == "f4" else (1e-14, 1e-14)
    for ours, theirs in zip(train(nt, make, dtype), train(torch, make, dtype), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol, atol)


@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sgd_as_pytorch(dtype):
    moving = [(0, 0, False), (0, 0.5, False), (0.9, 0, False), (0.9, 0.3, False), (0.9, 0, True)]
    for (momentum, dampening, nesterov), decay, maximize in itertools.product(moving, [0, 0.1], [False, True]):
        agree(lambda optim, p: optim.SGD(p, 0.1, momentum, dampening, decay, nesterov, maximize=maximize), dtype)


@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_adam_as_pytorch(dtype):
    betas = [(0.9, 0.999), (0.3, 0.5), (0.0, 0.9)]
    for name, pair, decay, amsgrad, up in itertools.product(
        ["Adam", "AdamW"], betas, [0, 0.1], [False, True], [False, True]
    ):
        agree(lambda optim, p: getattr(optim, name)(p, 0.1, pair, 1e-8, decay, amsgrad, maximize=up), dtype)


MAKES = {
    "sgd": lambda p, **k: nt.optim.SGD(p, lr=0.1, **k),
    "momentum": lambda p, **k: nt.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, **k),
    "adam": lambda p, **k: nt.optim.Adam(p, lr=0.1, **k),
    "amsgrad": lambda p, **k: nt.optim.AdamW(p, lr=0.1, amsgrad=True, **k),
}


def leaf(array):
    return nt.tensor(array).requires_grad_()


def test_any_strides():
    for make in MAKES.values():
        rng = np.random.default_rng(1)
        x, g = rng.standard_normal((2, 6, 5))
        plain = leaf(x)
        turned = nt.from_numpy(x.T.copy()).t()[:, :].requires_grad_()
        backward = nt.from_numpy(x[::-1].copy()[::-1]).requires_grad_()
        ours = [plain, turned, backward]
        optimizer = make(ours)
        for _ in range(3):
            for p, grad in zip(ours, [g, np.asfortranarray(g), g[:, ::-1].copy()[:, ::-1]], strict=True):
                p.grad = nt.from_numpy(grad)
            optimizer.step()
        np.testing.assert_array_equal(turned.detach().numpy(), plain.detach().numpy())
        np.testing.assert_array_equal(backward.detach().numpy(), plain.detach().numpy())
        constant, grown = leaf(x), leaf(x)
        constant.grad, grown.grad = nt.tensor(2.0, dtype=nt.float64).expand(6, 5), nt.tensor(np.full((6, 5), 2.0))
        make([constant, grown]).step()
        np.testing.assert_array_equal(constant.detach().numpy(), grown.detach().numpy())


def test_threads_do_not_change_the_result():
    for make in MAKES.values():
        rng = np.random.default_rng(2)
        x, g = rng.standard_normal((2, 100_003)).astype("f4")
        found, before = [], nt.get_num_threads()
        try:
            for threads in (1, 2):
                nt.set_num_threads(threads)
                p = leaf(x)
                p.grad = nt.tensor(g)
                optimizer = make([p])
                optimizer.step()
                optimizer.step()
                found.append(p.detach().numpy())
        finally:
            nt.set_num_threads(before)
        np.testing.assert_array_equal(*found)


def test_a_step_is_one_write_that_errors_name():
    for make in MAKES.values():
        w = leaf([1.0, 2.0])
        optimizer = make([w])
        w.grad = nt.tensor([1.0, 1.0])
        y = (w * w).sum()
        optimizer.step()
        assert w._version == 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as error:
            y.backward()
        text = str(error.value)
        assert text.count("test_optim.py:") == 2 and "_step" in text


def test_what_has_no_gradient_or_no_elements_stays():
    p, q, none = leaf([1.0]), leaf([2.0]), leaf(np.zeros((0, 3)))
    q.grad, none.grad = nt.tensor([1.0]), nt.zeros(0, 3, dtype=nt.float64)
    optimizer = nt.optim.Adam([p, q, none])
    optimizer.step()
    assert p.item() == 1.0 and q.item() < 2.0 and p._version == 0 and p not in optimizer.state
    low = leaf([-np.inf, 1.0])
    low.grad = nt.tensor([0.0, 1.0], dtype=low.dtype)
    nt.optim.SGD([low], lr=0.5).step()
    assert low.tolist() == [-np.inf, 0.5]


def test_groups_have_settings_of_their_own():
    p, q, r = leaf([1.0]), leaf([1.0]), leaf([1.0])
    optimizer = nt.optim.SGD([{"params": p}, {"params": [q], "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [r], "maximize": True})
    for x in (p, q, r):
        x.grad = nt.tensor([1.0])
    optimizer.step()
    np.testing.assert_allclose([p.item(), q.item(), r.item()], [0.9, 0.5, 1.1])
    optimizer.param_groups[0]["lr"] = np.float32(0.2)
    optimizer.param_groups[1]["lr"] = 1
    optimizer.param_groups[2]["lr"] = nt.tensor(0.3)
    optimizer.step()
    np.testing.assert_allclose([p.item(), q.item(), r.item()], [0.7, -0.5, 1.4], rtol=1e-6)
    assert "Parameter Group 2" in repr(optimizer) and "lr: 1" in repr(optimizer)
    named = nt.optim.Adam(nt.nn.Linear(2, 1).named_parameters())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]


def test_state_round_trip():
    for make in MAKES.values():
        grads = np.random.default_rng(3).standard_normal((6, 4)).astype("f4")

        def run(optimizer, p, some):
            for g in some:
                p.grad = nt.tensor(g)
                optimizer.step()

        p = leaf(np.ones(4, "f4"))
        optimizer = make([p])
        run(optimizer, p, grads[:3])
        q = leaf(p.detach().numpy().copy())
        other = make([q], weight_decay=0.5)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(optimizer, p, grads[3:])
        run(other, q, grads[3:])
        np.testing.assert_array_equal(q.detach().numpy(), p.detach().numpy())
        saved = optimizer.state_dict()
        assert saved["param_groups"][0]["params"] == [0] and set(saved["state"]) <= {0}


def test_loaded_state_is_a_copy_in_the_dtype_of_the_parameter():
    p, q = leaf(np.ones(2, "f4")), leaf(np.ones(2))
    p.grad, q.grad = nt.ones(2), nt.ones(2, dtype=nt.float64)
    a, b = nt.optim.Adam([p]), nt.optim.Adam([q])
    a.step()
    b.load_state_dict(a.state_dict())
    b.step()
    assert b.state[q]["exp_avg"].dtype is nt.float64 and b.state[q]["step"] == 2
    assert a.state[p]["step"] == 1
    a.state[p]["exp_avg"] = nt.zeros(3)
    with pytest.raises(RuntimeError, match="does not fit its parameter"):
        a.step()


def test_saved_state(tmp_path):
    p = leaf([1.0, 2.0])
    p.grad = nt.tensor([1.0, 1.0])
    optimizer = nt.optim.Adam([p])
    optimizer.step()
    saved = optimizer.state_dict()["state"][0]
    nt.save({"exp_avg": saved["exp_avg"]}, tmp_path / "state.nt")
    assert nt.equal(nt.load(tmp_path / "state.nt")["exp_avg"], saved["exp_avg"])


def test_closure_is_recorded():
    p = leaf([3.0])
    optimizer = nt.optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with nt.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert p.item() == pytest.approx(2.4)


def test_zero_grad():
    p, q, r = leaf([1.0]), leaf([2.0]), leaf([3.0])
    optimizer = nt.optim.SGD([p, q, r])
    (p * 2.0 + q + r).sum().backward()
    seen = q.grad
    optimizer.zero_grad()
    assert p.grad is None and q.grad is None and r.grad is None and seen.item() == 1.0
    (p * 2.0 + q).sum().backward()
    seen = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.item() == 0.0 and seen.item() == 0.0 and r.grad is None
    (p + q).sum().backward()
    live = memory_stats()["tensors"]
    optimizer.zero_grad()
    assert memory_stats()["tensors"] < live and q.grad is None
    del seen


def test_a_step_records_nothing():
    p = leaf([1.0])
    optimizer = nt.optim.Adam([p])
    grad = (p * p).sum()
    grad.backward(create_graph=True)
    optimizer.step()
    assert p.is_leaf and not optimizer.state[p]["exp_avg"].requires_grad
    p.grad = None


def test_copies():
    p = leaf([1.0])
    p.grad = nt.tensor([1.0])
    optimizer = nt.optim.SGD([p], momentum=0.9)
    optimizer.step()
    other = copy.deepcopy(optimizer)
    assert other.param_groups[0]["params"][0] is next(iter(other.state))
    assert other.param_groups[0]["params"][0].item() == p.item()


ERRORS = [
    (lambda p: nt.optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    (lambda p: nt.optim.SGD(p), TypeError, "params argument given to the optimizer should be an iterable of Tensors"),
    (lambda p: nt.optim.SGD([p * 2.0]), ValueError, "can't optimize a non-leaf Tensor"),
    (lambda p: nt.optim.SGD([1.0]), TypeError, "optimizer can only optimize Tensors, but one of the params is float"),
    (lambda p: nt.optim.SGD([{"params": {p}}]), TypeError, "need to be organized in ordered collections"),
    (lambda p: nt.optim.SGD([{"params": p}, {"params": p}]), ValueError, "some parameters appear in more than one"),
    (lambda p: nt.optim.SGD([p]).add_param_group([p]), TypeError, "param_group must be a dict, but got <class 'list'>"),
    (lambda p: nt.optim.SGD([p], lr=-1), ValueError, "Invalid learning rate: -1"),
    (lambda p: nt.optim.SGD([p], momentum=-1.0), ValueError, "Invalid momentum value: -1.0"),
    (lambda p: nt.optim.SGD([p], weight_decay=-1.0), ValueError, "Invalid weight_decay value: -1.0"),
    (
        lambda p: nt.optim.SGD([p], nesterov=True),
        ValueError,
        "Nesterov momentum requires a momentum and zero dampening",
    ),
    (lambda p: nt.optim.Adam([p], eps=-1.0), ValueError, "Invalid epsilon value: -1.0"),
    (lambda p: nt.optim.Adam([p], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    (lambda p: nt.optim.Adam([p], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
    (lambda p: nt.optim.Adam([p], fused=True, foreach=True), RuntimeError, "cannot be `True` together"),
    (lambda p: nt.optim.Adam([p], differentiable=True), NotImplementedError, "a step is not recorded"),
    (lambda p: nt.optim.Optimizer([p], {}).step(), NotImplementedError, "step"),
]


def test_misuse():
    for wrong, kind, text in ERRORS:
        with pytest.raises(kind, match=text):
            wrong(leaf([1.0]))


def test_wrong_settings_while_running():
    p = leaf([1.0])
    p.grad = nt.tensor([1.0])
    optimizer = nt.optim.Adam([p])
    for key, value, kind in (("lr", "fast", TypeError), ("betas", (0.9,), IndexError), ("params", [1], TypeError)):
        broken = copy.copy(optimizer)
        broken.param_groups = [{**optimizer.param_groups[0], key: value}]
        with pytest.raises(kind):
            broken.step()
    del optimizer.param_groups[0]["eps"]
    with pytest.raises(KeyError, match="eps"):
        optimizer.step()
    assert p.item() == 1.0
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]})
    with pytest.warns(UserWarning, match="duplicate parameters"):
        nt.optim.SGD([p, p])
    assert isinstance(optimizer.state, collections.defaultdict)
