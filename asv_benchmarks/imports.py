"""What a new process waits for."""

import subprocess
import sys


class Import:
    """Import, and the first backward, with a warm cache."""

    params = [
        "import numba",
        "import numbatensor",
        "import numbatensor as nt; a = nt.tensor([1.0], requires_grad=True); (a * a).sum().backward()",
    ]
    param_names = ["code"]

    def setup(self, code):
        self.time_process(code)

    def time_process(self, code):
        subprocess.run([sys.executable, "-c", code], check=True)
