"""Copies between even sequences, and between tensors of any strides."""

from numba import njit, types

from kernels_cpu.pointers import array_of, itemsize
from kernels_cpu.transpose import SIDE, block4, block8
from numbatensor.core.compiler import native
from numbatensor.core.memory import memcpy
from numbatensor.core.records import frame_at

PAIRS = {types.int8: types.int16, types.int16: types.int32, types.int32: types.int64}


def copier(kind):
    """A function that copies n elements of a type: a loop for each pattern of steps (in bytes) that LLVM can make use of."""
    size = itemsize(kind)
    at, get, put = array_of(kind)
    pair_at, get_pair, _ = array_of(PAIRS.get(kind, kind))

    @njit
    def copy(target, target_step, source, source_step, n):
        t, s, a, b = at(target), at(source), target_step // size, source_step // size
        if a * size != target_step or b * size != source_step:  # of memory that is not ours
            for i in range(n):
                put(at(target + i * target_step), 0, get(at(source + i * source_step), 0))
        elif a == 1 and b == 1:
            memcpy(target, source, n * size)
        elif a == 1 and b == 0:
            value = get(s, 0)
            for i in range(n):
                put(t, i, value)
        elif a == 1 and b == 2 and n > 1 and size < 8:
            pairs = pair_at(source)
            for i in range(n - 1):
                put(t, i, kind(get_pair(pairs, i)))  # every second element: the low half of a pair
            put(t, n - 1, get(s, 2 * (n - 1)))
        elif a == 1:
            for i in range(n):
                put(t, i, get(s, b * i))
        else:
            for i in range(n):
                put(t, a * i, get(s, b * i))

    return copy


copy1, copy2, copy4, copy8 = map(copier, (types.int8, types.int16, types.int32, types.int64))


@native
def copy_run(target, target_step, source, source_step, n, size):
    """Copy n elements between two even sequences."""
    if size == 4:
        copy4(target, target_step, source, source_step, n)
    elif size == 8:
        copy8(target, target_step, source, source_step, n)
    elif size == 1:
        copy1(target, target_step, source, source_step, n)
    else:
        copy2(target, target_step, source, source_step, n)
    return 0


@njit
def advance(f, dims):
    """Step the index over the outer dimensions; whether there is a next row."""
    i = dims - 1
    while i >= 0:
        f.index[i] += 1
        for k in range(f.operands):
            f.pointers[k] += f.strides[k, i]
        if f.index[i] < f.shape[i]:
            return True
        for k in range(f.operands):
            f.pointers[k] -= f.strides[k, i] * f.shape[i]
        f.index[i] = 0
        i -= 1
    return False


@njit
def copy_block(target, target_step, source, source_step, rows, columns, size):
    """out[i, j] = x[j, i]: a block whose source has its rows next to each other; steps are bytes between rows."""
    i = 0
    whole = columns - columns % SIDE
    if size >= 4:
        while i + SIDE <= rows:
            for j in range(0, whole, SIDE):
                if size == 4:
                    block4(target + i * target_step + 4 * j, target_step, source + j * source_step + 4 * i, source_step)
                else:
                    block8(target + i * target_step + 8 * j, target_step, source + j * source_step + 8 * i, source_step)
            if whole < columns:
                for k in range(i, i + SIDE):
                    copy_run(
                        target + k * target_step + size * whole,
                        size,
                        source + whole * source_step + size * k,
                        source_step,
                        columns - whole,
                        size,
                    )
            i += SIDE
    while i < rows:
        copy_run(target + i * target_step, size, source + size * i, source_step, columns, size)
        i += 1


TILE = 64  # columns that are transposed at a time: the source's cache lines stay until their last element is read


@native
def copy_frame(frame):
    """out[...] = x for the two operands of a coalesced frame, of one dtype."""
    f = frame_at(frame)
    inner = f.ndim - 1
    item = f.itemsizes[0]
    for i in range(inner):
        f.index[i] = 0
    n, step, source_step = f.shape[inner], f.strides[0, inner], f.strides[1, inner]
    if inner and step == item and source_step != item and f.strides[1, inner - 1] == item:
        rows, row_step = f.shape[inner - 1], f.strides[0, inner - 1]
        while True:
            for start in range(0, n, TILE):
                copy_block(
                    f.pointers[0] + start * item,
                    row_step,
                    f.pointers[1] + start * source_step,
                    source_step,
                    rows,
                    min(TILE, n - start),
                    item,
                )
            if not advance(f, inner - 1):
                return 0
    while True:
        copy_run(f.pointers[0], step, f.pointers[1], source_step, n, item)
        if not advance(f, inner):
            return 0
