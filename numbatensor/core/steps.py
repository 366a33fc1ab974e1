"""One parameter's step of an optimiser: a kernel over the parameter, its gradient and what is remembered, and a write counted."""

import numpy as np
from numba import types

from numbatensor.core.compiler import attempt, call, external, fail, native, publish, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.devices import SEND_STEPS, STEP, replace_device, there
from numbatensor.core.halves import computed
from numbatensor.core.iterate import PARALLEL, parallel
from numbatensor.core.memory import decref, incref
from numbatensor.core.modes import inference_bit
from numbatensor.core.packing import packed_as
from numbatensor.core.python import call_python
from numbatensor.core.records import at, on_stack, state_at, storage_at, tensor_at, words
from numbatensor.core.table import INFERENCE_WRITE, conversion
from numbatensor.core.tensors import itemsize_of, same_shape
from numbatensor.core.writes import bump, count

assert copy_into and packed_as  # reached through their symbols
ARRAYS, SETTINGS = 6, 10
ENTRIES = 32  # most parameters that one launch moves: see `kernels_cuda/optimizers.py`

# One parameter's step: its `count` tensors (parameter, gradient, what is remembered), where their elements are, and the settings. `row`,
# `code` and `place` name the writer; `cost`: of an element, an addition's being 1. On a device, `kernel` is the kernel's number, `batch`
# the address of the batch that the step goes to, and `counted` whether one tensor more holds the number of steps.
Step = np.dtype(
    words("row", "code", "place", "kernel", "count", "numel", "itemsize", "pieces", "cost", "device", "dtype")
    + words("counted", "batch")
    + [("tensors", "i8", ARRAYS), ("addresses", "i8", ARRAYS), ("settings", "f8", SETTINGS)]
)
step_at, new_step = at(Step), on_stack(Step)

# Steps of one device that wait for their launch: what they have in common, and the tensors of each entry, held, where their elements
# begin, how many there are, and the first block. `adds`: the address of the counter that the launch adds to, or 0.
Batch = np.dtype(
    words("row", "kernel", "count", "device", "dtype", "itemsize", "counted", "entries", "blocks")
    + [(name, "i8", (ENTRIES, ARRAYS)) for name in ("tensors", "addresses")]
    + [(name, "i8", ENTRIES) for name in ("sizes", "firsts", "adds")]
    + [("settings", "f8", SETTINGS)]
)
batch_at, new_batch = at(Batch), on_stack(Batch)
ADDRESSES, SETTINGS_AT = Step.fields["addresses"][1], Step.fields["settings"][1]

set_error = external("PyErr_SetObject", 2, types.none)
MISFIT = "the optimizer's state does not fit its parameter: it has another shape"
publish("misfit", id(MISFIT), MISFIT)
APART = "the optimizer's state, or the gradient, is on another device than its parameter"
publish("apart", id(APART), APART)
publish("runtime_error", id(RuntimeError))


@native
def share_of_step(context, i):
    """One thread's share of a step: a range of the elements, begun at a cache line."""
    j, mine = step_at(context), new_step()
    m = step_at(mine)
    low, high = (j.numel * i // j.pieces) & ~15, (j.numel * (i + 1) // j.pieces) & ~15
    if i == j.pieces - 1:
        high = j.numel
    for k in range(j.count):
        m.addresses[k] = j.addresses[k] + low * j.itemsize
    m.addresses[j.count] = context + SETTINGS_AT
    return call(j.kernel, mine + ADDRESSES, high - low)


@native
def step_packed(context, numel):
    """Run a step's kernel over contiguous arrays."""
    j = step_at(context)
    j.numel = numel
    if j.device:
        return call(there(STEP), context)
    threads = state_at(symbol("state")).threads
    if numel * j.cost < PARALLEL or threads < 2:
        j.addresses[j.count] = context + SETTINGS_AT
        return call(j.kernel, context + ADDRESSES, numel)
    j.pieces = threads
    return parallel(symbol("share_of_step"), context, threads)


@native
def send_batch(batch):
    """Launch the steps that wait."""
    return call(there(SEND_STEPS), batch) if batch_at(batch).entries else 0


@native
def step_strided(context):
    """Run a step over packed copies of its tensors, in the dtype that it computes in, and copy back what was written."""
    j = step_at(context)
    p = tensor_at(j.tensors[0])
    if j.device == 0:
        for k in range(j.count):
            conversion(tensor_at(j.tensors[k]).dtype, j.dtype)
    else:
        send_batch(j.batch)
    before = replace_device(j.device)
    made, failed = 0, False
    while made < j.count and not failed:
        packed = attempt(symbol("packed_as"), j.tensors[made], j.dtype)
        failed = packed == -1
        if not failed:
            j.addresses[made] = packed
            made += 1
    if not failed:
        run = new_step()
        r = step_at(run)
        r.kernel, r.count, r.cost, r.itemsize = j.kernel, j.count, j.cost, j.itemsize
        r.row, r.device, r.dtype, r.batch, r.counted = j.row, j.device, j.dtype, j.batch, j.counted
        for k in range(j.count):
            r.tensors[k], r.addresses[k] = j.addresses[k], tensor_at(j.addresses[k]).data
        if j.counted:
            r.tensors[j.count] = j.tensors[j.count]
        for k in range(SETTINGS):
            r.settings[k] = j.settings[k]
        failed = attempt(symbol("step_packed"), run, p.numel) == -1
        failed = failed or j.device != 0 and attempt(symbol("send_batch"), j.batch) == -1
    for k in range(made):
        if not failed and k != 1 and j.addresses[k] != j.tensors[k]:
            failed = attempt(symbol("copy_into"), j.tensors[k], j.addresses[k]) == -1
        decref(j.addresses[k])
    replace_device(before)
    if failed:
        fail()
    return 0


@native
def take_step(context):
    """One parameter's step: the kernel over its tensors, and a write counted."""
    j = step_at(context)
    t = j.tensors[0]
    p = tensor_at(t)
    dtype = p.dtype if p.device else computed(p.dtype)  # kernels of devices read and write 16 bits
    even = True
    for k in range(j.count):
        x = tensor_at(j.tensors[k])
        if not same_shape(p, x):
            set_error(symbol("runtime_error"), symbol("misfit"))
            fail()
        if x.device != p.device:
            set_error(symbol("runtime_error"), symbol("apart"))
            fail()
        even = even and x.contiguous != 0 and x.dtype == dtype
        j.addresses[k] = x.data
    dtype = dtype if even else computed(dtype)
    j.itemsize, j.device, j.dtype = itemsize_of(dtype), p.device, dtype
    s = storage_at(p.storage)
    if s.inference and inference_bit() == 0:
        call_python("complain", INFERENCE_WRITE, j.row, t, 0)
    if j.place == -1:
        bump(j.row, t)
        j.code, j.place = s.code, s.at
    else:
        s.writer, s.code, s.at = j.row, j.code, j.place
        count(t, 0)
    if even and p.numel * j.cost < PARALLEL:
        return step_packed(context, p.numel)
    # the GIL may be let go: what another thread could drop is held
    for k in range(j.count):
        incref(j.tensors[k])
    failed = (
        attempt(symbol("step_packed"), context, p.numel) if even else attempt(symbol("step_strided"), context)
    ) == -1
    for k in range(j.count):
        decref(j.tensors[k])
    if failed:
        fail()
    return 0
