"""Steps of optimisers over whole parameter groups: from Python's dicts to the kernels in one call, without a box in between.

A gradient is found in its parameter's leaf node. What an optimiser remembers of a parameter lies in ``state[parameter]``, a dict
that is made here on the first step. Nothing is recorded; each parameter's version grows by one a step.
"""

import math
import sys

from numba import njit

from numbatensor.core.compiler import external, fail, native, publish, symbol
from numbatensor.core.conversions import empty_on
from numbatensor.core.halves import computed
from numbatensor.core.memory import decref, load, number
from numbatensor.core.python import (
    TYPE,
    argument,
    as_float,
    as_long,
    box,
    drop_reference,
    entry,
    error_set,
    from_long,
    is_tensor,
    none,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.records import node_at, tensor_at
from numbatensor.core.steps import new_step, set_error, step_at, take_step
from numbatensor.core.table import extra_kernel, kernel_of
from numbatensor.core.tensors import zero

dict_get = external("PyDict_GetItem", 2)
dict_set = external("PyDict_SetItem", 3, small=True)
new_dict = external("PyDict_New", 0)
list_size = external("PyList_Size", 1)
list_item = external("PyList_GetItem", 2)
sequence_item = external("PySequence_GetItem", 2)
is_true = external("PyObject_IsTrue", 1, small=True)

for name in (
    "params lr momentum dampening weight_decay nesterov maximize betas eps amsgrad decoupled_weight_decay step "
    "momentum_buffer exp_avg exp_avg_sq max_exp_avg_sq"
).split():
    publish(f"key_{name}", id(sys.intern(name)), sys.intern(name))
publish("type_list", id(list))
publish("key_error", id(KeyError))


@njit
def value_of(group, key):
    """What a group says about a key, borrowed."""
    found = dict_get(group, key)
    if found == 0:
        set_error(symbol("key_error"), key)
        fail()
    return found


@njit
def real(obj):
    """A Python number as a float64."""
    found = number(as_float(obj))
    if found == -1.0 and error_set():
        fail()
    return found


@njit
def real_of(group, key):
    return real(value_of(group, key))


@njit
def flag_of(group, key):
    return is_true(value_of(group, key)) == 1


@njit
def beta_of(group, k):
    item = sequence_item(value_of(group, symbol("key_betas")), k)
    if item == 0:
        fail()
    found = number(as_float(item))
    drop_reference(item)
    if found == -1.0 and error_set():
        fail()
    return found


@njit
def length(sequence):
    """The length of a list or tuple; -1 for anything else."""
    if load(sequence + TYPE) == symbol("type_list"):
        return list_size(sequence)
    return tuple_size(sequence) if load(sequence + TYPE) == symbol("type_tuple") else -1


@njit
def item_of(sequence, k):
    """Element k of a list or tuple, borrowed."""
    return list_item(sequence, k) if load(sequence + TYPE) == symbol("type_list") else tuple_item(sequence, k)


@njit
def gradient_of(t):
    """The gradient of a leaf, or 0."""
    node = tensor_at(t).node
    return node_at(node).grad if node else 0


@njit
def memory_of(state, parameter):
    """The dict of what is remembered of a parameter, borrowed; made on first use."""
    found = dict_get(state, parameter)
    if found == 0:
        found = new_dict()
        if dict_set(state, parameter, found):
            drop_reference(found)
            fail()
        drop_reference(found)
    return found


@native
def remembered(memory, key, like):
    """The tensor that is remembered under a key; zeros like the parameter on first use."""
    found = dict_get(memory, key)
    if found and is_tensor(found):
        return unboxed(found)
    made = empty_on(tensor_at(like).device, like, tensor_at(like).dtype)
    zero(made)
    boxed = box(made)
    failed = dict_set(memory, key, boxed)
    drop_reference(boxed)
    if failed:
        fail()
    return made


@njit
def step_kernel(row, p, which):
    """The kernel of a step, by its number among the row's; on a device, the number."""
    t = tensor_at(p)
    if t.device:
        return which
    dtype = computed(t.dtype)
    return extra_kernel(row, which - 1, dtype) if which else kernel_of(row, dtype)


@njit
def begin_step(context, row, group):
    """A step's record, with what all optimisers ask of a group; the number of parameters."""
    j = step_at(context)
    j.row, j.place = row, -1
    j.settings[0] = real_of(group, symbol("key_lr"))
    j.settings[1] = -1.0 if flag_of(group, symbol("key_maximize")) else 1.0
    j.settings[2] = real_of(group, symbol("key_weight_decay"))
    return length(value_of(group, symbol("key_params")))


@entry
def sgd_step(self, args, count):
    """(row, group, state): move every parameter of a group that has a gradient"""
    row, group, state = as_long(argument(args, 0)), argument(args, 1), argument(args, 2)
    context = new_step()
    j = step_at(context)
    n = begin_step(context, row, group)
    keep = real_of(group, symbol("key_momentum"))
    add = 1.0 - real_of(group, symbol("key_dampening"))
    j.settings[5] = keep if flag_of(group, symbol("key_nesterov")) else 0.0
    j.count, j.cost = 3 if keep != 0.0 else 2, 1
    params = value_of(group, symbol("key_params"))
    if n < 0:
        return 1
    for k in range(n):
        parameter = item_of(params, k)
        if parameter == 0 or not is_tensor(parameter):
            return 1
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
                j.tensors[2] = remembered(memory, symbol("key_momentum_buffer"), p)
                j.kernel = step_kernel(row, p, 1)
            else:
                j.kernel = step_kernel(row, p, 0)
            take_step(context)
    return none()


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


@entry
def adam_step(self, args, count):
    """(row, group, state): move every parameter of a group that has a gradient"""
    row, group, state = as_long(argument(args, 0)), argument(args, 1), argument(args, 2)
    context = new_step()
    j = step_at(context)
    n = begin_step(context, row, group)
    rate, first, second = j.settings[0], beta_of(group, 0), beta_of(group, 1)
    largest = flag_of(group, symbol("key_amsgrad"))
    j.settings[3] = 1.0
    if flag_of(group, symbol("key_decoupled_weight_decay")):
        j.settings[2], j.settings[3] = 0.0, 1.0 - rate * j.settings[2]
    j.settings[4], j.settings[5], j.settings[6] = 1.0 - first, second, 1.0 - second
    j.settings[8] = real_of(group, symbol("key_eps"))
    j.count, j.cost = 5 if largest else 4, 4
    params = value_of(group, symbol("key_params"))
    if n < 0:
        return 1
    for k in range(n):
        parameter = item_of(params, k)
        if parameter == 0 or not is_tensor(parameter):
            return 1
        p = unboxed(parameter)
        grad = gradient_of(p)
        if grad:
            memory = memory_of(state, parameter)
            j.tensors[0], j.tensors[1] = p, grad
            j.tensors[2] = remembered(memory, symbol("key_exp_avg"), p)
            j.tensors[3] = remembered(memory, symbol("key_exp_avg_sq"), p)
            if largest:
                j.tensors[4] = remembered(memory, symbol("key_max_exp_avg_sq"), p)
                j.kernel = step_kernel(row, p, 1)
            else:
                j.kernel = step_kernel(row, p, 0)
            steps = next_step(memory)
            j.settings[0] = rate / (1.0 - first**steps)
            j.settings[7] = 1.0 / math.sqrt(1.0 - second**steps)
            take_step(context)
    return none()


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
