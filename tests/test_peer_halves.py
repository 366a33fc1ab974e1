"""float16 and bfloat16 against PyTorch, where it is installed: expressions of peer_table.py, a part of them in each dtype."""

import gc
import itertools

import numpy as np
import pytest
from peer import compare
from peer_known import KNOWN
from peer_table import expressions

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
ROUNDED = {
    "twice(L, lambda x: F.mish(x), k)"
}  # our rule of the second derivative, and PyTorch's, lose other digits between their ops
SHARE = 4  # one of so many expressions, the dtypes in turn
CHOSEN = [(g, e) for g, e in expressions() if e not in KNOWN and e not in ROUNDED][::SHARE]
GROUPS = {g: [e for _, e in pairs] for g, pairs in itertools.groupby(CHOSEN, key=lambda pair: pair[0])}


@pytest.fixture(autouse=True)
def nothing_leaks():
    """Instead of the fixture of all tests: errors that are kept hold tensors."""
    yield
    gc.collect()


@pytest.mark.parametrize("group", GROUPS)
def test_expressions(group):
    for k, expression in enumerate(GROUPS[group]):
        with np.errstate(over="ignore"):
            found = compare(expression, torch, (("float16", "bfloat16")[k % 2],))
        assert not found, f"{expression}: {'; '.join(found)}"
