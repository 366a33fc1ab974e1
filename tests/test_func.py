"""`nt.func` and `nt.autograd.functional`: gradients of gradients and of batches, Jacobians, modules as functions, errors; and PyTorch."""

import collections
import doctest
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import numbatensor as nt
from numbatensor import func
from numbatensor.autograd import functional

rng = np.random.default_rng(5)


def real(*shape):
    return nt.tensor(rng.uniform(-1, 1, shape))


def close(x, y, rtol=1e-9):
    x, y = (t.detach().numpy() if isinstance(t, nt.Tensor) else np.asarray(t) for t in (x, y))
    assert x.shape == y.shape
    np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-12)


X, W, M = real(4), real(3, 4), real(4, 4)
quadratic = lambda x: (x @ M * x).sum()  # noqa: E731

# gradients


def test_grad():
    close(func.grad(lambda x: x.sin().sum())(X), X.cos())
    g, value = func.grad_and_value(quadratic)(X)
    close(g, (M + M.T) @ X)
    close(value, quadratic(X))
    value, g = func.value_and_grad(quadratic)(X)
    close(g, (M + M.T) @ X)
    assert not g.requires_grad and not value.requires_grad and X.grad is None and not X.requires_grad
    g, aux = func.grad(lambda x: (quadratic(x), {"twice": x * 2.0, "name": "q"}), has_aux=True)(X)
    assert aux["name"] == "q" and not aux["twice"].requires_grad
    g, (value, aux) = func.grad_and_value(lambda x: (quadratic(x), x), has_aux=True)(X)
    close(aux, X)


def test_structures():
    Pair = collections.namedtuple("Pair", "a b")
    f = lambda p, k, q: (p["w"] @ q.a * k).sum() + (q.b[0] ** 2).sum() + p["v"].sum() * 0.0
    p, q = {"w": W, "v": real(2)}, Pair(X, [real(3), real(1)])
    made = func.grad(f, argnums=(0, 2))(p, 3.0, q)
    assert type(made) is tuple and type(made[1]) is Pair and type(made[1].b) is list
    close(made[0]["w"], 3.0 * np.ones((3, 1)) * X.numpy())
    close(made[1].a, 3.0 * W.sum(0))
    close(made[1].b[0], 2.0 * q.b[0])
    close(made[1].b[1], np.zeros(1))
    close(func.grad(lambda x, y: (x * y).sum(), argnums=-1)(X, X * 2.0), X)
    close(func.grad(lambda x, scale: (x * scale).sum())(X, scale=2.0), np.full(4, 2.0))


def test_nesting():
    f = lambda x: (x**4).sum()
    third = func.grad(lambda x: func.grad(lambda y: func.grad(f)(y).sum())(x).sum())(X)
    close(third, 24.0 * X)
    # perturbations must not be confused: d/dx (x * d/dy (x + y)) = 1
    one = func.grad(lambda x: x * func.grad(lambda y: x + y)(nt.tensor(1.0)))(nt.tensor(3.0))
    assert one.item() == 1.0
    close(func.grad(lambda x: func.grad(lambda y: (x * y * y).sum())(x).sum())(X), 4.0 * X)
    assert not third.requires_grad


def test_graphs_outside():
    w, x = real(4).requires_grad_(), real(4).requires_grad_()
    g = func.grad(lambda a: (a * a * w).sum())(X)
    assert g.requires_grad
    g.sum().backward()
    close(w.grad, 2.0 * X)
    g, value = func.grad_and_value(lambda a: (a**3).sum())(x)
    (g.sum() + value).backward()
    close(x.grad, 6.0 * x + 3.0 * x * x)
    y = x * 2.0
    with nt.no_grad():
        g = func.grad(lambda a: (a * a * y).sum())(x)
    assert not g.requires_grad
    close(g, 2.0 * x * y)
    (y * y).sum().backward()  # the graph outside is whole
    quiet = func.grad(lambda a: (a * a.detach()).sum())(x)
    close(quiet, x)

    def f(a):
        with nt.no_grad():
            b = a * 3.0
        return (a * b).sum()

    close(func.grad(f)(X), 3.0 * X)


def test_inference_mode():
    w = real(4).requires_grad_()
    with nt.inference_mode():
        for x in (X, nt.ones(4).double()):
            g, value = func.grad_and_value(lambda a: (a * a * w).sum())(x)
            close(g, 2.0 * x * w)
            assert not g.requires_grad and not value.requires_grad
            close(func.hessian(quadratic)(x), M + M.T)


