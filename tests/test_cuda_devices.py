"""Devices as programs see them: streams, several devices, memory, errors and graphs."""

import functools
import gc
import threading

import numba
import numpy as np
import pytest

import numbatensor as nt
from numbatensor.autograd import VersionError
from numbatensor.memory import memory_stats
from tests.device import of_the_emulator, of_two_devices, open_device


@pytest.fixture(autouse=True, scope="module")
def emulated():
    open_device(devices=2)


@pytest.fixture(autouse=True)
def memory_comes_back():
    gc.collect()
    memory_stats()  # drops what waits to be dropped
    before = [nt.cuda.memory_allocated(k) for k in range(nt.cuda.device_count())]
    yield
    gc.collect()
    memory_stats()
    assert [nt.cuda.memory_allocated(k) for k in range(nt.cuda.device_count())] == before
    assert getattr(nt.cuda.runtime.backend, "refused", []) == []  # nothing that the driver would refuse


@of_the_emulator
def test_what_there_is():
    assert nt.cuda.is_available() and nt.cuda.why_not() is None and nt.cuda.device_count() == 2
    assert nt.cuda.get_device_name() == "block emulator" and nt.cuda.get_device_capability() == (9, 0)
    assert nt.cuda.get_device_properties(1).multi_processor_count == 4
    with pytest.raises(RuntimeError, match="there is no CUDA device 2: there are 2"):
        nt.ones(3, device="cuda:2")


@of_two_devices
def test_the_current_device():
    assert nt.cuda.current_device() == 0
    with nt.cuda.device(1):
        assert nt.cuda.current_device() == 1 and nt.ones(2, device="cuda").device == "cuda:1"
        with nt.cuda.device("cuda:0"):
            assert nt.ones(2, device="cuda").device == "cuda:0"
        assert nt.ones(2).cuda().device == "cuda:1"
    nt.cuda.set_device(1)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(nt.cuda.current_device()))
    thread.start()
    thread.join()
    assert seen == [0] and nt.ones(2, device="cuda").device == "cuda:1"
    nt.cuda.set_device("cuda:0")


@of_two_devices
def test_devices_do_not_mix():
    x, y = nt.ones(3, device="cuda:0"), nt.ones(3, device="cuda:1")
    for f in (
        lambda: x + y,
        lambda: x.add_(y),
        lambda: nt.cat([x, y]),
        lambda: nt.where(x > 0, x, y),
        lambda: x + nt.ones(3),
    ):
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            f()
    assert (x + nt.tensor(2.0)).tolist() == [3, 3, 3]  # one element of the CPU may
    assert x.tolist() == [1, 1, 1]


@of_two_devices
def test_copies_and_gradients_cross_devices():
    x = nt.tensor([1.0, 2.0, 3.0], device="cuda:0", requires_grad=True)
    y = (x * x).to("cuda:1")
    z = (y * nt.ones(3, device="cuda:1")).cpu().sum()
    z.backward()
    assert y.device == "cuda:1" and x.grad.device == "cuda:0" and x.grad.tolist() == [2, 4, 6]
    a = nt.zeros(3, device="cuda:1")
    a.copy_(x.detach())
    assert a.tolist() == [1, 2, 3]
    with pytest.raises(RuntimeError, match="a gradient on"):
        nt.autograd.grad(y, x, nt.ones(3, device="cuda:0"))


def test_modules_move():
    """With their buffers of any dtype, and with gradients; parameters stay the objects that they are, and learn where they are now."""
    nt.manual_seed(0)
    m = nt.nn.Sequential(nt.nn.Linear(3, 4), nt.nn.LayerNorm(4))
    m.register_buffer("seen", nt.arange(3))
    x, w = nt.ones(2, 3), nt.arange(4.0)  # the gradient of what is only summed would be what rounding left of 0
    (m(x) * w).sum().backward()
    params, grads = list(m.parameters()), [p.grad.tolist() for p in m.parameters()]
    assert m.to("cuda") is m and all(a is b for a, b in zip(params, m.parameters(), strict=True))
    assert m.seen.device == "cuda:0" and m.seen.dtype is nt.int64
    assert [p.grad.tolist() for p in params] == grads and all(p.grad.device == p.device == "cuda:0" for p in params)
    (m(x.to("cuda")) * w.to("cuda")).sum().backward()
    np.testing.assert_allclose(params[0].grad.tolist(), 2 * np.array(grads[0]), rtol=1e-4, atol=1e-6)
    m.to("cpu", nt.float64)
    assert m(x.double()).dtype is nt.float64 and m.seen.dtype is nt.int64 and params[0].grad.dtype is nt.float64
    assert m.cuda().cpu() is m


