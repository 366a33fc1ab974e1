"""What an op on a CUDA device costs the host: from Python, launch included, over a driver that does nothing (tests/fake_cuda.c).

``python asv_benchmarks/cuda_host.py`` builds that driver with gcc and prints microseconds an op, by the process's own time.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def build(folder):
    """The driver, as a library in a folder."""
    source = HERE.parent / "tests" / "fake_cuda.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", f"{folder}/libcuda.so.1", source], check=True)


def microseconds(function, count=20000, rounds=7):
    """The least time of a call."""
    for _ in range(1000):
        function()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(count):
            function()
        found.append((time.process_time() - start) / count * 1e6)
    return min(found)


def measure():
    """Microseconds of each case."""
    import numbatensor as nt

    x = nt.ones(1000, device="cuda")
    w = nt.ones(1000, device="cuda", requires_grad=True)
    m = nt.ones(40, 25, device="cuda")
    t = m.t()
    params = [nt.ones(1000, device="cuda", requires_grad=True) for _ in range(8)]
    for p in params:
        p.grad = nt.ones(1000, device="cuda")
    adam = nt.optim.Adam(params, capturable=True)
    cases = {
        "x + x": lambda: x + x,
        "x * 2.0": lambda: x * 2.0,
        "w * x, recorded": lambda: w * x,
        "w.sin(), recorded": lambda: w.sin(),
        "m + row, broadcast": lambda: m + m[0],
        "t * t, transposed": lambda: t * t,
        "x.add_(1.0)": lambda: x.add_(1.0),
        "empty": lambda: nt.empty(1000, device="cuda"),
        "w.grad of (w * x)": lambda: nt.autograd.grad(w * x, w, x),
        "Adam's step, of 8": adam.step,
    }
    return {name: microseconds(f) for name, f in cases.items()}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for name, cost in measure().items():
            print(f"{name:24} {cost:6.2f} us", flush=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            build(folder)
            subprocess.run(
                [sys.executable, __file__, "measure"], env=os.environ | {"LD_LIBRARY_PATH": folder}, check=True
            )
