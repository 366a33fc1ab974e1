"""Ops on the tensors of a device: how they get there, and what runs them. Those that have no code for devices take a detour."""

from numba import njit

from numbatensor.core.arguments import hold_nothing, let_go, put_in_place
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.device_detours import launch_detour, rule_detour, run_detour
from numbatensor.core.device_moves import copy_on
from numbatensor.core.devices import (
    MIXED,
    WORDS,
    copy_bytes,
    parameter,
    replace_device,
    start,
    synchronize,
    use,
    use_storage,
)
from numbatensor.core.dispatch import perform, performed, performed_into
from numbatensor.core.graph import SAVED
from numbatensor.core.halves import computed
from numbatensor.core.iterate import begin, operand, scalar_operand
from numbatensor.core.memory import decref, local, store
from numbatensor.core.promotion import put_number
from numbatensor.core.python import call_python
from numbatensor.core.records import (
    Arguments,
    Frame,
    arguments_at,
    device_op_at,
    frame_at,
    launch_at,
    local_at,
    new_arguments,
    new_frame,
    new_launch,
    node_at,
    op_at,
    saved_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.rules import add_each_in_order
from numbatensor.core.table import runner
from numbatensor.core.tensors import alias, empty, itemsize_of, same_shape, shape_of
from numbatensor.core.there import (
    DETOUR,
    MOST,
    RUNNER,
    SAME,
    THREADS,
    UNKNOWN,
    VECTOR,
    blocks_of_vectors,
    device_op,
    kernel_there,
    sweep_there,
)

UINT8 = 1
ARGUMENTS = Arguments.itemsize
NUMBERS = Frame.fields["numbers"][1]


@njit
def runner_there(op):
    """What runs an op on devices: the address of native code, or SAME or DETOUR."""
    run = device_op_at(device_op(op)).run
    return call_python("resolve_there", op, RUNNER, 0) if run == UNKNOWN else run


@native
def run_there(op, arguments, out):
    """Run an op whose tensors are on the device where this thread makes its tensors."""
    run, a = runner_there(op), arguments_at(arguments)
    for k in range(op_at(op).tensors):
        if a.tensors[k]:
            use(a.tensors[k])
    if run == DETOUR:
        return run_detour(op, arguments, out)
    return call(runner(op) if run == SAME else run, op, arguments, out)


@native
def add_each_there(y, x):
    """The same, of tensors of a device: on a copy of the storage of y."""
    a = tensor_at(y)
    device, storage = a.device, storage_at(a.storage)
    source, before, f = copy_on(0, x), replace_device(0), new_frame()
    frame_at(f).ndim, frame_at(f).shape[0] = 1, storage.nbytes
    memory = attempt(symbol("empty"), f, UINT8)
    replace_device(before)
    failed = memory == -1
    if not failed:
        data = tensor_at(memory).data
        failed = attempt(symbol("copy_bytes"), data, storage.data, storage.nbytes, device) == -1
        failed = failed or attempt(symbol("synchronize"), device) == -1
    if not failed:
        view = alias(memory)
        v = tensor_at(view)
        v.data, v.dtype, v.itemsize = data + a.data - storage.data, a.dtype, a.itemsize
        v.ndim, v.numel, v.contiguous = a.ndim, a.numel, 0
        for i in range(a.ndim):
            v.shape[i], v.strides[i] = a.shape[i], a.strides[i]
        failed = attempt(symbol("add_each_in_order"), view, source) == -1
        failed = failed or attempt(symbol("copy_bytes"), storage.data, data, storage.nbytes, device) == -1
        failed = failed or attempt(symbol("synchronize"), device) == -1
        decref(view)
    decref(source)
    if memory != -1:
        decref(memory)
    if failed:
        fail()
    return 0


@native
def launch_even(op, arguments, out, dtype):
    """Launch over operands that lie in the same way, contiguous and aligned: there is nothing to walk."""
    o, a, x, launch = op_at(op), arguments_at(arguments), tensor_at(out), new_launch()
    g, widest = launch_at(launch), x.itemsize
    g.count = 0
    parameter(launch, x.data)
    for k in range(o.operands):
        if a.tensors[k]:
            y = tensor_at(a.tensors[k])
            widest = max(widest, y.itemsize)
            parameter(launch, y.data)
            parameter(launch, 0)
        else:
            widest = max(widest, itemsize_of(dtype))
            parameter(launch, 0)
            parameter(launch, 0)
            put_number(launch + WORDS + 8 * (g.count - 1), computed(dtype), a.kinds[k], a.numbers[k])
    parameter(launch, x.numel)
    kernel = kernel_there(op, 0, 0, dtype)
    return start(op, kernel, blocks_of_vectors(x.numel, widest), 1, THREADS, 0, launch, x.device)


@native
def launch_there(op, arguments, out, dtype):
    """The same as `launch`, for a device."""
    if runner_there(op) == DETOUR:
        return launch_detour(op, arguments, out, dtype)
    o, a, x = op_at(op), arguments_at(arguments), tensor_at(out)
    use(out)
    even = x.contiguous and x.data % VECTOR == 0 and 0 < x.numel and x.numel < MOST
    for k in range(o.operands):
        t = a.tensors[k]
        if t:
            y = tensor_at(t)
            use(t)
            even = even and y.contiguous and y.data % VECTOR == 0 and same_shape(y, x)
    if even:
        return launch_even(op, arguments, out, dtype)
    frame = new_frame()
    begin(frame, 0)
    shape_of(frame, x)
    operand(frame, x)
    for k in range(o.operands):
        if a.tensors[k]:
            operand(frame, tensor_at(a.tensors[k]))
        else:
            put_number(frame + NUMBERS + 8 * k, computed(dtype), a.kinds[k], a.numbers[k])
            scalar_operand(frame, 0, itemsize_of(dtype))
    return sweep_there(frame, op, 0, dtype, 0, x.device)


@njit
def moved_to(t, device):
    """A tensor's elements on a device, recorded where that is wanted; a new reference, or -1."""
    arguments = new_arguments()
    a = arguments_at(arguments)
    a.count, a.room, a.tensors[0], a.kinds[0], a.tensors[1], a.tensors[2] = 3, 0, t, 0, 0, 0
    a.kinds[1], a.numbers[1], a.kinds[2], a.numbers[2] = 2, device, 2, tensor_at(t).device
    return attempt(symbol("perform"), symbol("op_moved"), arguments)


@native
def gather_on(op, arguments, device, held):
    """Bring the arguments to a device: single elements of the CPU are moved. What takes their places goes to `held`, by argument."""
    o, a = op_at(op), arguments_at(arguments)
    for k in range(o.tensors):
        if a.tensors[k]:
            x = tensor_at(a.tensors[k])
            if x.device != device and (x.device or x.ndim):
                call_python("driver_failed", MIXED, op, arguments)
    for k in range(o.tensors):
        if a.tensors[k] and tensor_at(a.tensors[k]).device != device:
            t = moved_to(a.tensors[k], device)
            if t == -1:
                let_go(held)
                fail()
            put_in_place(a, k, t, held)
    return 0


@native
def perform_on(op, arguments, out, in_place):
    """Run an op on the device of its tensors, into `out` where that is not 0."""
    o, a = op_at(op), arguments_at(arguments)
    device, held, mixed = tensor_at(out).device if out else -1, new_frame(), False
    for k in range(o.tensors):
        if a.tensors[k]:
            found = tensor_at(a.tensors[k]).device
            mixed |= device >= 0 and found != device
            device = max(device, found)
    if mixed:
        hold_nothing(held)
        gather_on(op, arguments, device, held)
    before = replace_device(device if device >= 0 else local_at(local()).device)
    if out:
        made = attempt(symbol("performed_into"), op, arguments, out, in_place)
    else:
        made = attempt(symbol("performed"), op, arguments)
    replace_device(before)
    if mixed:
        let_go(held)
    if made == -1:
        fail()
    return made


@native
def run_kernel_rule_there(node, i, grad):
    """The same as `run_kernel_rule`, for a gradient on the device where this thread makes its tensors."""
    if runner_there(node_at(node).op) == DETOUR:
        return rule_detour(node, i, grad)
    n, f = node_at(node), new_frame()
    o, g = op_at(n.op), tensor_at(grad)
    begin(f, 0)
    shape_of(f, n)
    out = empty(f, g.dtype)
    operand(f, tensor_at(out))
    operand(f, g)
    use(grad)
    for k in range(n.saved):
        s = saved_at(n.saves + k * SAVED)
        if o.saves[i] >> s.which & 1:
            if s.storage:
                use_storage(s.storage)
                operand(f, s)
            else:
                store(f + NUMBERS + 8 * (frame_at(f).operands - 1), s.number)
                scalar_operand(f, 0, g.itemsize)
    if attempt(symbol("sweep_there"), f, n.op, 1 + i, g.dtype, 0, g.device) == -1:
        decref(out)
        fail()
    return out


assert (
    copy_bytes
    and synchronize
    and copy_into
    and copy_on
    and perform
    and performed
    and performed_into
    and sweep_there
    and add_each_in_order
)  # reached through their symbols
