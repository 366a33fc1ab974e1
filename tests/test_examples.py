"""The programs of examples/ do what they say; their gradients are those of references that are written without us."""

import itertools
import pathlib
import sys

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import numbatensor as nt

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))

import chain_crf  # noqa: E402
import compare  # noqa: E402
import ode_fit  # noqa: E402
import ragged_rnn  # noqa: E402
import soft_dtw  # noqa: E402

gradcheck = nt.autograd.gradcheck


def series(*sizes):
    rng = np.random.default_rng(0)
    return [nt.tensor(rng.normal(size=n), requires_grad=True) for n in sizes]


def soft_alignment(x, y, gamma):
    """The cost by the recursion over all cells, and its slope in x by the recursion backwards (Cuturi and Blondel, 2017)."""
    n, m = len(x), len(y)
    cost, r = np.zeros((n + 2, m + 2)), np.full((n + 2, m + 2), np.inf)
    cost[1:-1, 1:-1], r[0, 0] = (x[:, None] - y) ** 2, 0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            before = np.array([r[i - 1, j], r[i, j - 1], r[i - 1, j - 1]])
            r[i, j] = cost[i, j] - gamma * np.logaddexp.reduce(-before / gamma)
    r[n + 1, :], r[:, m + 1], r[n + 1, m + 1] = -np.inf, -np.inf, r[n, m]
    e = np.zeros_like(r)
    e[n + 1, m + 1] = 1
    for i in range(n, 0, -1):
        for j in range(m, 0, -1):
            e[i, j] = sum(
                e[k, l] * np.exp((r[k, l] - cost[k, l] - r[i, j]) / gamma)
                for k, l in ((i + 1, j), (i, j + 1), (i + 1, j + 1))
            )
    return r[n, m], (e[1:-1, 1:-1] * 2 * (x[:, None] - y)).sum(1)


@pytest.mark.parametrize("gamma", [0.05, 1.0])
@pytest.mark.parametrize("n, m", [(1, 1), (4, 7), (6, 5)])
def test_soft_dtw(n, m, gamma):
    x, y = series(n, m)
    loss = soft_dtw.soft_dtw(x, y, gamma)
    loss.backward()
    value, slope = soft_alignment(x.detach().numpy(), y.detach().numpy(), gamma)
    assert np.isclose(loss.item(), value, rtol=1e-12)
    assert np.allclose(x.grad.numpy(), slope, rtol=1e-9, atol=1e-12)
    assert gradcheck(lambda x, y: soft_dtw.soft_dtw(x, y, gamma), (x, y))


def test_soft_dtw_finds_a_barycentre(capsys):
    first, last = soft_dtw.main(steps=200)
    assert last < 0.7 * first
    assert capsys.readouterr().out.count("year") == 11


def test_chain_crf():
    """The log partition function and the marginals are those of all sequences of tags, one by one."""
    emissions, transitions = series((5, 3), (3, 3))
    e, a = emissions.detach().numpy(), transitions.detach().numpy()
    paths = np.array(list(itertools.product(range(3), repeat=5)))
    scores = e[range(5), paths].sum(1) + a[paths[:, :-1], paths[:, 1:]].sum(1)
    total = np.logaddexp.reduce(scores)
    p = np.exp(scores - total)
    assert np.isclose(chain_crf.log_partition(emissions, transitions).item(), total, rtol=1e-12)
    expected = np.stack([[p[paths[:, t] == k].sum() for k in range(3)] for t in range(5)])
    assert np.allclose(chain_crf.marginals(emissions, transitions).numpy(), expected, rtol=1e-10)
    tags = np.eye(3)[paths[7]]
    assert np.isclose(chain_crf.score(emissions, transitions, nt.tensor(tags)).item(), scores[7])
    assert gradcheck(chain_crf.log_partition, (emissions, transitions))
    assert nt.autograd.gradgradcheck(chain_crf.log_partition, (emissions, transitions))
    weights, x = series((4, 3), (5, 4))
    assert gradcheck(lambda w, t: chain_crf.surprise(w, t, x.detach(), nt.tensor(tags)), (weights, transitions))


def test_chain_crf_learns_where_a_text_ends(capsys):
    source = "".join(f"name{k} = f('text {k}', {k})  # a word {k}\n" for k in range(40))
    accuracy, *_ = chain_crf.main(chain_crf.tagged_lines(source))
    assert accuracy > 0.99
    assert capsys.readouterr().out.count("nats a character") == 4


def by_hand(embedding, hidden, output, letters, label):
    """The loss of a numeral, and its slopes by backpropagation through time; the reading ends where the network is sure."""
    states, odds = [np.zeros_like(output)], []
    for letter in letters:
        states.append(np.tanh(embedding[letter] + states[-1] @ hidden))
        odds.append(label * (states[-1] @ output))
        if odds[-1] > ragged_rnn.SURE:
            break
    slopes = [np.zeros_like(w) for w in (embedding, hidden, output)]
    later = np.zeros_like(output)
    for t in reversed(range(len(odds))):
        slope = -label / (1 + np.exp(odds[t]))
        before_tanh = (slope * output + hidden @ later) * (1 - states[t + 1] ** 2)
        slopes[0][letters[t]] += before_tanh
        slopes[1] += np.outer(states[t], before_tanh)
        slopes[2] += slope * states[t + 1]
        later = before_tanh
    return np.log1p(np.exp(-np.array(odds))).sum(), slopes, len(odds)


