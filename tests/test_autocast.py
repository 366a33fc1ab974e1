"""Autocast: which dtype each op runs in, that casts are kept and never stale, and that gradients reach float32 parameters; GradScaler."""

import threading
import warnings

import numba
import numpy as np
import pytest

import numbatensor as nt
from numbatensor.nn import functional as F

BOTH = pytest.mark.parametrize("half", [nt.bfloat16, nt.float16], ids=str)


def dtypes_of(library, expressions, device="cpu", half="bfloat16"):
    """The dtype of each expression's result under autocast, as text."""
    names = {
        "L": library,
        "F": library.nn.functional,
        "x": library.ones(4, 4),
        "h": library.ones(4, 4).to(getattr(library, half)),
        "d": library.ones(4, 4).double(),
        "v": library.ones(4),
        "i": library.arange(4),
    }
    found = {}
    with library.autocast(device, getattr(library, half)):
        for e in expressions:
            found[e] = str(eval(e, names).dtype).split(".")[-1]
    return found


EXPRESSIONS = """x @ x|x @ v|v @ v|h @ x|d @ d|L.mm(x, x)|L.mv(x, v)|L.bmm(x[None], x[None])|L.addmm(x, x, x)|F.linear(x, x, v)
    |L.einsum('ij,jk->ik', x, x)|L.tensordot(x, x)|L.outer(v, v)|x + x|h + x|h + h|L.exp(h)|L.log(h)|h.pow(2)|h.sum()|h.sum(0)
    |h.softmax(0)|F.log_softmax(h, 0)|h.cumsum(0)|h.mean()|h.prod()|h.norm()|F.layer_norm(h, (4,))|F.layer_norm(h, (4,), v, v)
    |F.mse_loss(h, h)|F.mse_loss(h, x)|F.l1_loss(h, h)|F.cross_entropy(h, i)|F.nll_loss(h, i)
    |F.binary_cross_entropy_with_logits(h, h)|F.relu(h)|F.gelu(h)|F.softplus(h)|L.cat([h, x])|L.stack([h, h])|L.where(x > 0, h, x)
    |x.t()|h[0]|d + x|L.atan2(h, x)|L.addcmul(h, h, h)""".replace("\n    ", "").split("|")


@pytest.mark.peer
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_ops_run_in_the_dtypes_that_pytorch_runs_them_in(half):
    torch = pytest.importorskip("torch")
    ours, theirs = (dtypes_of(library, EXPRESSIONS, half=half) for library in (nt, torch))
    differ = {e for e in EXPRESSIONS if ours[e] != theirs[e]}
    assert differ == {"L.mv(x, v)", "L.tensordot(x, x)"}  # products too, which PyTorch leaves out on the CPU


def test_products_run_in_the_half_type_and_losses_in_float32():
    found = dtypes_of(
        nt, ["x @ x", "x @ v", "h @ x", "d @ d", "F.linear(x, x)", "F.mse_loss(h, h)", "h.prod()", "x + x", "h.exp()"]
    )
    assert [*found.values()] == [*["bfloat16"] * 3, "float64", "bfloat16", *["float32"] * 3, "bfloat16"]


@BOTH
def test_gradients_of_float32_parameters_are_float32(half):
    model, x = (
        nt.nn.Sequential(nt.nn.Linear(4, 8), nt.nn.LayerNorm(8), nt.nn.ReLU(), nt.nn.Linear(8, 2)),
        nt.randn(5, 4),
    )
    with nt.autocast("cpu", half):
        out = model(x)
        loss = F.mse_loss(out, nt.zeros(5, 2))
    assert out.dtype is half and loss.dtype is nt.float32
    loss.backward()
    found = [p.grad for p in model.parameters()]
    assert all(g.dtype is nt.float32 for g in found)
    for p in model.parameters():
        p.grad = None
    F.mse_loss(model(x), nt.zeros(5, 2)).backward()
    for p, g in zip(model.parameters(), found, strict=True):  # as exact as the half type is
        assert (p.grad - g).norm() <= 16 * nt.finfo(half).eps * (1e-3 + p.grad.norm())


def casts(out):
    """The nodes of the casts of a linear layer's weight and bias."""
    return [node for node, _ in out.grad_fn.next_functions[1:]]


def test_a_weight_is_cast_once():
    layer, x = nt.nn.Linear(3, 2), nt.ones(1, 3)
    with nt.autocast("cpu"):
        assert casts(layer(x)) == casts(layer(x))
        with nt.autocast("cpu", nt.float16):
            assert layer(x).dtype is nt.float16
        assert layer(x).dtype is nt.bfloat16
    with nt.autocast("cpu", cache_enabled=False):
        assert casts(layer(x)) != casts(layer(x))
    with nt.autocast("cpu"):
        before = casts(layer(x))
        nt.clear_autocast_cache()
        assert casts(layer(x)) != before


