"""What users' compiled code calls: native functions, which it reaches through cells (see `cells.py`).

`kind` says what the caller was compiled for: the dtype's code, and from bit 8 on the rank plus one, or 0 where the rank is not known;
a result of another kind is refused, since the caller would misread it. `site` names the user's line (see `sites.py`).
"""

from numba import njit

from numbatensor.core.aliases import new_alias
from numbatensor.core.compiler import attempt, call, fail, native, publish, symbol
from numbatensor.core.conversions import convert
from numbatensor.core.copies import copy_run
from numbatensor.core.devices import ITEM_THERE, there
from numbatensor.core.dispatch import perform_into
from numbatensor.core.engine import backward_from
from numbatensor.core.entries import field
from numbatensor.core.graph import LEAF, needs_grad, output_of
from numbatensor.core.memory import decref, incref, load, local
from numbatensor.core.modes import inference_bit, replace
from numbatensor.core.promotion import put_number
from numbatensor.core.python import (
    call_python,
)
from numbatensor.core.records import (
    RANK,
    arguments_at,
    frame_at,
    local_at,
    new_frame,
    node_at,
    output_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.sites import enter_site, leave_site, writer
from numbatensor.core.tensors import FLOAT32, empty, zero
from numbatensor.core.writes import bump

(
    BAD_KIND,
    NO_ITEM,
    BAD_INDEX,
    TOO_MANY,
    NEGATIVE_SIZE,
    NO_LEAF,
    NOT_FLOAT,
    NUMPY_GRAD,
    NO_LENGTH,
    NO_PRODUCT,
    NO_INFERENCE,
) = range(11)


for word in ("setitem", "numpy", "zero_", "fill_", "copy_"):
    publish(f"writer_{word}", writer({"setitem": "__setitem__", "numpy": "numpy()"}.get(word, word)))


@njit
def left(made):
    """What was made at a line of the user's, which is left now; fails where it failed (-1)."""
    leave_site()
    if made == -1:
        fail()
    return made


@njit
def checked(t, kind):
    """A new tensor, if it is of the kind that the caller was compiled for; else it is given back, and the call fails."""
    x = tensor_at(t)
    if x.dtype != kind & 255 or (kind >> 8 and x.ndim != (kind >> 8) - 1):
        found = x.dtype | x.ndim + 1 << 8
        decref(t)
        call_python("mistyped", BAD_KIND, found, kind)
    return t


@native
def compiled_perform(op, arguments, kind, site):
    """Run an op, at a line of the user's."""
    enter_site(site)
    made = attempt(symbol("perform"), op, arguments)
    return checked(left(made), kind)


@native
def compiled_row(text):
    """The row of a user's op, by the address of a text (see `cells.row_text`)."""
    return call_python("find_row", text)


@native
def compiled_in_place(op, arguments, site):
    """Run an op and write the result into its first argument."""
    enter_site(site)
    made = attempt(symbol("perform_into"), op, arguments, arguments_at(arguments).tensors[0], 1)
    decref(left(made))
    return 0


@native
def compiled_item(t):
    """The address of the one element."""
    x = tensor_at(t)
    if x.numel != 1:
        call_python("mistyped", NO_ITEM, x.numel, 0)
    return call(there(ITEM_THERE), t) if x.device else x.data


@native
def compiled_convert(t, dtype, site):
    """The tensor in another dtype, recorded; itself where it has it."""
    enter_site(site)
    made = attempt(symbol("convert"), t, dtype)
    return left(made)


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
def compiled_numpy(t, site):
    """A block for an array over the memory to rest on. It counts as a write, since the array may be written; what is saved while it lives
    is checksummed."""
    x = tensor_at(t)
    if needs_grad(x):
        call_python("mistyped", NUMPY_GRAD, 0, 0)
    enter_site(site)
    bump(symbol("writer_numpy"), t)
    leave_site()
    return new_alias(x.storage)


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
    if flag and storage_at(x.storage).inference and inference_bit() == 0:
        call_python("mistyped", NO_INFERENCE, 0, 0)
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
def compiled_set_mode(mask, bits):
    """Replace the bits of this thread's modes that are in the mask; the modes before."""
    return replace(mask, bits)


@native
def compiled_restore_modes(before):
    """Give this thread the modes again that it had when it entered compiled code, which an error may have left in a block."""
    local_at(local()).mode = before
    return 0


@native
def compiled_enter(site):
    """Name the line of compiled code that runs now, or with 0 none: Python's code runs in between."""
    if site:
        enter_site(site)
    else:
        leave_site()
    return 0


assert perform_into and convert  # reached through their symbols
