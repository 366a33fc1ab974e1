"""What can only be checked on a machine with a GPU (`make gpu-check`): the op suite on the device, a run under compute-sanitizer, speed.

Benchmarks run ours, PyTorch and CuPy, where they are installed, in one process, by events of the device. Writes docs/gpu.md, or another
file that is named.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SHORT = """
import numbatensor as nt
x = nt.rand(1000, device="cuda", requires_grad=True)
m = nt.rand(30, 50, device="cuda")
for y in ((x * 2).sin().sum(), (m.t() @ m).sum(), m.softmax(1).sum(), (x.view(10, 100) * x.view(10, 100)[0]).sum()):
    if y.requires_grad:
        y.backward()
nt.cuda.synchronize()
"""


def suite():
    """The op suite on the device against the CPU; the last line of the report."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_cuda_ops.py"]
    found = subprocess.run(command, cwd=ROOT, env=os.environ | {"NUMBATENSOR_GPU": "1"}, capture_output=True, text=True)
    print(found.stdout[-4000:])
    return found.stdout.strip().splitlines()[-1]


def sanitizer():
    """What compute-sanitizer says of a short run."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer is not installed"
    found = subprocess.run([tool, sys.executable, "-c", SHORT], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip().splitlines()[-1]


def cases(library, n):
    """Name, function and bytes moved (0: it is the host that counts) of each benchmark, for a library under PyTorch's names."""
    x, y = (library.rand(n, device="cuda") for _ in range(2))
    rows = library.rand(n // 1024, 1024, device="cuda")
    small = library.rand(1000, device="cuda", requires_grad=True)
    a = library.rand(4096, 4096, device="cuda")
    return [
        ("copy", lambda: x.clone(), 8 * n),
        ("x + y", lambda: x + y, 12 * n),
        ("exp", lambda: x.exp(), 8 * n),
        ("maximum", lambda: library.maximum(x, y), 12 * n),
        ("sum", lambda: x.sum(), 4 * n),
        ("sum of rows", lambda: rows.sum(1), 4 * n),
        ("softmax of rows", lambda: rows.softmax(1), 8 * n),
        ("transpose", lambda: rows.t().contiguous(), 8 * n),
        ("matmul 4096", lambda: a @ a, 0),
        ("recorded mul of 1000", lambda: small * 2.0, 0),
    ]


class CuPy:
    """CuPy under PyTorch's names, as far as it goes."""

    def __init__(self):
        import cupy

        self.library, self.maximum = cupy, cupy.maximum

    def rand(self, *shape, device, requires_grad=False):
        return self.library.random.rand(*shape).astype("float32")


def seconds(function, synchronize, count=20, rounds=7):
    """Median time of a call, with the device's work."""
    function()
    synchronize()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            function()
        synchronize()
        found.append((time.perf_counter() - start) / count)
    return statistics.median(found)


def benchmarks(n):
    """Rows of the table: a case, our microseconds, gigabytes a second, and the others' times over ours."""
    import numbatensor as nt

    libraries = {"numbatensor": (nt, nt.cuda.synchronize)}
    if importlib.util.find_spec("torch"):
        import torch

        libraries["torch"] = (torch, torch.cuda.synchronize)
    if importlib.util.find_spec("cupy"):
        made = CuPy()
        libraries["cupy"] = (made, made.library.cuda.Device().synchronize)
    built = {name: cases(library, n) for name, (library, _) in libraries.items()}
    for k, (case, _, moved) in enumerate(built["numbatensor"]):
        times = {}
        for name, (_, synchronize) in libraries.items():
            try:
                times[name] = seconds(built[name][k][1], synchronize)
            except AttributeError:
                continue  # CuPy has no such method
        ours = times.pop("numbatensor")
        rate = f"{moved / ours / 1e9:.0f}" if moved else ""
        others = " | ".join(f"{times[name] / ours:.2f}" if name in times else "" for name in ("torch", "cupy"))
        line = f"| {case} | {ours * 1e6:.1f} | {rate} | {others} |"
        print(line, flush=True)
        yield line


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=pathlib.Path, default=ROOT / "docs" / "gpu.md")
    parser.add_argument("--elements", type=int, default=100_000_000)
    parser.add_argument("--no-suite", action="store_true", help="leave the op suite out")
    options = parser.parse_args()
    import numbatensor as nt

    if nt.cuda.why_not():
        sys.exit(f"make gpu-check needs a GPU: {nt.cuda.why_not()}")
    card = nt.cuda.get_device_properties()
    packages = ", ".join(f"{p} {version(p)}" for p in ("numba", "numba-cuda", "cuda-bindings", "torch", "cupy"))
    lines = [
        "# On a GPU",
        "",
        f"{datetime.date.today()}, {card.name} (sm_{card.major}{card.minor}, {card.multi_processor_count} multiprocessors), {packages}.",
        "Made by `make gpu-check`.",
        "",
    ]
    if not options.no_suite:
        lines += [f"- op suite, device against CPU: {suite()}", f"- compute-sanitizer: {sanitizer()}", ""]
    lines += ["| case | microseconds | GB/s | torch's time over ours | CuPy's |", "|---|---|---|---|---|"]
    lines += benchmarks(options.elements)
    options.file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
