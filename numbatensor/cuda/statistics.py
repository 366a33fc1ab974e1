"""What devices are, and what memory they have."""

from numbatensor.core.devices import driver
from numbatensor.cuda import runtime
from numbatensor.cuda.runtime import number
from numbatensor.cuda.streams import wait_for_all


def get_device_properties(device=None):
    """Name, compute capability (`major`, `minor`), `total_memory` in bytes and `multi_processor_count` of a device."""
    return runtime.backend.properties(number(device) - 1) if runtime.find_backend() else None


def get_device_name(device=None):
    """The name of a device."""
    return get_device_properties(device).name


def get_device_capability(device=None):
    """The compute capability of a device: (9, 0)."""
    found = get_device_properties(device)
    return found.major, found.minor


def memory_allocated(device=None):
    """Bytes that tensors take on a device now."""
    return int(driver[0]["live"][number(device)])


def max_memory_allocated(device=None):
    """The most bytes that tensors have taken on a device at once."""
    return int(driver[0]["peak"][number(device)])


def reset_peak_memory_stats(device=None):
    """Let :func:`max_memory_allocated` begin anew."""
    k = number(device)
    driver[0]["peak"][k] = driver[0]["live"][k]


def memory_reserved(device=None):
    """Bytes that the pool has got from a device: what tensors take, and what waits for the next ones."""
    return runtime.find_backend().reserved(number(device) - 1)


def empty_cache():
    """Give memory of the pools that no tensor takes back to the devices."""
    for k in opened():
        wait_for_all(k + 1)
        runtime.backend.trim(k)


def opened():
    """The numbers of the devices that are in use."""
    count = len(runtime.backend.units) if runtime.backend else 0
    return [k for k in range(count) if driver[0]["contexts"][k + 1]]


def memory_lines():
    """A line for each device that is in use."""
    for k in opened():
        numbers = memory_allocated(k), max_memory_allocated(k), memory_reserved(k)
        yield "cuda:{:<5} {:>16,} peak {:>16,} reserved {:>16,}".format(k, *numbers)


def memory_summary(device=None):
    """The same numbers as text, of one device or all that are in use."""
    wanted = None if device is None else f"cuda:{number(device) - 1}"
    return "\n".join(line for line in memory_lines() if wanted is None or line.split()[0] == wanted)
