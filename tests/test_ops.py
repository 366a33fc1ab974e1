"""Every pointwise op, from its declaration: gradients against central differences, the in-place form, dtypes, strides."""

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.op import OPS, Pointwise

POINTWISE = [name for name, op in OPS.items() if isinstance(op, Pointwise)]
DIFFERENTIABLE = [name for name in POINTWISE if OPS[name].rules and OPS[name].row["dtypes"] >> 7 & 1]
# where the formula is real and smooth: (low, high) of each operand
DOMAINS = {"acosh": [(1.2, 3.0)], "log": [(0.2, 3.0)], "floor_divide": [(1.1, 1.4), (2.1, 2.4)]}


def arguments(name, dtype="f8", shape=(3, 4)):
    """Operands in the op's domain, no two equal."""
    op, rng = OPS[name], np.random.default_rng(3)
    made = []
    for k in range(int(op.row["tensors"])):
        low, high = DOMAINS.get(name, [(0.15, 0.45), (0.55, 0.85), (0.5, 0.9)])[k]
        made.append(rng.uniform(low, high, shape).astype(dtype))
    if op.row["masks"] & 1:
        made[0] = rng.random(shape) > 0.5
    return made


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient(name):
    op, f = OPS[name], OPS[name]
    arrays = arguments(name)
    weight = np.random.default_rng(4).random((3, 4))
    tensors = [nt.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    out = f(*tensors)
    (out * nt.tensor(weight)).sum().backward()
    step = 1e-6
    for i, array in enumerate(arrays):
        if op.inputs[i] not in op.rules:
            continue
        moved = []
        for sign in (1, -1):
            shifted = [a + sign * step if k == i else a for k, a in enumerate(arrays)]
            moved.append(f(*[nt.tensor(a) for a in shifted]).numpy() * weight)
        # elementwise ops have diagonal Jacobians, so all elements can move at once
        np.testing.assert_allclose(tensors[i].grad.numpy(), (moved[0] - moved[1]) / (2 * step), rtol=1e-5, atol=1e-7)
        assert array.dtype == np.float64


@pytest.mark.parametrize(
    "name", [n for n in DIFFERENTIABLE if hasattr(nt.Tensor, n + "_") and OPS[n].row["result"] == 0]
)
def test_in_place(name):
    arrays = arguments(name)
    expected = OPS[name](*[nt.tensor(a) for a in arrays]).numpy()
    x, *rest = [nt.tensor(a) for a in arrays]
    assert getattr(x, name + "_")(*rest) is x and x._version == 1
    np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_strides_and_sizes(name):
    f = OPS[name]
    arrays = arguments(name)
    expected = f(*[nt.tensor(a) for a in arrays]).numpy()
    turned = [np.asfortranarray(a)[::-1] for a in arrays]
    np.testing.assert_array_equal(f(*[nt.from_numpy(a) for a in turned]).numpy(), expected[::-1])
    assert f(*[nt.tensor(a[:0]) for a in arrays]).shape == (0, 4)


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if n != "to"])
def test_float32_stays_float32(name):
    out = OPS[name](*[nt.tensor(a) for a in arguments(name, "f4")])
    assert out.dtype is nt.float32


UNARY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "sqrt",
    "floor",
    "ceil",
    "trunc",
    "square",
    "reciprocal",
    "abs",
    "sign",
    "isnan",
    "isinf",
    "isfinite",
]


