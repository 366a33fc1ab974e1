"""Products of matrices by cuBLASLt, over a library of our own that checks what it is asked for, and multiplies plainly: `fake_cublaslt.c`."""

import ctypes
import gc
import importlib.util
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from numba import njit

import numbatensor as nt
import numbatensor.nn.functional as F
from numbatensor.core.device_libraries import BIAS, PLAIN, library
from numbatensor.core.devices import driver
from numbatensor.core.records import Prepared
from numbatensor.cuda import cublas, runtime

pytest.importorskip("greenlet")
if shutil.which("gcc") is None:
    pytest.skip("there is no gcc to build a stand-in for cuBLASLt with", allow_module_level=True)

SOURCE = pathlib.Path(__file__).parent / "fake_cublaslt.c"
HANDLES, PRODUCTS, LAYOUTS, PREFERENCES, HEURISTICS, MULTIPLIED, ATTRIBUTES, TF32 = range(8)
INVALID, MISMATCH, NOT_SUPPORTED = 7, 8, 15
LAST = "m n k x_turned y_turned x_step y_step old_step out_step batches x_batch y_batch epilogue compute in_place stream bytes y_align x_align memory"
ROOM = 1 << 34


def build(folder):
    """The library, in a folder."""
    made = f"{folder}/libcublasLt.so.13"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", made, SOURCE, "-lm"]
    subprocess.run(command, check=True)
    return made


class Fake:
    """The library, and what it says of itself."""

    def __init__(self, path):
        self.found = ctypes.CDLL(path)
        self.counts = (ctypes.c_long * 8).in_dll(self.found, "fake_counts")

    def number(self, name):
        return ctypes.c_long.in_dll(self.found, f"fake_{name}")

    def put(self, **values):
        for name, value in values.items():
            self.number(name).value = value

    def last(self):
        """What was multiplied last, in our terms: x and y are the library's B and A."""
        return dict(zip(LAST.split(), (ctypes.c_long * 20).in_dll(self.found, "fake_last"), strict=True))

    def fail(self, at, code):
        self.put(fail_at=at, fail_code=code)


def forget_library():
    """Ask for the library anew."""
    library[0]["handles"][:] = 0
    library[0]["plans"][:] = 0
    cublas.plans.clear()
    cublas.opened.clear()


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    nt.cuda.emulate()
    found, standin = Fake(build(tmp_path_factory.mktemp("cublas"))), runtime.backend
    found.put(base=standin.base, size=ROOM, shift=standin.shadow - standin.base)
    yield found
    del standin.product_library
    forget_library()


@pytest.fixture
def fake(opened):
    runtime.backend.product_library = lambda: opened.found
    forget_library()
    opened.put(refused=0, workspace=0, fail_code=0)
    yield opened
    nt.backends.cuda.matmul.library = "auto"
    nt.set_float32_matmul_precision("highest")


def whole(*shape):
    """An array of small integers: what is made of them is exact."""
    rng = np.random.default_rng(sum(shape))
    return rng.integers(-4, 5, shape).astype(np.float32)


def agree(function, *arrays, launched=None, dtype=nt.float32):
    """What a function makes on the device is what it makes on the CPU. `launched`: how many kernels and calls of the library that takes."""
    here = [nt.tensor(a).to(dtype) if isinstance(a, np.ndarray) else a for a in arrays]
    far = [t.to("cuda") if isinstance(t, nt.Tensor) else t for t in here]
    expected, before = function(*here), int(driver[0]["launched"])
    found = function(*far)
    assert launched is None or int(driver[0]["launched"]) - before == launched
    assert found.device == "cuda:0" and found.dtype is expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found.cpu().double().numpy(), expected.double().numpy())


def placed(form, rows, columns):
    """An array to make a matrix of, and how."""
    if form == "rows":
        return whole(rows, columns), lambda t: t
    if form == "columns":
        return whole(columns, rows), lambda t: t.t()
    if form == "window":
        return whole(rows + 3, columns + 5), lambda t: t[2 : 2 + rows, 1 : 1 + columns]
    if form == "turned window":
        return whole(columns + 3, rows + 5), lambda t: t[2 : 2 + columns, 3 : 3 + rows].t()
    return whole(rows * columns + 1), lambda t: t[1:].view(rows, columns)


