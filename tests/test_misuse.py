"""Bad input gets an error, never a crash."""

import numpy as np
import pytest

import numbatensor as nt


@pytest.mark.parametrize(
    "error, call",
    [
        (TypeError, lambda x: x + "a"),
        (TypeError, lambda x: x + None),
        (TypeError, lambda x: x + 1j),
        (TypeError, lambda x: nt.add()),
        (TypeError, lambda x: nt.add(x)),
        (TypeError, lambda x: nt.add(x, x, x)),
        (TypeError, lambda x: nt.add(x, x, out=5)),
        (RuntimeError, lambda x: nt.add(x, x, out=nt.zeros(4))),
        (RuntimeError, lambda x: nt.zeros(*[1] * 13)),
        (RuntimeError, lambda x: nt.from_numpy(np.zeros([1] * 13))),
        (RuntimeError, lambda x: x.reshape(*[1] * 12, 3)),
        (MemoryError, lambda x: nt.zeros(2**50)),
        (MemoryError, lambda x: nt.zeros(2**62, 2**62)),
        (RuntimeError, lambda x: nt.tensor([True]) - nt.tensor([True])),
        (RuntimeError, lambda x: nt.zeros(1).expand(3).add_(1.0)),
        (RuntimeError, lambda x: x[1:].add_(x[:-1])),
        (TypeError, lambda x: x.sum().requires_grad_().backward(5)),
        (RuntimeError, lambda x: setattr(x, "grad", nt.zeros(4))),
        (TypeError, lambda x: list(nt.tensor(1.0))),
        (RuntimeError, lambda x: object.__new__(nt.Tensor) + 1.0),
        (RuntimeError, lambda x: object.__new__(nt.Tensor).shape),
        (IndexError, lambda x: x[3]),
        (IndexError, lambda x: x[0, 0]),
        (IndexError, lambda x: x.sum(2)),
        (RuntimeError, lambda x: bool(x)),
    ],
)
def test_error(error, call):
    x = nt.zeros(3)
    with pytest.raises((error, TypeError) if error is RuntimeError else error):
        call(x)
    assert x.tolist() == [0, 0, 0] and x._version == 0


def test_subclasses():
    class Named(nt.Tensor):
        pass

    made = Named([1.0, 2.0])
    made.name = "mine"
    assert type(made) is Named and (made + made).tolist() == [2.0, 4.0] and made.name == "mine"
