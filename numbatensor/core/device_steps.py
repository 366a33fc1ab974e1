"""Steps of optimisers on CUDA devices: many parameters in one launch (`kernels_cuda/optimizers.py`).

Steps wait in a batch, one entry a parameter, until it is full, until one comes that does not go with it, or until the group ends. They go
together if kernel, device, dtype and settings are the same, and if none writes what another reads or writes.
"""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.device_random import in_type
from numbatensor.core.devices import parameter, start, use
from numbatensor.core.halves import computed
from numbatensor.core.memory import decref, incref
from numbatensor.core.records import launch_at, new_launch, tensor_at
from numbatensor.core.steps import ENTRIES, batch_at, step_at
from numbatensor.core.there import EACH, MOST, THREADS, kernel_there

COUNT = 4  # the number of the kernel that counts steps
SHARE = MOST - THREADS * EACH  # elements of an entry
NOWHERE = 0xFFFFFFFF  # a block that no launch reaches


@njit
def settings_of(arrays, counted):
    """How many settings a kernel has."""
    return 3 if arrays == 2 else 6 if arrays == 3 else 9 + counted


@njit
def counter_at(j):
    """The address of a step's counter, or 0."""
    return tensor_at(j.tensors[j.count]).data if j.counted else 0


@njit
def meets(b, e, j):
    """Whether a step and an entry touch the same memory, and one of them writes it. Both are contiguous."""
    if j.counted and tensor_at(b.tensors[e, b.count]).data == counter_at(j):
        return True
    nbytes, mine = b.sizes[e] * b.itemsize, j.numel * j.itemsize
    for k in range(j.count):
        for m in range(b.count):
            x, y = b.addresses[e, m], j.addresses[k]
            if (k != 1 or m != 1) and x < y + mine and y < x + nbytes:
                return True
    return False


@njit
def goes_with(b, j):
    """Whether a step can be launched with those that wait."""
    same = b.row == j.row and b.kernel == j.kernel and b.device == j.device and b.dtype == j.dtype
    if not same or b.entries == ENTRIES:
        return False
    for k in range(settings_of(j.count, j.counted)):
        if b.settings[k] != j.settings[k]:
            return False
    for e in range(b.entries):
        if meets(b, e, j):
            return False
    return True


@njit
def add_entry(b, j, done, n):
    """Let n elements of a step, from `done` on, wait."""
    e = b.entries
    if e == 0:
        b.row, b.kernel, b.count, b.device, b.dtype = j.row, j.kernel, j.count, j.device, j.dtype
        b.itemsize, b.counted, b.blocks = j.itemsize, j.counted, 0
        for k in range(settings_of(j.count, j.counted)):
            b.settings[k] = j.settings[k]
    for k in range(j.count + j.counted):
        b.tensors[e, k] = j.tensors[k]
        incref(j.tensors[k])
    for k in range(j.count):
        b.addresses[e, k] = j.addresses[k] + done * j.itemsize
    b.sizes[e], b.firsts[e], b.adds[e] = n, b.blocks, 0 if done else counter_at(j)
    b.blocks += (n + THREADS * EACH - 1) // (THREADS * EACH)
    b.entries = e + 1


@native
def step_there(context):
    """Let a step over contiguous arrays of a device wait in its batch."""
    j = step_at(context)
    b, done = batch_at(j.batch), 0
    for k in range(j.count + j.counted):
        use(j.tensors[k])
    if b.entries and not goes_with(b, j):
        send_steps_there(j.batch)
    while True:
        if b.entries == ENTRIES:
            send_steps_there(j.batch)
        n = min(SHARE, j.numel - done)
        add_entry(b, j, done, n)
        done += n
        if done >= j.numel:
            return 0


@native
def launch_steps(batch):
    """Launch what waits in a batch."""
    b, launch = batch_at(batch), new_launch()
    n = b.entries
    if b.counted:
        launch_at(launch).count = 0
        for e in range(ENTRIES):
            parameter(launch, b.adds[e] if e < n else 0)
        start(b.row, kernel_there(b.row, COUNT, 0, b.dtype), 1, 1, ENTRIES, 0, launch, b.device)
    if b.blocks == 0:
        return 0
    launch_at(launch).count = 0
    for k in range(ENTRIES * b.count):
        e = k // b.count
        parameter(launch, b.addresses[e, k - e * b.count] if e < n else 0)
    for e in range(ENTRIES):
        parameter(launch, b.sizes[e] if e < n else 0)
    for e in range(ENTRIES):
        parameter(launch, b.firsts[e] if e < n else NOWHERE)
    if b.counted:
        for e in range(ENTRIES):
            parameter(launch, tensor_at(b.tensors[e, b.count]).data if e < n else 0)
    for k in range(settings_of(b.count, b.counted)):
        parameter(launch, in_type(computed(b.dtype), b.settings[k]))
    return start(b.row, kernel_there(b.row, b.kernel, 0, b.dtype), b.blocks, 1, THREADS, 0, launch, b.device)


@native
def send_steps_there(batch):
    """Launch what waits in a batch, and let go of it."""
    b = batch_at(batch)
    failed = attempt(symbol("launch_steps"), batch) == -1
    n, held, b.entries = b.entries, b.count + b.counted, 0
    for e in range(n):
        for k in range(held):
            decref(b.tensors[e, k])
    if failed:
        fail()
    return 0


assert launch_steps  # reached through its symbol
