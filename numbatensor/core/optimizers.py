"""Steps of optimisers over whole parameter groups: from Python's dicts to the kernels in one call, without a box in between.

A gradient is found in its parameter's leaf node. What an optimiser remembers of a parameter lies in ``state[parameter]``, a dict
that is made here on the first step. Nothing is recorded; each parameter's version grows by one a step.
"""

import math

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import empty_on
from numbatensor.core.devices import COUNTS, FILL_THERE, FIRST_STEP, new_error, refuse_capture, replace_device, there
from numbatensor.core.groups import (
    beta_of,
    dict_get,
    dict_set,
    flag_of,
    gradient_of,
    item_of,
    length,
    memory_of,
    real,
    real_of,
    value_of,
)
from numbatensor.core.halves import computed
from numbatensor.core.memory import bits, decref, load
from numbatensor.core.promotion import put_number
from numbatensor.core.python import (
    argument,
    as_long,
    box,
    drop_reference,
    entry,
    fetch_error,
    from_long,
    is_tensor,
    none,
    restore_error,
    unboxed,
)
from numbatensor.core.records import frame_at, new_frame, node_at, tensor_at
from numbatensor.core.steps import batch_at, new_batch, new_step, send_batch, step_at, take_step
from numbatensor.core.table import extra_kernel, kernel_of
from numbatensor.core.tensors import FLOAT32, empty, zero

FLOAT, DECLINED, COUNTED = 3, 1, 2  # COUNTED: how many kernels later those of steps that are counted on devices come


@njit
def remember(memory, key, made):
    """Remember a new tensor under a key, which owns it from now on."""
    boxed = box(made)
    failed = dict_set(memory, key, boxed)
    drop_reference(boxed)
    if failed:
        fail()
    return made


@native
def remembered(row, memory, key, like):
    """The tensor that is remembered under a key; zeros like the parameter on first use."""
    found, p = dict_get(memory, key), tensor_at(like)
    if found and is_tensor(found):
        return unboxed(found)
    if p.device:
        refuse_capture(FIRST_STEP, row)
    made = empty_on(p.device, like, p.dtype)
    zero(made)
    return remember(memory, key, made)


@native
def counter_of(row, memory, device):
    """The tensor of a device, one float32, in which steps are counted; on first use made of what has counted them so far."""
    known = dict_get(memory, symbol("key_step"))
    if known and is_tensor(known):
        t = tensor_at(unboxed(known))
        if t.device == device and t.dtype == FLOAT32 and t.numel == 1:
            return unboxed(known)
    refuse_capture(FIRST_STEP, row)
    steps, frame, place = real(known) if known else 0.0, new_frame(), new_frame()
    frame_at(frame).ndim = 0
    before = replace_device(device)
    made = attempt(symbol("empty"), frame, FLOAT32)
    replace_device(before)
    if made == -1:
        fail()
    put_number(place, FLOAT32, FLOAT, bits(steps))
    if attempt(there(FILL_THERE), made, load(place)) == -1:
        decref(made)
        fail()
    return remember(memory, symbol("key_step"), made)


@njit
def step_kernel(row, p, which):
    """The kernel of a step, by its number among the row's; on a device, the number."""
    t = tensor_at(p)
    if t.device:
        return which
    dtype = computed(t.dtype)
    return extra_kernel(row, which - 1, dtype) if which else kernel_of(row, dtype)


@njit
def begin_step(context, row, group, batch):
    """A step's record, with what all optimisers ask of a group; the number of parameters."""
    j = step_at(context)
    j.row, j.place, j.batch, j.counted = row, -1, batch, 0
    j.settings[0] = real_of(group, symbol("key_lr"))
    j.settings[1] = -1.0 if flag_of(group, symbol("key_maximize")) else 1.0
    j.settings[2] = real_of(group, symbol("key_weight_decay"))
    return length(value_of(group, symbol("key_params")))


@native
def sgd_group(row, group, state, batch):
    """Stochastic gradient descent of a group; DECLINED where it is none. What is to be launched goes to the batch."""
    context = new_step()
    j = step_at(context)
    n = begin_step(context, row, group, batch)
    keep = real_of(group, symbol("key_momentum"))
    add = 1.0 - real_of(group, symbol("key_dampening"))
    j.settings[5] = keep if flag_of(group, symbol("key_nesterov")) else 0.0
    j.count, j.cost = 3 if keep != 0.0 else 2, 1
    params = value_of(group, symbol("key_params"))
    if n < 0:
        return DECLINED
    for k in range(n):
        parameter = item_of(params, k)
        if parameter == 0 or not is_tensor(parameter):
            return DECLINED
        p = unboxed(parameter)
        grad = gradient_of(p)
        if grad:
            j.tensors[0], j.tensors[1] = p, grad
            if keep != 0.0:
                memory = memory_of(state, parameter)
                # the first step's direction is the gradient itself, undampened
                known = dict_get(memory, symbol("key_momentum_buffer"))
                fresh = known == 0 or known == symbol("none")
                j.settings[3], j.settings[4] = keep, 1.0 if fresh else add
                j.tensors[2] = remembered(row, memory, symbol("key_momentum_buffer"), p)
                j.kernel = step_kernel(row, p, 1)
            else:
                j.kernel = step_kernel(row, p, 0)
            take_step(context)
    return 0


