"""Modules, losses, optimisers, data and files."""

import copy
import io
import pickle

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.nn import functional as F


def model():
    nt.manual_seed(0)
    return nt.nn.Sequential(nt.nn.Linear(4, 8), nt.nn.GELU(), nt.nn.LayerNorm(8), nt.nn.Linear(8, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: nt.optim.SGD(p, lr=0.1),
        lambda p: nt.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
        lambda p: nt.optim.Adam(p, lr=0.02, amsgrad=True),
        lambda p: nt.optim.AdamW(p, lr=0.02),
    ],
)
def test_learning(make):
    net = model()
    optimizer = make(net.parameters())
    x = nt.randn(64, 4)
    y = x.argmax(1) % 3
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        first = first or loss.item()
    assert loss.item() < 0.6 * first
    del loss


def test_state_round_trip(tmp_path):
    net, other = model(), model()
    with nt.no_grad():
        for p in other.parameters():
            p.zero_()
    nt.save(net.state_dict(), tmp_path / "net.nt")
    other.load_state_dict(nt.load(tmp_path / "net.nt"))
    x = nt.randn(2, 4)
    assert nt.equal(net(x).detach(), other(x).detach())
    with pytest.raises(RuntimeError, match="size mismatch"):
        nt.nn.Linear(2, 2).load_state_dict(nt.nn.Linear(3, 2).state_dict())


def test_load_runs_no_code():
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    file = io.BytesIO()
    np.savez(file, contents=np.array([Evil()], dtype=object))
    file.seek(0)
    with pytest.raises(ValueError):
        nt.load(file)


def test_copies():
    p = nt.nn.Parameter(nt.tensor([1.0, 2.0]))
    q = copy.deepcopy(p)
    assert type(q) is nt.nn.Parameter and q.tolist() == [1.0, 2.0] and q.data_ptr() != p.data_ptr()
    assert pickle.loads(pickle.dumps(nt.tensor([3.0]))).tolist() == [3.0]
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(p * 2.0)


def test_data_loader():
    data = nt.utils.data.TensorDataset(nt.arange(10), nt.arange(10) * 2)
    loader = nt.utils.data.DataLoader(data, batch_size=3, shuffle=True, generator=nt.Generator().manual_seed(1))
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    assert sorted(v for x, _ in batches for v in x.tolist()) == list(range(10))


def test_random_numbers_hang_on_the_seed():
    draw = lambda: nt.randn(5, generator=nt.Generator().manual_seed(7)).tolist()
    assert draw() == draw()


def test_out_of_range_target():
    with pytest.raises(IndexError, match="Target 3 is out of bounds"):
        F.cross_entropy(nt.randn(2, 3), nt.tensor([0, 3]))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "binary_cross_entropy_with_logits"])
def test_losses_as_pytorch(name):
    torch = pytest.importorskip("torch")
    x, y = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("f4")
    ours = getattr(F, name)(nt.tensor(x), nt.tensor(y)).item()
    theirs = getattr(torch.nn.functional, name)(torch.tensor(x), torch.tensor(y)).item()
    assert ours == pytest.approx(theirs, rel=1e-5)
