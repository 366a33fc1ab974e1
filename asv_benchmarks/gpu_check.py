"""What can only be checked on a machine with a GPU (`make gpu-check`): tests on the device, runs under compute-sanitizer, and speed.

Speed is ours, PyTorch's (eager, compiled, as CUDA graphs) and CuPy's, where they are installed, taken in turns in one process. Writes
docs/gpu.md, or another file that is named, anew after each piece: what was found is there whatever happens next. A piece that fails, or for
which there is no time, is a line that says so. `--quick` takes a minute or two, the whole fits in ten.
"""

import argparse
import datetime
import gc
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from asv_benchmarks import gpu_cases, gpu_timing  # noqa: E402

PACKAGES = ("numba", "numpy", "numba-cuda", "cuda-bindings", "torch", "triton", "cupy-cuda13x", "cupy")
TESTS = ["ops", "rows", "index", "optimizers", "devices"]
SHORT = """
import numbatensor as nt
x = nt.rand(1000, device="cuda", requires_grad=True)
m = nt.rand(30, 50, device="cuda", requires_grad=True)
losses = [(x * 2).sin().sum(), (m.t() @ m).sum(), m.softmax(1)[0].sum(), (x.view(10, 100) * x.view(10, 100)[0]).sum(), m.cumsum(1).sum()]
losses += [nt.nn.functional.layer_norm(m, (50,)).sum(0)[0], m[nt.tensor([1, 1, 2]).to("cuda")].sum(), nt.cat([m, m]).sort(1)[0].std()]
for y in losses:
    y.backward()
for make in (nt.optim.SGD, lambda p: nt.optim.Adam(p, capturable=True)):
    make([x, m]).step()
nt.cuda.synchronize()
"""
HEAD = (
    "| case | microseconds | rate | of the copy's | torch's time over ours | compiled | graph | CuPy | target | met |"
)
COPY, AS_TORCH = 0.90, {"memory": 1.0, "product": 0.97, "host": 1.0, "training": 1.0}
CAPTURED = 1.5


def run(command, seconds, **variables):
    """Run a command; its exit status and what it printed, or None and why it did not end.

    What it has started ends with it: workers of pytest that went on would share the device with what is timed next.
    """
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, start_new_session=True, **output) as process:
        try:
            said, _ = process.communicate(timeout=max(seconds, 1))
            return process.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return None, f"{said}\nended after {seconds:.0f} s, which is all the time it had"


def last_line(text):
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip("= ") if lines else "nothing was printed"


