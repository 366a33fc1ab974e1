"""One graph for Python and compiled code: gradients, modes, hooks, and what writes do to them."""

import inspect

import numba
import pytest
from alike import alike
from numba import njit
from numba.core.errors import TypingError

import numbatensor as nt


def rollout(x, w, steps):
    for _ in range(steps):
        x = nt.tanh(x @ w) + 0.1 * x
        if x.sum().item() > 2.0:
            x = x * 0.5
    return x


def test_one_graph():
    w, x = nt.rand(3, 3, requires_grad=True), nt.rand(2, 3)
    compiled = njit(rollout)
    grads = []
    for function in (rollout, compiled):
        w.grad = None
        (function(x * w.mean(), w, 5) ** 2).mean().backward()
        grads.append(w.grad)
    assert nt.equal(*grads)
    (twice,) = nt.autograd.grad((compiled(x, w, 2) ** 2).sum(), w, create_graph=True)
    (expected,) = nt.autograd.grad((rollout(x, w, 2) ** 2).sum(), w, create_graph=True)
    assert nt.equal(*[nt.autograd.grad(g.sum(), w)[0] for g in (twice, expected)])
    assert nt.autograd.gradcheck(lambda a, b: compiled(a, b, 3), [t.double().requires_grad_() for t in (x, w.detach())])


def test_hooks_in_between():
    seen = []
    w = nt.rand(3, requires_grad=True)
    y = w * 2
    y.register_hook(lambda grad: seen.append(grad) or grad * 10)

    @njit
    def go(y):
        (y * y).sum().backward()

    go(y)
    assert len(seen) == 1 and nt.allclose(w.grad, 80 * w)


def test_a_training_step():
    @njit(nogil=True)
    def step(w, x, target, lr):
        loss = ((x @ w - target) ** 2).mean()
        loss.backward()
        g = w.grad
        if g is not None:
            with nt.no_grad():
                w -= lr * g
            g.zero_()
        return loss.item()

    x, w = nt.rand(16, 3), nt.zeros(3, requires_grad=True)
    target = x @ nt.tensor([1.0, -2.0, 0.5])
    losses = [step(w, x, target, 0.5) for _ in range(300)]
    assert losses[-1] < 1e-3 * losses[0] and nt.allclose(w.detach(), nt.tensor([1.0, -2.0, 0.5]), atol=0.1)


def test_modes():
    def switch(x):
        with nt.no_grad():
            y = x * 2
            with nt.enable_grad():
                z = x * 3
        return y.requires_grad, z.requires_grad, (x * 4).requires_grad, nt.is_grad_enabled()

    alike(switch, nt.rand(2, requires_grad=True))

    @njit
    def interrupted(x):
        with nt.no_grad():
            y = x @ nt.zeros(7)
        return y

    with pytest.raises(RuntimeError):
        interrupted(nt.rand(2, 2))
    assert nt.is_grad_enabled()


def test_arrays():
    @njit
    def write(x):
        a = x.numpy()
        for i in range(a.size):
            a[i] += 1.0
        return a

    x = nt.zeros(3)
    a = write(x)
    assert x.tolist() == [1.0, 1.0, 1.0] and x._version == 1
    del x
    a[0] = 5.0
    assert a.tolist() == [5.0, 1.0, 1.0]
    w = nt.rand(3, requires_grad=True)
    y = w * w
    loss = (y * y).sum()
    write(y.detach())
    with pytest.raises(nt.autograd.VersionError):
        loss.backward()


def test_element_writes_are_counted():
    @njit
    def write(x):
        x[0] = 1.0

    w = nt.rand(3, requires_grad=True)
    y = w * w
    loss = (y * y).sum()
    write(y)
    with pytest.raises(nt.autograd.VersionError, match="__setitem__"):
        loss.backward()


def test_a_mode_s_block_has_one_end():
    """Numba loses the others, and the mode would last."""

    def broken(x):
        for i in range(3):
            with nt.no_grad():
                if i == 1:
                    break
        return x

    def continued(x):
        for i in range(3):
            with nt.no_grad():
                if i == 1:
                    continue
                x = x * 2.0
        return x

    def returned(x):
        for i in range(3):
            with nt.no_grad():
                if i == 1:
                    return x
        return x

    def nested(x):
        for i in range(3):
            with nt.no_grad():
                with nt.enable_grad():
                    if i == 1:
                        break
                x = x * 2.0
        return x

    for f in (broken, continued, returned, nested):
        with pytest.raises(TypingError, match="cannot leave the block of a mode"):
            njit(f)(nt.ones(2))

    @njit
    def both(x, flag):
        for _ in range(2):
            with nt.no_grad():
                with nt.enable_grad():
                    y = x * 2.0
                if flag:
                    z = y * 2.0
                else:
                    z = x
        return z, y, x * 1.0

    for flag in (True, False):
        made = both(nt.ones(2, requires_grad=True), flag)
        assert [t.requires_grad for t in made] == [not flag, True, True]


def while_last(n):
    on = k = 0
    with nt.no_grad():
        while k < n:
            on += nt.is_grad_enabled()
            k += 1
    return on, nt.is_grad_enabled()


def nested(n):
    on = k = 0
    with nt.no_grad():
        with nt.enable_grad():
            while k < n and on < n:
                on += nt.is_grad_enabled()
                k += 1
        on -= nt.is_grad_enabled()
        with nt.inference_mode():
            while k < 2 * n:
                while k < n + 1:
                    on += nt.is_grad_enabled()
                    k += 1
                k += 1
    return on, nt.is_grad_enabled(), nt.is_inference_mode_enabled()


def in_loops(n):
    on = 0
    for i in range(n):
        with nt.no_grad():
            k = 0
            while k < n:
                on += nt.is_grad_enabled()
                k += 1
        with nt.no_grad():
            for k in range(n):
                if k == i:
                    continue
                if k > 2:
                    break
                on += nt.is_grad_enabled()
        on += 100 * nt.is_grad_enabled()
    return on, nt.is_grad_enabled()


def lengthened(function):
    """The function with so much in its loop that a jump over it takes two words."""
    made = {"nt": nt}
    exec(inspect.getsource(function).replace("k += 1", "k += 1" + "; on += 0" * 100), made)
    return made[function.__name__]


@pytest.mark.parametrize("function", [while_last, nested, in_loops, lengthened(while_last)])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_modes_last_as_long_as_their_blocks(function, n):
    assert njit(function)(n) == function(n)
    assert nt.is_grad_enabled() and not nt.is_inference_mode_enabled()


def test_a_return_that_numba_takes_for_no_end_of_a_block():
    @njit
    def found(n):
        with nt.no_grad():
            for k in range(n):
                if k == 2:
                    return k
            return n

    with pytest.raises(numba.TypingError, match="does not see each end of a `with` block"):
        found(5)
    assert nt.is_grad_enabled()
