"""Sorting by CUB: over a module of our own that sorts an emulated device's memory, and up to the launch of its kernels where `cuda-cccl` is installed."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from asv_benchmarks import cuda_host

pytest.importorskip("greenlet")

FAKE = """
import ctypes, pathlib, sys, types
import numpy as np
import numbatensor as nt
from numbatensor.core import compiler, device_sort
from numbatensor.cuda import cub, runtime
cub.FOLDER = pathlib.Path(sys.argv[1])
compiler.CORE, device_sort.LIBRARY, device_sort.LARGEST = None, 64, 0  # the core is compiled here, for rows of 64 elements and more
TEMPORARY, made, sorted_rows, broken = 1000, [], [], []

def touched(memory):
    found = runtime.backend.seen(memory.__cuda_array_interface__["data"][0], memory.nbytes)
    return np.frombuffer((ctypes.c_char * memory.nbytes).from_address(found), memory.dtype)

class Sort:
    def __init__(self, keys, values):
        self.keys, self.values = np.dtype(keys), np.dtype(values)

    def __call__(self, *, temp_storage, d_in_keys, d_out_keys, d_in_values, d_out_values, num_items, stream):
        if broken:
            raise RuntimeError("error code: 999")
        assert d_in_keys.dtype == d_out_keys.dtype == self.keys and d_in_values.dtype == d_out_values.dtype == self.values
        assert all(m.shape == (num_items,) for m in (d_in_keys, d_out_keys, d_in_values, d_out_values))
        assert all(m.__cuda_array_interface__["data"][0] % m.dtype.itemsize == 0 for m in (d_in_keys, d_out_keys, d_in_values, d_out_values))
        if temp_storage is None:
            return TEMPORARY
        assert stream.__cuda_stream__() == (0, nt.cuda.current_stream().cuda_stream)
        touched(temp_storage)[:] = 7
        assert temp_storage.nbytes == TEMPORARY and temp_storage.__cuda_array_interface__["data"][0] % 256 == 0
        keys = touched(d_in_keys)
        order = np.argsort(keys, kind="stable")
        touched(d_out_keys)[:], touched(d_out_values)[:] = keys[order], touched(d_in_values)[order]
        sorted_rows.append(num_items)

def make_radix_sort(d_in_keys, d_out_keys, d_in_values, d_out_values, order, compute_capability):
    assert order == "ascending" and compute_capability == 90
    made.append(d_in_keys.dtype.itemsize)
    return Sort(d_in_keys.dtype, d_in_values.dtype)

module = types.SimpleNamespace(
    make_radix_sort=make_radix_sort,
    SortOrder=types.SimpleNamespace(ASCENDING="ascending"),
    serialize=lambda s: f"{s.keys.str} {s.values.str}".encode(),
    deserialize=lambda code: Sort(*code.decode().split()),
)
nt.cuda.emulate()
runtime.backend.sort_library = lambda: (module, "fake")

def check(x, sorted_by_library, **how):
    t, before = nt.tensor(x), len(sorted_rows)
    far = t.to("cuda").argsort(**how)
    assert far.dtype is nt.int64 and far.tolist() == t.argsort(**how).tolist()
    assert len(sorted_rows) - before == sorted_by_library, (len(sorted_rows) - before, sorted_by_library)

def some(n, dtype="f4", rows=3):
    x = np.random.default_rng(n).integers(-9, 9, (rows, n)).astype(dtype)
    if x.dtype.kind == "f":
        x[:, ::5], x[:, 1::7], x[:, 2::9], x[:, 3::11] = np.nan, -0.0, np.inf, -np.inf
    return x
"""


def run(code, folder, **variables):
    """Run code in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, str(folder)],
        env=os.environ | variables,
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_rows_are_sorted_by_the_library(tmp_path):
    """What it sorts is what the CPU sorts; it is compiled when it is chosen, and found on the disk by a later process."""
    first = """
assert nt.backends.cuda.sort.library == "auto"
assert nt.backends.cuda.sort.why_not() == 'it is not compiled for this device yet: backends.cuda.sort.library = "cub" does that'
check(some(100), 0)
nt.backends.cuda.sort.library = "cub"
check(some(64), 3)
check(some(63), 0)
check(some(65), 3, descending=True)
check(some(70, "i8").T, 3, dim=0)
assert made == [4, 8]
for dtype in ("u1", "i1", "i4", "f8", "?"):
    check(some(70, dtype), 3)
x = nt.tensor(some(100)[0]).to("cuda")
assert x.topk(5)[1].tolist() == x.cpu().topk(5)[1].tolist() and x.sort()[1].tolist() == x.cpu().sort()[1].tolist()
with nt.cuda.stream(nt.cuda.Stream()):
    check(some(100), 3)
live = nt.cuda.memory_allocated()
broken.append(True)
try:
    x.argsort()
except RuntimeError as error:
    assert str(error) == "CUB failed to compute argsort: error code: 999", error
else:
    raise AssertionError("no error")
assert nt.cuda.memory_allocated() == live
broken.clear()
check(some(100), 3)
nt.backends.cuda.sort.library = "numbatensor"
check(some(100), 0)
assert nt.backends.cuda.sort.why_not() == 'backends.cuda.sort.library is "numbatensor"'
try:
    nt.backends.cuda.sort.library = "thrust"
except ValueError as error:
    assert str(error) == "library: expected one of auto, cub, numbatensor, not 'thrust'"
"""
    later = "check(some(100), 3)\nassert made == [] and nt.backends.cuda.sort.why_not() is None"
    run(FAKE + first, tmp_path)
    run(FAKE + later, tmp_path)


def test_a_library_that_cannot_be_used(tmp_path):
    """Our own kernels sort, and the reason is told."""
    run(
        FAKE
        + """
nt.backends.cuda.sort.library = "cub"
def fail(**given): raise OSError("no compiler")
module.make_radix_sort = fail
check(some(100), 0)
assert nt.backends.cuda.sort.why_not() == "no compiler"
""",
        tmp_path,
    )


REAL = """
import pathlib, sys
import numbatensor as nt
from numbatensor.core import compiler, device_sort
from numbatensor.cuda import cub
cub.FOLDER = pathlib.Path(sys.argv[1])
compiler.CORE, device_sort.LIBRARY = None, 1 << 16
x = nt.zeros(1 << 17, device="cuda")
"""
COMPILED = """
assert "not compiled" in nt.backends.cuda.sort.why_not()
nt.backends.cuda.sort.library = "cub"
assert nt.backends.cuda.sort.why_not() is None
"""
LOADED = """
cub.runtime.backend.sort_library()[0].make_radix_sort = None
assert nt.backends.cuda.sort.why_not() is None
live = nt.cuda.memory_allocated()
try:
    x.argsort()
except RuntimeError as error:
    assert str(error).startswith("CUB failed to compute argsort: "), error
else:
    raise AssertionError("no error")
assert nt.cuda.memory_allocated() == live
"""


def test_the_library_itself(tmp_path):
    """CUB is compiled without a GPU, and a later process finds it. A stand-in for the driver cannot run it: CUB asks for tables of the driver's own."""
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.compute") is None:
        pytest.skip("the package cuda-cccl is not installed")
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to build a stand-in for libcuda with")
    cuda_host.build(tmp_path)
    for code in (COMPILED, LOADED):
        run(REAL + code, tmp_path, LD_LIBRARY_PATH=str(tmp_path))
    assert len(list(tmp_path.glob("cub_radix_sort-*-sm_90-*.cub"))) == 2
