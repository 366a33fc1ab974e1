"""`make gpu-check` from end to end over the emulator, with stand-ins for PyTorch, CuPy and other programs: what it says, and that it ends."""

import contextlib
import pathlib
import types

import numpy as np
import pytest

import numbatensor as nt
from asv_benchmarks import gpu_cases, gpu_check, gpu_timing
from tests.device import of_the_emulator, open_device

TINY = gpu_cases.Sizes(elements=64, columns=8, side=4, small=4, batch=2, width=4)
pytestmark = of_the_emulator


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    open_device()
    monkeypatch.setattr(gpu_timing, "HOST_CALLS", 1)


class Torch:
    """PyTorch's names, from a library that works without its devices."""

    __name__ = "torch"
    compile = staticmethod(lambda f: f)

    def __init__(self, library):
        self.library, recorded = library, []
        stream = types.SimpleNamespace(wait_stream=lambda other: None)

        class Graph:
            replay = staticmethod(lambda: recorded.append("replayed"))

        self.cuda = types.SimpleNamespace(
            synchronize=lambda: None,
            Stream=lambda: stream,
            current_stream=lambda: stream,
            stream=lambda s: contextlib.nullcontext(),
            graph=lambda g: contextlib.nullcontext(),
            CUDAGraph=Graph,
        )

    def __getattr__(self, name):
        return getattr(self.library, name)


class Device:
    synchronize = staticmethod(lambda: None)


CUPY = types.SimpleNamespace(
    random=types.SimpleNamespace(rand=np.random.rand),  # noqa: NPY002
    argsort=np.argsort,
    exp=np.exp,
    maximum=np.maximum,
    cuda=types.SimpleNamespace(Device=Device),
)


def libraries(torch, device):
    """Ours on a device, and PyTorch's stand-in on the CPU."""
    found = {"numbatensor": nt, "torch": Torch(torch), "cupy": CUPY}
    return {name: gpu_cases.Library(m, device if name == "numbatensor" else "cpu") for name, m in found.items()}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def check_table(lines):
    """No case fails, for any contender: the lines are the table's rows."""
    switch = hasattr(nt, "set_float32_matmul_precision")
    assert len(lines) > 35
    for line in lines:
        found = cells(line)
        assert len(found) == len(cells(gpu_check.HEAD)), line
        if "TF32" in line and not switch:
            assert found[1] == "failed: NotImplementedError: it has no switch for TF32"
        else:
            assert float(found[1]) > 0 and found[4] and all(not cell or float(cell) >= 0 for cell in found[4:8]), line


