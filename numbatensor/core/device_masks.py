"""Elements by mask on CUDA devices: counted, and found in row-major order (`kernels_cuda/masks.py`). The host waits once, for their number."""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import broadcast, copy_into
from numbatensor.core.device_index import blocks_of, move_all, new_words_there, word_there
from numbatensor.core.devices import parameters, start
from numbatensor.core.memory import decref
from numbatensor.core.packing import op_result, packed_as
from numbatensor.core.records import arguments_at, frame_at, new_frame, new_launch, tensor_at
from numbatensor.core.slices import PUT, TAKE, broadcast_copy
from numbatensor.core.table import refuse
from numbatensor.core.tensors import zero
from numbatensor.core.there import MOST, THREADS, kernel_there

BOOL, INT64 = 0, 5
TILE = 1024  # elements of a block
COUNT, SCAN, WHERE, UNRAVEL = range(4)
assert copy_into and move_all and op_result and packed_as and broadcast_copy  # reached through their symbols


@native
def count_there(x, counts):
    """Count what is not zero in each tile of a packed tensor, and sum the counts; gives how many there are."""
    t, op, launch = tensor_at(x), symbol("op_nonzero"), new_launch()
    c, tiles = tensor_at(counts), tensor_at(counts).numel
    parameters(launch, (c.data, t.data, t.numel))
    start(op, kernel_there(op, COUNT, 0, t.dtype), tiles, 1, THREADS, 0, launch, t.device)
    parameters(launch, (c.data, tiles))
    start(op, kernel_there(op, SCAN, 0, INT64), 1, 1, THREADS, 0, launch, t.device)
    return word_there(c.data + 8 * tiles, t.device)


@native
def write_where(x, counts, places, scale):
    """Write where the elements are that are not zero, each multiplied by a number."""
    t, op, launch = tensor_at(x), symbol("op_nonzero"), new_launch()
    parameters(launch, (tensor_at(places).data, t.data, tensor_at(counts).data, t.numel, scale))
    tiles = tensor_at(counts).numel
    return start(op, kernel_there(op, WHERE, 0, t.dtype), tiles, 1, THREADS, 0, launch, t.device)