def test_a_cast_is_not_used_after_the_weight_was_written():
    w, x = nt.ones(2, 2, requires_grad=True), nt.ones(1, 2)
    with nt.autocast("cpu"):
        assert (x @ w).tolist() == [[2.0, 2.0]]
        with nt.no_grad():
            w.add_(1.0)
        assert (x @ w).tolist() == [[4.0, 4.0]]
        w.data = nt.full((2, 2), 3.0)
        assert (x @ w).tolist() == [[6.0, 6.0]]


def test_a_cast_made_without_a_graph_is_not_used_with_one():
    w, x = nt.ones(2, 2, requires_grad=True), nt.ones(1, 2)
    with nt.autocast("cpu"):
        with nt.no_grad():
            x @ w
        (x @ w).sum().backward()
    assert w.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_kept_cast_serves_several_passes():
    w, x = nt.ones(2, 2, requires_grad=True), nt.ones(1, 2)
    with nt.autocast("cpu"):
        for _ in range(3):
            (x @ w).sum().backward()
    assert w.grad.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_what_ops_made_is_not_kept():
    w, x = nt.ones(2, 2, requires_grad=True), nt.ones(1, 2)
    with nt.autocast("cpu"):
        h = w * 1.0
        first, second = ((x @ h).grad_fn.next_functions[1][0] for _ in range(2))
    assert first is not second


def test_many_casts_are_kept_and_let_go_of():  # the fixture that looks for leaks sees those that are not
    for _ in range(3):
        weights = [nt.ones(8, 8, requires_grad=True) for _ in range(40)]  # more than there is room for at first
        with nt.autocast("cpu"):
            y = nt.ones(1, 8)
            for w in [*weights, *weights]:
                y = (y @ w) * 0.125
        assert y.tolist() == [[1.0] * 8]


def test_scopes_nest_and_decorate():
    x = nt.ones(2, 2)
    assert not nt.is_autocast_enabled("cpu")
    with nt.autocast("cpu"):
        assert nt.is_autocast_enabled("cpu") and not nt.is_autocast_enabled("cuda")
        with nt.autocast("cpu", enabled=False):
            assert (x @ x).dtype is nt.float32
        with nt.autocast("cuda"):
            assert (x @ x).dtype is nt.bfloat16
        with pytest.raises(ZeroDivisionError), nt.autocast("cpu", nt.float16):
            1 / 0  # noqa: B018
        assert (x @ x).dtype is nt.bfloat16

    @nt.autocast("cpu", dtype=nt.float16)
    def product(x):
        return x @ x

    assert product(x).dtype is nt.float16 and (x @ x).dtype is nt.float32


def test_autocast_is_of_one_thread():
    found = []
    with nt.autocast("cpu"):
        thread = threading.Thread(target=lambda: found.append((nt.ones(2, 2) @ nt.ones(2, 2)).dtype))
        thread.start()
        thread.join()
    assert found == [nt.float32]


def test_settings():
    assert nt.get_autocast_dtype("cpu") is nt.bfloat16 and nt.get_autocast_dtype("cuda") is nt.float16
    nt.set_autocast_dtype("cpu", nt.float16)
    try:
        nt.set_autocast_enabled("cpu", True)
        assert (nt.ones(2, 2) @ nt.ones(2, 2)).dtype is nt.float16
    finally:
        nt.set_autocast_enabled("cpu", False)
        nt.set_autocast_dtype("cpu", nt.bfloat16)
    assert nt.is_autocast_available("cuda") and not nt.is_autocast_available("tpu")
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        nt.autocast("tpu")
    with pytest.raises(ValueError, match="`device_type` of type `str`"):
        nt.autocast(0)
    with pytest.raises(RuntimeError, match="cannot run in float32"):
        nt.set_autocast_dtype("cpu", nt.float32)
    with pytest.warns(UserWarning, match="float64 is not supported"):
        scope = nt.autocast("cpu", nt.float64)
    with scope:
        assert (nt.ones(2, 2) @ nt.ones(2, 2)).dtype is nt.float32


def test_what_is_written_keeps_its_dtype():
    x, out = nt.ones(2, 2), nt.zeros(2, 2)
    with nt.autocast("cpu"):
        nt.ops.structured.addmm.fast(x, x, x, 1, 1)
        x.add_(x)
        nt.add(x, x, out=out)
    assert x.dtype is nt.float32 and out.dtype is nt.float32


