"""The driver of reductions: which elements are combined, in what order, on which thread.

A reduction brings two kernels. ``rows(pointers, n)`` combines n contiguous elements into one accumulator; ``columns(pointers, n)``
combines n contiguous elements each into an accumulator of its own. What is combined with what is fixed by the shape alone
(chunks of CHUNK elements, then the chunks' results), so the result does not depend on the number of threads.
"""

from numba import njit

from numbatensor.core.compiler import call, native, symbol
from numbatensor.core.dispatch import conversion, copy_into
from numbatensor.core.iterate import BLOCK, PARALLEL, advance, coalesce, copy_run, parallel, scratch
from numbatensor.core.memory import decref, free, load, malloc, memcpy, store
from numbatensor.core.python import call_python
from numbatensor.core.records import Frame, frame_at, new_frame, node_at, op_at, state_at, tensor_at
from numbatensor.core.tensors import empty, itemsize_of, shape_of

CHUNK = 1 << 14  # elements that one call of `rows` combines
COLUMNS = 512  # accumulators that one walk down the rows keeps in first-level cache
LEVEL = 64  # rows after which column accumulators are folded into a second level, so that errors grow slowly
FRAME = Frame.itemsize
ROWS_KERNEL, COLUMNS_KERNEL, MERGE_KERNEL, START_KERNEL = range(4)

# The plan of a reduction, behind two frames in one block: kept dimensions, then reduced ones.
PLAN = 2 * FRAME


@njit
def kernel(op, what, dtype):
    """A reduction's kernel: they lie in the rows of `rule`, since a reduction's rule is Python or the identity."""
    found = op_at(op).rule[what, dtype]
    return found if found else call_python("resolve", op, 1 + what, dtype)


@njit
def merge(rows_kernel, pointers, partials, count, acc):
    """Combine partial accumulators into one."""
    store(pointers, acc)
    store(pointers + 8, partials)
    call(rows_kernel, pointers, count)


@native
def reduce_row(plan, source, acc):
    """Combine all elements of the reduced dimensions, from `source` on, into one accumulator of 8 bytes or less."""
    f = frame_at(plan + FRAME)
    rows, merge_kernel, width = load(plan + PLAN), load(plan + PLAN + 8), load(plan + PLAN + 16)
    inner = f.ndim - 1
    n, step, item = f.shape[inner], f.strides[0, inner], f.itemsizes[0]
    pointers = new_frame()
    if inner == 0 and step == item and n <= CHUNK:
        store(pointers, acc)
        store(pointers + 8, source)
        return call(rows, pointers, n)
    chunk = CHUNK if step == item else BLOCK
    per = (n + chunk - 1) // chunk
    count = f.numel // n * per
    partials = malloc(count * width)
    mine = new_frame()
    memcpy(mine, plan + FRAME, FRAME)
    g = frame_at(mine)
    g.pointers[0] = source
    for i in range(inner):
        g.index[i] = 0
    room = scratch()
    k = 0
    while True:
        start = 0
        while start < n:
            m = min(chunk, n - start)
            here = g.pointers[0] + step * start
            if step != item:
                copy_run(room, item, here, step, m, item)
                here = room
            store(pointers, partials + k * width)
            store(pointers + 8, here)
            call(rows, pointers, m)
            k += 1
            start += m
        if not advance(g, inner):
            break
    merge(merge_kernel, pointers, partials, count, acc)
    free(partials)
    return 0


@native
def reduce_rows_piece(context, i):
    """One thread's share of the kept dimensions, each reduced by `reduce_row`."""
    plan, acc, pieces = load(context), load(context + 8), load(context + 16)
    width = load(plan + PLAN + 16)
    k = frame_at(plan)
    total = k.numel
    low, high = total * i // pieces, total * (i + 1) // pieces
    for j in range(low, high):
        source = k.pointers[0]
        rest = j
        for d in range(k.ndim - 1, -1, -1):
            source += k.strides[0, d] * (rest % k.shape[d])
            rest //= k.shape[d]
        reduce_row(plan, source, acc + j * width)
    return 0