def test_unused_and_identity():
    close(func.grad(lambda x: nt.tensor(1.0).double())(X), np.zeros(4))
    close(func.grad(lambda x, y: x.sum(), argnums=(0, 1))(X, W)[1], np.zeros((3, 4)))
    assert func.grad(lambda x: x)(nt.tensor(2.0)).item() == 1.0
    out, pull = func.vjp(lambda x: x, X)
    close(pull(X)[0], X)
    close(func.jvp(lambda x: x, (X,), (X,))[1], X)
    close(func.jacrev(lambda x: x)(X), np.eye(4))


def test_vjp():
    f = lambda x, y: {"s": (x * y).sum(), "m": x * y.sum()}
    out, pull = func.vjp(f, X, X * 2.0)
    close(out["s"], (X * X * 2.0).sum())
    a, b = pull({"s": nt.tensor(1.0).double(), "m": nt.ones(4).double()})
    close(a, X * 2.0 + (X * 2.0).sum())
    close(b, X + X.sum())
    close(pull({"s": nt.tensor(0.0).double(), "m": X})[0], X * (X * 2.0).sum())  # as often as one likes
    out, pull, aux = func.vjp(lambda x: (x.sin(), x), X, has_aux=True)
    close(pull(X)[0], X.cos() * X)
    close(func.vmap(pull)(nt.eye(4).double())[0], np.diag(X.cos().numpy()))
    twice = func.vmap(func.vmap(pull))(nt.eye(4).double().reshape(2, 2, 4))
    close(twice[0], np.diag(X.cos().numpy()).reshape(2, 2, 4))


def test_jvp():
    out, tangent = func.jvp(lambda x: W @ x.sin(), (X,), (X * 0.5,))
    close(tangent, W @ (X.cos() * X * 0.5))
    out, tangent = func.jvp(lambda x, y: (x * y, x.sum()), (X, X), (X, nt.zeros(4).double()))
    close(tangent[0], X * X)
    close(tangent[1], X.sum())
    out, tangent, aux = func.jvp(lambda x: (x * x, "aux"), (X,), (X,), has_aux=True)
    assert aux == "aux"
    close(func.jvp(lambda x: X * 1.0, (X,), (X,))[1], np.zeros(4))
    twice = lambda x: func.jvp(
        lambda y: func.jvp(lambda z: z**3, (y,), (nt.ones(4).double(),))[1], (x,), (nt.ones(4).double(),)
    )[1]
    close(twice(X), 6.0 * X)
    close(func.grad(lambda x: func.jvp(lambda z: z**3, (x,), (X,))[1].sum())(X), 6.0 * X * X)


# Jacobians


@pytest.mark.parametrize("jacobian", [func.jacrev, func.jacfwd])
def test_jacobian(jacobian):
    close(jacobian(lambda x: W @ x)(X), W)
    close(
        jacobian(lambda x: x.outer(x))(X),
        np.einsum("ik,j->ijk", np.eye(4), X.numpy()) + np.einsum("jk,i->ijk", np.eye(4), X.numpy()),
    )
    made = jacobian(lambda x, y: {"a": (x * y).sum(), "b": [x * 2.0, y]}, argnums=(0, 1))(X, X * 3.0)
    close(made["a"][0], X * 3.0)
    close(made["b"][0][0], 2.0 * np.eye(4))
    close(made["b"][0][1], np.zeros((4, 4)))
    close(made["b"][1][1], np.eye(4))
    made, aux = jacobian(lambda p: (p["x"] ** 2, p["x"]), has_aux=True)({"x": X})
    close(made["x"], np.diag(2.0 * X.numpy()))
    close(jacobian(lambda x: x[:0])(X), np.zeros((0, 4)))
    close(jacobian(lambda x: x.sum())(real(0)), np.zeros(0))
    # of a batch, and in a batch
    f = lambda x: (W @ x).tanh()
    batch = real(5, 4)
    each = np.stack([jacobian(f)(row).numpy() for row in batch])
    close(func.vmap(jacobian(f))(batch), each)
    whole = jacobian(func.vmap(f))(batch).numpy()
    close(np.stack([whole[k, :, k] for k in range(5)]), each)
    x = real(4).requires_grad_()
    jacobian(lambda x: x**3)(x).sum().backward()
    close(x.grad, 6.0 * x)


