"""The driver of NVIDIA's GPUs, over a libcuda of our own that has no device: `fake_cuda.c`, built by gcc where there is one."""

import os
import shutil
import subprocess
import sys

import pytest

from asv_benchmarks import cuda_host

pytest.importorskip("cuda.bindings.driver", reason="the package cuda-bindings is not installed")
pytest.importorskip("numba_cuda", reason="what compiles CUDA kernels is not installed")
if shutil.which("gcc") is None:
    pytest.skip("there is no gcc to build a stand-in for libcuda with", allow_module_level=True)

BEGIN = """
import ctypes
import numbatensor as nt
fake = ctypes.CDLL("libcuda.so.1")
counts = (ctypes.c_long * 16).in_dll(fake, "fake_counts")
def put(name, value, kind=ctypes.c_int): kind.in_dll(fake, "fake_" + name).value = value
def fail(at, code): put("fail_at", at, ctypes.c_long); put("fail_code", code, ctypes.c_long)
LAUNCHES, ALLOCATIONS, FREES, COPIES, FILLS, WAITS, LOADS, TRIMS, RECORDS, STREAM_WAITS, GRAPHS, REPLAYS = range(12)
def raises(kind, function):
    try: function()
    except kind as error: return str(error)
    raise AssertionError("nothing was raised")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("libcuda")
    cuda_host.build(found)
    return found


def run(folder, code, **variables):
    """Run code in a process that finds the stand-in."""
    found = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", BEGIN + code],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)} | variables,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_devices_memory_and_launches(folder):
    run(
        folder,
        """
assert nt.cuda.why_not() is None and nt.cuda.is_available() and nt.cuda.device_count() == 2
assert nt.cuda.get_device_name() == "a stand-in" and nt.cuda.get_device_capability("cuda:1") == (9, 0)
x = nt.empty(1000, device="cuda")
assert counts[ALLOCATIONS] == 1 and nt.cuda.memory_allocated() == 4000
y = x + x
assert counts[LAUNCHES] == 1 and counts[LOADS] == 1
kernel, blocks, rows, threads, shared, stream, out, context = (ctypes.c_long * 8).in_dll(fake, "fake_last_launch")
assert (blocks, rows, threads, shared, stream, out, context) == (1, 1, 256, 0, 1, y.data_ptr(), 0x100)
z = nt.empty(10, device="cuda:1") * 2.0
assert (ctypes.c_long * 8).in_dll(fake, "fake_last_launch")[7] == 0x101
assert nt.cuda.memory_allocated("cuda:1") == 40 and nt.cuda.max_memory_allocated() == 8000
del x, y
assert nt.cuda.memory_allocated() == 0 and counts[FREES] == 3
assert "reserved        2,097,152" in nt.cuda.memory_summary("cuda:0") and "cuda:1" in nt.memory_summary()
assert nt.ones(3).to("cuda").to("cuda:1").tolist() == [1, 1, 1]  # copies are done
nt.empty_cache()
assert counts[TRIMS] == 2
""",
    )


def test_memory_waits_for_the_streams_that_use_it(folder):
    run(
        folder,
        """
x = nt.empty(1000, device="cuda")
s = nt.cuda.Stream()
assert s != nt.cuda.current_stream() and s.cuda_stream > 0x1000
with nt.cuda.stream(s):
    assert nt.cuda.current_stream() == s
    y = x + x
    assert (ctypes.c_long * 8).in_dll(fake, "fake_last_launch")[5] == s.cuda_stream
assert nt.cuda.current_stream() == nt.cuda.default_stream()
del y
assert counts[RECORDS] == counts[STREAM_WAITS] == 0  # its own stream alone knew it
del x
assert counts[RECORDS] == counts[STREAM_WAITS] == 1
x = nt.empty(1000, device="cuda")
x.record_stream(s)
del x
assert counts[RECORDS] == counts[STREAM_WAITS] == 2
assert "is one of cuda:1" in raises(ValueError, lambda: nt.empty(3, device="cuda").record_stream(nt.cuda.Stream("cuda:1")))
e, f = nt.cuda.Event(enable_timing=True), nt.cuda.Event(enable_timing=True)
e.record(); f.record(s); e.wait(s); e.synchronize()
assert e.query() and e.elapsed_time(f) == 1.5
s.wait_stream(nt.cuda.default_stream()); s.synchronize()
assert s.query() and nt.cuda.Stream(priority=-1) not in (s, nt.cuda.Stream())
""",
    )


def test_errors(folder):
    run(
        folder,
        """
x = nt.empty(1000, device="cuda")
def twice():
    fail(ALLOCATIONS, 2)
    return nt.empty(500, device="cuda")
twice()  # the pool is emptied, and the second try succeeds
assert counts[TRIMS] == 1
put("fail_always", 1)
text = raises(MemoryError, lambda: twice())
put("fail_always", 0); fail(0, 0)
assert "2,000 bytes were asked for; on cuda:0 tensors take 4,000, and the pool has 2,097,152" in text, text
assert "CUDA_ERROR_OUT_OF_MEMORY (2)" in text
x.sin(); x * 2
fail(WAITS, 700)
text = raises(RuntimeError, nt.cuda.synchronize)
assert nt.cuda.runtime.backend.message(99_999) == "error 99999"
assert "CUDA failed to wait: CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access" in text and "Launched last: mul, sin." in text, text
x * 2
put("fail_always", 1); fail(ALLOCATIONS, 700)
before = counts[TRIMS]
text = raises(RuntimeError, lambda: nt.empty(500, device="cuda"))
assert "CUDA failed to allocate memory: CUDA_ERROR_ILLEGAL_ADDRESS (700)" in text and "Launched last: mul, sin." in text, text
assert counts[TRIMS] == before  # more memory would not help
put("fail_always", 0); fail(0, 0)
fail(LAUNCHES, 1)
assert "CUDA failed to launch a kernel of add" in raises(RuntimeError, lambda: x + x)
import os
pid = os.fork()
if pid == 0:
    os._exit("forked" not in raises(RuntimeError, lambda: x + x))
