"""DLPack capsules: a tensor's memory for other libraries, which end their use of it with or without the GIL.

A block of the C heap holds DLPack's record, then the sizes and strides; its owner is the tensor's storage, which counts the capsule of
memory of the CPU as an alias.
"""

import ctypes

from numba import njit

from numbatensor.core.aliases import begin_alias, end_alias
from numbatensor.core.compiler import address, c_function, external, held, native, publish, symbol
from numbatensor.core.memory import decref, free, incref, load, malloc, store
from numbatensor.core.python import argument, as_long, entry, unboxed
from numbatensor.core.records import storage_at, tensor_at

new_capsule = external("PyCapsule_New", 3)
is_capsule = external("PyCapsule_IsValid", 2, small=True)
pointer_in = external("PyCapsule_GetPointer", 2)
VERSION = 1  # of DLPack: major 1, minor 0
TENSOR = 48  # bytes of a DLTensor
HEAD = 32  # bytes before it in a versioned record: version, owner, deleter, flags
names = [ctypes.create_string_buffer(name) for name in (b"dltensor", b"dltensor_versioned")]
held.append(names)
for k, name in enumerate(names):
    publish(f"capsule_name_{k}", ctypes.addressof(name))


@native
def end_export(storage):
    """Another library is done with a storage."""
    if storage_at(storage).device:
        decref(storage)
    else:
        end_alias(storage)
    return 0


@njit
def free_record(block, owner):
    """Free a record whose owner is noted at an address."""
    end_export(load(owner))
    free(block)


@c_function
def free_managed(block):
    """The deleter of DLPack's first record."""
    free_record(block, block + TENSOR)
    return 0


@c_function
def free_versioned(block):
    """The deleter of the record that has a version."""
    free_record(block, block + 8)
    return 0


@c_function
def free_capsule(obj):
    """A capsule dies; nobody has taken what it holds where it still has its first name."""
    if is_capsule(obj, symbol("capsule_name_0")):
        block = pointer_in(obj, symbol("capsule_name_0"))
        free_record(block, block + TENSOR)
    elif is_capsule(obj, symbol("capsule_name_1")):
        block = pointer_in(obj, symbol("capsule_name_1"))
        free_record(block, block + 8)
    return 0


publish("deleter_0", address(free_managed))
publish("deleter_1", address(free_versioned))
publish("capsule_destructor", address(free_capsule))


@entry
def to_capsule(self, args, count):
    """(x, versioned, device word, dtype word, flags) -> capsule"""
    x = tensor_at(unboxed(argument(args, 0)))
    versioned = as_long(argument(args, 1))
    head, n = HEAD if versioned else 0, x.ndim
    block = malloc(HEAD + TENSOR + 16 + 16 * n)
    place = block + head
    sizes = place + TENSOR + (0 if versioned else 16)
    store(place, x.data)
    store(place + 8, as_long(argument(args, 2)))
    store(place + 16, n | as_long(argument(args, 3)) << 32)
    store(place + 24, sizes)
    store(place + 32, sizes + 8 * n)
    store(place + 40, 0)
    for i in range(n):
        store(sizes + 8 * i, x.shape[i])
        store(sizes + 8 * (n + i), x.strides[i] // x.itemsize)
    if versioned:
        store(block, VERSION)
        store(block + 8, x.storage)
        store(block + 16, symbol("deleter_1"))
        store(block + 24, as_long(argument(args, 4)))
    else:
        store(block + TENSOR, x.storage)
        store(block + TENSOR + 8, symbol("deleter_0"))
    if x.device:
        incref(x.storage)
    else:
        begin_alias(x.storage)
    made = new_capsule(
        block, symbol("capsule_name_1") if versioned else symbol("capsule_name_0"), symbol("capsule_destructor")
    )
    if made == 0:
        end_export(x.storage)
        free(block)
    return made
