"""Our time over that of PyTorch and NumPy, case by case in one process.

The libraries take turns in short phases, each after a rest in which the others' threads fall asleep: PyTorch's OpenMP pool
spins after its work. A ratio is the median over the rounds of the ratios within a round, so that what slows a whole round,
such as another program, slows both sides of it. Where the middle half of the rounds spreads by more than 30 % of the ratio,
the line says `noisy`: measure again on a quiet machine.

Parallel work waits for its last thread: with another program on one of the cores, two-thread figures mean little, and
`--threads 1` compares all the same.

    python -m asv_benchmarks.ratios [--quick] [--threads N] [--json FILE] [part of a name ...]
"""

import argparse
import json
import os
import pathlib
import statistics
import time

from asv_benchmarks import imports
from asv_benchmarks.cases import CASES, LIBRARIES

PHASE, REST = 0.02, 0.01  # seconds
ALLOWED = 1.1  # a tenth for noise
NOISY = 0.3


def rounds_of(case, rounds):
    """Seconds of a call in each round, for each library that has the operation."""
    runs = {name: run for name in LIBRARIES if (run := case.build(name))}
    repeats, found = {}, {name: [] for name in runs}
    for name, run in runs.items():
        run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, min(5000, int(PHASE / max(time.perf_counter() - start, 1e-7))))
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(REST)
            run()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            found[name].append((time.perf_counter() - start) / repeats[name])
    return found


def compare(found, peer):
    """Median ratio of our time to a peer's, and the spread of its middle half."""
    ratios = [ours / theirs for ours, theirs in zip(found["numbatensor"], found[peer], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, high - low


def report(name, case, rounds):
    """Measure a case, print its line, and return its figures."""
    found = rounds_of(case, rounds)
    figures = {library: statistics.median(times) for library, times in found.items()}
    line = f"{name:30} {figures['numbatensor'] * 1e6:11.2f} us"
    for peer in LIBRARIES[1:]:
        if peer not in found:
            line += " " * 32
            continue
        ratio, spread = compare(found, peer)
        figures[f"ratio to {peer}"], figures[f"spread to {peer}"] = ratio, spread
        line += f"   {peer:5} {figures[peer] * 1e6:11.2f} us {ratio:7.2f}"
    if "torch" in found and case.most is not None:
        ratio, spread = figures["ratio to torch"], figures["spread to torch"]
        figures["at most"], figures["met"] = case.most, ratio <= case.most * ALLOWED
        line += f"   at most {case.most:4.2f}{'' if figures['met'] else ' MISSED'}"
        line += " noisy" if spread > NOISY * ratio else ""
    print(line.rstrip(), flush=True)
    return figures


def report_wait(name, seconds, most):
    """Print the line of something a new process waits for, and return its figures."""
    met = seconds <= most * ALLOWED
    print(f"{name:30} {seconds:11.3f} s    at most {most:4.2f} s{'' if met else ' MISSED'}", flush=True)
    return {"numbatensor": seconds, "at most": most, "met": met}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of the cases to run; all without")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and without the largest sizes")
    parser.add_argument(
        "--threads", type=int, help="threads of ours and PyTorch's; each case has its own number without"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures to a file")
    options = parser.parse_args()

    def chosen(name):
        return not options.names or any(part in name for part in options.names)

    if os.getloadavg()[0] > 0.7:
        print(f"the machine is busy (load {os.getloadavg()[0]:.1f}): expect noise, or use --threads 1")
    figures = {}
    for name, (_, most) in imports.WAITS.items():
        if chosen(name):
            figures[name] = report_wait(name, imports.wait(name, 3 if options.quick else 5), most)
    if chosen("imports.one_more_kernel") and not options.quick:
        figures["imports.one_more_kernel"] = report_wait(
            "imports.one_more_kernel", imports.wait_for_one_more(), imports.ONE_MORE[1]
        )
    for name, case in CASES.items():
        if chosen(name) and (case.quick or not options.quick):
            case = case._replace(threads=options.threads or case.threads)
            figures[name] = report(name, case, 5 if options.quick else 11)
    missed = [name for name, found in figures.items() if not found.get("met", True)]
    print(f"{len(figures)} cases, {len(missed)} over their aim (a tenth allowed for noise)")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
