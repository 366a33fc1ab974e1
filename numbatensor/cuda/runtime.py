"""Opening devices: the driver that the core calls, the kernels that it launches, and the errors of both."""

import contextlib
import threading

from numbatensor import devices as names
from numbatensor.core import (
    device_index,
    device_ops,
    device_random,
    device_rows,
    device_sampling,
    device_steps,
    devices,
    python,
)
from numbatensor.core.device_entries import enter, wait_for
from numbatensor.core.devices import driver
from numbatensor.core.memory import state
from numbatensor.core.records import LAST
from numbatensor.cuda import kernels
from numbatensor.op import BY_ADDRESS, decoded

assert (
    device_index and device_ops and device_random and device_rows and device_sampling and device_steps
)  # what the core asks for by name
lock = threading.RLock()
backend = None  # what has been opened: the driver of a machine, or a stand-in


def open_backend(made):
    """Make a driver the core's.

    `made` has `functions`, a dict of addresses by their names in the driver's table; `units`, for each device how many multiprocessors it
    has; and the methods of `Cuda` in `driver.py`, of which `Standin` has all that Python asks for.
    """
    global backend
    devices.load_devices()
    table = driver[0]
    for name, place in made.functions.items():
        table[name] = place
    table["forks"] = state[0]["forks"]
    backend, kernels.load = made, made.load


def find_backend():
    """The driver, opened when it is first asked for."""
    with lock:
        if backend is None:
            from numbatensor.cuda.driver import Cuda  # needs the packages of the extra `cuda`

            open_backend(Cuda())
        return backend


def open_device(index):
    """The core's number for a CUDA device, once it has been opened. `index`: None for the current one."""
    k = current_device() if index is None else index
    if backend and 0 <= k < len(backend.units) and driver[0]["contexts"][k + 1]:
        return k + 1
    found = find_backend()
    if not 0 <= k < len(found.units):
        raise RuntimeError(f"there is no CUDA device {k}: there are {len(found.units)}")
    table = driver[0]
    with lock:
        if table["contexts"][k + 1] == 0:
            context, table["units"][k + 1] = found.context(k), found.units[k]
            table["pools"][k + 1], table["streams"][k + 1, 0] = found.pool(k), found.stream(k)
            table["events"][k + 1, 0] = found.new_event(k, False)
            table["contexts"][k + 1] = context
    return k + 1


def why_not():
    """What is missing for CUDA, in one line; None where nothing is."""
    try:
        found = find_backend()
    except (ImportError, RuntimeError, OSError) as error:
        return str(error)
    return None if found.units else "there is no CUDA device"


def is_available():
    """Whether there is a CUDA device that can be used."""
    return why_not() is None


def device_count():
    """How many CUDA devices there are."""
    return 0 if why_not() else len(backend.units)


class Chosen(threading.local):
    """What a thread has chosen; the class has what it did not, since a missing attribute of a thread's takes microseconds to find out."""

    device = 0


chosen = Chosen()


def current_device():
    """The number of the device that "cuda" means on this thread."""
    return chosen.device


names.current = current_device


def set_device(device):
    """Say which device "cuda" means on this thread from now on."""
    chosen.device = number(device) - 1


@contextlib.contextmanager
def device(index):
    """Let "cuda" mean a device, given by its number or otherwise, on this thread. A number below 0 and None change nothing."""
    before = current_device()
    if index is not None and index != -1:
        set_device(index)
    try:
        yield
    finally:
        chosen.device = before


def number(device):
    """The core's number of a device of any form; of the current one for None."""
    found = names.number_of("cuda" if device is None else device)
    if found == 0:
        raise ValueError(f"expected a CUDA device, not {device}")
    return found


def why_not_there(device, why):
    """Why a device cannot do something, in one line: as CUDA is missing, or as `why` says of its number; its context is this thread's then."""
    missing = why_not()
    if missing:
        return missing
    k = number(device)
    enter(k)
    return why(k)


def synchronize(device=None):
    """Wait until a device has done all that this thread's stream was given."""
    wait_for(number(device))