def test_what_is_printed_says_where():
    x = nt.ones(2, device="cuda", dtype=nt.float64, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], device='cuda:0', dtype=numbatensor.float64, requires_grad=True)"
    assert repr(nt.zeros(2, 0, device="cuda")) == "tensor([], device='cuda:0', size=(2, 0))"
    assert repr(x.cpu().detach().float()) == "tensor([1., 1.])"


@of_two_devices
def test_streams():
    s, t = nt.cuda.Stream(), nt.cuda.Stream(device="cuda:1")
    assert s.device == "cuda:0" and t.device == "cuda:1" and s != t and s == s and len({s, t, s}) == 2
    with nt.cuda.stream(s):
        assert nt.cuda.current_stream() == s and nt.cuda.current_stream("cuda:1") == nt.cuda.default_stream("cuda:1")
        with nt.cuda.stream(t):
            assert nt.cuda.current_device() == 1 and nt.cuda.current_stream("cuda:0") == s
            y = nt.ones(3, device="cuda") * 2
        x = nt.ones(3, device="cuda", requires_grad=True)
        (x * x).sum().backward()
    nt.cuda.current_stream().wait_stream(s)
    assert y.device == "cuda:1" and x.grad.tolist() == [2, 2, 2]
    with pytest.raises(ZeroDivisionError), nt.cuda.stream(s):
        1 / 0  # noqa: B018
    assert nt.cuda.current_stream() == nt.cuda.default_stream() and nt.cuda.current_device() == 0
    e = nt.cuda.Event(enable_timing=True)
    assert e.query()
    e.record(s)
    s.synchronize()
    assert s.query() and e.query() and e.elapsed_time(e) == 0
    with pytest.raises(ValueError, match="enable_timing"):
        e.elapsed_time(nt.cuda.Event())
    with pytest.raises(RuntimeError, match="the event is one of cuda:0"):
        e.record(t)
    x.detach().record_stream(s)
    with pytest.raises(ValueError, match="the stream is one of cuda:1"):
        x.record_stream(t)
    assert len({nt.cuda.Stream() for _ in range(100)}) == 31


def test_memory_is_told():
    nt.cuda.reset_peak_memory_stats()
    before = nt.cuda.memory_allocated()
    x = nt.empty(1000, device="cuda")
    del x
    assert nt.cuda.memory_allocated() == before and nt.cuda.max_memory_allocated() >= before + 4000
    assert nt.cuda.memory_reserved() > 0 and "cuda:0" in nt.cuda.memory_summary() and "cuda" in nt.memory_summary()
    nt.cuda.empty_cache()


def test_more_than_there_is():
    with pytest.raises(MemoryError, match="CUDA out of memory: 4,000,000,000,000 bytes were asked for"):
        nt.empty(10**12, device="cuda")
    assert nt.ones(3, device="cuda").tolist() == [1, 1, 1]


@of_the_emulator
def test_out_of_memory():
    backend = nt.cuda.runtime.backend
    x = nt.ones(100, device="cuda")
    backend.limit = sum(backend.blocks.values()) + 1000
    try:
        with pytest.raises(
            MemoryError, match="CUDA out of memory: 400,000 bytes were asked for; on cuda:0 tensors take"
        ):
            nt.empty(100_000, device="cuda")
        with pytest.raises(MemoryError):
            nt.cat([x] * 1000)
    finally:
        backend.limit = None
    assert (x + x).sum().item() == 200


