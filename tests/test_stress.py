"""Graphs that are deep, wide or shared, freed in any order; threads on the same leaves; the collector beside both; forks."""

import gc
import itertools
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_threads import after_fork, isolated, together

import numbatensor as nt
from numbatensor.autograd import grad, graph
from numbatensor.memory import memory_stats


def nodes():
    return memory_stats()["nodes"]


class Double(nt.autograd.Function):
    """With Python objects on its node."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.note = [x.shape]
        return x * 2.0

    @staticmethod
    def backward(ctx, grad):
        assert ctx.saved_tensors[0].shape == ctx.note[0]
        return grad * 2.0


# deep, wide, shared


def test_a_million_nodes_with_a_hook_on_some():
    isolated(
        """
x = nt.tensor([1.0], requires_grad=True)
seen = []
y = x
for k in range(1_000_000):
    y = y + 1.0
    if k % 10_000 == 0:
        y.register_hook(lambda g: seen.append(1))
y.backward(retain_graph=True)
assert len(seen) == 100 and x.grad.item() == 1.0
g, = nt.autograd.grad(y, x)
assert g.item() == 1.0 and len(seen) == 200
del y
"""
    )


def test_deep_custom_functions():
    isolated(
        """
class Double(nt.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 1.0
    @staticmethod
    def backward(ctx, grad):
        ctx.saved_tensors
        return grad
for passes in (True, False):
    x = nt.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(20_000):
        y = Double.apply(y)
    if passes:
        y.backward()
        assert x.grad.item() == 1.0
    del y
    gc.collect()
"""
    )


@pytest.mark.parametrize("join", [nt.cat, nt.stack])
def test_a_hundred_thousand_inputs(join):
    x = nt.ones(1, requires_grad=True)
    parts = [x * 1.0 for _ in range(100_000)]
    whole = join(parts)
    told = []
    parts[5].register_hook(lambda g: told.append(g.item()))
    whole.sum().backward()
    assert x.grad.item() == 100_000.0 and told == [1.0]


def test_a_graph_of_which_each_node_is_used_twice():
    """2**200 paths."""
    x = nt.tensor([1.0], dtype=nt.float64, requires_grad=True)
    y = x
    for _ in range(200):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.item() == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_shared_graphs_freed_in_any_order(seed):
    """Random graphs, of which parts are differentiated, hooked, looked at and dropped in random order."""
    rng, before = random.Random(seed), nodes()
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    made: list = [x]
    for _ in range(300):
        a, b = rng.choice(made), rng.choice(made)
        y = rng.choice(
            [lambda a, b: a * 0.5 + b * 0.5, lambda a, b: Double.apply(a) * 0.5, lambda a, b: (a * b).tanh()]
        )(a, b)
        if rng.random() < 0.3:
            y.register_hook(lambda g, shape=y.shape: None)
        if rng.random() < 0.1:
            made.append(y.grad_fn.next_functions)
            made.pop()
        made.append(y)
    rng.shuffle(made)
    while made:
        y = made.pop()
        if rng.random() < 0.2 and y is not x:
            y.sum().backward(retain_graph=True)
        if rng.random() < 0.1:
            gc.collect()
    del x, y, a, b
    gc.collect()
    assert nodes() == before


def test_owners_dropped_in_every_order():
    before = nodes()
    for order in itertools.permutations(range(4)):
        x = nt.tensor([1.0], requires_grad=True)
        y = Double.apply(x)
        y.register_hook(lambda g: None)
        things: list = [x, y, y.exp() * y, y.grad_fn]
        del x, y
        for k in order:
            things[k] = None
        assert nodes() == before, order


# threads


def test_eight_threads_add_to_shared_leaves():
    """1000 steps each, and the sum is exact."""
    x, w = nt.zeros(3, dtype=nt.float64).requires_grad_(), nt.ones(3, dtype=nt.float64).requires_grad_()

    def work():
        for _ in range(1000):
            (x * w + x).sum().backward()

    together(*[work] * 8)
    assert x.grad.tolist() == [16_000.0] * 3 and w.grad.tolist() == [0.0] * 3


def test_eight_threads_with_hooks():
    x, counts = nt.ones(2, dtype=nt.float64).requires_grad_(), []
    shared = x * 1.0  # saves a number only
    x.register_hook(lambda g: g * 2.0)
    x.register_post_accumulate_grad_hook(lambda p: counts.append(1))

    def work(k):
        for i in range(125):
            y = Double.apply(x) + x
            if i % 2:
                y.register_hook(lambda g: g * 1.0)
            y.grad_fn.register_prehook(lambda grads: None)
            y.sum().backward()

    together(*[lambda k=k: work(k) for k in range(8)])
    assert x.grad.tolist() == [6000.0] * 2 and len(counts) == 1000 and shared.requires_grad


def test_gradients_asked_for_while_others_run_backward():
    x, w = nt.ones(4, dtype=nt.float64).requires_grad_(), nt.full((4,), 3.0, dtype=nt.float64).requires_grad_()

    def adds():
        for _ in range(200):
            (x * w).sum().backward()

    def asks():
        for _ in range(200):
            g, h = grad((x * w * 2.0).sum(), (x, w))
            assert g.tolist() == [6.0] * 4 and h.tolist() == [2.0] * 4

    together(adds, asks, adds, asks, adds, asks)
    assert x.grad.tolist() == [1800.0] * 4 and w.grad.tolist() == [600.0] * 4


def test_one_hooked_graph_in_several_threads():
    x, seen = nt.ones(2, dtype=nt.float64).requires_grad_(), []
    y = (x * 3.0).exp()
    y.register_hook(lambda g: seen.append(1))
    z = Double.apply(y).log().sum()

    def work():
        for _ in range(50):
            z.backward(retain_graph=True)

    def asks():
        for _ in range(50):
            (g,) = grad(z, x, retain_graph=True)
            np.testing.assert_allclose(g.numpy(), [3.0, 3.0])

    together(work, asks, work, asks)
    np.testing.assert_allclose(x.grad.numpy(), [300.0] * 2)
    assert len(seen) == 200


def test_passes_that_fail_beside_passes_that_do_not():
    x = nt.ones(2, dtype=nt.float64).requires_grad_()

    def fails():
        for _ in range(100):
            y = x * 2.0
            y.register_hook(lambda g: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                y.sum().backward()

    def works():
        for _ in range(100):
            (x * 2.0).sum().backward()

    together(fails, works, fails, works)
    assert x.grad.tolist() == [400.0] * 2


def test_grad_is_reset_while_others_add_to_it():
    """Additions long enough to let other threads run."""
    n, stop = 300_000, threading.Event()
    x = nt.ones(n, requires_grad=True)

    def resets():
        while not stop.is_set():
            x.grad = None

    def adds():
        try:
            for _ in range(30):
                (x * 2.0).sum().backward()
        finally:
            stop.set()

    together(resets, adds)


def cycles(steps):
    """Graphs in cycles through hooks and contexts."""
    x = nt.ones(2, requires_grad=True)
    for k in range(steps):
        cell: list = []
        y = Double.apply(x * 1.0)
        y.register_hook(lambda g, cell=cell: (cell, None)[1])
        cell.append(y.exp() * y)
        if k % 3 == 0:
            cell[0].sum().backward()


def test_collections_beside_threads_that_make_cycles():
    stop = threading.Event()

    def collect():
        while not stop.is_set():
            gc.collect()

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        together(*[lambda: cycles(60)] * 4)
    finally:
        stop.set()
        collector.join()


def test_hooked_graphs_dropped_without_the_lock_while_another_collects():
    """Native threads free boxes' tensors, which the interpreter never sees die."""
    isolated(
        """
from numbatensor.core.compiler import native, symbol
from numbatensor.core.memory import decref, incref, load, store, malloc, free
from numbatensor.core.python import argument, as_long, entry, none, restore_thread, save_thread, tuple_item, tuple_size, unboxed
import sys
sys.setswitchinterval(1e-5)

@entry
def own(self, args, count):
    '''(tensors, room): native owners of tensors'''
    room = as_long(argument(args, 1))
    for k in range(tuple_size(argument(args, 0))):
        t = unboxed(tuple_item(argument(args, 0), k))
        incref(t)
        store(room + 8 * k, t)
    return none()

@entry
def drop(self, args, count):
    '''(room, n): they let go, without the lock'''
    room, n = as_long(argument(args, 0)), as_long(argument(args, 1))
    thread = save_thread()
    for k in range(n):
        decref(load(room + 8 * k))
    restore_thread(thread)
    return none()

import ctypes
class Double(nt.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.note = [x]
        return x * 2.0
    @staticmethod
    def backward(ctx, grad):
        return grad * 2.0
stop = threading.Event()
died = []
class Thing:
    def __del__(self):
        died.append(1)
def graph(x):
    y = Double.apply(x * 1.0)
    thing = Thing()
    cell = [thing, y]
    y.register_hook(lambda g: (cell, None)[1])
    y.grad_fn.metadata["thing"] = thing
    z = y.exp() * y
    cell.append(z.grad_fn)
    cell.clear()
    return z
def work():
    x = nt.ones(2, requires_grad=True)
    room = (ctypes.c_int64 * 50)()
    for _ in range(10):
        made = tuple(graph(x) for _ in range(50))
        own(made, ctypes.addressof(room))
        del made
        drop(ctypes.addressof(room), 50)
def collect():
    while not stop.is_set():
        gc.collect()
one = (ctypes.c_int64 * 1)()  # compiles both, which takes a minute beside a thread that collects
own((nt.ones(1),), ctypes.addressof(one))
drop(ctypes.addressof(one), 1)
work()  # loads what it uses, for the same reason
collector = threading.Thread(target=collect)
collector.start()
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
stop.set()
collector.join()
from numbatensor.memory import memory_stats
gc.collect()
memory_stats()
gc.collect()
s = memory_stats()
assert len(died) == 10 * 50 * 4, len(died)
assert s["nodes"] == 0 and s["tensors"] == 0, s
"""
    )


def test_a_trace_function_sees_hooks():
    """Under sys.settrace, in a thread."""
    isolated(
        """
import sys
seen = []
def trace(frame, event, argument):
    seen.append(frame.f_code.co_name)
    return trace
def hook(g):
    return g * 2.0
def work():
    sys.settrace(trace)
    x = nt.ones(1, requires_grad=True)
    x.register_hook(hook)
    (x * 2.0).backward()
    sys.settrace(None)
    assert x.grad.item() == 4.0
t = threading.Thread(target=work)
t.start()
t.join()
assert "hook" in seen
"""
    )


# forks, and the end


def hooked():
    x = nt.ones(2, requires_grad=True)
    y = Double.apply(x).exp()
    y.register_hook(lambda g: None)
    x.register_post_accumulate_grad_hook(lambda p: None)
    return x, y


def test_forks_with_hooked_graphs():
    x, y = hooked()

    def child():
        y.sum().backward()
        assert x.grad is not None
        cycles(10)
        gc.collect()

    assert after_fork(child)
    assert x.grad is None
    y.sum().backward()


def test_a_fork_inside_of_a_hook():
    x, y = hooked()
    results: list = []
    parent = os.getpid()

    def fork(g):
        if os.getpid() == parent:
            results.append(after_fork(lambda: grad(y, x, nt.ones(2), retain_graph=True)))

    handle = x.register_hook(fork)
    y.sum().backward(retain_graph=True)
    assert results == [True]
    handle.remove()


def test_a_fork_while_another_thread_is_inside_of_a_pass():
    """The child uses what that pass held."""
    x, y = hooked()
    inside, go_on = threading.Event(), threading.Event()
    y.register_hook(lambda g: (inside.set(), go_on.wait(30), None)[2] if os.getpid() == parent else None)
    parent = os.getpid()
    thread = threading.Thread(target=lambda: y.sum().backward(retain_graph=True))
    thread.start()
    inside.wait(30)
    try:
        assert after_fork(lambda: y.sum().backward())
    finally:
        go_on.set()
        thread.join()


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "gc.disable()", "os.kill(os.getpid(), 15)"])
def test_the_end_with_hooked_graphs_alive(end):
    isolated(
        f"""
import atexit, signal, sys
signal.signal(15, lambda *a: sys.exit(0))
class Double(nt.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.me = ctx
        return x * 2.0
    @staticmethod
    def backward(ctx, grad):
        return grad * 2.0
class Late:
    def __del__(self):
        try:
            self.y.grad_fn
            self.y.sum().backward()
        except Exception:
            pass
x = nt.ones(2, requires_grad=True)
y = Double.apply(x).exp()
y.register_hook(lambda g: y)
y.grad_fn.metadata["y"] = y
late = Late()
late.y = Double.apply(x)
late.me = late
atexit.register(lambda: y.sum().backward())
threading.Thread(target=lambda: threading.Event().wait(), daemon=True).start()
{end}
"""
    )


def test_graphs_of_several_tensors_hooks_die():
    before = nodes()
    a, b = (nt.ones(1, requires_grad=True) for _ in range(2))
    for _ in range(100):
        c = a * b
        graph.register_multi_grad_hook([a, c], lambda grads: None).remove()
        with graph.register_multi_grad_hook([c, b], lambda grads: None):
            c.backward(retain_graph=True)
    del a, b, c
    gc.collect()
    assert nodes() == before


@pytest.mark.parametrize("options, settings", [(["-X", "dev"], {}), ([], {"PYTHONMALLOC": "debug"})])
def test_with_pythons_checks_of_memory(options, settings):
    code = """
import gc
import numbatensor as nt
x = nt.ones(2, requires_grad=True)
y = x * x
y.register_hook(lambda g: y)
(y * x).sum().backward()
assert x.grad.tolist() == [3.0, 3.0]
del y
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr[-2000:]