def suite(options, left):
    """The tests of devices, on this machine's: by files, and the last line that pytest printed."""
    files = [f"tests/test_cuda_{name}.py" for name in (TESTS[:1] if options.quick else TESTS)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=50", *files]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(min(8, os.cpu_count() or 1)), "--dist", "worksteal"]
    status, text = run(command, min(left, 240), NUMBATENSOR_GPU="1")
    log(options, "suite", text)
    return f"{last_line(text)}{'' if status == 0 else ' **FAILED**'} ({', '.join(files)})"


def sanitizer(tool, options, left):
    """What a tool of compute-sanitizer's says of a short run."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "compute-sanitizer is not installed"
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SHORT]
    status, text = run(command, min(left, 60))
    log(options, tool, text)
    said = [line for line in text.splitlines() if "SUMMARY" in line or "not supported" in line]
    return f"{(said or [last_line(text)])[-1].strip('= ')}{'' if status == 0 else ' **FAILED**'}"


def log(options, name, text):
    """Keep all that a piece printed."""
    options.logs.mkdir(parents=True, exist_ok=True)
    (options.logs / f"gpu_{name}.log").write_text(text)
    print(f"--- {name}\n{text[-3000:]}", flush=True)


def find_libraries():
    """The libraries that are installed, by name; and why others cannot be used."""
    import numbatensor

    libraries, missing = {"numbatensor": gpu_cases.Library(numbatensor)}, {}
    for name in ("torch", "cupy"):
        try:
            libraries[name] = gpu_cases.Library(importlib.import_module(name))
            waiter(libraries[name])()
        except Exception as error:  # not there, or made for another driver
            libraries.pop(name, None)
            missing[name] = gpu_timing.first_line(error)
    return libraries, missing


def waiter(library):
    """What waits for a library's work."""
    found = library.module.cuda
    return found.synchronize if hasattr(found, "synchronize") else found.Device().synchronize


def owner(contender):
    """The library of a contender."""
    return {"compiled": "torch", "graph": "torch", "captured": "numbatensor"}.get(contender, contender)


def rows(case, times, failed, copy):
    """Lines of the table for a case. `copy`: bytes a second of the fastest copy, or None."""
    if case.kind == "training":
        yield row(case, case.name, times, failed, copy, "numbatensor", AS_TORCH["training"])
        yield row(case, f"{case.name}, captured", times, failed, copy, "captured", CAPTURED)
    else:
        yield row(case, case.name, times, failed, copy, "numbatensor", AS_TORCH.get(case.kind))


def row(case, name, times, failed, copy, mine, target):
    if mine not in times:
        return f"| {name} | failed: {failed.get(mine, 'it was not built')} |" + " |" * 8
    ours, rate, fraction, wanted, met = times[mine], "", None, [], []
    if case.work:
        rate = (
            f"{case.work / ours / 1e12:.1f} TFLOP/s" if case.kind == "product" else f"{case.work / ours / 1e9:.0f} GB/s"
        )
    if case.kind in ("memory", "chain") and copy:
        fraction = case.work / ours / copy
    if case.kind == "memory":
        wanted.append(f"{COPY:.2f} of the copy")
        met.append(fraction is not None and fraction >= COPY)
    ratios = {other: times[other] / ours for other in ("torch", "compiled", "graph", "cupy") if other in times}
    if target:
        wanted.append(f"{target:.2f} of torch")
        met.append(round(ratios["torch"], 2) >= target if "torch" in ratios else None)
    answer = "" if not met or None in met else "yes" if all(met) else "**no**"
    if None in met and False in met:
        answer = "**no**"
    shown = [
        f"{ratios[o]:.2f}" if o in ratios else failed.get(o, "")[:60] for o in ("torch", "compiled", "graph", "cupy")
    ]
    part = f"{fraction:.2f}" if fraction else ""
    return f"| {name} | {ours * 1e6:.1f} | {rate} | {part} | {' | '.join(shown)} | {', '.join(wanted)} | {answer} |"


def benchmarks(sizes, libraries, left, rounds=7, phase=0.02, quick=False):
    """Rows of the table, as they are found. `left`: a function that gives the seconds that are left."""
    gc.freeze()  # what is here already need not be searched after each case
    waits, copy = {name: waiter(library) for name, library in libraries.items()}, None
    for case in gpu_cases.all_cases(sizes, libraries):
        builders = {n: b for n, b in case.contenders.items() if not (quick and n == "compiled")}
        if left() < 15:
            yield f"| {case.name} | left out: no time |" + " |" * 8
            continue
        synchronize = {name: waits[owner(name)] for name in builders}
        times, failed = gpu_timing.compare(builders, synchronize, case.kind == "host", rounds, phase)
        if case.name == "copy" and times:
            copy = case.work / min(times.values())
        for library in libraries.values():
            getattr(library.module, "set_float32_matmul_precision", lambda wanted: None)("highest")
        yield from rows(case, times, failed, copy)
        del builders, case
        gc.collect()


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def described(nt):
    """Date, card and versions."""
    card = nt.cuda.get_device_properties()
    packages = ", ".join(f"{p} {version(p)}" for p in PACKAGES if version(p))
    status, commit = run(["git", "rev-parse", "--short", "HEAD"], 10) if shutil.which("git") else (1, "")
    where = f", commit {commit.strip()}" if status == 0 else ""
    driver = getattr(nt.cuda.runtime.backend, "ask", None)
    of_driver = f", driver of CUDA {driver('cuDriverGetVersion') / 1000:.1f}" if driver else ""
    return (
        f"{datetime.date.today()}, {card.name} (sm_{card.major}{card.minor}, {card.multi_processor_count} multiprocessors, "
        f"{card.total_memory / 2**30:.0f} GiB){of_driver}; Python {platform.python_version()}, {packages}{where}."
    )


def report(options, nt):
    """Do all that is asked for, and write the file after each piece."""
    start, lines = time.monotonic(), ["# On a GPU", "", described(nt), "Made by `make gpu-check`.", ""]
    left = lambda: options.seconds - (time.monotonic() - start)

    def say(line):
        lines.append(line)
        print(line, flush=True)
        options.file.parent.mkdir(parents=True, exist_ok=True)
        options.file.write_text("\n".join(lines) + "\n")

    if not options.no_suite:
        say(f"- tests, on the device against the CPU: {suite(options, left() - 150)}")
        for tool in ("memcheck",) if options.quick else ("memcheck", "racecheck"):
            say(f"- compute-sanitizer, {tool}: {sanitizer(tool, options, left() - 120)}")
    libraries, missing = find_libraries()
    for name, why in missing.items():
        say(f"- {name} cannot be used: {why}")
    say("")
    say(
        "Times are medians of turns in one process; ratios above 1 say that we are faster. The copy is the fastest of the libraries'."
    )
    say("")
    say(HEAD)
    say("|---" * HEAD.count(" | ") + "|---|")
    for line in benchmarks(options.sizes, libraries, left, options.rounds, options.phase, options.quick):
        say(line)
    say("")
    say(f"It took {time.monotonic() - start:.0f} s.")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=pathlib.Path, default=ROOT / "docs" / "gpu.md")
    parser.add_argument("--elements", type=int, default=100_000_000)
    parser.add_argument("--seconds", type=float, default=540, help="what does not fit is left out")
    parser.add_argument("--logs", type=pathlib.Path, default=ROOT / "build", help="where to keep what pieces print")
    parser.add_argument(
        "--quick", action="store_true", help="one file of tests, fewer turns, nothing compiled by PyTorch"
    )
    parser.add_argument("--no-suite", action="store_true", help="speed alone")
    options = parser.parse_args(arguments)
    options.sizes = gpu_cases.Sizes(elements=options.elements)
    options.rounds, options.phase = (3, 0.01) if options.quick else (7, 0.02)
    import numbatensor as nt

    if nt.cuda.why_not():
        sys.exit(f"make gpu-check needs a GPU: {nt.cuda.why_not()}")
    report(options, nt)


if __name__ == "__main__":
    main()
