"""Threads, forks, and graphs that are very deep or wide; what could crash runs in a process of its own."""

import gc
import os
import queue
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.memory import memory_stats


def together(*works):
    """Run functions in threads, and raise the first error of any."""
    errors, ready = [], threading.Barrier(len(works))

    def run(work):
        try:
            ready.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def isolated(code):
    """Run code in a new process, which must end within three minutes, on a slow machine too."""
    head = "import faulthandler, gc, os, threading; faulthandler.enable(); import numbatensor as nt\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


# threads


def test_graphs_of_their_own():
    def work(k):
        for _ in range(100):
            x = nt.tensor([float(k), 2.0], requires_grad=True)
            ((x * x).tanh() + x).sum().backward()
            expected = 2 * np.array([k, 2.0]) * (1 - np.tanh(np.array([k, 2.0]) ** 2) ** 2) + 1
            np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4, atol=1e-6)

    together(*[lambda k=k: work(k) for k in range(4)])


def test_large_operations_at_once():
    x = np.random.default_rng(0).random(300_000)

    def work():
        for _ in range(5):
            t = nt.tensor(x, requires_grad=True)
            (t * t).sum().backward()
            np.testing.assert_allclose(t.grad.numpy(), 2 * x)

    together(*[work] * 4)


def test_modes_belong_to_threads():
    x, seen = nt.tensor([1.0], requires_grad=True), []
    inside, outside = threading.Event(), threading.Event()

    def quiet():
        with nt.no_grad():
            inside.set()
            outside.wait(10)
            seen.append((x * 2).requires_grad)
        seen.append((x * 2).requires_grad)

    def loud():
        inside.wait(10)
        made = (x * 2).requires_grad
        outside.set()
        seen.append(made)

    together(quiet, loud)
    assert sorted(seen) == [False, True, True]
    assert (x * 2).requires_grad


def test_a_new_thread_records():
    seen = []
    x = nt.tensor([1.0], requires_grad=True)
    with nt.no_grad():
        together(lambda: seen.append((x * 2).requires_grad))
    assert seen == [True]


def test_first_uses_at_once():
    """All threads find an empty slot of the table, and one compiles."""
    x = nt.arange(6, dtype=nt.int16)
    together(*[lambda: np.testing.assert_array_equal((x * x).numpy(), np.arange(6) ** 2)] * 6)


def test_writes_are_all_counted():
    x = nt.zeros(10)

    def work():
        for _ in range(500):
            x.add_(1.0)

    together(*[work] * 4)
    assert x._version == 2000 and x.tolist() == [2000.0] * 10


def test_an_error_in_one_thread_leaves_the_others_alone():
    def wrong():
        for _ in range(100):
            y = nt.tensor([1.0], requires_grad=True).exp()
            y.mul_(2.0)
            with pytest.raises(RuntimeError, match="modified by an inplace"):
                y.backward()
            with pytest.raises(RuntimeError):
                nt.zeros(2) + nt.zeros(3)

    def right():
        for _ in range(100):
            x = nt.tensor([1.0, 2.0], requires_grad=True)
            (x.exp() * x).sum().backward()
            assert x.grad is not None

    together(wrong, right, wrong, right)


def test_a_graph_crosses_threads():
    """Made in one thread, differentiated in another, dropped in a third."""
    made = []
    together(lambda: made.append(nt.tensor([2.0], requires_grad=True)))
    together(lambda: made.append((made[0] * made[0]).sum()))
    together(lambda: made[1].backward())
    assert made[0].grad.tolist() == [4.0]
    together(made.clear)


def test_one_graph_differentiated_by_several_threads():
    isolated(
        """
x = nt.tensor([1.0, 2.0, 3.0], requires_grad=True)
y = ((x * x).tanh() * x.exp()).sum()
y.backward(retain_graph=True)
one = x.grad.clone()
x.grad = None
def work():
    for _ in range(200):
        y.backward(retain_graph=True)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert nt.allclose(x.grad, one * 800.0, rtol=1e-3), (x.grad, one * 800.0)
"""
    )


def test_garbage_collection_while_graphs_die_elsewhere():
    stop = threading.Event()

    class Holder:
        pass

    def work():
        for _ in range(300):
            x = nt.tensor([1.0, 2.0], requires_grad=True)
            h = Holder()
            h.y, h.me = (x * x).exp() * x, h
            x.note = h  # a cycle of Python objects that holds a graph
            h.y.sum().backward()

    def collect():
        while not stop.is_set():
            gc.collect(0)
            time.sleep(0.001)

    collector = threading.Thread(target=collect)
    collector.start()
    together(work, work, work)
    stop.set()
    collector.join()


def test_arrays_that_die_elsewhere():
    """Memory that NumPy owns is let go under the interpreter's lock, whichever thread drops the last tensor."""

    def work():
        for _ in range(200):
            t = nt.from_numpy(np.ones(1000)).requires_grad_()
            (t * t).sum().backward()
            t.detach().numpy()

    together(work, work, work)


# forks


