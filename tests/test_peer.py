"""Every function against PyTorch, where it is installed (peer_table.py has the expressions, peer.py the comparison)."""

import gc

import pytest
from peer import Outcome, compare
from peer_known import KNOWN
from peer_table import expressions

import numbatensor as nt
from numbatensor.memory import memory_stats

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def nothing_leaks():
    """Instead of the fixture of all tests, which takes longer than most expressions; see `test_nothing_leaked`."""


def marked(group, expression):
    marks = [pytest.mark.xfail(strict=True, reason=KNOWN[expression])] if expression in KNOWN else []
    return pytest.param(expression, id=f"{group}: {expression}", marks=marks)


@pytest.mark.parametrize("expression", [marked(*e) for e in expressions()])
def test_expression(expression):
    found = compare(expression, torch)
    assert not found, "; ".join(found)


def test_known_are_in_the_table():
    assert not set(KNOWN) - {e for _, e in expressions()}


def test_nothing_leaked():
    """None of the expressions that need no gradient, nor those that do, leave anything behind."""
    gc.collect()
    before = memory_stats()
    for _, expression in expressions()[::7]:
        Outcome(nt, expression, "float32")
    gc.collect()
    after = memory_stats()
    assert {k: after[k] for k in ("tensors", "storages", "nodes")} == {
        k: before[k] for k in ("tensors", "storages", "nodes")
    }
