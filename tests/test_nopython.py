"""Tensors inside users' compiled functions."""

import numpy as np
import pytest
from numba import njit
from sampled import CASES

import numbatensor as nt
from numbatensor.op import Joined, Pointwise


def in_compiled_code(case):
    """The op of a case as a compiled function of the tensors alone: what is no tensor is written in its source."""
    names, words = [], []
    for value in case.arguments:
        if isinstance(value, np.ndarray):
            names.append(f"t{len(names)}")
            words.append(names[-1])
        else:
            words.append(repr(value))
    known = {"op": case.op.fast}
    exec(f"def run({', '.join(names)}):\n    return op({', '.join(words)})", known)
    return njit(known["run"])


def writes(case):
    return getattr(case.op, "row")["trait"] == 2 and case.op.name.startswith("index_put")


RUN = [c for c in CASES if not isinstance(c.op, Joined) and not writes(c)]


@pytest.mark.parametrize("case", RUN, ids=lambda c: c.id)
def test_values_and_gradients_are_those_of_python(case):
    compiled = in_compiled_code(case)
    for dtype in (np.float64, np.float32) if isinstance(case.op, Pointwise) else (np.float64,):
        expected, given = case.tensors(dtype), case.tensors(dtype)
        y, z = case(*expected), compiled(*given)
        assert y.dtype is z.dtype and y.shape == z.shape and y.requires_grad == z.requires_grad
        assert np.array_equal(y.detach().numpy(), z.detach().numpy(), equal_nan=True)
        if y.requires_grad:
            y.sum().backward()
            z.sum().backward()
            for a, b in zip(expected, given, strict=True):
                assert (a.grad is None) == (b.grad is None)
                assert a.grad is None or np.array_equal(a.grad.numpy(), b.grad.numpy(), equal_nan=True)
