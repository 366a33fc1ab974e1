"""The driver of reductions: which elements are combined, in what order, on which thread.

What is combined with what is fixed by the shape alone (blocks, chunks of CHUNK elements, then the chunks' results), so the result
does not depend on the number of threads. Kernels (`kernels_cpu.reduction`) come in two forms: ``rows`` combine contiguous
elements into one result, ``columns`` combine rows of contiguous elements into a row of results.
"""

from numba import njit

from numbatensor.core.arguments import arguments_room, float_argument, item, list_argument, number_argument, wrap
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.dispatch import perform
from numbatensor.core.iterate import PARALLEL, advance, coalesce, copy_run, parallel, scratch
from numbatensor.core.memory import bits, decref, free, incref, load, malloc, memcpy, number, store
from numbatensor.core.records import (
    Frame,
    arguments_at,
    frame_at,
    new_arguments,
    new_frame,
    op_at,
    output_at,
    state_at,
    tensor_at,
)
from numbatensor.core.table import extra_kernel, refuse
from numbatensor.core.tensors import FLOAT32, FLOAT64, empty, itemsize_of

CHUNK = 1 << 14  # elements that one call of `rows` combines into one result
STRIP = 512  # columns that one walk down the rows combines: their partial results stay in first-level cache
DEPTH = 16  # rows that are combined in the partial result's type before it is folded into the accumulator
PACK = 2048  # elements of a strided row that are packed at a time
FRAME = Frame.itemsize
ROWS, COLUMNS, MERGE, START, FOLD, FINISH = range(6)  # a reduction's kernels

# The plan of a reduction: two frames, of kept and of reduced dimensions, and behind them these words.
SOURCE, ACC, CENTRE, WIDTH, PART_WIDTH, PIECES, KERNELS = (2 * FRAME + 8 * k for k in range(7))
PLAN = KERNELS + 8 * 6


@njit
def accumulator_there(op, dtype):
    """The dtype of a reduction's accumulators on devices: float32 of floats but float64, since thousands of threads share a sum."""
    code = op_at(op).accumulator[dtype]
    return FLOAT32 if code >= FLOAT32 and dtype != FLOAT64 else code


@njit
def offset_of(f, index):
    """Bytes from the first element to the element of an index, counted in row-major order."""
    offset = 0
    for d in range(f.ndim - 1, -1, -1):
        offset += f.strides[0, d] * (index % f.shape[d])
        index //= f.shape[d]
    return offset


@njit
def run_rows(plan, acc, source, step, centre, count, n):
    """acc[r] from count rows of n contiguous elements."""
    operands = new_frame()
    store(operands, acc)
    store(operands + 8, source)
    store(operands + 16, step)
    store(operands + 24, centre)
    call(load(plan + KERNELS), operands, count, n)


@native
def reduce_row(plan, source, acc, centre):
    """One result from all elements of the reduced dimensions, from `source` on; in chunks, packed where they are strided."""
    f, width = frame_at(plan + FRAME), load(plan + WIDTH)
    inner = f.ndim - 1
    n, step, size = f.shape[inner], f.strides[0, inner], f.itemsizes[0]
    chunk = CHUNK if step == size else PACK
    per = (n + chunk - 1) // chunk
    count = f.numel // n * per
    partials = malloc(count * width)
    mine, room = new_frame(), scratch()
    memcpy(mine, plan + FRAME, FRAME)
    g = frame_at(mine)
    g.pointers[0] = source
    for i in range(inner):
        g.index[i] = 0
    k = 0
    while True:
        start = 0
        while start < n:
            m, here = min(chunk, n - start), g.pointers[0] + step * start
            if step != size:
                copy_run(room, size, here, step, m, size)
                here = room
            run_rows(plan, partials + k * width, here, 0, centre, 1, m)
            k += 1
            start += m
        if not advance(g, inner):
            break
    store(mine, acc)
    store(mine + 8, partials)
    call(load(plan + KERNELS + 8 * MERGE), mine, count)
    free(partials)
    return 0


