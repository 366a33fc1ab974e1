"""Elements in another order: flip, roll, tile and triangles, unrecorded.

Each is made of strided copies between parts of two tensors. `flip` has a kernel, `turn` by the width of an element, for rows that
are read backwards; the others need none.
"""

from numba import njit

from numbatensor.core.arguments import item, list_argument, wrap
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.copies import copy_run
from numbatensor.core.devices import MOVE, TRIANGLE, there
from numbatensor.core.iterate import PARALLEL, begin, operand, parallel, sweep
from numbatensor.core.memory import decref, load, memcpy, memset, store
from numbatensor.core.packing import op_result, run_long, width_code
from numbatensor.core.records import RANK, arguments_at, frame_at, new_frame, state_at, tensor_at
from numbatensor.core.slices import INNER, SHARED, run_walk
from numbatensor.core.table import kernel_of, refuse
from numbatensor.core.tensors import shape_of

assert parallel  # reached through its symbol


@njit
def result_like(x, out):
    """The tensor that an op writes into, of the shape and dtype of another."""
    t, frame = tensor_at(x), new_frame()
    shape_of(frame, t)
    return op_result(frame, t.dtype, out)


@njit
def prepare_copy(frame, made, x):
    """A frame that copies all of a tensor into a contiguous one of the same shape and dtype."""
    m, t = tensor_at(made), tensor_at(x)
    begin(frame, 0)
    shape_of(frame, t)
    operand(frame, m)
    operand(frame, t)


@njit
def move(frame, made):
    """Copy a frame's second operand into its first, which is in the tensor `made`: that is let go of where it fails."""
    m = tensor_at(made)
    if m.device == 0:
        sweep(frame, 1)
    elif attempt(there(MOVE), frame, m.dtype, m.dtype, m.device) == -1:
        decref(made)
        fail()


@njit
def dims_in_list(arguments, k, ndim):
    """Bit mask of the dimensions in list k; -1 where one does not exist or appears twice."""
    mask, dims = 0, list_argument(arguments, k)
    for i in range(dims[1]):
        dim = wrap(item(dims, i), ndim)
        if dim < 0 or mask >> dim & 1:
            return -1
        mask |= 1 << dim
    return mask if dims[1] >= 0 else -1


@native
def flip(op, arguments, out):
    """The order of some dimensions turned around: x, dims."""
    x, frame = arguments_at(arguments).tensors[0], new_frame()
    t, mask = tensor_at(x), dims_in_list(arguments, 1, tensor_at(x).ndim)
    if mask < 0:
        refuse(op, arguments)
    kernel = 0 if t.device else kernel_of(op, width_code(t.itemsize))
    made = result_like(x, out)
    prepare_copy(frame, made, x)
    f = frame_at(frame)
    for i in range(t.ndim):
        if mask >> i & 1:
            f.pointers[1] += (t.shape[i] - 1) * t.strides[i]
            f.strides[1, i] = -f.strides[1, i]
    last = t.ndim - 1
    if t.numel and t.ndim and f.strides[1, last] == -t.itemsize and t.device == 0:
        f.kernel = kernel
        f.pointers[7], f.numbers[INNER], f.numbers[SHARED] = 1, last, 0
        f.numel = t.numel
        run_walk(frame)
    else:
        move(frame, made)
    return made


@native
def roll(op, arguments, out):
    """Dimensions shifted, what leaves one end entering the other: x, shifts, dims."""
    a, frame, shifts = arguments_at(arguments), new_frame(), new_frame()
    x, s = a.tensors[0], frame_at(shifts)
    t = tensor_at(x)
    by, dims = list_argument(arguments, 1), list_argument(arguments, 2)
    if by[1] != dims[1] or by[1] < 0:
        refuse(op, arguments)
    for i in range(t.ndim):
        s.shape[i] = 0
    for i in range(by[1]):
        dim = wrap(item(dims, i), t.ndim)
        if dim < 0:
            refuse(op, arguments)
        if t.ndim and t.shape[dim]:
            s.shape[dim] = (s.shape[dim] + item(by, i)) % t.shape[dim]
    made = result_like(x, out)
    moving = 0
    for i in range(t.ndim):
        if s.shape[i]:
            s.index[moving] = i
            moving += 1
    for part in range(1 << moving):
        prepare_copy(frame, made, x)
        f = frame_at(frame)
        for k in range(moving):
            i = s.index[k]
            n, shift = t.shape[i], s.shape[i]
            if part >> k & 1:  # the end of x, at the start
                f.pointers[1] += (n - shift) * f.strides[1, i]
                f.shape[i] = shift
            else:
                f.pointers[0] += shift * f.strides[0, i]
                f.shape[i] = n - shift
        move(frame, made)
    return made


@njit
def size_of(x, ndim, i):
    """The size of dimension i of a tensor that is seen with `ndim` dimensions: 1 for those in front that it lacks."""
    k = i - ndim + x.ndim
    return x.shape[k] if k >= 0 else 1


