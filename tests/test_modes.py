"""Modes as context managers, decorators and of threads; inference mode, whose texts are PyTorch's."""

import threading

import pytest

import numbatensor as nt

WRITE = "Inplace update to inference tensor outside InferenceMode is not allowed"
SAVE = "Inference tensors cannot be saved for backward"


def ones(*size, grad=False):
    return nt.ones(*size, requires_grad=grad)


@pytest.mark.parametrize("given", [lambda mode: mode, lambda mode: mode()], ids=["bare", "called"])
def test_decorators(given):
    @given(nt.no_grad)
    def quiet():
        """Words."""
        return nt.is_grad_enabled()

    @given(nt.enable_grad)
    def loud():
        return nt.is_grad_enabled()

    @given(nt.inference_mode)
    def inference():
        return nt.is_inference_mode_enabled(), nt.is_grad_enabled(), loud()

    assert not quiet() and loud() and inference() == (True, False, True)
    assert quiet.__name__ == "quiet" and quiet.__doc__ == "Words."
    with nt.no_grad():
        assert loud() and not nt.is_grad_enabled()
    assert nt.is_grad_enabled() and not nt.is_inference_mode_enabled()


def test_set_grad_enabled():
    before = nt.set_grad_enabled(False)
    assert not nt.is_grad_enabled() and repr(before).endswith("set_grad_enabled(mode=False)")
    nt.set_grad_enabled(True)
    with nt.set_grad_enabled(False):
        assert not nt.is_grad_enabled()
        with nt.set_grad_enabled(True):
            assert nt.is_grad_enabled()
        assert not nt.is_grad_enabled()
    assert nt.is_grad_enabled()

    @nt.set_grad_enabled(False)
    def quiet():
        return nt.is_grad_enabled()

    assert nt.is_grad_enabled() and not quiet()
    with pytest.raises(TypeError, match="must be bool, not function"):
        nt.set_grad_enabled(quiet)
    assert nt.is_grad_enabled()


@pytest.mark.parametrize("mode", [nt.no_grad, nt.no_grad(), nt.inference_mode(), nt.set_grad_enabled], ids=str)
def test_generators_run_in_the_mode_and_leave_it_between(mode):
    log = []

    @mode(False) if mode is nt.set_grad_enabled else mode
    def steps(n):
        try:
            for k in range(n):
                try:
                    got = yield k, nt.is_grad_enabled()
                except ValueError:
                    got = "error"
                log.append((got, nt.is_grad_enabled()))
            return nt.is_grad_enabled()
        finally:
            log.append(("closed", nt.is_grad_enabled()))

    run = steps(3)
    assert next(run) == (0, False) and nt.is_grad_enabled()
    assert run.send("sent") == (1, False) and nt.is_grad_enabled()
    assert run.throw(ValueError()) == (2, False) and nt.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        next(run)
    assert end.value.value is False and nt.is_grad_enabled()
    assert log == [("sent", False), ("error", False), (None, False), ("closed", False)]
    run = steps(1)
    next(run)
    run.close()
    assert log[-1] == ("closed", False) and nt.is_grad_enabled()
    run = steps(1)
    next(run)
    with pytest.raises(KeyError):
        run.throw(KeyError())
    assert nt.is_grad_enabled()


def test_errors_leave_the_mode():
    @nt.inference_mode
    def broken():
        raise ValueError

    with pytest.raises(ValueError):
        broken()
    with pytest.raises(ValueError), nt.no_grad(), nt.inference_mode():
        raise ValueError
    assert nt.is_grad_enabled() and not nt.is_inference_mode_enabled()


def test_modes_are_of_a_thread():
    found = []

    def look():
        found.append((nt.is_grad_enabled(), nt.is_inference_mode_enabled(), ones(1).is_inference()))

    with nt.inference_mode():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert found == [(True, False, False)]


def test_inference_mode_off_and_on():
    with nt.no_grad(), nt.inference_mode(False):
        assert nt.is_grad_enabled()
    with nt.inference_mode():
        x = ones(2, grad=True)
        assert not nt.is_grad_enabled() and x.is_inference() and x.requires_grad
        with nt.enable_grad():
            assert nt.is_grad_enabled() and not (x * 2).requires_grad
        with nt.inference_mode(False):
            assert nt.is_grad_enabled() and not nt.is_inference_mode_enabled()
            assert not ones(2).is_inference() and (x + 1).requires_grad
        assert not nt.is_grad_enabled() and nt.is_inference_mode_enabled()


@pytest.fixture
def inference():
    with nt.inference_mode():
        return nt.tensor([1.0, 2.0, 3.0])


def test_inference_tensors_outside(inference):
    x = inference
    assert x.is_inference() and x[1:].is_inference() and x.detach().is_inference() and x.data.is_inference()
    assert not x.clone().is_inference() and not (x + 1).is_inference() and not x.requires_grad_(False).requires_grad
    with pytest.raises(RuntimeError, match=r"Inference tensors do not track version counter\."):
        assert x._version
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor outside InferenceMode"):
        x.requires_grad_()
    with nt.inference_mode():
        assert x.requires_grad_().requires_grad and x.add_(1.0) is x


