"""`vmap` of every kind of op against a loop over the entries, alone and nested; errors; random numbers; the loop in place of a rule."""

import collections
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbatensor as nt
from numbatensor import samples
from numbatensor.func import rules, vmap
from numbatensor.op import OPS, Pointwise, Reduction

rng = np.random.default_rng(11)
F = nt.nn.functional


def real(*shape, low=-2.0, high=2.0):
    return nt.tensor(rng.uniform(low, high, shape))


def whole(*shape, below=3):
    return nt.tensor(rng.integers(0, below, shape))


def leaves(made):
    return [made] if isinstance(made, nt.Tensor) else [x for part in made for x in leaves(part)]


def entry(x, d, k):
    return x if d is None else x.select(d, k)


def check(f, args, in_dims, exact=True):
    """That `vmap` gives what a loop gives, and that its gradients are the loop's."""
    size = next(a.shape[d] for a, d in zip(args, in_dims, strict=True) if d is not None)
    floats = [k for k, a in enumerate(args) if isinstance(a, nt.Tensor) and a.dtype.is_floating_point]
    grads = []
    for way in ("vmap", "loop"):
        given = [a.detach().clone().requires_grad_() if k in floats else a for k, a in enumerate(args)]
        if way == "vmap":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outs = leaves(vmap(f, in_dims)(*given))
        else:
            rows = [leaves(f(*[entry(a, d, k) for a, d in zip(given, in_dims, strict=True)])) for k in range(size)]
            outs = [nt.stack(column) for column in zip(*rows, strict=True)]
        wanted = [o for o in outs if o.requires_grad]
        if wanted:
            weights = [nt.tensor(np.random.default_rng(k).uniform(size=o.shape)) for k, o in enumerate(wanted)]
            sum((o * w.to(o.dtype)).sum() for o, w in zip(wanted, weights, strict=True)).backward()
        grads.append((outs, [given[k].grad for k in floats]))
    for made, expected in zip(grads[0][0], grads[1][0], strict=True):
        assert made.dtype is expected.dtype and made.shape == expected.shape
        np.testing.assert_allclose(made.detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    for found, expected in zip(grads[0][1], grads[1][1], strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-9, atol=1e-11)


# every pointwise op and reduction, from its declaration

POINTWISE = [name for name, op in OPS.items() if isinstance(op, Pointwise)]
LOW = {"acosh": 1.2, "floor_divide": 1.1}


def operands(name, shapes):
    op = OPS[name]
    low, integral = LOW.get(name, 0.15), not op.row["dtypes"] >> 7 & 1
    make = (lambda s: whole(*s, below=4) + 1) if integral else (lambda s: real(*s, low=low, high=low + 0.7))
    made = [make(s) for s in shapes[: int(op.row["tensors"])]]
    if op.row["masks"] & 1:
        made[0] = made[0] > 0.5
    return made


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise(name):
    op, n = OPS[name], int(OPS[name].row["tensors"])
    check(lambda *a: op(*a), operands(name, [(3, 2, 4)] * n), [0] * n)
    if n > 1:  # ranks differ, some are not mapped, the batch is elsewhere
        check(lambda *a: op(*a), operands(name, [(4, 3), (3, 2, 4), (3,)]), [1, 0, 0][:n])
        check(lambda *a: op(*a), operands(name, [(2, 4), (4, 3), (3, 2, 1)]), [None, 1, 0][:n])
        check(lambda *a: op(*a), operands(name, [(2, 3, 4), (4,), (1,)]), [-2, None, None][:n])


@pytest.mark.parametrize("name", [n for n in POINTWISE if hasattr(nt.Tensor, n + "_") and OPS[n].row["result"] == 0])
def test_in_place(name):
    n = int(OPS[name].row["tensors"])

    def f(x, *rest):
        x = x.clone()
        assert getattr(x, name + "_")(*rest) is x
        return x

    check(f, operands(name, [(3, 2, 4), (3, 4), (3, 1)]), [0] * n)
    check(f, operands(name, [(3, 2, 4), (4,), ()]), [0, None, None][:n])


REDUCTIONS = [name for name, op in OPS.items() if isinstance(op, Reduction)]


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name):
    op, x = OPS[name], real(2, 3, 4, low=0.5)
    for args in [(), (0,), (-1,), ((0, 1),), (1, True), (None, True), ((), False)]:
        check(lambda a: op(a, *args), [x], [0])
    check(lambda a: op(a, 0), [x], [2])
    if name not in ("var", "std"):
        check(lambda a: op(a), [real(3)], [0])


