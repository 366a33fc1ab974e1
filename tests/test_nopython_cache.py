"""Code that Numba has cached: a second process finds it, and is never wrong."""

import os
import pathlib
import subprocess
import sys

import pytest

import numbatensor as nt

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
        [str(pathlib.Path(nt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )

    def run(text):
        program = tmp_path / "cached.py"
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
def test_another_version_of_the_library(run, program):
    """What is cached for another is compiled anew, also where no type tells."""
    first = run(program)
    other = "from numbatensor.core import compiler\ncompiler.digest = lambda *parts, digest=compiler.digest: digest('other', *parts)\n"
    assert run(other + program) == first and first[0].endswith(" 0")