@of_the_emulator
def test_contexts_that_other_libraries_choose():
    """One of another device, or none, as after Numba's `with cuda.gpus[0]`: the default stream belongs to the current one."""
    here = nt.cuda.runtime.backend.here
    for context in (0, 2):
        x = nt.ones(100, device="cuda:0")
        here.context = context
        assert (x + x).sum().item() == 200
        here.context = context
        assert x.to("cuda:1").tolist() == x.tolist()
        here.context = context
        nt.cuda.synchronize()
        here.context = context
        del x
        gc.collect()
        assert here.context == context  # memory that goes leaves it as it was


def test_threads():
    x = nt.arange(64.0, device="cuda")
    (x * 2 + x).sum()  # loaded before threads start
    found = []

    def work(k):
        with nt.cuda.stream(nt.cuda.Stream()):
            for _ in range(5):
                y = x * k + x
            found.append((k, y.tolist()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(found) == [(k, [float(i * (k + 1)) for i in range(64)]) for k in range(4)]


# graphs


def test_a_graph_does_it_again():
    x, w = nt.ones(4, device="cuda"), nt.ones(4, device="cuda", requires_grad=True)

    def step():
        w.grad = None
        loss = (w * x).sin() * 2
        loss.backward(nt.ones(4, device="cuda"))
        with nt.no_grad():
            w.sub_(w.grad * 0.5)
        return loss

    g = nt.cuda.graph(step)
    assert w.tolist() == [1, 1, 1, 1]  # nothing was done
    expected = np.ones(4, np.float32)
    for k in range(3):
        data = np.linspace(0.1, 1, 4, dtype=np.float32) + k
        x.copy_(nt.tensor(data))
        loss = g()
        np.testing.assert_allclose(loss.tolist(), 2 * np.sin(expected * data), rtol=1e-5)
        expected -= data * np.cos(expected * data)
        np.testing.assert_allclose(w.tolist(), expected, rtol=1e-5)


def test_a_graph_owns_its_memory():
    x = nt.ones(4, device="cuda")
    g = nt.cuda.graph(lambda: x * 2)
    x = None
    others = [nt.zeros(4, device="cuda") for _ in range(8)]
    y = g()
    assert y.tolist() == [2, 2, 2, 2]
    del g
    gc.collect()
    assert y.tolist() == [2, 2, 2, 2] and others[0].tolist() == [0, 0, 0, 0]


@of_the_emulator
def test_graphs_that_end_while_another_is_captured():
    """Nothing waits for the stream that is captured."""
    backend = nt.cuda.runtime.backend
    x = nt.ones(4, device="cuda")
    graphs = [nt.cuda.graph(lambda: x * 2)]
    graphs[0]()

    def step():
        graphs.clear()
        gc.collect()
        return x * 3

    assert nt.cuda.graph(step)().tolist() == [3, 3, 3, 3]
    backend.limit = sum(backend.blocks.values()) + 1000
    try:
        with pytest.raises(MemoryError):
            nt.cuda.graph(lambda: nt.cat([x] * 1000))
    finally:
        backend.limit = None


def test_a_replay_counts_as_a_write():
    x, w = nt.ones(4, device="cuda"), nt.ones(4, device="cuda", requires_grad=True)
    g = nt.cuda.graph(lambda: x.add_(1) * 2)
    y = (w * x).sum()
    g()
    with pytest.raises(VersionError):
        y.backward()


@functools.cache
def far_one():
    return nt.ones(4, device="cuda:1")


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda x: x[0].item(), "a copy between the CPU and the device"),
        (lambda x: x.cpu(), "a copy between the CPU and the device"),
        (lambda x: x + nt.tensor([1.0, 2.0, 3.0, 4.0]).to("cuda"), "a copy between the CPU and the device"),
        (lambda x: nt.cuda.synchronize(), "waiting for the device"),
        (lambda x: nt.cuda.graph(lambda: x + 1), "is being captured"),
        (lambda x: nt.cuda.Stream().synchronize(), "work of another stream"),
        (lambda x: nt.cuda.empty_cache(), "work of another stream"),
        pytest.param(lambda x: far_one().add_(1), "cannot hold work of cuda:1", marks=of_two_devices),
        pytest.param(lambda x: nt.ones(3, device="cuda:1") * 2, "cannot hold work of cuda:1", marks=of_two_devices),
    ],
)
def test_what_a_graph_cannot_hold(f, why):
    x = nt.ones(4, device="cuda")
    if nt.cuda.device_count() > 1:
        far_one()
    with pytest.raises(RuntimeError, match=why):
        nt.cuda.graph(lambda: f(x))
    far_one.cache_clear()
    assert (x + 1).tolist() == [2, 2, 2, 2]  # what came before goes on
    assert nt.cuda.graph(lambda: x + 1)().tolist() == [2, 2, 2, 2]


