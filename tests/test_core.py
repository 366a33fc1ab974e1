"""The core end to end: values, gradients, identity, garbage collection, threads, forks and the disk cache."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.memory import memory_stats


def test_add_mul_tanh_sum_backward():
    x, y = np.array([1.0, 2.0, 3.0], "f4"), np.array([0.5, -1.0, 2.0], "f4")
    a, b = nt.tensor(x, requires_grad=True), nt.tensor(y)
    ((a * b).tanh() + a).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), (1 - np.tanh(x * y) ** 2) * y + 1, rtol=1e-6)


def test_matmul_and_view_gradients():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    a, b = nt.tensor(x, requires_grad=True), nt.tensor(w, requires_grad=True)
    (a @ b.t()).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.ones((3, 2)) @ w)
    np.testing.assert_allclose(b.grad.numpy(), (x.T @ np.ones((3, 2))).T)


def test_broadcasting_is_undone():
    a, b = nt.tensor(np.ones((3, 4)), requires_grad=True), nt.tensor(np.ones(4), requires_grad=True)
    (a * b).sum().backward()
    assert b.grad.shape == (4,)
    np.testing.assert_array_equal(b.grad.numpy(), np.full(4, 3.0))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (5, 4, 3)])
def test_any_strides(shape):
    x = np.random.default_rng(1).standard_normal(shape)
    t = nt.from_numpy(x)
    np.testing.assert_allclose((t + t).numpy(), x + x)
    if x.ndim > 1:
        u = x.transpose(*reversed(range(x.ndim)))[::-1]
        np.testing.assert_allclose((nt.from_numpy(u) * 2.0).numpy(), u * 2)
        np.testing.assert_allclose(nt.from_numpy(u).sum(0).numpy(), u.sum(0))


@pytest.mark.parametrize("n", [1000, 100_003, 1_000_000])
def test_large_reductions(n):
    x = np.random.default_rng(2).random(n).astype("f4")
    assert abs(nt.tensor(x).sum().item() - x.astype("f8").sum()) <= 1e-6 * n
    m = x[: n // 10 * 10].reshape(-1, 10)
    np.testing.assert_allclose(nt.tensor(m).sum(0).numpy(), m.sum(0, dtype="f8"), rtol=1e-6)
    np.testing.assert_allclose(nt.tensor(m).sum(1).numpy(), m.sum(1, dtype="f8"), rtol=1e-6)
    np.testing.assert_array_equal(nt.tensor(m).amax(0).numpy(), m.max(0))


def test_in_place_counts_and_names_both_lines():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2.0).exp()
    y.mul_(3.0)
    assert y._version == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as error:
        y.sum().backward()
    text = str(error.value)
    assert text.count("test_core.py:") == 2 and "exp saved its output" in text and "`mul_`" in text
    assert x.grad is None


def test_in_place_on_a_view_rebases_the_base():
    x = nt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    b = x * 1.0
    part = b.narrow(0, 0, 2)
    part.mul_(3.0)
    assert b.grad_fn.name() == "CopySlices" and part.grad_fn.name() == "AsStridedBackward0"
    b.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3, 1])


def test_write_to_a_base_regenerates_views():
    x = nt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    b = x * 1.0
    part = b.narrow(0, 0, 2)
    b.mul_(3.0)
    part.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3, 0])


def test_leaf_in_place_is_refused_before_it_happens():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable"):
        x.narrow(0, 0, 1).add_(1.0)
    assert x.tolist() == [1.0, 2.0] and x._version == 0
    with nt.no_grad():
        x.add_(1.0)
    assert x.tolist() == [2.0, 3.0] and x._version == 1


def test_numpy_alias_is_noticed():
    w, x = nt.tensor([1.0, 2.0]), nt.tensor([3.0, 4.0], requires_grad=True)
    n = w.numpy()
    y = (x * w).sum()
    n[:] = 0
    with pytest.raises(RuntimeError, match="NumPy array shares"):
        y.backward()


def test_second_backward():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_objects_behave():
    p = nt.tensor([1.0], requires_grad=True)
    (p * 2.0).sum().backward()
    assert p.grad is p.grad
    x = nt.tensor([1.0])
    assert x.add_(1.0) is x
    assert {x: 5}[x] == 5
    x.label = "mine"
    assert x.label == "mine"
    seen = weakref.ref(x)
    del x
    gc.collect()
    assert seen() is None

    class Named(nt.Tensor):
        pass

    assert isinstance(p, nt.Tensor) and issubclass(Named, nt.Tensor)


def test_errors_leak_nothing():
    x, y = nt.tensor(np.ones(3)), nt.tensor(np.ones(4))
    for _ in range(20):
        with pytest.raises(RuntimeError, match=r"The size of tensor a \(3\) must match the size of tensor b \(4\)"):
            x + y
        with pytest.raises(RuntimeError, match="can't be cast"):
            nt.tensor([1]).add_(1.5)


def test_deep_graph():
    x = nt.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(200_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1.0
    del y


def test_threads_share_a_leaf():
    w = nt.tensor(np.ones(4), requires_grad=True)

    def work():
        for _ in range(300):
            (w * 2.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_array_equal(w.grad.numpy(), np.full(4, 2.0 * 300 * 4))


def test_fork():
    x = nt.tensor(np.ones(200_000))
    (x + x).sum()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if (x + x).sum().item() == 400_000.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_second_process_compiles_nothing(tmp_path):
    code = (
        "import numbatensor as nt; from numbatensor.core.compiler import counts; "
        "a = nt.tensor([1., 2.], requires_grad=True); (a * a).tanh().sum().backward(); print(counts['compiled'])"
    )
    environment = os.environ | {"NUMBATENSOR_CACHE_DIR": str(tmp_path)}
    first, second = (
        int(
            subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(2)
    )
    assert first > 50 and second == 0


def test_numpy_meets_tensor():
    t = nt.tensor([1.0, 2.0], requires_grad=True)
    made = np.ones(2, "f4") * t
    assert isinstance(made, nt.Tensor) and made.requires_grad


def test_pooled_memory_is_reused_and_given_back():
    x = nt.zeros(1 << 20)
    address, size = x.data_ptr(), memory_stats()["bytes"]
    del x
    assert memory_stats()["pooled"] >= 4 << 20 and memory_stats()["bytes"] <= size - (4 << 20)
    assert nt.zeros(1 << 20).data_ptr() == address
    nt.empty_cache()
    assert memory_stats()["pooled"] == 0


def test_setting_the_data_of_a_gradient_sets_the_gradient():
    x = nt.ones(2, requires_grad=True)
    (x * 2.0).sum().backward()
    grad = x.grad
    grad.data = nt.tensor([5.0, 6.0])
    assert x.grad is grad and x.grad.tolist() == [5.0, 6.0]
    (x * 2.0).sum().backward()
    assert x.grad.tolist() == [7.0, 8.0]


def test_setting_data_keeps_the_object_and_its_gradient():
    w = nt.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * 3.0).sum()
    w.data = nt.tensor([5.0, 6.0])
    loss.backward()
    assert w.tolist() == [5.0, 6.0] and w.is_leaf and w.grad.tolist() == [3.0, 3.0]
    layer = nt.nn.Linear(3, 2)
    weight = layer.weight
    layer.double()
    assert layer.weight is weight and weight.dtype is nt.float64
    layer(nt.ones(1, 3, dtype=nt.float64)).sum().backward()
    assert weight.grad.dtype is nt.float64
    with pytest.raises(RuntimeError, match="leaves only"):
        (w * 1.0).data = w
