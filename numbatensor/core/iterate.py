"""Broadcasting, strides, blocks and threads, once for every kernel.

A kernel is ``kernel(pointers, n)``: one loop over contiguous memory. The driver merges the dimensions that all operands step
through evenly, walks the rest, and brings what is not contiguous into blocks on the stack. So a kernel has one loop, compiles
fast, and vectorises; and strides are handled here alone.
"""

from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from kernels_cpu.pointers import on_stack
from numbatensor.core.compiler import call, i64, native, symbol
from numbatensor.core.copies import advance, copy_frame, copy_run
from numbatensor.core.halves import ROOM, half_of, narrow_run, widen_run
from numbatensor.core.memory import load, memcpy, store
from numbatensor.core.python import call_python, gil_held, restore_thread, save_thread
from numbatensor.core.records import OPERANDS, Frame, frame_at, new_frame, op_at, state_at
from numbatensor.core.tensors import FLOAT16

BLOCK = 512  # elements of 8 bytes in a packed block: eight operands fill 32 KiB of first-level cache
ROW = 128  # shortest contiguous row worth a kernel call of its own
FRAME = Frame.itemsize
POINTERS = Frame.fields["pointers"][1]
VARIANT = 100_000  # elements from which a kernel with one operand fixed is worth compiling
PARALLEL = 40_000  # elements of an add from which a second thread pays


@intrinsic
def scratch(typingctx):
    """Address of the blocks of one sweep, on the stack."""

    def codegen(context, builder, signature, args):
        room = on_stack(builder, ir.ArrayType(ir.IntType(64), OPERANDS * BLOCK))
        return builder.ptrtoint(room, ir.IntType(64))

    return i64(), codegen


@njit
def begin(frame, kernel):
    """An empty frame for a kernel; 0 means to copy the second operand into the first."""
    f = frame_at(frame)
    f.operands, f.outputs, f.ndim, f.kernel, f.op, f.fixed, f.halves = 0, 1, 0, kernel, 0, 0, 0


@njit
def operand(frame, x):
    """Add a tensor, broadcast to the frame's shape, as the next operand."""
    f = frame_at(frame)
    k, lead = f.operands, f.ndim - x.ndim
    f.pointers[k], f.itemsizes[k], f.operands = x.data, x.itemsize, k + 1
    if x.dtype >= FLOAT16:
        f.halves |= x.dtype << (ROOM * k)
    for i in range(f.ndim):
        f.strides[k, i] = x.strides[i - lead] if i >= lead and x.shape[i - lead] != 1 else 0


@njit
def scalar_operand(frame, address, itemsize):
    """Add one element, the same everywhere, as the next operand."""
    f = frame_at(frame)
    k = f.operands
    f.pointers[k], f.itemsizes[k], f.operands = address, itemsize, k + 1
    for i in range(f.ndim):
        f.strides[k, i] = 0


@njit
def mergeable(f, outer, inner):
    for k in range(f.operands):
        if f.strides[k, outer] != f.strides[k, inner] * f.shape[inner]:
            return False
    return True


@njit
def swap(f, i, j):
    f.shape[i], f.shape[j] = f.shape[j], f.shape[i]
    for k in range(f.operands):
        f.strides[k, i], f.strides[k, j] = f.strides[k, j], f.strides[k, i]


@njit
def before(f, i, j):
    """Whether dimension i should be outside of j: the output's larger step first, then the inputs'."""
    for k in range(f.operands):
        a, b = abs(f.strides[k, i]), abs(f.strides[k, j])
        if a and b and a != b:
            return a > b
    return True


@native
def coalesce(frame):
    """Order the dimensions by step, drop those of size 1, and merge those that all operands step through evenly."""
    f = frame_at(frame)
    n = 0
    f.numel = 1
    for i in range(f.ndim):
        f.numel *= f.shape[i]
        if f.shape[i] != 1:
            if i != n:
                swap(f, i, n)
            n += 1
    for i in range(1, n):
        j = i
        while j > 0 and not before(f, j - 1, j):
            swap(f, j - 1, j)
            j -= 1
    last = 0
    for i in range(1, n):
        if mergeable(f, last, i):
            f.shape[last] *= f.shape[i]
            for k in range(f.operands):
                f.strides[k, last] = f.strides[k, i]
        else:
            last += 1
            swap(f, last, i)
    if n == 0:
        f.shape[0] = 1
        for k in range(f.operands):
            f.strides[k, 0] = f.itemsizes[k]
    f.ndim = last + 1
    return 0


