"""What `gpu_check.py` times: each case builds the same work for one library under PyTorch's names, and says what it moves or computes."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass
class Sizes:
    """How large the cases are."""

    elements: int = 100_000_000  # of the cases that move memory
    columns: int = 1024
    side: int = 4096  # of matrices
    small: int = 1000
    batch: int = 128  # of training steps
    width: int = 1024


@dataclasses.dataclass
class Case:
    """One row: its kind, what it moves or computes, and for each contender a function that builds what is timed.

    `kind`: "memory" (work in bytes), "product" (in operations), "host" (the host's time of a call), "training", "chain" (bytes) and "sort". Contenders:
    "numbatensor", "torch", "compiled" (by PyTorch), "graph" (a CUDA graph of PyTorch's), "captured" (one of ours), "cupy".
    """

    name: str
    kind: str
    work: int
    contenders: dict[str, Callable]


@dataclasses.dataclass
class Library:
    """A library, and the name of the device that it works on."""

    module: object
    device: str = "cuda"


class CuPy:
    """CuPy under PyTorch's names, as far as it goes."""

    def __init__(self, cupy):
        self.cupy = cupy

    def rand(self, *shape, device):
        return self.cupy.random.rand(*shape).astype("float32")


def memory_cases(z, libraries):
    """Cases that are as fast as memory: name, bytes of each element, what PyTorch's names make, what CuPy's make (None: nothing)."""
    f, n = 4, z.elements // z.columns * z.columns
    plain = [
        ("copy", 2 * f, lambda x: x.clone(), lambda x: x.copy()),
        ("in place, x *= 1", 2 * f, lambda x: x.mul_(1.0), lambda x: x.__imul__(1.0)),
        ("exp", 2 * f, lambda x: x.exp(), "exp"),
        ("comparison with a number", f + 1, lambda x: x > 0.5, lambda x: x > 0.5),
        ("x + row", 2 * f, lambda x: x + x[0], lambda x: x + x[0]),
        ("transpose, made contiguous", 2 * f, lambda x: x.t().contiguous(), lambda x: x.T.copy()),
        ("a copy of half the columns", f, lambda x: x[:, : z.columns // 2].contiguous(), None),
        ("sum", f, lambda x: x.sum(), lambda x: x.sum()),
        ("sum of rows", f, lambda x: x.sum(1), lambda x: x.sum(1)),
        ("sum of columns", f, lambda x: x.sum(0), lambda x: x.sum(0)),
        ("largest of rows", f, lambda x: x.amax(1), lambda x: x.max(1)),
        ("variance of rows", f, lambda x: x.var(1), lambda x: x.var(1)),
        ("softmax of rows", 2 * f, lambda x: x.softmax(1), None),
        ("log_softmax of rows", 2 * f, lambda x: x.log_softmax(1), None),
    ]
    for name, moved, ours, cupys in plain:
        yield Case(name, "memory", moved * n, contenders(libraries, over_rows(z, ours), cupy_form(z, cupys)))
    pairs = [("x + y", lambda L, x, y: x + y), ("maximum", lambda L, x, y: L.maximum(x, y))]
    for name, call in pairs:

        def pair(L, device, call=call):
            x, y = (L.rand(n, device=device) for _ in range(2))
            return lambda: call(L, x, y)

        cupys = lambda C, call=call: pair(C, None, lambda L, x, y: call(C.cupy, x, y))
        yield Case(name, "memory", 3 * f * n, contenders(libraries, pair, cupys))

    def joined(L, device):
        x, y = (L.rand(n // 2, device=device) for _ in range(2))
        return lambda: L.cat([x, y])

    yield Case("cat of two", "memory", 2 * f * n, contenders(libraries, joined))
    for name in ("softmax", "log_softmax"):
        yield Case(f"{name}, backward", "memory", 3 * f * n, contenders(libraries, slope(z, rowwise(name))))
    yield Case("layer_norm", "memory", 2 * f * n, contenders(libraries, normalised(z)))
    yield Case("layer_norm, backward", "memory", 3 * f * n, contenders(libraries, slope(z, normalise, weighted=True)))
    for name, momenta in (("SGD step", 0), ("Adam step", 2)):
        moved = (3 + 2 * momenta) * f * n
        yield Case(name, "memory", moved, contenders(libraries, optimised(z, name.split()[0])))


def contenders(libraries, build, cupys=None):
    """A builder for each library that has the case."""
    made = {name: (lambda L=L: build(L.module, L.device)) for name, L in libraries.items() if name != "cupy"}
    if cupys and "cupy" in libraries:
        made["cupy"] = lambda: cupys(CuPy(libraries["cupy"].module))
    return made


def over_rows(z, call):
    def build(L, device):
        x = L.rand(z.elements // z.columns, z.columns, device=device)
        return lambda: call(x)

    return build


def cupy_form(z, call):
    """The same for CuPy, whose function of elements may be given by name."""
    if isinstance(call, str):
        return lambda C: over_rows(z, getattr(C.cupy, call))(C, None)
    return call and (lambda C: over_rows(z, call)(C, None))


def rowwise(name):
    return lambda L, x: getattr(x, name)(1)


def normalise(L, x, *weights):
    return L.nn.functional.layer_norm(x, (x.shape[1],), *weights)


def weights_of(L, z, device):
    return [L.rand(z.columns, device=device).requires_grad_() for _ in range(2)]


def normalised(z):
    def build(L, device):
        x, weights = L.rand(z.elements // z.columns, z.columns, device=device), weights_of(L, z, device)
        weights = [w.detach() for w in weights]
        return lambda: normalise(L, x, *weights)

    return build


def slope(z, call, weighted=False):
    """A backward pass alone: the graph is kept."""

    def build(L, device):
        x = L.rand(z.elements // z.columns, z.columns, device=device).requires_grad_()
        weights = weights_of(L, z, device) if weighted else []
        out = call(L, x, *weights)
        grad = L.rand(*out.shape, device=device)
        return lambda: L.autograd.grad(out, [x, *weights], grad, retain_graph=True)

    return build


def optimised(z, name):
    def build(L, device):
        p = L.rand(z.elements, device=device).requires_grad_()
        p.grad = L.rand(z.elements, device=device)
        return getattr(L.optim, name)([p], lr=1e-3, **fused(L)).step

    return build


def fused(L):
    """PyTorch's fastest optimisers are asked for."""
    return {"fused": True} if L.__name__ == "torch" else {}


def product_cases(z, libraries):
    """Products of matrices: float32 without and with TF32, bfloat16 where both have it."""
    n = z.side

    def product(precision, dtype):
        def build(L, device):
            a, b = (L.rand(n, n, device=device).to(getattr(L, dtype)) for _ in range(2))
            choose = getattr(L, "set_float32_matmul_precision", None)
            if choose is None and precision == "high":
                raise NotImplementedError("it has no switch for TF32")

            def run():
                if choose:
                    choose(precision)
                return a @ b

            return run

        return build

    def cupys(C):
        a, b = C.rand(n, n, device=None), C.rand(n, n, device=None)
        return lambda: a @ b

    for name, precision, dtype in (
        ("matmul float32", "highest", "float32"),
        ("matmul float32, TF32", "high", "float32"),
        ("matmul bfloat16", "highest", "bfloat16"),
    ):
        if dtype == "float32" or hasattr(libraries["numbatensor"].module, dtype):
            # which precision CuPy takes is set before it starts
            also = cupys if name == "matmul float32" else None
            yield Case(f"{name}, {n}", "product", 2 * n**3, contenders(libraries, product(precision, dtype), also))


def host_cases(z, libraries):
    """Small ops that are recorded: what a call costs the host."""
    calls = {
        "x * 2": lambda L, x, y: x * 2.0,
        "x * y": lambda L, x, y: x * y,
        "sin": lambda L, x, y: x.sin(),
        "sum": lambda L, x, y: x.sum(),
        "softmax": lambda L, x, y: x.softmax(0),
        "x * y, with its backward": lambda L, x, y: L.autograd.grad(x * y, x, y),
    }
    for name, call in calls.items():

        def build(L, device, call=call):
            x, y = L.rand(z.small, device=device).requires_grad_(), L.rand(z.small, device=device)
            return lambda: call(L, x, y)

        yield Case(f"{name}, of {z.small}", "host", 0, contenders(libraries, build))


def chain_cases(z, libraries):
    """A chain of pointwise ops: as one function of scalars for us, by PyTorch one at a time, and compiled."""
    chain = lambda L, x, y: (x * y + x).tanh() * y

    def ours(L, device):
        import math

        x, y = (L.rand(z.elements, device=device) for _ in range(2))
        fused = L.pointwise(lambda x, y: math.tanh(x * y + x) * y)
        return lambda: fused(x, y)

    def theirs(wrap):
        def build(L, device):
            x, y = (L.rand(z.elements, device=device) for _ in range(2))
            call = wrap(L, lambda x, y: chain(L, x, y))
            return lambda: call(x, y)

        return build

    found = contenders({"numbatensor": libraries["numbatensor"]}, ours)
    if "torch" in libraries:
        only = {"torch": libraries["torch"]}
        found |= contenders(only, theirs(lambda L, f: f))
        found["compiled"] = contenders(only, theirs(lambda L, f: L.compile(f)))["torch"]
    yield Case("tanh(x * y + x) * y, fused", "chain", 12 * z.elements, found)


def sort_cases(z, libraries):
    """The order of one long row: by our own kernels, and by CUB where it is installed (it is compiled now, if it never was)."""

    def ordered(library):
        def build(L, device):
            if L.__name__ == "numbatensor":
                L.backends.cuda.sort.library = library
            x = L.rand(z.elements // 10, device=device)
            return lambda: L.argsort(x)

        return build

    def cupys(C):
        x = C.rand(z.elements // 10, device=None)
        return lambda: C.cupy.argsort(x)

    yield Case("argsort of a tenth", "sort", 0, contenders(libraries, ordered("numbatensor"), cupys))
    ours = libraries["numbatensor"].module.backends.cuda.sort
    ours.library = "cub"
    if ours.why_not() is None:
        yield Case("argsort of a tenth, by CUB", "sort", 0, contenders(libraries, ordered("cub"), cupys))
    ours.library = "auto"


def mlp(L, z):
    nn = L.nn
    return nn.Sequential(
        nn.Linear(z.width, z.width), nn.ReLU(), nn.Linear(z.width, z.width), nn.ReLU(), nn.Linear(z.width, 10)
    )


def with_norms(L, z):
    nn = L.nn
    parts = [p for _ in range(3) for p in (nn.Linear(z.width, z.width), nn.LayerNorm(z.width), nn.GELU())]
    return nn.Sequential(*parts, nn.Linear(z.width, 10))


def training(L, device, z, model, wrap=lambda f: f):
    """A training step: loss, gradients, Adam."""
    net = model(L, z).to(device)
    optimizer = L.optim.Adam(
        net.parameters(), lr=1e-3, capturable=device == "cuda", **(fused(L) if device == "cuda" else {})
    )
    x, y = L.rand(z.batch, z.width, device=device), (L.arange(z.batch) % 10).to(device)
    loss = wrap(lambda x, y: L.nn.functional.cross_entropy(net(x), y))

    def step():
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()

    return step


def captured_by_torch(L, step):
    """A step as a CUDA graph of PyTorch's, after its manual: it runs on another stream first."""
    side = L.cuda.Stream()
    side.wait_stream(L.cuda.current_stream())
    with L.cuda.stream(side):
        for _ in range(3):
            step()
    L.cuda.current_stream().wait_stream(side)
    graph = L.cuda.CUDAGraph()
    with L.cuda.graph(graph):
        step()
    return graph.replay


def captured_by_us(L, step):
    step()
    return L.cuda.graph(step)


def training_cases(z, libraries):
    """Whole steps, one op at a time and captured, each against PyTorch's eager, compiled and captured ones."""
    for title, model in (("MLP", mlp), ("layer-norm", with_norms)):
        build = lambda L, device, model=model: training(L, device, z, model)
        compiled = lambda L, device, model=model: training(L, device, z, model, L.compile)
        captured = lambda L, device, build=build: captured_by_us(L, build(L, device))
        graph = lambda L, device, build=build: captured_by_torch(L, build(L, device))
        found = {}
        for name, library, made in (
            ("numbatensor", "numbatensor", build),
            ("captured", "numbatensor", captured),
            ("torch", "torch", build),
            ("compiled", "torch", compiled),
            ("graph", "torch", graph),
        ):
            if library in libraries:
                found[name] = contenders({library: libraries[library]}, made)[library]
        yield Case(f"{title} training step", "training", 0, found)


def all_cases(z, libraries):
    """Every case, the copy first: its speed is what others are held against."""
    for cases in (memory_cases, product_cases, host_cases, training_cases, chain_cases, sort_cases):
        yield from cases(z, libraries)
