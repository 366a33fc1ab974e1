"""CUDA kernels compiled to machine code, without a GPU: what the assembler reports, and the cache on the disk."""

import pathlib
import subprocess
import sys

import pytest
from numba import cuda, float32, types

from numbatensor.cuda import compiler

pytest.importorskip("numba_cuda", reason="what compiles CUDA kernels is not installed")
pytest.importorskip("cuda.bindings.nvjitlink")

ARCH = "sm_90"
OPS = ["add", "where", "eq", "sin", "tanh", "pow", "remainder", "gelu_erf"]


def test_kernels_compile_as_they_claim():
    from numbatensor.cuda import check

    cases = [
        c for c in check.pointwise_cases() if c[0] in OPS and check.name_of(c[2]) in ("float32", "int64") and c[1] < 2
    ]
    assert len(cases) > 30
    for case in cases:
        *_, found, wrong = check.checked(case, ARCH)
        assert not wrong, check.row(case, ARCH, found, wrong)


def test_kernels_of_rows_compile_as_they_claim():
    from numbatensor.cuda import check

    names = ["sum", "var", "any", "softmax", "layer_norm_slope", "cumsum", "argmax"]
    cases = [c for c in check.row_cases() if c[0] in names and check.name_of(c[2]) == "float32" and c[3] == "aligned"]
    assert len(cases) > 15
    for case in cases:
        *_, found, wrong = check.checked(case, ARCH)
        assert not wrong, check.row(case, ARCH, found, wrong)


def test_kernels_of_halves_compile_as_they_claim():
    from numbatensor.cuda import check

    cases = [c for c in check.row_cases() if c[0] in ("sum", "softmax", "layer_norm") and c[3] == "aligned"]
    cases = [c for c in cases if check.name_of(c[2]) == "bfloat16"]
    assert len(cases) == 12  # layer_norm has two kernels for each group: of weights of 16 bits, and of float32
    for case in cases:
        *_, found, wrong = check.checked(case, ARCH)
        assert not wrong, check.row(case, ARCH, found, wrong)


def test_kernels_of_other_ops_compile_as_they_claim():
    from numbatensor.cuda import check

    names = ["count", "adam_counted", "sort_tiles", "offsets"]
    cases = [c for c in check.OTHERS if c[0].__name__ in names]
    assert len(cases) >= 5
    for case in cases:
        *found, wrong = check.checked_other(*case, ARCH)
        assert not wrong, check.row(*found, wrong)


def test_narrow_vectors_are_not_split():
    from numbatensor.cuda import check

    for code in (0, 3):
        *_, found, wrong = check.checked(("add", 0, code, "vector"), "sm_80")
        assert not wrong and max(found["loads"]) == 128


def kernel_of(factor):
    @cuda.jit(device=True)
    def scaled(x):
        return x * float32(factor)

    @cuda.jit
    def scale(out, x):
        out[cuda.threadIdx.x] = scaled(x[cuda.threadIdx.x])

    return scale, (types.CPointer(float32),) * 2


def test_cubins_are_kept_by_what_they_depend_on(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.compiler, "FOLDER", tmp_path)
    before = dict(compiler.counts)
    code, name = compiler.cubin(*kernel_of(2.0), ARCH)
    assert name == "scale" and code[:4] == b"\x7fELF"
    assert compiler.cubin(*kernel_of(2.0), ARCH) == (code, name)
    assert compiler.counts == {"compiled": before["compiled"] + 1, "loaded": before["loaded"] + 1}
    others = [compiler.cubin(*kernel_of(3.0), ARCH), compiler.cubin(*kernel_of(2.0), "sm_80")]
    assert code not in [c for c, _ in others] and len(list(tmp_path.iterdir())) == 3
    next(tmp_path.glob("scale-sm_80*")).write_bytes(b"scale\0broken")
    mended, _ = compiler.cubin(*kernel_of(2.0), "sm_80")
    assert mended[:4] == b"\x7fELF" and compiler.counts["compiled"] == before["compiled"] + 4


SECOND = """
import pathlib, sys
from tests.test_cuda_compile import kernel_of, compiler, ARCH
compiler.compiler.FOLDER = pathlib.Path(sys.argv[1])
compiler.cubin(*kernel_of(2.0), ARCH)
print(compiler.counts)
"""


def test_a_second_process_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.compiler, "FOLDER", tmp_path)
    compiler.cubin(*kernel_of(2.0), ARCH)
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SECOND, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'compiled': 0, 'loaded': 1}"


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(compiler, "PACKAGES", ("numba-cuda", "not-there"))
    with pytest.raises(
        compiler.CompilerMissing, match=r'by not-there, which is not installed: pip install "numbatensor\[cuda\]"'
    ):
        compiler.toolchain.__wrapped__()
