"""Timings of the cases called `compiled`, for us and for the peers that are installed; and what a second thread is worth."""

import time

from asv_benchmarks.cases import build, suite

Time = suite("compiled")


class Track:
    """The time of two models trained in two threads over that of one after the other: 0.5 where they do not disturb each other."""

    def track_two_threads(self):
        in_turn, in_threads = (build(f"compiled.two_models_in_{way}", "numbatensor") for way in ("turn", "threads"))
        found = []
        for _ in range(9):
            times = []
            for run in (in_threads, in_turn):
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
            found.append(times[0] / times[1])
        return sorted(found)[len(found) // 2]
