"""What users' compiled code calls: native functions behind cells, words that code finds by name and that hold an address.

A cell is published when the library is imported and filled when it is first used, so that code which numba has cached links in a
process that has not compiled anything yet. `kind` says what the caller was compiled for: the dtype's code, and from bit 8 on the rank
plus one, or 0 where the rank is not known; a result of another kind is refused, since the caller would misread it.
"""

import ctypes
import traceback

import numpy as np
from numba import njit, types

from numbatensor.core.compiler import address, attempt, call, declared, external, fail, native, publish, symbol
from numbatensor.core.conversions import convert
from numbatensor.core.copies import copy_run
from numbatensor.core.dispatch import perform, perform_into
from numbatensor.core.engine import backward_from
from numbatensor.core.entries import field
from numbatensor.core.graph import LEAF, needs_grad, output_of
from numbatensor.core.memory import atomic_add, decref, incref, load, malloc, store
from numbatensor.core.modes import get_specific, grad_enabled, new_key, set_modes, set_specific, switch_grad
from numbatensor.core.promotion import put_number
from numbatensor.core.python import (
    PAYLOAD,
    add_reference,
    argument,
    box,
    call_python,
    callback,
    drop_reference,
    entry,
    none,
)
from numbatensor.core.records import (
    RANK,
    Storage,
    arguments_at,
    frame_at,
    new_arguments,
    new_frame,
    node_at,
    output_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.sites import enter_site, leave_site, writer
from numbatensor.core.tensors import FLOAT32, alias, empty, zero
from numbatensor.core.writes import bump, write, write_number

BAD_KIND, NO_ITEM, BAD_INDEX, TOO_MANY, NEGATIVE_SIZE, NO_LEAF, NOT_FLOAT, NUMPY_GRAD, NO_LENGTH, NO_PRODUCT = range(10)
ALIASES = Storage.fields["aliases"][1]
for word in ("setitem", "numpy", "zero_", "fill_", "copy_"):
    publish(f"writer_{word}", writer({"setitem": "__setitem__", "numpy": "numpy()"}.get(word, word)))


@native
def compiled_check(t, kind):
    """Fail unless a tensor is of the kind that the caller was compiled for; the caller keeps its reference."""
    x = tensor_at(t)
    if x.dtype != kind & 255 or (kind >> 8 and x.ndim != (kind >> 8) - 1):
        call_python("mistyped", BAD_KIND, x.dtype | x.ndim + 1 << 8, kind)
    return t


@native
def checked(t, kind):
    """A new tensor, if it is of the kind that the caller was compiled for; else it is given back, and the call fails."""
    if attempt(symbol("compiled_check"), t, kind) == -1:
        decref(t)
        fail()
    return t


@native
def compiled_perform(op, arguments, kind, site):
    """Run an op, at a line of the user's."""
    enter_site(site)
    made = attempt(symbol("perform"), op, arguments)
    leave_site()
    if made == -1:
        fail()
    return checked(made, kind)


@native
def compiled_in_place(op, arguments, site):
    """Run an op and write the result into its first argument."""
    enter_site(site)
    made = attempt(symbol("perform_into"), op, arguments, arguments_at(arguments).tensors[0], 1)
    leave_site()
    if made == -1:
        fail()
    decref(made)
    return 0


@native
def compiled_item(t):
    """The address of the one element."""
    x = tensor_at(t)
    if x.numel != 1:
        call_python("mistyped", NO_ITEM, x.numel, 0)
    return x.data


@native
def compiled_convert(t, dtype, site):
    """The tensor in another dtype, recorded; itself where it has it."""
    enter_site(site)
    made = attempt(symbol("convert"), t, dtype)
    leave_site()
    if made == -1:
        fail()
    return made


@native
def compiled_new(sizes, n, dtype, fill, value, requires_grad):
    """A new tensor of n sizes; `fill`: 0 nothing, 1 zeros, 2 an int, 3 a float by its bits."""
    frame = new_frame()
    f = frame_at(frame)
    f.ndim = n
    if n > RANK:
        call_python("complain", 10, n, 0, 0)
    for i in range(n):
        f.shape[i] = load(sizes + 8 * i)
        if f.shape[i] < 0:
            call_python("mistyped", NEGATIVE_SIZE, f.shape[i], 0)
    if requires_grad and dtype < FLOAT32:
        call_python("mistyped", NOT_FLOAT, 0, 0)
    t = empty(frame, dtype)
    if fill == 1:
        zero(t)
    elif fill and tensor_at(t).numel:
        one = new_frame()
        put_number(one, dtype, fill, value)
        x = tensor_at(t)
        copy_run(x.data, x.itemsize, one, 0, x.numel, x.itemsize)
    tensor_at(t).requires_grad = requires_grad
    return t


@native
def index_step(t, dim, item):
    """What one item of an index makes of dimension `dim`: an int (0), a slice (1), or None (2), with its numbers after it."""
    arguments = new_arguments()
    a, x, kind = arguments_at(arguments), tensor_at(t), load(item)
    a.tensors[0], a.kinds[0], a.room = t, 0, 0
    for k in range(1, 5):
        a.tensors[k], a.kinds[k] = 0, 2
    a.numbers[1] = dim
    if kind == 2:
        a.count = 2
        return perform(symbol("op_unsqueeze"), arguments)
    if kind == 0:
        a.count, a.numbers[2] = 3, load(item + 8)
        return perform(symbol("op_select"), arguments)
    start, stop, step, n = load(item + 8), load(item + 16), load(item + 24), x.shape[dim]
    if step == 0:
        call_python("mistyped", BAD_INDEX, 0, 0)
    low, high = (0, n) if step > 0 else (-1, n - 1)
    start = min(max(start + n if start < 0 else start, low), high)
    stop = min(max(stop + n if stop < 0 else stop, low), high)
    span = stop - start if step > 0 else start - stop
    size = (span + abs(step) - 1) // abs(step) if span > 0 else 0
    a.count, a.numbers[2], a.numbers[3], a.numbers[4] = 5, start if size else 0, step, size
    return perform(symbol("op_slice"), arguments)


@native
def index_steps(t, items, n):
    """What an index of n items, four words each, names: a view, or the tensor itself where there is nothing to do."""
    used, dim, made = 0, 0, t
    for k in range(n):
        used += load(items + 32 * k) < 2
    spare = tensor_at(t).ndim - used
    if spare < 0:
        call_python("mistyped", TOO_MANY, tensor_at(t).ndim, 0)
    incref(made)
    for k in range(n):
        kind = load(items + 32 * k)
        if kind == 3:
            dim += spare
            continue
        following = attempt(symbol("index_step"), made, dim, items + 32 * k)
        decref(made)
        if following == -1:
            fail()
        made = following
        dim += kind != 0
    return made


@native
def compiled_index(t, items, n, kind, site):
    """``t[...]``"""
    enter_site(site)
    made = attempt(symbol("index_steps"), t, items, n)
    leave_site()
    if made == -1:
        fail()
    return checked(made, kind)


@native
def end_step(t, kind, place):
    """A view with a dimension of size 1 more (`kind` 2), or with its first element (0), at the end or at the front (`place`)."""
    item = new_frame()
    store(item, kind)
    store(item + 8, 0)
    return index_step(t, place, item)


@native
def product_of(x, y):
    """``x @ y`` of tensors of all ranks but 0."""
    a, b = tensor_at(x), tensor_at(y)
    fits = a.dtype == b.dtype and a.ndim > 0 and b.ndim > 0
    if fits:
        fits = a.shape[a.ndim - 1] == b.shape[max(b.ndim - 2, 0)]
    if not fits:
        call_python("mistyped", NO_PRODUCT, x, y)
    first, second = a.ndim == 1, b.ndim == 1
    left = right = made = 0
    arguments = new_arguments()
    r = arguments_at(arguments)
    if first:
        left = end_step(x, 2, 0)
    if second:
        right = attempt(symbol("end_step"), y, 2, 1)
    if right != -1:
        r.count, r.room = 2, 0
        r.tensors[0], r.tensors[1] = left if first else x, right if second else y
        r.kinds[0] = r.kinds[1] = 0
        made = attempt(symbol("perform"), symbol("op_matmul"), arguments)
        decref(right)
    decref(left)
    if right == -1 or made == -1:
        fail()
    for which in range(2):
        if which == 0 and second or which == 1 and first:
            whole = made
            place = tensor_at(whole).ndim - (1 if which == 0 or second else 2)
            made = attempt(symbol("end_step"), whole, 0, place)
            decref(whole)
            if made == -1:
                fail()
    return made


@native
def compiled_product(x, y, kind, site):
    """``x @ y``"""
    enter_site(site)
    made = attempt(symbol("product_of"), x, y)
    leave_site()
    if made == -1:
        fail()
    return checked(made, kind)


@native
def write_here(target, kind, value, word):
    """Overwrite a tensor with a number (`kind` 1 to 3), or with a tensor, by address (`kind` 0)."""
    if kind:
        return write_number(target, kind, value, word)
    incref(value)
    while tensor_at(value).ndim > tensor_at(target).ndim and tensor_at(value).shape[0] == 1:
        item = new_frame()
        store(item, 0)
        store(item + 8, 0)
        inner = attempt(symbol("index_step"), value, 0, item)
        decref(value)
        if inner == -1:
            fail()
        value = inner
    done = attempt(symbol("write"), target, value, word)
    decref(value)
    if done == -1:
        fail()
    return 0


@native
def compiled_set(t, items, n, kind, value, site):
    """``t[...] = value``"""
    enter_site(site)
    target = attempt(symbol("index_steps"), t, items, n)
    done = attempt(symbol("write_here"), target, kind, value, symbol("writer_setitem")) if target != -1 else -1
    leave_site()
    if target != -1:
        decref(target)
    if done == -1:
        fail()
    return 0


@native
def compiled_overwrite(t, kind, value, which, site):
    """``t.zero_()`` (0), ``t.fill_(value)`` (1), ``t.copy_(value)`` (2)."""
    word = symbol("writer_zero_")
    if which == 1:
        word = symbol("writer_fill_")
    elif which == 2:
        word = symbol("writer_copy_")
    enter_site(site)
    done = attempt(symbol("write_here"), t, kind, value, word)
    leave_site()
    if done == -1:
        fail()
    return 0


@native
def compiled_numpy(t, site):
    """Count a write, since the array that shows the memory may be written; what is saved from now on is checksummed. Gives the data."""
    x = tensor_at(t)
    if needs_grad(x):
        call_python("mistyped", NUMPY_GRAD, 0, 0)
    enter_site(site)
    bump(symbol("writer_numpy"), t)
    leave_site()
    atomic_add(x.storage + ALIASES, 1)
    return x.data


@native
def compiled_backward(t):
    """Add the gradients of a tensor to the leaves it depends on; 1 where Python has to look at it."""
    x = tensor_at(t)
    if x.numel != 1 or not needs_grad(x):
        return 1
    return backward_from(t)


@native
def compiled_grad(t, kind):
    """A new reference to the gradient, or 0."""
    x = tensor_at(t)
    if x.node == 0:
        return 0
    g = output_at(output_of(x.node, x.output_nr)).grad
    if g == 0:
        return 0
    incref(g)
    return checked(g, kind)


@native
def compiled_requires_grad(t, flag):
    """Make a leaf require a gradient, or not."""
    x = tensor_at(t)
    leaf = x.node == 0 or node_at(x.node).kind == LEAF
    if flag and x.dtype < FLOAT32:
        call_python("mistyped", NOT_FLOAT, 0, 0)
    if flag == 0 and needs_grad(x) and not leaf:
        call_python("mistyped", NO_LEAF, 0, 0)
    x.requires_grad = flag
    return 0


@native
def compiled_is_leaf(t):
    """Whether no recorded op made a tensor."""
    x = tensor_at(t)
    if field(t, 3) == 0:
        return 1
    return 1 if x.node == 0 or node_at(x.node).kind == LEAF else 0


@native
def compiled_length(t):
    """The size of the first dimension."""
    if tensor_at(t).ndim == 0:
        call_python("mistyped", NO_LENGTH, 0, 0)
    return tensor_at(t).shape[0]


@native
def compiled_size(t, dim):
    """The size of a dimension."""
    x = tensor_at(t)
    n = max(x.ndim, 1)
    if dim < -n or dim >= n or x.ndim == 0:
        call_python("mistyped", BAD_INDEX, dim, n)
    return x.shape[dim + n if dim < 0 else dim]


@native
def compiled_switch_grad(on):
    """Record on this thread, or not; what was before."""
    return 1 if switch_grad(on) else 0


@native
def compiled_restore_modes(before):
    """Give this thread the modes again that it had when it entered compiled code, which an error may have left in a block."""
    here = load(symbol("mode_key"))
    set_modes(here, get_specific(here), before)
    return 0


@native
def compiled_is_recording(unused):
    return 1 if grad_enabled() else 0


numba_types = np.zeros((16, 16), np.int64)  # Numba's types of tensors, by dtype and rank; alive as long as the process
publish("numba_types", numba_types.ctypes.data)


@native
def get_numba_type(function, args, count):
    """What Numba takes a tensor for; Python makes what is not known yet."""
    obj = argument(args, 0)
    if load(obj + PAYLOAD) == 0:
        return 1
    x = tensor_at(load(obj + PAYLOAD))
    found = load(symbol("numba_types") + 8 * (16 * x.dtype + x.ndim))
    if found == 0:
        return 1
    add_reference(found)
    return found


fetch_error = external("PyErr_Fetch", 3, types.none)
restore_error = external("PyErr_Restore", 3, types.none)
ensure = external("PyGILState_Ensure", 0, small=True)
release = external("PyGILState_Release", 1, types.none)
error_key = new_key()
publish("error_key", error_key.ctypes.data)


@njit
def drop_error(words):
    """Forget an error that was put away. Needs the GIL."""
    for k in range(3):
        obj = load(words + 8 * k)
        store(words + 8 * k, 0)
        if obj:
            drop_reference(obj)


@native
def put_away(unused):
    """Put the error that is set away, on this thread: compiled code may catch it, and then nothing must be set."""
    state = ensure()
    here = load(symbol("error_key"))
    words = get_specific(here)
    if words == 0:
        words = malloc(24)
        for k in range(3):
            store(words + 8 * k, 0)
        set_specific(here, words)
    drop_error(words)
    fetch_error(words, words + 8, words + 16)
    if load(words + 16):
        call_python("forget_frames", load(words + 16))
    release(state)
    return 0


@callback
def forget_frames(address):
    """Let go of what the frames of a traceback hold: an error that compiled code has caught lasts until the thread's next one."""
    traceback.clear_frames(ctypes.cast(address, ctypes.py_object).value)
    return 0


@entry
def raise_again(self, args, count):
    """() raise the error that was put away on this thread"""
    words = get_specific(load(symbol("error_key")))
    if words == 0 or load(words) == 0:
        return none()
    restore_error(load(words), load(words + 8), load(words + 16))
    for k in range(3):
        store(words + 8 * k, 0)
    return 0


assert perform_into and convert and box and write and alias and storage_at and call  # reached through their symbols

CELLS = (
    *(name for name in declared if name.startswith("compiled_")),
    "box",
    "alias",
    "field",
)
cells = np.zeros(len(CELLS), np.int64)
for k, name in enumerate(CELLS):
    publish("cell_" + name, cells.ctypes.data + 8 * k)


@callback
def fill_cell(cell):
    """The address of the native function behind a cell, compiled or loaded at its first use."""
    k = (cell - cells.ctypes.data) // 8
    cells[k] = address(CELLS[k])
    return int(cells[k])


@native
def load_cell(cell):
    return call_python("fill_cell", cell)


for name in ("load_cell", "put_away"):
    address(name)  # these two have no cells: one fills them, and one runs while an error is set
