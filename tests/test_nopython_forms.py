"""Functions made of ops that compiled code runs natively in their common forms: results, gradients and errors are as in Python."""

import numpy as np
import pytest
from numba import njit
from test_nopython_surface import alike, matrix

import numbatensor as nt
import numbatensor.nn.functional as F
from numbatensor.nopython import loaded


def runs_natively(function):
    """Whether the code of a function that has been compiled never asks Python for anything by name."""
    return not any("PyImport_ImportModule" in text for text in function.inspect_llvm().values())


def test_joins():
    def joined(x, v):
        parts = [x, x * 2.0]
        return (
            nt.cat((x, x.to(nt.float64))),
            nt.cat(parts, 1),
            nt.cat((v,), axis=0),
            nt.cat([v, nt.zeros(0), v * v], dim=-1),
            nt.stack((v, v), -1),
            nt.stack(parts, dim=1),
            nt.hstack((v, v)),
            nt.vstack((x, x * x)),
        )

    alike(joined, matrix(), nt.tensor([1.0, 2.0], requires_grad=True))
    compiled = njit(joined)
    compiled(matrix(), nt.ones(2))
    assert runs_natively(compiled)


def test_wrong_joins():
    @njit
    def joined(x, y, dim):
        return nt.cat((x, y), dim)

    @njit
    def stacked(parts):
        return nt.stack(parts)

    @njit
    def none(x):
        parts = [x]
        parts.pop()
        return nt.stack(parts)

    for arguments in ((nt.ones(2, 3), nt.ones(3, 2), 0), (nt.ones(2), nt.ones(2), 3)):
        with pytest.raises((RuntimeError, IndexError)) as expected:
            nt.cat(arguments[:2], arguments[2])
        with pytest.raises(type(expected.value)) as found:
            joined(*arguments)
        assert str(found.value) == str(expected.value)
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        stacked((nt.ones(2), nt.ones(3)))
    with pytest.raises(RuntimeError, match="expects a non-empty TensorList"):
        none(nt.ones(2))

    @njit
    def tried(x, y):
        try:
            return nt.cat((x, y), 0)
        except Exception:
            return x

    assert tried(nt.ones(2, 3), nt.ones(3, 2)).shape == (2, 3)


def test_products_of_vectors():
    def products(s, m):
        return s @ s, nt.dot(s, s), m @ s, s @ m.T, nt.mv(m, s), nt.mm(m, m.T), s.dot(s)

    alike(products, nt.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True), matrix())
    compiled = njit(products)
    compiled(nt.ones(4), nt.ones(3, 4))
    assert runs_natively(compiled)
    with pytest.raises(RuntimeError, match="1D tensors expected, but got 2D and 1D"):
        njit(lambda x, y: nt.dot(x, y))(nt.ones(2, 2), nt.ones(2))
    with pytest.raises(RuntimeError, match="2x3 and 4"):
        njit(lambda x, y: x @ y)(nt.ones(2, 3), nt.ones(4))


ROWS = {
    "softmax": lambda x, k: (nt.softmax(x, 1), x.log_softmax(-1), x.softmax(dim=0)),
    "scans": lambda x, k: (x.cumsum(0), nt.cumprod(x, dim=1)),
    "logsumexp": lambda x, k: (nt.logsumexp(x, 1), x.logsumexp(0, keepdim=True), nt.logsumexp(x, dim=-1)),
    "extrema": lambda x, k: (x.max(), nt.min(x), x.max(1), x.min(dim=0, keepdim=True), nt.max(x, x * x), x.max(axis=1)),
    "parts of extrema": lambda x, k: (x.max(1).values, x.max(1)[1], nt.max(x.sum(), 0)[0]),
    "argmax": lambda x, k: (x.argmax(), nt.argmin(x, 1), x.argmax(0, True), nt.argmax(x, axis=1)),
    "spread": lambda x, k: (
        x.var(),
        x.std(1),
        nt.var(x, 0, unbiased=False),
        x.std(correction=0),
        x.var(1, keepdim=True),
    ),
    "norm": lambda x, k: (x.norm(), nt.norm(x, 2, 1), x.norm(dim=0, keepdim=True)),
    "clamp": lambda x, k: (
        x.clamp(1.0, 5.0),
        nt.clamp(x, max=3),
        x.clamp(min=2.0),
        x.clamp(x * 0.5, x * 2.0),
        x.clip(0, 4),
    ),
    "where": lambda x, k: (nt.where(x > 4, x, 0.0), nt.where(x > 4, x * x, x), x.masked_fill(x > 3, -1.0)),
    "order": lambda x, k: (x.sort(1), x.sort(0, True), nt.topk(x, 2), x.topk(1, 0, largest=False), nt.argsort(x, 1)),
    "indices": lambda x, k: (x.gather(1, k.unsqueeze(1)), nt.index_select(x, 0, k), x.index_add(0, k, x * 2.0)),
    "arranged": lambda x, k: (
        x.flip(0),
        x.flip((0, 1)),
        x.roll(1, 0),
        x.repeat(2, 1),
        nt.tile(x, (2,)),
        nt.tril(x),
        x.triu(1),
    ),
    "whole": lambda x, k: (x.round(), nt.addmm(x, x, nt.eye(4), beta=2.0), nt.nonzero(k)),
    "layers": lambda x, k: (F.relu(x), F.linear(x, x), F.linear(x, x, k.to(nt.float32)), F.nll_loss(x, k)),
}


@pytest.mark.parametrize("name", ROWS)
def test_forms(name):
    alike(ROWS[name], matrix(), nt.tensor([2, 0, 1]))


@pytest.mark.parametrize("name", ROWS)
def test_forms_are_native(name):
    run = njit(ROWS[name])
    with nt.no_grad():
        run(matrix(), nt.tensor([2, 0, 1]))
    assert runs_natively(run) or name == "whole"  # `eye` is Python's


def test_other_forms_are_python_s():
    def others(x):
        return (
            x.norm(3),
            x.softmax(0, dtype=nt.float64),
            nt.cumsum(x, 0, nt.float64),
            x.flip([0, 1]),
            nt.logsumexp(x, (0, 1)),
        )

    alike(others, matrix())


def test_every_form_is_a_function_of_ours():
    known = loaded("functions")
    names = {path for rules in known.RULES.values() for path in rules} | {"relu", "linear", "nll_loss"}
    assert set(loaded("native_forms").FORMS) <= names


def test_tensors_of_numbers():
    def made(a, n, b):
        values = [a, 2.0 * a]
        return (
            nt.tensor(a),
            nt.tensor(n),
            nt.tensor(b),
            nt.tensor([1.0, a, 3.0]),
            nt.tensor((1, n)),
            nt.tensor(((1.0, a), (2, n))),
            nt.tensor(values),
            nt.tensor([n, 2], dtype=nt.float64),
            nt.tensor([True, b]),
            nt.tensor(n, dtype=nt.int32),
            nt.tensor([a, 1.0], requires_grad=True),
        )

    alike(made, 1.5, 3, True)
    compiled = njit(made)
    compiled(1.5, 3, False)
    assert runs_natively(compiled)

    @njit
    def none(n):
        values = [1.0]
        values.pop()
        return nt.tensor(values)

    assert none(3).shape == (0,)
    assert np.array_equal(njit(lambda a: nt.tensor(a, dtype=nt.int64))(2.7).numpy(), 2)
    with pytest.raises(RuntimeError, match="floating point"):
        njit(lambda n: nt.tensor(n, requires_grad=True))(3)
