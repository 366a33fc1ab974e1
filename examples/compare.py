"""The same function compiled with numbatensor and run by PyTorch eagerly: `compare` times both, and checks that they agree."""

import time
import types

import numpy as np
from numba.extending import is_jitted

import numbatensor as nt


def in_torch(compiled):
    """A function as PyTorch runs it: its own source, and that of what it calls, with `torch` in the place of `nt`."""
    import torch

    source = compiled.py_func
    known = dict(source.__globals__, nt=torch)
    for name, value in source.__globals__.items():
        if is_jitted(value):
            known[name] = types.FunctionType(value.py_func.__code__, known, name, value.py_func.__defaults__)
    return known[source.__name__]


def for_torch(value):
    import torch

    if isinstance(value, nt.Tensor):
        return torch.from_numpy(value.detach().clone().numpy()).requires_grad_(value.requires_grad)
    return value.tolist() if isinstance(value, np.ndarray) else value


def fastest(call, seconds=2.0):
    """The shortest time of a call, in seconds."""
    found, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - start)
    return found


def compare(function, *args):
    """Time a compiled function of Tensors that gives a loss, with its gradients, against PyTorch eager on one thread."""
    import torch

    torch.set_num_threads(1)
    theirs, others = in_torch(function), [for_torch(a) for a in args]

    def step(f, given):
        leaves = [a for a in given if getattr(a, "requires_grad", False)]
        for leaf in leaves:
            leaf.grad = None
        f(*given).backward()
        return [leaf.grad.numpy() for leaf in leaves]

    for ours, reference in zip(step(function, args), step(theirs, others), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-6)
    a, b = fastest(lambda: step(function, args)), fastest(lambda: step(theirs, others))
    print(f"{function.__name__} and its gradient: {1e3 * a:.2f} ms, PyTorch eager {1e3 * b:.2f} ms ({b / a:.0f} times)")
