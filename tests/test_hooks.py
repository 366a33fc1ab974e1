"""Hooks of tensors, of nodes, of saved values: when they run, what they may change, and what an error in one leaves behind."""

import sys
import threading

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


# slots of freed graphs


def test_saved_values_of_a_freed_node_are_gone():
    x = leaf(1.0, 2.0)
    y = x.exp() * x
    raw = y.grad_fn._raw_saved_self
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        raw.register_hooks(lambda t: t, lambda t: t)


# threads


def test_hooks_registered_by_several_threads_at_once(switch_often):
    for _ in range(50):
        x, told, ready = leaf(1.0), [], threading.Barrier(3)

        def register(k, x=x, told=told, ready=ready):
            ready.wait()
            if k:
                x.register_hook(lambda grad: told.append(k))
            else:
                x.register_post_accumulate_grad_hook(lambda p: told.append(k))

        threads = [threading.Thread(target=register, args=(k,)) for k in range(3)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        (x * 2.0).backward()
        assert sorted(told) == [0, 1, 2]


def test_a_hook_of_several_tensors_in_passes_of_several_threads(switch_often):
    a, b, told = leaf(1.0), leaf(1.0), []
    handle = graph.register_multi_grad_hook([a, b], lambda grads: told.append([g.item() for g in grads]))

    def work():
        for _ in range(50):
            (a * 2.0 + a * b).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert told == [[3.0, 1.0]] * 200
    handle.remove()


@pytest.fixture
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
