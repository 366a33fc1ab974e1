"""How random functions are called: forms, shapes, dtypes, `out`, seeds and states, in-place counts, gradients, errors."""

import pickle

import numpy as np
import pytest
from scipy import stats

import numbatensor as nt

FILLS = {
    "uniform_": lambda x, g: x.uniform_(-1, 3, generator=g),
    "normal_": lambda x, g: x.normal_(1, 2, generator=g),
    "exponential_": lambda x, g: x.exponential_(0.5, generator=g),
    "random_": lambda x, g: x.random_(3, 90, generator=g),
    "bernoulli_": lambda x, g: x.bernoulli_(0.3, generator=g),
    "bernoulli_ of a tensor": lambda x, g: x.bernoulli_(nt.full((1,), 0.3), generator=g),
}


def test_seeds_and_states():
    nt.manual_seed(5)
    first = [nt.rand(3).tolist(), nt.randn(5).tolist(), nt.randperm(20).tolist()]
    assert nt.initial_seed() == 5
    state = nt.get_rng_state()
    then = nt.rand(7).tolist()
    nt.set_rng_state(state)
    assert nt.rand(7).tolist() == then
    assert nt.manual_seed(5) is nt.default_generator
    assert [nt.rand(3).tolist(), nt.randn(5).tolist(), nt.randperm(20).tolist()] == first
    assert nt.manual_seed(6) and nt.rand(3).tolist() != first[0]
    assert nt.seed() == nt.initial_seed() != nt.seed()
    g = nt.Generator()
    assert g.initial_seed() == 67280421310721 and g.device == "cpu"
    assert g.manual_seed(-1).initial_seed() == 2**64 - 1
    assert state.dtype is nt.uint8
    h = pickle.loads(pickle.dumps(g))
    assert nt.rand(4, generator=g).tolist() == nt.rand(4, generator=h).tolist()
    assert nt.random.manual_seed is nt.manual_seed


def test_random_without_bounds():
    g = nt.Generator()
    for dtype, most in (
        (nt.bool, 1),
        (nt.uint8, 255),
        (nt.int8, 127),
        (nt.int16, 2**15 - 1),
        (nt.int32, 2**31 - 1),
        (nt.int64, 2**63 - 1),
        (nt.float32, 2**24),
        (nt.float64, 2**53),
    ):
        v = nt.empty(4000, dtype=dtype).random_(generator=g).numpy()
        assert v.min() >= 0 and v.max() <= most and (most == 1 or v.max() > 0.95 * most)
        assert nt.empty(400, dtype=dtype).random_(1, None, generator=g).numpy().min() >= 1
    full = nt.empty(4000, dtype=nt.int64).random_(-(2**63), None, generator=g).numpy()
    assert full.min() < -0.95 * 2**63 and full.max() > 0.95 * 2**63
    x = nt.empty(100, dtype=nt.int64)
    assert {*x.random_(3, generator=g).tolist()} == {0, 1, 2} == {*x.random_(to=3, generator=g).tolist()}
    assert {*x.random_(**{"from": 2, "to": 4}, generator=g).tolist()} == {2, 3}


def test_randint_forms():
    def made(*args, **named):
        return nt.randint(*args, generator=nt.Generator(), **named).tolist()

    assert (
        made(5, (9,))
        == made(0, 5, (9,))
        == made(high=5, size=(9,))
        == made(5, size=[9])
        == made(low=0, high=5, size=(9,))
    )
    assert made(2, 7, (9,)) == [2 + n for n in made(5, (9,))] == made(2, high=7, size=(9,))
    assert nt.randint(nt.tensor(2), nt.tensor(3), (2, 2)).tolist() == [[2, 2], [2, 2]]
    x = nt.zeros(2, 3)
    assert nt.randint_like(x, 2, 3).tolist() == [[2.0] * 3] * 2 == nt.randint_like(x, low=2, high=3).tolist()
    assert nt.randint_like(x, 1, dtype=nt.int16).dtype is nt.int16


