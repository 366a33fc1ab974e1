"""Custom functions: what forward may save, write and return, what backward may give, and their errors."""

import gc

import pytest

import numbatensor as nt
from numbatensor.autograd import Function, grad, gradcheck, gradgradcheck, once_differentiable


def leaf(*values, dtype=None):
    return nt.tensor(list(values), dtype=dtype, requires_grad=True)


def function(L, forward, backward, setup_context=None, name="Custom"):
    """A custom function of a library."""
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    if setup_context:
        methods["setup_context"] = staticmethod(setup_context)
    return type(name, (L.autograd.Function,), methods)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3.0 * x * x


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


class SumAndProduct(Function):
    """Two outputs, a setup_context, and a number."""

    @staticmethod
    def forward(x, y, scale):
        return (x + y) * scale, x * y * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, y, ctx.scale = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx, first, second):
        x, y = ctx.saved_tensors
        return ctx.scale * (first + second * y), ctx.scale * (first + second * x), None


class Scaled(Function):
    """Writes its argument."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        x.mul_(3.0)
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * 3.0


# derivatives


@pytest.mark.parametrize("f", [Cube, Exp])
def test_derivatives_of_any_order(f):
    x = leaf(0.5, -1.5, dtype=nt.float64)
    assert gradcheck(f.apply, (x,)) and gradgradcheck(f.apply, (x,))
    third = f.apply(x).sum()
    for _ in range(3):
        (third,) = grad(third.sum(), x, create_graph=True)
    expected = [6.0, 6.0] if f is Cube else x.exp().tolist()
    assert third.tolist() == pytest.approx(expected)


def test_several_outputs_and_a_number():
    x, y = leaf(0.5, 2.0, dtype=nt.float64), leaf(1.5, -1.0, dtype=nt.float64)
    assert gradcheck(lambda x, y: SumAndProduct.apply(x, y, 2.0), (x, y))
    assert gradgradcheck(lambda x, y: SumAndProduct.apply(x, y, 2.0), (x, y))


def test_inside_of_a_graph():
    x = leaf(0.5, dtype=nt.float64)
    assert gradcheck(lambda x: Exp.apply(Cube.apply(x * 2.0)).tanh(), (x,))


def test_backward_may_call_backward():
    """A pass inside of a pass, over a graph of its own and over leaves of the outer one."""

    def forward(ctx, x):
        with nt.enable_grad():
            ctx.inner = x.detach().requires_grad_()
            ctx.y = (ctx.inner * ctx.inner).sum()
        return ctx.y.detach()

    def backward(ctx, g):
        with nt.enable_grad():
            ctx.y.backward()
            (w * 2.0).sum().backward()
        return ctx.inner.grad * g

    w, x = leaf(1.0), leaf(1.0, 3.0)
    (function(nt, forward, backward).apply(x * 1.0) * w).sum().backward()
    assert x.grad.tolist() == [2.0, 6.0] and w.grad.tolist() == [12.0]


def test_backward_may_run_its_own_graph():
    """The inner pass frees what the outer one is using."""
    x, depth = leaf(1.0, 2.0), []

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2.0

    def backward(ctx, g):
        if not depth:
            depth.append(1)
            y.backward(nt.ones(2))
            with pytest.raises(RuntimeError, match="second time"):
                ctx.saved_tensors  # noqa: B018
        return g * 2.0

    y = function(nt, forward, backward).apply(x)
    y.backward(nt.ones(2))
    assert x.grad.tolist() == [4.0, 4.0]


# the context


def test_needs_input_grad():
    seen = []

    def forward(ctx, x, y, k):
        seen.append(ctx.needs_input_grad)
        return x * y

    def backward(ctx, g):
        seen.append(ctx.needs_input_grad)
        return g, None, None

    f = function(nt, forward, backward)
    f.apply(leaf(1.0), nt.ones(1), 3).backward()
    assert seen == [(True, False, False)] * 2


def test_saved_none_and_attributes():
    def forward(ctx, x):
        ctx.save_for_backward(None, x)
        ctx.note = "kept"
        return x * 2.0

    def backward(ctx, g):
        nothing, x = ctx.saved_tensors
        assert nothing is None and ctx.note == "kept"
        return g * x

    x = leaf(3.0)
    function(nt, forward, backward).apply(x).backward()
    assert x.grad.tolist() == [3.0]


def test_saved_for_backward_takes_tensors_only():
    with pytest.raises(TypeError, match="save_for_backward can only save variables"):
        function(nt, lambda ctx, x: ctx.save_for_backward(3), None).apply(leaf(1.0))


def test_materialized_gradients():
    seen = []

    def made(materialize):
        def forward(ctx, x):
            ctx.set_materialize_grads(materialize)
            return x * 2.0, x * 3.0

        def backward(ctx, first, second):
            seen.append(None if second is None else second.tolist())
            return first * 2.0

        return function(nt, forward, backward)

    for materialize in (True, False):
        made(materialize).apply(leaf(1.0, 2.0))[0].sum().backward()
    assert seen == [[0.0, 0.0], None]


def test_non_differentiable_outputs():
    def forward(ctx, x):
        order = x * 1.0
        ctx.mark_non_differentiable(order)
        return x * 2.0, order, x > 1.0, "text", None

    x, count = leaf(1.0, 2.0), []
    f = function(nt, forward, lambda ctx, *grads: (count.append(len(grads)), grads[0] * 2.0)[1])
    y, order, mask, text, nothing = f.apply(x)
    assert [t.requires_grad for t in (y, order, mask)] == [True, False, False] and (text, nothing) == ("text", None)
    y.sum().backward()
    assert count == [5] and x.grad.tolist() == [2.0, 2.0]


def test_arguments_by_name_and_defaults():
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[1]

    f = function(nt, lambda x, scale=3.0: x * scale, lambda ctx, g: (g * ctx.scale, None), setup_context)
    for got, scale in [(f.apply, 3.0), (lambda x: f.apply(x, scale=5.0), 5.0)]:
        x = leaf(1.0)
        got(x).backward()
        assert x.grad.item() == scale
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        Cube.apply(x=leaf(1.0))


def test_once_differentiable():
    f = function(nt, lambda ctx, x: x * 2.0, once_differentiable(lambda ctx, g: g * 2.0))
    x, seed = leaf(1.0), leaf(1.0)
    (g,) = grad(f.apply(x), x, seed, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.backward()
    f.apply(x).backward()
    assert x.grad.item() == 2.0


# views, and writes


def test_an_input_returned_as_it_is():
    f = function(nt, lambda ctx, x: x, lambda ctx, g: g * 5.0)
    x = leaf(1.0)
    y = f.apply(x)
    assert y is not x and x.is_leaf and y.grad_fn.name() == "CustomBackward"
    y.backward()
    assert x.grad.item() == 5.0
    with nt.no_grad():
        z = f.apply(x)
    assert z is not x and not z.requires_grad


def test_a_view_of_an_input():
    f = function(nt, lambda ctx, x: x[:2], lambda ctx, g: nt.cat([g * 5.0, nt.zeros(1)]))
    x = leaf(1.0, 2.0, 3.0)
    y = f.apply(x * 1.0)
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 5.0, 0.0]
    with pytest.raises(RuntimeError, match="modified inplace"):
        f.apply(x * 1.0).mul_(2.0)


def test_a_written_input():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    assert Scaled.apply(y) is y and y.grad_fn.name() == "ScaledBackward" and y._version >= 1
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    with pytest.raises(RuntimeError, match="in-place operation"):
        Scaled.apply(leaf(1.0))


def test_a_written_view():
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1.0
    part = y[1:]
    assert Scaled.apply(part) is part and y.grad_fn.name() == "CopySlices"
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 3.0, 3.0] and y.tolist() == [1.0, 6.0, 9.0]


def test_a_write_that_is_not_said():
    def forward(ctx, x):
        x.add_(1.0)
        return x * 2.0

    with pytest.raises(RuntimeError, match=r"Custom.forward wrote argument 0 in place.*mark_dirty"):
        function(nt, forward, lambda ctx, g: g).apply(leaf(1.0) * 1.0)


def test_a_written_input_must_be_returned():
    def forward(ctx, x):
        ctx.mark_dirty(x)
        x.add_(1.0)
        return x * 2.0

    with pytest.raises(RuntimeError, match="must all be outputs"):
        function(nt, forward, lambda ctx, g: g).apply(leaf(1.0) * 1.0)


@pytest.mark.parametrize("which", ["input", "output"])
def test_a_saved_tensor_that_is_overwritten(which):
    """The error names the function and both lines."""
    x = leaf(1.0, 2.0)
    a = x * 1.0
    y = (Cube if which == "input" else Exp).apply(a)
    (a if which == "input" else y).mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as error:
        y.sum().backward()
    text = str(error.value)
    assert text.count("test_function.py:") == 2 and "mul_" in text and ("Cube" if which == "input" else "Exp") in text
    assert x.grad is None


def test_one_tensor_twice_among_the_outputs():
    x = leaf(1.0, 2.0)

    def forward(ctx, x):
        y = x * 2.0
        return y, y

    y, z = function(nt, forward, lambda ctx, g, h: g * 2.0 + h * 3.0).apply(x)
    (y + z).sum().backward()
    assert y is z and x.grad.tolist() == [6.0, 6.0]


# modes


def test_nothing_is_recorded_under_no_grad():
    x = leaf(1.0)
    with nt.no_grad():
        assert not Cube.apply(x).requires_grad
    assert not Cube.apply(x.detach()).requires_grad


def test_forward_may_record():
    """What it records itself is dropped."""

    def forward(ctx, x):
        with nt.enable_grad():
            return x * 2.0

    x = leaf(1.0)
    function(nt, forward, lambda ctx, g: g * 7.0).apply(x).backward()
    assert x.grad.item() == 7.0


def test_tensors_of_inference_mode():
    with nt.inference_mode():
        y = nt.ones(1)
    x = leaf(2.0)
    function(nt, lambda ctx, x, y: x * 1.0 + y, lambda ctx, g: (g, None)).apply(x, y).backward()
    assert x.grad.item() == 1.0

    def forward(ctx, x, y):
        ctx.save_for_backward(y)
        return x * 1.0

    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        function(nt, forward, None).apply(x, y)


def test_hooks_of_a_custom_function():
    x, log = leaf(1.0, 2.0), []
    y = Cube.apply(x)
    y.register_hook(lambda g: log.append("tensor"))
    y.grad_fn.register_prehook(lambda grads: log.append("before") or (grads[0] * 2.0,))
    y.grad_fn.register_hook(lambda got, given: log.append("after") or (got[0] * 5.0,))
    y.sum().backward()
    assert log == ["tensor", "before", "after"] and x.grad.tolist() == [30.0, 120.0]


def test_saved_tensors_go_through_hooks():
    x, packed = leaf(2.0), []
    with nt.autograd.graph.saved_tensors_hooks(lambda t: (packed.append(1), t.tolist())[1], nt.tensor):
        y = Cube.apply(x)
    y.backward()
    assert packed == [1] and x.grad.item() == 12.0


# errors


@pytest.mark.parametrize(
    "given, error",
    [
        (lambda g: (g, g), "incorrect number of gradients"),
        (lambda g: (), "incorrect number of gradients"),
        (lambda g: nt.ones(3), "invalid gradient at index 0"),
        (lambda g: nt.ones(1), "invalid gradient at index 0"),
        (lambda g: nt.tensor(1.0), "invalid gradient at index 0"),
        (lambda g: 1.0, "expected Variable or None"),
        (lambda g: 1 // 0, "division"),
    ],
)
def test_what_backward_must_not_give(given, error):
    x, other = leaf(1.0, 2.0), leaf(3.0)
    f = function(nt, lambda ctx, x: x * 2.0, lambda ctx, g: given(g))
    with pytest.raises(Exception, match=error):
        (f.apply(x).sum() + other).sum().backward()
    assert x.grad is None and other.grad is None
    (x * 2.0).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_none_beyond_the_arguments_and_sums():
    x = leaf(1.0, 2.0)
    function(nt, lambda ctx, x: x * 2.0, lambda ctx, g: (nt.ones(4, 2), None, None)).apply(x).sum().backward()
    assert x.grad.tolist() == [4.0, 4.0]


def test_a_gradient_for_what_is_no_tensor():
    f = function(nt, lambda ctx, x, k: x * k, lambda ctx, g: (g, g))
    with pytest.raises(RuntimeError, match="at position 2"):
        f.apply(leaf(1.0), 2.0).backward()


def test_an_error_in_forward():
    x = leaf(1.0)
    with pytest.raises(ZeroDivisionError):
        function(nt, lambda ctx, x: (ctx.save_for_backward(x), 1 // 0), None).apply(x)
    assert nt.is_grad_enabled() and Cube.apply(x).requires_grad


def test_misuse():
    with pytest.raises(TypeError, match="must be a static method"):

        class Wrong(Function):
            def forward(ctx, x):
                return x

    with pytest.raises(RuntimeError, match="called by Cube.apply"):
        Cube()
    with pytest.raises(NotImplementedError, match="forward"):
        type("Nothing", (Function,), {}).apply(leaf(1.0))
    y = type("NoBackward", (Function,), {"forward": staticmethod(lambda ctx, x: x * 1.0)}).apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="backward"):
        y.backward()


def test_a_context_outlives_its_node():
    kept = []
    x = leaf(1.0)
    f = function(nt, lambda ctx, x: (kept.append(ctx), ctx.save_for_backward(x), x * 2.0)[2], lambda ctx, g: g)
    y = f.apply(x)
    assert kept[0].saved_tensors[0].tolist() == [1.0]
    del y
    gc.collect()
    with pytest.raises(RuntimeError, match="already been freed"):
        kept[0].saved_tensors  # noqa: B018


# the same programs in PyTorch


def dirty(L):
    def forward(ctx, x, k):
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x.mul_(k), x.clone()

    def backward(ctx, g, h):
        return g * ctx.saved_tensors[0] + h, None

    x = L.tensor([1.0, 2.0], requires_grad=True)
    y, z = function(L, forward, backward).apply(x * 1.0, 3.0)
    (y * z).sum().backward()
    return x.grad.tolist(), y.tolist()


def dirty_view(L):
    f = function(L, lambda ctx, x: (ctx.mark_dirty(x), x.mul_(2.0))[1], lambda ctx, g: g * 2.0)
    x = L.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1.0
    v = y[:2]
    same = f.apply(v) is v
    (y * y).sum().backward()
    return same, x.grad.tolist(), v.grad_fn.name(), y.tolist()


def second(L):
    x = L.tensor([1.0, 2.0], requires_grad=True)

    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(x, y)
        return y, x * x

    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        return g * y + h * 2.0 * x

    y, z = function(L, forward, backward).apply(x)
    (g,) = L.autograd.grad((y * z).sum(), x, create_graph=True)
    (h,) = L.autograd.grad((g * g).sum(), x, create_graph=True)
    (k,) = L.autograd.grad(h.sum(), x)
    return [round(v, 1) for t in (g, h, k) for v in t.tolist()]


def unused_output(L):
    log = []
    x = L.tensor([1.0, 2.0], requires_grad=True)
    f = function(L, lambda ctx, x: (x * 2.0, x * 3.0), lambda ctx, g, h: (log.append(h.tolist()), g * 2.0)[1])
    f.apply(x)[0].sum().backward()
    return log, x.grad.tolist()


def same_twice(L):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    y, z = function(L, lambda ctx, x: (x, x), lambda ctx, g, h: g * 2.0 + h * 3.0).apply(x)
    (y * 1.0 + z * 10.0).sum().backward()
    return y is z, y is x, x.grad.tolist()


def no_recording(L):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    f = function(L, lambda ctx, x: (x, x * 2.0), lambda ctx, *g: g[0])
    with L.no_grad():
        made = f.apply(x)
    return [(t is x, t.requires_grad, t.is_leaf) for t in made]


def wrong_shape(L):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    function(L, lambda ctx, x: x * 2.0, lambda ctx, g: L.ones(3)).apply(x).sum().backward()


def wrong_count(L):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    function(L, lambda ctx, x: x * 2.0, lambda ctx, g: (g, g)).apply(x).sum().backward()


def for_no_tensor(L):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    function(L, lambda ctx, x, k: x * 2.0, lambda ctx, g: (g, g)).apply(x, 1).sum().backward()


def outcome(program, L):
    try:
        return program(L)
    except Exception as error:
        return type(error).__name__, str(error)


@pytest.mark.peer
@pytest.mark.parametrize(
    "program",
    [dirty, dirty_view, second, unused_output, same_twice, no_recording, wrong_shape, wrong_count, for_no_tensor],
    ids=lambda program: program.__name__,
)
def test_as_in_pytorch(program):
    torch = pytest.importorskip("torch")
    ours = outcome(program, nt)
    assert ours == outcome(program, torch)
