"""Views: new tensors over the storage of another, by functions of geometry; and what a write to a view means for its base.

A view op's declared function gets the record of the new tensor, which starts as a copy of the input's geometry, the input's record
and the attributes; it changes shape, strides (in bytes) and the address of the first element, and says whether it could.
"""

from numba import njit
from numba.extending import register_jitable

from numbatensor.core.arguments import arguments_room, item, list_argument, number_argument
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import contiguous_copy, copy_into
from numbatensor.core.devices import FILL_BYTES, there
from numbatensor.core.graph import CHAINED, INFERENCE_VIEW, KIND, NO_GRAD_VIEW, OP, is_ambiguous
from numbatensor.core.memory import decref, incref, local, memset
from numbatensor.core.modes import grad_enabled, inference_bit
from numbatensor.core.python import call_python
from numbatensor.core.recording import record_call
from numbatensor.core.records import arguments_at, frame_at, new_arguments, new_frame, op_at, storage_at, tensor_at
from numbatensor.core.rules import add_each
from numbatensor.core.table import AMBIGUOUS, NO_MEMORY, refuse
from numbatensor.core.tensors import FLOAT16, FLOAT32, alias, blank, empty, is_packed, new_storage, zero


@njit
def finish_view(t, x, op):
    """Complete the record of an op's view: its size, its base, and what forbids to write it."""
    y, b = tensor_at(t), tensor_at(x)
    y.numel = 1
    for i in range(y.ndim):
        y.numel *= y.shape[i]
    y.contiguous = 1 if is_packed(y) else 0
    base = b.base
    if base == 0:
        base = x
    incref(base)
    y.base, y.seen = base, storage_at(y.storage).version
    if not grad_enabled():
        y.restriction = INFERENCE_VIEW if inference_bit() else NO_GRAD_VIEW
    elif b.restriction:
        y.restriction = b.restriction & KIND | CHAINED | (1 + op_at(op).index) << OP


def adapted(g, getters):
    """A function of geometry that reads its attributes from the argument record."""
    n = len(getters)
    a, b, c, d, e = list(getters) + [number_argument] * (5 - n)
    forms = (
        lambda y, x, arguments: g(y, x),
        lambda y, x, arguments: g(y, x, a(arguments, 1)),
        lambda y, x, arguments: g(y, x, a(arguments, 1), b(arguments, 2)),
        lambda y, x, arguments: g(y, x, a(arguments, 1), b(arguments, 2), c(arguments, 3)),
        lambda y, x, arguments: g(y, x, a(arguments, 1), b(arguments, 2), c(arguments, 3), d(arguments, 4)),
        lambda y, x, arguments: g(
            y, x, a(arguments, 1), b(arguments, 2), c(arguments, 3), d(arguments, 4), e(arguments, 5)
        ),
    )
    return register_jitable(forms[n])


def view_runner(geometry, attributes):
    """The code of a view op from its function of geometry. `attributes`: for each, `number_argument` or `list_argument`."""
    change = adapted(register_jitable(geometry), attributes)

    def run(op, arguments, out):
        x = arguments_at(arguments).tensors[0]
        t = alias(x)
        if not change(tensor_at(t), tensor_at(x), arguments):
            decref(t)
            refuse(op, arguments)
        finish_view(t, x, op)
        return t

    return run


# another shape


@njit
def packed_strides(y):
    step = y.itemsize
    for k in range(y.ndim - 1, -1, -1):
        y.strides[k] = step
        step *= max(y.shape[k], 1)


@njit
def strides_for_shape(y, x):
    """Give y the strides under which x's memory reads in y's shape; whether there are any. Both have the same number of elements."""
    if x.numel == 0:
        packed_strides(y)
        return True
    d, left, step = x.ndim, 1, x.itemsize
    for k in range(y.ndim - 1, -1, -1):
        n = y.shape[k]
        if n == 1:
            y.strides[k] = step
            continue
        if left == 1:  # the next run of x's dimensions that lie evenly
            d -= 1
            while x.shape[d] == 1:
                d -= 1
            left, step = x.shape[d], x.strides[d]
            while d > 0 and (x.shape[d - 1] == 1 or x.strides[d - 1] == step * left):
                d -= 1
                left *= x.shape[d]
        if left % n:
            return False
        y.strides[k] = step
        step *= n
        left //= n
    return True


