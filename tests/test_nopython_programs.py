"""Whole programs, as people write them: compiled, each gives the values and the gradients of the same program run as Python."""

import collections

import numpy as np
import pytest
from numba import njit

import numbatensor as nt
from numbatensor.tensor import Tensor

Cell = collections.namedtuple("Cell", ["inward", "across", "bias"])
Lstm = collections.namedtuple("Lstm", ["layers", "out"])


def leaves(found):
    """All Tensors in a result or an argument."""
    if isinstance(found, (tuple, list)):
        return [t for part in found for t in leaves(part)]
    return [found] if isinstance(found, Tensor) else []


def copied(given):
    """An argument whose Tensors are leaves of their own."""
    if isinstance(given, Tensor):
        return given.detach().clone().requires_grad_(given.requires_grad)
    if isinstance(given, (tuple, list)):
        parts = list(map(copied, given))
        return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)
    return given


def close(a, b):
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, Tensor):
        return (
            a.dtype == b.dtype
            and a.requires_grad == b.requires_grad
            and np.allclose(a.detach().numpy(), b.detach().numpy(), 1e-5, 1e-6)
        )
    return type(a) is type(b) and np.allclose(a, b, 1e-5)


def alike(program, *args):
    """Run a program compiled and as Python."""
    outcomes = []
    for run in (njit(program), program):
        nt.manual_seed(0)
        given = [copied(a) for a in args]
        found = run(*given)
        for t in leaves(found):
            if t.requires_grad:
                t.sum().backward(retain_graph=True)
        outcomes.append((found, given, [t.grad for t in leaves(given)]))
    (found, after, grads), (expected, wanted, slopes) = outcomes
    assert close(found, expected), (found, expected)
    assert close(leaves(after), leaves(wanted))
    assert [g is None for g in grads] == [g is None for g in slopes]
    assert close([g for g in grads if g is not None], [g for g in slopes if g is not None]), (grads, slopes)
    return found


def normal(*shape, grad=True, dtype=nt.float64):
    return nt.randn(*shape, dtype=dtype).mul_(0.5).requires_grad_(grad)


@pytest.fixture(autouse=True)
def seeded():
    nt.manual_seed(7)


def test_a_recurrent_network():
    """Two layers of cells over a sequence, with a list of hidden states."""

    def forward(net, x, steps):
        states = [nt.zeros(x.shape[1], cell.across.shape[0], dtype=x.dtype) for cell in net.layers]
        total = nt.zeros((), dtype=x.dtype)
        for t in range(steps):
            signal = x[t]
            for k, cell in enumerate(net.layers):
                gate = nt.sigmoid(signal @ cell.inward + states[k] @ cell.across + cell.bias)
                states[k] = gate * nt.tanh(signal @ cell.inward) + (1 - gate) * states[k]
                signal = states[k]
            total = total + ((signal @ net.out) ** 2).mean()
        return total / steps, states[-1]

    cells = tuple(Cell(normal(3, 3), normal(3, 3), normal(3)) for _ in range(2))
    alike(forward, Lstm(cells, normal(3, 1)), normal(4, 2, 3), 4)