FORMS = ["rows", "columns", "window", "turned window", "late"]
SIZES = {nt.float32: 4, nt.float64: 8, nt.float16: 2, nt.bfloat16: 2}
DTYPES = list(SIZES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x_form, y_form", list(itertools.product(FORMS, FORMS)))
def test_matrices_are_taken_as_they_lie(fake, x_form, y_form, dtype):
    """In one call of the library, without a copy."""
    for m, n, k in ((3, 5, 4), (1, 7, 2), (6, 1, 3), (2, 3, 1), (1, 1, 1)):
        (x, show_x), (y, show_y) = placed(x_form, m, k), placed(y_form, k, n)
        agree(lambda x, y: show_x(x) @ show_y(y), x, y, launched=1, dtype=dtype)  # noqa: B023
        last = fake.last()
        assert (last["m"], last["n"], last["k"], last["batches"]) == (m, n, k, 1)
        assert last["epilogue"] == PLAIN and last["compute"] == (70 if dtype is nt.float64 else 68)
        assert x_form != "rows" or last["x_align"] == 256
        assert x_form != "late" or last["x_align"] == SIZES[dtype]
        if min(m, n, k) > 1:
            assert last["x_turned"] == (x_form in ("columns", "turned window"))
            assert last["y_turned"] == (y_form in ("columns", "turned window"))
            assert last["x_step"] == {"columns": m, "window": k + 5, "turned window": m + 5}.get(x_form, k)


@pytest.mark.parametrize("dtype", [nt.float16, nt.bfloat16])
@pytest.mark.parametrize("m, n, k", [(3, 5, 4), (66, 9, 5), (2, 8, 8), (1, 1, 1), (2, 3, 0)])
def test_our_own_kernels_take_16_bits(fake, m, n, k, dtype):
    """In one launch, without copies in float32."""
    nt.backends.cuda.matmul.library = "numbatensor"
    agree(lambda x, y: x @ y, whole(m, k), whole(k, n), dtype=dtype, launched=1)
    agree(lambda x, y: x.t() @ y.t(), whole(k, m), whole(n, k), dtype=dtype, launched=1)
    agree(F.linear, whole(2, m, k), whole(n, k), whole(n), dtype=dtype, launched=1)
    agree(lambda s, x, y: nt.addmm(s, x[:, ::2], y, beta=0.5), whole(m, 1), whole(m, 2 * k), whole(k, n), dtype=dtype)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x[:, ::2] @ y[:4],
        lambda x, y: x[:1].expand(3, 8) @ y,
        lambda x, y: x.int() @ y.int(),
        lambda x, y: x[:, :0] @ y[:0],
        lambda x, y: x[:0] @ y,
        lambda x, y: x @ y[:, :0],
    ],
)
def test_what_the_library_is_not_given(fake, function):
    before = list(fake.counts)
    agree(function, whole(6, 8), whole(8, 5))
    assert list(fake.counts) == before


@pytest.mark.parametrize(
    "function, batches, x_batch, y_batch, count",
    [
        (lambda x, y: x @ y, 6, 20, 30, 1),
        (lambda x, y: x[:, :1] @ y[:, :1], 2, 60, 90, 1),
        (lambda x, y: x[0] @ y[0], 3, 20, 30, 1),
        (lambda x, y: x[0] @ y[0, :1], 1, 0, 0, 1),  # the rows of all batches are those of one matrix
        (lambda x, y: x[0, :1] @ y[0], 3, 0, 30, 1),
        (lambda x, y: x[0].mT.contiguous().mT @ y[0], 3, 20, 30, 2),
        (lambda x, y: nt.bmm(x[0, :, ::2], y[1]), 3, 20, 30, 1),
        (lambda x, y: nt.bmm(x.flatten(0, 1)[::2], y.flatten(0, 1)[1::2]), 3, 40, 60, 1),
    ],
)
def test_batches(fake, function, batches, x_batch, y_batch, count):
    before = fake.counts[MULTIPLIED]
    agree(function, whole(2, 3, 4, 5), whole(2, 3, 5, 6), launched=count)
    assert fake.counts[MULTIPLIED] == before + 1
    last = fake.last()
    assert (last["batches"], last["x_batch"], last["y_batch"]) == (batches, x_batch, y_batch)


