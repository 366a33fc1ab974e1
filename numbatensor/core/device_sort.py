"""The order of rows of elements on CUDA devices: tiles sorted in shared memory, then merged (`kernels_cuda/sort.py`).

Long rows are given to a library where one is prepared (`cuda/cub.py`): it sorts the elements' ranks, which are whole numbers, and their places with them.
"""

import numpy as np
from numba import njit

from numbatensor.core.arguments import wrap
from numbatensor.core.compiler import attempt, fail, native, publish, symbol
from numbatensor.core.conversions import copy_into
from numbatensor.core.devices import copy_bytes, parameters, start, stream_of
from numbatensor.core.memory import decref, memcpy
from numbatensor.core.packing import op_result, packed_as
from numbatensor.core.python import call_python
from numbatensor.core.records import (
    DEVICES,
    Tensor,
    arguments_at,
    at,
    frame_at,
    new_frame,
    new_launch,
    new_view,
    on_stack,
    tensor_at,
    words,
)
from numbatensor.core.table import refuse
from numbatensor.core.tensors import empty, is_packed, shape_of
from numbatensor.core.there import MOST, THREADS, kernel_there

INT64, TENSOR = 5, Tensor.itemsize
SMALLEST, LARGEST = 64, 5  # elements of the smallest tile, and the form of the largest
MERGE, RANKS = 1, 2  # the numbers of the kernels that merge, and that only give ranks
UINT8, ALIGNED = 1, 256
LIBRARY = 1 << 18  # elements of a row that a library is given: a call of it costs the host some 0.1 ms
LOOK, SIZE, SORT = range(3)  # what `ask_sorter` is asked for
NONE, USABLE = 1, 2  # what is known of a device's library

# For ranks of 32 and of 64 bits, by device: 0 where nobody has looked yet.
Sorters = np.dtype(words("off") + [("narrow", "i8", DEVICES), ("wide", "i8", DEVICES)])
Row = np.dtype(words(*"ranks sorted_ranks places order memory bytes count stream device wide".split()))
sorters_at, row_at, new_row = at(Sorters), at(Row), on_stack(Row)
sorters = np.zeros(1, Sorters)
publish("sorters", sorters.ctypes.data)
assert copy_into and copy_bytes and op_result and packed_as  # reached through their symbols


@njit
def tile_form(n):
    """The form of the smallest tile that holds a row, or of the largest there is."""
    form = 0
    while form < LARGEST and SMALLEST << form < n:
        form += 1
    return form