def test_a_graph_of_a_classifier():
    """It cannot wait for whether targets are classes: one that is none makes NaN, and nothing else is touched."""
    x, target = nt.linspace(-1, 1, 6).view(2, 3).to("cuda").requires_grad_(), nt.tensor([2, 0]).to("cuda")

    def step():
        x.grad = None
        loss = nt.nn.functional.cross_entropy(x, target)
        loss.backward()
        return loss, x.grad

    expected = [t.tolist() for t in step()]
    graph = nt.cuda.graph(step)
    loss, grad = graph()
    assert [loss.tolist(), grad.tolist()] == expected
    for wrong in (3, -1):
        target.copy_(nt.tensor([2, wrong]))
        loss, grad = graph()
        assert np.isnan(loss.tolist()) and np.isnan(grad.tolist()).all()  # the mean's weight is NaN too
        with pytest.raises(IndexError):
            step()
    target.copy_(nt.tensor([2, 0]))
    assert graph()[0].tolist() == expected[0]


def test_a_graph_of_picked_rows():
    """Their gradients, too: the rows are those that the indices name when it is called."""
    table, index = nt.arange(6.0).view(3, 2).to("cuda").requires_grad_(), nt.tensor([2, 0, 2]).to("cuda")

    def step():
        table.grad = None
        rows = nt.nn.functional.embedding(index, table)
        (rows * rows).sum().backward()
        return table.grad, table.detach().gather(0, index[:1].view(1, 1))

    graph = nt.cuda.graph(step)
    for values in ([2, 0, 2], [1, 1, 1], [0, 1, 2]):
        index.copy_(nt.tensor(values))
        assert [t.tolist() for t in graph()] == [t.tolist() for t in step()]
    index.copy_(nt.tensor([0, 3, 1]))
    with pytest.raises(IndexError):
        step()


@of_the_emulator  # a GPU cannot be used by this process afterwards
def test_an_index_out_of_bounds_stops_a_graph():
    x, index = nt.arange(3.0).to("cuda"), nt.tensor([0, 1]).to("cuda")
    graph = nt.cuda.graph(lambda: x[index])
    assert graph().tolist() == [0, 1]
    index.fill_(3)
    with pytest.raises(IndexError, match="out of bounds"):
        graph()


def test_an_error_in_a_captured_function():
    x = nt.ones(4, device="cuda")

    def broken():
        x.add_(1)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        nt.cuda.graph(broken)
    assert x.tolist() == [1, 1, 1, 1]


OPTIMISERS = {
    "sgd": lambda p: nt.optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: nt.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "nesterov": lambda p: nt.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "adam": lambda p: nt.optim.Adam(p, lr=0.1, weight_decay=0.01, capturable=True),
    "amsgrad": lambda p: nt.optim.Adam(p, lr=0.1, amsgrad=True, capturable=True),
    "adamw": lambda p: nt.optim.AdamW(p, lr=0.1, capturable=True),
}


def training(optimiser, device):
    """A parameter, a step of training it, and what the step reads."""
    w, x = nt.linspace(0.5, 2, 4).to(device).requires_grad_(), nt.ones(4, device=device)
    optimiser = optimiser([w])

    def step():
        optimiser.zero_grad()
        loss = (w * x).sin() * w
        loss.backward(nt.ones(4, device=device))
        optimiser.step()
        return loss

    return w, step, x