@native
def places_in(x, scale):
    """Where the elements of a packed tensor are that are not zero, each place multiplied by a number: a new vector of words."""
    t = tensor_at(x)
    if t.numel == 0 or t.numel >= MOST:
        return new_words_there(0)
    counts = new_words_there((t.numel + TILE - 1) // TILE)
    places = found = attempt(symbol("count_there"), x, counts)
    if found != -1:
        places = attempt(symbol("new_words_there"), found)
    if places != -1 and found and attempt(symbol("write_where"), x, counts, places, scale) == -1:
        decref(places)
        places = -1
    decref(counts)
    if places == -1:
        fail()
    return places


@native
def places_of_mask(mask, frame, scale):
    """The same of a tensor broadcast to a frame's shape."""
    wide = broadcast_copy(frame, mask)
    places = attempt(symbol("places_in"), wide, scale)
    decref(wide)
    if places == -1:
        fail()
    return places


@native
def unravel_there(places, x, out):
    """``out[k, d]``: the index in dimension d of x of each place."""
    t, o, p, op, launch, below = tensor_at(x), tensor_at(out), tensor_at(places), symbol("op_nonzero"), new_launch(), 1
    kernel = kernel_there(op, UNRAVEL, 0, INT64)
    for d in range(t.ndim - 1, -1, -1):
        parameters(launch, (o.data + 8 * d, p.data, p.numel, t.ndim, below, t.shape[d]))
        start(op, kernel, blocks_of(p.numel), 1, THREADS, 0, launch, t.device)
        below *= t.shape[d]
    return 0


@native
def nonzero_there(op, arguments, out):
    """The indices of the elements that are not zero, a row each, int64."""
    x, frame = arguments_at(arguments).tensors[0], new_frame()
    t, f = tensor_at(x), frame_at(frame)
    if t.numel >= MOST:
        refuse(op, arguments)
    packed = packed_as(x, t.dtype)
    places = attempt(symbol("places_in"), packed, 1)
    decref(packed)
    if places == -1:
        fail()
    f.ndim, f.shape[0], f.shape[1] = 2, tensor_at(places).numel, t.ndim
    made = attempt(symbol("op_result"), frame, INT64, out)
    if made != -1 and tensor_at(places).numel and attempt(symbol("unravel_there"), places, x, made) == -1:
        decref(made)
        made = -1
    decref(places)
    if made == -1:
        fail()
    return made


@njit
def move_at(what, x, other, places):
    """Move elements between a packed tensor, at places in bytes, and another, one after the other; -1 where it failed."""
    walk, t, n = new_frame(), tensor_at(x), tensor_at(places).numel
    f = frame_at(walk)
    f.ndim, f.operands, f.numel, f.itemsizes[0] = 0, 2, 1, t.itemsize
    f.pointers[0], f.pointers[1], f.pointers[2], f.pointers[3], f.pointers[7] = (
        t.data,
        tensor_at(other).data,
        places,
        t.itemsize,
        n,
    )
    return attempt(symbol("move_all"), walk, what, t.dtype, 0, 0) if n else 0


@native
def masked_select_there(op, arguments, out):
    """The elements of x where a bool mask is true, both broadcast, as a vector: x, mask."""
    a, frame, shape = arguments_at(arguments), new_frame(), new_frame()
    x, mask, made = a.tensors[0], a.tensors[1], -1
    frame_at(frame).ndim = 0
    if tensor_at(mask).dtype != BOOL or not broadcast(frame, tensor_at(x)) or not broadcast(frame, tensor_at(mask)):
        refuse(op, arguments)
    wide = broadcast_copy(frame, x)
    if tensor_at(wide).numel >= MOST:
        decref(wide)
        refuse(op, arguments)
    places = attempt(symbol("places_of_mask"), mask, frame, tensor_at(x).itemsize)
    if places != -1:
        s = frame_at(shape)
        s.ndim, s.shape[0] = 1, tensor_at(places).numel
        made = attempt(symbol("op_result"), shape, tensor_at(x).dtype, out)
        if made != -1 and move_at(TAKE, wide, made, places) == -1:
            decref(made)
            made = -1
        decref(places)
    decref(wide)
    if made == -1:
        fail()
    return made


@native
def masked_result(x, frame, dtype, out):
    """What :func:`masked_scatter_there` writes into: a copy of x, or zeros; a new reference."""
    made = op_result(frame, dtype, out)
    if x == 0:
        zero(made)
    elif made != x and attempt(symbol("copy_into"), made, x) == -1:
        decref(made)
        fail()
    return made


@native
def masked_scatter_there(op, arguments, out):
    """A copy of x, broadcast with the mask, or zeros, whose elements where the mask is true come from a source: x or None, mask, source."""
    a, frame = arguments_at(arguments), new_frame()
    x, mask, source = a.tensors[0], a.tensors[1], a.tensors[2]
    dtype = tensor_at(source).dtype
    frame_at(frame).ndim = 0
    right = tensor_at(mask).dtype == BOOL and broadcast(frame, tensor_at(mask))
    if x and right:
        right = tensor_at(x).dtype == dtype and broadcast(frame, tensor_at(x))
    total = 1
    for i in range(frame_at(frame).ndim):
        total *= frame_at(frame).shape[i]
    if not right or total >= MOST:
        refuse(op, arguments)
    places = places_of_mask(mask, frame, tensor_at(source).itemsize)
    if tensor_at(source).numel < tensor_at(places).numel:
        decref(places)
        refuse(op, arguments)
    packed, made = attempt(symbol("packed_as"), source, dtype), -1
    if packed != -1:
        made = attempt(symbol("masked_result"), x, frame, dtype, out)
        if made != -1 and move_at(PUT, made, packed, places) == -1:
            decref(made)
            made = -1
        decref(packed)
    decref(places)
    if made == -1:
        fail()
    return made


assert (
    count_there and write_where and places_in and places_of_mask and unravel_there and masked_result
)  # reached through their symbols