@njit
def add_dim(f, size, target_step, source_step):
    """Add a dimension to a frame of two operands."""
    f.shape[f.ndim], f.strides[0, f.ndim], f.strides[1, f.ndim] = size, target_step, source_step
    f.ndim += 1


@njit
def next_place(shape, out, x, dims):
    """Step an index over how often each of some dimensions (a bit mask) is repeated; whether there is a next place."""
    s = frame_at(shape)
    for i in range(s.ndim):
        if dims >> i & 1:
            s.index[i] += 1
            if s.index[i] < out.shape[i] // size_of(x, s.ndim, i):
                return True
            s.index[i] = 0
    return False


@native
def tile(op, arguments, out):
    """The tensor repeated along each dimension, the last ones where fewer are named: x, repeats."""
    a, shape, frame = arguments_at(arguments), new_frame(), new_frame()
    s, f, t, repeats = frame_at(shape), frame_at(frame), tensor_at(a.tensors[0]), list_argument(arguments, 1)
    named = repeats[1]
    s.ndim = max(t.ndim, named)
    if s.ndim > RANK or named < 0:
        refuse(op, arguments)
    for i in range(s.ndim):
        times = item(repeats, i - s.ndim + named) if i >= s.ndim - named else 1
        if times < 0:
            refuse(op, arguments)
        s.shape[i], s.index[i] = size_of(t, s.ndim, i) * times, 0
    made = op_result(shape, t.dtype, out)
    o = tensor_at(made)
    more = o.numel > 0
    while more:
        # A dimension that is repeated is two in the frame: its own, and the repetitions, which x does not move along. What it has
        # no room for (more than six such) is stepped over by `index`.
        begin(frame, 0)
        f.ndim, f.operands, f.pointers[0], f.pointers[1] = 0, 2, o.data, t.data
        f.itemsizes[0] = f.itemsizes[1] = t.itemsize
        for i in range(t.ndim):
            if t.shape[i] > 1:
                add_dim(f, t.shape[i], o.strides[i + s.ndim - t.ndim], t.strides[i])
        stepped = 0
        for i in range(s.ndim):
            n = size_of(t, s.ndim, i)
            if o.shape[i] > n and f.ndim < RANK:
                add_dim(f, o.shape[i] // n, o.strides[i] * n, 0)
            elif o.shape[i] > n:
                f.pointers[0] += s.index[i] * n * o.strides[i]
                stepped |= 1 << i
        move(frame, made)
        more = next_place(shape, o, t, stepped)
    return made


@native
def triangle_rows(context, i):
    """One share of the rows of a triangle: a part of each copied, the rest cleared. Words: out, x, diagonal, upper, pieces."""
    o, x, diagonal, upper = (
        tensor_at(load(context)),
        tensor_at(load(context + 8)),
        load(context + 16),
        load(context + 24),
    )
    pieces = load(context + 32)
    height, width, item = o.shape[o.ndim - 2], o.shape[o.ndim - 1], o.itemsize
    rows = o.numel // width
    step = x.strides[x.ndim - 1]
    for k in range(rows * i // pieces, rows * (i + 1) // pieces):
        source, rest = x.data, k
        for d in range(x.ndim - 2, -1, -1):
            source += rest % x.shape[d] * x.strides[d]
            rest //= x.shape[d]
        target = o.data + k * width * item
        edge = k % height + diagonal + (0 if upper else 1)
        edge = min(max(edge, 0), width)
        low, high = (edge, width) if upper else (0, edge)
        memset(target, 0, low * item)
        memset(target + high * item, 0, (width - high) * item)
        if step == item:
            memcpy(target + low * item, source + low * step, (high - low) * item)
        else:
            copy_run(target + low * item, item, source + low * step, step, high - low, item)
    return 0


@njit
def triangle(op, arguments, out, upper):
    a, context = arguments_at(arguments), new_frame()
    x, t = a.tensors[0], tensor_at(a.tensors[0])
    if t.ndim < 2:
        refuse(op, arguments)
    made = result_like(x, out)
    if t.numel == 0:
        return made
    if t.device:
        if attempt(there(TRIANGLE), op, x, made, upper, a.numbers[1]) == -1:
            decref(made)
            fail()
        return made
    threads = state_at(symbol("state")).threads
    share = t.numel >= PARALLEL and threads > 1
    store(context, made)
    store(context + 8, x)
    store(context + 16, a.numbers[1])
    store(context + 24, upper)
    store(context + 32, threads if share else 1)
    if share:
        parallel(symbol("triangle_rows"), context, threads)
    else:
        run_long(symbol("triangle_rows"), context, t.numel)
    return made


@native
def tril(op, arguments, out):
    """The lower triangle of each matrix, up to a diagonal; zeros above: x, diagonal."""
    return triangle(op, arguments, out, 0)


@native
def triu(op, arguments, out):
    """The upper triangle of each matrix, from a diagonal on; zeros below: x, diagonal."""
    return triangle(op, arguments, out, 1)
