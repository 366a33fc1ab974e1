"""Object code on the disk: a second process compiles nothing, an edit recompiles what it concerns and nothing else."""

import ast
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from numbatensor.core import compiler
from numbatensor.op import OPS

ROOT = pathlib.Path(compiler.ROOT)
PACKAGES = ("numbatensor", "kernels_cpu", "kernels_cuda")
USE = """
import numbatensor as nt
from numbatensor.core import compiler
x = nt.tensor([0.5], requires_grad=True)
for f in (nt.sigmoid, nt.silu, nt.tanh, nt.exp):
    f(x).sum().backward()
print(nt.__file__, compiler.counts["compiled"], compiler.counts["loaded"])
"""


class Copy:
    """A copy of the packages to edit, with a cache that starts as this process's."""

    def __init__(self, folder):
        self.folder, self.cache = folder / "source", folder / "cache"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, self.folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(compiler.FOLDER, self.cache / compiler.FOLDER.name)

    def recompiled(self):
        """The names of what a process compiles."""
        before = set(self.cache.rglob("*.o"))
        environment = os.environ | {"PYTHONPATH": str(self.folder), "NUMBATENSOR_CACHE_DIR": str(self.cache)}
        command = [sys.executable, "-c", USE]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=True)
        file, compiled, loaded = done.stdout.split()
        assert pathlib.Path(file).is_relative_to(self.folder) and int(loaded) > 20
        new = sorted(path.name.rsplit("-", 1)[0] for path in set(self.cache.rglob("*.o")) - before)
        assert len(new) == int(compiled)
        return new

    def edit(self, file, function):
        """Change what a function computes, to the compiler's eye."""
        path = self.folder / file
        lines = path.read_text().split("\n")
        tree = ast.parse("\n".join(lines))
        found = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function)
        first = found.body[1] if isinstance(found.body[0], ast.Expr) else found.body[0]
        name = found.args.args[0].arg
        lines.insert(first.lineno - 1, " " * first.col_offset + f"{name} = {name} + 0")
        path.write_text("\n".join(lines))


@pytest.fixture
def copy(tmp_path):
    made = Copy(tmp_path)
    made.recompiled()
    return made


def core_users(helper):
    """The compiled functions of the core that call a helper, or call a helper that does."""
    calls, compiled = {}, set()
    for path in (ROOT / "numbatensor/core").glob("*.py"):
        for f in ast.parse(path.read_text()).body:
            if isinstance(f, ast.FunctionDef) and f.decorator_list:
                calls[f.name] = {n.id for n in ast.walk(f) if isinstance(n, ast.Name)}
                if ast.unparse(f.decorator_list[0]).split("(")[0] not in ("njit", "register_jitable", "intrinsic"):
                    compiled.add(f.name)
    users, inlined = set(), {helper}
    while inlined:
        found = {name for name, names in calls.items() if names & inlined and name not in users}
        users, inlined = users | found, found - compiled
    return sorted(users & compiled)


def test_nothing_edited_nothing_compiled(copy):
    assert copy.recompiled() == []
    path = copy.folder / "numbatensor/core/tensors.py"
    path.write_text(path.read_text() + "\n# a remark\n")
    assert copy.recompiled() == []


def test_an_edited_formula_recompiles_its_users(copy):
    expected = {"sigmoid.float32.0"}
    for name in ("sigmoid", "silu", "tanh", "exp"):
        formulas = {name: OPS[name].function, f"{name}.x": OPS[name].rules["x"]}
        expected |= {f"{kernel}.float32.0" for kernel, f in formulas.items() if "sigmoid" in f.__code__.co_names}
    copy.edit("numbatensor/ops/elementary.py", "sigmoid")
    assert set(copy.recompiled()) == expected and "silu.x.float32.0" in expected


def test_an_edited_helper_of_the_core_recompiles_its_users(copy):
    before = set(copy.cache.glob("*/*/"))
    copy.edit("numbatensor/core/tensors.py", "itemsize_of")
    recompiled = copy.recompiled()
    (used,) = set(copy.cache.glob("*/*/")) - before  # links to what this version of the core has loaded
    assert recompiled == sorted(set(core_users("itemsize_of")) & {path.name for path in used.iterdir()}) != []


def plus(n):
    def inner(x):
        return x + n

    return inner


TABLE, PAIR, NESTED = np.array([1, 2]), (1, 2), ((1, 2), 3)


def from_table(x):
    return x + TABLE[0]


def from_pair(x):
    return x + PAIR[0]


def from_nested(x):
    return x + NESTED[0][0]


def call(made):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(made.address)(1)


@pytest.mark.parametrize(
    "function, name, value",
    [
        (from_table, "TABLE", np.array([5, 2])),
        (from_pair, "PAIR", (5, 2)),
        (from_nested, "NESTED", ((5, 2), 3)),
    ],
)
def test_a_changed_constant_is_compiled_anew(function, name, value, tmp_path, monkeypatch):
    """Numba takes global arrays and tuples for constants."""
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    assert call(compiler.compile(function, "probe", c=True)) == 2
    monkeypatch.setitem(function.__globals__, name, value)
    assert call(compiler.compile(function, "probe", c=True)) == 6


def test_closures_of_one_name_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    made = [compiler.compile(plus(n), "probe", c=True) for n in (1, 2, 1)]
    assert [call(m) for m in made] == [2, 3, 2] and len(list(tmp_path.glob("*.o"))) == 2


def test_a_broken_file_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    assert call(compiler.compile(plus(1), "probe", c=True)) == 2
    (file,) = tmp_path.glob("*.o")
    for content in (b"", b"nonsense", file.read_bytes()[:-1], file.read_bytes() + b"x"):
        file.write_bytes(content)
        before = dict(compiler.counts)
        assert call(compiler.compile(plus(1), "probe", c=True)) == 2
        assert compiler.counts["compiled"] == before["compiled"] + 1
    before = dict(compiler.counts)
    compiler.compile(plus(1), "probe", c=True)
    assert compiler.counts["loaded"] == before["loaded"] + 1


EVERYTHING = """
import numbatensor as nt
from numbatensor.core import compiler
from numbatensor.op import OPS, Pointwise, Reduction
for op in OPS.values():
    if isinstance(op, Pointwise):
        for dtype in (nt.float32, nt.int64):
            if op.row["dtypes"] >> dtype.code & 1:
                for what in [0, *[1 + op.inputs.index(i) for i in op.rules if dtype is nt.float32]]:
                    op.compile(what, dtype.code)
x = nt.rand(50, 60)
for name in ("sum", "prod", "amax", "amin", "all", "any"):
    for dim in (None, 0, 1):
        getattr(x, name)(dim)
print(compiler.counts["compiled"], compiler.counts["loaded"])
"""


def test_no_kernel_misses_the_cache_in_a_second_process():
    run = lambda: subprocess.run(
        [sys.executable, "-c", EVERYTHING], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    run()
    compiled, loaded = map(int, run())
    assert compiled == 0 and loaded > 300


COMPILER_ALONE = f"""
import sys, types
package = sys.modules["numbatensor"] = types.ModuleType("numbatensor")
package.__path__ = [{str(ROOT / "numbatensor")!r}]
from numbatensor.core import compiler
print(compiler.FOLDER)
"""


def test_no_folder_no_cache(tmp_path):
    """Where there is no folder to write, all is compiled in memory."""
    (tmp_path / "file").write_text("")
    environment = os.environ | {"NUMBATENSOR_CACHE_DIR": str(tmp_path / "file")}
    command = [sys.executable, "-c", COMPILER_ALONE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
