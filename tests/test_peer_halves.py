"""float16 and bfloat16 against PyTorch, where it is installed: expressions of peer_table.py, a part of them in each dtype."""

import gc
import itertools

import numpy as np
import pytest
from peer import compare
from peer_known import KNOWN
from peer_table import expressions

import numbatensor as nt

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


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_conversions_limits_and_dlpack(name):
    ours, theirs = getattr(nt, name), getattr(torch, name)
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(theirs)
    x = nt.from_dlpack(bits)
    assert x.dtype is ours and x.data_ptr() == bits.data_ptr()
    np.testing.assert_array_equal(x.float().numpy(), bits.float().numpy())
    numbers = np.random.default_rng(0).standard_normal(10_000) * 10.0 ** np.linspace(-9, 6, 10_000)
    for given in (numbers, numbers.astype(np.float32), (numbers * 10).astype(np.int64)):
        made = nt.from_numpy(given).to(ours)
        back = torch.from_dlpack(made)
        assert back.dtype == theirs and torch.equal(back, torch.from_numpy(given).to(theirs))
    for k in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
        assert getattr(nt.finfo(ours), k) == getattr(torch.finfo(theirs), k)
    for a in "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split():
        both = nt.promote_types(ours, getattr(nt, a))
        assert both.name == str(torch.promote_types(theirs, getattr(torch, a))).split(".")[1]
        for x, y in (((), ()), ((), (2,)), ((2,), ())):
            made = nt.ones(x, dtype=ours) * nt.ones(y, dtype=getattr(nt, a))
            assert (
                str(made.dtype).split(".")[1]
                == str((torch.ones(x, dtype=theirs) * torch.ones(y, dtype=getattr(torch, a))).dtype).split(".")[1]
            )