def test_ragged_rnn():
    weights = series((7, 4), (4, 4), 4)
    with nt.no_grad():
        weights[2] *= 3.0
    letters, starts, labels = ragged_rnn.data([1, 888, 1499, 1789, 2026])
    arrays = [w.detach().clone().numpy() for w in weights]
    known = [by_hand(*arrays, letters[a:b], y) for a, b, y in zip(starts, starts[1:], labels, strict=False)]
    assert any(n < b - a for (_, _, n), a, b in zip(known, starts, starts[1:], strict=False))
    batch = np.arange(5)
    loss = ragged_rnn.batch_loss(*weights, letters, starts, labels, batch)
    loss.backward()
    assert np.isclose(loss.item(), np.mean([k[0] for k in known]), rtol=1e-12)
    for k, w in enumerate(weights):
        assert np.allclose(w.grad.numpy(), np.mean([slopes[k] for _, slopes, _ in known], axis=0), rtol=1e-10)
    assert gradcheck(lambda *w: ragged_rnn.batch_loss(*w, letters, starts, labels, batch), weights)


def test_ragged_rnn_reads_what_it_needs(capsys):
    assert [ragged_rnn.numeral(y) for y in (44, 1492, 1999, 3888)] == ["XLIV", "MCDXCII", "MCMXCIX", "MMMDCCCLXXXVIII"]
    accuracy, reading, _ = ragged_rnn.main(epochs=10)
    assert accuracy > 0.97 and reading < 0.5
    assert capsys.readouterr().out.count("1500") == 6


def trajectory(z, rates, years, steps):
    """The method of Runge and Kutta in NumPy, of complex numbers too."""
    (alpha, gamma), (beta, delta) = np.exp(rates)
    f = lambda z: np.array([alpha - beta * np.exp(z[1]), delta * np.exp(z[0]) - gamma])
    path, h = [z], 1 / steps
    for _ in range(steps * (years - 1)):
        a = f(z)
        b = f(z + h / 2 * a)
        c = f(z + h / 2 * b)
        z = z + h / 6 * (a + 2 * b + 2 * c + f(z + h * c))
        path.append(z)
    return np.array(path[::steps])


def test_ode_fit():
    """The solution is that of SciPy's solver, and the gradient that of a step in the imaginary direction, which is exact."""
    start, rates = np.log([30.0, 4.0]), np.log([[0.55, 0.8], [0.028, 0.024]])
    u = lambda t, y: [(0.55 - 0.028 * y[1]) * y[0], (0.024 * y[0] - 0.8) * y[1]]
    known = solve_ivp(u, (0, 9), [30.0, 4.0], t_eval=range(10), rtol=1e-10, atol=1e-10).y.T
    z, r = nt.tensor(start, requires_grad=True), nt.tensor(rates, requires_grad=True)
    assert np.allclose(ode_fit.solve(z, r, 10, 16).exp().tolist(), known, rtol=1e-4)
    observed = nt.tensor(np.log(known)) + 0.1
    ode_fit.misfit(z, r, observed, 3).backward()
    point, slopes = np.concatenate([start, rates.ravel()]), []
    for step in 1e-30j * np.eye(6):
        moved = trajectory((point + step)[:2], (point + step)[2:].reshape(2, 2), 10, 3)
        slopes.append(((moved - observed.numpy()) ** 2).mean().imag / 1e-30)
    assert np.allclose([*z.grad.tolist(), *r.grad.flatten().tolist()], slopes, rtol=1e-9)
    assert gradcheck(lambda z, r: ode_fit.solve(z, r, 4, 2), (z, r))


def test_ode_fit_finds_what_others_have_found(capsys):
    """The rates are those of Bob Carpenter's study of the same data with Stan (2018), about."""
    loss, _, rates, _ = ode_fit.main(epochs=120)
    assert np.allclose(rates.detach().exp().tolist(), [[0.55, 0.80], [0.028, 0.024]], rtol=0.05)
    assert np.exp(np.sqrt(loss)) < 1.25
    assert "1920: hares 24.7" in capsys.readouterr().out


@pytest.mark.peer
def test_pytorch_runs_the_same_source(monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(compare, "fastest", lambda call: 1.0)
    weights = series((7, 4), (4, 4), 4)
    compare.compare(soft_dtw.soft_dtw, *series(4, 5), 1.0)
    compare.compare(chain_crf.log_partition, *series((5, 3), (3, 3)))
    compare.compare(ragged_rnn.batch_loss, *weights, *ragged_rnn.data([44, 1492, 1999]), np.arange(3))
    z, rates = series(2, (2, 2))
    compare.compare(ode_fit.misfit, z, rates, nt.zeros(3, 2, dtype=nt.float64), 2)
    assert capsys.readouterr().out.count("(1 times)") == 4
