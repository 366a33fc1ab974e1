"""Pointwise functions of users on devices: the same rules as on the CPU, in the emulator and in machine code."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

import numbatensor as nt
from numbatensor.core.device_detours import detours
from tests.device import of_the_emulator, open_device
from tests.test_pointwise import CASES, blend, extremes, numpys, pieces, powers, product, remainders, swish, wave

WEIGHTS, LARGE = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), np.arange(20000.0)


@pytest.fixture
def device():
    open_device()


@nt.pointwise
def looked_up(x, n: int, flag: bool):
    i = n % 2
    y = WEIGHTS[1, i] * x + swish(x, 2.0) + WEIGHTS[i, 0]
    return max(y, 0) if flag else np.maximum(y, 1.5)


@nt.pointwise
def ties(x, y):
    return max(x, y) * 2 + min(x, y) + np.maximum(x, y) * np.fmin(x, y) + (x > y) * x


@nt.pointwise
def steps(x, n: int):
    total, k = 0, 0
    while k < n:
        k += 1
        if k % 3 == 2:
            continue
        total += x**k / k
        if total > 10:
            break
    return total


@njit
def halves_of(x):
    return x / 2, x - x / 2


@nt.pointwise
def inner_functions(x):
    def twice(y):
        return y * x * 2

    low, high = halves_of(x)
    return twice(low) + math.sqrt(high * high + math.pi)


@nt.pointwise
def constant(x):
    return 3


def closed_over(factor, table):
    return nt.pointwise(lambda x: factor * table[int(abs(x))] * x * x)


PAIR = nt.tensor([1.0, 2.0, -0.5, 2.0]), nt.tensor([1.0, -2.0, 0.75, 2.0])
MORE = [
    (looked_up, PAIR[0], nt.tensor([0, 1, 2, 3]), True),
    (looked_up, PAIR[0], 3, False),
    (ties, *PAIR),
    (steps, PAIR[0], nt.tensor([0, 1, 5, 30])),
    (inner_functions, PAIR[0]),
    (constant, PAIR[0]),
    (closed_over(2.0, (1.0, -3.0, 5.0)), PAIR[0]),
    (closed_over(0.5, np.array([1.0, -3.0, 5.0])), PAIR[0]),
    (blend, PAIR[0], PAIR[1].reshape(4, 1), 2, 0.25),
    (product, *PAIR),
]


def derivatives(case, place, dtype):
    """The value, the gradients, and what their squares' gradients are."""
    f, *args = case
    args = [
        a.detach().to(place, dtype).requires_grad_()
        if isinstance(a, nt.Tensor) and a.is_floating_point()
        else a.to(place)
        if isinstance(a, nt.Tensor)
        else a
        for a in args
    ]
    y = f(*args)
    leaves = [a for a in args if isinstance(a, nt.Tensor) and a.requires_grad]
    slopes = nt.autograd.grad((y * y).sum(), leaves, create_graph=True)
    total = sum((s * s).sum() for s in slopes)
    return [y, *slopes, *(nt.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else ())]


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda case: case[0].__name__.strip("<>"))
def test_values_and_derivatives_are_the_cpu_s(device, case):
    before = detours.sum()
    for dtype, tight in ((nt.float32, 2e-5), (nt.float64, 1e-9)):
        for expected, found in zip(derivatives(case, "cpu", dtype), derivatives(case, "cuda", dtype), strict=True):
            assert (found is None) == (expected is None)
            if found is not None:
                assert found.device == "cuda:0" and found.dtype is dtype
                np.testing.assert_allclose(found.tolist(), expected.tolist(), rtol=tight, atol=tight)
    assert detours.sum() == before


@pytest.mark.parametrize("dtype", [nt.float16, nt.bfloat16])
def test_sixteen_bits(device, dtype):
    x = nt.tensor([[0.5, -2.0], [3.0, 0.0]], dtype=dtype)
    for case in ((swish, x, 1.5), (ties, x, x.T)):
        for expected, found in zip(derivatives(case, "cpu", dtype), derivatives(case, "cuda", dtype), strict=True):
            np.testing.assert_allclose(found.float().tolist(), expected.detach().float().tolist(), rtol=0.02, atol=0.02)


