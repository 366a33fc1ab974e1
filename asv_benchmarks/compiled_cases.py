"""The cases of compiled code: one source, compiled for us and run by Python for the peers. Each call repeats its work `TIMES` times."""

import threading

import numpy as np

TIMES = 20


def leaf(nt, *shape):
    return nt.tensor(np.random.default_rng(0).random(shape).astype("float32")).requires_grad_()


def compiled(nt, function):
    """The function as each library runs it."""
    if nt.__name__ != "numbatensor":
        return function
    from numba import njit

    return njit(nogil=True)(function)


def chain(nt, *shape):
    """Eight pointwise ops, a sum, and back."""

    def train(x, n):
        for _ in range(n):
            y = nt.tanh(x * 2.0)
            y = y * x + 0.5
            y = nt.exp(y) * nt.sin(x)
            y.sum().backward()
            g = x.grad
            if g is not None:
                g.zero_()

    run, x = compiled(nt, train), leaf(nt, *shape)
    return lambda: run(x, TIMES)


def expression(nt, F):
    """The expression over scalars in the README of micrograd, and back."""

    def train(a, b, n):
        for _ in range(n):
            c = a + b
            d = a * b + b**3
            c = c + (c + 1)
            c = c + (1 + c + (-a))
            d = d + (d * 2 + nt.relu(b + a))
            d = d + (3 * d + nt.relu(b - a))
            e = c - d
            f = e**2
            g = f / 2.0
            g = g + 10.0 / f
            g.backward()
            slope = a.grad
            if slope is not None:
                slope.zero_()
            slope = b.grad
            if slope is not None:
                slope.zero_()

    run = compiled(nt, train)
    a, b = (nt.tensor(value).requires_grad_() for value in (-4.0, 2.0))
    return lambda: run(a, b, TIMES)


def perceptron(nt):
    """Steps of stochastic gradient descent for a network 16-16-1 on a batch of 8, and what they change."""

    def down(p):
        g = p.grad
        if g is not None:
            with nt.no_grad():
                p -= 0.01 * g
            g.zero_()

    descend = compiled(nt, down)

    def steps(w, b, v, c, x, target, n):
        for _ in range(n):
            hidden = nt.tanh(x @ w + b)
            loss = ((hidden @ v + c - target) ** 2).mean()
            loss.backward()
            descend(w)
            descend(b)
            descend(v)
            descend(c)

    parameters = [leaf(nt, 16, 16), leaf(nt, 16), leaf(nt, 16, 1), leaf(nt, 1)]
    data = [leaf(nt, 8, 16).detach(), leaf(nt, 8, 1).detach()]
    return compiled(nt, steps), (*parameters, *data)


def step(nt, F):
    run, values = perceptron(nt)
    return lambda: run(*values, TIMES)


def in_turn(nt, F):
    """Two models, trained one after the other."""
    trainings = [perceptron(nt) for _ in range(2)]

    def run():
        for train, values in trainings:
            train(*values, 10 * TIMES)

    return run


def in_threads(nt, F):
    """The same in two threads."""
    trainings = [perceptron(nt) for _ in range(2)]

    def run():
        threads = [threading.Thread(target=train, args=(*values, 10 * TIMES)) for train, values in trainings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


# Name: (how to build it, the largest ratio to PyTorch's time that we accept, on how many threads)
CASES = {
    "compiled.chain_of_4": (lambda nt, F: chain(nt, 4), 0.06, 1),
    "compiled.chain_of_16x16": (lambda nt, F: chain(nt, 16, 16), 0.10, 1),
    "compiled.scalar_expression": (expression, 0.06, 1),
    "compiled.training_step": (step, 0.08, 1),
    "compiled.two_models_in_turn": (in_turn, 0.08, 1),
    "compiled.two_models_in_threads": (in_threads, 0.08, 1),
}