@pytest.mark.parametrize("name", UNARY)
def test_values_with_nan_and_infinities(name):
    x = np.array([0.5, -0.5, 1.5, -2.5, 0.0, np.inf, -np.inf, np.nan])
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    if name == "sign":
        expected[-1] = 0  # PyTorch's choice for NaN, which is neither positive nor negative
    np.testing.assert_allclose(getattr(nt, name)(nt.tensor(x)).numpy(), expected, rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", POINTWISE)
def test_documented(name):
    assert OPS[name].__doc__


@pytest.mark.parametrize(
    "x, y", [("bool", "int64"), ("uint8", "int8"), ("int32", "float32"), ("int64", "int16"), ("float32", "float64")]
)
def test_promotion(x, y):
    made = nt.tensor(np.ones(2, x)) + nt.tensor(np.ones(2, y))
    expected = {("uint8", "int8"): "int16", ("int32", "float32"): "float32"}.get((x, y), np.result_type(x, y).name)
    assert made.dtype.name == expected


def test_priorities_of_promotion():
    i, f = nt.tensor([1, 2]), nt.tensor([1.0, 2.0])
    assert (i + 1.5).dtype is nt.float32 and (i / i).dtype is nt.float32 and i.sum().dtype is nt.int64
    assert (f + nt.tensor(np.float64(1))).dtype is nt.float32
    assert (i + nt.tensor(np.float64(1))).dtype is nt.float64


INDICES = [
    1,
    -1,
    slice(None, None, -1),
    slice(1, 3),
    (slice(None), 2),
    None,
    Ellipsis,
    (Ellipsis, None, 1),
    [0, 2],
    (slice(None), [1, 0]),
    ([0, 1], slice(None), [1, 2]),
    (np.array([[0, 1], [2, 0]]),),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_indexing_as_numpy(index):
    x = np.arange(60.0).reshape(3, 4, 5)
    t = nt.tensor(x, requires_grad=True)
    got = t[index]
    np.testing.assert_array_equal(got.detach().numpy(), x[index])
    got.sum().backward()
    expected = np.zeros_like(x)
    np.add.at(expected, index, 1)
    np.testing.assert_array_equal(t.grad.numpy(), expected)
    u, y = nt.tensor(x), x.copy()
    u[index] = -1.0
    y[index] = -1.0
    np.testing.assert_array_equal(u.numpy(), y)


@pytest.mark.parametrize(
    "f, g",
    [
        (lambda t: t.softmax(1), lambda t: t.exp() / t.exp().sum(1, keepdim=True)),
        (lambda t: t.log_softmax(0), lambda t: t - t.exp().sum(0, keepdim=True).log()),
        (lambda t: t.logsumexp(1), lambda t: t.exp().sum(1).log()),
        (lambda t: t.cumsum(1), lambda t: nt.stack([t[:, : k + 1].sum(1) for k in range(4)], 1)),
        (lambda t: t.cumprod(1), lambda t: nt.stack([t[:, : k + 1].prod(1) for k in range(4)], 1)),
        (lambda t: t.flip(0).roll(1, 1), lambda t: nt.cat([t[::-1, 3:], t[::-1, :3]], 1)),
        (lambda t: nt.einsum("ij,kj->ik", t, t), lambda t: t @ t.t()),
        (lambda t: t.var(1), lambda t: ((t - t.mean(1, keepdim=True)) ** 2).sum(1) / 3.0),
        (
            lambda t: t.gather(1, nt.tensor([[0, 3], [1, 1], [2, 0]])),
            lambda t: nt.stack([t[[0, 1, 2], [0, 1, 2]], t[[0, 1, 2], [3, 1, 0]]], 1),
        ),
        (lambda t: t.amax(1), lambda t: t.max(1).values),
    ],
)
def test_two_ways_agree(f, g):
    x, w = np.random.default_rng(5).random((3, 4)), None
    grads = []
    for way in (f, g):
        t = nt.tensor(x, requires_grad=True)
        out = way(t)
        w = np.random.default_rng(6).random(tuple(out.shape)) if w is None else w
        (out * nt.tensor(w)).sum().backward()
        grads.append((out.detach().numpy().copy(), t.grad.numpy().copy()))
    np.testing.assert_allclose(grads[0][0], grads[1][0], rtol=1e-10)
    np.testing.assert_allclose(grads[0][1], grads[1][1], rtol=1e-8, atol=1e-12)
