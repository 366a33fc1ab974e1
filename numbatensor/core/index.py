"""Indexing ops over slices: unrecorded, ``name(op, arguments, out)``.

Index tensors are integers of one shape. Several are given one by one (then what else is no tensor comes after, and None fills the
places that are left), or by the address of an array of their records' addresses, and their number. Kernel 0 of the ops that read, and of `replace` and `index_copy`, is `take` or `put` by the width of an element; that of
those that add is `add_at` by dtype.
"""

from numba import njit

from numbatensor.core.arguments import item, list_argument, wrap
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.memory import decref, incref, memcpy, store
from numbatensor.core.packing import op_result, packed_as, tensors_from
from numbatensor.core.records import RANK, Tensor, arguments_at, frame_at, new_frame, on_stack, tensor_at
from numbatensor.core.slices import ADD, PUT, index_kernel, pick_slices, write_slices
from numbatensor.core.table import refuse
from numbatensor.core.tensors import empty, shape_of, zero

assert packed_as and op_result and write_slices  # reached through their symbols
new_tensor, TENSOR = on_stack(Tensor), Tensor.itemsize


@njit
def indices_from(arguments, k):
    """The address of the index tensors' addresses, and their number, as given from argument k on."""
    a = arguments_at(arguments)
    if a.tensors[k] == 0:
        return a.numbers[k], a.numbers[k + 1]
    n = 1
    while k + n < a.count and a.tensors[k + n]:
        n += 1
    return tensors_from(arguments, k), n


@native
def pick(op, arguments, out):
    """``x[:, i, j]``: x, index tensors, the first dimension that they are for."""
    a = arguments_at(arguments)
    indices, count = indices_from(arguments, 1)
    return pick_slices(op, arguments, out, a.tensors[0], indices, count, a.numbers[a.count - 1])


@native
def take_rows(op, arguments, out):
    """``x[index]``: x, index of any shape."""
    return pick_slices(op, arguments, out, arguments_at(arguments).tensors[0], tensors_from(arguments, 1), 1, 0)


@njit
def as_vector(vector, index):
    """Make a record on the stack a view of an index as a vector: one without dimensions counts as one element."""
    memcpy(vector, index, TENSOR)
    v = tensor_at(vector)
    if v.ndim == 0:
        v.ndim, v.shape[0], v.strides[0] = 1, 1, v.itemsize
    return v.ndim == 1


@native
def index_select(op, arguments, out):
    """Slices of a dimension: x, index (one dimension at most), dim."""
    a, vector, indices = arguments_at(arguments), new_tensor(), new_frame()
    dim = wrap(a.numbers[2], tensor_at(a.tensors[0]).ndim)
    if not as_vector(vector, a.tensors[1]) or dim < 0:
        refuse(op, arguments)
    store(indices, vector)
    return pick_slices(op, arguments, out, a.tensors[0], indices, 1, dim)


@native
def write_at(op, arguments, made, indices, count, first, source, kernel):
    """Write into the tensor `made`, whose reference is taken and given; refuses what does not fit."""
    dtype = tensor_at(made).dtype
    packed = source if tensor_at(source).dtype == dtype else attempt(symbol("packed_as"), source, dtype)
    status = packed
    if packed != -1:
        status = attempt(symbol("write_slices"), made, indices, count, first, packed, kernel)
        if packed != source:
            decref(packed)
    if status == -1 or status == 1:
        decref(made)
        if status == 1:
            refuse(op, arguments)
        fail()
    return made


@njit
def write_in_place(op, arguments, kernel):
    """Write into the first argument: x, source, index tensors, the first dimension that they are for."""
    a = arguments_at(arguments)
    indices, count = indices_from(arguments, 2)
    incref(a.tensors[0])
    return write_at(op, arguments, a.tensors[0], indices, count, a.numbers[a.count - 1], a.tensors[1], kernel)


@native
def replace(op, arguments, out):
    """Overwrite elements of x in place: x, source, index tensors, first dimension."""
    return write_in_place(op, arguments, index_kernel(op, tensor_at(arguments_at(arguments).tensors[0]), PUT))


@native
def add_at(op, arguments, out):
    """Add to elements of x in place: x, source, index tensors, first dimension."""
    return write_in_place(op, arguments, index_kernel(op, tensor_at(arguments_at(arguments).tensors[0]), ADD))


@native
def cleared_at(op, arguments, out):
    """A copy of x with zeros at an index: x, index tensors, the first dimension that they are for."""
    a, frame = arguments_at(arguments), new_frame()
    x = tensor_at(a.tensors[0])
    kernel = index_kernel(op, x, PUT)
    indices, count = indices_from(arguments, 1)
    frame_at(frame).ndim = 0
    nothing = empty(frame, x.dtype)
    zero(nothing)
    made = attempt(symbol("copy_for_writing"), a.tensors[0], out)
    if made != -1:
        made = attempt(
            symbol("write_slices_at"), op, arguments, made, indices, count, a.numbers[a.count - 1], nothing, kernel
        )
    decref(nothing)
    if made == -1:
        fail()
    return made