@njit
def set_shape(y, numel, shape):
    """Give y a shape whose one -1 is worked out; whether it has as many elements."""
    y.ndim, known, open_at = shape[1], 1, -1
    for i in range(y.ndim):
        n = item(shape, i)
        y.shape[i] = n
        if n == -1 and open_at == -1:
            open_at = i
        elif n < 0:
            return False
        else:
            known *= n
    if open_at >= 0:
        if known == 0 or numel % known:
            return False
        y.shape[open_at] = numel // known
        return True
    return known == numel


@native
def same_memory(op, arguments, out):
    """Another shape over the same memory."""
    x = arguments_at(arguments).tensors[0]
    t = alias(x)
    y, b = tensor_at(t), tensor_at(x)
    if not set_shape(y, b.numel, list_argument(arguments, 1)) or not strides_for_shape(y, b):
        decref(t)
        refuse(op, arguments)
    finish_view(t, x, op)
    return t


@native
def same_elements(op, arguments, out):
    """Another shape over the same memory, or over a copy where that does not do."""
    x = arguments_at(arguments).tensors[0]
    t = alias(x)
    y, b = tensor_at(t), tensor_at(x)
    if not set_shape(y, b.numel, list_argument(arguments, 1)):
        decref(t)
        refuse(op, arguments)
    if strides_for_shape(y, b):
        finish_view(t, x, op)
        return t
    made = attempt(symbol("contiguous_copy"), x, tensor_at(x).dtype, 0)
    if made == -1:
        decref(t)
        fail()
    z = tensor_at(made)
    z.ndim = y.ndim
    for i in range(y.ndim):
        z.shape[i] = y.shape[i]
    packed_strides(z)
    decref(t)
    return made


@native
def rows_of(op, arguments, out):
    """All dimensions but the last as one: a matrix over the same memory, or over a copy."""
    a = arguments_at(arguments)
    x = tensor_at(a.tensors[0])
    width = x.shape[x.ndim - 1] if x.ndim else 1
    a.room = 0
    start = arguments_room(a, 1, 2)
    a.lists[start], a.lists[start + 1] = x.numel // width if width else 0, width
    if width == 0:
        a.lists[start] = 1
        for i in range(x.ndim - 1):
            a.lists[start] *= x.shape[i]
    return same_elements(op, arguments, out)


@native
def copy_of(op, arguments, out):
    x = arguments_at(arguments).tensors[0]
    return contiguous_copy(x, tensor_at(x).dtype, 0)


# writes to views


@njit
def put_geometry(a, k, x):
    """Make arguments k and k + 1 the shape and strides of a tensor."""
    start = arguments_room(a, k, x.ndim)
    for i in range(x.ndim):
        a.lists[start + i] = x.shape[i]
    start = arguments_room(a, k + 1, x.ndim)
    for i in range(x.ndim):
        a.lists[start + i] = x.strides[i]


@njit
def place_of(arguments, base, view):
    """The arguments that say where a view lies in its base."""
    a = arguments_at(arguments)
    a.room = 0
    put_geometry(a, 2, tensor_at(base))
    put_geometry(a, 4, tensor_at(view))
    a.tensors[6], a.kinds[6], a.numbers[6] = 0, 2, tensor_at(view).data - tensor_at(base).data
    a.tensors[0], a.kinds[0], a.tensors[1], a.kinds[1], a.count = base, 0, view, 0, 7


@native
def rebase_view(view):
    """A view was written, and its node is the write's: make it the history of the base too."""
    base, arguments = tensor_at(view).base, new_arguments()
    place_of(arguments, base, view)
    record_call(symbol("op_copy_slices"), base, arguments)
    tensor_at(view).seen = -1
    return 0


@native
def regenerate(view):
    """The storage of a view was written since its node was made: its history is now that of the base."""
    x = tensor_at(view)
    if is_ambiguous(x):
        call_python("complain", AMBIGUOUS, 0, view, 0)
    if tensor_at(x.base).requires_grad == 0:
        x.seen = storage_at(x.storage).version
        return 0
    arguments = new_arguments()
    place_of(arguments, x.base, view)
    record_call(symbol("op_as_strided_view"), view, arguments)
    return 0


