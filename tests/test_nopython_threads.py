"""Threads, parallel loops and long graphs in compiled code."""

import concurrent.futures
import gc
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from numba import njit, prange

import numbatensor as nt


def test_threads():
    @njit(nogil=True)
    def train(x, w, n):
        for _ in range(n):
            (nt.tanh(x @ w) * x).sum().backward()
        return w.grad

    x = nt.rand(4, 4)
    weights = [nt.rand(4, 4, requires_grad=True) for _ in range(4)]
    train(x, weights[0].detach().requires_grad_(), 1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda w: train(x, w, 300), weights))
    for w, g in zip(weights, found, strict=True):
        assert nt.allclose(g, train(x, w.detach().clone().requires_grad_(), 300), rtol=1e-4)


def test_errors_in_threads():
    @njit(nogil=True)
    def product(x):
        return x @ x

    def attempt(k):
        try:
            product(nt.rand(2, 3))
        except RuntimeError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(attempt, range(200)))) == 1


def test_a_long_graph_dies_in_compiled_code():
    @njit
    def long(x, n):
        y = x
        for _ in range(n):
            y = y + 1.0
        return y.sum().item()

    assert long(nt.zeros(1, requires_grad=True), 1_000_000) == 1_000_000.0


def test_independent_graphs_in_a_parallel_loop():
    @njit(parallel=True)
    def slopes(w, x, n):
        out = np.zeros(n)
        for i in prange(n):
            y = w.detach().requires_grad_()
            (nt.tanh(x @ y) * i).sum().backward()
            g = y.grad
            if g is not None:
                out[i] = g.sum().item()
        return out

    found = slopes(nt.rand(3, 3), nt.rand(2, 3), 100)
    assert np.allclose(found, found[1] * np.arange(100), rtol=1e-4)


@njit(parallel=True)
def inlined(x, n, bad):
    out = np.zeros(n)
    for i in prange(n):
        out[i] = (x @ nt.ones(3 if i == bad else 2)).sum().item()
    return out


@njit(parallel=True)
def without_tensors(n, bad):
    out = np.zeros(n)
    for i in prange(n):
        out[i] = doubled(2 + (i == bad))
    return out


@njit(parallel=True)
def summed(x, n, bad):
    total, sums = 0.0, np.zeros(2)
    for i in prange(n):
        y = x @ nt.ones(3 if i == bad else 2)
        total += y.sum().item()
        sums += y.numpy()
    return sums * (total / sums.sum())


@njit
def doubled(n):
    return nt.ones(2).reshape(n).sum().item()


def test_errors_in_a_parallel_loop():
    """On whatever thread they are raised, and in whatever function; the next call is right again."""
    n, x = 200, nt.ones(2, 2)
    for function, given, words in (
        (inlined, (x,), "cannot be multiplied"),
        (summed, (x,), "cannot be multiplied"),
        (without_tensors, (), "is invalid"),
    ):
        for bad in (0, 3, n // 2 + 3, n - 1, 3):
            with pytest.raises(RuntimeError, match=words):
                function(*given, n, bad)
        assert function(*given, n, -1).sum() == n * (4 if given else 2)


def test_a_leaf_that_a_parallel_loop_shares():
    @njit(parallel=True)
    def add_up(w, n):
        for i in prange(n):
            (w * (i + 1)).sum().backward()

    w = nt.zeros(3, dtype=nt.float64, requires_grad=True)
    add_up(w, 1000)
    assert w.grad.tolist() == [500500.0] * 3
    for _ in range(5000):  # the node that its gradients flow to is made by the first thread that needs it
        w = nt.zeros(3, dtype=nt.float64, requires_grad=True)
        add_up(w, 2)
        assert w.grad.tolist() == [3.0] * 3


def test_a_parallel_loop_writes_apart():
    @njit(parallel=True)
    def fill(x, n):
        for i in prange(n):
            x[i] = i

    x = nt.zeros(500)
    fill(x, 500)
    assert x.tolist() == list(range(500)) and x._version == 500


@pytest.mark.parametrize("saved", (False, True))
def test_no_write_of_two_threads_is_lost(saved):
    """Each of the counts is the storage's, and so is the log, which is kept while something is saved."""

    @njit(nogil=True)
    def write(x, k, n):
        for _ in range(n):
            x[k] = 1.0

    x = nt.zeros(2)
    kept = x * nt.ones(2, requires_grad=True) if saved else None
    write(x, 0, 1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda k: write(x, k, 50_000), range(2)))
    assert x._version == 100_001
    if saved:
        with pytest.raises(RuntimeError, match="version 100001"):
            kept.sum().backward()


