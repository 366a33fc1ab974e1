"""Reductions on devices: how a tensor is brought into one of the kernels' forms, and the launches.

A pass reduces ``x[o, i, j]`` over i: rows, whose elements i lie one after the other, or columns, where j does (see
`kernels_cuda/reduction.py`). Where the blocks would be few, a first pass leaves accumulators of pieces behind, and a second one reduces
these; the pieces are set by the sizes alone. Everything else is copied into rows first.
"""

import numpy as np
from numba import njit

from kernels_cuda import reduction as kernels
from kernels_cuda.reduction import (
    AGAIN,
    ALIGNED,
    BLOCK,
    COLUMNS,
    LANES,
    PARTIAL,
    SHORT,
    WIDE,
)
from kernels_cuda.row import THREADS, WARP
from numbatensor.core.arguments import float_argument
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.device_detours import run_detour
from numbatensor.core.devices import new_word, parameter, parameters, start
from numbatensor.core.halves import computed
from numbatensor.core.iterate import coalesce
from numbatensor.core.memory import bits, decref, load, number, store
from numbatensor.core.packing import packed_as
from numbatensor.core.promotion import put_number
from numbatensor.core.records import (
    arguments_at,
    at,
    frame_at,
    new_frame,
    new_launch,
    on_stack,
    op_at,
    tensor_at,
    words,
)
from numbatensor.core.reduce import accumulator_there, merge_kept, put_dimension, wanted_shape
from numbatensor.core.table import refuse
from numbatensor.core.tensors import FLOAT32, alias, empty, is_packed, itemsize_of
from numbatensor.core.there import MOST, VECTOR, kernel_there

lanes_of, chunks_of, tile_of = njit(kernels.lanes_of), njit(kernels.chunks_of), njit(kernels.tile_of)
parts_of, vector_of = njit(kernels.parts_of), njit(kernels.vector_of)

# One pass. `outer_step`, `step`: bytes between indices o, and i. `form`: PARTIAL and AGAIN, see the kernels. `count`: how many elements
# make one result in the end; `second`: the bits of one more number. `wide`: WIDE where results have the accumulators' dtype, else 0.
Pass = np.dtype(
    words("op", "dtype", "acc", "device", "out", "outcome", "source", "item", "centres", "outer", "outer_step", "n")
    + words("step", "inner", "form", "wide", "count", "second")
)
pass_at, new_pass = at(Pass), on_stack(Pass)


@njit
def real_word(value, dtype):
    """The word by which a kernel is given a number as float64, or, for any other dtype, as float32."""
    place = new_word()
    store(place, 0)
    put_number(place, computed(max(dtype, FLOAT32)), 3, bits(value))
    return load(place)


@njit
def numbers_of(p, launch):
    """Give a kernel the last two numbers."""
    kind = p.acc if p.acc >= FLOAT32 else FLOAT32
    parameter(launch, real_word(float(p.count), kind))
    parameter(launch, real_word(number(p.second), kind))


@njit
def begin_launch(launch, p):
    """Give a kernel the pointers."""
    parameters(launch, (p.out, p.source, p.centres))


@njit
def aligned(p):
    """Whether all rows begin at multiples of a vector."""
    even = p.source % VECTOR == 0 and (p.outer == 1 or p.outer_step % VECTOR == 0)
    return even and (p.inner == 1 or p.n == 1 or p.step % VECTOR == 0)