def test_batches_that_one_step_does_not_lead_through(fake):
    before = fake.counts[MULTIPLIED]
    agree(lambda x, y: x.transpose(0, 1) @ y.transpose(0, 1), whole(2, 3, 4, 5), whole(2, 3, 5, 6))
    agree(lambda x, y: x[:1] @ y[:, :1], whole(2, 3, 4, 5), whole(2, 3, 5, 6))
    agree(lambda x, y: x.transpose(0, 1) @ y[0, 0], whole(2, 3, 4, 5), whole(2, 3, 5, 6))
    assert fake.counts[MULTIPLIED] == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear(fake, dtype):
    w, b = whole(6, 5), whole(6)
    for shape in ((4, 5), (5,), (2, 3, 5), (1, 5)):
        agree(F.linear, whole(*shape), w, b, launched=1, dtype=dtype)
        last = fake.last()
        assert last["epilogue"] == BIAS and last["in_place"] and last["y_turned"] and not last["x_turned"]
        agree(F.linear, whole(*shape), w, launched=1, dtype=dtype)
        assert fake.last()["epilogue"] == PLAIN
    agree(F.linear, whole(4, 5), w[:1], b[:1], launched=1, dtype=dtype)
    assert fake.last()["epilogue"] == BIAS


def test_vectors(fake):
    before = fake.counts[MULTIPLIED]
    for x, y in ((whole(5), whole(5)), (whole(6, 5), whole(5)), (whole(5), whole(5, 6))):
        agree(lambda x, y: x @ y, x, y, launched=1)
    agree(lambda x, y: nt.dot(x[::2], y[1::2]), whole(10), whole(10), launched=1)
    assert fake.counts[MULTIPLIED] == before + 4
    agree(nt.dot, whole(0), whole(0))
    agree(nt.dot, whole(5), whole(5), dtype=nt.int64)


def test_a_bias_that_cannot_be_one(fake):
    """It is copied into the result, to which the product is added."""
    x, w = whole(4, 5), whole(6, 5)
    for b, show in (
        (whole(1), lambda b: b),
        (whole(12), lambda b: b[::2]),
        (whole(7), lambda b: b[1:]),  # its address is not a multiple of 16
    ):
        agree(lambda x, w, b: F.linear(x, w, show(b)), x, w, b)  # noqa: B023
        assert fake.last()["epilogue"] == PLAIN and fake.last()["in_place"]
    fake.put(refused=BIAS)
    agree(F.linear, x[:3], w, whole(6))
    assert fake.last()["epilogue"] == PLAIN and fake.last()["in_place"]
    agree(lambda x, w, b: F.linear(x.transpose(0, 1), w, b), whole(2, 3, 5), w, whole(6))
    assert fake.last()["batches"] == 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta, alpha", [(1, 1), (0.5, 2), (1, -2), (0, 3), (2, 0)])
def test_addmm(fake, beta, alpha, dtype):
    x, y = whole(4, 5), whole(5, 6)
    for start, show, launched, in_place in (
        (whole(4, 6), lambda s: s, 1, False),
        (whole(6, 9), lambda s: s[1:5, 2:8], 1, False),
        (whole(6), lambda s: s, 1 if beta in (0, 1) else 2, True),
        (whole(1, 6), lambda s: s, 1 if beta in (0, 1) else 2, True),
        (whole(4, 1), lambda s: s, 2, True),
        (whole(6, 4), lambda s: s.t(), 2, True),
        (whole(1), lambda s: s[0], 2, True),
    ):
        add = lambda s, x, y: nt.addmm(show(s), x, y, beta=beta, alpha=alpha)  # noqa: B023
        agree(add, start, x, y, launched=1 if beta == 0 else launched, dtype=dtype)
        assert fake.last()["in_place"] == (in_place or beta == 0)