@njit
def next_step(memory):
    """One more than the number of steps that a parameter has seen, noted."""
    known = dict_get(memory, symbol("key_step"))
    steps = 1 + (int(real(known)) if known else 0)
    counted = from_long(steps)
    failed = dict_set(memory, symbol("key_step"), counted)
    drop_reference(counted)
    if failed:
        fail()
    return steps


@njit
def logarithm(x):
    return math.log(x) if x > 0.0 else -math.inf


@native
def adam_group(row, group, state, batch):
    """Adam of a group; DECLINED where it is none. What is to be launched goes to the batch."""
    context = new_step()
    j = step_at(context)
    n = begin_step(context, row, group, batch)
    rate, first, second = j.settings[0], beta_of(group, 0), beta_of(group, 1)
    largest, capturable = flag_of(group, symbol("key_amsgrad")), flag_of(group, symbol("key_capturable"))
    j.settings[3] = 1.0
    if flag_of(group, symbol("key_decoupled_weight_decay")):
        j.settings[2], j.settings[3] = 0.0, 1.0 - rate * j.settings[2]
    j.settings[4], j.settings[5], j.settings[6] = 1.0 - first, second, 1.0 - second
    j.settings[8] = real_of(group, symbol("key_eps"))
    j.settings[9] = logarithm(first)
    j.count, j.cost = 5 if largest else 4, 4
    params = value_of(group, symbol("key_params"))
    if n < 0:
        return DECLINED
    for k in range(n):
        parameter = item_of(params, k)
        if parameter == 0 or not is_tensor(parameter):
            return DECLINED
        p = unboxed(parameter)
        grad, device = gradient_of(p), tensor_at(p).device
        if grad:
            j.counted = 1 if capturable and device else 0
            if device and not capturable:
                refuse_capture(COUNTS, row)
            memory = memory_of(state, parameter)
            j.tensors[0], j.tensors[1] = p, grad
            j.tensors[2] = remembered(row, memory, symbol("key_exp_avg"), p)
            j.tensors[3] = remembered(row, memory, symbol("key_exp_avg_sq"), p)
            if largest:
                j.tensors[4] = remembered(row, memory, symbol("key_max_exp_avg_sq"), p)
            if j.counted:
                j.tensors[j.count] = counter_of(row, memory, device)
                j.settings[0], j.settings[7] = rate, logarithm(second)
            else:
                steps = next_step(memory)
                j.settings[0] = rate / (1.0 - first**steps)
                j.settings[7] = 1.0 / math.sqrt(1.0 - second**steps)
            j.kernel = step_kernel(row, p, (1 if largest else 0) + (COUNTED if j.counted else 0))
            take_step(context)
    return 0


@njit
def move_group(function, args):
    """(row, group, state): move every parameter of a group that has a gradient. What waits is launched in any case: its writes are counted."""
    batch, here = new_batch(), new_error()
    batch_at(batch).entries = 0
    made = attempt(function, as_long(argument(args, 0)), argument(args, 1), argument(args, 2), batch)
    if made == -1:
        fetch_error(here, here + 8, here + 16)
        attempt(symbol("send_batch"), batch)
        restore_error(load(here), load(here + 8), load(here + 16))
        fail()
    send_batch(batch)
    return made if made == DECLINED else none()


@entry
def sgd_step(self, args, count):
    """(row, group, state): stochastic gradient descent of a group"""
    return move_group(symbol("sgd_group"), args)


@entry
def adam_step(self, args, count):
    """(row, group, state): Adam of a group"""
    return move_group(symbol("adam_group"), args)


assert sgd_group and adam_group and send_batch and empty  # reached through their symbols


@entry
def drop_gradients(self, args, count):
    """(parameters, start): drop the gradients of a list or tuple from place `start` on, but for those that Python holds

    Gives the place of the first gradient that has a box, for Python to drop, or -1 at the end.
    """
    parameters = argument(args, 0)
    n = length(parameters)
    if n < 0:
        return 1
    for k in range(as_long(argument(args, 1)), n):
        parameter = item_of(parameters, k)
        if not is_tensor(parameter):
            return 1
        t = unboxed(parameter)
        grad = gradient_of(t)
        if grad:
            if tensor_at(grad).box:
                return from_long(k)
            node_at(tensor_at(t).node).grad = 0
            decref(grad)
    return from_long(-1)
