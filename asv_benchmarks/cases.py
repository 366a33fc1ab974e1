"""The cases that are timed, declared once: each builds the same work for any library, for asv and for `ratios.py`.

A case is built by a function of a library under PyTorch's names and its functional module; where NumPy has the operation, a
second one builds it of an array library (NumPy, and JAX where installed). Building is never timed.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy

LIBRARIES = [name for name in ("numbatensor", "torch", "numpy", "jax") if importlib.util.find_spec(name)]


class Case(NamedTuple):
    """Work to time: who builds it, the most of PyTorch's time it may take (None: no aim), threads, and whether it is quick."""

    tensors: Callable
    most: float | None = None
    threads: int = 2
    arrays: Callable | None = None
    quick: bool = True

    def build(self, name):
        """The call to time for one library; None where that library has no such operation."""
        if name in ("numbatensor", "torch"):
            library = importlib.import_module(name)
            library.set_num_threads(self.threads)
            return self.tensors(library, library.nn.functional)
        if self.arrays is None:
            return None
        if name == "numpy":
            return self.arrays(numpy)
        import jax

        try:
            run = self.arrays(jax.numpy)
            run()
        except TypeError:  # JAX has no `out`
            return None
        return lambda: jax.block_until_ready(run())


def values(*shape, dtype="float32"):
    """The same positive numbers for every library."""
    return numpy.random.default_rng(0).random(shape).astype(dtype) + numpy.dtype(dtype).type(0.1)


# dispatch and autograd: what small tensors cost


def add_small(nt, F):
    a, b = nt.tensor(values(4)), nt.tensor(values(4))
    return lambda: a + b


def add_arrays(np):
    a, b = np.asarray(values(4)), np.asarray(values(4))
    return lambda: a + b


def add_recorded(nt, F):
    a, b = nt.tensor(values(4), requires_grad=True), nt.tensor(values(4))
    return lambda: a + b


def chain_of_ten(nt, F):
    x, y = nt.tensor(values(4), requires_grad=True), nt.tensor(values(4), requires_grad=True)

    def run():
        z = x
        for _ in range(2):
            z = ((z * y).tanh() + x).sigmoid() * y
        z.sum().backward()
        x.grad = y.grad = None

    return run


def deep_chain(nt, F):
    x = nt.tensor(values(4), requires_grad=True)

    def run():
        z = x
        for _ in range(1000):
            z = z * 1.001
        z.sum().backward()
        x.grad = None

    return run


def shared_leaf(nt, F):
    """One leaf used a hundred times: its gradient is accumulated as often."""
    x, weights = nt.tensor(values(1000), requires_grad=True), [nt.tensor(values(1000)) for _ in range(100)]

    def run():
        z = x * weights[0]
        for w in weights[1:]:
            z = z + x * w
        z.sum().backward()
        x.grad = None

    return run


def linear_backward(nt, F):
    x, w, b = (nt.tensor(values(*shape), requires_grad=True) for shape in ((64, 256), (256, 256), (256,)))

    def run():
        F.linear(x, w, b).sum().backward()
        x.grad = w.grad = b.grad = None

    return run


def large_chain(nt, F):
    a, b = nt.tensor(values(10**6), requires_grad=True), nt.tensor(values(10**6), requires_grad=True)

    def run():
        ((a * b + a).tanh() * b).sum().backward()
        a.grad = b.grad = None

    return run


# training and optim


def training_step(nt, F):
    model = nt.nn.Sequential(nt.nn.Linear(64, 128), nt.nn.ReLU(), nt.nn.Linear(128, 10))
    optimizer = nt.optim.SGD(model.parameters(), lr=0.1)
    x, y = nt.tensor(values(64, 64)), nt.tensor(numpy.arange(64) % 10)

    def run():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def optimizer_step(name, **options):
    def case(nt, F):
        p = nt.tensor(values(10**6), requires_grad=True)
        p.grad = nt.tensor(values(10**6))
        return getattr(nt.optim, name)([p], lr=1e-3, **options).step

    return case


# pointwise

BINARY = ("add", "mul")
UFUNCS = {"add": "add", "mul": "multiply", "exp": "exp", "tanh": "tanh"}


def pointwise(name, n, out=False):
    def case(nt, F):
        f = getattr(F, name, None) or getattr(nt, name)
        args = [nt.tensor(values(n)) for _ in range(1 + (name in BINARY))]
        if not out:
            return lambda: f(*args)
        if name == "gelu":  # neither library has `out` on its public gelu
            f = nt.gelu_erf if nt.__name__ == "numbatensor" else nt._C._nn.gelu
        else:
            f = getattr(nt, name)
        target = nt.zeros(n)
        return lambda: f(*args, out=target)

    return case


def ufunc(name, n, out=False):
    def case(np):
        f = getattr(np, UFUNCS[name])
        args = [np.asarray(values(n)) for _ in range(1 + (name in BINARY))]
        if not out:
            return lambda: f(*args)
        target = np.zeros(n, "float32")
        return lambda: f(*args, out=target)

    return case if name in UFUNCS else None


# reductions


def reduction(name, dim, side):
    def case(nt, F):
        f = getattr(nt.tensor(values(side, side)), name)
        return f if dim is None else lambda: f(dim)

    return case