def test_a_beam_search():
    def search(start, moves, width, length):
        scores, beams = start.log_softmax(0), nt.arange(start.shape[0]).unsqueeze(1)
        scores, kept = scores.topk(width)
        beams = beams[kept]
        for _ in range(length - 1):
            last = beams[:, -1]
            both = (scores.unsqueeze(1) + moves[last].log_softmax(1)).reshape(-1)
            scores, kept = both.topk(width)
            token = (kept % moves.shape[1]).unsqueeze(1)
            beams = nt.cat((beams[kept // moves.shape[1]], token), 1)
        return scores, beams

    alike(search, normal(5), normal(5, 5), 3, 4)


def test_a_kalman_filter():
    def filtered(z, a, h, q, r):
        n = a.shape[0]
        x, p = nt.zeros(n, dtype=z.dtype), nt.eye(n, dtype=z.dtype)
        loss = nt.zeros((), dtype=z.dtype)
        for k in range(z.shape[0]):
            x = a @ x
            p = a @ p @ a.T + q * nt.eye(n, dtype=z.dtype)
            y = z[k] - h @ x
            s = h @ (p @ h) + r
            gain = (p @ h) / s
            x = x + gain * y
            p = p - gain.unsqueeze(1) * (h @ p)
            loss = loss + 0.5 * (y * y / s + nt.log(s))
        return loss, x, p

    alike(filtered, normal(6), normal(2, 2), normal(2), nt.tensor(0.3).double(), nt.tensor(0.7).double())


def test_lbfgs():
    """Two loops over the last steps; the gradients come from `backward` in compiled code."""

    def minimised(x, target, steps):
        s_list, y_list = [x.detach() * 0], [x.detach() * 0]
        s_list.pop()
        y_list.pop()
        last = 0.0
        for _ in range(steps):
            residual = x * x * x + x - target
            loss = (residual**2).sum()
            x.grad = None
            loss.backward()
            g = x.grad
            last = loss.item()
            if g is None:
                break
            q = g.clone()
            alphas = [0.0] * len(s_list)
            for k in range(len(s_list) - 1, -1, -1):
                alphas[k] = (s_list[k].dot(q) / y_list[k].dot(s_list[k])).item()
                q = q - alphas[k] * y_list[k]
            if len(s_list) > 0:
                q = q * (s_list[-1].dot(y_list[-1]) / y_list[-1].dot(y_list[-1]))
            else:
                q = q * 0.01
            for k in range(len(s_list)):
                beta = (y_list[k].dot(q) / y_list[k].dot(s_list[k])).item()
                q = q + (alphas[k] - beta) * s_list[k]
            before, old = x.detach().clone(), g.clone()
            with nt.no_grad():
                x.sub_(q)
            residual = x * x * x + x - target
            x.grad = None
            (residual**2).sum().backward()
            g = x.grad
            if g is not None and (g - old).dot(x.detach() - before).item() > 1e-10:
                s_list.append(x.detach() - before)
                y_list.append(g - old)
            if len(s_list) > 4:
                s_list.pop(0)
                y_list.pop(0)
        x.grad = None
        return last

    assert alike(minimised, normal(3), normal(3, grad=False), 25) < 1e-6


def test_langevin_sampling():
    """Metropolis-adjusted steps: random numbers, gradients, acceptance, a sum over a chain."""

    def sampled(x, precision, steps, size):
        taken, mean = 0, x.detach() * 0
        for _ in range(steps):
            start = x.detach().requires_grad_()
            energy = 0.5 * (start @ precision @ start)
            (g,) = nt.autograd.grad((energy,), (start,))
            noise = nt.randn(x.shape[0], dtype=x.dtype)
            with nt.no_grad():
                proposal = start - size * g + (2 * size) ** 0.5 * noise
                other = 0.5 * (proposal @ precision @ proposal)
                accept = nt.exp(energy - other).item() > nt.rand(1, dtype=x.dtype).item()
                if accept:
                    x = proposal
                    taken += 1
                mean += x / steps
        return taken, mean

    alike(sampled, normal(3, grad=False), nt.eye(3, dtype=nt.float64) * 2, 20, 0.05)


def test_soft_alignment():
    """Dynamic programming: the soft minimum over paths through a table of costs, in lists of lists."""

    def aligned(x, y, gamma):
        n, m = x.shape[0], y.shape[0]
        far = nt.full((), 1e6, dtype=x.dtype)
        above = [nt.zeros((), dtype=x.dtype)] + [far for _ in range(m)]
        for i in range(n):
            row = [far]
            for j in range(m):
                ways = nt.stack([above[j], above[j + 1], row[j]])
                row.append((x[i] - y[j]) ** 2 - gamma * nt.logsumexp(-ways / gamma, 0))
            above = row
        return above[m]

    alike(aligned, normal(4), normal(3), 0.5)


def test_closures_and_inner_functions():
    def program(x, w, depth):
        scale = 0.5

        def layer(t, k):
            return nt.tanh(t @ w) * scale + k * t

        def deep(t):
            for k in range(depth):
                t = layer(t, k)
            return t

        return deep(x), deep(deep(x)).sum()

    alike(program, normal(2, 3), normal(3, 3), 2)


def test_early_returns():
    def solved(a, b, tolerance, limit):
        x = nt.zeros_like(b)
        r = b - a @ x
        p = r
        rr = r.dot(r)
        if rr.item() == 0.0:
            return x, 0
        for k in range(limit):
            ap = a @ p
            alpha = rr / p.dot(ap)
            x = x + alpha * p
            r = r - alpha * ap
            new = r.dot(r)
            if new.sqrt().item() < tolerance:
                return x, k + 1
            p = r + new / rr * p
            rr = new
        return x, limit

    m = normal(4, 4, grad=False)
    a = (m @ m.T + 2 * nt.eye(4, dtype=nt.float64)).requires_grad_()
    assert alike(solved, a, normal(4), 1e-8, 50)[1] <= 6
    assert alike(solved, a, normal(4), 1e-30, 2)[1] == 2
    assert alike(solved, a, nt.zeros(4, dtype=nt.float64), 1e-8, 50)[1] == 0


def test_masks():
    def huber(x, y, delta):
        d = (x - y).abs()
        small = d <= delta
        quadratic, linear = 0.5 * d[small] ** 2, delta * (d[~small] - 0.5 * delta)
        out = nt.zeros_like(d)
        out[small] = quadratic
        out[~small] = linear
        worst = d.masked_fill(small, 0.0).max()
        return out.mean(), nt.where(small & (d > 0.1), out, -1.0), worst, small.sum().item()

    alike(huber, normal(3, 4), normal(3, 4), 0.4)


def test_message_passing():
    """A graph of edges, by integer indices: gather, add at indices, normalise."""

    def passed(h, w, source, target, rounds):
        ones = nt.ones(source.shape[0], dtype=h.dtype)
        degree = nt.zeros(h.shape[0], dtype=h.dtype).index_add(0, target, ones).clamp(min=1.0)
        for _ in range(rounds):
            sent = nt.relu(h[source] @ w)
            got = nt.zeros_like(h).index_add(0, target, sent)
            h = h + got / degree.unsqueeze(1)
        first, last = h[0], h[-1]
        return h, first.dot(last), h[target[:2], source[:2] % 3]

    edges = nt.tensor([0, 1, 2, 3, 3]), nt.tensor([1, 2, 0, 0, 1])
    alike(passed, normal(4, 3), normal(3, 3), *edges, 3)


def test_updates_in_place():
    """Adam with its moments in lists, and writes into slices of a buffer that a graph reads later."""

    def trained(params, x, target, steps):
        first, second = [nt.zeros_like(p) for p in params], [nt.zeros_like(p) for p in params]
        losses = nt.zeros(steps, dtype=x.dtype)
        for t in range(steps):
            hidden = nt.tanh(x @ params[0])
            loss = ((hidden @ params[1] - target) ** 2).mean()
            loss.backward()
            losses[t] = loss.detach()
            with nt.no_grad():
                for k, p in enumerate(params):
                    g = p.grad
                    if g is not None:
                        first[k].mul_(0.9).add_(0.1 * g)
                        second[k] *= 0.99
                        second[k] += 0.01 * g * g
                        p -= (
                            0.05 * first[k] / (1 - 0.9 ** (t + 1)) / ((second[k] / (1 - 0.99 ** (t + 1))).sqrt() + 1e-8)
                        )
                        g.zero_()
        buffer = nt.zeros(2, 4, dtype=x.dtype)
        buffer[0, :2] = params[0].sum(0)[:2]
        buffer[1] += x[0].sum()
        buffer[:, 2:] *= 2.0
        return losses, buffer

    losses, _ = alike(trained, [normal(3, 4), normal(4, 1)], normal(5, 3, grad=False), normal(5, 1, grad=False), 30)
    assert losses[-1].item() < 0.5 * losses[0].item()


def test_writes_to_what_a_loop_gives_are_kept():
    """Numba looks for dead code where there is a list comprehension, and drops them for arrays."""

    def written(params):
        known = [1.0 for _ in range(2)]
        for p in params:
            p -= 1.0
        for p in params:
            p[0] = 5.0
        for k, p in enumerate(params):
            p[1] += known[k]
        return params[0] + params[1]

    alike(written, [nt.ones(3), nt.ones(3)])


def test_errors_are_caught():
    """A line search that goes back where a step leaves the domain."""

    @njit
    def checked(x):
        if (x <= 0.0).any().item():
            raise ValueError("not positive")
        return nt.log(x).sum()

    def searched(x, y, direction):
        size, failed = 4.0, 0
        best = nt.log(x).sum() * 0
        for _ in range(10):
            try:
                best = checked(x + size * direction)
                break
            except Exception:
                failed += 1
                size *= 0.5
        try:
            wrong = x @ y
            best = best + wrong.sum()
        except Exception:
            best = best * 2
        return best, failed, size

    x = nt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    searched_plainly = searched(x, nt.ones(2), nt.tensor([-1.0, -1.0, 1.0]))
    assert searched_plainly[1] == 3
    alike(searched, x, nt.ones(2), nt.tensor([-1.0, -1.0, 1.0]))
