"""How Python calls an op: the objects on the interpreter's stack become an argument record, keywords and defaults included.

What is not of a plain form (arrays, NumPy's numbers, `dtype=`) is declined, and goes to the Python function behind the op, which
brings it into that form or raises.
"""

from numba import njit

from numbatensor.core.arguments import arguments_room
from numbatensor.core.autocast import perform_for_python
from numbatensor.core.compiler import external, native, publish, symbol
from numbatensor.core.dispatch import perform_into
from numbatensor.core.engine import backward_from
from numbatensor.core.entries import field
from numbatensor.core.graph import LEAF, needs_grad, output_of
from numbatensor.core.memory import decref, load, store
from numbatensor.core.python import (
    ROW,
    TYPE,
    add_reference,
    argument,
    as_float,
    as_long,
    box,
    clear_error,
    error_set,
    from_long,
    is_subtype,
    is_tensor,
    living,
    none,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.records import RANK, arguments_at, new_arguments, new_frame, node_at, op_at, output_at, tensor_at

# The kinds of objects that an argument can be (`Op.accepts`); REST: a list may also be given number by number.
TENSOR, BOOL, INT, FLOAT, NONE, LIST, REST = (1 << k for k in range(7))
ANY_NUMBER = BOOL | INT | FLOAT

KEYWORD_OUT = "out"
publish("keyword_out", id(KEYWORD_OUT))
list_size = external("PyList_Size", 1)
list_item = external("PyList_GetItem", 2)
publish("type_list", id(list))


@njit
def whole(obj):
    """The value of an int or bool, and whether it is one that fits in a word."""
    kind = load(obj + TYPE)
    if kind != symbol("type_int") and kind != symbol("type_bool"):
        return 0, False
    value = as_long(obj)
    if value == -1 and error_set():
        clear_error()
        return 0, False
    return value, True


@njit
def take_list(a, k, obj, is_list):
    """Put the ints of a tuple or list into argument k."""
    n = list_size(obj) if is_list else tuple_size(obj)
    if n > RANK:
        return False
    start = arguments_room(a, k, n)
    for i in range(n):
        item = list_item(obj, i) if is_list else tuple_item(obj, i)
        value, fits = whole(item)
        if not fits:
            return False
        a.lists[start + i] = value
    return True


@njit
def take_object(accepts, a, k, obj):
    """Make an object argument k; whether it has a form that the argument accepts."""
    kind = load(obj + TYPE)
    a.tensors[k] = 0
    if kind == symbol("type_float"):
        a.kinds[k], a.numbers[k] = 3, as_float(obj)
        return accepts & FLOAT != 0
    if kind == symbol("type_int") or kind == symbol("type_bool"):
        value, fits = whole(obj)
        if not fits:
            return False
        if kind == symbol("type_bool"):
            a.kinds[k], a.numbers[k] = 1, value
            return accepts & BOOL != 0
        if accepts & INT:
            a.kinds[k], a.numbers[k] = 2, value
            return True
        if accepts & LIST:
            a.lists[arguments_room(a, k, 1)] = value
            return True
        a.kinds[k], a.numbers[k] = 1, value
        return accepts & BOOL != 0 and (value == 0 or value == 1)
    if accepts & TENSOR and is_tensor(obj):
        a.kinds[k], a.tensors[k] = 0, unboxed(obj)
        return True
    if obj == symbol("none"):
        a.kinds[k] = 4
        return accepts & NONE != 0
    if accepts & LIST:
        if kind == symbol("type_list"):
            return take_list(a, k, obj, True)
        if kind == symbol("type_tuple") or is_subtype(kind, symbol("type_tuple")):
            return take_list(a, k, obj, False)
    return False


@njit
def parse(row, args, count, names, arguments):
    """Put a call's objects into an argument record: 0 where they have no plain form, -1 where they have, else the box of `out`."""
    o, a = op_at(row), arguments_at(arguments)
    a.room = given = 0
    place = k = 0
    while place < count:
        if k >= o.operands:
            return 0
        obj = argument(args, place)
        if o.accepts[k] & REST and load(obj + TYPE) == symbol("type_int"):
            if count - place > RANK:
                return 0
            start = arguments_room(a, k, count - place)
            for i in range(count - place):
                value, fits = whole(argument(args, place + i))
                if not fits:
                    return 0
                a.lists[start + i] = value
            a.tensors[k] = 0
            place = count
        else:
            if not take_object(o.accepts[k], a, k, obj):
                return 0
            place += 1
        given |= 1 << k
        k += 1
    out = -1
    if names:
        for j in range(tuple_size(names)):
            name, obj = tuple_item(names, j), argument(args, count + j)
            if name == symbol("keyword_out"):
                if obj != symbol("none"):
                    if not is_tensor(obj):
                        return 0
                    out = obj
                continue
            found = False
            for i in range(o.operands):
                if (o.names[i] == name or o.aliases[i] == name) and given >> i & 1 == 0:
                    if not take_object(o.accepts[i], a, i, obj):
                        return 0
                    given |= 1 << i
                    found = True
            if not found:
                return 0
    found = False
    for i in range(o.operands):
        if given >> i & 1 == 0:
            if o.accepts[i] & REST:
                arguments_room(a, i, 0)
            elif i < o.required:
                return 0
            else:
                a.tensors[i], a.kinds[i], a.numbers[i] = 0, o.default_kinds[i], o.default_numbers[i]
        found |= a.tensors[i] != 0
        if o.masks >> i & 1 and (a.tensors[i] == 0 or tensor_at(a.tensors[i]).dtype != 0):
            return 0
    a.count = o.operands
    return out if found else 0


@native
def call_op(function, args, count, names):
    """``op(x, ..., out=None)``"""
    arguments = new_arguments()
    row = load(function + ROW)
    out = parse(row, args, count, names, arguments)
    if out == 0:
        return 1
    if out == -1:
        return box(perform_for_python(row, arguments))
    decref(perform_into(row, arguments, unboxed(out), 0))
    add_reference(out)
    return out


@native
def call_in_place(function, args, count, names):
    """``x.op_(...)``: the result goes into the first argument, which is given back."""
    arguments = new_arguments()
    row = load(function + ROW)
    if parse(row, args, count, names, arguments) != -1 or arguments_at(arguments).tensors[0] == 0:
        return 1
    decref(perform_into(row, arguments, arguments_at(arguments).tensors[0], 1))
    add_reference(argument(args, 0))
    return argument(args, 0)


@native
def call_reflected(function, args, count, names):
    """``y.__rop__(x)``: the arguments in the other order."""
    swapped = new_frame()
    if count != 2 or names:
        return 1
    store(swapped, argument(args, 1))
    store(swapped + 8, argument(args, 0))
    arguments = new_arguments()
    row = load(function + ROW)
    if parse(row, swapped, count, names, arguments) != -1:
        return 1
    return box(perform_for_python(row, arguments))


@native
def get_field(function, args, count):
    """A field of the record of a tensor, as an int; `row` says which."""
    return from_long(field(unboxed(argument(args, 0)), load(function + ROW)))


@native
def get_flag(function, args, count):
    """A field of the record of a tensor, as a bool."""
    value = symbol("false")
    if field(unboxed(argument(args, 0)), load(function + ROW)):
        value = symbol("true")
    add_reference(value)
    return value


@native
def call_backward(function, args, count):
    """``x.backward()`` of a tensor of one element that is part of a graph; other forms are Python's."""
    if count != 1 or not is_tensor(argument(args, 0)):
        return 1
    root = unboxed(argument(args, 0))
    if tensor_at(root).numel != 1 or not needs_grad(tensor_at(root)):
        return 1
    backward_from(root)
    return none()


@native
def get_grad_box(function, args, count):
    """``x.grad``, where its box lives; else Python makes it, and keeps it."""
    x = tensor_at(unboxed(argument(args, 0)))
    if x.node == 0:
        return none()
    kept = output_at(output_of(x.node, x.output_nr))
    if kept.grad == 0:
        return none() if kept.retains or node_at(x.node).kind == LEAF else 1
    seen = tensor_at(kept.grad).box
    if not living(seen):
        return 1
    add_reference(seen)
    return seen