WRITES = {
    "add_": lambda x: x.add_(1.0),
    "mul_": lambda x: x.mul_(ones(3, grad=True)),
    "view": lambda x: x[1:].exp_(),
    "setitem": lambda x: x.__setitem__(0, 1.0),
    "index": lambda x: x.__setitem__([0], 1.0),
    "copy_": lambda x: x.copy_(ones(3)),
    "fill_": lambda x: x.fill_(1.0),
    "normal_": lambda x: x.normal_(),
    "cumsum_": lambda x: x.cumsum_(0),
    "out": lambda x: nt.add(ones(3), 1.0, out=x),
    "sum out": lambda x: nt.sum(ones(2, 3), 0, out=x),
    "unsqueeze_": lambda x: x.unsqueeze_(0),
    "resize_": lambda x: x.resize_(2),
    "resize_ larger": lambda x: x.resize_(7),
    "set_": lambda x: x.set_(),
}


@pytest.mark.parametrize("write", WRITES)
def test_inference_tensors_are_not_written_outside(inference, write):
    for mode in (nt.enable_grad, nt.no_grad):
        with mode(), pytest.raises(RuntimeError, match=WRITE):
            WRITES[write](inference)
    assert inference.tolist() == [1.0, 2.0, 3.0] and inference.shape == (3,)
    with nt.inference_mode():
        WRITES[write](inference)


def test_an_optimizer_does_not_step_on_them():
    with nt.inference_mode():
        p = ones(3, grad=True)
    p.sum().backward()
    with pytest.raises(RuntimeError, match=WRITE):
        nt.optim.SGD([p], lr=0.1).step()
    assert p.tolist() == [1.0] * 3


SAVING = {
    "mul": lambda w, x: w * x,
    "matmul": lambda w, x: nt.stack([w, w]) @ x,
    "div": lambda w, x: w / x,
    "where": lambda w, x: nt.where(x > 0, w, x * w),
    "conv": lambda w, x: w.clone().mul_(x),
    "atan2_": lambda w, x: w.clone().atan2_(x),
}


@pytest.mark.parametrize("op", SAVING)
def test_inference_tensors_are_not_saved(inference, op):
    before = nt.memory_stats()["nodes"]
    for _ in range(3):
        with pytest.raises(RuntimeError, match=SAVE):
            SAVING[op](ones(3, grad=True), inference)
    assert nt.memory_stats()["nodes"] <= before
    SAVING[op](ones(3), inference)


def test_nothing_is_written_where_the_save_is_refused(inference):
    y = ones(3, grad=True) * 2.0
    with pytest.raises(RuntimeError, match=SAVE):
        y.mul_(inference)
    assert y.tolist() == [2.0] * 3 and y._version == 0


def test_inference_tensors_where_nothing_is_saved(inference):
    w = ones(3, grad=True)
    ((w + inference) + nt.cat([w, inference])[:3]).sum().backward()
    assert w.grad.tolist() == [2.0] * 3
    x = nt.zeros(3)
    assert x.copy_(inference).add_(inference)._version == 2


def test_normal_tensors_inside():
    w, x, out = ones(3, grad=True), ones(3), ones(3)
    y = w * 1.0
    with nt.inference_mode():
        view = x[1:]
        x.add_(1.0)
        view.mul_(2.0)
        nt.add(x, x, out=out)
        y.mul_(2.0)
        w.add_(1.0)
        assert not view.is_inference() and view._version == 2
    assert x.tolist() == [2.0, 4.0, 4.0] and x._version == 2 and out._version == 1 and not out.is_inference()
    assert y._version == 1 and y.grad_fn.name() == "MulBackward0" and w._version == 1
    assert view.add_(1.0)._version == 3


MADE_IN = "A view was created in inference mode and is being modified inplace in normal mode. Given that"


def test_views_made_inside():
    w = ones(3, grad=True)
    x = w * 1.0
    with nt.inference_mode():
        view, parts, free = x[1:], x.unbind(0), ones(3)[:2]
        with nt.enable_grad():
            also = x[1:]
    for v in (view, parts[1], also):
        with pytest.raises(RuntimeError, match=MADE_IN):
            v.add_(1.0)
    with pytest.raises(
        RuntimeError, match="Output 0 of Slice is a view of a view which was created in inference mode and"
    ):
        view[1:].add_(1.0)
    with nt.no_grad():
        view.add_(1.0)
    with nt.inference_mode(False), pytest.raises(RuntimeError, match=MADE_IN):
        view.add_(1.0)
    with nt.inference_mode():
        free.add_(1.0)
    assert x.tolist() == [1.0, 2.0, 2.0]


def test_a_view_of_what_is_recorded_later():
    x = ones(3)
    with nt.inference_mode():
        view = x[1:]
    with pytest.raises(RuntimeError, match=MADE_IN):
        view.mul_(ones(2, grad=True))
    x.mul_(ones(3, grad=True))
    for use in (lambda: view * 2.0, lambda: nt.cat([view, view]), lambda: view.sum().backward()):
        with pytest.raises(
            RuntimeError, match="its base or another view of its base has been modified inplace in norm"
        ):
            use()
    assert view.tolist() == [1.0, 1.0] and not view.requires_grad
