"""CPython as compiled code sees it: objects by address, the C API by name, and the two C types of the library.

`TensorBase` is a box around the address of a tensor record, and `NativeFunction` a callable around the address of compiled code
that gets the call's arguments as they lie on the interpreter's stack. Both are made by `PyType_FromSpec`, a public call, from
slots that are compiled here. Everything in this file needs the GIL.
"""

import ctypes
import functools
import threading

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels_cpu.pointers import on_stack
from numbatensor.core import collection
from numbatensor.core.compiler import (
    address,
    address_of,
    attempt,
    c_function,
    c_symbol,
    external,
    held,
    i64,
    invoke,
    native,
    publish,
    symbol,
    word,
)
from numbatensor.core.memory import decref, incref, load, local, malloc, store
from numbatensor.core.private import PAYLOAD, TYPE
from numbatensor.core.records import local_at, node_at, tensor_at
from numbatensor.core.thread_words import get_specific, new_key, set_specific

NATIVE, ROW, WRAPPED = 24, 32, 40  # offsets in a NativeFunction

alloc_object = external("PyType_GenericAlloc", 2)
get_slot = external("PyType_GetSlot", 2)
untrack = external("PyObject_GC_UnTrack", 1, types.none)
is_subtype = external("PyType_IsSubtype", 2, small=True)
drop_reference = external("Py_DecRef", 1, types.none)
add_reference = external("Py_IncRef", 1, types.none)
vectorcall = external("PyObject_Vectorcall", 4)
new_method = external("PyMethod_New", 2)
as_long = external("PyLong_AsLongLong", 1)
error_set = external("PyErr_Occurred", 0)
clear_error = external("PyErr_Clear", 0, types.none)
save_thread = external("PyEval_SaveThread", 0)
restore_thread = external("PyEval_RestoreThread", 1, types.none)
gil_held = external("PyGILState_Check", 0, small=True)
tuple_size = external("PyTuple_Size", 1)
tuple_item = external("PyTuple_GetItem", 2)
fetch_error = external("PyErr_Fetch", 3, types.none)
restore_error = external("PyErr_Restore", 3, types.none)
ensure = external("PyGILState_Ensure", 0, small=True)
release = external("PyGILState_Release", 1, types.none)
from_long = external("PyLong_FromLongLong", 1)
new_tuple = external("PyTuple_New", 1)
set_item = external("PyTuple_SetItem", 3, small=True)

for kind in (bool, int, float, tuple):
    publish(f"type_{kind.__name__}", id(kind))
error_key = new_key()
publish("error_key", error_key.ctypes.data)
publish("none", id(None))
publish("true", id(True))
publish("false", id(False))


@intrinsic
def as_float(typingctx, obj):
    """The 64 bits of a Python float."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.DoubleType(), [word])
        return builder.bitcast(
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "PyFloat_AsDouble"), args), word
        )

    return i64(i64), codegen


@intrinsic
def call_free(typingctx, function, obj):
    """Call a C function that takes one word and returns nothing, by address."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [word])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.none(i64, i64), codegen


# Python functions that compiled code calls by name, with words for arguments; they return a word.
CALLBACKS = (
    "resolve",
    "complain",
    "refused",
    "run_rule",
    "run_tensor_hooks",
    "run_prehooks",
    "run_posthooks",
    "forget_hooks",
    "notice_node",
    "fill_slots",
    "trace_again",
    "empty_slots",
    "stale",
    "alias_wrote",
    "keep_code",
    "load_late",
    "has_zero",
    "fill_cell",
    "keep_site",
    "mistyped",
    "forget_frames",
    "compile_backward",
    "custom_error",
    "enter_loop",
    "leave_loop",
    "find_row",
    "c_function_failed",
    "resolve_there",
    "driver_failed",
    "capture_memory",
    "captured",
    "ask_library",
    "ask_sorter",
)
callbacks = np.zeros(len(CALLBACKS), np.int64)
publish("callbacks", callbacks.ctypes.data)


def callback(function):
    """Publish a Python function to compiled code."""
    callbacks[CALLBACKS.index(function.__name__)] = id(function)
    held.append(function)
    return function


