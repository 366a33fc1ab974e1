"""Modules against PyTorch's, where it is installed: each scenario is played with both, and tells what it saw."""

import copy
import pickle

import numpy as np
import pytest

import numbatensor as nt

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
SCENARIOS: dict = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def net(L):
    """Nested modules with parameters, buffers, a shared parameter and places for none."""
    N = L.nn

    class Inner(N.Module):
        def __init__(self):
            super().__init__()
            self.scale = N.Parameter(L.tensor([2.0, 3.0]))
            self.register_buffer("mean", L.zeros(2))
            self.register_buffer("step", L.tensor(0), persistent=False)
            self.register_parameter("nothing", None)

        def forward(self, x):
            return x * self.scale + self.mean

    class Outer(N.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Inner(), Inner()
            self.second.scale = self.first.scale
            self.layers = N.Sequential(N.Linear(2, 2), N.ReLU())
            self.bias = N.Parameter(L.tensor([1.0]), requires_grad=False)

        def forward(self, x):
            return self.layers(self.second(self.first(x))) + self.bias

    made = Outer()
    with L.no_grad():
        made.layers[0].weight.copy_(L.tensor([[1.0, -2.0], [0.5, 3.0]]))
        made.layers[0].bias.copy_(L.tensor([0.25, -0.5]))
    return made


def names(pairs):
    return [name for name, _ in pairs]


@scenario
def what_is_registered(L):
    m = net(L)
    yield names(m.named_parameters()), names(m.named_buffers()), names(m.named_modules()), names(m.named_children())
    yield len(list(m.parameters())), len(list(m.buffers())), [type(c).__name__ for c in m.children()]
    yield (
        [type(c).__name__ for c in m.modules()],
        list(m.state_dict()),
        [tuple(v.shape) for v in m.state_dict().values()],
    )
    yield names(m.layers.named_parameters())


@scenario
def parts_of_what_is_registered(L):
    m = net(L)
    yield names(m.named_parameters(prefix="net")), names(m.named_parameters(recurse=False))
    yield names(m.named_buffers(recurse=False)), len(list(m.parameters(recurse=False)))
    yield list(m.state_dict(prefix="net."))


@scenario
def state_dict_shares_memory(L):
    m = net(L)
    state = m.state_dict()
    yield {type(v).__name__ for v in state.values()}, {v.requires_grad for v in state.values()}
    state["bias"].fill_(7.0)
    yield m.bias.tolist()


@scenario
def loading(L):
    m, other = net(L), net(L)
    with L.no_grad():
        for p in other.parameters():
            p.mul_(2.0)
    kept = m.layers[0].weight
    result = m.load_state_dict(other.state_dict())
    yield m.layers[0].weight is kept, m.layers[0].weight.tolist()
    yield list(result.missing_keys), list(result.unexpected_keys)


@scenario
def loading_what_does_not_fit(L):
    m = net(L)
    before = m.layers[0].weight.tolist()
    for change in (
        lambda s: s.pop("bias"),
        lambda s: s.update(odd=L.zeros(1)),
        lambda s: s.update(bias=L.zeros(3)),
        lambda s: (s.pop("bias"), s.pop("first.mean"), s.update(odd=L.zeros(1), bias2=L.zeros(1))),
        lambda s: s.update({"layers.0.weight": L.zeros(2, 2), "bias": L.zeros(2)}),
    ):
        state = {k: v.clone() for k, v in m.state_dict().items()}
        change(state)
        for strict in (True, False):
            try:
                yield list(map(list, m.load_state_dict(state, strict=strict)))
            except RuntimeError as error:
                yield [line.strip() for line in str(error).replace("torch.", "numbatensor.").split("\n")]
    yield before


@scenario
def loading_numbers_of_another_dtype(L):
    m = L.nn.Linear(1, 1)
    m.load_state_dict({"weight": L.tensor([[3.0]], dtype=L.float64), "bias": L.tensor([2])})
    yield str(m.weight.dtype).split(".")[-1], m.weight.item(), m.bias.item()


@scenario
def loading_odd_things(L):
    for state in (None, [1], {"weight": 5, "bias": 1}):
        try:
            L.nn.Linear(1, 1).load_state_dict(state)
            yield "loaded"
        except Exception as error:
            yield type(error).__name__


@scenario
def training_and_evaluation(L):
    m = net(L)
    yield m.training, m.train(False) is m, {c.training for c in m.modules()}, m.eval().layers[1].training
    yield m.train().layers[0].training
    m.layers.eval()
    yield m.training, m.layers.training, m.layers[0].training
    try:
        m.train("yes")
    except Exception as error:
        yield type(error).__name__


@scenario
def applying(L):
    m, seen = net(L), []
    yield m.apply(lambda c: seen.append(type(c).__name__)) is m, seen


@scenario
def gradients(L):
    m = net(L)
    m(L.tensor([[1.0, 2.0]])).sum().backward()
    yield [None if p.grad is None else p.grad.tolist() for p in m.parameters()]
    m.zero_grad()
    yield [p.grad is None for p in m.parameters()]
    m(L.tensor([[1.0, 2.0]])).sum().backward()
    m.zero_grad(set_to_none=False)
    yield [None if p.grad is None else p.grad.tolist() for p in m.parameters()]
    yield m.requires_grad_(False) is m, [p.requires_grad for p in m.parameters()]


@scenario
def setting_attributes(L):
    N = L.nn
    m = N.Module()
    m.a = N.Parameter(L.zeros(2))
    m.b = 5
    m.c = N.Linear(1, 1)
    yield names(m.named_parameters()), m.b, "a" in m.__dict__, "b" in m.__dict__
    for name, value in (
        ("a", L.zeros(2)),
        ("c", 5),
        ("a", None),
        ("c", None),
        ("a", N.Parameter(L.ones(1))),
        ("a", N.Linear(1, 1)),
    ):
        try:
            setattr(m, name, value)
            yield name, type(getattr(m, name)).__name__, names(m.named_parameters()), names(m.named_children())
        except TypeError as error:
            yield type(error).__name__
    del m.b
    del m.a
    yield hasattr(m, "a"), hasattr(m, "b")
    try:
        m.missing  # noqa: B018
    except AttributeError as error:
        yield str(error)
    try:
        del m.missing
    except AttributeError as error:
        yield type(error).__name__


@scenario
def registering(L):
    N = L.nn
    for call in (
        lambda m: m.register_parameter("p", L.zeros(1)),
        lambda m: m.register_parameter("p.q", None),
        lambda m: m.register_parameter("", None),
        lambda m: m.register_parameter("training", None),
        lambda m: m.register_buffer("b", 5),
        lambda m: m.register_buffer("b.c", None),
        lambda m: m.register_buffer("forward", None),
        lambda m: m.add_module("m", 5),
        lambda m: m.add_module("m.n", None),
        lambda m: m.add_module("forward", None),
        lambda m: m.register_parameter("p", (N.Parameter(L.zeros(1)) * 2)),
        lambda m: m.register_module("m", N.Linear(1, 1)),
    ):
        try:
            yield str(call(N.Module()))
        except Exception as error:
            yield type(error).__name__


@scenario
def before_init(L):
    N = L.nn

    class Late(N.Module):
        def __init__(self):
            self.p = N.Parameter(L.zeros(1))

    class LateModule(N.Module):
        def __init__(self):
            self.p = N.Linear(1, 1)

    for kind in (Late, LateModule):
        try:
            kind()
        except AttributeError as error:
            yield str(error)[:13]


@scenario
def calling(L):
    N = L.nn
    try:
        N.Module()(1)
    except NotImplementedError as error:
        yield str(error)
    yield net(L)(L.tensor([[1.0, 2.0]])).tolist()


@scenario
def sequences(L):
    N = L.nn
    s = N.Sequential(N.Linear(1, 2), N.ReLU(), N.Linear(2, 1))
    yield (
        len(s),
        type(s[1]).__name__,
        type(s[-1]).__name__,
        len(s[:2]),
        type(s[:2]).__name__,
        [type(m).__name__ for m in s],
    )
    for k in (3, -4):
        try:
            s[k]
        except IndexError as error:
            yield type(error).__name__
    s.append(N.Tanh())
    yield names(s.named_children())
    s[1] = N.Sigmoid()
    yield [type(m).__name__ for m in s]
    del s[0]
    yield [type(m).__name__ for m in s], names(s.named_children())
    import collections

    yield names(N.Sequential(collections.OrderedDict(a=N.ReLU(), b=N.Tanh())).named_children())


@scenario
def lists(L):
    N = L.nn
    s = N.ModuleList([N.Linear(1, 2), N.ReLU()])
    s.append(N.Tanh())
    s.extend([N.ReLU()])
    s.insert(1, N.Sigmoid())
    yield [type(m).__name__ for m in s], len(s), names(s.named_children()), type(s[1:3]).__name__
    s[0] = N.Tanh()
    yield [type(m).__name__ for m in s], s[-1] is s[len(s) - 1]
    try:
        s(L.zeros(1))
    except NotImplementedError as error:
        yield str(error)
    d = N.ModuleDict({"a": N.ReLU(), "b": N.Tanh()})
    d["c"] = N.ReLU()
    yield list(d), "a" in d, type(d["b"]).__name__, list(d.keys()), len(d)


@scenario
def copies(L):
    m = net(L)
    n = copy.deepcopy(m)
    yield n.first.scale is n.second.scale, n.first.scale is m.first.scale, names(n.named_parameters())
    yield {type(p).__name__ for p in n.parameters()}, [p.requires_grad for p in n.parameters()]
    k = copy.copy(m)
    yield k.first is m.first
    linear = pickle.loads(pickle.dumps(L.nn.Linear(2, 1)))
    yield type(linear.weight).__name__, linear.weight.requires_grad, names(linear.named_parameters())


@scenario
def parameters(L):
    N = L.nn
    t = L.tensor([1.0, 2.0])
    p = N.Parameter(t)
    yield p.requires_grad, p.is_leaf, isinstance(p, L.Tensor), p.data_ptr() == t.data_ptr(), type(p * 1).__name__
    yield (
        N.Parameter(t, requires_grad=False).requires_grad,
        type(p.detach()).__name__,
        type(p[0]).__name__,
        N.Parameter().shape,
    )
    q = copy.deepcopy(p)
    yield type(q).__name__, q.requires_grad, type(pickle.loads(pickle.dumps(p))).__name__
    for wrong in (5, L.tensor([1, 2])):
        try:
            N.Parameter(wrong)
            yield "made"
        except Exception as error:
            yield type(error).__name__
    with L.no_grad():
        p.add_(1.0)
    yield p._version, p.tolist()


@scenario
def converting(L):
    m = net(L)
    yield m.double() is m, {str(p.dtype).split(".")[-1] for p in m.parameters()}, str(m.first.mean.dtype).split(".")[-1]
    m.float()
    yield {str(p.dtype).split(".")[-1] for p in m.parameters()}
    m.to(L.float64)
    yield m.first.scale is m.second.scale, {str(p.dtype).split(".")[-1] for p in m.parameters()}
    yield str(m.first.step.dtype).split(".")[-1], m.bias.requires_grad


@scenario
def reaching(L):
    m = net(L)
    yield (
        type(m.get_submodule("layers.0")).__name__,
        m.get_parameter("layers.0.bias").shape == (2,),
        m.get_buffer("first.mean").shape == (2,),
    )
    for name in ("nope", "layers.7", "bias"):
        try:
            m.get_submodule(name)
        except AttributeError as error:
            yield type(error).__name__


@scenario
def hooks(L):
    m, seen = L.nn.Linear(1, 1), []
    before = m.register_forward_pre_hook(lambda module, args: seen.append("before"))
    after = m.register_forward_hook(lambda module, args, out: out * 0)
    yield m(L.ones(1, 1)).tolist(), seen
    before.remove()
    after.remove()
    m(L.ones(1, 1))
    yield seen


@scenario
def how_it_looks(L):
    yield repr(net(L))
    N = L.nn

    class Odd(N.Module):
        def extra_repr(self):
            return "a=1,\nb=2"

    both = Odd()
    both.inner = N.ReLU()
    yield repr(Odd()), repr(both), repr(N.Module())


@scenario
def layers(L):
    N = L.nn
    x = L.tensor(np.random.default_rng(0).standard_normal((3, 4)).astype("f4"))
    for m in (N.ReLU(), N.GELU(), N.GELU("tanh"), N.SiLU(), N.Mish(), N.Softplus(2.0), N.ELU(0.5), N.SELU(), N.LeakyReLU(0.3),
              N.Hardtanh(-0.5, 0.5), N.Tanh(), N.Sigmoid(), N.Softmax(1), N.LogSoftmax(dim=0), N.Flatten(0), N.Identity(),
              N.LayerNorm(4), N.LayerNorm([3, 4]), N.Dropout(0.5).eval(), N.Identity(5, unused=True)):  # fmt: skip
        yield np.round(m(x).detach().numpy().astype("f8"), 4).tolist()
    yield (
        N.Linear(4, 2).weight.shape == (2, 4),
        N.Embedding(5, 3).weight.shape == (5, 3),
        N.Linear(3, 2, bias=False).bias,
    )
    yield (
        N.Embedding(5, 3, padding_idx=1).weight[1].tolist(),
        N.LayerNorm(4).weight.tolist(),
        N.LayerNorm(4, bias=False).bias,
    )
    yield list(N.LayerNorm(4, elementwise_affine=False).state_dict()), N.Dropout(0.3).p
    y, c = x.detach() * 0.5, L.tensor([1, 3, 0])
    for loss, target in ((N.MSELoss(), y), (N.L1Loss(reduction="sum"), y), (N.CrossEntropyLoss(), c), (N.NLLLoss(), c),
                         (N.CrossEntropyLoss(weight=L.tensor([1.0, 2, 3, 4]), label_smoothing=0.1), c),
                         (N.BCEWithLogitsLoss(), (y > 0).float()), (N.CrossEntropyLoss(ignore_index=1), c)):  # fmt: skip
        yield round(loss(x, target).item(), 4)


def played(L, name):
    seen = []
    try:
        for one in SCENARIOS[name](L):
            seen.append(one)
    except Exception as error:
        seen.append(f"{type(error).__name__}: {error}")
    return seen


KNOWN = {
    "parts_of_what_is_registered": "named_parameters and its like take no prefix and no recurse",
    "loading_odd_things": "what is no dict, or no tensor, gets an error by chance",
    "setting_attributes": "a module may take a parameter's name",
    "registering": "register_parameter, register_buffer and add_module check nothing",
    "sequences": "Sequential can't be changed",
    "lists": "ModuleList has no insert; no ModuleDict",
    "hooks": "modules have no hooks",
    "how_it_looks": "extra_repr of several lines",
}


def marked(name):
    return pytest.param(name, marks=[pytest.mark.xfail(strict=True, reason=KNOWN[name])] if name in KNOWN else [])


@pytest.mark.parametrize("name", [marked(name) for name in SCENARIOS])
def test_scenario(name):
    assert played(nt, name) == played(torch, name)