def test_dtypes_are_promoted_and_shapes_broadcast(device):
    x, n = nt.arange(6, device="cuda").reshape(2, 3), nt.tensor([[1.0], [2.0]], dtype=nt.float64, device="cuda")
    y = ties(x, n)
    assert y.dtype is nt.float64 and y.shape == (2, 3)
    assert y.tolist() == ties(x.cpu(), n.cpu()).tolist()
    assert swish(x).dtype is nt.float32 and swish(nt.zeros(0, 3, device="cuda")).shape == (0, 3)
    strided = nt.rand(4, 6, 3).permute(2, 0, 1)[:, ::2]
    np.testing.assert_allclose(
        swish(strided.to("cuda")[:, :, 1:]).tolist(), swish(strided[:, :, 1:]).tolist(), rtol=1e-5
    )


def test_in_place_and_out(device):
    before = detours.sum()
    x = nt.ones(2, 2, device="cuda")
    assert swish.in_place(x.T, 2.0).data_ptr() == x.data_ptr()
    out = nt.empty(2, 2, device="cuda")
    assert swish(nt.ones(2, 2, device="cuda"), 2.0, out=out) is out
    np.testing.assert_allclose(x.tolist(), swish(nt.ones(2, 2), 2.0).tolist(), rtol=1e-6)
    assert out.tolist() == x.tolist() and detours.sum() == before
    mean = nt.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    y = product(mean, mean)
    swish.in_place(mean.data)
    with pytest.raises(RuntimeError, match="in-place"):
        y.sum().backward()


def test_transforms_and_compiled_code(device):
    x = nt.tensor([0.5, -1.0, 2.0])
    second = nt.func.vmap(nt.func.grad(nt.func.grad(swish)))
    np.testing.assert_allclose(second(x.to("cuda")).tolist(), second(x).tolist(), rtol=1e-5)
    layer = njit(lambda x, w: swish(x @ w, 1.5).sum() * swish(1.0, 2.0))
    x, w = nt.ones(3), nt.ones(3, 2)
    np.testing.assert_allclose(layer(x.to("cuda"), w.to("cuda")).item(), layer(x, w).item(), rtol=1e-6)


def test_a_graph_holds_a_step(device):
    def step():
        loss = (wave(x, w, 0.5) ** 2).sum()
        loss.backward()
        with nt.no_grad():
            swish.in_place(w.data, 0.1)
        return loss

    x = nt.tensor([0.5, -1.0, 2.0], device="cuda")
    w = nt.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    step()
    first = w.detach().clone()
    w.grad.zero_()
    graph = nt.cuda.graph(step)
    loss = graph()
    here = first.cpu().requires_grad_()
    expected = (wave(x.cpu(), here, 0.5) ** 2).sum()
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-5)
    np.testing.assert_allclose(w.grad.tolist(), here.grad.tolist(), rtol=1e-4)
    np.testing.assert_allclose(w.tolist(), swish(here.detach(), 0.1).tolist(), rtol=1e-5)


def test_failures_inside_give_nan(device):
    f = nt.pointwise(lambda x: x + len(range(0, 3, int(x))))
    assert f(nt.zeros(2, device="cuda")).isnan().all() and f(nt.ones(2, device="cuda")).tolist() == [4.0, 4.0]
    x = nt.tensor([0.0, math.nan, math.inf, -math.inf, 1e30], device="cuda")
    for function in (swish, pieces, lambda x: ties(x, 1.0), lambda x: extremes(x, x * 2)):
        np.testing.assert_allclose(function(x).tolist(), function(x.cpu()).tolist(), rtol=1e-5)


def test_large_arrays_take_a_detour(device):
    f = nt.pointwise(lambda x: x * x * LARGE[int(x)])
    before, x = detours.sum(), nt.tensor([3.0, 4.0], device="cuda", requires_grad=True)
    y = f(x)
    y.sum().backward()
    assert y.device == x.grad.device == "cuda:0" and (y.tolist(), x.grad.tolist()) == ([27.0, 64.0], [18.0, 32.0])
    assert detours.sum() == before + 2