def test_shapes_dtypes_and_flags():
    assert (
        nt.rand(2, 3).shape
        == nt.rand((2, 3)).shape
        == nt.rand(size=[2, 3]).shape
        == nt.rand(nt.zeros(2, 3).shape).shape
    )
    assert nt.rand(()).shape == () and nt.randn(0, 4).shape == (0, 4) and nt.rand(np.int64(3)).shape == (3,)
    assert nt.randn(3, dtype=nt.float64).dtype is nt.float64 and nt.rand(3).dtype is nt.float32
    assert nt.rand(3, requires_grad=True).requires_grad and nt.randn_like(nt.zeros(3), requires_grad=True).requires_grad
    assert nt.randint(0, 5, (3,), dtype=nt.float32, requires_grad=True).requires_grad
    assert nt.rand_like(nt.zeros(3, dtype=nt.int64), dtype=nt.float64).dtype is nt.float64
    assert nt.rand_like(nt.zeros(3), generator=nt.Generator()).tolist() == nt.rand(3, generator=nt.Generator()).tolist()
    for call in (
        lambda out, g: nt.rand(3, out=out, generator=g),
        lambda out, g: nt.randn(3, out=out, generator=g),
        lambda out, g: nt.randint(7, (3,), out=out, generator=g),
        lambda out, g: nt.randperm(3, out=out, generator=g),
        lambda out, g: nt.normal(nt.ones(3), 2.0, out=out, generator=g),
        lambda out, g: nt.normal(0.0, 2.0, (3,), out=out, generator=g),
        lambda out, g: nt.bernoulli(nt.full((3,), 0.5), out=out, generator=g),
    ):
        out, apart = nt.full((3,), 9.0), nt.full((6,), 9.0)[::2]
        assert call(out, nt.Generator()) is out and out._version == 1
        assert call(apart, nt.Generator()).tolist() == out.tolist() and 9.0 not in out.tolist()


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_normal_forms(dtype):
    g = nt.Generator()
    mean, std = nt.arange(1000).reshape(-1, 1).to(dtype), nt.full((200,), 2.0, dtype=dtype)
    x = nt.normal(mean, std, generator=g)
    assert x.shape == (1000, 200) and x.dtype is dtype
    assert stats.kstest(((x - mean) / 2.0).numpy().ravel(), "norm").pvalue > 1e-3
    y = nt.normal(3.0, std, generator=g)
    assert y.shape == (200,) and y.dtype is dtype and abs(y.mean().item() - 3.0) < 1
    assert nt.normal(mean, generator=g).shape == mean.shape
    assert nt.normal(nt.zeros(3), nt.ones(3, dtype=nt.float64)).dtype is nt.float32
    z = nt.normal(5.0, 0.0, (4,))
    assert z.tolist() == [5.0] * 4
    mean.requires_grad_()
    x = nt.normal(mean, std.requires_grad_())
    (x * x).sum().backward()
    assert mean.grad.tolist() == nt.zeros(1000, 1).tolist() and std.grad.tolist() == [0.0] * 200


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_bernoulli(dtype):
    g = nt.Generator()
    p = nt.tensor(np.linspace(0, 1, 11), dtype=dtype).requires_grad_()
    x = nt.bernoulli(p.reshape(-1, 1).expand(11, 40_000), generator=g)
    assert {*np.unique(x.detach().numpy())} == {0.0, 1.0} and x.dtype is dtype
    found = x.detach().numpy().mean(1)
    assert found[0] == 0 and found[-1] == 1
    np.testing.assert_allclose(found, p.detach().numpy(), atol=4 * 0.5 / 200)
    (x * x).sum().backward()
    assert p.grad.tolist() == [0.0] * 11
    assert abs(nt.empty(200_000, dtype=dtype).bernoulli_(0.3, generator=g).mean().item() - 0.3) < 0.005
    assert nt.zeros(100).bernoulli_(1.0).tolist() == [1.0] * 100 and nt.ones(100).bernoulli_(0).tolist() == [0.0] * 100
    b = nt.zeros(1000, dtype=nt.bool).bernoulli_(0.5, generator=g)
    assert b.dtype is nt.bool and 350 < sum(b.tolist()) < 650
    assert nt.zeros(3, dtype=nt.int64).bernoulli_(nt.tensor([0.0, 1.0, 1.0])).tolist() == [0, 1, 1]
    assert nt.bernoulli(nt.zeros(3, dtype=nt.int64), 1.0).tolist() == [1, 1, 1] == nt.zeros(3).bernoulli(1.0).tolist()
    q = nt.tensor([0.0, 1.0, 0.0, 1.0])
    assert q.bernoulli_(q).tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout(p):
    x = nt.full((300, 400), 2.0, requires_grad=True)
    y = nt.nn.functional.dropout(x, p, generator=nt.Generator())
    y.sum().backward()
    kept = y.detach().numpy() != 0
    np.testing.assert_allclose(y.detach().numpy()[kept], 2.0 / (1 - p) if p < 1 else 0)
    assert abs(kept.mean() - (1 - p)) < 0.01
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy() / 2)


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_in_place_counts_once_and_stops_gradients(fill):
    g = nt.Generator()
    x = nt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        fill(x, g)
    assert x.tolist() == [1.0, 2.0, 3.0] and x._version == 0
    y = x * 2.0
    assert fill(y, g) is y and y._version == 1 and y.grad_fn is not None
    (y + x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]
    x.grad = None
    base = x * 1.0
    part, rest = base[1:], base[:2]
    fill(part, g)
    (base.sum() + rest.sum()).backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0] and base._version == 1
    with nt.no_grad():
        fill(x, g)
    assert x._version == 1
    e = (x * 1.0).exp()
    fill(e, g)
    with pytest.raises(RuntimeError, match="exp saved its output.*has overwritten it since"):
        e.sum().backward()
    with pytest.raises(RuntimeError, match="refers to a single memory location"):
        fill(nt.zeros(1).expand(3), g)
    v = nt.zeros(4, 3)
    fill(v[1:3, ::2], g)
    assert v._version == 1 and v[0].tolist() == [0.0] * 3


