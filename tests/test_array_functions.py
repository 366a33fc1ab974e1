"""NumPy's functions on Tensors, outside of compiled code."""

import numpy as np
import pytest

import numbatensor as nt

CALLS = {
    "where": (lambda x: np.where(x > 1.0, x, 0.0), lambda x: nt.where(x > 1.0, x, 0.0)),
    "clip": (lambda x: np.clip(x, 0.5, 2.5), lambda x: x.clamp(0.5, 2.5)),
    "cumsum": (lambda x: np.cumsum(x, axis=1), lambda x: x.cumsum(1)),
    "cumsum of all": (lambda x: np.cumsum(x), lambda x: x.reshape(-1).cumsum(0)),
    "concatenate": (lambda x: np.concatenate((x, x * x), 1), lambda x: nt.cat((x, x * x), 1)),
    "stack": (lambda x: np.stack([x, x]), lambda x: nt.stack([x, x])),
    "sort": (lambda x: np.sort(x), lambda x: x.sort().values),
    "outer": (lambda x: np.outer(x[0], x), lambda x: nt.outer(x[0], x.reshape(-1))),
    "einsum": (lambda x: np.einsum("ij,kj->ik", x, x), lambda x: x @ x.T),
    "tril": (lambda x: np.tril(x), lambda x: nt.tril(x)),
}


@pytest.mark.parametrize("name", CALLS)
def test_counterparts_give_recorded_tensors(name):
    outcomes = []
    for call in CALLS[name]:
        x = nt.tensor([[0.0, 3.0, 1.0], [2.0, 0.5, 4.0]], requires_grad=True)
        made = call(x)
        made.sum().backward()
        outcomes.append((made.detach().numpy(), x.grad.numpy()))
    for found, expected in zip(*outcomes, strict=True):
        assert np.array_equal(found, expected)


def test_indices_and_truths():
    x = nt.tensor([[0.0, 3.0, 1.0], [2.0, 0.5, 4.0]])
    assert np.argmax(x).item() == 5 and np.argmin(x, axis=1).tolist() == [0, 1]
    assert np.argmax(x, 0, keepdims=True).shape == (1, 3)
    assert isinstance(np.isclose(x, x), nt.Tensor) and isinstance(np.argsort(x), nt.Tensor)


def test_all_others_give_what_numpy_makes():
    x = nt.tensor([3.0, 1.0])
    assert isinstance(np.median(x), np.floating) and isinstance(np.unique(x), np.ndarray)
    assert isinstance(np.clip(x, 0.0, 2.0, out=np.zeros(2, np.float32)), np.ndarray)
    assert isinstance(np.sum(x), nt.Tensor) and isinstance(np.mean(x, axis=0), nt.Tensor)
    with pytest.raises(RuntimeError, match="requires grad"):
        np.median(nt.ones(2, requires_grad=True))
