"""Elements by mask: where they are, which they are, and overwriting them; unrecorded.

Tensors are walked in row-major order of a common shape, merged but never reordered, since the k-th true element is meant.
"""

from numba import njit

from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import broadcast, copy_into
from numbatensor.core.copies import advance
from numbatensor.core.iterate import begin, coalesce, operand
from numbatensor.core.memory import decref, store
from numbatensor.core.packing import op_result, packed_as, width_code
from numbatensor.core.records import Frame, arguments_at, frame_at, new_frame, tensor_at
from numbatensor.core.table import extra_kernel, kernel_of, refuse
from numbatensor.core.tensors import FLOAT16, FLOAT32, shape_of, zero

assert copy_into and packed_as and op_result  # reached through their symbols
BOOL, UINT8, INT64 = 0, 1, 5
INDEX = Frame.fields["index"][1]


@njit
def in_order(walk, frame):
    """An empty walk over a frame's shape, whose operand 0 is a contiguous array of bytes that nothing is read from.

    `coalesce` sorts by operand 0, so the order stays row-major.
    """
    begin(walk, 0)
    f, g = frame_at(walk), frame_at(frame)
    f.ndim, f.operands, f.pointers[0], f.itemsizes[0] = g.ndim, 1, 0, 1
    step = 1
    for i in range(g.ndim - 1, -1, -1):
        f.shape[i], f.strides[0, i] = g.shape[i], step
        step *= g.shape[i]


@njit
def bits_of_dtype(dtype):
    """The bits of an element that make it nonzero: not a float's sign."""
    if dtype < FLOAT32:
        return -1
    return 0x7FFFFFFF if dtype == FLOAT32 else 0x7FFF if dtype >= FLOAT16 else 0x7FFFFFFFFFFFFFFF


@native
def count_true(x, frame, kernel):
    """How many elements of a tensor, broadcast to a frame's shape, are not zero."""
    t, walk, words = tensor_at(x), new_frame(), new_frame()
    in_order(walk, frame)
    operand(walk, t)
    coalesce(walk)
    f = frame_at(walk)
    if f.numel == 0:
        return 0
    inner, found = f.ndim - 1, 0
    for i in range(inner):
        f.index[i] = 0
    store(words + 8, f.strides[1, inner])
    store(words + 16, bits_of_dtype(t.dtype))
    while True:
        store(words, f.pointers[1])
        found += call(kernel, words, f.shape[inner])
        if not advance(f, inner):
            return found


@native
def nonzero(op, arguments, out):
    """The indices of the elements that are not zero, a row each, int64. Kernels by width: `count`, `places`."""
    x = arguments_at(arguments).tensors[0]
    t, frame, walk, words = tensor_at(x), new_frame(), new_frame(), new_frame()
    code = width_code(t.itemsize)
    counting, finding = kernel_of(op, code), extra_kernel(op, 0, code)
    shape_of(frame, t)
    found = count_true(x, frame, counting)
    g = frame_at(frame)
    g.ndim, g.shape[0], g.shape[1] = 2, found, t.ndim
    made = op_result(frame, INT64, out)
    if found == 0 or t.ndim == 0:
        return made
    begin(walk, finding)
    shape_of(walk, t)
    operand(walk, t)
    f, last = frame_at(walk), t.ndim - 1
    for i in range(last):
        f.index[i] = 0
    left, target = found, tensor_at(made).data
    store(words + 8, f.strides[0, last])
    store(words + 16, bits_of_dtype(t.dtype))
    store(words + 40, walk + INDEX)
    store(words + 48, last)
    while left:
        store(words, f.pointers[0])
        store(words + 24, target)
        store(words + 32, left)
        k = call(finding, words, f.shape[last])
        target += 8 * t.ndim * k
        left -= k
        if not advance(f, last):
            break
    return made


@native
def walk_masked(kernel, mask, x, frame, packed, left):
    """Run a kernel between the elements of x, broadcast to a frame's shape, where a mask is true, and a packed array of them."""
    m, t, walk, words = tensor_at(mask), tensor_at(x), new_frame(), new_frame()
    in_order(walk, frame)
    operand(walk, m)
    operand(walk, t)
    coalesce(walk)
    f = frame_at(walk)
    inner = f.ndim - 1
    for i in range(inner):
        f.index[i] = 0
    store(words + 8, f.strides[1, inner])
    store(words + 24, f.strides[2, inner])
    while left:
        store(words, f.pointers[1])
        store(words + 16, f.pointers[2])
        store(words + 32, packed)
        store(words + 40, left)
        k = call(kernel, words, f.shape[inner])
        packed += k * t.itemsize
        left -= k
        if not advance(f, inner):
            break
    return 0


@native
def masked_select(op, arguments, out):
    """The elements of x where a bool mask is true, both broadcast, as a vector: x, mask.

    Kernels: `compress` by width; `count` of uint8.
    """
    a, frame, shape = arguments_at(arguments), new_frame(), new_frame()
    x, mask = a.tensors[0], a.tensors[1]
    frame_at(frame).ndim = 0
    if tensor_at(mask).dtype != BOOL or not broadcast(frame, tensor_at(x)) or not broadcast(frame, tensor_at(mask)):
        refuse(op, arguments)
    kernel, counting = kernel_of(op, width_code(tensor_at(x).itemsize)), extra_kernel(op, 0, UINT8)
    found = count_true(mask, frame, counting)
    s = frame_at(shape)
    s.ndim, s.shape[0] = 1, found
    made = op_result(shape, tensor_at(x).dtype, out)
    walk_masked(kernel, mask, x, frame, tensor_at(made).data, found)
    return made


@native
def masked_scatter(op, arguments, out):
    """A copy of x, broadcast with the mask, whose elements where the mask is true come from a source: x, mask, source.

    Without x (None), of zeros with the shape of the mask: the gradient of :func:`masked_select`. Kernels: `spread` by width; `count`
    of uint8. `out` may be x.
    """
    a, frame = arguments_at(arguments), new_frame()
    x, mask, source = a.tensors[0], a.tensors[1], a.tensors[2]
    dtype = tensor_at(source).dtype
    frame_at(frame).ndim = 0
    right = tensor_at(mask).dtype == BOOL and broadcast(frame, tensor_at(mask))
    if x and right:
        right = tensor_at(x).dtype == dtype and broadcast(frame, tensor_at(x))
    if not right:
        refuse(op, arguments)
    kernel, counting = kernel_of(op, width_code(tensor_at(source).itemsize)), extra_kernel(op, 0, UINT8)
    found = count_true(mask, frame, counting)
    if tensor_at(source).numel < found:
        refuse(op, arguments)
    packed = packed_as(source, dtype)
    made = attempt(symbol("op_result"), frame, dtype, out)
    if made == -1:
        decref(packed)
        fail()
    if x == 0:
        zero(made)
    elif made != x:
        copy_into(made, x)
    walk_masked(kernel, mask, made, frame, tensor_at(packed).data, found)
    decref(packed)
    return made
