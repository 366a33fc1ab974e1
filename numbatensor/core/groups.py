"""Parameter groups and what is remembered of parameters, as compiled code reads Python's dicts, lists and tuples of them."""

import sys

from numba import njit

from numbatensor.core.compiler import external, fail, publish, symbol
from numbatensor.core.memory import load, number
from numbatensor.core.python import TYPE, as_float, drop_reference, error_set, tuple_item, tuple_size
from numbatensor.core.records import node_at, tensor_at
from numbatensor.core.steps import set_error

dict_get = external("PyDict_GetItem", 2)
dict_set = external("PyDict_SetItem", 3, small=True)
new_dict = external("PyDict_New", 0)
list_size = external("PyList_Size", 1)
list_item = external("PyList_GetItem", 2)
sequence_item = external("PySequence_GetItem", 2)
is_true = external("PyObject_IsTrue", 1, small=True)

for name in (
    "params lr momentum dampening weight_decay nesterov maximize betas eps amsgrad decoupled_weight_decay capturable step "
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