def scale(L, z):
    """A model without products of matrices, which take the emulator long."""

    class Scale(L.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = L.nn.Parameter(L.ones(z.width))

        def forward(self, x):
            return x * self.w

    return Scale()


def test_all_cases_run_on_a_device(monkeypatch):
    for name in ("mlp", "with_norms"):
        gpu_cases.training(nt, "cpu", TINY, getattr(gpu_cases, name))()
        monkeypatch.setattr(gpu_cases, name, scale)
    check_table(list(gpu_check.benchmarks(TINY, libraries(nt, "cuda"), lambda: 100, rounds=1, phase=0)))


@pytest.mark.peer
def test_all_cases_run_by_pytorch():
    torch = pytest.importorskip("torch")
    made = list(gpu_check.benchmarks(TINY, libraries(torch, "cpu"), lambda: 100, rounds=2, phase=0))
    check_table(made)
    names = [cells(line)[0] for line in made]
    assert {"copy", "layer_norm, backward", "MLP training step, captured", "tanh(x * y + x) * y, fused"} <= set(names)


def test_the_report(tmp_path, monkeypatch):
    """Without PyTorch and CuPy; tests and compute-sanitizer are said to have run."""
    asked = []

    def run(command, seconds, **variables):
        asked.append((command, variables))
        said = "42 passed in 3.0s" if "pytest" in command else "========= ERROR SUMMARY: 3 errors"
        return 9 if "racecheck" in command else 0, said

    monkeypatch.setattr(gpu_check, "run", run)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(
        gpu_check, "find_libraries", lambda: ({"numbatensor": libraries(nt, "cuda")["numbatensor"]}, {"torch": "no"})
    )
    monkeypatch.setattr(gpu_check.gpu_cases, "Sizes", lambda **k: TINY)
    gpu_check.main([str(tmp_path / "gpu.md"), "--logs", str(tmp_path), "--seconds", "14"])
    text = (tmp_path / "gpu.md").read_text()
    assert "block emulator (sm_90, 4 multiprocessors" in text and "- torch cannot be used: no" in text
    assert "- tests, on the device against the CPU: 42 passed in 3.0s (tests/test_cuda_ops.py" in text
    assert "- compute-sanitizer, memcheck: ERROR SUMMARY: 3 errors\n" in text
    assert "- compute-sanitizer, racecheck: ERROR SUMMARY: 3 errors **FAILED**\n" in text
    assert "| copy | left out: no time |" in text and (tmp_path / "gpu_suite.log").exists()
    tests = next(command for command, _ in asked if "pytest" in command)
    files = [word for word in tests if word.startswith("tests/")]
    assert len(files) == len(gpu_check.TESTS) and all((gpu_check.ROOT / f).exists() for f in files)
    assert next(variables for command, variables in asked if "pytest" in command) == {"NUMBATENSOR_GPU": "1"}


def test_what_the_sanitizer_runs():
    exec(gpu_check.SHORT.replace('"cuda"', '"cpu"'), {})


def test_pieces_that_fail_or_take_too_long(tmp_path, monkeypatch):
    options = types.SimpleNamespace(logs=tmp_path, quick=True)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    assert gpu_check.sanitizer("memcheck", options, 5) == "compute-sanitizer is not installed"
    child = tmp_path / "child"
    status, text = gpu_check.run(["sh", "-c", f"sleep 100 & echo $! >{child}; echo said; wait"], 1)
    assert status is None and text == "said\n\nended after 1 s, which is all the time it had"
    assert not pathlib.Path(f"/proc/{child.read_text().strip()}/exe").exists()  # what it has started has ended, too
    assert gpu_check.run(["sh", "-c", "echo $A >&2; exit 3"], 5, A="b") == (3, "b\n")
    libraries, missing = gpu_check.find_libraries()
    assert "numbatensor" in libraries and set(libraries) | set(missing) == {"numbatensor", "torch", "cupy"}

    def broken():
        raise ValueError("a | in the\nmessage")

    times, failed = gpu_timing.compare(
        {"numbatensor": lambda: broken, "torch": lambda: int}, {"numbatensor": int, "torch": int}, rounds=1
    )
    assert set(times) == {"torch"} and failed == {"numbatensor": "ValueError: a / in the"}
    case = gpu_cases.Case("it", "memory", 100, {})
    (line,) = gpu_check.rows(case, times, failed, 1e9)
    assert cells(line)[:2] == ["it", "failed: ValueError: a / in the"] and len(cells(line)) == len(
        cells(gpu_check.HEAD)
    )


def test_targets():
    row = lambda kind, times, copy=None: list(gpu_check.rows(gpu_cases.Case("it", kind, 900, {}), times, {}, copy))
    met = lambda *args: [cells(line)[-1] for line in row(*args)]
    ours = lambda seconds, **others: {"numbatensor": seconds, **others}
    assert met("memory", ours(1e-6, torch=1e-6), 1e9) == ["yes"]
    assert met("memory", ours(1e-6, torch=1e-6), 1.1e9) == ["**no**"]  # 0.82 of the copy
    assert met("memory", ours(1e-6, torch=0.9e-6), 1e9) == ["**no**"]
    assert met("memory", ours(1e-6), 1e9) == [""]  # nothing to compare with
    assert met("product", ours(1e-6, torch=0.975e-6)) == ["yes"] and met("product", ours(1e-6, torch=0.9e-6)) == [
        "**no**"
    ]
    assert met("training", ours(1.0, captured=0.5, torch=1.0)) == ["yes", "yes"]
    assert met("training", ours(1.1, captured=0.7, torch=1.0)) == ["**no**", "**no**"]
    assert met("chain", ours(1.0)) == [""]


def test_it_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(nt.cuda, "why_not", lambda: "there is none")
    with pytest.raises(SystemExit, match="make gpu-check needs a GPU: there is none"):
        gpu_check.main([])
    assert pathlib.Path(gpu_check.__file__).name in (gpu_check.ROOT / "Makefile").read_text()
