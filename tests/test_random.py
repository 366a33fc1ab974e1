"""Random numbers: against published vectors, what a draw depends on, and whether the distributions are right."""

import threading

import numpy as np
import pytest
from numba import njit, types
from scipy import stats

import numbatensor as nt
from kernels_cpu.random import philox

LOW = 0xFFFFFFFF


def reference(counter, key):
    """Philox4x32-10 as the paper has it."""
    a, b, c, d = counter
    k, l = key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q & LOW, (p >> 32) ^ d ^ l, p & LOW
        k, l = (k + 0x9E3779B9) & LOW, (l + 0xBB67AE85) & LOW
    return a, b, c, d


def words(seed, n, offset=0):
    """The first n words of 32 bits of a fill."""
    key = (seed & LOW, seed >> 32)
    counters = [((offset + k) & LOW, (offset + k) >> 32, 0, 0) for k in range(-(-n // 4))]
    return np.array([w for c in counters for w in reference(c, key)][:n], np.uint64)


# of the Random123 library, file kat_vectors: counter, key, result; the third are digits of pi
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LOW,) * 4, (LOW,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def test_known_answers():
    word = types.uint64
    run = njit([types.UniTuple(word, 2)(word, word, word)])(lambda low, high, key: philox(low, high, key))
    for counter, key, result in VECTORS:
        assert reference(counter, key) == result
        a, b = run(*(np.uint64(pair[0] | pair[1] << 32) for pair in (counter[:2], counter[2:], key)))
        assert (a & LOW, a >> 32, b & LOW, b >> 32) == result


@pytest.mark.parametrize("seed, offset", [(2**64 - 1, 0), (12345678901234, 2**32 - 3)])
def test_elements_are_functions_of_seed_offset_and_place(seed, offset):
    g = nt.Generator().manual_seed(seed)
    state = g.get_state()
    state.numpy().view(np.uint64)[1] = offset
    g.set_state(state)
    w = words(seed, 40, offset)
    pairs = w[::2] | w[1::2] << np.uint64(32)
    np.testing.assert_array_equal(nt.rand(37, generator=g).numpy(), ((w >> 8) * 2.0**-24).astype("f4")[:37])
    g.set_state(state)
    drawn = nt.rand(17, generator=g, dtype=nt.float64).numpy()
    np.testing.assert_array_equal(drawn, ((pairs >> 11) * 2.0**-53)[:17])
    g.set_state(state)
    whole = nt.randint(-5, 1000, (17,), generator=g).tolist()
    assert whole == [(int(p) * 1005 >> 64) - 5 for p in pairs[:17]]
    g.set_state(state)
    z = nt.randn(18, generator=g, dtype=nt.float64).numpy()
    u, t = (p * 2.0**-53 + 2.0**-54 for p in (pairs[:18:2] >> 11, pairs[1:18:2] >> 11))
    r, t = np.sqrt(-2 * np.log(u)), 2 * np.pi * t - np.pi
    np.testing.assert_allclose(z, np.stack([r * np.cos(t), r * np.sin(t)], 1).ravel(), rtol=1e-11, atol=1e-13)


FILLS = {
    "uniform_": lambda x, g: x.uniform_(-1, 3, generator=g),
    "normal_": lambda x, g: x.normal_(1, 2, generator=g),
    "exponential_": lambda x, g: x.exponential_(0.5, generator=g),
    "random_": lambda x, g: x.random_(-3, 90, generator=g),
    "bernoulli_": lambda x, g: x.bernoulli_(0.3, generator=g),
    "bernoulli_ of a tensor": lambda x, g: x.bernoulli_(nt.full((1,), 0.3), generator=g),
}
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 31, 33, 510, 1023, 1024, 1025, 2047, 16383, 16384, 16385, 70001]


@pytest.fixture
def two_threads():
    before = nt.get_num_threads()
    nt.set_num_threads(2)
    yield
    nt.set_num_threads(before)


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_any_size_thread_or_stride(fill, dtype, two_threads):
    def made(x):
        return fill(x, nt.Generator().manual_seed(3)).numpy()

    most = made(nt.empty(max(SIZES), dtype=dtype))
    for n in SIZES:
        np.testing.assert_array_equal(made(nt.empty(n, dtype=dtype)), most[:n])
    nt.set_num_threads(1)
    np.testing.assert_array_equal(made(nt.empty(max(SIZES), dtype=dtype)), most)
    shape = (30, 41, 7)
    wanted = most[: 30 * 41 * 7].reshape(shape)
    np.testing.assert_array_equal(made(nt.empty(7, 41, 30, dtype=dtype).permute(2, 1, 0)), wanted)
    np.testing.assert_array_equal(made(nt.empty(30, 82, 7, dtype=dtype)[:, ::2]), wanted)
    backwards = nt.from_numpy(np.empty(shape, dtype.numpy)[:, ::-1])
    np.testing.assert_array_equal(made(backwards), wanted)


def test_draws_do_not_overlap():
    nt.manual_seed(11)
    parts = [nt.rand(n).numpy() for n in (5, 1, 16, 70001, 3)]
    parts += [nt.empty(9).uniform_().numpy(), nt.empty(4, 4).t().uniform_().reshape(-1).numpy()]
    drawn = np.concatenate([p for p in parts if p.size < 1000])
    assert len(np.unique(drawn)) == len(drawn) and not np.isin(drawn[:-30], parts[3][-4:]).any()
    g = nt.Generator()
    for draw in (
        lambda: nt.randint(2**62, (6,), generator=g),
        lambda: nt.empty(3, dtype=nt.int64).random_(2**62, generator=g),
        lambda: nt.randint(2**62, (1,), generator=g),
    ):
        state = int(g.words[1])
        draw()
        assert int(g.words[1]) > state
    first, second = (nt.randint(2**62, (5,), generator=g).tolist() for _ in range(2))
    assert not {*first} & {*second}


def test_threads_share_a_generator():
    g, drawn = nt.Generator(), []

    def work():
        drawn.extend(nt.randint(2**62, (8,), generator=g) for _ in range(300))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    numbers = [n for t in drawn for n in t.tolist()]
    assert len({*numbers}) == 4 * 300 * 8


N = 200_000


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_distributions(dtype):
    g = nt.Generator().manual_seed(1)
    x = nt.empty(N, dtype=dtype)
    for law, values in (
        (stats.uniform(-2, 5), x.uniform_(-2, 3, generator=g).clone()),
        (stats.norm(1, 3), x.normal_(1, 3, generator=g).clone()),
        (stats.expon(scale=0.25), x.exponential_(4, generator=g).clone()),
        (stats.norm(0, 1), nt.randn(N, dtype=dtype, generator=g)),
        (stats.uniform(0, 1), nt.rand(N, dtype=dtype, generator=g)),
    ):
        v = values.numpy().astype("f8")
        assert stats.kstest(v, law.cdf).pvalue > 1e-3
        scale = law.std() / np.sqrt(N)
        assert abs(v.mean() - law.mean()) < 4 * scale
        assert abs(v.var() - law.var()) < 6 * law.var() * np.sqrt(2 / N) * (3 if law.stats("k") > 1 else 1)
        assert abs(np.corrcoef(v[:-1], v[1:])[0, 1]) < 4 / np.sqrt(N)
        assert abs(np.corrcoef(v[::2], v[1::2])[0, 1]) < 6 / np.sqrt(N)
        assert abs(np.corrcoef(abs(v[::2] - v.mean()), abs(v[1::2] - v.mean()))[0, 1]) < 6 / np.sqrt(N)


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_bounds(dtype):
    g = nt.Generator()
    u = nt.rand(2_000_000, dtype=dtype, generator=g).numpy()
    assert 0 <= u.min() < 1e-5 and 1 - 1e-5 < u.max() < 1
    e = nt.empty(2_000_000, dtype=dtype).exponential_(generator=g).numpy()
    assert 0 < e.min() < 1e-5 and np.isfinite(e).all() and e.max() > 12
    assert np.isfinite(nt.randn(2_000_000, dtype=dtype, generator=g).numpy()).all()
    assert nt.empty(1000, dtype=dtype).uniform_(3, 3).tolist() == [3.0] * 1000
    near = nt.empty(100_000, dtype=dtype).uniform_(1.0, 1.0 + 2 * float(np.finfo(dtype.numpy).eps)).numpy()
    assert near.min() == 1.0 and near.max() < 1.0 + 2 * np.finfo(dtype.numpy).eps


RANGES = [
    (nt.int64, -3, 7),
    (nt.int64, 0, 1000),
    (nt.int64, -(2**63), 2**63 - 1),
    (nt.int64, 2**62, 2**62 + 2**40 + 7),
    (nt.int32, -(2**31), 2**31),
    (nt.int16, 5, 300),
    (nt.uint8, 0, 256),
    (nt.int8, -128, 128),
    (nt.bool, 0, 2),
    (nt.float32, -50, 51),
    (nt.float64, 0, 2**53),
]


def test_integers_are_equally_likely():
    for dtype, low, high in RANGES:
        v = nt.randint(low, high, (N,), dtype=dtype, generator=nt.Generator()).numpy()
        assert v.dtype == dtype.numpy
        bins = min(high - low, 256)
        found = np.array([(int(n) - low) * bins // (high - low) for n in v])
        assert 0 <= found.min() and found.max() < bins
        ends = np.array([-(-k * (high - low) // bins) for k in range(bins + 1)], object)
        expected = np.array((ends[1:] - ends[:-1]) / (high - low), float) * N
        assert stats.chisquare(np.bincount(found, minlength=bins), expected).pvalue > 1e-3


def test_randperm():
    for n in (0, 1, 2, 5, 511, 512, 513, 100_000):
        p = nt.randperm(n)
        assert p.dtype is nt.int64 and sorted(p.tolist()) == list(range(n))
        assert sorted(nt.randperm(n, dtype=nt.float64).tolist()) == list(range(n))


def test_orders_are_equally_likely():
    g = nt.Generator()
    count: dict = {}
    for _ in range(4800):
        order = tuple(nt.randperm(4, generator=g).tolist())
        count[order] = count.get(order, 0) + 1
    assert len(count) == 24 and stats.chisquare([*count.values()]).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
def test_multinomial_frequencies(dtype, two_threads):
    g = nt.Generator()
    w = nt.tensor([[0.0, 3.0, 1.0, 0.0, 4.0, 2.0], [5.0, 0.0, 0.0, 5.0, 10.0, 0.0]], dtype=dtype)
    share = w.numpy().astype("f8") / w.numpy().sum(1, keepdims=True)
    for n, replacement in ((N // 4, True), (3, False)):
        rows = 1 if replacement else N // 8
        x = nt.multinomial(nt.cat([w] * rows), n, replacement, generator=g)
        assert x.dtype is nt.int64 and x.shape == (2 * rows, n)
        drawn = x.numpy().reshape(rows, 2, n)
        for k in range(2):
            first = drawn[:, k, :].ravel() if replacement else drawn[:, k, 0]
            count = np.bincount(first, minlength=6)
            assert (count[share[k] == 0] == 0).all()
            used = share[k] > 0
            assert stats.chisquare(count[used], share[k][used] * len(first)).pvalue > 1e-3
            if not replacement:
                assert (np.sort(drawn[:, k], 1)[:, 1:] != np.sort(drawn[:, k], 1)[:, :-1]).all()
                last = np.bincount(drawn[:, k, 1], minlength=6) / rows
                expected = sum(share[k][j] * share[k] * (np.arange(6) != j) / (1 - share[k][j]) for j in range(6))
                np.testing.assert_allclose(last, expected, atol=4 * 0.5 / np.sqrt(rows))
    nt.set_num_threads(1)
    for replacement in (True, False):
        wide = nt.rand(300, 70, generator=nt.Generator(), dtype=dtype)
        nt.set_num_threads(1)
        one = nt.multinomial(wide, 50, replacement, generator=nt.Generator()).tolist()
        nt.set_num_threads(2)
        assert nt.multinomial(wide, 50, replacement, generator=nt.Generator()).tolist() == one
    assert sorted(nt.multinomial(nt.ones(1000, dtype=dtype), 1000).tolist()) == list(range(1000))
    out = nt.zeros(2, 4, dtype=nt.int64)
    assert nt.multinomial(w, 4, True, out=out) is out and out._version == 1
    assert w.multinomial(2).shape == (2, 2) and nt.multinomial(w[:0], 2).shape == (0, 2)
