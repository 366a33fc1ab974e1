"""The cases that are timed: each builds the same work for one library, and is used by asv and by `ratios.py`."""

import importlib.util
import types

import numpy as np

from asv_benchmarks import autograd_cases, compiled_cases

LIBRARIES = [name for name in ("numbatensor", "torch", "numpy") if importlib.util.find_spec(name)]
# NumPy under PyTorch's names, as far as it goes: a case that asks for more is not timed for it
NUMPY = types.SimpleNamespace(
    tensor=lambda x: x,
    zeros=lambda n: np.zeros(n, np.float32),
    add=np.add,
    mul=np.multiply,
    exp=np.exp,
    tanh=np.tanh,
    ascontiguousarray=np.ascontiguousarray,
    set_num_threads=lambda n: None,
)


def load(name):
    """A library under PyTorch's names, and its functional module."""
    if name == "numpy":
        return NUMPY, None
    if name == "torch":
        import torch

        return torch, torch.nn.functional
    import numbatensor

    return numbatensor, numbatensor.nn.functional


def build(case, name):
    """What a case runs for a library, on as many threads as the case says; None where the library does not have it."""
    made, _, threads = CASES[case]
    library, functional = load(name)
    library.set_num_threads(threads)
    try:
        run = made(library, functional)
        run()
        return run
    except (AttributeError, TypeError):
        if name == "numpy":
            return None
        raise


def suite(topic):
    """The asv benchmark of the cases of one topic."""

    class Time:
        """One case for one library; building it is not timed."""

        param_names = ["case", "library"]
        params = [[name for name in CASES if name.startswith(topic + ".")], LIBRARIES]

        def setup(self, case, library):
            self.run = build(case, library)
            if self.run is None:
                raise NotImplementedError(f"{library} does not have {case}")
            self.run()

        def time_case(self, case, library):
            self.run()

    return Time


def values(*shape, dtype="float32"):
    return np.random.default_rng(0).random(shape).astype(dtype) + 0.1


def add_small(nt, F):
    a, b = nt.tensor(values(4)), nt.tensor(values(4))
    return lambda: a + b


def add_recorded(nt, F):
    a, b = nt.tensor(values(4), requires_grad=True), nt.tensor(values(4))
    return lambda: a + b


def chain_small(nt, F):
    x, y = nt.tensor(values(4), requires_grad=True), nt.tensor(values(4), requires_grad=True)

    def run():
        z = x
        for _ in range(2):
            z = ((z * y).tanh() + x).sigmoid() * y - x
        z.sum().backward()
        x.grad = y.grad = None

    return run


def training_step(nt, F):
    model = nt.nn.Sequential(nt.nn.Linear(64, 128), nt.nn.ReLU(), nt.nn.Linear(128, 10))
    optimizer = nt.optim.SGD(model.parameters(), lr=0.1)
    x, y = nt.tensor(values(64, 64)), nt.tensor(np.arange(64) % 10)

    def run():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def pointwise(name, n, out=False):
    def case(nt, F):
        f = {"gelu": F.gelu}.get(name) or getattr(nt, name)
        x, y = nt.tensor(values(n)), nt.tensor(values(n))
        args = (x, y) if name in ("add", "mul") else (x,)
        if out:
            target = nt.zeros(n)
            return lambda: f(*args, out=target)
        return lambda: f(*args)

    return case


def large_chain(nt, F):
    a, b = nt.tensor(values(10**6), requires_grad=True), nt.tensor(values(10**6), requires_grad=True)

    def run():
        ((a * b + a).tanh() * b).sum().backward()
        a.grad = b.grad = None

    return run


def reduction(name, dim, n):
    def case(nt, F):
        x = nt.tensor(values(n // 100, 100) if n < 10**6 else values(1000, 1000))
        f = getattr(x, name)
        return f if dim is None else (lambda: f(dim))

    return case


def normalised(name, n):
    def case(nt, F):
        side = 100 if n < 10**6 else 1000
        x = nt.tensor(values(side, side))
        if name == "layer_norm":
            w, b = nt.tensor(values(side)), nt.tensor(values(side))
            return lambda: F.layer_norm(x, (side,), w, b)
        return lambda: getattr(F, name)(x, -1)

    return case


def matmul(n, dtype):
    def case(nt, F):
        if nt is NUMPY:  # its BLAS keeps threads spinning, which made the others up to five times slower
            raise AttributeError("matmul")
        a, b = nt.tensor(values(n, n, dtype=dtype)), nt.tensor(values(n, n, dtype=dtype))
        return lambda: a @ b

    return case


def broadcast(kind):
    def case(nt, F):
        x = nt.tensor(values(1000, 1000))
        y = nt.tensor(values(1000)) if kind == "row" else nt.tensor(values(1000, 1))
        copy = nt.ascontiguousarray if nt is NUMPY else lambda t: t.contiguous()
        if kind == "transposed":
            return lambda: copy(x.T)
        if kind == "strided":
            return lambda: copy(x[:, ::2])
        return lambda: x + y

    return case


def adam(nt, F):
    p = nt.tensor(values(10**6), requires_grad=True)
    p.grad = nt.tensor(values(10**6))
    optimizer = nt.optim.Adam([p], lr=1e-3)
    return optimizer.step


# name: (case, most of torch's time, threads)
CASES = {
    "dispatch.add": (add_small, 0.30, 1),
    "dispatch.add_recorded": (add_recorded, 0.25, 1),
    "dispatch.chain": (chain_small, 0.20, 1),
    "training.digits_step": (training_step, 0.50, 1),
    **{
        f"pointwise.{f}.{n}": (pointwise(f, n), t, 2)
        for f in ("add", "mul", "exp", "tanh", "sigmoid", "gelu")
        for n, t in ((10**4, 1.0), (10**6, 1.1), (10**7, 0.4))
    },
    **{
        f"pointwise.{f}_out.{n}": (pointwise(f, n, out=True), 1.1, 2)
        for f in ("add", "mul", "exp", "tanh", "sigmoid")
        for n in (10**4, 10**6, 10**7)
    },
    "pointwise.chain_backward": (large_chain, 0.6, 2),
    **{
        f"reductions.{f}.{d}.{n}": (reduction(f, d, n), t, 2)
        for f in ("sum", "mean", "var", "max")
        for d in (None, 0, 1)
        for n, t in ((10**4, 1.0), (10**6, 1.1))
    },
    **{
        f"reductions.{f}.{n}": (normalised(f, n), t, 2)
        for f in ("softmax", "log_softmax", "layer_norm")
        for n, t in ((10**4, 1.0), (10**6, 1.1))
    },
    **{f"linalg.matmul.{d}.{n}": (matmul(n, d), 1.15, 2) for d in ("float32", "float64") for n in (256, 512, 1024)},
    **{f"views.{k}": (broadcast(k), 1.0, 2) for k in ("row", "column", "transposed", "strided")},
    "optim.adam": (adam, 0.7, 2),
    **autograd_cases.CASES,
    **compiled_cases.CASES,
}
