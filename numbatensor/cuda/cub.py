"""CUB, NVIDIA's library of parallel algorithms, sorts long rows where the package `cuda-cccl` is installed.

Its radix sort is compiled for a kind of device when the library is asked for, which takes some ten seconds, and is kept with our own kernels on the disk:
later processes load it in a moment. The core (`core/device_sort.py`) gives it the ranks of elements, 32 or 64 bits each, and their places.
"""

import ctypes
import threading

import numpy as np

from numbatensor.core import compiler, device_sort, python
from numbatensor.core.device_sort import NONE, USABLE, Row, sorters
from numbatensor.cuda import runtime
from numbatensor.op import BY_ADDRESS

AUTO, ALWAYS = "auto", "cub"
choice = AUTO  # of `backends.cuda.sort`: whether what is not on the disk yet is compiled
FOLDER = compiler.FOLDER  # where what was compiled is kept
lock = threading.RLock()
algorithms: dict = {}  # by device and width of ranks in bits: the algorithm, or why there is none


class Memory:
    """Memory of a device as the library takes it: an address, elements and their dtype."""

    def __init__(self, address, count, dtype):
        self.dtype, self.shape, self.nbytes = np.dtype(dtype), (count,), count * np.dtype(dtype).itemsize
        self.__cuda_array_interface__ = {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


class Stream:
    """A stream as the library takes it."""

    def __init__(self, handle):
        self.handle = handle

    def __cuda_stream__(self):
        return 0, self.handle


def arrays(row, rank):
    """What the library sorts, by the names of its arguments; `rank` is the dtype of ranks."""
    parts = zip(("ranks", "sorted_ranks", "places", "order"), (rank, rank, np.int64, np.int64), strict=True)
    given = [Memory(int(row[name]), int(row["count"]), dtype) for name, dtype in parts]
    return dict(zip(("d_in_keys", "d_out_keys", "d_in_values", "d_out_values"), given, strict=True))


def algorithm(bits, device):
    """The radix sort of ranks of so many bits, for a device: from the disk, or compiled if that was asked for."""
    library, version = runtime.backend.sort_library()
    major, minor = runtime.backend.capability(device - 1)
    path = None
    if FOLDER:
        key = compiler.digest(bits, version)
        path = FOLDER / f"cub_radix_sort-{bits}-sm_{major}{minor}-{key}.cub"
        found = compiler.contents(path)
        if found:
            return library.deserialize(found[1])
    if choice != ALWAYS:
        raise OSError('it is not compiled for this device yet: backends.cuda.sort.library = "cub" does that')
    some = arrays(np.ones(1, Row)[0], f"i{bits // 8}")
    made = library.make_radix_sort(**some, order=library.SortOrder.ASCENDING, compute_capability=10 * major + minor)
    code = library.serialize(made)
    if path:
        compiler.write(path, f"cub_radix_sort_{bits}", code)
    return library.deserialize(code)


def look(bits, device):
    """Whether the library sorts ranks of so many bits on a device: NONE or USABLE."""
    with lock:
        if (device, bits) not in algorithms:
            try:
                algorithms[device, bits] = algorithm(bits, device)
            except Exception as error:  # whatever a library of others fails with, our own kernels sort
                algorithms[device, bits] = str(error) or type(error).__name__
        known = NONE if isinstance(algorithms[device, bits], str) else USABLE
        sorters[0]["wide" if bits == 64 else "narrow"][device] = known
        return known


def choose(wanted):
    """Who sorts from now on: see `backends.cuda.sort`."""
    global choice
    with lock:
        choice = wanted
        algorithms.clear()
        sorters[0]["narrow"], sorters[0]["wide"] = 0, 0


def why_not(device=None):
    """Why a device has no library, in one line; None where it has."""
    lacking = lambda k: next((algorithms[k, bits] for bits in (32, 64) if look(bits, k) == NONE), None)
    return runtime.why_not_there(device, lacking)


@python.callback
def ask_sorter(what, a, b, op):
    """What the core asks for: see `core/device_sort.py`."""
    if what == device_sort.LOOK:
        return look(64 if a else 32, b)
    # SIZE gives how many bytes of memory the library needs to SORT
    row = np.frombuffer((ctypes.c_char * Row.itemsize).from_address(a), Row)[0]
    rank = "i8" if row["wide"] else "i4"
    memory = Memory(int(row["memory"]), int(row["bytes"]), "u1") if what == device_sort.SORT else None
    with lock:  # the algorithm keeps what it was called with last
        sort = algorithms[int(row["device"]), 64 if row["wide"] else 32]
        try:
            stream = Stream(int(row["stream"]))
            wanted = sort(temp_storage=memory, **arrays(row, rank), num_items=int(row["count"]), stream=stream)
            return 0 if memory else wanted
        except RuntimeError as error:
            raise RuntimeError(f"CUB failed to compute {BY_ADDRESS[op].name}: {error}") from None