@njit
def lanes_pass(p):
    """Few lanes for each row."""
    form = p.form | (ALIGNED if aligned(p) else 0)
    lanes = lanes_of(p.n, VECTOR // p.item if form & ALIGNED else 1)
    threads = min(THREADS, (p.outer * lanes + WARP - 1) // WARP * WARP)
    launch = new_launch()
    begin_launch(launch, p)
    parameter(launch, p.outer)
    parameter(launch, p.n)
    parameter(launch, p.outer_step)
    parameter(launch, lanes)
    numbers_of(p, launch)
    rows = threads // lanes
    kernel = kernel_there(p.op, p.wide + LANES, form, p.dtype)
    start(p.op, kernel, (p.outer + rows - 1) // rows, 1, threads, 0, launch, p.device)


@njit
def block_pass(p, chunks, chunk):
    """A block for each piece of a row."""
    form = p.form | (ALIGNED if aligned(p) else 0)
    launch = new_launch()
    begin_launch(launch, p)
    parameter(launch, p.n)
    parameter(launch, chunks)
    parameter(launch, chunk)
    parameter(launch, p.outer_step)
    numbers_of(p, launch)
    kernel = kernel_there(p.op, p.wide + BLOCK, form, p.dtype)
    start(p.op, kernel, p.outer * chunks, 1, THREADS, 0, launch, p.device)


@njit
def column_size(p):
    """Elements of a vector of columns: 1 where they are not even, or the results are not."""
    out = p.acc if p.form & PARTIAL else p.outcome
    size = vector_of(max(p.item, itemsize_of(p.acc), itemsize_of(out)), COLUMNS)
    return size if aligned(p) and p.inner % size == 0 and p.out % VECTOR == 0 else 1


@njit
def columns_pass(p, parts, part, size, width, depth):
    """Blocks of columns, for each piece of the rows."""
    form = p.form | (ALIGNED if size > 1 else 0)
    launch = new_launch()
    begin_launch(launch, p)
    parameter(launch, p.n)
    parameter(launch, p.inner)
    parameter(launch, parts)
    parameter(launch, part)
    parameter(launch, p.outer_step)
    parameter(launch, p.step)
    tiles = p.outer * parts * ((p.inner + width * size - 1) // (width * size))
    for word in (width, depth, tiles):
        parameter(launch, word)
    numbers_of(p, launch)
    per = min(THREADS // (width * depth), tiles)  # tiles of a block
    kernel = kernel_there(p.op, p.wide + COLUMNS, form, p.dtype)
    start(p.op, kernel, (tiles + per - 1) // per, 1, width * depth * per, 0, launch, p.device)


@native
def first_pass(job, pieces, piece):
    """The pass over the elements, in pieces."""
    p = pass_at(job)
    if p.inner == 1 and p.step == p.item:
        block_pass(p, pieces, piece)
    else:
        size = column_size(p)
        width, depth = tile_of(p.n, (p.inner + size - 1) // size)
        columns_pass(p, pieces, piece, size, width, depth)
    return 0


@native
def run_passes(job):
    """One pass, or two."""
    p = pass_at(job)
    rows = p.inner == 1 and p.step == p.item
    if rows and p.n <= SHORT:
        lanes_pass(p)
        return 0
    if rows:
        pieces, piece = chunks_of(p.outer, p.n)
    else:
        size = column_size(p)
        width, depth = tile_of(p.n, (p.inner + size - 1) // size)
        pieces, piece = parts_of(p.n, depth, p.outer * ((p.inner + width * size - 1) // (width * size)))
    if pieces == 1:
        return first_pass(job, 1, piece)
    shape, out = new_frame(), p.out
    frame_at(shape).ndim, frame_at(shape).shape[0] = 1, p.outer * pieces * p.inner
    partial = empty(shape, p.acc)
    p.out, p.form = tensor_at(partial).data, PARTIAL
    failed = attempt(symbol("first_pass"), job, pieces, piece) == -1
    if not failed:
        p.out, p.form, p.source, p.item, p.centres = out, AGAIN, p.out, itemsize_of(p.acc), 0
        p.n, p.step, p.outer_step = pieces, p.item * p.inner, p.item * p.inner * pieces
        failed = attempt(symbol("run_passes_again"), job) == -1
    decref(partial)
    if failed:
        fail()
    return 0


@native
def run_passes_again(job):
    """The pass over accumulators."""
    p = pass_at(job)
    if p.inner == 1 and p.n <= SHORT:
        lanes_pass(p)
        return 0
    return first_pass(job, 1, p.n)


@native
def kept_first(x, mask):
    """An alias of a tensor with the dimensions in a bit mask behind the others; a new reference."""
    made = alias(x)
    a, t, k = tensor_at(x), tensor_at(made), 0
    for last in range(2):
        for i in range(a.ndim):
            if mask >> i & 1 == last:
                t.shape[k], t.strides[k] = a.shape[i], a.strides[i]
                k += 1
    t.contiguous = 1 if is_packed(t) else 0
    return made


@native
def copied_passes(job, x, mask):
    """The passes over a copy of a tensor, whose rows lie one after the other."""
    p, turned = pass_at(job), kept_first(x, mask)
    copy = attempt(symbol("packed_as"), turned, p.dtype)
    decref(turned)
    if copy == -1:
        fail()
    p.source, p.inner, p.step, p.outer_step = tensor_at(copy).data, 1, p.item, p.n * p.item
    failed = attempt(symbol("run_passes"), job) == -1
    decref(copy)
    if failed:
        fail()
    return 0


@native
def reduce_there(op, x, mask, made, centres, second):
    """Reduce the dimensions in a bit mask into the tensor `made`, of the op's dtype or of that of the accumulators.

    `centres`: address of a centre for each result, of the accumulators' dtype, or 0.
    """
    a, out, job, kept, gone = tensor_at(x), tensor_at(made), new_pass(), new_frame(), new_frame()
    p, k, g = pass_at(job), frame_at(kept), frame_at(gone)
    if out.numel == 0:
        return 0
    k.operands = g.operands = 1
    k.itemsizes[0] = g.itemsizes[0] = a.itemsize
    k.ndim = g.ndim = 0
    for i in range(a.ndim):
        put_dimension(g if mask >> i & 1 else k, a.shape[i], a.strides[i])
    merge_kept(k)
    coalesce(gone)
    p.op, p.dtype, p.acc, p.device = op, a.dtype, accumulator_there(op, a.dtype), a.device
    p.out, p.outcome, p.source, p.item, p.centres = out.data, out.dtype, a.data, a.itemsize, centres
    p.outer, p.outer_step, p.n, p.step, p.inner = k.numel, k.strides[0, 0], g.numel, a.itemsize, 1
    p.form, p.count, p.second = 0, g.numel, second
    p.wide = 0 if out.dtype == op_at(op).outcome[a.dtype] else WIDE
    last = k.ndim - 1
    if g.numel == 0:
        return run_passes(job)
    if g.ndim == 1 and k.ndim == 1 and (g.strides[0, 0] == a.itemsize or g.numel == 1):
        return run_passes(job)
    if g.ndim == 1 and k.ndim <= 2 and k.strides[0, last] == a.itemsize and g.numel < MOST:
        p.inner, p.step = k.shape[last], g.strides[0, 0]
        p.outer, p.outer_step = k.numel // p.inner, k.strides[0, 0] if last else 0
        return run_passes(job)
    return copied_passes(job, x, mask)


@native
def reduction_there(op, arguments, out):
    """``op(x, dim, keepdim)``: a dim that is None or empty means all dimensions."""
    x = arguments_at(arguments).tensors[0]
    a, shape = tensor_at(x), new_frame()
    mask, count = wanted_shape(op, arguments, a, shape)
    if op_at(op).trait and count == 0:
        refuse(op, arguments)
    made = empty(shape, op_at(op).outcome[a.dtype])
    if tensor_at(made).numel >= MOST:
        decref(made)
        return run_detour(op, arguments, out)
    if attempt(symbol("reduce_there"), op, x, mask, made, 0, 0) == -1:
        decref(made)
        fail()
    return made


@native
def variance_there(op, arguments, out):
    """``op(x, dim, keepdim, correction)``: two passes, the second over the squared distances to the mean of the first."""
    x = arguments_at(arguments).tensors[0]
    a, shape = tensor_at(x), new_frame()
    mask = wanted_shape(op, arguments, a, shape)[0]
    made = empty(shape, a.dtype)
    if tensor_at(made).numel >= MOST:
        decref(made)
        return run_detour(op, arguments, out)
    means = attempt(symbol("empty"), shape, accumulator_there(op, a.dtype))
    failed = means == -1
    if not failed:
        second = bits(float_argument(arguments, 3))
        failed = attempt(symbol("reduce_there"), symbol("op_mean"), x, mask, means, 0, 0) == -1
        failed = failed or attempt(symbol("reduce_there"), op, x, mask, made, tensor_at(means).data, second) == -1
        decref(means)
    if failed:
        decref(made)
        fail()
    return made


assert packed_as  # reached through its symbol
