"""Every op, from the samples in its declaration: values, derivatives, dtypes, strides, the in-place form."""

import numpy as np
import pytest
import scipy.special
from sampled import CASES, Case

import numbatensor as nt
from numbatensor.op import OPS, Pointwise, View

POINTWISE = [name for name, op in OPS.items() if isinstance(op, Pointwise)]
each = lambda cases: pytest.mark.parametrize("case", cases, ids=lambda case: case.id)
differentiable = each([c for c in CASES if any(c.wanted)])


@differentiable
def test_gradient(case):
    assert nt.autograd.gradcheck(case, case.tensors())


@differentiable
def test_gradient_of_gradient(case):
    assert nt.autograd.gradgradcheck(case, case.tensors())


THIRD = ["exp", "tanh", "sigmoid", "mul", "pow", "matmul", "softmax", "log_softmax", "var", "prod", "layer_norm"]


@pytest.mark.parametrize("name", THIRD)
def test_third_derivatives(name):
    case = Case(name, 0)

    def gradients(*tensors):
        out = case(*tensors)
        return nt.autograd.grad((out * out).sum(), tensors, create_graph=True)

    assert nt.autograd.gradgradcheck(gradients, case.tensors(), fast_mode=True)


@each([c for c in CASES if isinstance(c.op, Pointwise) and sum(c.wanted) > 1])
def test_gradients_of_broadcast_operands(case):
    first, second, *rest = case.tensors()
    operands = [t[:, :1] if k == 0 else t[0] for k, t in enumerate((first, second))]
    operands = [t.detach().clone().requires_grad_(t.requires_grad) for t in operands]
    assert nt.autograd.gradcheck(case, (*operands, *rest)) and nt.autograd.gradgradcheck(case, (*operands, *rest))


@each([c for c in CASES if isinstance(c.op, Pointwise) and len(c.wanted) == 2 and sum(c.wanted)])
def test_gradients_beside_a_number(case):
    for k, tensor in enumerate(case.tensors()):
        beside = lambda t, k=k: case.op(0.75, t) if k else case.op(t, 0.75)
        assert nt.autograd.gradcheck(beside, tensor) and nt.autograd.gradgradcheck(beside, tensor)


def gradients(out, tensors):
    """The gradients of a weighted sum."""
    weight = nt.tensor(np.linspace(1.0, 2.0, out.numel()).reshape(tuple(out.shape)), dtype=out.dtype)
    wanted = [t for t in tensors if t.requires_grad]
    return [g.numpy() for g in nt.autograd.grad((out * weight).sum(), wanted)]


