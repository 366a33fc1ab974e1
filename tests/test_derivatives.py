"""Derivatives of what is made of several ops: first and second, against central differences."""

import numpy as np
import pytest

import numbatensor as nt

F = nt.nn.functional
LONG = nt.int64


def reals(*shape, seed=0, low=-2.0, high=2.0):
    return nt.tensor(np.random.default_rng(seed).uniform(low, high, shape), requires_grad=True)


def index(*places):
    return nt.tensor(list(places), dtype=LONG)


def written(x, where, value):
    """A copy with what an index names overwritten."""
    y = x * 1.0
    y[where] = value
    return y


def in_turn(x, y):
    """Writes through views of views, to their base between them."""
    z = x * 1.0
    z[0].mul_(y[1])
    z.t()[1].mul_(y.t()[0])
    z.mul_(2.0)
    z[:, 1:].unsqueeze(0)[0, 1].add_(z[0, 1:])
    return z * z


MASK = nt.tensor([[True, False, True, False], [False, True, True, False], [True, True, False, False]])
AT = nt.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
x, y, v, w, t, m = reals(3, 4), reals(3, 4, seed=1), reals(4, seed=2), reals(3, seed=3), reals(2, 3, 4), reals(4, 2)
square, positive = reals(3, 3), reals(3, 4, low=0.3)
zeros = nt.tensor([[1.0, 0, 3, 2], [0, 0, 1, 2], [2, 1, 2, 1]], dtype=nt.float64, requires_grad=True)
COMPOSITES = {
    "a chain": (lambda x: (x.sin() * x.exp()).tanh(), x),
    "broadcast": (lambda x, v: x * v / (1.0 + v * v), x, v),
    "powers": (lambda x: x**2 + x**3 + x**-1 + x**0 + 2**x + x**1.5, positive),
    "softmax": (lambda x: x.softmax(1), x),
    "log_softmax": (lambda x: x.log_softmax(0), x),
    "logsumexp": (lambda x: x.logsumexp((0, 2)), t),
    "norm": (lambda x: x.norm(), x),
    "norm, rows": (lambda x: x.norm(dim=1, keepdim=True), x),
    "1-norm": (lambda x: x.norm(p=1, dim=0), x),
    "3-norm": (lambda x: x.norm(p=3, dim=0), x),
    "norm without bound": (lambda x: x.norm(p=float("inf"), dim=0), x),
    "-2-norm": (lambda x: x.norm(p=-2, dim=0), x),
    "std": (lambda x: x.std(1), x),
    "var and mean": (lambda x: nt.var_mean(x, 0), x),
    "prod with zeros": (lambda x: x.prod(1), zeros),
    "cumprod with zeros": (lambda x: x.cumprod(1), zeros),
    "max": (lambda x: x.max(1).values * x.amax(), x),
    "sort": (lambda x: x.sort(1).values ** 2, x),
    "topk": (lambda x: x.topk(2, 0).values ** 2, x),
    "clamp": (lambda x: x.clamp(-1, 1) ** 2, x),
    "clamp by tensors": (lambda x, y: x.clamp(y, y + 1.0) ** 2, x, y),
    "where": (lambda x, y: nt.where(MASK, x * x, y * x), x, y),
    "masked_fill": (lambda x, y: x.masked_fill(MASK, y.sum()) ** 2, x, y),
    "masked_select": (lambda x: x.masked_select(MASK) ** 2, x),
    "nan_to_num": (lambda x: x.nan_to_num() ** 2, x),
    "logit": (lambda x: nt.logit(x.sigmoid(), 0.1), x),
    "round": (lambda x: x * x.round(decimals=1), x),
    "lerp": (lambda x, y: nt.lerp(x, y * x, 0.3), x, y),
    "einsum": (lambda x, y: nt.einsum("ij,kj->ik", x, y), x, y),
    "einsum of three": (lambda x, y, v: nt.einsum("ij,kj,j->ik", x, y, v), x, y, v),
    "einsum, trace": (lambda x: nt.einsum("ii", x @ x), square),
    "tensordot": (lambda x, y: nt.tensordot(x, y), x, y),
    "matmul, batches": (lambda t, m: t @ m, t, m),
    "matmul, vectors": (lambda x, v, w: (w @ x) @ v, x, v, w),
    "bmm": (lambda t, u: t.bmm(u.mT), t, reals(2, 3, 4, seed=5)),
    "addmm": (lambda x, y, square: nt.addmm(square, x, y.t(), beta=0.5, alpha=2), x, y, square),
    "outer": (lambda v, w: nt.outer(v, w) ** 2, v, w),
    "linear": (lambda t, x, w: F.linear(t, x, w) ** 2, t, x, w),
    "cross_entropy": (lambda x: F.cross_entropy(x, index(1, 3, 0)), x),
    "cross_entropy, smoothed and weighted": (
        lambda x: F.cross_entropy(x, index(1, 3, 0), weight=v.detach().abs(), label_smoothing=0.1),
        x,
    ),
    "cross_entropy of probabilities": (lambda x, y: F.cross_entropy(x, y.softmax(1), reduction="none"), x, y),
    "nll_loss": (lambda t: F.nll_loss(t, nt.tensor([[0, 1, 2, 0], [1, 1, -100, 2]]), reduction="sum"), t),
    "binary_cross_entropy_with_logits": (lambda x, y: F.binary_cross_entropy_with_logits(x, y.sigmoid()), x, y),
    "mse_loss": (F.mse_loss, x, y),
    "l1_loss": (F.l1_loss, x, y),
    "layer_norm": (lambda t, x, y: F.layer_norm(t, (3, 4), x, y), t, x, y),
    "layer_norm without weight": (lambda x: F.layer_norm(x, (4,)), x),
    "gelu": (F.gelu, x),
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), x),
    "embedding": (lambda x: F.embedding(AT, x) ** 2, x),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False) ** 2, x),
    "an index": (lambda x: x[index(2, 0, 2)] ** 2, x),
    "an index and a slice": (lambda x: x[1:, index(2, 0, 2)] ** 2, x),
    "two indices": (lambda t: t[index(1, 0), :, index(2, 2)] ** 2, t),
    "a mask": (lambda x: x[MASK] ** 2, x),
    "slices": (lambda x: x[::-1, ::2] ** 2, x),
    "setitem, a slice": (lambda x, y: written(x, (slice(1, None), slice(None, None, 2)), y[1:, :2]) ** 2, x, y),
    "setitem, a number": (lambda x: written(x, 1, 2.0) ** 2, x),
    "setitem, an index": (lambda x, y: written(x, index(0, 2), y[:2]) ** 2, x, y),
    "setitem, a mask": (lambda x, y: written(x, MASK, y.sum()) ** 2, x, y),
    "index_put_": (lambda x, y: (x * 1.0).index_put_((index(0, 0, 2),), y, accumulate=True) ** 2, x, y),
    "writes to views": (in_turn, x, y),
    "gather": (lambda x: x.gather(0, AT) ** 2, x),
    "take_along_dim": (lambda x: nt.take_along_dim(x, AT, 0) ** 2, x),
    "scatter": (lambda x, y: x.scatter(0, AT[:1], y) ** 2, x, y),
    "scatter, part of a source": (lambda x, y: x.scatter(0, AT[:, :2][:1], y) ** 2, x, y),
    "scatter_add": (lambda x, y: x.scatter_add(0, AT, y) ** 2, x, y),
    "index_select": (lambda x: x.index_select(1, index(0, 0, 2)) ** 2, x),
    "index_add": (lambda x, y: x.index_add(0, index(0, 0, 2), y, alpha=2) ** 2, x, y),
    "cat": (lambda x, y: nt.cat([x, y * x, x], 1) ** 2, x, y),
    "stack": (lambda x, y: nt.stack([x, y * x], 1) ** 2, x, y),
    "split": (lambda x: [part**2 for part in x.split(3, 1)], x),
    "chunk": (lambda x: x.chunk(2, 1)[1] * x.unbind(1)[0].unsqueeze(1), x),
    "reshape, transpose, expand": (lambda x: x.t().reshape(2, 6).unsqueeze(1).expand(2, 3, 6) ** 2, x),
    "unfold": (lambda x: x.unfold(1, 2, 1) ** 2, x),
    "diagonal": (lambda t: t.diagonal(1, 1, 2) ** 2, t),
    "as_strided": (lambda x: nt.as_strided(x, (2, 2), (1, 1), 1) ** 2, x),
    "flip, roll, repeat": (lambda x: (x.flip(0).roll(1, 1).repeat(2, 1) * 2.0) ** 2, x),
    "triangles": (lambda x: x.tril() * x.triu(1).t() ** 2, square),
    "other dtypes": (lambda x: (x * nt.tensor([1, 2, 3, 4])).to(nt.float64) ** 2, x),
    "in place": (lambda x, y: (x * 1.0).add_(y, alpha=2).mul_(y).sin_().clamp_(max=0.5), x, y),
    "in place, along a dimension": (
        lambda x: (x * 1.0).cumsum_(1).tril_().masked_fill_(MASK, 0.5).addmm_(x, x.t() @ x),
        x,
    ),
    "copy_": (lambda x, y: nt.zeros(3, 4, dtype=nt.float64).copy_(x * y) ** 2, x, y),
    "a convolution of a kind": (lambda x, w: (x.unfold(1, 3, 1) * w).sum(-1).relu().mean(1), x, w),
    "attention": (lambda q, k: ((q @ k.mT) / 2.0).softmax(-1).tril() @ k, t, reals(2, 3, 4, seed=6)),
}
each = pytest.mark.parametrize("name", COMPOSITES)


def composite(name):
    """A function, and leaves of this test's own."""
    function, *inputs = COMPOSITES[name]
    return function, [t.detach().clone().requires_grad_() for t in inputs]


@each
def test_first(name):
    function, inputs = composite(name)
    assert nt.autograd.gradcheck(function, inputs)


@each
def test_second(name):
    function, inputs = composite(name)
    assert nt.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", ["a chain", "powers", "norm", "std", "prod with zeros", "cross_entropy", "layer_norm"])
def test_third(name):
    function, inputs = composite(name)

    def gradients(*inputs):
        return nt.autograd.grad((function(*inputs) ** 2).sum(), inputs, create_graph=True)

    assert nt.autograd.gradgradcheck(gradients, inputs, fast_mode=True)