@of_the_emulator
def test_what_is_not_known_is_refused(device):
    x = nt.ones(2, device="cuda")
    with pytest.raises(RuntimeError, match="`lgamma` is not known of the numbers of a pointwise function"):
        nt.pointwise(lambda x: math.lgamma(x))(x)
    with pytest.raises(RuntimeError, match="`sinc` is not known"):
        nt.pointwise(lambda x: np.sinc(x))(x)
    with pytest.raises(RuntimeError, match="`lgamma` is not known"):
        nt.pointwise(lambda x: math.lgamma(x)).in_place(x)
    assert x.tolist() == [1.0, 1.0]


FUNCTIONS = [swish, pieces, powers, extremes, numpys, remainders, looked_up, ties, steps, inner_functions, product]
REDUCING = {pieces, numpys}  # libdevice reduces large arguments of a sine in float64


def compiled(f, what, directions=(), form=0, dtype=6):
    """A kernel's PTX and machine code."""
    pytest.importorskip("numba_cuda", reason="what compiles CUDA kernels is not installed")
    from numbatensor.cuda import compiler

    def load(kernel, kinds, name):
        return compiler.ptx(kernel, kinds, "sm_90")[0], compiler.cubin(kernel, kinds, "sm_90")[0]

    return f.op.family.op(*directions).load_there(load, what, form, dtype)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_machine_code_of_float32_computes_in_float32(f):
    for what, directions, form in ((0, (), 2), (1, (), 0), (1, (0,), 0)):
        text, code = compiled(f, what, directions, form)
        wide = set(re.findall(r"\b(?!mov)\w[\w.]*\.f64\b", text))
        assert code.startswith(b"\x7fELF") and wide <= (
            {"cvt.rn.f32.f64", "cvt.rn.f64", "mul.f64"} if f in REDUCING else set()
        )
        assert "ld.global.v4.f32" in text or form
        assert not re.search(r"\bcall\b", text) or f in REDUCING, "a function is called, not inlined"


@pytest.mark.parametrize("dtype, load", [(7, "v2.f64"), (8, "v4.u32"), (9, "v4.u32")])
def test_machine_code_of_other_dtypes(dtype, load):
    text, _ = compiled(swish, 1, (0,), 0, dtype)
    assert f"ld.global.{load}" in text and (".f64" in text) == (dtype == 7)


def test_what_does_not_compile_says_where():
    unknown, text = nt.pointwise(lambda x: math.lgamma(x)), nt.pointwise(lambda x: "a")
    with pytest.raises(
        TypeError, match=r"(?s)lambda: `lgamma` is not known .* CUDA device.*test_cuda_pointwise.py.*line"
    ):
        compiled(unknown, 0)
    with pytest.raises(TypeError, match=r"(?s)lambda: it gives .* which is no number"):
        compiled(text, 0)


def test_what_has_no_fingerprint_is_not_kept():
    from numbatensor.core.compiler import NotKept, describe

    class Opaque:
        value = 2.0

    opaque = Opaque()
    f = nt.pointwise(lambda x: x * (2.0 if opaque is None else 3.0))
    with pytest.warns(UserWarning, match="compiled anew in every process, since it uses `opaque`"):
        kernel, _ = f.op.kernel_there(0, 0, 6)
    with pytest.raises(NotKept):
        describe(kernel, {})


SECOND = """
import numbatensor as nt
from numbatensor.cuda import compiler
from tests.test_cuda_pointwise import compiled, looked_up, product

for f in (looked_up, product):
    for directions in ((), (0,)):
        compiled(f, 1, directions)
print(compiler.counts)
"""


def test_a_second_process_compiles_nothing(tmp_path):
    pytest.importorskip("numba_cuda", reason="what compiles CUDA kernels is not installed")
    import os

    environment = os.environ | {"NUMBATENSOR_CACHE_DIR": str(tmp_path)}
    run = lambda: subprocess.run([sys.executable, "-c", SECOND], env=environment, capture_output=True, text=True).stdout
    assert run().endswith("{'compiled': 4, 'loaded': 0}\n")
    assert run().endswith("{'compiled': 0, 'loaded': 4}\n")
