"""Code that Numba has cached: a second process finds it, and is never wrong."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import numbatensor as nt

ROOT = pathlib.Path(nt.__file__).parents[1]
CACHED = """
import time
import numbatensor as nt
from numba import njit

@njit(cache=True)
def made(n):
    return nt.tanh(nt.ones(n)).sum().item() * 2

@njit(cache=True)
def square(x):
    y = (x * x + nt.softmax(x, 0).sum()).sum()
    y.backward()
    return y

print(made(3), len(made.stats.cache_hits))
x = nt.ones(3, requires_grad=True)
print(square(x).item(), x.grad.tolist(), len(square.stats.cache_hits))
try:
    square(nt.ones(3))
except RuntimeError as error:
    print(error)
"""


@pytest.fixture
def run(tmp_path):
    """Run a program in a process of its own, whose caches are this test's."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), os.environ.get("PYTHONPATH", "")]
    )  # after the program's folder

    def run(text):
        program = tmp_path / "cached.py"
        if not program.exists() or program.read_text() != text:  # Numba looks at the time of the last change
            program.write_text(text)
        done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_a_second_process(run):
    first, second = run(CACHED), run(CACHED)
    assert [line.rsplit(" ", 1)[0] for line in first[:2]] == [line.rsplit(" ", 1)[0] for line in second[:2]]
    assert [line[-1] for line in second[:2]] == ["1", "1"] and first[2:] == second[2:]


CHANGED = """
import numbatensor as nt
from numba import njit
@njit(cache=True)
def f(x):
    return x * {factor} + 1
found = f(nt.ones(2, dtype=nt.{dtype}))
print(found.dtype, found.tolist(), sum(f.stats.cache_hits.values()))
"""


def test_another_dtype_or_source(run):
    run(CHANGED.format(factor=2, dtype="float32"))
    assert run(CHANGED.format(factor=2, dtype="float32")) == ["numbatensor.float32 [3.0, 3.0] 1"]
    assert run(CHANGED.format(factor=2, dtype="int64")) == ["numbatensor.int64 [3, 3] 0"]
    assert run(CHANGED.format(factor=3, dtype="float32")) == ["numbatensor.float32 [4.0, 4.0] 0"]


WITHOUT = """
import numbatensor as nt
from numba import njit
@njit(cache=True)
def f(n):
    return nt.ones(n).sum().item()
print(f(3), sum(f.stats.cache_hits.values()))
"""


@pytest.mark.parametrize("program", [CHANGED.format(factor=2, dtype="float32"), WITHOUT], ids=["tensors", "numbers"])
def test_another_version_of_the_library(run, tmp_path, program):
    """What is cached for another is compiled anew, also where no type tells, and found from then on."""
    for package in ("numbatensor", "kernels_cpu"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    hits = lambda: run(program)[0][-1]
    assert [hits(), hits()] == ["0", "1"]
    with open(tmp_path / "numbatensor/nopython/text.py", "a") as file:
        file.write("# another version\n")
    assert [hits(), hits()] == ["0", "1"]


MADE = """
import numbatensor as nt
from numba import njit
@njit(cache=True)
def powers(x, n):
    for k in range(n):
        x = x * x
        yield x
@njit(cache=True)
def total(x):
    found = x * 0
    for y in powers(x, 3):
        found = found + y
    return found
print(total(nt.full((2,), 2.0)).tolist(), [y.tolist() for y in powers(nt.ones(1), 2)], sum(total.stats.cache_hits.values()))
"""


def test_generators(run):
    """Numba keeps no generators on the disk, and no function that uses one."""
    for _ in range(2):
        assert run(MADE)[0].startswith("[276.0, 276.0] [[1.0], [1.0]]")
