"""What the library leans on that is private to Numba: an error where it is gone, or the slower way round."""

import pathlib
import subprocess
import sys

import numbatensor

ROOT = pathlib.Path(numbatensor.__file__).parents[1]


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_what_is_vital_is_named():
    done = run("from numba.core import compiler\ndel compiler.compile_extra\nimport numbatensor")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: numbatensor leans on what Numba")
    assert "numba.core.compiler.compile_extra" in last


def test_a_free_threaded_build_is_refused():
    done = run("import sysconfig\nsysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\nimport numbatensor")
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("ImportError: numbatensor relies on the global interpreter lock and")
    )


def test_without_object_code_nothing_is_kept_and_all_works():
    code = """
import warnings
from numba.core.codegen import CodeLibrary
del CodeLibrary._get_compiled_object
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import numbatensor as nt
from numbatensor.core import compiler
x = nt.tensor([1.0, 2.0], requires_grad=True)
(x * x).sum().backward()
print(x.grad.tolist(), compiler.FOLDER, compiler.counts["loaded"], sum("nothing is kept" in str(w.message) for w in said))
"""
    done = run(code)
    assert done.stdout.strip() == "[2.0, 4.0] None 0 1", done.stderr


def test_without_the_loop_of_the_pool_there_is_one_thread():
    code = """
from numbatensor.core import private
private.address_of_loop = lambda result: 0
import numbatensor as nt
nt.set_num_threads(2)
print(nt.get_num_threads(), nt.ones(1000, 1000).sum().item())
"""
    done = run(code)
    assert done.stdout.strip() == "1 1000000.0", done.stderr


def test_without_notes_of_statements_errors_come_out_all_the_same():
    code = """
import traceback, warnings
from numba.core import typed_passes
for one in (typed_passes.NativeLowering, typed_passes.NativeParforLowering):
    one.lowering_class = one.lowering_class.fget(None)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import numbatensor as nt
print(sum("errors in compiled code name no line" in str(w.message) for w in said))
from numba import njit, prange

@njit
def product(x):
    y = x + 1
    return y @ x

@njit
def slope(x):
    return x.grad + x

@njit
def caught(x):
    for k in range(3):
        try:
            product(x)
        except Exception:
            pass
    return x.sum().item()

@njit(parallel=True)
def each(x):
    found = [x] * 4
    for k in prange(4):
        found[k] = x * k
    return found[3].sum().item()

x = nt.ones(2, 3)
for f in (product, slope):
    try:
        f(x)
    except Exception as error:
        print(type(error).__name__, str(error)[:22], [s.name for s in traceback.extract_tb(error.__traceback__)].count(f.__name__))
print(caught(x), each(x), product(nt.ones(2, 2)).tolist())
y = nt.ones(2, requires_grad=True)
product(y).backward()
print(y.grad.tolist())
"""
    done = run(code)
    assert done.stdout.splitlines() == [
        "1",
        "RuntimeError mat1 and mat2 shapes c 0",
        "TypeError expected Tensor(float3 0",
        "6.0 18.0 [[4.0, 4.0], [4.0, 4.0]]",
        "[3.0, 3.0]",
    ], done.stdout + done.stderr
