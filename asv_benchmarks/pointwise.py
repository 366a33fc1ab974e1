"""Timings of the cases called `pointwise`, for us and for PyTorch where it is installed."""

from cases import CASES, LIBRARIES, load


class Time:
    """One case for one library; building it is not timed."""

    param_names = ["case", "library"]
    params = [[name for name in CASES if name.startswith("pointwise.")], LIBRARIES]

    def setup(self, case, library):
        made, _, threads = CASES[case]
        nt, functional = load(library)
        nt.set_num_threads(threads)
        self.run = made(nt, functional)
        self.run()

    def time_case(self, case, library):
        self.run()
