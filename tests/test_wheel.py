"""What is installed: the wheel and the source archive hold all packages, and work where nothing can be written beside them."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from numbatensor.core import compiler

ROOT = pathlib.Path(compiler.ROOT)
PACKAGES = ("numbatensor", "kernels_cpu", "kernels_cuda")
NEEDED = {
    "numbatensor/py.typed",
    "numbatensor/core/README.md",
    "numbatensor/ops/elementary.py",
    "kernels_cpu/pointwise.py",
}


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and a source archive, made of a copy of the tree by the build backend of this environment."""
    folder = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "build", "dist")
    for name in (*PACKAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, folder)
    backend = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"
    (folder / "dist").mkdir()
    run(sys.executable, "-c", backend, cwd=folder)
    (wheel,), (archive,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, archive


def sources():
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".typed", ".md")
    }


def test_the_wheel_holds_all(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert NEEDED <= sources() <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_source_archive_holds_all(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert sources() | {"pyproject.toml", "setup.cfg", "README.md", "LICENSE"} <= names


def test_the_installed_package_writes_only_into_the_users_folder(built, tmp_path):
    site, home = tmp_path / "site-packages", tmp_path / "home"
    zipfile.ZipFile(built[0]).extractall(site)
    shutil.copytree(compiler.FOLDER, home / ".cache/numbatensor" / compiler.FOLDER.name)  # to compile little
    for path in [site, *site.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    kept = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "NUMBATENSOR_CACHE_DIR", "PYTHONPATH")}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    code = (
        "import numbatensor as nt; from numbatensor.core import compiler; x = nt.tensor([1., 2.], requires_grad=True);"
        "(x * x).tanh().sum().backward(); print(nt.__file__, compiler.FOLDER, compiler.counts['compiled'])"
    )
    try:
        for _ in range(2):
            file, folder, compiled = run(sys.executable, "-c", code, env=environment, cwd=tmp_path).split()
        assert pathlib.Path(file).is_relative_to(site) and pathlib.Path(folder).is_relative_to(home)
        assert int(compiled) == 0
        assert before == {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    finally:
        for path in [site, *site.rglob("*")]:
            path.chmod(0o755)