@native
def store_error():
    """Move the error that is set to this thread's words for it, which it gives; they keep theirs where none is set."""
    state = ensure()
    here = load(symbol("error_key"))
    words = get_specific(here)
    if words == 0:
        words = malloc(24)
        for k in range(3):
            store(words + 8 * k, 0)
        set_specific(here, words)
    if error_set():
        for k in range(3):
            obj = load(words + 8 * k)
            store(words + 8 * k, 0)
            if obj:
                drop_reference(obj)
        fetch_error(words, words + 8, words + 16)
    release(state)
    return words


@native
def set_device(device):
    """Say where this thread's new tensors are made; where they were made before."""
    m = local_at(local())
    before = m.device
    m.device = device
    return before


@intrinsic(prefer_literal=True)
def call_python(typingctx, name, *args):
    """The int returned by one of CALLBACKS; its exception becomes the caller's failure. Takes the GIL.

    Python makes its tensors on the CPU, whatever the op that calls it works on.
    """
    text = name.literal_value

    def codegen(context, builder, signature, values):
        def c(function, arguments, returned=word):
            kind = ir.FunctionType(returned, [a.type for a in arguments])
            return builder.call(c_symbol(builder, kind, function), arguments)

        state = ir.IntType(32)
        seen = c("PyGILState_GetThisThreadState", [])
        gil = c("PyGILState_Ensure", [], state)
        device = invoke(context, builder, address_of(builder, "set_device"), [word(0)])
        numbers = [c("PyLong_FromLongLong", [v]) for v in cgutils.unpack_tuple(builder, values[1])]
        room = on_stack(builder, ir.ArrayType(word, len(numbers)))
        for k, one in enumerate(numbers):
            builder.store(one, cgutils.gep_inbounds(builder, room, 0, k))
        slots = builder.inttoptr(address_of(builder, "callbacks"), word.as_pointer())
        callee = builder.load(cgutils.gep(builder, slots, CALLBACKS.index(text)))
        result = c("PyObject_Vectorcall", [callee, builder.ptrtoint(room, word), word(len(numbers)), word(0)])
        for one in numbers:
            c("Py_DecRef", [one], ir.VoidType())
        invoke(context, builder, address_of(builder, "set_device"), [device])
        with cgutils.if_unlikely(builder, builder.icmp_signed("==", result, word(0))):
            with builder.if_then(
                builder.icmp_signed("==", seen, word(0))
            ):  # what Python knows of such a thread ends with the next call
                invoke(context, builder, address_of(builder, "store_error"), [])
            c("PyGILState_Release", [gil], ir.VoidType())
            context.call_conv.return_exc(builder)
        value = c("PyLong_AsLongLong", [result])
        c("Py_DecRef", [result], ir.VoidType())
        c("PyGILState_Release", [gil], ir.VoidType())
        return value

    return i64(name, types.UniTuple(i64, len(args))), codegen


# Native functions that call each other in a circle, or that few need: they are reached through these slots.
LATE = ("regenerate", "rebase_view", "sum_to", "checksum")
late_slots = np.zeros(len(LATE), np.int64)
publish("late_slots", late_slots.ctypes.data)


@callback
def load_late(k):
    """The address of one of LATE, loaded at its first use."""
    late_slots[k] = address(LATE[k])
    return int(late_slots[k])


@njit
def late(k):
    """The address of one of LATE."""
    known = load(symbol("late_slots") + 8 * k)
    return known if known else call_python("load_late", k)


class Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(Slot)),
    ]


class Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


# Numbers of the stable ABI (CPython's typeslots.h, object.h and descrobject.h).
SLOTS = {
    "bf_getbuffer": 1,
    "tp_clear": 51,
    "tp_dealloc": 52,
    "tp_traverse": 71,
    "tp_descr_get": 54,
    "tp_call": 50,
    "tp_members": 72,
    "tp_free": 74,
    "nb_add": 7,
    "nb_subtract": 36,
    "nb_multiply": 29,
    "nb_true_divide": 37,
    "nb_matrix_multiply": 75,
    "nb_negative": 30,
    "nb_power": 33,
}
DEFAULT, BASE, COLLECTED, VECTORCALL, METHOD = 1 << 18, 1 << 10, 1 << 14, 1 << 11, 1 << 17
READONLY, OBJECT, SIZE = 1, 6, 19


