"""How `gpu_check.py` times: contenders take turns in short phases, in one process, and medians are kept."""

import statistics
import time


def first_line(error):
    """What an error says, in one line that a table can hold."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return text.replace("|", "/")[:160]


def prepare(builders, synchronize):
    """The functions that can run, each having run; of the others, why they cannot."""
    runs, failed = {}, {}
    for name, build in builders.items():
        try:
            run = build()
            run()
            synchronize[name]()
            runs[name] = run
        except Exception as error:  # whatever is wrong with one contender, the others are timed
            failed[name] = first_line(error)
    return runs, failed


def timed(run, count, wait):
    """Seconds of a call, with the device's work."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    wait()
    return (time.perf_counter() - start) / count


def timed_host(run, count, wait):
    """Seconds of a call for the host alone: the device is waited for before and after, and has room for what is launched meanwhile."""
    wait()
    start = time.perf_counter()
    for _ in range(count):
        run()
    found = (time.perf_counter() - start) / count
    wait()
    return found


HOST_CALLS = 300  # a device takes about a thousand launches before the host waits


def compare(builders, synchronize, host=False, rounds=7, phase=0.02):
    """Median seconds of a call of each contender; of those that fail, why.

    Parameters
    ----------
    builders : dict
        By contender, a function that builds what is timed.
    synchronize : dict
        By contender, what waits for the device.
    host : bool
        Whether the host's time is meant, not the device's.
    rounds : int
        How often contenders take turns.
    phase : float
        About how many seconds a contender's turn takes.
    """
    runs, failed = prepare(builders, synchronize)
    clock, counts, found = timed_host if host else timed, {}, {name: [] for name in runs}
    for name, run in runs.items():
        once = timed(run, 1, synchronize[name])
        counts[name] = HOST_CALLS if host else max(1, min(2000, int(phase / max(once, 1e-7))))
    for k in range(rounds):
        for name in sorted(runs, reverse=k % 2 == 1):
            try:
                found[name].append(clock(runs[name], counts[name], synchronize[name]))
            except Exception as error:
                failed[name] = first_line(error)
    return {name: statistics.median(t) for name, t in found.items() if t and name not in failed}, failed