@each(
    [
        c
        for c in CASES
        if isinstance(c.op, Pointwise) and hasattr(nt.Tensor, c.op.name + "_") and c.arrays[0].dtype.kind == "f"
    ]
)
def test_in_place(case):
    tensors = case.tensors()
    attributes = case.arguments[len(tensors) :]
    first = tensors[0].clone()
    before = first._version
    assert getattr(first, case.op.name + "_")(*tensors[1:], *attributes) is first and first._version == before + 1
    expected = case(*tensors)
    np.testing.assert_array_equal(first.detach().numpy(), expected.detach().numpy())
    if any(case.wanted):
        for a, b in zip(gradients(first, tensors), gradients(expected, tensors), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@each([c for c in CASES if not isinstance(c.op, View)])
def test_strides(case):
    """Of views, the strides are the value."""
    tensors, turned = case.tensors(), case.tensors(turned=True)
    out, other = case(*tensors), case(*turned)
    exact = 0 if isinstance(case.op, Pointwise) else 1e-12  # sums are in another order
    np.testing.assert_allclose(other.detach().numpy(), out.detach().numpy(), rtol=exact)
    if out.requires_grad:
        for a, b in zip(gradients(other, turned), gradients(out, tensors), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@each([c for c in CASES if isinstance(c.op, Pointwise)])
def test_no_elements(case):
    tensors = [t[:0].detach().requires_grad_(t.requires_grad) for t in case.tensors()]
    out = case(*tensors)
    assert out.shape == (0, *case.arrays[0].shape[1:])
    if out.requires_grad:
        out.sum().backward()
        assert all(t.grad is None or t.grad.shape == t.shape for t in tensors)


@each([c for c in CASES if any(c.wanted) and "steps" not in c.op.inputs])  # whose strides are in bytes, of float64
def test_float32_stays_float32(case):
    wide, narrow = case.tensors(), case.tensors("f4")
    out, exact = case(*narrow), case(*wide)
    assert out.dtype is nt.float32
    np.testing.assert_allclose(out.detach().numpy(), exact.detach().numpy(), rtol=1e-4, atol=1e-5)
    for a, b in zip(gradients(out, narrow), gradients(exact, wide), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


along = lambda f: lambda x, dim: f(x, axis=dim if x.ndim else None).reshape(x.shape)
reduced = lambda f: lambda x, dim=None, keepdim=False: f(x, axis=dim, keepdims=keepdim)
spread_out = lambda f: (
    lambda x, dim=None, keepdim=False, correction=1: f(x, axis=dim, keepdims=keepdim, ddof=correction)
)
NUMPY = {
    **{name: getattr(np, name) for name in POINTWISE if hasattr(np, name)},
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "truncated_divide": lambda x, y: np.trunc(x / y),
    "neg": np.negative,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "frac": lambda x: x - np.trunc(x),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "lerp": lambda x, y, weight: x + weight * (y - x),
    "addcmul": lambda x, a, b, value=1: x + value * a * b,
    "addcdiv": lambda x, a, b, value=1: x + value * a / b,
    "clamp_min": np.maximum,
    "clamp_max": np.minimum,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "sigmoid": scipy.special.expit,
    "log_odds": scipy.special.logit,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(x)),
    "silu": lambda x: x * scipy.special.expit(x),
    "gelu_erf": lambda x: x * scipy.special.ndtr(x),
    "softplus": lambda x, beta=1.0, threshold=20.0: np.where(
        x * beta > threshold, x, np.log1p(np.exp(beta * x)) / beta
    ),
    "hardtanh": lambda x, low=-1.0, high=1.0: np.clip(x, low, high),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    **{
        name: reduced(getattr(np, name))
        for name in ("sum", "mean", "prod", "amax", "amin", "all", "any", "count_nonzero")
    },
    "var": spread_out(np.var),
    "std": spread_out(np.std),
    "euclidean_norm": reduced(lambda x, axis, keepdims: np.sqrt((x * x).sum(axis, keepdims=keepdims))),
    "softmax": along(scipy.special.softmax),
    "log_softmax": along(scipy.special.log_softmax),
    "logsumexp": lambda x, dim, keepdim=False: scipy.special.logsumexp(x, dim if x.ndim else None, keepdims=keepdim),
    "cumsum": along(np.cumsum),
    "cumprod": along(np.cumprod),
    "argmax": lambda x, dim=None, keepdim=False: np.argmax(x, dim, keepdims=keepdim),
    "argmin": lambda x, dim=None, keepdim=False: np.argmin(x, dim, keepdims=keepdim),
    "argsort": lambda x, dim=-1, descending=False: np.argsort(-x if descending else x, dim, kind="stable"),
    "flip": np.flip,
    "roll": np.roll,
    "tile": np.tile,
    "tril": np.tril,
    "triu": np.triu,
    "cat": np.concatenate,
    "stack": np.stack,
    "transpose": np.swapaxes,
    "permute": np.transpose,
    "unpermute": lambda x, dims: np.transpose(x, np.argsort(dims)),
    "t": np.transpose,
    "reverse_dimensions": np.transpose,
    "expand": lambda x, size: np.broadcast_to(x, [x.shape[k - len(size)] if n < 0 else n for k, n in enumerate(size)]),
    "select": lambda x, dim, index: np.take(x, index, dim),
    "narrow": lambda x, dim, start, length: np.take(x, range(start, start + length), dim),
    "slice": lambda x, dim, start, step, length: np.take(x, range(start, start + step * length, step), dim),
    "unsqueeze": np.expand_dims,
    "squeeze": np.squeeze,
    "diagonal": np.diagonal,
    "unfold": lambda x, dim, size, step: np.stack(
        [np.take(x, range(k, k + size), dim) for k in range(0, x.shape[dim] - size + 1, step)], dim
    ),
    "view_as_shape": np.reshape,
    "reshape": np.reshape,
    "as_rows": lambda x: x.reshape(-1, x.shape[-1]),
    "clone": np.copy,
    "pick": lambda x, i, j=None, *rest: x[:, i] if rest else x[i] if j is None else x[i, j],
    "select_slices": lambda x, index, dim: np.take(x, index, dim),
    "gather": lambda x, index, dim: np.take_along_axis(x, index, dim),
    "masked_select": lambda x, mask: x[mask],
    "nonzero": np.argwhere,
    "matmul": np.matmul,
    "linear": lambda x, weight, bias=0: x @ weight.T + bias,
    "addmm": lambda x, a, b, beta=1, alpha=1: beta * x + alpha * (a @ b),
}


@each([c for c in CASES if c.op.name in NUMPY])
def test_value(case):
    """Against NumPy and SciPy, where they have the op."""
    out, expected = case(*case.tensors()), NUMPY[case.op.name](*case.arguments)
    assert tuple(out.shape) == np.shape(expected)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


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