@njit
def set_parts(t, shape, strides, scale):
    """Complete the geometry of a record from lists of sizes and of strides in bytes, times a scale."""
    y = tensor_at(t)
    y.ndim, y.numel = shape[1], 1
    for i in range(y.ndim):
        y.shape[i], y.strides[i] = item(shape, i), item(strides, i) * scale
        y.numel *= y.shape[i]
    y.contiguous = 1 if is_packed(y) else 0


@njit
def laid_out(x, shape, strides, scale, clear):
    """A new tensor of a shape and strides (in bytes, times a scale), zero or with the elements of x."""
    t = tensor_at(x)
    below = above = 0
    for i in range(shape[1]):
        reach = (item(shape, i) - 1) * item(strides, i) * scale
        below += min(reach, 0)
        above += max(reach, 0)
    nbytes = max(above - below, 0) + t.itemsize
    s = new_storage(local(), nbytes)
    if s == 0:
        call_python("complain", NO_MEMORY, nbytes, 0, 0)
    made = blank(s, storage_at(s).data - below)
    tensor_at(made).dtype, tensor_at(made).itemsize = t.dtype, t.itemsize
    set_parts(made, shape, strides, scale)
    if clear:
        if tensor_at(made).device:
            call(there(FILL_BYTES), storage_at(s).data, 0, nbytes, tensor_at(made).device)
        else:
            memset(storage_at(s).data, 0, nbytes)
    else:
        copy_into(made, x)
    return made


@njit
def part(whole, arguments, scale):
    """A plain tensor over the part of another that arguments 3 to 5 say: shape, strides and offset in bytes, times a scale."""
    t = alias(whole)
    tensor_at(t).data += number_argument(arguments, 5) * scale
    set_parts(t, list_argument(arguments, 3), list_argument(arguments, 4), scale)
    return t


@njit
def packed(t):
    """The tensor, whose reference it takes, or a contiguous copy."""
    if tensor_at(t).contiguous:
        return t
    made = contiguous_copy(t, tensor_at(t).dtype, 0)
    decref(t)
    return made


@native
def region(op, arguments, out):
    """What lies at a part of x, once x is laid out as given: x, shape and strides of the layout and of the part, offset."""
    x = arguments_at(arguments).tensors[0]
    whole = laid_out(x, list_argument(arguments, 1), list_argument(arguments, 2), 1, False)
    view = part(whole, arguments, 1)
    made = contiguous_copy(view, tensor_at(view).dtype, 0)
    decref(view)
    decref(whole)
    return made


@native
def placed(op, arguments, out):
    """Zeros in a layout, with x added at a part."""
    x = arguments_at(arguments).tensors[0]
    dtype = tensor_at(x).dtype
    if dtype < FLOAT16:
        return placed_in(x, arguments, 1)
    wide = contiguous_copy(x, FLOAT32, 0)
    whole = attempt(symbol("placed_in"), wide, arguments, 2)
    decref(wide)
    if whole == -1:
        fail()
    rounded = contiguous_copy(whole, dtype, 0)
    decref(whole)
    return rounded


@native
def placed_in(x, arguments, scale):
    """Zeros in a layout, with x added at a part. `scale`: of all steps, since elements are wider than those that they were given for."""
    whole = laid_out(x, list_argument(arguments, 1), list_argument(arguments, 2), scale, True)
    view = part(whole, arguments, scale)
    add_each(view, x)
    decref(view)
    return packed(whole)


@native
def without(op, arguments, out):
    """x laid out as given, with zeros at a part."""
    x = arguments_at(arguments).tensors[0]
    whole = laid_out(x, list_argument(arguments, 1), list_argument(arguments, 2), 1, False)
    view = part(whole, arguments, 1)
    f = new_frame()
    frame_at(f).ndim = 0
    nothing = empty(f, tensor_at(x).dtype)
    zero(nothing)
    copy_into(view, nothing)
    decref(nothing)
    decref(view)
    return packed(whole)


assert contiguous_copy and placed_in and rebase_view and regenerate  # reached through their symbols