@native
def sort_some(x, n, rows, flip, ranks, order):
    """Sort so many rows of n elements of a packed tensor; x, ranks and order are addresses. Gives where the order lies: `order`, or after three
    times as many words as there are elements in `ranks`: that has room for four times as many where a row has several tiles.
    """
    op, dtype, device = symbol("op_argsort"), tensor_at(x).dtype, tensor_at(x).device
    form = tile_form(n)
    tile, total = SMALLEST << form, rows * n
    tiles = (n + tile - 1) // tile
    launch = new_launch()
    parameters(launch, (ranks if tiles > 1 else 0, order, tensor_at(x).data, n, tiles, flip))
    start(op, kernel_there(op, 0, form, dtype), rows * tiles, 1, tile // 2, 0, launch, device)
    if tiles == 1:
        return order
    kernel = kernel_there(op, MERGE, 0, INT64)
    spare_ranks, spare, run = ranks + 8 * total, ranks + 16 * total, tile
    while run < n:
        parameters(launch, (spare_ranks, spare, ranks, order, n, run, total))
        start(op, kernel, (total + THREADS - 1) // THREADS, 1, THREADS, 0, launch, device)
        ranks, spare_ranks, order, spare = spare_ranks, ranks, spare, order
        run *= 2
    return order


@njit
def padded(nbytes):
    return (nbytes + ALIGNED - 1) // ALIGNED * ALIGNED


@native
def sort_by_library(x, n, flip, place, memory):
    """Let the library sort all rows of n elements of a packed tensor: for each row, its ranks and places, then their order.

    `place`: what is known of the row that is next. `memory`: the address of the room that `sort_long_rows` gives.
    """
    op, t, r = symbol("op_argsort"), tensor_at(x), row_at(place)
    item = 8 if r.wide else 4
    r.ranks, r.sorted_ranks, r.places = memory, memory + padded(item * n), memory + 2 * padded(item * n)
    r.memory, launch = r.places + padded(8 * n), new_launch()
    kernel = kernel_there(op, RANKS, 0, t.dtype)
    for k in range(t.numel // n):
        parameters(launch, (r.ranks, r.places, t.data + k * n * t.itemsize, n, flip))
        start(op, kernel, (n + THREADS - 1) // THREADS, 1, THREADS, 0, launch, t.device)
        call_python("ask_sorter", SORT, place, 0, op)
        r.order += 8 * n
    return 1


@native
def sort_long_rows(x, n, flip, made):
    """Let a library sort rows of n elements of a packed tensor into a tensor of indices; whether there is one that can."""
    t, place, frame, s = tensor_at(x), new_row(), new_frame(), sorters_at(symbol("sorters"))
    r = row_at(place)
    r.stream, r.device, r.count, r.order = stream_of(t.device), t.device, n, tensor_at(made).data
    r.wide = t.itemsize > 4
    known = s.wide[t.device] if r.wide else s.narrow[t.device]
    if known == 0:
        known = call_python("ask_sorter", LOOK, r.wide, t.device, 0)
    if known == NONE:
        return 0
    r.bytes = call_python("ask_sorter", SIZE, place, 0, symbol("op_argsort"))
    item, f = 8 if r.wide else 4, frame_at(frame)
    f.ndim, f.shape[0] = 1, 2 * padded(item * n) + padded(8 * n) + r.bytes
    memory = empty(frame, UINT8)
    done = attempt(symbol("sort_by_library"), x, n, flip, place, tensor_at(memory).data)
    decref(memory)
    if done == -1:
        fail()
    return 1


@native
def sorted_rows(x, n, flip):
    """The indices that sort each row of n elements of a packed tensor: a new tensor of int64, of its shape. `flip`: -1 for descending, else 0."""
    t, frame, room = tensor_at(x), new_frame(), new_frame()
    shape_of(frame, t)
    made = empty(frame, INT64)
    if t.numel == 0:
        return made
    if n >= LIBRARY and not sorters_at(symbol("sorters")).off:
        done = attempt(symbol("sort_long_rows"), x, n, flip, made)
        if done == -1:
            decref(made)
            fail()
        if done:
            return made
    most = max(1, (MOST - 1) // n)
    rows = t.numel // n
    ranks, failed, view = 0, False, new_view()
    if n > SMALLEST << LARGEST:
        r = frame_at(room)
        r.ndim, r.shape[0] = 1, 3 * n * min(rows, most)
        ranks = attempt(symbol("empty"), room, INT64)
        failed = ranks == -1
    done = 0
    memcpy(view, x, TENSOR)
    while done < rows and not failed:
        m, order = min(most, rows - done), tensor_at(made).data + 8 * done * n
        tensor_at(view).data = t.data + done * n * t.itemsize
        found = attempt(symbol("sort_some"), view, n, m, flip, tensor_at(ranks).data if ranks else 0, order)
        failed = found == -1
        if not failed and found != order:
            failed = attempt(symbol("copy_bytes"), order, found, 8 * m * n, t.device) == -1
        done += m
    if ranks > 0:
        decref(ranks)
    if failed:
        decref(made)
        fail()
    return made


@njit
def exchange(view, dim):
    """Exchange a dimension of a tensor's record with the last."""
    v = tensor_at(view)
    last = v.ndim - 1
    if v.ndim:
        v.shape[dim], v.shape[last] = v.shape[last], v.shape[dim]
        v.strides[dim], v.strides[last] = v.strides[last], v.strides[dim]
    v.contiguous = is_packed(v)


@native
def first_in_order(x, dim, k, flip, out):
    """The indices of the first k elements of each sorted row along a dimension."""
    t, view, frame = tensor_at(x), new_view(), new_frame()
    memcpy(view, x, TENSOR)
    exchange(view, dim)
    n = t.shape[dim] if t.ndim else 1
    packed = packed_as(view, t.dtype)
    order = attempt(symbol("sorted_rows"), packed, n, flip)
    decref(packed)
    if order == -1:
        fail()
    if out == 0 and k == n and dim >= t.ndim - 1:
        return order
    shape_of(frame, t)
    if t.ndim:
        frame_at(frame).shape[dim] = k
    made = attempt(symbol("op_result"), frame, INT64, out)
    failed = made == -1
    if not failed:
        memcpy(view, order, TENSOR)
        exchange(view, dim)
        v = tensor_at(view)
        if v.ndim:
            v.numel = v.numel // max(n, 1) * k
            v.shape[dim] = k
        v.contiguous = is_packed(v)
        failed = attempt(symbol("copy_into"), made, view) == -1
        if failed:
            decref(made)
    decref(order)
    if failed:
        fail()
    return made


@native
def argsort_there(op, arguments, out):
    """(x, dim, descending, stable): the indices that sort each row, stable in any case; int64."""
    a = arguments_at(arguments)
    x = a.tensors[0]
    dim = wrap(a.numbers[1], tensor_at(x).ndim) if x else -1
    if dim < 0 or (tensor_at(x).ndim and tensor_at(x).shape[dim] >= MOST):
        refuse(op, arguments)
    n = tensor_at(x).shape[dim] if tensor_at(x).ndim else 1
    return first_in_order(x, dim, n, -1 if a.numbers[2] else 0, out)


@native
def topk_indices_there(op, arguments, out):
    """(x, k, dim, largest, sorted): the indices of the k first of each sorted row, in order in any case; int64."""
    a = arguments_at(arguments)
    x, k = a.tensors[0], a.numbers[1]
    dim = wrap(a.numbers[2], tensor_at(x).ndim) if x and a.kinds[1] == 2 and a.kinds[2] == 2 else -1
    n = 0 if dim < 0 else tensor_at(x).shape[dim] if tensor_at(x).ndim else 1
    if dim < 0 or k < 0 or k > n or n >= MOST or (k == 0 and tensor_at(x).ndim == 0):
        refuse(op, arguments)
    return first_in_order(x, dim, k, -1 if a.numbers[3] else 0, out)


assert sort_by_library and sort_long_rows and sort_some and sorted_rows  # reached through their symbols
