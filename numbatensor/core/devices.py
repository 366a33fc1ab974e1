"""Memory of CUDA devices, and launches of kernels on them, through the driver's own C functions.

The driver is a table of addresses (`records.py: Driver`): libcuda's functions, or those of a stand-in, which runs kernels in the block
emulator. Nothing here needs Python. Work is ordered by streams: a call of ours comes back as soon as the device knows of the work.

Where new tensors are made is a word of the thread, `Local.device`, so that what ops are made of need not be told. It is the CPU's, 0,
whenever Python runs; an op whose arguments are on a device runs inside of :func:`on`.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbatensor.core.compiler import address, attempt, fail, i64, native, publish, symbol, word
from numbatensor.core.memory import atomic_add, atomic_or, load, local, store
from numbatensor.core.python import call_python, fetch_error, gil_held, restore_error, restore_thread, save_thread
from numbatensor.core.records import (
    GRAPH,
    LAST,
    STREAMS,
    USERS,
    Driver,
    Launch,
    Storage,
    driver_at,
    launch_at,
    local_at,
    on_stack,
    state_at,
    storage_at,
    tensor_at,
)

driver = np.zeros(1, Driver)
publish("driver", driver.ctypes.data)
OUT_OF_MEMORY = 2  # as the driver numbers it
new_word = on_stack(np.dtype([("word", "i8")]))
new_error = on_stack(np.dtype([("words", "i8", 3)]))
LIVE, ALLOCATIONS, LAUNCHED = (Driver.fields[name][1] for name in ("live", "allocations", "launched"))
STREAM = Storage.fields["stream"][1]
ADDRESSES, WORDS = (Launch.fields[name][1] for name in ("addresses", "words"))

# What only devices need is loaded when one is first used, and reached through these slots.
THERE = (
    "new_storage_there",
    "free_there",
    "fill_bytes",
    "copy_between",
    "fill_there",
    "launch_there",
    "run_there",
    "perform_on",
    "run_kernel_rule_there",
    "add_each_there",
    "move_there",
    "along_there",
    "index_offsets_there",
    "move_indexed_there",
    "move_along_there",
    "random_fill_there",
    "step_there",
    "triangle_there",
    "send_steps_there",
    "item_there",
    "permutation_there",
    "weights_faults_there",
    "multinomial_there",
)
there_slots = np.zeros(len(THERE), np.int64)
publish("there_slots", there_slots.ctypes.data)
(
    NEW_STORAGE,
    FREE,
    FILL_BYTES,
    COPY_BETWEEN,
    FILL_THERE,
    LAUNCH_THERE,
    RUN_THERE,
    PERFORM_ON,
    KERNEL_RULE,
    ADD_EACH,
    MOVE,
    ALONG,
    INDEX_OFFSETS,
    MOVE_INDEXED,
    MOVE_ALONG,
    RANDOM_FILL,
    STEP,
    TRIANGLE,
    SEND_STEPS,
    ITEM_THERE,
    PERMUTATION,
    WEIGHTS_FAULTS,
    MULTINOMIAL,
) = range(len(THERE))


@njit
def there(k):
    """The address of one of THERE."""
    return load(symbol("there_slots") + 8 * k)


def load_devices():
    """Load what devices need."""
    for k, name in enumerate(THERE):
        there_slots[k] = address(name)


# What the driver was asked for, where it failed: what `driver_failed` is told.
LAUNCH, ALLOCATE, COPY, FILL, SYNCHRONIZE, CONTEXT, FORKED, MIXED, STRAY, CAPTURED, ELSEWHERE = range(11)
MOVES, WAITS, DETOURS, FIRST_STEP, COUNTS, OTHER_STREAM = range(6)  # what cannot be captured


@intrinsic
def ask(typingctx, function, *args):
    """Call a C function by address with words for arguments; the int that it returns."""

    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(ir.IntType(32), [word] * len(args))
        function = builder.inttoptr(values[0], kind.as_pointer())
        return builder.sext(builder.call(function, cgutils.unpack_tuple(builder, values[1])), word)

    return i64(i64, types.UniTuple(i64, len(args))), codegen


@njit
def need_cpu(device):
    """Fail where elements are wanted that are not on the CPU."""
    if device:
        call_python("driver_failed", ELSEWHERE, device, 0)


@njit
def replace_device(device):
    """New tensors of this thread are made on a device from now on; where they were made before."""
    m = local_at(local())
    before = m.device
    m.device = device
    return before


@njit
def on(device, function, a, b, c):
    """The word that native code gives, its new tensors being made on a device; its failure becomes the caller's."""
    before = replace_device(device)
    made = attempt(function, a, b, c)
    replace_device(before)
    if made == -1:
        fail()
    return made


@native
def enter_context(device):
    """Make a device's context this thread's: other libraries may have made another one so, or none, since the last time."""
    d = driver_at(symbol("driver"))
    if d.forks != state_at(symbol("state")).forks:
        call_python("driver_failed", FORKED, 0, device)
    failed = ask(d.set_context, d.contexts[device])
    if failed:
        call_python("driver_failed", CONTEXT, failed, device)
    return 0


@njit
def stream_of(device):
    """The stream that this thread's work on a device goes to; its context is this thread's from now on."""
    enter_context(device)
    return driver_at(symbol("driver")).streams[device, local_at(local()).streams[device]]


@njit
def refuse_capture(what, op):
    """Fail while this thread's work is recorded in a graph, which cannot hold what comes now."""
    if local_at(local()).capture:
        call_python("driver_failed", CAPTURED, what, op)


