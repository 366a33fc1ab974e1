"""The cases of autograd: what it costs to be asked for more than one plain backward pass."""

import importlib

import numpy as np


def leaf(nt, *shape):
    return nt.tensor(np.random.default_rng(0).random(shape).astype("float32") + 0.1).requires_grad_()


def grad_of_part(nt, F):
    """The gradient of one of two branches: the other need not be walked."""
    x, y = leaf(nt, 4), leaf(nt, 4)

    def run():
        out = (x * x + (y * y).exp().tanh().sin()).sum()
        nt.autograd.grad(out, x)

    return run


def second_derivative(nt, F):
    x = leaf(nt, 4)

    def run():
        (first,) = nt.autograd.grad((x.sin() * x).sum(), x, create_graph=True)
        nt.autograd.grad(first.sum(), x)

    return run


def hooked(nt, F):
    """A chain with a hook on each of ten tensors."""
    x = leaf(nt, 4)

    def run():
        y = x
        for _ in range(10):
            y = y * x
            y.register_hook(lambda grad: None)
        y.sum().backward()

    return run


def custom_function(nt, F):
    class Square(nt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * x * 2

    x = leaf(nt, 4)
    return lambda: Square.apply(x).sum().backward()


def written_view(nt, F):
    """A write through a view, whose history becomes the base's."""
    x = leaf(nt, 8)

    def run():
        y = x * 1.0
        y[:4].mul_(2.0)
        y.sum().backward()

    return run


def packed(nt, F):
    """What is saved goes through hooks."""
    x = leaf(nt, 4)

    def run():
        with nt.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            y = x.exp() * x
        y.sum().backward()

    return run


def checkpointed(nt, F):
    checkpoint = importlib.import_module(f"{nt.__name__}.utils.checkpoint").checkpoint
    x = leaf(nt, 64, 64)
    block = lambda x: (x @ x).tanh()

    def run():
        checkpoint(block, x, use_reentrant=False).sum().backward()

    return run


def per_sample(nt, F):
    """Gradients of a small network for each sample of a batch of 64."""
    func = importlib.import_module(f"{nt.__name__}.func")
    x, y = leaf(nt, 64, 16).detach(), leaf(nt, 64, 1).detach()
    w, v = leaf(nt, 16, 32).detach(), leaf(nt, 32, 1).detach()
    loss = lambda w, v, x, y: (((x @ w).tanh() @ v - y) ** 2).sum()
    gradients = func.vmap(func.grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))
    return lambda: gradients(w, v, x, y)


def hessian(nt, F):
    func = importlib.import_module(f"{nt.__name__}.func")
    x = leaf(nt, 16).detach()
    return lambda: func.hessian(lambda x: (x.sin() * x).sum())(x)


CASES = {
    "autograd.grad_of_part": (grad_of_part, 0.5, 1),
    "autograd.second_derivative": (second_derivative, 1.0, 1),
    "autograd.hooked": (hooked, 1.0, 1),
    "autograd.custom_function": (custom_function, 1.0, 1),
    "autograd.written_view": (written_view, 0.5, 1),
    "autograd.packed": (packed, 1.0, 1),
    "autograd.checkpoint": (checkpointed, 1.0, 1),
    "autograd.per_sample": (per_sample, 1.0, 1),
    "autograd.hessian": (hessian, 1.0, 1),
}