def test_hessian():
    close(func.hessian(quadratic)(X), M + M.T)
    f = lambda x, y: (x * x * y).sum()
    made = func.hessian(f, argnums=(0, 1))(X, X + 2.0)
    close(made[0][0], np.diag(2.0 * (X + 2.0).numpy()))
    close(made[0][1], np.diag(2.0 * X.numpy()))
    close(made[1][1], np.zeros((4, 4)))
    batch = real(3, 4)
    g = lambda x: (x @ M).tanh().sum()
    close(func.vmap(func.hessian(g))(batch), np.stack([func.hessian(g)(row).numpy() for row in batch]))
    whole = func.hessian(lambda b: func.vmap(g)(b).sum())(batch).numpy()
    close(np.stack([whole[k, :, k] for k in range(3)]), func.vmap(func.hessian(g))(batch))
    close(func.jacfwd(func.jacrev(g))(X), func.hessian(g)(X))
    close(func.jacrev(func.jacfwd(g))(X), func.hessian(g)(X))


# per-sample gradients


class MLP(nt.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nt.nn.Linear(4, 6), nt.nn.LayerNorm(6), nt.nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu())


def test_per_sample_gradients():
    nt.manual_seed(0)
    model, x, y = MLP().double(), real(8, 4), nt.tensor(rng.integers(0, 3, 8))
    params = {k: p.detach() for k, p in model.named_parameters()}

    def loss(params, x, y):
        out = func.functional_call(model, params, (x.unsqueeze(0),))
        return nt.nn.functional.cross_entropy(out, y.unsqueeze(0))

    found = func.vmap(func.grad(loss), (None, 0, 0))(params, x, y)
    for k in range(8):
        model.zero_grad()
        nt.nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1]).backward()
        for name, p in model.named_parameters():
            close(found[name][k], p.grad)
    assert not any(g.requires_grad for g in found.values())
    pieces = func.vmap(func.grad(loss), (None, 0, 0), chunk_size=3)(params, x, y)
    for name in found:
        close(pieces[name], found[name])
    live = func.vmap(func.grad(loss), (None, 0, 0))(dict(model.named_parameters()), x, y)
    norms = sum((g * g).sum() for g in live.values())
    model.zero_grad()
    norms.backward()  # gradients of the norms of per-sample gradients
    assert all(p.grad is not None for p in model.parameters())


def test_gradients_in_batches_of_batches():
    f = lambda w, x: (w * x).sin().sum()
    w, x = real(4), real(3, 5, 4)
    made = func.vmap(func.vmap(func.grad(f), (None, 0)), (None, 0))(w, x)
    close(made, (w * x).cos() * x)
    made = func.vmap(lambda x: func.grad(lambda w: func.vmap(lambda r: f(w, r))(x).sum())(w))(x)
    close(made, ((w * x).cos() * x).sum(1))
    made = func.grad(lambda w: func.vmap(func.grad(f), (None, 0))(w, x[0]).sum())(w)
    close(made, (-(w * x[0]).sin() * x[0] * x[0]).sum(0))
    constant = func.vmap(lambda r: func.grad(lambda w: (w * w).sum())(w))(x[0])
    close(constant, np.broadcast_to(2.0 * w.numpy(), (5, 4)))


def test_ensembles():
    models = [MLP().double() for _ in range(3)]
    params, buffers = func.stack_module_state(models)
    assert params["first.weight"].shape == (3, 6, 4) and params["first.weight"].is_leaf and buffers == {}
    x = real(5, 4)
    call = lambda p, b, x: func.functional_call(models[0], (p, b), x)
    made = func.vmap(call, (0, 0, None))(params, buffers, x)
    for k, model in enumerate(models):
        close(made[k], model(x))
    made.sum().backward()
    for name, p in params.items():
        for k, model in enumerate(models):
            model.zero_grad()
            model(x).sum().backward()
            close(p.grad[k], dict(model.named_parameters())[name].grad)


# modules as functions


