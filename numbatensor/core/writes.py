"""Writes in place: what forbids them, how they are counted, and how they become history."""

from numba import njit

from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import broadcast, copy_into, empty_on
from numbatensor.core.copies import copy_run
from numbatensor.core.devices import FILL_THERE, there
from numbatensor.core.graph import LEAF, NATIVE, attach, link, needs_grad, new_node, settle
from numbatensor.core.memory import atomic_add, decref, load, local
from numbatensor.core.modes import grad_enabled, inference_bit
from numbatensor.core.promotion import put_number
from numbatensor.core.python import LATE, call_python, late
from numbatensor.core.quick import FEW
from numbatensor.core.records import frame_at, local_at, new_frame, node_at, storage_at, tensor_at
from numbatensor.core.regions import describe, meet, new_region
from numbatensor.core.sites import mark
from numbatensor.core.table import COPY_SHAPE, INFERENCE_WRITE, LEAF_IN_PLACE, OVERLAP, RESTRICTED, conversion
from numbatensor.core.tensors import FLOAT32, empty, same_shape, shape_of
from numbatensor.core.write_log import SAVE, VERSION, note_write

REBASE_VIEW = LATE.index("rebase_view")


@njit
def overlaps_itself(x):
    """Whether two indices of a tensor are known to name one element: a dimension that does not move."""
    for i in range(x.ndim):
        if x.shape[i] > 1 and x.strides[i] == 0:
            return x.numel != 0
    return False


@njit
def extent(x):
    """First byte of a tensor, and the byte after its last."""
    low = high = x.data
    for i in range(x.ndim):
        if x.strides[i] > 0:
            high += (x.shape[i] - 1) * x.strides[i]
        else:
            low += (x.shape[i] - 1) * x.strides[i]
    return low, high + x.itemsize


@njit
def overlaps(out, x):
    """Whether writing `out` could change elements of x that are still to be read: they share memory, and not element by element."""
    if out.storage != x.storage or out.numel == 0 or x.numel == 0:
        return False
    if out.data == x.data and same_shape(out, x):
        same = True
        for i in range(out.ndim):
            same &= out.strides[i] == x.strides[i] or out.shape[i] == 1
        if same:
            return False
    written, read = new_region(), new_region()
    describe(written, out)
    describe(read, x)
    return meet(written, read) != 0


@njit
def is_leaf(x):
    """Whether a tensor requires a gradient, and no recorded op made it, nor wrote its base since it became a leaf."""
    if x.requires_grad == 0 or (x.node and node_at(x.node).kind != LEAF):
        return False
    return x.base == 0 or x.seen == storage_at(x.storage).version or tensor_at(x.base).requires_grad == 0


@njit
def permit(op, out, wanted):
    x = tensor_at(out)
    if storage_at(x.storage).inference and inference_bit() == 0:
        call_python("complain", INFERENCE_WRITE, op, out, 0)
    if grad_enabled():
        if x.base:
            b = tensor_at(x.base)
            if x.restriction and (wanted or x.requires_grad or b.requires_grad):
                call_python("complain", RESTRICTED, op, out, 0)
            if is_leaf(b) or is_leaf(x):
                call_python("complain", LEAF_IN_PLACE, op, out, 1)
        elif is_leaf(x):
            call_python("complain", LEAF_IN_PLACE, op, out, 0)


@native
def check_permission(op, out, wanted):
    """Fail where a tensor must not be changed in place, whatever its geometry. `wanted`: the change is recorded."""
    permit(op, out, wanted)
    return 0


@native
def check_write(op, out, wanted):
    """Fail unless a tensor may be written in place. `wanted`: the write is recorded."""
    permit(op, out, wanted)
    if overlaps_itself(tensor_at(out)):
        call_python("complain", OVERLAP, op, out, 0)
    return 0


@njit
def count(out, geometry_only):
    """Count a write, once the storage knows who wrote it where; note it while something is saved. All writes come through here.

    Atomically: threads that write one storage, each its own part, must not take a write back by counting at once.
    """
    storage = tensor_at(out).storage
    if storage_at(storage).refcount > SAVE:
        note_write(out, geometry_only)
    else:
        atomic_add(storage + VERSION, 1)


@njit
def bump(writer, out):
    """Count a write at the line that runs. `writer`: an op row, one more where the op wrote into `out=`, or `sites.writer`'s word."""
    s = storage_at(tensor_at(out).storage)
    s.writer = writer
    mark(s)
    if s.device and local_at(local()).capture:
        call_python("captured", tensor_at(out).storage, 1)
    count(out, 0)


@native
def rebase(out, node):
    """Make a recorded write the history of the tensor it wrote; of a view's base too. Takes the reference."""
    x = tensor_at(out)
    attach(out, node)
    if x.base:
        call(late(REBASE_VIEW), out)
    return 0


@native
def write(out, source, writer):
    """out[...] = source, converted and broadcast: recorded as a copy where that is wanted, counted as a write of `writer`."""
    y, x, op = tensor_at(out), tensor_at(source), symbol("op_copy")
    wanted = 1 if y.dtype >= FLOAT32 and grad_enabled() and (needs_grad(x) or needs_grad(y)) else 0
    frame = new_frame()
    shape_of(frame, y)
    if not broadcast(frame, x) or not same_shape(y, frame_at(frame)):
        call_python("complain", COPY_SHAPE, out, source, 0)
    check_write(op, out, wanted)
    if y.dtype != x.dtype:
        conversion(y.dtype, x.dtype)
    if wanted:
        settle(out)
        settle(source)
    if overlaps(y, x):
        apart = empty_on(x.device, source, x.dtype)
        copy_into(apart, source)
        copy_into(out, apart)
        decref(apart)
    else:
        copy_into(out, source)
    bump(writer, out)
    if wanted:
        node = new_node(NATIVE, op, 1, 0, 0, out)
        link(node, 0, source)
        rebase(out, node)
    return 0


@native
def write_number(out, kind, value, writer):
    """out[...] = a Python number."""
    y, frame = tensor_at(out), new_frame()
    if y.device and not needs_grad(y):
        check_write(symbol("op_copy"), out, 0)
        put_number(frame, y.dtype, kind, value)
        call(there(FILL_THERE), out, load(frame))
        bump(writer, out)
        return 0
    if y.device == 0 and y.contiguous and y.numel <= FEW and not needs_grad(y):
        check_write(symbol("op_copy"), out, 0)
        put_number(frame, y.dtype, kind, value)
        copy_run(y.data, y.itemsize, frame, 0, y.numel, y.itemsize)
        bump(writer, out)
        return 0
    frame_at(frame).ndim = 0
    source = empty(frame, y.dtype)
    put_number(tensor_at(source).data, y.dtype, kind, value)
    failed = attempt(symbol("write"), out, source, writer) == -1
    decref(source)
    if failed:
        fail()
    return 0