assert os.waitpid(pid, 0)[1] == 0
x + x
""",
    )


def test_a_graph(folder):
    run(
        folder,
        """
x = nt.zeros(100, device="cuda")
g = nt.cuda.graph(lambda: x.add_(1))
assert counts[GRAPHS] == 1 and counts[REPLAYS] == 0 and x._version == 1
assert (ctypes.c_long * 8).in_dll(fake, "fake_last_launch")[5] != 1
g(); g()
assert counts[REPLAYS] == 2 and x._version == 5  # the tensor is what is given, too
del g
""",
    )


def test_memory_waits_for_the_streams_that_a_graph_ran_on(folder):
    run(
        folder,
        """
x, s = nt.zeros(100, device="cuda"), nt.cuda.Stream()
g = nt.cuda.graph(lambda: x.add_(1))
h = nt.cuda.graph(lambda: nt.ones(100, device="cuda") * 2)
del x
with nt.cuda.stream(s):
    g()
before, waits = counts[RECORDS], counts[WAITS]
del g
assert counts[RECORDS] == before + 1 and counts[WAITS] == waits
h()
before, frees = counts[RECORDS], counts[FREES]
del h; nt.memory.memory_stats()  # drops what waits to be dropped
assert counts[RECORDS] == before + 2 and counts[FREES] > frees and counts[WAITS] == waits  # both streams may read what it gave
""",
    )


def test_graphs_and_contexts_are_let_alone(folder):
    """What would end a capture is not done meanwhile; a context that others have made current is no longer when we work, and is again after."""
    run(
        folder,
        """
context = ctypes.c_long.in_dll(fake, "fake_context")
def retry():
    fail(ALLOCATIONS, 2)
    return nt.ones(10_000, device="cuda")
before = counts[TRIMS]
g = nt.cuda.graph(retry)
assert counts[TRIMS] == before + 1
import threading
def capture_elsewhere():
    inside, goes_on = threading.Event(), threading.Event()
    def step():
        inside.set()
        goes_on.wait()
        return nt.ones(3, device="cuda")
    found = []
    thread = threading.Thread(target=lambda: found.append(nt.cuda.graph(step)))
    thread.start()
    inside.wait()
    nt.cuda.empty_cache()
    nt.cuda.synchronize()
    global g
    del g
    goes_on.set()
    thread.join()
    return found
assert len(capture_elsewhere()) == 1
set_current = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(int(nt.cuda.runtime.backend.functions["set_context"]))
x = nt.ones(10, device="cuda")
set_current(0)
assert nt.cuda.runtime.backend.context(0) == context.value == 0x100  # also where opening the device failed half-way before
for other in (0, 0x777):
    set_current(other)
    x + x
    assert context.value == 0x100
    set_current(other)
    frees, x = counts[FREES], nt.ones(10, device="cuda")
    set_current(other)
    frees = counts[FREES]
    x = None
    assert counts[FREES] == frees + 1 and context.value == other
    x = nt.ones(10, device="cuda")
""",
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"version": 11080}, "the CUDA driver is too old: it is of CUDA 11.8, and 13.0 is needed"),
        (
            {"version": 12090},
            "the CUDA driver is too old: it is of CUDA 12.9, and 13.0 is needed",
        ),  # as what compiles is
        ({"version": 0}, "there is no CUDA driver that works on this machine"),
        ({"devices": 0}, "there is no CUDA device"),
        ({"major": 3}, "the CUDA device is too old: kernels are compiled for sm_75 and newer, not sm_30"),
    ],
)
def test_why_not(folder, settings, expected):
    lines = "".join(f"put({name!r}, {value})\n" for name, value in settings.items())
    found = run(
        folder, lines + "print(nt.cuda.why_not()); assert nt.cuda.device_count() == 0 and not nt.cuda.is_available()"
    )
    assert expected in found and found.count("\n") == 1


def test_no_driver(tmp_path):
    code = "import numbatensor as nt; print(nt.cuda.why_not())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.count("\n") == 1
    if found != "None\n":
        assert "driver" in found or "device" in found


def test_architectures():
    from numbatensor.cuda.driver import choose_arch

    known = [75, 80, 86, 89, 90, 100, 120]
    assert choose_arch([(9, 0)], known) == ("sm_90", True)
    assert choose_arch([(8, 7)], known) == ("sm_86", True)  # machine code of an older minor version runs
    assert choose_arch([(12, 1), (12, 0)], known) == ("sm_120", True)
    assert choose_arch([(8, 0), (9, 0)], known) == ("sm_80", False)  # the driver compiles for each
    assert choose_arch([(13, 0)], known) == ("sm_120", False)  # newer than the compiler


def test_a_device_newer_than_the_compiler_gets_ptx(folder):
    run(
        folder,
        "put('major', 13)\nx = nt.empty(100, device='cuda')\nx + x\nassert counts[LAUNCHES] == counts[LOADS] == 1",
    )


def test_what_an_op_costs_the_host(folder):
    """A recorded pointwise op from Python, launch included, takes at most 5 microseconds: of this process's time, whatever else runs."""
    found = run(
        folder,
        """
from asv_benchmarks.cuda_host import microseconds
x = nt.ones(1000, device="cuda")
w = nt.ones(1000, device="cuda", requires_grad=True)
print(microseconds(lambda: w * x, count=5000), microseconds(lambda: w.sin(), count=5000))
""",
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert max(map(float, found.split())) < 5, found