def after_fork(work):
    """Whether a child of this process does its work."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False


def large(n=300_000):
    x = nt.ones(n, requires_grad=True)
    (x * x).sum().backward()
    assert x.grad[0].item() == 2.0


def test_fork_and_go_on():
    large()
    assert after_fork(large)
    large()


def test_fork_of_a_fork():
    large()

    def child():
        large()
        assert after_fork(large)

    assert after_fork(child)


def test_fork_while_another_thread_computes():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            large()

    t = threading.Thread(target=work)
    t.start()
    try:
        assert all([after_fork(lambda: large(100)) for _ in range(5)])
    finally:
        stop.set()
        t.join()


def test_fork_under_no_grad():
    with nt.no_grad():
        assert after_fork(lambda: exec("assert not (nt.ones(1, requires_grad=True) * 2).requires_grad", {"nt": nt}))


def test_fork_while_another_thread_compiles():
    isolated(
        """
import time
from numbatensor.core import compiler
from numbatensor.op import OPS, Pointwise
compiler.read, compiler.write = lambda path: None, lambda *args: None
stop = threading.Event()
def work():
    while not stop.is_set():
        OPS["exp"].compile(0, nt.float32.code)
t = threading.Thread(target=work)
t.start()
time.sleep(0.3)
pid = os.fork()
if pid == 0:
    OPS["tanh"].compile(0, nt.float64.code)
    os._exit(0)
for _ in range(50):
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
stop.set()
t.join()
assert done
"""
    )


# deep and wide


def test_a_million_nodes():
    """Recorded, differentiated, and freed: with a pass, and without."""
    isolated(
        """
for passes in (True, False):
    x = nt.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(1_000_000):
        y = y + 1.0
    if passes:
        y.backward()
        assert x.grad.item() == 1.0
    del y
"""
    )


@pytest.mark.parametrize(
    "step",
    [
        "y * 1.0",
        "y.tanh()",
        "y.view(1)",
        "y[:]",
        "y.clone()",
        "nt.cat([y])",
        "y[[0]]",
        "y.add_(0.0)",
        "(y, y.__setitem__(slice(0, 1), y * 1.0))[0]",
    ],
)
def test_deep_graphs_of_any_kind(step):
    isolated(
        f"""
x = nt.tensor([1.0], requires_grad=True)
y = x.clone()
for _ in range(20_000):
    y = {step}
y.sum().backward()
assert x.grad is not None
del y
gc.collect()
"""
    )


def test_deep_second_derivative():
    isolated(
        """
x = nt.tensor([1.0], requires_grad=True)
y = x
for _ in range(2000):
    y = y * 1.0
g, = nt.autograd.grad((y * y).sum(), x, create_graph=True)
(g * g).sum().backward()
assert x.grad.item() == 8.0
"""
    )


@pytest.mark.parametrize("join", [nt.stack, nt.cat])
def test_ten_thousand_inputs(join):
    leaves = [nt.tensor([float(k)], requires_grad=True) for k in range(10_000)]
    whole = join(leaves)
    assert whole.numel() == 10_000
    (whole * whole).sum().backward()
    assert leaves[7].grad.tolist() == [14.0] and leaves[-1].grad.tolist() == [2 * 9999.0]


def test_a_leaf_used_ten_thousand_times():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    total = nt.zeros(2)
    for _ in range(10_000):
        total = total + x * 2.0
    total.sum().backward()
    assert x.grad.tolist() == [20_000.0, 20_000.0]


def test_many_outputs():
    x = nt.arange(10_000.0).requires_grad_()
    sum(part.sum() for part in x.split(1)).backward()
    assert x.grad.sum().item() == 10_000.0


def test_many_roots():
    x = nt.tensor([1.0], requires_grad=True)
    roots = [x * float(k) for k in range(2000)]
    nt.autograd.backward(roots)
    assert x.grad.item() == sum(range(2000))


def test_what_a_thread_counted_is_not_lost_when_it_ends():
    before = memory_stats()
    made = []

    def make():
        made.extend(nt.ones(3) * 2 for _ in range(100))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    during = memory_stats()
    assert during["tensors"] - before["tensors"] == 100 and during["storages"] - before["storages"] == 100
    assert during["bytes"] - before["bytes"] == 100 * 3 * 4
    made.clear()
    assert {k: v for k, v in memory_stats().items() if k in ("tensors", "storages", "nodes", "bytes")} == {
        k: v for k, v in before.items() if k in ("tensors", "storages", "nodes", "bytes")
    }


def test_blocks_that_one_thread_makes_and_another_frees_do_not_pile_up():
    handed = queue.Queue(maxsize=8)

    def make(n):
        for _ in range(n):
            handed.put([nt.ones(3) * 2 for _ in range(50)])
        handed.put(None)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    sizes = []
    for n in (200, 2000):
        thread = threading.Thread(target=make, args=(n,))
        thread.start()
        while handed.get() is not None:
            pass
        thread.join()
        sizes.append(resident())
    assert sizes[1] - sizes[0] < 16 << 20  # 100,000 tensors would take 60 MiB