@njit
def size_of(f, k):
    """Bytes of an element of operand k as the kernel sees it."""
    return 4 if half_of(f, k) else f.itemsizes[k]


@njit
def fetch(f, k, block, source, step, n):
    """Bring elements of an operand into a block."""
    half = half_of(f, k)
    if half:
        widen_run(block, source, step, n, half)
    else:
        copy_run(block, f.itemsizes[k], source, step, n, f.itemsizes[k])


@njit
def put_back(f, target, step, block, n):
    """Bring elements of the output from a block to their places."""
    half = half_of(f, 0)
    if half:
        narrow_run(target, step, block, n, half)
    else:
        copy_run(target, step, block, f.itemsizes[0], n, f.itemsizes[0])


@njit
def row(f, room, here, n, inner):
    """Run the kernel over one row, packing in blocks what is not contiguous, or not what the kernel computes with."""
    even = f.halves == 0
    for k in range(f.operands):
        store(here + 8 * k, f.pointers[k])
        even &= f.strides[k, inner] == f.itemsizes[k] or (k == f.fixed and k != 0)
    if even:
        call(f.kernel, here, n)
        return
    widest = 1
    for k in range(f.operands):
        widest = max(widest, size_of(f, k))
    limit = 8 * BLOCK // widest
    start = 0
    while start < n:
        m = min(limit, n - start)
        for k in range(f.operands):
            item, step = f.itemsizes[k], f.strides[k, inner]
            source = f.pointers[k] + step * start
            if step == item and half_of(f, k) == 0:
                store(here + 8 * k, source)
            else:
                block = room + 8 * BLOCK * k
                store(here + 8 * k, block)
                if k and not (step == 0 and f.filled[k] == source):
                    fetch(f, k, block, source, step, limit if step == 0 and n > m else m)
                    f.filled[k] = source if step == 0 and (n > m or n == f.numel) else 0
        call(f.kernel, here, m)
        step = f.strides[0, inner]
        if step != f.itemsizes[0] or half_of(f, 0):
            put_back(f, f.pointers[0] + step * start, step, room, m)
        start += m


