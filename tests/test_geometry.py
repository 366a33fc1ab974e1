"""Shapes and memory changed in place: what graphs, views and gradients make of it. What PyTorch has too is in test_peer_in_place.py."""

import pytest

import numbatensor as nt
from numbatensor.core.records import Node, Saved, view_record
from numbatensor.core.write_log import is_overwritten

MATRIX = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_what_was_saved_keeps_its_shape():
    x, w = nt.tensor(MATRIX), nt.ones(2, 3, requires_grad=True)
    y = w * x
    x.t_().unsqueeze_(0).squeeze_(0)
    y.sum().backward(retain_graph=True)
    assert w.grad.tolist() == MATRIX and x._version == 3
    with nt.autograd.strict_versions(), pytest.raises(RuntimeError, match="`squeeze_`"):
        y.sum().backward()


def test_a_leaf_of_another_shape():
    a = nt.tensor(MATRIX, requires_grad=True)
    a.sum().backward()
    with nt.no_grad():
        a.t_()
    assert a.is_leaf and a.requires_grad and a.grad is None
    (a * a).sum().backward()
    assert a.grad.tolist() == [[2.0, 8.0], [4.0, 10.0], [6.0, 12.0]]


def test_a_history_follows_under_no_grad():
    a = nt.tensor(MATRIX, requires_grad=True)
    x = a * 1.0
    with nt.no_grad():
        x.t_()
    (x * x.detach()).sum().backward()
    assert x.shape == (3, 2) and a.grad.tolist() == MATRIX


def test_views_after_their_base_was_turned():
    a = nt.tensor(MATRIX, requires_grad=True)
    x = a * 1.0
    row = x[0]
    x.t_()
    x.mul_(2.0)
    row.mul_(3.0)
    x[0].mul_(5.0)
    (row.sum() + x[1].sum()).backward()
    assert row.tolist() == [30.0, 12.0, 18.0] and a.grad.tolist() == [[30.0, 12.0, 6.0], [0.0, 2.0, 0.0]]


def test_resize():
    x = nt.tensor(MATRIX)
    view = x[0]
    assert x.resize_(2, 2) is x and x.tolist() == [[1.0, 2.0], [3.0, 4.0]] and x._version == view._version == 1
    x.resize_(3, 3)  # more memory: the views keep the old
    assert x.view(-1)[:6].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] and x._version == 2
    x.zero_()
    assert view.tolist() == [1.0, 2.0, 3.0] and view._version == 1


def test_set():
    x, y = nt.ones(3), nt.tensor([1.0, 2.0, 3.0, 4.0])
    view = x[1:]
    assert x.set_(y) is x and x.tolist() == y.tolist()
    x.mul_(2.0)
    assert y.tolist() == [2.0, 4.0, 6.0, 8.0] and x._version == y._version == 1 and view.tolist() == [1.0, 1.0]
    assert x.set_(y, 1, (2,)).tolist() == [4.0, 6.0] and x.set_(y, 0, (2,), (2,)).tolist() == [2.0, 6.0]
    with pytest.raises(RuntimeError, match="the derivative for 'set_' is not implemented"):
        x.set_(y.requires_grad_())
    w = nt.ones(2, requires_grad=True)
    product = w * x
    x.set_()
    product.sum().backward()
    assert w.grad.tolist() == [2.0, 6.0] and x.shape == (0,)


def test_writes_through_set_memory_are_noticed():
    x, y, w = nt.ones(3), nt.ones(3), nt.ones(3, requires_grad=True)
    product = w * y
    x.set_(y).add_(1.0)
    with pytest.raises(RuntimeError, match="`add_`"):
        product.sum().backward()


def test_the_state_of_what_was_saved():
    w, buffer = nt.ones(3, requires_grad=True), nt.zeros(2, 3)
    y = w * buffer[0]
    saved = int(view_record(nt.core.entries.get(y, nt.core.entries.NODE), Node)["saves"])
    assert view_record(saved, Saved)["version"] == 0 and not is_overwritten(saved)
    buffer[1] = 1.0
    assert not is_overwritten(saved)
    buffer[0] = 1.0
    assert is_overwritten(saved)