@native
def reduce_chunk_piece(context, i):
    """One thread's share of the chunks of one long contiguous row."""
    source, partials, n, rows, pieces, width = (
        load(context),
        load(context + 8),
        load(context + 16),
        load(context + 24),
        load(context + 32),
        load(context + 40),
    )
    item = load(context + 48)
    chunks = (n + CHUNK - 1) // CHUNK
    pointers = new_frame()
    for k in range(chunks * i // pieces, chunks * (i + 1) // pieces):
        store(pointers, partials + k * width)
        store(pointers + 8, source + k * CHUNK * item)
        call(rows, pointers, min(CHUNK, n - k * CHUNK))
    return 0


@native
def reduce_columns_piece(context, i):
    """One thread's share of the columns: accumulators walk down the reduced dimensions, two levels deep."""
    plan, acc, pieces = load(context), load(context + 8), load(context + 16)
    columns, merges, starts, width = (
        load(plan + PLAN + 24),
        load(plan + PLAN + 32),
        load(plan + PLAN + 40),
        load(plan + PLAN + 16),
    )
    k = frame_at(plan)
    n = k.shape[k.ndim - 1]
    outer = k.numel // n
    per = (n + COLUMNS - 1) // COLUMNS
    blocks = outer * per
    pointers, mine = new_frame(), new_frame()
    room = scratch()
    g = frame_at(mine)
    for b in range(blocks * i // pieces, blocks * (i + 1) // pieces):
        start = b % per * COLUMNS
        m = min(COLUMNS, n - start)
        source = k.pointers[0] + k.strides[0, k.ndim - 1] * start
        rest = b // per
        target = acc + (rest * n + start) * width
        for d in range(k.ndim - 2, -1, -1):
            source += k.strides[0, d] * (rest % k.shape[d])
            rest //= k.shape[d]
        memcpy(mine, plan + FRAME, FRAME)
        g.pointers[0] = source
        for d in range(g.ndim):
            g.index[d] = 0
        store(pointers, target)
        call(starts, pointers, m)
        level = 0
        more = True
        while more:
            if level == 0:
                store(pointers, room)
                call(starts, pointers, m)
            store(pointers, room)
            store(pointers + 8, g.pointers[0])
            call(columns, pointers, m)
            level += 1
            more = advance(g, g.ndim)
            if level == LEVEL or not more:
                store(pointers, target)
                store(pointers + 8, room)
                call(merges, pointers, m)
                level = 0
    return 0


@njit
def merge_dims(f):
    """Merge the kept dimensions in their own order, so that the result stays contiguous."""
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


@native
def reduce(op, x, mask, keepdim, result):
    """A reduction over the dimensions in a bit mask. `result`: the output's dtype. Gives a new tensor."""
    o, a = op_at(op), tensor_at(x)
    if o.dtypes >> a.dtype & 1 == 0:
        call_python("complain", 2, op, a.dtype, 0)
    wide = o.accumulator[a.dtype]
    rows, columns, starts = (
        kernel(op, ROWS_KERNEL, a.dtype),
        kernel(op, COLUMNS_KERNEL, a.dtype),
        kernel(op, START_KERNEL, a.dtype),
    )
    merge_rows, merge_columns = kernel(op, MERGE_KERNEL, wide), kernel(op, MERGE_KERNEL + 2, wide)
    conversion(result, wide)
    context = malloc(PLAN + 128)
    kept, gone = frame_at(context), frame_at(context + FRAME)
    kept.operands = gone.operands = 1
    kept.pointers[0] = gone.pointers[0] = a.data
    kept.itemsizes[0] = gone.itemsizes[0] = a.itemsize
    kept.ndim = gone.ndim = 0
    shape = new_frame()
    s = frame_at(shape)
    s.ndim = 0
    for i in range(a.ndim):
        if mask >> i & 1:
            gone.shape[gone.ndim] = a.shape[i]
            gone.strides[0, gone.ndim] = a.strides[i]
            gone.ndim += 1
            if keepdim:
                s.shape[s.ndim] = 1
                s.ndim += 1
        else:
            kept.shape[kept.ndim] = a.shape[i]
            kept.strides[0, kept.ndim] = a.strides[i]
            kept.ndim += 1
            s.shape[s.ndim] = a.shape[i]
            s.ndim += 1
    made = empty(shape, wide)
    out, width = tensor_at(made).data, itemsize_of(wide)
    merge_dims(kept)
    coalesce(context + FRAME)
    store(context + PLAN, rows)
    store(context + PLAN + 8, merge_rows)
    store(context + PLAN + 16, width)
    store(context + PLAN + 24, columns)
    store(context + PLAN + 32, merge_columns)
    store(context + PLAN + 40, starts)
    inner, pieces = new_frame(), 1
    if a.numel * o.cost >= PARALLEL:
        pieces = max(1, state_at(symbol("state")).threads)
    store(inner, context)
    store(inner + 8, out)
    store(inner + 16, pieces)
    if gone.numel == 0 or kept.numel == 0:
        if kept.numel:
            pointers = new_frame()
            store(pointers, out)
            call(starts, pointers, kept.numel)
    elif kept.numel == 1 and gone.ndim == 1 and gone.strides[0, 0] == a.itemsize and gone.numel > CHUNK:
        count = (gone.numel + CHUNK - 1) // CHUNK
        partials = malloc(count * width)
        store(inner, gone.pointers[0])
        store(inner + 8, partials)
        store(inner + 16, gone.numel)
        store(inner + 24, rows)
        store(inner + 32, pieces)
        store(inner + 40, width)
        store(inner + 48, a.itemsize)
        parallel(symbol("reduce_chunk_piece"), inner, pieces)
        pointers = new_frame()
        merge(merge_rows, pointers, partials, count, out)
        free(partials)
    elif (
        kept.strides[0, kept.ndim - 1] == a.itemsize
        and gone.strides[0, gone.ndim - 1] != a.itemsize
        and kept.shape[kept.ndim - 1] > 1
    ):
        parallel(symbol("reduce_columns_piece"), inner, pieces)
    else:
        parallel(symbol("reduce_rows_piece"), inner, pieces)
    free(context)
    if wide == result:
        return made
    final = empty(shape, result)
    copy_into(final, made)
    decref(made)
    return final


@native
def sum_to(grad, node):
    """A tensor summed, or spread, to the shape of a node: the other side of broadcasting."""
    g, n = tensor_at(grad), node_at(node)
    mask = 0
    lead = g.ndim - n.ndim
    for i in range(g.ndim):
        if i < lead or (n.shape[i - lead] == 1 and g.shape[i] != 1):
            mask |= 1 << i
    if g.requires_grad:
        return call_python("spread", grad, node)
    made = grad
    if mask:
        made = reduce(symbol("op_sum"), grad, mask, 1, g.dtype)
        x = tensor_at(made)
        for i in range(n.ndim):
            x.shape[i] = x.shape[i + lead]
            x.strides[i] = x.strides[i + lead]
        x.ndim = n.ndim
        return made
    f = new_frame()
    shape_of(f, n)
    made = empty(f, g.dtype)
    copy_into(made, grad)
    return made