@njit
def use(t):
    """Note that work of this thread's stream reads or writes a tensor: its memory is given back when that stream has passed too."""
    use_storage(tensor_at(t).storage)


@njit
def use_storage(storage):
    """The same, of a storage."""
    s, m = storage_at(storage), local_at(local())
    k = m.streams[s.device]
    if s.stream != k:
        if m.capture == 0:
            note_user(storage, k)
        elif s.stream % (1 << USERS) != GRAPH:  # the graph notes where it runs
            call_python("captured", storage, 0)


@native
def note_user(storage, k):
    """Note that a stream works with a storage."""
    found = storage_at(storage).stream
    if found % (1 << USERS) != k and found >> (USERS + k) & 1 == 0:
        atomic_or(storage + STREAM, 1 << (USERS + k))
    return 0


@native
def allocate_there(device, nbytes):
    """Address of memory of a device, in the order of this thread's stream; 0 where there is none."""
    if nbytes == 0:
        return 0
    stream, d, place = stream_of(device), driver_at(symbol("driver")), new_word()
    failed = ask(d.allocate, place, nbytes, d.pools[device], stream)
    if failed == OUT_OF_MEMORY:
        for k in range(GRAPH):  # waiting for that one would end a capture
            if d.streams[device, k]:
                ask(d.synchronize, d.streams[device, k])
        ask(d.trim, d.pools[device], 0)
        failed = ask(d.allocate, place, nbytes, d.pools[device], stream)
    if failed:
        call_python("driver_failed", ALLOCATE, failed, nbytes)
    d.allocations[device] += 1
    live = atomic_add(symbol("driver") + LIVE + 8 * device, nbytes) + nbytes
    if live > d.peak[device]:
        d.peak[device] = live
    return load(place)


@njit
def free_after(d, device, data, stream):
    """Give memory back in the order of its stream, which waits for those that have worked with it. The thread's context stays what it was."""
    owner, users, before = stream % (1 << USERS), stream >> USERS, new_word()
    store(before, 0)
    ask(d.get_context, before)
    ask(d.set_context, d.contexts[device])
    for k in range(STREAMS):
        if users >> k & 1:
            ask(d.record, d.events[device, k], d.streams[device, k])
            ask(d.wait, d.streams[device, owner], d.events[device, k], 0)
    ask(d.free, data, d.streams[device, owner])
    if load(before) != d.contexts[device]:
        ask(d.set_context, load(before))


@native
def free_there(device, data, nbytes, stream):
    """Give memory of a device back, once its streams have passed. After a fork it is the parent's. `stream`: the storage's."""
    d = driver_at(symbol("driver"))
    if data and d.forks == state_at(symbol("state")).forks:
        if gil_held():  # a stand-in's function is Python, which an error that is set would confuse
            here = new_error()
            fetch_error(here, here + 8, here + 16)
            free_after(d, device, data, stream)
            restore_error(load(here), load(here + 8), load(here + 16))
        else:
            free_after(d, device, data, stream)
        atomic_add(symbol("driver") + LIVE + 8 * device, -nbytes)
    return 0


@njit
def without_gil(function, *args):
    """Call a function of the driver that may wait; other threads of Python go on."""
    thread = save_thread() if gil_held() else 0
    failed = ask(function, *args)
    if thread:
        restore_thread(thread)
    return failed


@native
def copy_bytes(target, source, nbytes, device):
    """Copy bytes between the memories of the CPU and of devices, in the order of `device`'s stream."""
    if nbytes:
        stream = stream_of(device)
        failed = without_gil(driver_at(symbol("driver")).copy, target, source, nbytes, stream)
        if failed:
            call_python("driver_failed", COPY, failed, nbytes)
    return 0


@native
def fill_bytes(target, value, nbytes, device):
    """Set bytes of a device's memory."""
    if nbytes:
        stream = stream_of(device)
        failed = ask(driver_at(symbol("driver")).fill, target, value, nbytes, stream)
        if failed:
            call_python("driver_failed", FILL, failed, nbytes)
    return 0


@native
def synchronize(device):
    """Wait until this thread's stream of a device has no work left."""
    refuse_capture(WAITS, 0)
    stream = stream_of(device)
    failed = without_gil(driver_at(symbol("driver")).synchronize, stream)
    if failed:
        call_python("driver_failed", SYNCHRONIZE, failed, device)
    return 0


@njit
def parameter(launch, value):
    """Add a word to what a kernel is given."""
    g = launch_at(launch)
    place = launch + WORDS + 8 * g.count
    store(place, value)
    store(launch + ADDRESSES + 8 * g.count, place)
    g.count += 1


@njit
def parameters(launch, words):
    """Make words what a kernel is given, or the first of it."""
    launch_at(launch).count = 0
    for value in words:
        parameter(launch, value)


@native
def start(op, kernel, blocks, rows, threads, shared, launch, device):
    """Launch a kernel over blocks x rows blocks of so many threads. `op` names it where the driver fails."""
    stream, d = stream_of(device), driver_at(symbol("driver"))
    d.last[atomic_add(symbol("driver") + LAUNCHED, 1) % LAST] = op
    failed = ask(
        d.launch,
        kernel,
        blocks,
        rows,
        1,
        threads,
        1,
        1,
        shared,
        stream,
        launch + ADDRESSES,
        0,
    )
    if failed:
        call_python("driver_failed", LAUNCH, failed, op)
    return 0