def test_functional_call():
    model = nt.nn.Linear(4, 3).double()
    before = model.weight
    made = func.functional_call(model, {"weight": W, "bias": nt.zeros(3).double()}, X)
    close(made, W @ X)
    assert model.weight is before and model._parameters["weight"] is before
    with pytest.raises(RuntimeError):
        func.functional_call(model, {"weight": real(2, 2)}, (X,))
    assert model.weight is before
    g = func.grad(lambda p: func.functional_call(model, p, (X,)).sum())({"weight": W})
    close(g["weight"], np.ones((3, 1)) * X.numpy())

    class Tied(nt.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = nt.nn.Parameter(nt.ones(2))
            self.register_buffer("c", nt.zeros(2))

        def forward(self, x, scale=1.0):
            return self.a * 10.0 + self.b + self.c + x * scale

    tied = Tied()
    two = nt.tensor([2.0, 2.0])
    assert func.functional_call(tied, {"a": two}, (0.0,)).tolist() == [22, 22]
    assert func.functional_call(tied, {"a": two}, (0.0,), tie_weights=False).tolist() == [21, 21]
    assert func.functional_call(tied, ({"a": two}, {"c": two}), (1.0,), {"scale": 3.0}).tolist() == [27, 27]
    for given, options, text in [
        ({"a": two, "b": two + 1.0}, {}, "functional_call got multiple values for keys ['a', 'b'], which are tied"),
        (
            {"a": two, "z": two},
            {"strict": True},
            "Error(s) in reparametrizing for Tied:\n\tUnexpected key(s): 'z'.\n\tMissing key(s): 'c'.",
        ),
        (({"a": two}, {"a": two}), {}, "['a'] appeared in multiple dictionaries"),
        (3, {}, "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts"),
        ([3], {}, "Expected all elements of parameter_and_buffer_dicts to be dictionaries"),
    ]:
        with pytest.raises((ValueError, RuntimeError)) as error:
            func.functional_call(tied, given, (0.0,), **options)
        assert text in str(error.value)
    for models, text in [
        ([], "Expected at least one model, got 0"),
        ([tied, Tied().eval()], "the same training/eval mode"),
        ([tied, model], "of the same class"),
        ([tied, Tied().requires_grad_(False)], "Expected a from each model to have the same .requires_grad"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            func.stack_module_state(models)


# errors

ERRORS = [
    (
        lambda: func.grad(lambda x: x)(X),
        "Expected f(*args) to return a scalar Tensor, got tensor with 1 dims. Maybe you wanted to use the vjp or jacrev APIs",
    ),
    (lambda: func.grad(lambda x: 3.0)(X), "Expected f(*args) to return a Tensor, got <class 'float'>"),
    (
        lambda: func.grad(lambda x: x.sum(), has_aux=True)(X),
        "output of function f should be a tuple: (output, aux) if has_aux is True",
    ),
    (lambda: func.grad(lambda x: x.sum())(nt.arange(3)), "only Tensors of floating point dtype can require gradients"),
    (lambda: func.grad(lambda x: x)(3.0), "Thing passed to transform API must be Tensor, got <class 'float'>"),
    (lambda: func.grad(lambda x: x, argnums=3)(X), "Got argnum=3, but only 1 positional inputs"),
    (lambda: func.grad(lambda x: x, argnums="a")(X), "argnums must be int or Tuple[int, ...], got: <class 'str'>"),
    (lambda: func.grad(lambda x: x, argnums=())(X), "argnums must be non-empty"),
    (lambda: func.grad(lambda x: x, argnums=(0, 0))(X), "argnums elements must be unique, got (0, 0)"),
    (
        lambda: func.grad(lambda x: x.mul_(2.0).sum())(X.clone()),
        "a leaf Variable that requires grad is being used in an in-place operation.",
    ),
    (
        lambda: func.vjp(lambda x: 3, X),
        "vjp(f, *primals): expected f(*primals) to return only tensors, got unsupported type <class 'int'>",
    ),
    (lambda: func.vjp(lambda x: None, X), "Expected f to be a function that has non-empty output"),
    (
        lambda: func.vjp(lambda x: x > 0.0, X),
        "All outputs of f must be floating-point or complex Tensors, got Tensor with dtype",
    ),
    (
        lambda: func.vjp(lambda x: (x, x), X)[1](X),
        "Expected pytree structure of cotangents to be the same as pytree structure of outputs",
    ),
    (lambda: func.vjp(lambda x: x, X)[1](W), "Mismatch in shape: grad_output[0] has a shape of"),
    (lambda: func.jvp(lambda x: x, X, X), "jvp(f, primals, tangents): Expected primals to be a tuple."),
    (lambda: func.jvp(lambda x: x, (X,), X), "Expected primals and tangents to have the same python structure"),
    (lambda: func.jvp(lambda x: x, (3.0,), (X,)), "Expected primals to only contain Tensors, got <class 'float'>"),
    (lambda: func.jvp(lambda: X, (), ()), "Expected primals to contain at least one Tensor."),
    (
        lambda: func.jvp(lambda x: x, (X,), (W,)),
        "Trying to set a forward gradient that has a different size than that of the original Tensor",
    ),
    (
        lambda: func.jvp(lambda x: X, (X,), (X,), strict=True),
        "The output of f is independent of the inputs. This is not allowed with strict=True.",
    ),
    (lambda: func.jacrev(lambda x: x > 0.0)(X), "All outputs of f must be floating-point"),
    (lambda: func.jacrev(lambda x: x, chunk_size=0), "jacrev: `chunk_size` should be greater than 0."),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number):
    call, text = ERRORS[number]
    with pytest.raises((RuntimeError, ValueError)) as error:
        call()
    assert text in str(error.value), str(error.value)
    assert nt.is_grad_enabled() and (X * 2.0).requires_grad is False


# the older interface


def test_functional():
    f = lambda x, y: ((x * y).sum(), x.sin())
    out, (a, b) = functional.vjp(f, (X, X * 2.0), (nt.tensor(1.0).double(), X))
    close(a, X * 2.0 + X.cos() * X)
    close(b, X)
    out, (s, t) = functional.jvp(f, (X, X * 2.0), (X, X))
    close(s, (X * X * 3.0).sum())
    close(t, X.cos() * X)
    made = functional.jacobian(f, (X, X * 2.0))
    close(made[0][1], X)
    close(made[1][0], np.diag(X.cos().numpy()))
    close(made[1][1], np.zeros((4, 4)))
    close(functional.jacobian(lambda x: W @ x, X, vectorize=True, strategy="forward-mode"), W)
    close(functional.hessian(quadratic, X), M + M.T)
    made = functional.hessian(lambda x, y: (x * x * y).sum(), (X, X + 1.0))
    close(made[1][0], np.diag(2.0 * X.numpy()))
    value, found = functional.vhp(quadratic, X, X)
    close(found, (M + M.T) @ X)
    value, found = functional.hvp(quadratic, X, X)
    close(found, (M + M.T) @ X)
    close(value, quadratic(X))
    assert not found.requires_grad and not value.requires_grad
    x = real(4).requires_grad_()
    for call in (
        lambda: functional.jacobian(lambda x: x**3, x, create_graph=True).sum(),
        lambda: functional.vjp(lambda x: x**3, x, nt.ones(4).double(), create_graph=True)[1].sum(),
        lambda: functional.jvp(lambda x: x**3, x, nt.ones(4).double(), create_graph=True)[1].sum(),
    ):
        x.grad = None
        call().backward()
        close(x.grad, 6.0 * x)
    for product in (functional.hvp, functional.vhp):
        x.grad = None
        product(lambda x: (x**4).sum(), x, nt.ones(4).double(), create_graph=True)[1].sum().backward()
        close(x.grad, 24.0 * x)
    close(functional.hvp(lambda x: x.sum(), X, X)[1], np.zeros(4))


FUNCTIONAL_ERRORS = [
    (
        lambda: functional.vjp(lambda x: x, 3),
        "The inputs given to vjp must be either a Tensor or a tuple of Tensors but the given inputs has type",
    ),
    (lambda: functional.vjp(lambda x: x, (X, 3)), "but the value at index 1 has type"),
    (
        lambda: functional.vjp(lambda x: x, X),
        "The vector v can only be None if the user-provided function returns a single Tensor",
    ),
    (lambda: functional.vjp(lambda x: x, X, W), "v has invalid size: should be"),
    (lambda: functional.vjp(lambda x: (x, x), X, (X,)), "v is a tuple of invalid length: should be 2 but got 1."),
    (
        lambda: functional.jvp(lambda x: x, X),
        "The vector v can only be None if the input to the user-provided function",
    ),
    (
        lambda: functional.vjp(lambda x: X * 1.0, X, X, strict=True),
        "Output 0 of the user-provided function does not require gradients",
    ),
    (
        lambda: functional.jacobian(lambda x, y: x, (X, X), strict=True),
        "is independent of input 1. This is not allowed in strict mode",
    ),
    (lambda: functional.jacobian(lambda x: x, X, strategy="no"), "Expected strategy to be either"),
    (
        lambda: functional.hessian(lambda x: x, X),
        "The Tensor returned by the function given to hessian should contain a single element",
    ),
    (lambda: functional.vhp(lambda x: (x, x), X, X), "The function given to vhp should return a single Tensor"),
    (
        lambda: functional.hvp(lambda x: x.sum(), X, X, strict=True),
        "While computing the hessian, found that the jacobian",
    ),
    (lambda: functional.jvp(lambda x: x * 2.0, X, X, strict=True), None),
]


@pytest.mark.parametrize("number", range(len(FUNCTIONAL_ERRORS)))
def test_functional_errors(number):
    call, text = FUNCTIONAL_ERRORS[number]
    if text is None:
        call()
        return
    with pytest.raises((RuntimeError, TypeError, AssertionError)) as error:
        call()
    assert text in str(error.value), str(error.value)


def test_loaded_when_first_used():
    code = "import sys, numbatensor as nt; print('numbatensor.func' in sys.modules, nt.func.vmap is nt.vmap, hasattr(nt, 'nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


# PyTorch


def programs(lib):
    """Expressions for both libraries: name, function of tensors."""
    f, F = lib.func, lib.nn.functional
    mlp = lambda p, x: F.softmax((x @ p["a"]).tanh() @ p["b"], -1).log()
    loss = lambda p, x: -(mlp(p, x)[..., 0] * x.mean(-1)).sum()
    net = lambda x, w, m: loss({"a": w.T, "b": m[:3]}, x)
    return {
        "grad": lambda x, w, m: f.grad(lambda a: (w @ a).tanh().sum())(x),
        "grad of grad": lambda x, w, m: f.grad(lambda a: f.grad(lambda b: (w @ b).exp().sum())(a).sum())(x),
        "per sample": lambda x, w, m: f.vmap(f.grad(lambda v, r: (v @ r).sin().sum()), (None, 0))(w, m),
        "jacrev": lambda x, w, m: f.jacrev(lambda a: (w @ a).exp())(x),
        "jacfwd": lambda x, w, m: f.jacfwd(lambda a: (w @ a).exp() * a[:3])(x),
        "jacrev of a batch": lambda x, w, m: f.vmap(f.jacrev(lambda a: (w @ a).sigmoid()))(m),
        "jacrev through vmap": lambda x, w, m: f.jacrev(f.vmap(lambda a: (w @ a).sigmoid()))(m),
        "hessian": lambda x, w, m: f.hessian(lambda a: (a @ m).sin().prod())(x),
        "hessian of vmap": lambda x, w, m: f.hessian(lambda a: f.vmap(lambda r: (a * r).exp().sum())(m).sum())(x),
        "vmap of hessian": lambda x, w, m: f.vmap(f.hessian(lambda a: (w @ a).tanh().sum()))(m),
        "jvp": lambda x, w, m: f.jvp(lambda a: (w @ a).softmax(0), (x,), (m[0],)),
        "jvp in vmap": lambda x, w, m: f.vmap(lambda t: f.jvp(lambda a: (w @ a).tanh(), (x,), (t,))[1])(m),
        "vjp in vmap": lambda x, w, m: f.vmap(f.vjp(lambda a: (w @ a).tanh(), x)[1])(w[:, :3])[0],
        "net": lambda x, w, m: f.grad(net, argnums=(0, 1, 2))(x, w, m),
        "net of samples": lambda x, w, m: f.vmap(f.grad(net, argnums=(1, 2)), (0, None, None))(m, w, m),
        "jacobian": lambda x, w, m: lib.autograd.functional.jacobian(lambda a, b: (b @ a, a.sum()), (x, w)),
        "hvp": lambda x, w, m: lib.autograd.functional.hvp(lambda a: (w @ a).tanh().sum(), x, m[0]),
        "vhp": lambda x, w, m: lib.autograd.functional.vhp(lambda a: (w @ a).tanh().sum(), x, m[0]),
        "vmap in dims": lambda x, w, m: f.vmap(lambda a, b: a.outer(b), (1, 0), 2)(w, m),
        "vmap of vmap": lambda x, w, m: f.vmap(lambda a: f.vmap(lambda b: (a * b).cumsum(0))(m))(w),
    }


@pytest.mark.peer
@pytest.mark.parametrize("name", programs(nt))
def test_against_pytorch(name):
    torch = pytest.importorskip("torch")
    arrays = [t.numpy() for t in (X, W, M)]
    ours = programs(nt)[name](*[nt.tensor(a) for a in arrays])
    theirs = programs(torch)[name](*[torch.tensor(a) for a in arrays])
    flat = lambda t, kind: [t] if isinstance(t, kind) else [x for part in t for x in flat(part, kind)]
    for a, b in zip(flat(ours, nt.Tensor), flat(theirs, torch.Tensor), strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


def test_documentation():
    """The page does what it shows."""
    page = pathlib.Path(__file__).parents[1] / "docs" / "func.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    tour = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "func", str(page), 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(tour)
    tour.globs.clear()
    assert results.attempted > 20 and results.failed == 0
