"""The checksum of a saved value whose memory NumPy arrays share: they write without our counting it.

It goes over the bytes as they lie in memory, so that a transposed matrix is one run, and costs a pass over them at a save and one at a use.
"""

from numba import njit

from kernels_cpu.checksum import SEED, mix, over_bytes
from numbatensor.core.compiler import call, native, symbol
from numbatensor.core.iterate import parallel
from numbatensor.core.memory import load, store
from numbatensor.core.python import LATE, gil_held, late, restore_thread, save_thread
from numbatensor.core.records import new_frame, saved_at, storage_at
from numbatensor.core.regions import describe, new_region

CHECKSUM = LATE.index("checksum")
PARTS, LARGE = 16, 1 << 20  # a run of so many bytes is cut into so many parts, whatever the number of threads


@native
def part_of_run(context, k):
    """Put the checksum of one part of a run in its place."""
    start, size = load(context), load(context + 8)
    low, high = size * k // PARTS & -8, size if k == PARTS - 1 else size * (k + 1) // PARTS & -8
    store(context + 16 + 8 * k, over_bytes(SEED, start + low, high - low))
    return 0


@native
def over_run(h, address, size):
    """The checksum h after the bytes of a run; of a long one without the GIL."""
    if size < LARGE:
        return over_bytes(h, address, size)
    context = new_frame()
    store(context, address)
    store(context + 8, size)
    thread = save_thread() if gil_held() else 0
    parallel(symbol("part_of_run"), context, PARTS)
    if thread:
        restore_thread(thread)
    return over_bytes(h, context + 16, 8 * PARTS)


@njit
def over_region(region):
    """The checksum of the bytes of a region, whose dimensions ascend: runs, one after the other."""
    place, size, dims = load(region), load(region + 24), region + 24
    count, index = load(region + 16), new_region()
    for k in range(2, count):
        store(index + 8 * k, 0)
    n, step = (load(dims + 16), load(dims + 24)) if count > 1 else (1, 0)
    h = SEED
    while True:
        for i in range(n):
            h = over_run(h, place + i * step, size)
        k = 2
        while k < count:
            place += load(dims + 16 * k + 8)
            i = load(index + 8 * k) + 1
            if i < load(dims + 16 * k):
                store(index + 8 * k, i)
                break
            store(index + 8 * k, 0)
            place -= i * load(dims + 16 * k + 8)
            k += 1
        if k >= count:
            return h


@native
def checksum(saved):
    """The checksum of what a saved value shows; never 0, which stands for none.

    A changed element is noticed for certain, bit by bit (so the sign of a zero counts, and what a NaN carries); several of them but for
    a chance of 2**-64, in whatever pattern. See `kernels_cpu/checksum.py`.
    """
    region = new_region()
    describe(region, saved_at(saved))
    h = over_region(region) if load(region + 16) else 0
    return h if h else mix(SEED, 1)


@njit
def checksum_where_shared(saved):
    """The checksum of a saved value whose memory arrays share now, else 0."""
    return call(late(CHECKSUM), saved) if storage_at(saved_at(saved).storage).aliases else 0


@njit
def alias_wrote(saved):
    """Whether an array has changed a saved value: one that shared its memory when it was saved, or later beside such a one."""
    s = saved_at(saved)
    return s.checksum != 0 and call(late(CHECKSUM), saved) != s.checksum