def make_type(name, basicsize, flags, slots, members=()):
    """A C type from compiled slots, by `PyType_FromSpec`."""
    fields = (Member * (len(members) + 1))(*members)
    slots = dict(slots, tp_members=ctypes.addressof(fields)) if members else slots
    table = (Slot * (len(slots) + 1))(*[Slot(SLOTS[k], v) for k, v in slots.items()], Slot(0, None))
    spec = Spec(name.encode(), basicsize, 0, flags, table)
    held.append((fields, table, spec))
    from_spec = ctypes.pythonapi.PyType_FromSpec
    from_spec.restype, from_spec.argtypes = ctypes.py_object, [ctypes.POINTER(Spec)]
    return from_spec(ctypes.byref(spec))


@c_function
def free_box(obj):
    """A tensor's box dies: the tensor loses an owner."""
    untrack(obj)
    tensor, kind = load(obj + PAYLOAD), load(obj + TYPE)
    if tensor:
        if tensor_at(tensor).box == obj:
            tensor_at(tensor).box = 0
        decref(tensor)
    call_free(get_slot(kind, 74), obj)
    drop_reference(kind)
    return 0


@c_function
def free_node_box(obj):
    """A node's box dies: the node loses an owner."""
    untrack(obj)
    node, kind = load(obj + PAYLOAD), load(obj + TYPE)
    if node:
        if node_at(node).box == obj:
            node_at(node).box = 0
        decref(node)
    call_free(get_slot(kind, 74), obj)
    drop_reference(kind)
    return 0


def box_type(name, dealloc, traverse, clear):
    """The C type of a box: an object around one address, which the garbage collector sees through."""
    slots = {"tp_dealloc": dealloc, "tp_traverse": traverse, "tp_clear": clear}
    return make_type(name, 24, DEFAULT | BASE | COLLECTED, {k: address(v) for k, v in slots.items()})


TensorBase = box_type("numbatensor.TensorBase", free_box, collection.traverse_tensor, collection.clear_tensor)
NodeBase = box_type("numbatensor.NodeBase", free_node_box, collection.traverse_node, collection.clear_node)
tensor_class = np.array([id(TensorBase), id(TensorBase)])  # the base, and the class that new boxes get
publish("tensor_class", tensor_class.ctypes.data)
node_class = np.array([id(NodeBase)])  # the class that new boxes of nodes get
publish("node_class", node_class.ctypes.data)


@njit
def is_tensor(obj):
    """Whether an object is a box."""
    kind = load(obj + TYPE)
    known = kind == load(symbol("tensor_class") + 8) or is_subtype(kind, load(symbol("tensor_class"))) != 0
    return known and load(obj + PAYLOAD) != 0


@njit
def living(obj):
    """Whether an object, 0 for none, lives: what is about to be freed has a count of 0.

    From Python 3.12 on, the count is the lower half of the word; in 3.14 the upper half has flags.
    """
    return obj != 0 and load(obj) & 0xFFFFFFFF != 0


@native
def box(tensor):
    """The box of a tensor, whose reference it takes: the living one, or a new one."""
    t = tensor_at(tensor)
    if living(t.box):
        add_reference(t.box)
        decref(tensor)
        return t.box
    obj = alloc_object(load(symbol("tensor_class") + 8), 0)
    if obj:
        store(obj + PAYLOAD, tensor)
        t.box = obj
    return obj


@native
def box_node(node):
    """The box of a node, of which the caller keeps its own reference: the living one, or a new one."""
    n = node_at(node)
    if living(n.box):
        add_reference(n.box)
        return n.box
    obj = alloc_object(load(symbol("node_class")), 0)
    if obj:
        incref(node)
        store(obj + PAYLOAD, node)
        n.box = obj
    return obj


