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


# what reaches `.grad`


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_under_create_graph_have_memory_of_their_own():
    x, w, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), nt.ones(2)
    (x + w).backward(seed, create_graph=True)
    with nt.no_grad():
        x.grad.mul_(5.0)
    assert (x.grad.tolist(), w.grad.tolist(), seed.tolist()) == ([5.0, 5.0], [1.0, 1.0], [1.0, 1.0])
    v = leaf(1.0, 2.0)
    v.sum().backward(create_graph=True)
    assert v.grad.stride() == (1,)


def test_a_gradient_spread_over_one_element_is_not_written():
    x = leaf(1.0, 2.0)
    x.grad = nt.zeros(1).expand(2)
    (x * nt.tensor([1.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 5.0]
