"""Checkpoints: gradients equal to the last bit, less memory, random numbers replayed, errors."""

import pytest

import numbatensor as nt
from numbatensor.memory import memory_stats
from numbatensor.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential, set_checkpoint_early_stop


def layers(n=8):
    parts = [nt.nn.Sequential(nt.nn.Linear(32, 32), nt.nn.Tanh(), nt.nn.Dropout(0.3)) for _ in range(n)]
    return nt.nn.Sequential(*parts)


def gradients(model, run, x):
    """Bytes that live after the forward pass, and all gradients."""
    nt.manual_seed(3)
    before = memory_stats()["bytes"]
    out = run(x)
    held = memory_stats()["bytes"] - before
    return held, nt.autograd.grad(out.square().sum(), [x, *model.parameters()])


@pytest.mark.parametrize("segments", [1, 2, 4, 8])
def test_segments_give_the_same_gradients_in_less_memory(segments):
    model, x = layers(), nt.randn(512, 32, requires_grad=True)
    plain, expected = gradients(model, model, x)
    held, found = gradients(model, lambda x: checkpoint_sequential(model, segments, x), x)
    assert all(nt.equal(a, b) for a, b in zip(expected, found, strict=True))
    if segments > 1:
        assert held < plain


def test_the_whole_model_keeps_its_input_only():
    model, x = layers(), nt.randn(512, 32, requires_grad=True)
    plain, expected = gradients(model, model, x)
    held, found = gradients(model, lambda x: checkpoint(model, x), x)
    assert all(nt.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert held < plain / 6


def test_random_numbers_are_replayed_and_the_generator_goes_on_as_without():
    x = nt.ones(100, requires_grad=True)
    drop = lambda x: nt.nn.functional.dropout(x, 0.5) * nt.rand(100)
    nt.manual_seed(1)
    out = checkpoint(drop, x)
    (found,) = nt.autograd.grad(out.sum(), x)
    after = nt.rand(1)
    nt.manual_seed(1)
    expected = drop(x)
    assert nt.equal(out, expected) and nt.equal(found, out.detach()) and nt.equal(after, nt.rand(1))


def test_higher_derivatives_and_a_second_pass():
    f = lambda x: (x.sin() * x).exp()
    x = nt.tensor([0.5, -1.0], dtype=nt.float64, requires_grad=True)
    assert nt.autograd.gradcheck(lambda x: checkpoint(f, x), x)
    assert nt.autograd.gradgradcheck(lambda x: checkpoint(f, x), x)
    out = checkpoint(f, x).sum()
    first, second = (nt.autograd.grad(out, x, retain_graph=True)[0] for _ in range(2))
    assert nt.equal(first, second)


def test_nested():
    f = lambda x: checkpoint(lambda y: (y * y).tanh(), x.exp()) * x
    x = nt.tensor([0.5, -1.0], dtype=nt.float64, requires_grad=True)
    assert nt.autograd.gradcheck(lambda x: checkpoint(f, x), x)


@pytest.mark.parametrize("stop", [True, False])
def test_early_stop(stop):
    calls = []

    def f(x):
        made = x.exp() * x
        calls.append(1)  # comes after what is saved
        return made

    x = nt.ones(3, requires_grad=True)
    with set_checkpoint_early_stop(stop):
        out = checkpoint(f, x)
    out.sum().backward()
    assert len(calls) == (1 if stop else 2)


@pytest.mark.parametrize("where", ["argument", "closure", "module"])
def test_what_the_function_uses_must_not_be_written(where):
    x, w, layer = nt.ones(3, requires_grad=True), nt.ones(3), nt.nn.Linear(3, 3)
    run = {"argument": lambda: checkpoint(lambda a, b: a * b, x, w), "closure": lambda: checkpoint(lambda a: a * w, x)}
    out = run.get(where, lambda: checkpoint(layer, x))()
    with nt.no_grad():
        (layer.weight if where == "module" else w).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    assert x.grad is None


def test_a_function_that_does_something_else():
    runs = []

    def f(x):
        runs.append(1)
        return x.exp().exp() if len(runs) == 1 else x.exp()

    x = nt.ones(3, requires_grad=True)
    with pytest.raises(CheckpointError, match="different number of tensors"):
        checkpoint(f, x).sum().backward()

    def g(x):
        runs.append(1)
        return (x if len(runs) % 2 else x[:2]).exp().sum()

    runs.clear()
    with pytest.raises(CheckpointError, match="position 0"):
        checkpoint(g, x).backward()
    assert x.grad is None


def test_an_error_in_the_second_run_leaves_all_as_it_was():
    runs = []

    def f(x):
        runs.append(1)
        if len(runs) > 1:
            raise KeyError("second")
        return x.exp()

    x = nt.ones(3, requires_grad=True)
    state = nt.get_rng_state()
    with pytest.raises(KeyError, match="second"):
        checkpoint(f, x).sum().backward()
    assert x.grad is None and nt.equal(state, nt.get_rng_state()) and nt.is_grad_enabled() is True
    x.exp().sum().backward()
    assert x.grad is not None


def test_contexts_and_no_grad():
    entered = []

    class Noted:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *error):
            pass

    x = nt.ones(3, requires_grad=True)
    checkpoint(nt.exp, x, context_fn=lambda: (Noted("first"), Noted("second"))).sum().backward()
    assert entered == ["first", "second"]
    with nt.no_grad():
        assert not checkpoint(nt.exp, x).requires_grad
    with pytest.raises(ValueError, match="use_reentrant"):
        checkpoint(nt.exp, x, use_reentrant=True)
