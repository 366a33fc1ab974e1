"""NumPy arrays that share a tensor's memory, and how long they do: the storage counts them while they live.

Each array rests on an object of its own, which owns the storage: a `Memory` of Python's, or in compiled code a block that Numba counts.
Views of the array keep that object, as does whatever else is made of it, so its end is the end of the alias.
"""

from numba import njit

from numbatensor.core.compiler import address, c_function, external, publish, symbol
from numbatensor.core.devices import need_cpu
from numbatensor.core.entries import numbers
from numbatensor.core.memory import atomic_add, counted, decref, incref, load, local, store
from numbatensor.core.private import PAYLOAD, TYPE
from numbatensor.core.python import (
    DEFAULT,
    alloc_object,
    argument,
    as_long,
    call_free,
    call_python,
    drop_reference,
    entry,
    from_long,
    get_slot,
    make_type,
    new_tuple,
    none,
    set_item,
    unboxed,
)
from numbatensor.core.records import HEADER, Storage, storage_at, tensor_at
from numbatensor.core.writes import extent

STORAGE_ALIASES = Storage.fields["aliases"][1]
ALIAS = HEADER + 8  # bytes of the block on which an array of compiled code rests: its header, and the storage
DATA, SIZE, OWNER, COUNTED, ROOM = PAYLOAD, PAYLOAD + 8, PAYLOAD + 16, PAYLOAD + 24, PAYLOAD + 32  # in a Memory
NOT_CREATED = 1 << 7  # Py_TPFLAGS_DISALLOW_INSTANTIATION

fill_info = external("PyBuffer_FillInfo", 6, small=True)


@njit
def begin_alias(storage):
    """An array will share a storage, and owns it."""
    atomic_add(storage + STORAGE_ALIASES, 1)
    incref(storage)


@njit
def end_alias(storage):
    """An array that shared a storage is gone. What was saved while it lived keeps its checksum."""
    atomic_add(storage + STORAGE_ALIASES, -1)
    decref(storage)


@c_function
def free_alias(payload, size, info):
    """The last array of compiled code that rests on a block is gone."""
    end_alias(load(payload))
    return 0


@njit
def new_alias(storage):
    """A block for an array of compiled code to rest on."""
    need_cpu(storage_at(storage).device)
    block = counted(local(), ALIAS, symbol("free_alias"))
    if block == 0:
        call_python("complain", 0, ALIAS, 0, 0)
    begin_alias(storage)
    store(block + HEADER, storage)
    return block


@c_function
def free_memory(obj):
    """A Memory dies, with the last array that rests on it."""
    storage, kind = load(obj + OWNER), load(obj + TYPE)
    if load(obj + COUNTED):
        end_alias(storage)
    else:
        decref(storage)
    call_free(get_slot(kind, 74), obj)
    drop_reference(kind)
    return 0


@c_function
def get_memory(obj, view, flags):
    """The buffer of a Memory."""
    return fill_info(view, obj, load(obj + DATA), load(obj + SIZE), 0, flags)


Memory = make_type(
    "numbatensor.Memory",
    ROOM,
    DEFAULT | NOT_CREATED,
    {"tp_dealloc": address(free_memory), "bf_getbuffer": address(get_memory)},
)
publish("memory_class", id(Memory))


@njit
def new_memory(storage, data, size, counts):
    """A Memory of a part of a storage; 0 where there is no room for it."""
    memory = alloc_object(symbol("memory_class"), 0)
    if memory == 0:
        return 0
    if counts:
        begin_alias(storage)
    else:
        incref(storage)
    store(memory + DATA, data)
    store(memory + SIZE, size)
    store(memory + OWNER, storage)
    store(memory + COUNTED, counts)
    return memory


@entry
def shown(self, args, count):
    """(x, alias) -> (shape, Memory, offset, strides) for an array over x's memory, where it has an element, else (shape, None, 0, None)

    `alias`: whether the array may be written by others than the library, so that it counts.
    """
    x, counts = tensor_at(unboxed(argument(args, 0))), as_long(argument(args, 1))
    memory, offset, strides = none(), 0, none()
    if x.numel:
        low, high = extent(x)
        memory, offset, strides = (
            new_memory(x.storage, low, high - low, counts),
            x.data - low,
            numbers(x.strides, x.ndim),
        )
        if memory == 0:
            return 0
    made = new_tuple(4)
    set_item(made, 0, numbers(x.shape, x.ndim))
    set_item(made, 1, memory)
    set_item(made, 2, from_long(offset))
    set_item(made, 3, strides)
    return made
