"""Hooks of tensors, of nodes, of saved values: when they run, what they may change, and what an error in one leaves behind."""

import gc
import threading
import weakref

import pytest

import numbatensor as nt

graph = nt.autograd.graph


def leaf(*values):
    return nt.tensor(list(values), requires_grad=True)


# what becomes of saved values


def test_what_is_packed_is_freed():
    x = leaf(1.0, 2.0)
    with graph.saved_tensors_hooks(lambda t: t.tolist(), nt.tensor):
        y = (x * x).exp()
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([5.43656, 218.3926])