ERRORS = {
    "floats": [
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: nt.rand(3, dtype=nt.int64)),
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: nt.randn(3, dtype=nt.int64)),
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: i.uniform_()),
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: i.normal_()),
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: nt.normal(i, 1.0)),
        (RuntimeError, "Exponential distribution is a continuous", lambda x, i: i.exponential_()),
        (RuntimeError, "negative dimension -1", lambda x, i: nt.rand(2, -1)),
        (TypeError, "size", lambda x, i: nt.rand()),
        (TypeError, "Generator", lambda x, i: nt.rand(3, generator=5)),
        (TypeError, "Generator", lambda x, i: x.uniform_(generator=5)),
        (RuntimeError, "dtype Double does not match dtype of out", lambda x, i: nt.rand(3, out=x, dtype=nt.float64)),
        (RuntimeError, "shape", lambda x, i: nt.rand(4, out=x)),
        (RuntimeError, r"from=2 > to=1", lambda x, i: x.uniform_(2, 1)),
        (RuntimeError, "from is out of bounds for float", lambda x, i: x.uniform_(float("nan"), 1)),
        (RuntimeError, "to is out of bounds for float", lambda x, i: x.uniform_(0, 1e39)),
        (RuntimeError, r"max\(\), but found to=3e\+38 and from=-3e\+38", lambda x, i: x.uniform_(-3e38, 3e38)),
        (TypeError, "unexpected", lambda x, i: x.uniform_(low=2)),
        (RuntimeError, "normal expects std >= 0.0, but found std -1", lambda x, i: x.normal_(0, -1)),
        (RuntimeError, "normal expects std >= 0.0, but found std nan", lambda x, i: nt.normal(x, float("nan"))),
        (RuntimeError, "normal expects std >= 0.0, but found std -1", lambda x, i: nt.normal(0.0, -1.0, (3,))),
        (RuntimeError, "normal expects all elements of std >= 0.0", lambda x, i: nt.normal(x, x - 1.0)),
        (RuntimeError, "must match the size", lambda x, i: nt.normal(x, nt.ones(2))),
        (TypeError, "size", lambda x, i: nt.normal(0.0, 1.0)),
        (RuntimeError, "expects lambda > 0.0, but found lambda=0", lambda x, i: x.exponential_(0)),
        (RuntimeError, "expects lambda > 0.0, but found lambda=nan", lambda x, i: x.exponential_(float("nan"))),
    ],
    "bernoulli": [
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: nt.bernoulli(i)),
        (NotImplementedError, "not implemented for 'Long'", lambda x, i: x.bernoulli_(i)),
        (RuntimeError, "to be true, but got false", lambda x, i: nt.bernoulli(x + 0.6)),
        (RuntimeError, "to be true, but got false", lambda x, i: nt.bernoulli(x * float("nan"))),
        (RuntimeError, "to be true, but got false", lambda x, i: x.bernoulli_(x - 0.6)),
        (RuntimeError, r"\[0, 1\], but got p=1.5", lambda x, i: x.bernoulli_(1.5)),
        (RuntimeError, r"\[0, 1\], but got p=nan", lambda x, i: x.bernoulli_(float("nan"))),
        (RuntimeError, "must match the existing size", lambda x, i: x.bernoulli_(nt.zeros(2))),
        (ValueError, "between 0 and 1", lambda x, i: nt.nn.functional.dropout(x, 1.5)),
        (RuntimeError, "floating", lambda x, i: nt.nn.functional.dropout(i, 0.5)),
    ],
    "integers": [
        (RuntimeError, "from=5 >= to=5", lambda x, i: nt.randint(5, 5, (3,))),
        (RuntimeError, "from=0 >= to=0", lambda x, i: x.random_(0)),
        (RuntimeError, "to - 1 is out of bounds for unsigned char", lambda x, i: nt.randint(300, (3,), dtype=nt.uint8)),
        (RuntimeError, "from is out of bounds for signed char", lambda x, i: i.to(nt.int8).random_(-129, 5)),
        (RuntimeError, "to - 1 is out of bounds for bool", lambda x, i: nt.randint(0, 3, (3,), dtype=nt.bool)),
        (ValueError, "Overflow", lambda x, i: nt.randint(0, 2**63, (3,))),
        (TypeError, "must be int, not float", lambda x, i: nt.randint(1.5, (3,))),
        (TypeError, "tuple of ints", lambda x, i: nt.randint(5, 3)),
        (TypeError, "high", lambda x, i: nt.randint((3,))),
        (TypeError, "randint", lambda x, i: nt.randint(1, 2, 3, (3,))),
        (TypeError, "from and to", lambda x, i: x.random_(1, 2, 3)),
        (RuntimeError, "can require gradients", lambda x, i: nt.randint(0, 5, (3,), requires_grad=True)),
        (RuntimeError, "negative dimension -1", lambda x, i: nt.randperm(-1)),
        (RuntimeError, "without overflow", lambda x, i: nt.randperm(300, dtype=nt.uint8)),
    ],
    "multinomial": [
        (RuntimeError, "sum of probabilities <= 0", lambda x, i: nt.multinomial(x * 0.0, 2)),
        (RuntimeError, "sum of probabilities <= 0", lambda x, i: nt.multinomial(nt.zeros(0), 2, True)),
        (RuntimeError, "sum of probabilities <= 0", lambda x, i: nt.multinomial(nt.tensor([[1.0, 1], [0, 0]]), 1)),
        (RuntimeError, "not enough", lambda x, i: nt.multinomial(nt.tensor([0.0, 0.0, 1.0]), 2)),
        (RuntimeError, "`inf`, `nan` or element < 0", lambda x, i: nt.multinomial(x - 1.0, 2)),
        (RuntimeError, "`inf`, `nan` or element < 0", lambda x, i: nt.multinomial(x / 0.0, 2)),
        (RuntimeError, "encountering probability entry < 0", lambda x, i: nt.multinomial(x * float("nan"), 2, True)),
        (RuntimeError, r"n_sample > prob_dist.size\(-1\)", lambda x, i: nt.multinomial(x, 4)),
        (RuntimeError, "n_sample <= 0", lambda x, i: nt.multinomial(x, 0)),
        (RuntimeError, "only supports floating-point dtypes for input, got: Long", lambda x, i: nt.multinomial(i, 2)),
        (RuntimeError, "must be 1 or 2 dim", lambda x, i: nt.multinomial(nt.ones(2, 2, 2), 2)),
        (RuntimeError, "expects Long tensor out", lambda x, i: nt.multinomial(x, 2, out=nt.zeros(2))),
        (TypeError, "num_samples", lambda x, i: nt.multinomial(x, 2.5)),
    ],
    "generators": [
        (RuntimeError, "expected a long", lambda x, i: nt.Generator().manual_seed(1.5)),
        (ValueError, "Overflow", lambda x, i: nt.manual_seed(2**64)),
        (TypeError, "ByteTensor", lambda x, i: nt.Generator().set_state(x)),
        (TypeError, "ByteTensor", lambda x, i: nt.set_rng_state(5)),
        (RuntimeError, "wrong size", lambda x, i: nt.set_rng_state(nt.zeros(3, dtype=nt.uint8))),
        (RuntimeError, "device", lambda x, i: nt.Generator("cuda")),
    ],
}


@pytest.mark.parametrize("group", ERRORS.values(), ids=ERRORS)
def test_errors(group):
    for error, text, call in group:
        x, i = nt.full((3,), 0.5), nt.zeros(3, dtype=nt.int64)
        with pytest.raises(error, match=text):
            call(x, i)
        assert x.tolist() == [0.5] * 3 and i.tolist() == [0] * 3 and x._version == i._version == 0


def test_floats_that_lack_integers_warn():
    with pytest.warns(UserWarning, match=r"to - 1 is out of bounds \[-\(2\^24\), 2\^24\]"):
        nt.zeros(3).random_(0, 2**40)
