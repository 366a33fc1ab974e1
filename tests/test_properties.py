"""Random programs of operations, views, in-place writes and backward passes, against a tape over cells (tape.py).

The tape is held against PyTorch by the same programs, where PyTorch is installed.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from programs import Program, instructions

import numbatensor as nt

options = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "report_multiple_bugs": False,
    "phases": [Phase.generate, Phase.shrink],
    "suppress_health_check": list(HealthCheck),
}


def test_a_write_to_a_detached_tensor_leaves_the_history_alone():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    x.detach().mul_(2.0)
    assert x.tolist() == [2.0, 4.0] and x._version == 1
    y = x * 3.0
    y.detach().mul_(x)
    assert y.grad_fn.name() == "MulBackward0"
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_views_notice_that_their_base_is_recorded():
    x, base = nt.tensor([1.0, 2.0], requires_grad=True), nt.ones(2)
    part = base[:1]
    base.mul_(x)
    assert part.requires_grad
    part.sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


def test_a_second_pass_where_nothing_was_saved():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    y = nt.cat([x, x + x])
    for _ in range(2):
        y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_an_operand_that_the_write_overwrites_gets_its_gradient():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    x.detach().div_(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [-1.0, -0.5]


def test_nothing_can_be_written_anywhere():
    x = nt.zeros(0).expand(2, 0)
    assert x.add_(1.0) is x


def test_interleaved_elements_are_apart():
    x = nt.arange(4.0)
    x[::2].add_(x[1::2])
    assert x.tolist() == [1.0, 1.0, 5.0, 3.0]


def test_a_view_that_was_an_operand_of_a_write_notices_the_write():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    base = x * 1.0
    part = base[:]
    base.add_(part)
    part.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_copies_between_overlapping_tensors():
    x = nt.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    x[::-1].copy_(x)
    assert x.tolist() == [[3.0, 4.0, 5.0], [0.0, 1.0, 2.0]]


@settings(max_examples=3000, **options)
@given(st.lists(instructions, min_size=8, max_size=40))
def test_programs(program):
    Program(nt).play(program)


@pytest.mark.peer
@settings(max_examples=300, **options)
@given(st.lists(instructions, min_size=8, max_size=40))
def test_the_tape_itself(program):
    Program(pytest.importorskip("torch")).play(program)