def emulate(devices=1, order="forward"):
    """Make devices of the block emulator the CUDA devices of this process: every kernel runs in Python, checked, and slowly.

    For tests of kernels and programs on machines that have no GPU. What the emulator reports of a kernel (a race, an access out of
    bounds, a divergent barrier) is raised by the op that launched it.

    Parameters
    ----------
    devices : int
        How many devices there are.
    order : str or int
        The order in which a block's threads take turns: "forward", "reverse", or a seed.
    """
    from numbatensor.cuda.standin import Standin  # needs greenlet

    with lock:
        if backend is None:
            open_backend(Standin(devices, order))
        elif isinstance(backend, Standin):
            backend.order, backend.units = order, backend.units + backend.units[:1] * (devices - len(backend.units))
        else:
            raise RuntimeError("a CUDA device is in use already")


ASYNCHRONOUS = {*range(700, 721)} - {
    704,
    705,
    708,
    709,
    711,
    712,
    713,
}  # errors of kernels, told by whatever call comes next
UNCAPTURED = (
    "a copy between the CPU and the device, as by item(), cpu(), print() or a comparison that Python reads",
    "waiting for the device",
    "{} has no code for devices, so the CPU would compute it",
    "an optimiser's first step, which makes what it remembers: take one step before you capture it",
    "the steps of Adam are counted on the CPU: make it Adam(capturable=True)",
    "work of another stream",
)


def last_ops():
    """The names of the ops that launched kernels last, the latest first."""
    n, ring = int(driver[0]["launched"]), driver[0]["last"].tolist()
    found = [ring[(n - 1 - k) % LAST] for k in range(min(n, LAST))]
    return dict.fromkeys(BY_ADDRESS[op].name if op in BY_ADDRESS else "copy" for op in found)


DEEDS = ("launch a kernel", "allocate memory", "copy", "fill memory", "wait", "use the device")


@python.callback
def driver_failed(what, code, extra):
    """Raise the error of a call of the driver's that failed."""
    if what == devices.FORKED:
        raise RuntimeError(
            "CUDA cannot be used in a process that was forked after it was opened; start processes by `spawn`"
        )
    if what == devices.CAPTURED:
        why = UNCAPTURED[code].format(BY_ADDRESS[extra].name if extra in BY_ADDRESS else "")
        raise RuntimeError(f"a CUDA graph cannot hold this: {why}")
    if what == devices.STRAY:
        wanted, found = (names.known.get(n) or names.device("cuda", n - 1) for n in (code, extra))
        raise RuntimeError(f"a gradient on {found} reached a tensor on {wanted}")
    if what == devices.ELSEWHERE:
        raise RuntimeError(
            f"the elements are on cuda:{code - 1}, where code of the CPU cannot reach them: bring the Tensor to the CPU first, by x.cpu()"
        )
    if what == devices.MIXED:
        values = decoded(BY_ADDRESS[code], extra) if extra else []
        found = dict.fromkeys(str(v.device) for v in values if isinstance(v, python.TensorBase))
        where = f": {', '.join(found)}" if found else ""
        raise RuntimeError(
            f"{BY_ADDRESS[code].name}: expected all tensors to be on the same device, but found at least two devices{where}"
        )
    cause = backend.failure()
    doing = DEEDS[what]
    if what == devices.LAUNCH and extra in BY_ADDRESS:
        doing = f"launch a kernel of {BY_ADDRESS[extra].name}"
    if what == devices.ALLOCATE and code == devices.OUT_OF_MEMORY:
        opened = [k for k in range(len(backend.units)) if driver[0]["contexts"][k + 1]]
        places = [
            f"on cuda:{k} tensors take {int(driver[0]['live'][k + 1]):,}, and the pool has {backend.reserved(k):,}"
            for k in opened
        ]
        raise MemoryError(
            f"CUDA out of memory: {extra:,} bytes were asked for; {'; '.join(places)}, after what was free in it went back "
            f"({cause or backend.message(code)})"
        ) from cause
    late = f" Launched last: {', '.join(last_ops())}." if code in ASYNCHRONOUS and not cause else ""
    raise RuntimeError(f"CUDA failed to {doing}: {cause or backend.message(code)}{late}") from cause
