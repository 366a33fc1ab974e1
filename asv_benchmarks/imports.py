"""What a new process waits for: import, the first backward, and one more kernel that no cache has."""

import os
import statistics
import subprocess
import sys
import tempfile

BEFORE = "import time, numba; start = time.perf_counter(); "
AFTER = "; print(time.perf_counter() - start)"
# name: (code, most seconds)
WAITS = {
    "imports.over_numba": (BEFORE + "import numbatensor" + AFTER, 0.3),
    "imports.first_backward": (
        "import time, numbatensor as nt; start = time.perf_counter(); "
        "a, b = nt.ones(3, requires_grad=True), nt.ones(3); (a * b).sum().backward()" + AFTER,
        0.15,
    ),
}
# float64 sinh after float32 add: the library is compiled, this kernel is not
ONE_MORE = (
    "import time, numbatensor as nt; nt.ones(3) + 1.0; x = nt.ones(3, dtype=nt.float64); "
    "start = time.perf_counter(); x.sinh()" + AFTER,
    0.15,
)


def seconds(code, **environment):
    """What a new process prints, running the code."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def wait(name, repeats=5):
    """Median seconds of a wait, after one run that fills the cache."""
    seconds(WAITS[name][0])
    return statistics.median(seconds(WAITS[name][0]) for _ in range(repeats))


def wait_for_one_more():
    """Seconds for one more kernel, with an empty cache folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(ONE_MORE[0], NUMBATENSOR_CACHE_DIR=folder)


class Imports:
    """Seconds that a new process waits, cache warm."""

    params = list(WAITS)
    param_names = ["wait"]
    unit = "s"
    timeout = 300

    def track_wait(self, name):
        return wait(name)


class OneMore:
    """Seconds to compile one more kernel, cache cold."""

    unit = "s"
    timeout = 300

    def track_compile(self):
        return wait_for_one_more()