def test_adam_that_counts_on_the_cpu_is_not_captured():
    _, step, _ = training(lambda p: nt.optim.Adam(p, lr=0.1), "cuda")
    step()
    with pytest.raises(RuntimeError, match="capturable=True"):
        nt.cuda.graph(step)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name):
    w, step, x = training(OPTIMISERS[name], "cpu")
    far, step_there, x_there = training(OPTIMISERS[name], "cuda")
    if name != "sgd":
        with pytest.raises(RuntimeError, match="an optimiser's first step"):
            nt.cuda.graph(step_there)
    for _ in range(3):
        step()
        step_there()
        np.testing.assert_allclose(far.tolist(), w.tolist(), rtol=1e-5)
    captured = nt.cuda.graph(step_there)
    for k in range(3):
        for t in (x, x_there):
            t.fill_(1.0 + k)
        step()
        captured()
        np.testing.assert_allclose(far.tolist(), w.tolist(), rtol=1e-4)


def test_autocast_of_devices():
    """The half type for products, float32 for what loses too much in 16 bits, the widest where arguments differ."""
    x, host = nt.ones(2, 2, device="cuda", requires_grad=True), nt.ones(2, 2)
    h = x.detach().half()
    with nt.autocast("cuda"):
        assert (x @ x).dtype is nt.float16 and (host @ host).dtype is nt.float32
        full = [h.exp(), h.log(), h.pow(2), h.sum(), h.softmax(0), h.norm(), nt.nn.functional.layer_norm(h, (2,))]
        assert {y.dtype for y in full} == {nt.float32}
        assert nt.addcmul(h, x, h).dtype is nt.float32 and nt.addcmul(h, h, h).dtype is nt.float16
        assert (h + h).dtype is h.tanh().dtype is nt.float16
        loss = nt.nn.functional.mse_loss(x @ x, h)
    with nt.autocast("cuda", nt.bfloat16):
        assert (x @ x).dtype is nt.bfloat16
    loss.backward()
    assert loss.dtype is x.grad.dtype is nt.float32 and x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    x.grad = None


def test_scaled_gradients_on_a_device():
    w = nt.ones(3, device="cuda", requires_grad=True)
    optimizer, scaler = nt.optim.SGD([w], lr=1.0), nt.amp.GradScaler(init_scale=2.0**10)
    for bad in (1.0, float("inf")):
        optimizer.zero_grad()
        scaler.scale((w * bad).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert w.tolist() == [0.0] * 3 and scaler.get_scale() == 2.0**9
    w.grad = None


def test_users_scalar_functions_take_a_detour():
    """Their numbers are taught to the compiler for the CPU alone."""

    @nt.pointwise
    def f(x, y):
        return x * x * y + 2.0

    rng = np.random.default_rng(0)
    x, y = (nt.tensor(rng.random((3, 4)), dtype=nt.float32).to("cuda").requires_grad_() for _ in range(2))
    z = f(x, y[0])
    z.sum().backward()
    a, b = (t.detach().cpu().requires_grad_() for t in (x, y))
    f(a, b[0]).sum().backward()
    assert z.device == "cuda:0" and np.allclose(z.detach().cpu().numpy(), f(a, b[0]).detach().numpy())
    assert np.allclose(x.grad.cpu().numpy(), a.grad.numpy()) and np.allclose(y.grad.cpu().numpy(), b.grad.numpy())
    assert f(x.detach()[0], 2.0).device == "cuda:0"
    (gx,) = nt.autograd.grad(f(x, y[0]).sum(), x, create_graph=True)
    assert gx.device == "cuda:0" and gx.requires_grad
    del z, gx
    x.grad = y.grad = a.grad = b.grad = None


def test_single_elements_in_compiled_code():
    @numba.njit
    def total(x):
        s = x.sum()
        return s.item() + float(x[0]) if s > 1.0 else -1.0

    for dtype in (nt.float32, nt.float64, nt.bfloat16, nt.int32):
        assert total(nt.tensor([1, 2, 3], dtype=dtype).to("cuda")) == 7.0
    assert total(nt.zeros(2, device="cuda:1")) == -1.0