@native
def write_slices_at(op, arguments, made, indices, count, first, source, kernel):
    return write_at(op, arguments, made, indices, count, first, source, kernel)


@native
def cleared_result(frame, dtype, out):
    """Zeros of a frame's shape, in `out` if that is not 0; a new reference."""
    made = op_result(frame, dtype, out)
    zero(made)
    return made


@njit
def listed_shape(frame, arguments, k):
    """Give a frame the shape in list k; whether it is one."""
    f, sizes = frame_at(frame), list_argument(arguments, k)
    f.ndim = min(max(sizes[1], 0), RANK)
    right = 0 <= sizes[1] <= RANK
    for i in range(f.ndim):
        f.shape[i] = item(sizes, i)
        right = right and f.shape[i] >= 0
    return right


@native
def place(op, arguments, out):
    """Zeros of a size with elements added at an index, the gradient of :func:`pick`: source, index tensors, first dimension, size."""
    a, f = arguments_at(arguments), new_frame()
    indices, count = indices_from(arguments, 1)
    if not listed_shape(f, arguments, a.count - 1):
        refuse(op, arguments)
    dtype = tensor_at(a.tensors[0]).dtype
    kernel = index_kernel(op, tensor_at(a.tensors[0]), ADD)
    made = cleared_result(f, dtype, out)
    return write_at(op, arguments, made, indices, count, a.numbers[a.count - 2], a.tensors[0], kernel)


@native
def add_rows(op, arguments, out):
    """Zeros with rows added at an index, the gradient of :func:`take_rows`: index, grad, number of rows."""
    a, frame = arguments_at(arguments), new_frame()
    f, index, grad = frame_at(frame), tensor_at(a.tensors[0]), tensor_at(a.tensors[1])
    if a.numbers[2] < 0 or grad.ndim < index.ndim:
        refuse(op, arguments)
    f.ndim = 1 + grad.ndim - index.ndim
    if f.ndim > RANK:
        refuse(op, arguments)
    f.shape[0] = a.numbers[2]
    for i in range(1, f.ndim):
        f.shape[i] = grad.shape[index.ndim - 1 + i]
    kernel = index_kernel(op, grad, ADD)
    made = cleared_result(frame, grad.dtype, out)
    return write_at(op, arguments, made, tensors_from(arguments, 0), 1, 0, a.tensors[1], kernel)


@native
def index_select_grad(op, arguments, out):
    """Zeros of a size with slices added at numbers of a dimension: grad, index, size, dim."""
    a, f, vector, indices = arguments_at(arguments), new_frame(), new_tensor(), new_frame()
    dim = wrap(a.numbers[3], a.lengths[2])
    if not listed_shape(f, arguments, 2) or not as_vector(vector, a.tensors[1]) or dim < 0:
        refuse(op, arguments)
    dtype = tensor_at(a.tensors[0]).dtype
    kernel = index_kernel(op, tensor_at(a.tensors[0]), ADD)
    store(indices, vector)
    return write_at(op, arguments, cleared_result(f, dtype, out), indices, 1, dim, a.tensors[0], kernel)


@native
def copy_for_writing(x, out):
    """A contiguous copy of a tensor, in `out` if that is not 0; a new reference. Nothing is copied if `out` is x."""
    f = new_frame()
    shape_of(f, tensor_at(x))
    made = op_result(f, tensor_at(x).dtype, out)
    if made != x:
        copy_into(made, x)
    return made


@njit
def write_copy(op, arguments, out, kernel):
    """A copy of x with a source written at numbers of a dimension: x, index, source, dim."""
    a, vector, indices = arguments_at(arguments), new_tensor(), new_frame()
    dim = wrap(a.numbers[3], tensor_at(a.tensors[0]).ndim)
    if not as_vector(vector, a.tensors[1]) or dim < 0:
        refuse(op, arguments)
    store(indices, vector)
    return write_at(op, arguments, copy_for_writing(a.tensors[0], out), indices, 1, dim, a.tensors[2], kernel)


@native
def index_add(op, arguments, out):
    """A copy of x with slices added at numbers of a dimension: x, index, source, dim. `out` may be x."""
    return write_copy(op, arguments, out, index_kernel(op, tensor_at(arguments_at(arguments).tensors[0]), ADD))


@native
def index_copy(op, arguments, out):
    """A copy of x with slices put at numbers of a dimension: x, index, source, dim. `out` may be x."""
    return write_copy(op, arguments, out, index_kernel(op, tensor_at(arguments_at(arguments).tensors[0]), PUT))