def test_into_what_is_there(fake):
    x, y = whole(4, 5), whole(5, 6)
    for rows in (4, 1):

        def add(s, x, y):
            return s[:rows].addmm_(x[:rows], y, beta=1, alpha=2)  # noqa: B023

        agree(add, whole(4, 6), x, y, launched=1)
        assert fake.last()["epilogue"] == (PLAIN if rows > 1 else BIAS)


def test_training(fake):
    """Forward and backward of a small network, by the library alone."""
    arrays = [whole(8, 5), whole(7, 5), whole(7), whole(3, 7), whole(3)]

    def slopes(x, w1, b1, w2, b2):
        wanted = [t.requires_grad_() for t in (w1, b1, w2, b2)]
        loss = F.linear(F.relu(F.linear(x, w1, b1)), w2, b2).square().sum()
        return nt.cat([g.flatten() for g in nt.autograd.grad(loss, wanted)])

    before = fake.counts[MULTIPLIED]
    agree(slopes, *arrays)
    assert fake.counts[MULTIPLIED] == before + 5


def test_compiled_code(fake):
    @njit
    def double(x, w, b):
        return F.linear(x @ w, w, b)

    before = fake.counts[MULTIPLIED]
    agree(double, whole(4, 5), whole(5, 5), whole(5))
    assert fake.counts[MULTIPLIED] == before + 2


def test_tf32(fake):
    settings = nt.backends.cuda.matmul
    assert settings.allow_tf32 is False and nt.get_float32_matmul_precision() == "highest"
    x = nt.full((2, 2), 1 + 2.0**-12, device="cuda")
    exact, before = (x @ x).tolist(), fake.counts[TF32]
    settings.allow_tf32 = True
    assert nt.get_float32_matmul_precision() == "high"
    assert (x @ x).tolist() == [[2, 2], [2, 2]] != exact and fake.counts[TF32] == before + 1
    assert (x.double() @ x.double())[0, 0].item() == pytest.approx(2 * (1 + 2.0**-12) ** 2, rel=1e-12)
    nt.set_float32_matmul_precision("highest")
    assert settings.allow_tf32 is False and (x @ x).tolist() == exact
    nt.set_float32_matmul_precision("medium")
    assert settings.allow_tf32 and fake.counts[TF32] == before + 1
    with pytest.raises(ValueError, match="expected one of highest, high, medium, not 'low'"):
        nt.set_float32_matmul_precision("low")
    with pytest.raises(AttributeError):
        settings.allow_tf23 = True


def test_the_choice(fake):
    settings, x = nt.backends.cuda.matmul, nt.ones(2, 2, device="cuda")
    assert settings.library == "auto" and settings.why_not() is None
    settings.library = "numbatensor"
    before = list(fake.counts)
    assert (x @ x).tolist() == [[2, 2], [2, 2]] and list(fake.counts) == before
    assert settings.why_not() == 'backends.cuda.matmul.library is "numbatensor"'
    with pytest.raises(ValueError, match="expected one of auto, numbatensor, not 'cutlass'"):
        settings.library = "cutlass"


def test_no_library(fake):
    del runtime.backend.product_library
    x = nt.ones(2, 2, device="cuda")
    assert (x @ x).tolist() == [[2, 2], [2, 2]]
    assert nt.backends.cuda.matmul.why_not() == "the block emulator has no cuBLASLt"


def test_a_library_that_does_not_start(fake):
    fake.fail(HANDLES, 1)
    x, before = nt.ones(2, 2, device="cuda"), fake.counts[HANDLES]
    assert (x @ x).tolist() == (x @ x).tolist() == [[2, 2], [2, 2]] and fake.counts[HANDLES] == before + 1
    assert nt.backends.cuda.matmul.why_not() == "cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED (1)"