@njit
def rows_in_blocks(f, room, here, n, inner):
    """Run the kernel over many short rows at a time."""
    per = max(1, BLOCK // n)
    more = True
    while more:
        m = 0
        for k in range(f.outputs):
            f.scratch[k] = f.pointers[k]
        while more and m < per:
            for k in range(f.outputs, f.operands):
                fetch(f, k, room + 8 * BLOCK * k + m * n * size_of(f, k), f.pointers[k], f.strides[k, inner], n)
            store(room + 8 * m, f.pointers[0])
            m += 1
            more = advance(f, inner)
        # the output's block is the last one: block 0 holds the rows' addresses
        out = room + 8 * BLOCK * f.operands
        store(here, out)
        for k in range(1, f.operands):
            store(here + 8 * k, room + 8 * BLOCK * k)
        if f.outputs > 1:  # their rows follow each other
            for k in range(f.outputs):
                store(here + 8 * k, f.scratch[k])
        call(f.kernel, here, m * n)
        for j in range(m if f.outputs == 1 else 0):
            put_back(f, load(room + 8 * j), f.strides[0, inner], out + j * n * size_of(f, 0), n)


@native
def sweep_narrow(frame):
    """Run every row of a frame whose rows are short enough for one block."""
    f = frame_at(frame)
    inner = f.ndim - 1
    room, block = scratch(), new_frame()
    for i in range(inner):
        f.index[i] = 0
    for k in range(f.operands):
        f.filled[k] = 0
    while True:
        row(f, room, block + POINTERS, f.shape[inner], inner)
        if not advance(f, inner):
            break
    return 0


@njit
def sweep_tiles(frame):
    """Walk columns of 64 elements down: where an operand is transposed, its cache lines stay for the next rows."""
    f = frame_at(frame)
    inner = f.ndim - 1
    n = f.shape[inner]
    start = 0
    while start < n:
        m = min(64, n - start)
        f.shape[inner] = m
        sweep_narrow(frame)
        for k in range(f.operands):
            f.pointers[k] += f.strides[k, inner] * m
        start += m
    return 0


@native
def sweep_serial(frame):
    """Run a coalesced frame on this thread."""
    f = frame_at(frame)
    if f.kernel == 0:
        return copy_frame(frame)
    inner = f.ndim - 1
    n = f.shape[inner]
    even = f.halves == 0
    conflict = False
    for k in range(f.operands):
        even &= f.strides[k, inner] == f.itemsizes[k]
        if inner:
            conflict |= abs(f.strides[k, inner - 1]) < abs(f.strides[k, inner]) and f.strides[k, inner - 1] != 0
    if inner == 0 and even:
        return call(f.kernel, frame + POINTERS, n)
    for i in range(inner):
        f.index[i] = 0
    for k in range(f.operands):
        f.filled[k] = 0
    room, block = scratch(), new_frame()
    here = block + POINTERS
    if conflict and n > 64 and f.shape[inner - 1] > 8:
        return sweep_tiles(frame)
    if n < ROW and f.operands < OPERANDS and inner and not f.shape[0] * n < 64:
        rows_in_blocks(f, room, here, n, inner)
        return 0
    while True:
        row(f, room, here, n, inner)
        if not advance(f, inner):
            break
    return 0


@native
def piece(context, i):
    """One thread's share of a frame: a range of the outermost dimension."""
    mine = new_frame()
    memcpy(mine, load(context), FRAME)
    pieces = load(context + 8)
    f = frame_at(mine)
    dim = 0
    n = f.shape[dim]
    low, high = n * i // pieces, n * (i + 1) // pieces
    if low == high:
        return 0
    for k in range(f.operands):
        f.pointers[k] += f.strides[k, dim] * low
    f.shape[dim] = high - low
    f.numel = f.numel // n * (high - low)
    return sweep_serial(mine)


@native
def parallel(function, context, pieces):
    """Call ``function(context, piece)`` for each piece, on the threads there are, without the GIL."""
    s = state_at(symbol("state"))
    if pieces == 1 or s.parallel_for == 0 or s.threads < 2:
        for i in range(pieces):
            call(function, context, i)
        return 0
    if gil_held() == 0:
        return call(s.parallel_for, function, context, pieces)
    thread = save_thread()
    call(s.parallel_for, function, context, pieces)
    restore_thread(thread)
    return 0


@njit
def choose_variant(f):
    """Take the kernel with operand k fixed where that is what the rows are: others contiguous, operand k one value."""
    inner = f.ndim - 1
    if inner == 0 or f.shape[inner] < ROW or f.strides[0, inner] != f.itemsizes[0]:
        return
    for k in (1, 2):
        other = 3 - k
        if f.strides[k, inner] == 0 and f.strides[other, inner] == f.itemsizes[other]:
            kernel = op_at(f.op).fixed_kernel[k, f.dtype]
            f.kernel = kernel if kernel else call_python("resolve", f.op, -1 - k, f.dtype)
            f.fixed = k


@native
def sweep(frame, cost):
    """Run a frame's kernel over its elements, on several threads where that pays. `cost`: of an element, an add's being 1."""
    coalesce(frame)
    f = frame_at(frame)
    if f.numel == 0:
        return 0
    if f.op:
        choose_variant(f)
    s = state_at(symbol("state"))
    if f.numel * cost < PARALLEL or s.threads < 2 or s.parallel_for == 0 or f.shape[0] < s.threads:
        if f.numel * cost < PARALLEL or gil_held() == 0:
            return sweep_serial(frame)
        thread = save_thread()
        sweep_serial(frame)
        restore_thread(thread)
        return 0
    context = new_frame()
    store(context, frame)
    store(context + 8, s.threads)
    return parallel(symbol("piece"), context, s.threads)