def array_reduction(name, dim, side):
    def case(np):
        x, f = np.asarray(values(side, side)), getattr(np, name.removeprefix("a") if name == "amax" else name)
        # PyTorch's var divides by n - 1
        return (lambda: f(x, axis=dim, ddof=1)) if name == "var" else lambda: f(x, axis=dim)

    return case


def normalised(name, side):
    def case(nt, F):
        x = nt.tensor(values(side, side))
        if name == "layer_norm":
            w, b = nt.tensor(values(side)), nt.tensor(values(side))
            return lambda: F.layer_norm(x, (side,), w, b)
        return lambda: getattr(F, name)(x, -1)

    return case


# linear algebra, views and copies


def matmul(n, dtype):
    def case(nt, F):
        a, b = nt.tensor(values(n, n, dtype=dtype)), nt.tensor(values(n, n, dtype=dtype))
        return lambda: a @ b

    return case


def array_matmul(n, dtype):
    def case(np):
        a, b = np.asarray(values(n, n, dtype=dtype)), np.asarray(values(n, n, dtype=dtype))
        return lambda: a @ b

    return case


SECOND = {"row": (1000,), "column": (1000, 1)}


def broadcast(kind):
    def case(nt, F):
        x, y = nt.tensor(values(1000, 1000)), nt.tensor(values(*SECOND[kind]))
        return lambda: x + y

    return case


def array_broadcast(kind):
    def case(np):
        x, y = np.asarray(values(1000, 1000)), np.asarray(values(*SECOND[kind]))
        return lambda: x + y

    return case


def copy(kind):
    def case(nt, F):
        x = nt.tensor(values(1000, 1000))
        return (lambda: x.t().contiguous()) if kind == "transposed" else lambda: x[:, ::2].contiguous()

    return case


def array_copy(kind):
    def case(np):
        x = np.asarray(values(1000, 1000))
        return (lambda: x.T.copy()) if kind == "transposed" else lambda: x[:, ::2].copy()

    return case


def view(nt, F):
    x = nt.tensor(values(8, 8, 8))
    return lambda: x[1:, 2].reshape(-1).unsqueeze(0)


CASES = {
    "dispatch.add": Case(add_small, 0.30, 1, add_arrays),
    "dispatch.add_recorded": Case(add_recorded, 0.25, 1),
    "dispatch.chain": Case(chain_of_ten, 0.20, 1),
    "autograd.deep": Case(deep_chain, None, 1),
    "autograd.shared_leaf": Case(shared_leaf, None, 1),
    "autograd.linear": Case(linear_backward),
    "autograd.large_chain": Case(large_chain, 0.6),
    "training.digits_step": Case(training_step, 0.50),
    **{
        f"pointwise.{f}.{n}": Case(pointwise(f, n), most, 2, ufunc(f, n), n < 10**7)
        for f in ("add", "mul", "exp", "tanh", "sigmoid", "gelu")
        for n, most in ((10**4, 1.0), (10**6, 1.1), (10**7, 0.4))
    },
    **{
        f"pointwise.{f}_out.{n}": Case(pointwise(f, n, True), 1.1, 2, ufunc(f, n, True), n < 10**7)
        for f in ("add", "mul", "exp", "tanh", "sigmoid", "gelu")
        for n in (10**4, 10**6, 10**7)
    },
    **{
        f"reductions.{f}.{dim}.{side * side}": Case(reduction(f, dim, side), most, 2, array_reduction(f, dim, side))
        for f in ("sum", "mean", "var", "max", "amax")
        for dim in (None, 0, 1)
        for side, most in ((100, 1.0), (1000, 1.1))
        if f != "amax" or dim is not None  # without a dim it is `max`
    },
    **{
        f"reductions.{f}.{side * side}": Case(normalised(f, side), most)
        for f in ("softmax", "log_softmax", "layer_norm")
        for side, most in ((100, 1.0), (1000, 1.1))
    },
    **{
        f"linalg.matmul.{dtype}.{n}": Case(matmul(n, dtype), 1.15, 2, array_matmul(n, dtype), n < 1024)
        for dtype in ("float32", "float64")
        for n in (256, 512, 1024)
    },
    **{f"views.{kind}": Case(broadcast(kind), 1.0, 2, array_broadcast(kind)) for kind in SECOND},
    **{f"views.{kind}": Case(copy(kind), 1.0, 2, array_copy(kind)) for kind in ("transposed", "strided")},
    "views.three_views": Case(view, None, 1),
    "optim.adam": Case(optimizer_step("Adam"), 0.7),
    "optim.adamw": Case(optimizer_step("AdamW")),
    "optim.sgd_momentum": Case(optimizer_step("SGD", momentum=0.9)),
}


def timed(topic):
    """asv's class for the cases of one topic, side by side for the installed libraries."""

    class Timed:
        __doc__ = f"The cases called `{topic}`."
        param_names = ["case", "library"]
        params = [[name for name in CASES if name.startswith(topic + ".")], LIBRARIES]

        def setup(self, case, library):
            self.run = CASES[case].build(library)
            if self.run is None:
                raise NotImplementedError  # asv's way to leave a combination out
            self.run()

        def time_case(self, case, library):
            self.run()

    # asv finds a class again by its name in the module that holds it
    Timed.__name__ = Timed.__qualname__ = topic.capitalize()
    return Timed