@native
def rows_piece(plan, i):
    """One thread's share of the results, each from elements that lie (mostly) one after the other."""
    k, f = frame_at(plan), frame_at(plan + FRAME)
    width, source, acc, centre = load(plan + WIDTH), load(plan + SOURCE), load(plan + ACC), load(plan + CENTRE)
    pieces = load(plan + PIECES)
    low, high = k.numel * i // pieces, k.numel * (i + 1) // pieces
    n, size = f.shape[f.ndim - 1], f.itemsizes[0]
    centre_step = width if centre else 0
    if f.ndim == 1 and f.strides[0, 0] == size and n <= CHUNK:
        if k.ndim == 1:
            step = k.strides[0, 0]
            run_rows(plan, acc + low * width, source + low * step, step, centre + low * centre_step, high - low, n)
            return 0
        for j in range(low, high):
            run_rows(plan, acc + j * width, source + offset_of(k, j), 0, centre + j * centre_step, 1, n)
        return 0
    for j in range(low, high):
        reduce_row(plan, source + offset_of(k, j), acc + j * width, centre + j * centre_step)
    return 0


@native
def chunks_piece(plan, i):
    """One thread's share of the chunks of one long contiguous row; their results lie where `ACC` says."""
    width, source, acc, centre = load(plan + WIDTH), load(plan + SOURCE), load(plan + ACC), load(plan + CENTRE)
    f, pieces = frame_at(plan + FRAME), load(plan + PIECES)
    n, size = f.shape[0], f.itemsizes[0]
    chunks = (n + CHUNK - 1) // CHUNK
    for k in range(chunks * i // pieces, chunks * (i + 1) // pieces):
        run_rows(plan, acc + k * width, source + k * CHUNK * size, 0, centre, 1, min(CHUNK, n - k * CHUNK))
    return 0


@native
def columns_piece(plan, i):
    """One thread's share of strips of columns: each walks down the reduced dimensions, DEPTH rows at a time."""
    k, width, pieces = frame_at(plan), load(plan + WIDTH), load(plan + PIECES)
    n = k.shape[k.ndim - 1]
    outer, per = k.numel // n, (n + STRIP - 1) // STRIP
    operands, mine, part = new_frame(), new_frame(), scratch()
    g = frame_at(mine)
    for b in range(outer * per * i // pieces, outer * per * (i + 1) // pieces):
        start, row = b % per * STRIP, b // per
        m, place = min(STRIP, n - start), row * n + start
        acc, centre = load(plan + ACC) + place * width, load(plan + CENTRE)
        if centre:
            centre += place * width
        memcpy(mine, plan + FRAME, FRAME)
        g.pointers[0] = load(plan + SOURCE) + offset_of(k, place)
        inner = g.ndim - 1
        rows, step = g.shape[inner], g.strides[0, inner]
        for d in range(inner):
            g.index[d] = 0
        store(operands, acc)
        call(load(plan + KERNELS + 8 * START), operands, m)
        while True:
            for first in range(0, rows, DEPTH):
                store(operands, part)
                store(operands + 8, g.pointers[0] + step * first)
                store(operands + 16, step)
                store(operands + 24, centre)
                call(load(plan + KERNELS + 8 * COLUMNS), operands, min(DEPTH, rows - first), m)
                store(operands, acc)
                store(operands + 8, part)
                call(load(plan + KERNELS + 8 * FOLD), operands, m)
            if not advance(g, inner):
                break
    return 0


@njit
def merge_kept(f):
    """Merge the kept dimensions in their own order, so that the results stay in row-major order."""
    n = 0
    f.numel = 1
    for i in range(f.ndim):
        f.numel *= f.shape[i]
        if f.shape[i] == 1:
            continue
        if n and f.strides[0, n - 1] == f.strides[0, i] * f.shape[i]:
            f.shape[n - 1] *= f.shape[i]
            f.strides[0, n - 1] = f.strides[0, i]
        else:
            f.shape[n], f.strides[0, n] = f.shape[i], f.strides[0, i]
            n += 1
    if n == 0:
        f.shape[0], f.strides[0, 0] = 1, f.itemsizes[0]
        n = 1
    f.ndim = n


@njit
def put_dimension(f, size, stride):
    f.shape[f.ndim], f.strides[0, f.ndim] = size, stride
    f.ndim += 1


@native
def combine(op, x, mask, acc, centre):
    """The accumulators of a reduction over the dimensions in a bit mask, in row-major order of the kept ones, into `acc`."""
    o, a = op_at(op), tensor_at(x)
    width = itemsize_of(o.accumulator[a.dtype])
    plan = malloc(PLAN)
    kept, gone = frame_at(plan), frame_at(plan + FRAME)
    kept.operands = gone.operands = 1
    kept.itemsizes[0] = gone.itemsizes[0] = a.itemsize
    kept.ndim = gone.ndim = 0
    for i in range(a.ndim):
        put_dimension(gone if mask >> i & 1 else kept, a.shape[i], a.strides[i])
    merge_kept(kept)
    coalesce(plan + FRAME)
    store(plan + SOURCE, a.data)
    store(plan + ACC, acc)
    store(plan + CENTRE, centre)
    store(plan + WIDTH, width)
    pieces = 1
    if a.numel * o.cost >= PARALLEL:
        pieces = max(1, state_at(symbol("state")).threads)
    store(plan + PIECES, pieces)
    failed = attempt(symbol("combine_planned"), op, plan, a.dtype, acc) == -1
    free(plan)
    if failed:
        fail()
    return 0


@njit
def bring(plan, op, k, dtype):
    """Put a kernel of the reduction into the plan."""
    store(plan + KERNELS + 8 * k, extra_kernel(op, k, dtype))


@native
def combine_planned(op, plan, dtype, acc):
    """Choose the walk of a reduction and run it; its kernels are compiled, or loaded, first."""
    kept, gone, width = frame_at(plan), frame_at(plan + FRAME), load(plan + WIDTH)
    if kept.numel == 0:
        return 0
    operands = new_frame()
    if gone.numel == 0:
        bring(plan, op, START, dtype)
        store(operands, acc)
        call(load(plan + KERNELS + 8 * START), operands, kept.numel)
        return 0
    size = gone.itemsizes[0]
    last, inner = kept.ndim - 1, gone.ndim - 1
    if kept.shape[last] > 1 and kept.strides[0, last] == size and not (inner == 0 and gone.strides[0, 0] == size):
        bring(plan, op, COLUMNS, dtype)
        bring(plan, op, START, dtype)
        bring(plan, op, FOLD, dtype)
        return parallel(symbol("columns_piece"), plan, load(plan + PIECES))
    bring(plan, op, ROWS, dtype)
    if kept.numel == 1 and inner == 0 and gone.strides[0, 0] == size and gone.numel > CHUNK:
        bring(plan, op, MERGE, dtype)
        count = (gone.numel + CHUNK - 1) // CHUNK
        partials = malloc(count * width)
        store(plan + ACC, partials)
        parallel(symbol("chunks_piece"), plan, load(plan + PIECES))
        store(operands, acc)
        store(operands + 8, partials)
        call(load(plan + KERNELS + 8 * MERGE), operands, count)
        free(partials)
        return 0
    if inner or gone.strides[0, inner] != size or gone.shape[inner] > CHUNK:
        bring(plan, op, MERGE, dtype)
    return parallel(symbol("rows_piece"), plan, load(plan + PIECES))


@njit
def mask_of(dims, ndim):
    """Bit mask of the dimensions in a list; all where there is none; -1 where the list is wrong."""
    if dims[1] <= 0:
        return (1 << ndim) - 1
    mask = 0
    for i in range(dims[1]):
        d = wrap(item(dims, i), ndim)
        if d < 0 or mask >> d & 1:
            return -1
        mask |= 1 << d
    return mask & ((1 << ndim) - 1)


@njit
def reduced_shape(frame, x, mask, keepdim):
    """Give a frame the shape that is left of a tensor's; gives how many elements make one result."""
    f, count = frame_at(frame), 1
    f.ndim = 0
    for i in range(x.ndim):
        if mask >> i & 1:
            count *= x.shape[i]
            if keepdim:
                f.shape[f.ndim] = 1
                f.ndim += 1
        else:
            f.shape[f.ndim] = x.shape[i]
            f.ndim += 1
    return count


@njit
def wanted_shape(op, arguments, x, shape):
    """Which dimensions of x a reduction is asked to reduce, as bits, and how many elements make one result, whose shape the frame gets."""
    mask = mask_of(list_argument(arguments, 1), x.ndim)
    if mask < 0:
        refuse(op, arguments)
    return mask, reduced_shape(shape, x, mask, number_argument(arguments, 2))


@njit
def divide_all(values, n, count):
    """values[i] /= count, of float64."""
    for i in range(n):
        store(values + 8 * i, bits(number(load(values + 8 * i)) / count))


@njit
def finished(op, made, acc, dtype, count, second):
    """Turn accumulators into results."""
    operands, parameters = new_frame(), new_frame()
    store(parameters, bits(float(count)))
    store(parameters + 8, bits(second))
    store(operands, tensor_at(made).data)
    store(operands + 8, acc)
    store(operands + 16, parameters)
    call(extra_kernel(op, FINISH, dtype), operands, tensor_at(made).numel)


@native
def reduction(op, arguments, out):
    """``op(x, dim, keepdim)``: a dim that is None or empty means all dimensions."""
    x = arguments_at(arguments).tensors[0]
    o, a = op_at(op), tensor_at(x)
    shape = new_frame()
    mask, count = wanted_shape(op, arguments, a, shape)
    if o.trait and count == 0:
        refuse(op, arguments)
    extra_kernel(op, FINISH, a.dtype)
    made = empty(shape, o.outcome[a.dtype])
    n = tensor_at(made).numel
    few = new_frame()
    acc = few if n <= 64 else malloc(8 * n)
    failed = attempt(symbol("combine"), op, x, mask, acc, 0) == -1
    if not failed:
        finished(op, made, acc, a.dtype, count, 0.0)
    if acc != few:
        free(acc)
    if failed:
        decref(made)
        fail()
    return made


@native
def variance(op, arguments, out):
    """``op(x, dim, keepdim, correction)``: two passes, the second over the squared distances to the mean of the first."""
    x = arguments_at(arguments).tensors[0]
    a = tensor_at(x)
    shape = new_frame()
    mask, count = wanted_shape(op, arguments, a, shape)
    extra_kernel(op, FINISH, a.dtype)
    made = empty(shape, a.dtype)
    n = tensor_at(made).numel
    few = new_frame()
    acc = few if n <= 32 else malloc(16 * n)
    means = acc + 8 * n
    failed = attempt(symbol("combine"), symbol("op_sum"), x, mask, means, 0) == -1
    if not failed:
        divide_all(means, n, count)
        failed = attempt(symbol("combine"), op, x, mask, acc, means) == -1
    if not failed:
        finished(op, made, acc, a.dtype, count, float_argument(arguments, 3))
    if acc != few:
        free(acc)
    if failed:
        decref(made)
        fail()
    return made


@native
def sum_to(grad, output):
    """A gradient summed, or spread, to the shape of a node's output: the other side of broadcasting. Recorded where that is wanted."""
    g, n = tensor_at(grad), output_at(output)
    arguments = new_arguments()
    a = arguments_at(arguments)
    lead = g.ndim - n.ndim
    a.room = count = 0
    start = arguments_room(a, 1, 0)
    for i in range(g.ndim):
        if i < lead or (n.shape[i - lead] == 1 and g.shape[i] != 1):
            a.lists[start + count] = i
            count += 1
    a.lengths[1] = a.room = count
    made = grad
    incref(made)
    if count:
        a.count, a.tensors[0], a.kinds[0] = 3, grad, 0
        a.tensors[2], a.kinds[2], a.numbers[2] = 0, 1, 1
        decref(made)
        made = perform(symbol("op_sum"), arguments)
    x, same = tensor_at(made), tensor_at(made).ndim == n.ndim
    for i in range(n.ndim):
        same = same and x.shape[i] == n.shape[i]
    if same:
        return made
    a.room, a.count, a.tensors[0], a.kinds[0] = 0, 2, made, 0
    start = arguments_room(a, 1, n.ndim)
    numel = 1
    for i in range(n.ndim):
        a.lists[start + i] = n.shape[i]
        numel *= n.shape[i]
    if numel == x.numel:
        shaped = attempt(symbol("perform"), symbol("op_reshape"), arguments)
    else:
        shaped = attempt(symbol("perform"), symbol("op_expand"), arguments)
    decref(made)
    if shaped == -1:
        fail()
    return shaped