def test_backward_runs_in_the_dtypes_of_the_forward_pass():
    x = nt.randn(3, 3, requires_grad=True)
    seen = []
    y = x * 2.0
    y.register_hook(lambda g: seen.append((g @ g).dtype))
    with nt.autocast("cpu"):
        (y.var() * 1.0).backward()
    assert seen == [nt.float32] and x.grad.dtype is nt.float32


def test_compiled_code_keeps_its_dtypes():
    @numba.njit
    def product(x):
        return x @ x

    with nt.autocast("cpu"):
        assert product(nt.ones(2, 2)).dtype is nt.float32


class Product(nt.autograd.Function):
    @staticmethod
    @nt.amp.custom_fwd(device_type="cpu")
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x @ y

    @staticmethod
    @nt.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        Product.seen = (grad @ y.mT).dtype
        return grad @ y.mT, x.mT @ grad


class InFloat32(Product):
    @staticmethod
    @nt.amp.custom_fwd(device_type="cpu", cast_inputs=nt.float32)
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x @ y


def test_custom_functions_run_backward_as_forward():
    x, y = nt.ones(2, 2, requires_grad=True), nt.ones(2, 2)
    with nt.autocast("cpu"):
        out = Product.apply(x, y)
        wide = InFloat32.apply(x.bfloat16(), y)
    assert out.dtype is nt.bfloat16 and wide.dtype is nt.float32
    out.sum().backward()
    assert Product.seen is nt.bfloat16 and x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    wide.sum().backward()
    assert Product.seen is nt.float32


def test_scaler_scales_and_unscales():
    w = nt.ones(3, requires_grad=True)
    optimizer, scaler = nt.optim.SGD([w], lr=1.0), nt.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    scaled = scaler.scale([w.sum(), (w * 2.0).sum()])
    assert [s.item() for s in scaled] == [12.0, 24.0]
    scaled[0].backward()
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [1.0] * 3
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step\\(\\) has already been called"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="being called after step"):
        scaler.unscale_(optimizer)
    scaler.update()
    assert w.tolist() == [0.0] * 3 and scaler.get_scale() == 4.0
    optimizer.zero_grad()
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 8.0  # after two good steps


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_scaler_leaves_out_steps_that_are_not_finite(bad):
    w = nt.ones(3, requires_grad=True)
    optimizer, scaler = nt.optim.SGD([w], lr=1.0), nt.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((w * nt.tensor([1.0, bad, 1.0])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [1.0] * 3 and scaler.get_scale() == 2.0


def test_scaler_refuses_what_it_cannot_do():
    w = nt.ones(3, requires_grad=True)
    optimizer, scaler = nt.optim.SGD([w], lr=1.0), nt.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="No inf checks were recorded"):
        scaler.step(optimizer)
    with pytest.raises(AssertionError, match="prior to update"):
        scaler.update()
    half = nt.ones(3, dtype=nt.float16, requires_grad=True)
    half.grad = nt.ones(3, dtype=nt.float16)
    with pytest.raises(ValueError, match="FP16 gradients"):
        scaler.unscale_(nt.optim.SGD([half], lr=1.0))
    with pytest.raises(ValueError, match="Tensor or an iterable"):
        scaler.scale(1.0)


def test_scaler_that_is_off_takes_every_step():
    w = nt.ones(3, requires_grad=True)
    optimizer, scaler = nt.optim.SGD([w], lr=1.0), nt.amp.GradScaler("cpu", enabled=False)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [0.0] * 3 and scaler.get_scale() == 1.0 and scaler.state_dict() == {}


def test_scaler_is_saved_and_loaded():
    scaler = nt.amp.GradScaler("cpu", init_scale=128.0, growth_interval=7)
    other = nt.amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict() and other.get_growth_interval() == 7
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        other.load_state_dict({})


def test_without_cuda_a_scaler_for_it_is_off():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        scaler = nt.amp.GradScaler()
    assert scaler.is_enabled() == nt.cuda.is_available() and (
        scaler.is_enabled() or "CUDA is not available" in str(seen[0].message)
    )


@BOTH
def test_training_in_16_bits_learns(half):
    rng = np.random.default_rng(0)
    x = nt.from_numpy(rng.standard_normal((64, 8)).astype(np.float32))
    y = nt.from_numpy((x.numpy() @ rng.standard_normal((8, 1))).astype(np.float32))
    nt.manual_seed(0)
    model = nt.nn.Sequential(nt.nn.Linear(8, 16), nt.nn.ReLU(), nt.nn.Linear(16, 1))
    optimizer, scaler = nt.optim.Adam(model.parameters(), lr=0.02), nt.amp.GradScaler("cpu")
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        with nt.autocast("cpu", half):
            loss = F.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]