def test_the_collector_runs_in_compiled_code():
    """On every allocation of Python's, beside threads that run compiled code which calls back."""

    @njit(nogil=True)
    def work(x, n):
        total = 0.0
        for _ in range(n):
            y = nt.softmax(x, 0) * x
            y.sum().backward()
            total += y.sum().item()
        return total

    x = nt.ones(4, requires_grad=True)
    work(x, 1)
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert set(pool.map(lambda _: work(nt.ones(4, requires_grad=True), 20), range(6))) == {20.0}
    finally:
        gc.set_threshold(*before)


def test_a_child_after_compiled_calls():
    program = """
import os, numbatensor as nt
from numba import njit
@njit
def f(x):
    return (x * 2).sum()
x = nt.ones(3, requires_grad=True)
f(x).backward()
if os.fork() == 0:
    f(x).backward()
    try:
        f(nt.ones(3)).backward()
    except RuntimeError:
        os._exit(0 if x.grad.tolist() == [4.0] * 3 else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(nt.__file__).parents[1],
    )
    assert done.stdout.strip() == "0"


def test_long_graphs_die_on_several_threads():
    @njit(nogil=True)
    def long(x, n):
        y = x
        for _ in range(n):
            y = y + 1.0
        return y

    @njit(nogil=True)
    def inside(x, n):
        return long(x, n).item()

    leaf, n = nt.zeros(1, requires_grad=True), 1_000_000
    assert inside(leaf, 2) == 2.0
    shared = long(leaf, n)
    roots = [shared * k for k in range(2)]
    del shared
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = [pool.submit(inside, leaf, n) for _ in range(2)]
        pool.map(lambda k: roots.__setitem__(k, None), range(2))
        assert [f.result() for f in found] == [n, n]


OBJECTS = """
import os
import numba, numbatensor as nt
from numba import njit, objmode, stencil

kind = numba.typeof(nt.ones(2))

@njit
def good(x):
    with objmode(y=kind):
        y = x.exp()
    return y + x

@njit
def wrong(x):
    with objmode(y=kind):
        y = 1
    return y + x

@njit
def fails(x):
    with objmode(y=kind):
        y = {}[x.tolist()[0]]
    return y + x

@njit
def square(x):
    return x @ x

@stencil
def blur(a):
    return a[-1] + a[1]

def errors():
    for call in (lambda: wrong(nt.ones(2)), lambda: fails(nt.ones(2)), lambda: square(nt.ones(2, 3))):
        try:
            call()
        except Exception as error:
            yield type(error).__name__

print(good(nt.zeros(2)).tolist(), *errors())
print(njit(lambda x: blur(x.numpy()))(nt.ones(4)).tolist())
try:
    njit(lambda x: blur(x))(nt.ones(4))
except numba.TypingError as error:
    print(len(str(error).splitlines()) <= 12, "stencil" in str(error))
child = os.fork()
if child == 0:
    done = good(nt.zeros(2)).tolist() == [1.0, 1.0] and len([*errors()]) == 3
    os._exit(0 if done and square(nt.ones(2)).item() == 2.0 else 1)
print(os.waitpid(child, 0)[1])
"""


def test_python_blocks_stencils_and_forks():
    root = pathlib.Path(nt.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", OBJECTS], capture_output=True, text=True, cwd=root)
    assert done.stdout.splitlines() == [
        "[1.0, 1.0] TypeError KeyError RuntimeError",
        "[0.0, 2.0, 2.0, 0.0]",
        "True True",
        "0",
    ], done.stdout + done.stderr
