"""Our time over PyTorch's and NumPy's, for every case in one process: `python ratios.py [part of a name ...] [--json FILE]`.

The libraries take turns in short phases, each after a rest in which the other's threads fall asleep (PyTorch's OpenMP pool
spins after its work); the figures are medians over the rounds.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from asv_benchmarks.cases import CASES, LIBRARIES, build

ROUNDS, PHASE, REST = 7, 0.02, 0.01


def measure(case):
    """Median seconds of a call for each library."""
    runs, repeats, found = {}, {}, {}
    for name in LIBRARIES:
        run = build(case, name)
        if run is None:
            continue
        runs[name], found[name] = run, []
        run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, min(5000, int(PHASE / max(time.perf_counter() - start, 1e-7))))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            time.sleep(REST)
            run()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            found[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(times) for name, times in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of cases to run")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = {}
    for case, (_, target, _) in CASES.items():
        if options.names and not any(part in case for part in options.names):
            continue
        times = figures[case] = measure(case)
        ours = times["numbatensor"]
        line = f"{case:34} {ours * 1e6:12.2f} us"
        if "torch" in times:
            ratio = ours / times["torch"]
            line += f"   torch {times['torch'] * 1e6:12.2f} us   ratio {ratio:6.2f}   at most {target:4.2f}"
            line += "" if ratio <= target * 1.1 else "   MISSED"
        if "numpy" in times:
            line += f"   numpy {times['numpy'] * 1e6:12.2f} us   ratio {ours / times['numpy']:6.2f}"
        print(line, flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