def test_promotion_of_entries_without_dimensions():
    scalars, vector = nt.tensor(rng.uniform(size=3)), real(4).float()
    check(lambda s, v: s * v, [scalars, vector], [0, None])
    check(lambda s, v: s * v, [scalars.float(), real(4)], [0, None])
    check(lambda s, t: s + t, [scalars.float(), nt.tensor(np.float64(2))], [0, None])
    check(lambda s, t: s + t, [whole(3), nt.tensor(np.float32(2))], [0, None])
    check(lambda s: s * 2 + 1.5, [whole(3)], [0])
    check(lambda s, c, v: nt.where(c, s, v), [scalars, scalars > 0.5, vector], [0, 0, None])


# views

X = real(3, 2, 4, 5)
VIEWS = [
    lambda x: x.transpose(0, -1),
    lambda x: x.permute(2, 0, 1),
    lambda x: x[0].t(),
    lambda x: x.T,
    lambda x: x.mT,
    lambda x: x.movedim(0, -1),
    lambda x: x.swapaxes(0, 1),
    lambda x: x.expand(7, 2, 4, 5),
    lambda x: x.unsqueeze(1).expand(-1, 3, -1, 5),
    lambda x: x[:, :1].expand_as(x),
    lambda x: x.select(-1, 2),
    lambda x: x.narrow(1, 1, 2),
    lambda x: x.unsqueeze(-1),
    lambda x: x.unsqueeze(0).squeeze(0),
    lambda x: x[:1, :, :1].squeeze(),
    lambda x: x[:1].squeeze(-1),
    lambda x: x.diagonal(0, 0, 1),
    lambda x: x.diagonal(1, 1, 2),
    lambda x: x.unfold(1, 2, 1),
    lambda x: x.reshape(-1),
    lambda x: x.reshape(4, -1),
    lambda x: x.transpose(0, 1).reshape(4, 10),
    lambda x: x.flatten(1),
    lambda x: x.unflatten(1, (2, -1)),
    lambda x: x.contiguous(),
    lambda x: x.transpose(0, 2).contiguous(),
    lambda x: x.clone(),
    lambda x: x.broadcast_to((2, 2, 4, 5)),
    lambda x: x.detach() * x,
    lambda x: x.to(nt.float32).to(x) + x.float().type_as(x),
    lambda x: nt.stack([row.sum() for row in x]),
    lambda x: x * len(x) + x.size(1) + x.ndim + x.dim() + x.numel(),
    lambda x: x.sum_to_size(1, 4, 1),
    lambda x: x.view_as(x) + x.reshape_as(x),
    lambda x: x.sum().squeeze() + x.sum().reshape(1).reshape(()),
    lambda x: x.sum().transpose(0, -1),
    lambda x: x.sum().softmax(0) + x.sum().cumsum(-1),
]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_view(number):
    check(VIEWS[number], [X], [0])
    check(VIEWS[number], [X.movedim(0, 2)], [2])
    check(VIEWS[number], [X.movedim(0, -1).contiguous()], [-1])


def test_views_of_memory():
    for f in (lambda x: x.view(2, 20), lambda x: x.view(-1), lambda x: x.as_strided((2, 3), (20, 4))):
        check(f, [X], [0])
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        vmap(lambda x: x.view(-1), 1)(X)
    made = vmap(lambda x: x.as_strided((2, 2), (1, 2), 3))(X)
    assert made[1].tolist() == [[X.reshape(-1)[40 + 3 + i + 2 * j].item() for j in range(2)] for i in range(2)]


def test_every_view_has_a_rule_that_its_geometry_gives():
    for f in VIEWS[:20]:
        kept = {name: op.batching for name, op in OPS.items() if isinstance(op, rules.View)}
        try:
            for name in kept:
                if name not in ("reshape", "view_as_shape"):
                    OPS[name].batching = None
            check(f, [X], [0])
        finally:
            for name, rule in kept.items():
                OPS[name].batching = rule


# ops with code of their own