def calls_of_python(function):
    """How often a function enters Python for the library."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call" and frame.f_code is cublas.ask_library.__code__

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_plan_is_made_once(fake):
    """What was asked before is done without Python; another alignment, shape, bias or precision is another problem."""
    x, w, b = (nt.tensor(a).cuda() for a in (whole(4, 8), whole(8, 8), whole(24)))
    same = b[8:16].clone()
    assert calls_of_python(lambda: F.linear(x, w, b[:8])) == 2  # a handle, and a plan
    asked = fake.counts[HEURISTICS]
    assert calls_of_python(lambda: [F.linear(x + k, w, same) for k in range(5)]) == 0
    assert fake.counts[HEURISTICS] == asked and len(cublas.plans) == 1
    for other in (
        lambda: F.linear(x, w),
        lambda: x @ w,
        lambda: x[1:] @ w,
        lambda: x[:3] @ w,
        lambda: F.linear(x, w, b[4:12]),
        lambda: F.linear(x.double(), w.double()),
    ):
        assert calls_of_python(other) == 1 and calls_of_python(other) == 0
    assert len(cublas.plans) == fake.counts[HEURISTICS] - asked + 1 == 7
    plan = next(iter(cublas.plans.values()))
    assert plan.dtype == Prepared and plan[0]["usable"] == 1


def test_plans_share_slots(fake):
    """Problems of one hash are told apart."""
    x = nt.tensor(whole(12, 12))
    far = x.cuda()
    for m, n, k in itertools.product(range(1, 8), repeat=3):
        np.testing.assert_array_equal((far[:m, :k] @ far[:k, :n]).cpu().numpy(), (x[:m, :k] @ x[:k, :n]).numpy())
    asked = fake.counts[HEURISTICS]
    for m, n, k in itertools.product(range(1, 8), repeat=3):
        far[:m, :k] @ far[:k, :n]
    assert fake.counts[HEURISTICS] == asked and len(cublas.plans) == 7**3
    assert np.count_nonzero(library[0]["plans"]) < 7**3, "no two problems met in one slot"


def test_more_plans_than_are_kept(fake, monkeypatch):
    x = nt.tensor(whole(4, 8)).cuda()
    x @ x.t()
    monkeypatch.setattr(cublas, "MOST", 1)
    live, asked = fake.number("live").value, fake.counts[HEURISTICS]
    for _ in range(3):
        assert (x[:, :4] @ x).shape == (4, 8)
    fake.put(refused=-1)
    x[:, :4] @ x
    assert fake.counts[HEURISTICS] == asked + 4 and len(cublas.plans) == 1
    assert fake.number("live").value == live and not cublas.fleeting


@pytest.mark.parametrize("at", [PRODUCTS, LAYOUTS, PREFERENCES, HEURISTICS, ATTRIBUTES])
def test_errors_of_preparing(fake, at):
    x, w, b = (nt.tensor(a).cuda() for a in (whole(4, 8), whole(8, 8), whole(8)))
    assert nt.backends.cuda.matmul.why_not() is None
    live = fake.number("live").value
    fake.fail(at, INVALID)
    with pytest.raises(
        RuntimeError, match=r"cuBLASLt failed to prepare linear: cublasLtM.*: CUBLAS_STATUS_INVALID_VALUE \(7\)"
    ):
        F.linear(x, w, b)
    assert fake.number("live").value == live and not cublas.plans
    agree(F.linear, whole(4, 8), whole(8, 8), whole(8))


def test_errors_of_multiplying(fake):
    agree(F.linear, whole(4, 8), whole(8, 8), whole(8))
    for code in (NOT_SUPPORTED, MISMATCH):  # our own kernels take over
        for function in (F.linear, lambda x, w, b: nt.addmm(b, x, w, beta=2)):
            before = fake.counts[MULTIPLIED]
            fake.fail(MULTIPLIED, code)
            agree(function, whole(4, 8), whole(8, 8), whole(8))
            assert fake.counts[MULTIPLIED] == before + 1
    x, w, b = (nt.tensor(a).cuda() for a in (whole(4, 8), whole(8, 8), whole(8)))
    fake.put(workspace=1 << 20)
    for function, name in (
        (lambda: x @ w, "matmul"),
        (lambda: F.linear(x, w, b), "linear"),
        (lambda: nt.addmm(b, x, w), "addmm"),
    ):
        for at in (MULTIPLIED, ATTRIBUTES)[: 1 if name == "matmul" else 2]:
            function()
            before = nt.cuda.memory_allocated()
            fake.fail(at, INVALID)
            with pytest.raises(
                RuntimeError, match=rf"compute {name}: cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE \(7\)"
            ):
                function()
            assert nt.cuda.memory_allocated() == before


def test_no_algorithm(fake):
    fake.put(refused=-1)
    before, asked = fake.counts[MULTIPLIED], fake.counts[HEURISTICS]
    for _ in range(2):
        agree(lambda x, y: x @ y, whole(4, 8), whole(8, 8))
    assert fake.counts[MULTIPLIED] == before and fake.counts[HEURISTICS] == asked + 1
    agree(nt.addmm, whole(4, 1), whole(4, 8), whole(8, 8))


def test_workspace(fake):
    """It is a tensor that lives for one call: in the order of the stream, and counted."""
    fake.put(workspace=1 << 20)
    x = nt.tensor(whole(4, 8)).cuda()
    nt.cuda.reset_peak_memory_stats()
    before = nt.cuda.memory_allocated()
    agree(lambda x, y: x @ y, whole(4, 8), whole(8, 8))
    assert nt.cuda.memory_allocated() == before and nt.cuda.max_memory_allocated() >= before + (1 << 20)
    assert fake.last()["bytes"] == 1 << 20
    before = fake.counts[MULTIPLIED]
    fake.put(workspace=(32 << 20) + 1)  # more than it is told that there is
    agree(lambda x, y: x @ y, whole(3, 8), whole(8, 8))
    assert fake.counts[MULTIPLIED] == before
    fake.put(workspace=1 << 20)
    runtime.backend.limit = sum(runtime.backend.blocks.values()) + 4096
    try:
        with pytest.raises(MemoryError, match="1,048,576 bytes were asked for"):
            x @ x.t()
    finally:
        runtime.backend.limit = None
    assert (x @ x.t()).shape == (4, 4)


def test_streams_and_graphs(fake):
    """The library's work is of the thread's stream, and is recorded as any other is."""
    jobs = []

    @ctypes.CFUNCTYPE(None, ctypes.c_long, ctypes.c_void_p)
    def enqueue(stream, job):
        jobs.append(stream)
        runtime.backend.do(stream, lambda: fake.found.fake_run(ctypes.c_void_p(job)))

    place = ctypes.c_void_p.in_dll(fake.found, "fake_enqueue")
    place.value = ctypes.cast(enqueue, ctypes.c_void_p).value
    fake.put(workspace=4096)
    try:
        x, w, b = (nt.tensor(a).cuda() for a in (whole(4, 8), whole(8, 8), whole(8)))
        side = nt.cuda.Stream()
        with nt.cuda.stream(side):
            F.linear(x, w, b)
        assert jobs == [side.cuda_stream]
        graph = nt.cuda.graph(lambda: F.linear(x, w, b) @ w)
        before = fake.counts[MULTIPLIED]
        for _ in range(2):
            x.add_(1)
            np.testing.assert_array_equal(graph().cpu().numpy(), F.linear(x.cpu(), w.cpu(), b.cpu()) @ w.cpu())
        assert fake.counts[MULTIPLIED] == before and len(jobs) == 3
    finally:
        place.value = None
    del graph
    gc.collect()


def test_several_devices(fake):
    nt.cuda.emulate(devices=2)
    x = nt.tensor(whole(4, 4)).to("cuda:1")
    before = fake.counts[HANDLES]
    assert (x @ x).device == "cuda:1" and (x.to("cuda:0") @ x.to("cuda:0")).device == "cuda:0"
    assert fake.counts[HANDLES] == before + 2 and len(cublas.plans) == 2
    assert fake.last()["stream"] == nt.cuda.default_stream("cuda:0").cuda_stream


def test_threads(fake):
    """Each with a bias of its own, in compiled code that lets the others run."""

    @njit(nogil=True)
    def many(x, w, b, count):
        out = F.linear(x, w, b)
        for _ in range(count):
            out = F.linear(x, w, b)
        return out

    x, w = nt.tensor(whole(4, 8)), nt.tensor(whole(8, 8))
    far, found = (x.cuda(), w.cuda()), [None] * 4
    biases = [nt.full((8,), float(k)) for k in range(4)]
    many(*far, biases[0].cuda(), 1)

    def work(k):
        found[k] = many(*far, biases[k].cuda(), 50).cpu()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, one in enumerate(found):
        np.testing.assert_array_equal(one.numpy(), F.linear(x, w, biases[k]).numpy())


def test_the_library_itself_takes_what_we_say():
    """Its descriptors need no GPU, where it is installed; its heuristic does, and is asked last."""
    spec = importlib.util.find_spec("nvidia.cu13") if importlib.util.find_spec("nvidia") else None
    places = [pathlib.Path(p) / "lib" / "libcublasLt.so.13" for p in spec.submodule_search_locations] if spec else []
    found = [p for p in places if p.exists()]
    if not found:
        pytest.skip("nvidia-cublas is not installed")
    real = cublas.CublasLt(ctypes.CDLL(str(found[0])), 1 << 20)
    assert real.version() >= 130000 and real.message(15) == "CUBLAS_STATUS_NOT_SUPPORTED (15)"
    for dtype, epilogue, tf32, batches in (
        (6, PLAIN, 0, 1),
        (6, BIAS, 1, 3),
        (7, PLAIN, 0, 2),
        (8, BIAS, 0, 1),
        (9, 6, 0, 1),
        (9, 36, 0, 4),
    ):
        plan = np.zeros(1, Prepared)
        for name in ("x_align", "y_align", "old_align", "out_align", "bias_align"):
            plan[name] = 16
        plan["dtype"], plan["epilogue"], plan["tf32"], plan["batches"] = dtype, epilogue, tf32, batches
        plan["m"], plan["n"], plan["k"], plan["x_step"], plan["y_step"], plan["old_step"] = 8, 16, 24, 24, 24, 16
        plan["y_turned"] = 1
        with pytest.raises(
            RuntimeError, match="cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_(NOT_INITIALIZED|INVALID_VALUE)"
        ):
            real.prepare(None, plan[0])


BEGIN = """
import ctypes
fake = ctypes.CDLL("libcublasLt.so.13", mode=ctypes.RTLD_GLOBAL)  # one that is loaded is found before those that are installed
import numbatensor as nt
import numbatensor.nn.functional as F
from asv_benchmarks.cuda_host import microseconds
counts = (ctypes.c_long * 8).in_dll(fake, "fake_counts")
"""


def test_what_a_product_costs_the_host(tmp_path):
    """Over a driver and a library that do nothing: microseconds of this process's time for a recorded one from Python, workspace included.

    A machine that does nothing else takes 5 at most; one that shares its caches takes longer.
    """
    pytest.importorskip("cuda.bindings.driver", reason="the package cuda-bindings is not installed")
    from asv_benchmarks import cuda_host

    cuda_host.build(tmp_path)
    build(tmp_path)
    code = """
x = nt.ones(64, 64, device="cuda")
w, b = (nt.ones(*s, device="cuda", requires_grad=True) for s in ((64, 64), (64,)))
x @ w
assert counts[5] == 1, (list(counts), nt.backends.cuda.matmul.why_not())
ctypes.c_long.in_dll(fake, "fake_nothing").value = 1
costs = [microseconds(f, count=5000) for f in (lambda: x @ w, lambda: F.linear(x, w, b))]
ctypes.c_long.in_dll(fake, "fake_workspace").value = 1 << 20
y = nt.ones(32, 64, device="cuda")
costs.append(microseconds(lambda: y @ w, count=5000))
assert counts[4] == 3
print(*costs)
"""
    found = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", BEGIN + code],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert found.returncode == 0, found.stderr
    assert max(map(float, found.stdout.split())) < 8, found.stdout