@c_function
def call_native(function, args, count, names):
    """Vectorcall of a NativeFunction: compiled code first; what it declines (1) goes to the Python function."""
    n = count & 0x7FFFFFFFFFFFFFFF
    if names == 0 and load(function + NATIVE):
        made = attempt(load(function + NATIVE), function, args, n)
        if made == -1:
            return 0
        if made != 1:
            return made
    return vectorcall(load(function + WRAPPED), args, count, names)


@c_function
def call_named(function, args, count, names):
    """Vectorcall of a NativeFunction whose compiled code takes keywords too."""
    made = attempt(load(function + NATIVE), function, args, count & 0x7FFFFFFFFFFFFFFF, names)
    if made == -1:
        return 0
    if made != 1:
        return made
    return vectorcall(load(function + WRAPPED), args, count, names)


@c_function
def bind_native(function, instance, owner):
    """`instance.function`, where the interpreter does not call it at once."""
    if instance == 0 or instance == symbol("none"):
        add_reference(function)
        return function
    return new_method(function, instance)


NAMES = ("__wrapped__", "__name__", "__doc__", "__qualname__", "__module__")
NativeFunction = make_type(
    "numbatensor.NativeFunction",
    WRAPPED + 8 * len(NAMES),
    DEFAULT | VECTORCALL | METHOD,
    {
        "tp_call": ctypes.cast(ctypes.pythonapi.PyVectorcall_Call, ctypes.c_void_p).value,
        "tp_descr_get": address(bind_native),
    },
    [Member(b"__vectorcalloffset__", SIZE, PAYLOAD, READONLY, None)]
    + [Member(name.encode(), OBJECT, WRAPPED + 8 * k, READONLY, None) for k, name in enumerate(NAMES)],
)

new_object = ctypes.pythonapi.PyType_GenericAlloc
new_object.restype, new_object.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_ssize_t]


def native_function(code, wrapped, row=0, named=False):
    """A callable that runs compiled code, ``code(function, args, count)`` (0: none yet), and falls back on a Python function.

    `named`: the code takes a fourth word, the tuple of keywords.
    """
    made = new_object(NativeFunction, 0)
    held.append((made, wrapped))
    names = [wrapped, *(getattr(wrapped, n) for n in NAMES[1:])]
    held.append(names)
    for k, value in enumerate([address(call_named if named else call_native), code, row, *map(id, names)]):
        ctypes.c_int64.from_address(id(made) + PAYLOAD + 8 * k).value = value
    for value in (made, *names):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return made


def loaded_late(name, wrapped):
    """A callable whose compiled code is loaded at its first call, which goes to the Python function."""

    @functools.wraps(wrapped)
    def first(*args, **kwargs):
        ctypes.c_int64.from_address(id(made) + NATIVE).value = address(name)
        return wrapped(*args, **kwargs)

    made = native_function(0, first)
    return made


def entry(function):
    """Declare compiled code ``function(self, args, count)`` that Python calls; it returns an object's address."""
    native(function)
    name = function.__name__

    again = threading.local()

    def first(*args):
        """Load the code at the first call; it comes back here for arguments that it declines."""
        place = ctypes.c_int64.from_address(id(made) + NATIVE)
        if place.value and getattr(again, "called", False):  # else another thread has loaded it meanwhile
            raise TypeError(f"{name}: wrong arguments: {', '.join(type(a).__name__ for a in args)}")
        place.value = address(name)
        again.called = True
        try:
            return made(*args)
        finally:
            again.called = False

    first.__name__ = first.__qualname__ = name
    first.__doc__, first.__module__ = function.__doc__, function.__module__
    made = native_function(0, first)
    return made


@njit
def argument(args, k):
    """The k-th object of a call."""
    return load(args + 8 * k)


@njit
def unboxed(obj):
    """The address of the tensor in a box; fails for a box that was never filled."""
    tensor = load(obj + PAYLOAD)
    if tensor == 0:
        call_python("complain", 11, 0, 0, 0)
    return tensor


@njit
def none():
    """A new reference to None."""
    add_reference(symbol("none"))
    return symbol("none")