A, B = real(3, 4, 5), real(3, 5, 2)
I3 = whole(3, 4)
CASES = {
    "softmax": (lambda x: x.softmax(0), [A], [0]),
    "softmax of one dimension": (lambda x: nt.softmax(x), [real(3, 4)], [0]),
    "log_softmax": (lambda x: x.log_softmax(-1), [A], [2]),
    "logsumexp": (lambda x: x.logsumexp(1, True), [A], [0]),
    "logsumexp of two": (lambda x: x.logsumexp((0, 1)), [A], [0]),
    "cumsum": (lambda x: x.cumsum(0), [A], [1]),
    "cumprod": (lambda x: x.cumprod(-1), [A], [0]),
    "sort": (lambda x: x.sort(0, descending=True), [A], [0]),
    "argsort": (lambda x: x.argsort(-1), [A], [1]),
    "topk": (lambda x: x.topk(2, 0), [A], [0]),
    "max": (lambda x: x.max(0), [A], [0]),
    "min": (lambda x: (x.min(), x.max()), [A], [0]),
    "argmax": (lambda x: (x.argmax(), x.argmax(1), x.argmin(0, True), x.argmax(None, True)), [A], [0]),
    "flip": (lambda x: x.flip(0, -1), [A], [0]),
    "roll": (lambda x: (x.roll(1, 0), x.roll((1, 2), (0, 1)), x.roll(1)), [A], [0]),
    "tile": (lambda x: (x.tile(2), x.tile(2, 1, 3), x.repeat(2, 1), nt.tile(x, 1)), [A], [0]),
    "triangles": (lambda x: (x.tril(), x.triu(1)), [A], [0]),
    "std": (lambda x: (x.std(0), x.var(1), x.norm(), x.norm(1, 0), nt.var_mean(x, 0)), [A], [0]),
    "clamp": (lambda x, y: (x.clamp(0.0, 1.0), x.clamp(y, y + 1.0), x.round(decimals=1)), [A, A * 0.1], [0, 0]),
    "logit": (lambda x: (nt.logit(x, 0.1), nt.nan_to_num(x), x.masked_fill(x > 0.5, 0.0)), [A.sigmoid()], [0]),
    "isclose": (lambda x, y: (nt.isclose(x, y), nt.isclose(x, y, equal_nan=True)), [A, A + 1e-9], [0, 0]),
    "where": (lambda x, y: (nt.where(x > 0.0, x, y), x.where(x > 0.0, 0.0)), [A, A * 2.0], [0, 0]),
    "matmul": (lambda x, y: x @ y, [A, B], [0, 0]),
    "matmul left": (lambda x, y: x @ y, [A, real(5, 2)], [0, None]),
    "matmul right": (lambda x, y: x @ y, [real(4, 5), B], [None, 0]),
    "matvec": (lambda x, y: x @ y, [real(4, 5), real(3, 5)], [None, 0]),
    "vecmat": (lambda x, y: x @ y, [real(3, 4), A], [0, 0]),
    "dot": (lambda x, y: (x @ y, x.dot(y), x.outer(y)), [real(3, 5), real(3, 5)], [0, 0]),
    "matmul of ranks": (lambda x, y: x @ y, [real(3, 2, 4, 5), B], [0, 0]),
    "matmul of more ranks": (lambda x, y: x @ y, [real(2, 4, 5), real(3, 6, 1, 5, 2)], [None, 0]),
    "bmm": (lambda x, y: x.bmm(y), [real(2, 3, 4, 5), real(3, 2, 5, 2)], [1, 0]),
    "mm": (lambda x, y: (x.mm(y), x.mv(y[:, 0]), nt.tensordot(x, y, 1)), [A, B], [0, 0]),
    "addmm": (lambda c, x, y: (c.addmm(x, y), c.addmm(x, y, beta=0, alpha=0.5)), [real(3, 2), A, B], [0, 0, 0]),
    "einsum": (lambda x, y: (nt.einsum("ij,jk->k", x, y), nt.einsum("ij,jk->ki", x, y)), [A, B], [0, 0]),
    "linear": (F.linear, [A, real(2, 5), real(2)], [0, None, None]),
    "linear of weights": (F.linear, [real(4, 5), real(3, 2, 5), real(3, 2)], [None, 0, 0]),
    "linear of vectors": (F.linear, [real(3, 5), real(3, 2, 5)], [0, 0]),
    "linear of bias": (F.linear, [real(3, 5), real(2, 5), real(3, 2)], [0, None, 0]),
    "layer_norm": (lambda x: F.layer_norm(x, (5,)), [A], [0]),
    "layer_norm of weights": (lambda x, w, b: F.layer_norm(x, (5,), w, b), [A, real(3, 5), real(5)], [0, 0, None]),
    "layer_norm of two": (lambda x, w: F.layer_norm(x, (4, 5), w), [A, real(4, 5)], [0, None]),
    "gelu": (lambda x: (F.gelu(x), F.gelu(x, "tanh"), F.relu(x), F.softplus(x)), [A], [0]),
    "cat": (lambda x, y: (nt.cat([x, y, x], 1), nt.cat([x, x])), [A, real(4, 1)], [0, None]),
    "cat of empty": (lambda x: nt.cat([x, nt.empty(0).double()], 1), [A], [0]),
    "stack": (lambda x, y: (nt.stack([x, y], -1), nt.stack([y, x])), [A, real(4, 5)], [0, None]),
    "hstack": (lambda x: (nt.hstack([x, x]), nt.vstack([x, x]), nt.hstack([x.sum(), x.sum()])), [A], [0]),
    "split": (lambda x: (x.split(3, 1), x.chunk(2), x.split([1, 3]), nt.unbind(x, 1)), [A], [0]),
    "gather": (lambda x, i: x.gather(0, i), [A, whole(3, 2, 5)], [0, 0]),
    "gather by one": (lambda x, i: x.gather(1, i), [A, whole(4, 2)], [0, None]),
    "gather from one": (lambda x, i: x.gather(1, i), [real(4, 5), whole(3, 4, 2)], [None, 0]),
    "take_along_dim": (lambda x, i: x.take_along_dim(i, 0), [A, whole(3, 1, 5)], [0, 0]),
    "scatter": (lambda x, i, s: x.scatter(0, i, s), [A, whole(3, 1, 5), real(3, 1, 5)], [0, 0, 0]),
    "scatter a number": (lambda x, i: x.scatter(0, i, 2.5), [A, whole(3, 2, 5)], [0, 0]),
    "scatter_add": (lambda x, i, s: x.scatter_add(1, i, s), [A, whole(4, 3), real(3, 4, 3)], [0, None, 0]),
    "scatter into one": (
        lambda x, i, s: x.scatter_add(1, i, s),
        [real(4, 5), whole(3, 4, 3), real(4, 3)],
        [None, 0, None],
    ),
    "index_select": (lambda x, i: x.index_select(0, i), [A, whole(2)], [0, None]),
    "index_select by each": (lambda x, i: x.index_select(-1, i), [A, whole(3, 2)], [0, 0]),
    "index_select from one": (lambda x, i: x.index_select(1, i), [real(4, 5), whole(3, 2)], [None, 0]),
    "index_add": (lambda x, i, s: x.index_add(0, i, s), [A, whole(2), real(3, 2, 5)], [0, None, 0]),
    "index_add by each": (lambda x, i, s: x.index_add(1, i, s, alpha=2), [A, whole(3, 2), real(3, 4, 2)], [0, 0, 0]),
    "masked_select": (lambda x: x.masked_select(nt.tensor([True, False, True, True, False])), [A], [0]),
    "index": (lambda x: (x[0], x[-1, 2], x[..., 1], x[1:, ::2], x[None], x[::-1], x[...]), [A], [0]),
    "index by one": (lambda x, i: (x[i], x[:, i], x[i, i], x[i, None]), [A, whole(2)], [0, None]),
    "index by each": (lambda x, i: (x[i], x[:, i], x[i, i], x[0, i]), [A, whole(3, 2)], [0, 0]),
    "index of one by each": (lambda x, i: (x[i], x[:, i], x[i, i]), [real(4, 5), whole(3, 2)], [None, 0]),
    "index by a scalar": (lambda x, i: (x[i], x[:, i], x[i, i]), [A, whole(3)], [0, 0]),
    "index apart": (lambda x, i: (x[i, :, i], x[:, i, :, i]), [real(3, 4, 5, 3, 3), whole(3, 2)], [0, 0]),
    "index by a mask": (lambda x: x[nt.tensor([True, False, True, True])], [A], [0]),
    "embedding": (F.embedding, [whole(3, 4), real(6, 2)], [0, None]),
    "embedding of tables": (lambda i, w: F.embedding(i, w, 1), [whole(3, 4), real(3, 6, 2)], [0, 0]),
    "nll": (lambda x, t: (F.cross_entropy(x, t), F.cross_entropy(x, t, reduction="none")), [A, I3], [0, 0]),
    "nll of weights": (
        lambda x, t, w: [F.cross_entropy(x, t, w, 1, r) for r in ("mean", "sum", "none")],
        [A, I3, real(5, low=0.5)],
        [0, 0, None],
    ),
    "nll of each weight": (
        lambda x, t, w: [F.nll_loss(x, t, w, 1, r) for r in ("mean", "sum", "none")],
        [A, I3, real(3, 5, low=0.5)],
        [0, 0, 0],
    ),
    "losses": (lambda x, t: (F.cross_entropy(x, t, label_smoothing=0.1), F.nll_loss(x[0], t[0])), [A, I3], [0, None]),
    "mse": (lambda x, y: (F.mse_loss(x, y), F.l1_loss(x, y, "sum")), [A, A * 0.5], [0, 0]),
}
CASES["losses"] = (CASES["losses"][0], [A, whole(4)], [0, None])


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    check(*CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_nested_case(name):
    """The same, with a second vmap outside: over all arguments, over the first alone, and of a batch of one."""
    f, args, dims = CASES[name]
    twice = [a if d is None else nt.stack([a, a.flip(d)]) for a, d in zip(args, dims, strict=True)]
    inner = [d if d is None or d < 0 else d for d in dims]
    outer = [None if d is None else 0 for d in dims]
    check(lambda *a: vmap(f, tuple(inner))(*a), twice, outer)
    if dims.count(None) < len(dims) - 1:
        first = next(k for k, d in enumerate(dims) if d is not None)
        mixed = [twice[k] if k == first else args[k] for k in range(len(args))]
        check(lambda *a: vmap(f, tuple(inner))(*a), mixed, [0 if k == first else None for k in range(len(args))])


# writes


def written(f):
    """A function that writes to a copy of its first argument."""

    def g(x, *rest):
        x = x.clone()
        f(x, *rest)
        return x

    return g


def assign(index):
    return lambda x, y, *i: x.__setitem__(index, y)


WRITES = {
    "row": (assign(0), [A, real(3, 5)], [0, 0]),
    "slice": (assign((slice(None), slice(1, 3))), [A, real(4, 2)], [0, None]),
    "number": (lambda x: x.__setitem__((..., 1), 2.0), [A], [0]),
    "list": (assign([0, 2]), [A, real(3, 2, 5)], [0, 0]),
    "index": (lambda x, y, i: x.__setitem__(i, y), [A, real(3, 5), whole(3)], [0, 0, 0]),
    "indices": (
        lambda x, y, i: x.__setitem__((slice(None), i), y),
        [A, real(2), nt.tensor([[0, 1], [3, 2], [4, 0]])],
        [0, None, 0],
    ),
    "add": (lambda x, y, i: x.index_put_((i,), y, accumulate=True), [A, real(3, 2, 5), whole(3, 2)], [0, 0, 0]),
    "copy": (lambda x, y: x.copy_(y), [A, real(3, 5)], [0, 0]),
    "fill": (lambda x: x.fill_(3.0), [A], [0]),
    "zero": (lambda x: x[1].zero_(), [A], [0]),
    "operators": (lambda x, y: x.add_(y).mul_(2.0).sub_(y, alpha=2).clamp_(0.0), [A, real(3, 5)], [0, 0]),
    "view": (lambda x, y: x.t()[1].mul_(y), [A, real(3, 4)], [0, 0]),
    "masked": (lambda x: x.masked_fill_(x > 0.5, 1.0), [A], [0]),
    "scatter": (lambda x, i: x.scatter_(0, i, 1.5), [A, whole(3, 1, 5)], [0, 0]),
    "tril": (lambda x: x.tril_().cumsum_(0), [A], [0]),
}


@pytest.mark.parametrize("name", WRITES)
def test_write(name):
    f, args, dims = WRITES[name]
    check(written(f), args, dims)


def test_writes_reach_what_is_mapped():
    x = nt.zeros(3, 2)
    vmap(lambda row, k: row.add_(k), (0, 0))(x, nt.arange(3).float())
    assert x.tolist() == [[0, 0], [1, 1], [2, 2]] and x._version == 1

    def f(a):
        z = nt.zeros_like(a)
        z[0] = a[1]
        return z, a.new_zeros(2).add_(a), a.new_full((2,), 7.0)

    check(f, [real(3, 2)], [0])


def test_views_in_place():
    def f(a):
        b = a.clone().unsqueeze_(0).transpose_(0, 1)
        return b.squeeze_(1).t_() * a.t()

    check(f, [real(3, 2, 2)], [0])


# the samples that declarations have

SAMPLED = [
    (name, k)
    for name, op in OPS.items()
    if (op.public or op.batching) and isinstance(op.samples, (list, tuple)) and name not in ("nonzero", "masked_select")
    for k in range(len(op.samples))
]


@pytest.mark.parametrize("name, number", SAMPLED)
def test_samples(name, number):
    """Each sample of each op that is public or has a rule of its own, with a batch of three in front of the first tensor, and of all of them."""
    op = OPS[name]
    given = [samples.draw(op.samples, seed)[number] for seed in (1, 2, 3)]
    tensors = [k for k, a in enumerate(given[0]) if isinstance(a, np.ndarray)]
    if not tensors or any(isinstance(a, tuple) and a and isinstance(a[0], np.ndarray) for a in given[0]):
        return
    for mapped in (tensors[:1], tensors):
        args = [
            nt.tensor(np.stack([g[k] for g in given]))
            if k in mapped
            else nt.tensor(a)
            if isinstance(a, np.ndarray)
            else a
            for k, a in enumerate(given[0])
        ]
        check(lambda *a: op(*a), args, [0 if k in mapped else None for k in range(len(args))])


# custom functions


class Twice(nt.autograd.Function):
    """x + x, whose gradient says that it is 3 * x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(ctx, x, k):
        return x * 2.0, x + k

    @staticmethod
    def backward(ctx, grad, other):
        return grad * 3.0 + other, None


class Mapped(Twice):
    generate_vmap_rule = False

    @staticmethod
    def vmap(info, in_dims, x, k):
        assert info.batch_size == x.shape[0] and in_dims == (0, None)
        return Mapped.apply(x, k), (0, 0)


def test_custom_functions():
    for function in (Twice, Mapped):
        check(lambda a: function.apply(a * 1.0, 2.0), [real(3, 2)], [0])
        check(lambda a: vmap(lambda b: function.apply(b, 1.0))(a), [real(3, 2, 4)], [0])
        g = vmap(nt.func.grad(lambda a: function.apply(a, 1.0)[0].sum()))(real(3, 2))
        assert g.tolist() == [[3, 3]] * 3
    bare = type("Bare", (Twice,), {"generate_vmap_rule": False})
    refused(
        lambda a: bare.apply(a, 1.0), real(3, 2), text="You tried to vmap over Bare, but it does not have vmap support"
    )
    both = type("Both", (Mapped,), {"generate_vmap_rule": True})
    refused(lambda a: both.apply(a, 1.0), real(3, 2), text="it has both generate_vmap_rule=True and an overriden vmap")


# structures


def test_dimensions_of_inputs_and_outputs():
    x, y = real(2, 3, 4), real(4, 3)
    made = vmap(lambda a, b: a + b, (1, -1), out_dims=1)(x, y)
    np.testing.assert_array_equal(made.numpy(), (x.movedim(1, 0).numpy() + y.numpy().T[:, None]).swapaxes(0, 1))
    Pair = collections.namedtuple("Pair", "a b")
    f = lambda p, q: {"sum": p["x"] + q.a, "one": [q.b, q.a * 2.0]}
    out = vmap(f, ({"x": 1}, Pair(0, None)), {"sum": -1, "one": [None, 0]})({"x": x}, Pair(real(3, 2, 4), y))
    assert out["sum"].shape == (2, 4, 3) and out["one"][0] is y and out["one"][1].shape == (3, 2, 4)
    assert vmap(lambda a, b: b, (0, None))(x, y).shape == (2, 4, 3)
    assert vmap(lambda a: nt.ones(2))(x).tolist() == [[1, 1], [1, 1]]
    assert vmap(lambda a, k=1.0: a * k)(x, k=2.0).shape == x.shape
    assert type(vmap(lambda a: Pair(a, a))(x)) is Pair
    assert vmap(lambda a: a, out_dims=(1,))(x).shape == (3, 2, 4)
    assert vmap(lambda a: (a, a), out_dims=[0, 1])(x)[1].shape == (3, 2, 4)


def test_chunks():
    x, w = real(7, 3), real(3)
    f = lambda a, b: ((a * b).sum(), a.outer(b))
    for size in (1, 3, 7, 10):
        made = vmap(f, (0, None), (0, 1), chunk_size=size)(x, w)
        np.testing.assert_allclose(made[0].numpy(), (x @ w).numpy())
        assert made[1].shape == (3, 7, 3)


def test_empty_batches():
    x = real(0, 3, 2)
    assert vmap(lambda a: (a.sum(), a.t(), a.T @ a, a.softmax(0), a[0], a.reshape(-1)))(x)[5].shape == (0, 6)


def test_deep_nesting():
    x = real(2, 3, 4, 5)
    f = lambda v: (v * v).cumsum(0) + v.sum()
    expected = np.cumsum(x.numpy() ** 2, -1) + x.numpy().sum(-1, keepdims=True)
    np.testing.assert_allclose(vmap(vmap(vmap(f)))(x).numpy(), expected)
    made = vmap(vmap(vmap(f), in_dims=1, out_dims=-1))(x)
    np.testing.assert_allclose(made.numpy(), np.moveaxis(expected, 2, -1))
    table = vmap(lambda a: vmap(lambda b: (a * b).sum())(real_rows))(real_rows)
    np.testing.assert_allclose(table.numpy(), (real_rows @ real_rows.T).numpy())


real_rows = real(3, 4)

# what it cannot do


def refused(f, *args, text, kind=RuntimeError, **options):
    with pytest.raises(kind) as error:
        vmap(f, **options)(*args)
    assert text in str(error.value), str(error.value)


def test_errors_of_values():
    x = real(3, 2)
    refused(lambda a: a.sum().item(), x, text="vmap: It looks like you're calling .item() on a Tensor")
    refused(lambda a: float(a.sum()), x, text=".item()")
    refused(lambda a: a if a.sum() > 0 else -a, x, text="data-dependent control flow")
    refused(lambda a: a.tolist(), x, text="Cannot access data pointer of Tensor that doesn't have storage")
    refused(lambda a: a.numpy(), x, text="Cannot access data pointer")
    refused(lambda a: nt.tensor(a), x, text="Cannot access data pointer")
    refused(lambda a: a[a > 0], x, text="dynamic shape")
    refused(lambda a: a.nonzero(), x, text="dynamic shape")
    refused(lambda a: a.masked_select(a > 0), x, text="differently shaped Tensor")
    refused(lambda a: a.requires_grad_(), x, text="You are attempting to call Tensor.requires_grad_()")
    refused(lambda a: a.sum().backward(), x, text="backward() called inside a functorch transform")
    y = nt.zeros(2).double()
    refused(lambda a: y.add_(a), x, text="vmap: inplace arithmetic(self, *extra_args) is not possible")
    refused(lambda a: y.copy_(a), x, text="inplace arithmetic")
    refused(lambda a: y.__setitem__(0, a[0]), x, text="inplace arithmetic")
    refused(lambda a: y.__setitem__([0], a[:1]), x, text="inplace arithmetic")
    refused(lambda a: nt.add(a, a, out=y), x, text="out=")
    refused(lambda a: a.add_(nt.zeros(3, 2)), x, text="doesn't match the broadcast shape")
    refused(lambda a: a.copy_(nt.zeros(3, 2)), x, text="cannot be broadcast")


def test_errors_speak_of_one_entry():
    x = real(3, 2, 4)
    refused(lambda a: a.sum(2), x, text="expected to be in range of [-2, 1], but got 2", kind=IndexError)
    refused(lambda a: a.transpose(0, 2), x, text="[-2, 1]", kind=IndexError)
    refused(lambda a: a.softmax(2), x, text="[-2, 1]", kind=IndexError)
    refused(lambda a: a.select(1, 4), x, text="index 4 is out of bounds for dimension 1 with size 4", kind=IndexError)
    refused(lambda a: a.reshape(3), x, text="shape '[3]' is invalid for input of size 8")
    refused(lambda a: a.expand(3, 4), x, text="The expanded size of the tensor (3) must match the existing size (2)")
    refused(lambda a: a.permute(0, 1, 2), x, text="input.dim() = 2 is not equal to len(dims) = 3")
    refused(lambda a: a[0, 0, 0], x, text="too many indices for tensor of dimension 2", kind=IndexError)
    refused(lambda a: a @ nt.ones(3, 2).double(), x, text="mat1 and mat2 shapes cannot be multiplied (2x4 and 3x2)")
    refused(lambda a: nt.cat([a, a[0]]), x, text="")


def test_errors_of_structure():
    x, y = real(3, 2), real(4, 2)
    add = lambda a, b: a + b
    bad = lambda text, *args, **options: refused(add, *args, text=text, kind=ValueError, **options)
    bad("Expected all tensors to have the same size in the mapped dimension, got sizes [3, 4]", x, y)
    bad("in_dims is not compatible with the structure of `inputs`", x, x, in_dims=(0,))
    bad("expected `in_dims` to be int or a (potentially nested) tuple", x, x, in_dims="a")
    bad("Got in_dim=a for an input but in_dim must be either an integer dimension or None", x, x, in_dims=("a", 0))
    bad("We cannot vmap over non-Tensor arguments", x, 2.0)
    bad("so expected in_dim to satisfy -2 <= in_dim < 2", x, x, in_dims=2)
    bad("Expected at least one Tensor to vmap over", x, x, in_dims=(None, None))
    bad("got no inputs")
    refused(lambda a: (a, 3), x, text="must only return Tensors, got type <class 'int'>", kind=ValueError)
    refused(lambda a: a, x, out_dims=None, text="can not return a BatchedTensor when out_dim is None", kind=ValueError)
    refused(lambda a: {"a": a}, x, out_dims={"b": 0}, text="out_dims is not compatible", kind=ValueError)
    refused(lambda a: a, x, out_dims="x", text="`out_dims` must be an int, None", kind=ValueError)
    refused(lambda a: a, x, out_dims=3, text="[-2, 1], but got 3", kind=IndexError)
    refused(lambda a: a, x, chunk_size=0, text="chunk_size should be None or greater than 0. (got 0)", kind=ValueError)
    refused(
        lambda a: a, x, randomness="no", text="Only allowed values for randomness are 'error', 'different', or 'same'"
    )


def test_what_leaves_a_vmap_by_the_back_door_is_refused():
    kept = []
    vmap(lambda a: (kept.append(a), a)[1])(real(3, 2))
    with pytest.raises(RuntimeError, match="that vmap has ended"):
        kept[0] + 1
    assert "BatchedTensor(lvl=" in repr(kept[0])
    kept.clear()


def test_native_code_refuses_what_it_does_not_know():
    """Functions that no rule covers fail, whatever they are given; none crashes."""
    from numbatensor.core import entries, pass_entries

    def f(a):
        for call in (
            lambda: nt.autograd.grad(a, a),
            lambda: nt.autograd.grad(a.sum(), a),
            lambda: entries.detach(a),
            lambda: entries.get(a, 0),
            lambda: entries.shape_tuple(a),
            lambda: entries.to_dtype(a, 7),
            lambda: pass_entries.run_backward((a,), (a,), 0, 0, None, 1),
            lambda: entries.write_into(a, a, 0),
            lambda: entries.address_of(a),
            lambda: nt.save(a, "/nowhere"),
        ):
            with pytest.raises((RuntimeError, TypeError)):
                call()
        return a

    vmap(f)(real(3, 2).requires_grad_())
    vmap(vmap(f))(real(3, 2).requires_grad_())


# random numbers


def test_random_numbers():
    x = real(4, 3)
    draws = {
        "rand": lambda a: nt.rand(3),
        "randn_like": lambda a: nt.randn_like(a),
        "randint": lambda a: nt.randint(0, 1000000, (3,)),
        "randperm": lambda a: nt.randperm(50),
        "uniform_": lambda a: a.clone().uniform_(),
        "normal_": lambda a: nt.rand(3).normal_(),
        "dropout": lambda a: F.dropout(nt.ones(300), 0.5),
        "normal": lambda a: nt.normal(nt.zeros(3), 1.0),
        "bernoulli": lambda a: nt.bernoulli(nt.full((300,), 0.5)),
        "multinomial": lambda a: nt.multinomial(nt.ones(100), 5),
    }
    for draw in draws.values():
        refused(lambda a: a.sum() + draw(a).sum(), x, text="called random operation while in randomness error mode")
        same = vmap(draw, randomness="same")(x)
        assert same.shape[0] == 4 and bool((same == same[:1]).all())
        other = vmap(draw, randomness="different")(x)
        assert other.shape == same.shape and all(not nt.equal(other[0], other[k]) for k in range(1, 4))
    both = vmap(vmap(lambda a: nt.rand(2), randomness="same"), randomness="different")(real(3, 4, 2))
    assert both.shape == (3, 4, 2) and bool((both == both[:, :1]).all()) and not nt.equal(both[0], both[1])
    both = vmap(vmap(lambda a: nt.rand(2), randomness="different"), randomness="different")(real(3, 4, 2))
    assert len(set(both.reshape(-1).tolist())) == 24
    refused(
        lambda a: nt.bernoulli(a), x.sigmoid(), randomness="same", text="same randomness with a batched tensor input"
    )
    y = nt.zeros(3)
    refused(
        lambda a: y.uniform_(), x, randomness="different", text="different inplace randomness on an unbatched tensor"
    )
    p = nt.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert vmap(nt.bernoulli, randomness="different")(p).tolist() == p.tolist()
    assert vmap(lambda q: nt.zeros_like(q).bernoulli_(q), randomness="different")(p).tolist() == p.tolist()
    assert vmap(lambda q: nt.multinomial(q, 1), randomness="different")(p).tolist() == [[1], [0]]


def test_random_numbers_are_reproducible():
    made = []
    for _ in range(2):
        nt.manual_seed(3)
        made.append(vmap(lambda a: a * nt.rand(2), randomness="different")(real_rows[:, :2]))
    assert nt.equal(*made)


# the loop


def test_loop_says_so_once(monkeypatch):
    op, x = OPS["softmax"], real(3, 4)
    monkeypatch.setattr(op, "batching", None)
    rules.warned.discard("softmax")
    with pytest.warns(UserWarning, match="softmax has no batching rule"):
        made = vmap(lambda a: a.softmax(0))(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = vmap(vmap(lambda a: a.softmax(0)))(x.reshape(1, 3, 4))
    assert nt.equal(made, x.softmax(1)) and nt.equal(again[0], made)
    with pytest.raises(RuntimeError, match="empty batch"):
        vmap(lambda a: a.softmax(0))(x[:0])


# programs

UNARY = ["exp", "sin", "tanh", "neg", "square", "sigmoid"]


@st.composite
def programs(draw):
    """Steps over two values of three dimensions, whose batch is the first."""
    return draw(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=7))


def run(program, x, y):
    for kind, a, b in program:
        d, e = a % x.ndim if x.ndim else 0, b % x.ndim if x.ndim else 0
        if kind == 0:
            x = getattr(x, UNARY[a])()
        elif kind == 1:
            x, y = y, x
        elif kind == 2:
            x = (x + y.sum()) * 0.5
        elif kind == 3 and x.ndim:
            x = x.transpose(d, e)
        elif kind == 4 and x.ndim:
            x = x.sum(d, keepdim=bool(b % 2)) * 0.3
        elif kind == 5:
            x = x.reshape(-1)
        elif kind == 6 and x.ndim and x.shape[d]:
            x = x.softmax(d) if b % 2 else x.cumsum(d) * 0.2
        elif kind == 7 and x.ndim:
            x = nt.cat([x, x.flip(d) * 0.5], d)[:6]
        elif kind == 8 and x.ndim and x.shape[d] > 1:
            x = x.select(d, b % x.shape[d])
        elif kind == 9 and x.ndim == 2:
            x = x @ x.T * 0.1
        elif kind == 10 and x.ndim:
            x = x.clone()
            x[b % x.shape[0]] = y.sum()
        elif kind == 11 and x.ndim:
            x = x.unsqueeze(d) if x.ndim < 4 else x.amax(d)
    return x, y.mean()


@settings(max_examples=60, deadline=None)
@given(programs(), st.integers(0, 2), st.integers(1, 3))
def test_programs(program, dim, size):
    local = np.random.default_rng(len(program))
    shape = [2, 3]
    shape.insert(dim, size)
    x, y = nt.tensor(local.uniform(-1, 1, shape)), nt.tensor(local.uniform(-1, 1, (size, 4)))
    check(lambda a, b: run(program, a, b), [x, y], [dim, 0])
