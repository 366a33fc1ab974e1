"""Elements taken and put by index, and found by mask.

A kernel is ``kernel(addresses, n)``. The first of the addresses are of elements; what follows them are numbers, steps in bytes.
Kernels that only move elements are made for unsigned integers of their width, so one serves float32 and int32 alike. Offsets and
indices are int64, and were checked before.
"""

from numba import types
from numba.extending import register_jitable

from kernels_cpu.arrays import array
from kernels_cpu.pointers import wide, word_at

get_word, put_word = array(types.int64, 2, 3)
get_index, _ = array(types.int64, 0, 3)


@register_jitable
def offsets(room, index, n, size, step, first):
    """``room[i] = index[i] * step``, or that added; negative indices count from the end. Whether all are within `size`."""
    wrong = 0
    for i in range(n):
        k = get_index(index, i)
        wrong |= (k < -size) | (k >= size)
        k += size if k < 0 else 0
        put_word(room, i, k * step + (0 if first else get_word(room, i)))
    return wrong == 0


@register_jitable
def within(index, n, size):
    """Whether all indices lie in ``[-size, size)``."""
    wrong = 0
    for i in range(n):
        k = get_index(index, i)
        wrong |= (k < -size) | (k >= size)
    return wrong == 0


def take(kind):
    """``out[i, j] = x[offset[i], j]``"""
    (get, _), (_, put), width = array(kind, 0, 3), array(kind, 1, 3), kind.bitwidth // 8

    def kernel(addresses, n):
        x, out, offset, step = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        m, x_step, out_step = word_at(addresses, 4), word_at(addresses, 5), word_at(addresses, 6)
        if m == 1 and step == width:
            for i in range(n):
                put(out, i, get(x + get_word(offset, i), 0))
        elif x_step == width and out_step == width:
            for i in range(n):
                source, target = x + get_word(offset, i), out + i * step
                for j in range(m):
                    put(target, j, get(source, j))
        else:
            for i in range(n):
                source, target = x + get_word(offset, i), out + i * step
                for j in range(m):
                    put(target + j * out_step, 0, get(source + j * x_step, 0))
        return 0

    return kernel


def put(kind):
    """``out[offset[i], j] = x[i, j]``; of several writes to one place the last one stays."""
    (_, put), (get, put_one), width = array(kind, 0, 3), array(kind, 1, 3), kind.bitwidth // 8

    def kernel(addresses, n):
        out, x, offset, step = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        m, out_step, x_step = word_at(addresses, 4), word_at(addresses, 5), word_at(addresses, 6)
        if m == 1:  # declared to be one array: the processor's scatter, by vectors, took 2.4 times as long
            for i in range(n):
                put_one(out + get_word(offset, i), 0, get(x + i * step, 0))
        elif x_step == width and out_step == width:
            for i in range(n):
                target, source = out + get_word(offset, i), x + i * step
                for j in range(m):
                    put(target, j, get(source, j))
        else:
            for i in range(n):
                target, source = out + get_word(offset, i), x + i * step
                for j in range(m):
                    put(target + j * out_step, 0, get(source + j * x_step, 0))
        return 0

    return kernel


def turn(kind):
    """``out[j] = x[-j]``: a row read backwards, where x is its last element."""
    (get, _), (_, put) = array(kind, 0, 3), array(kind, 1, 3)

    def kernel(addresses, n):
        wide()
        out, x, m = word_at(addresses, 0), word_at(addresses, 1), word_at(addresses, 4)
        for j in range(m):
            put(out, j, get(x, -j))
        return 0

    return kernel


def sum_of(kind):
    """The type that elements are added in, and how: bools by `or`."""
    if kind == types.boolean:
        return types.uint8, register_jitable(lambda x, y: types.uint8(x | y))
    return kind, register_jitable(lambda x, y: kind(x + y))


def add_at(kind):
    """``out[offset[i], j] += x[i, j]``, in the order of i."""
    kind, add = sum_of(kind)
    (get_out, put), (get, _), width = array(kind, 0, 3), array(kind, 1, 3), kind.bitwidth // 8

    def kernel(addresses, n):
        wide()
        out, x, offset, step = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        m, out_step, x_step = word_at(addresses, 4), word_at(addresses, 5), word_at(addresses, 6)
        if m == 1:
            for i in range(n):
                place = out + get_word(offset, i)
                put(place, 0, add(get_out(place, 0), get(x + i * step, 0)))
        elif x_step == width and out_step == width:
            for i in range(n):
                target, source = out + get_word(offset, i), x + i * step
                for j in range(m):
                    put(target, j, add(get_out(target, j), get(source, j)))
        else:
            for i in range(n):
                target, source = out + get_word(offset, i), x + i * step
                for j in range(m):
                    place = target + j * out_step
                    put(place, 0, add(get_out(place, 0), get(source + j * x_step, 0)))
        return 0

    return kernel


def along(kind, visit):
    """A loop over indices of one dimension: ``visit(x, place in it, other, place in it)``.

    Vectors, by the processor's gather and scatter, were 1.5 to 2.5 times slower than this loop; so both arrays are declared to be
    one, which keeps LLVM from making any.
    """
    visit, width = register_jitable(visit), kind.bitwidth // 8

    def kernel(addresses, n):
        x, other, index, step = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        size, x_step, other_step, index_step = (
            word_at(addresses, 4),
            word_at(addresses, 5),
            word_at(addresses, 6),
            word_at(addresses, 7),
        )
        if x_step == 0 and other_step == width and index_step == 8:
            for i in range(n):
                k = get_word(index, i)
                visit(x + (k + size if k < 0 else k) * step, 0, other, i)
        else:
            for i in range(n):
                k = get_word(index + i * index_step, 0)
                k += size if k < 0 else 0
                visit(x + i * x_step + k * step, 0, other + i * other_step, 0)
        return 0

    return kernel


def gather(kind):
    """``out[i, j] = x[index[i, j], j]``"""
    (get, _), (_, put) = array(kind, 0, 3), array(kind, 0, 3)
    return along(kind, lambda x, k, out, i: put(out, i, get(x, k)))


def scatter(kind):
    """``out[index[i, j], j] = x[i, j]``; of several writes to one place the last one stays."""
    (_, put), (get, _) = array(kind, 0, 3), array(kind, 0, 3)
    return along(kind, lambda out, k, x, i: put(out, k, get(x, i)))


def scatter_add(kind):
    """``out[index[i, j], j] += x[i, j]``, in the order of i."""
    kind, add = sum_of(kind)
    (get_out, put), (get, _) = array(kind, 0, 3), array(kind, 0, 3)
    return along(kind, lambda out, k, x, i: put(out, k, add(get_out(out, k), get(x, i))))


def count(kind):
    """The number of elements that have a bit of `bits`: all but the sign for floats, since -0.0 is zero."""
    (get, _), width = array(kind, 0, 3), kind.bitwidth // 8

    def kernel(addresses, n):
        x, step, bits = word_at(addresses, 0), word_at(addresses, 1), kind(word_at(addresses, 2))
        found = 0
        if step == width:
            for i in range(n):
                found += 1 if get(x, i) & bits else 0
        else:
            for i in range(n):
                found += 1 if get(x + i * step, 0) & bits else 0
        return found

    return kernel


def places(kind):
    """``out[k] = (*outer, i)`` for the k-th element i of a row that has a bit of `bits`; at most `left`; gives their number."""
    (get, _), (_, put), (get_outer, _) = array(kind, 0, 3), array(types.int64, 1, 3), array(types.int64, 2, 3)

    def kernel(addresses, n):
        x, step, bits = word_at(addresses, 0), word_at(addresses, 1), kind(word_at(addresses, 2))
        out, left, outer, last = (
            word_at(addresses, 3),
            word_at(addresses, 4),
            word_at(addresses, 5),
            word_at(addresses, 6),
        )
        found = 0
        if last == 0:  # without a branch on the data, which is mispredicted half the time in a random mask
            for i in range(n):
                if found == left:
                    break
                put(out, found, i)
                found += 1 if get(x + i * step, 0) & bits else 0
            return found
        for i in range(n):
            if get(x + i * step, 0) & bits:
                for d in range(last):
                    put(out, d, get_outer(outer, d))
                put(out, last, i)
                out += 8 * (last + 1)
                found += 1
        return found

    return kernel


def compress(kind):
    """``out[k] = x[i]`` for the k-th i whose mask is true, at most `left`; gives their number."""
    (get_mask, _), (get, _), (_, put) = array(types.uint8, 0, 3), array(kind, 1, 3), array(kind, 2, 3)

    def kernel(addresses, n):
        mask, mask_step, x, x_step = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
        )
        out, left = word_at(addresses, 4), word_at(addresses, 5)
        found = 0
        for i in range(n):
            if found == left:
                break
            put(out, found, get(x + i * x_step, 0))
            found += 1 if get_mask(mask + i * mask_step, 0) else 0
        return found

    return kernel


def spread(kind):
    """``out[i] = x[k]`` for the k-th i whose mask is true; gives their number."""
    (get_mask, _), (_, put), (get, _) = array(types.uint8, 0, 3), array(kind, 1, 3), array(kind, 2, 3)

    def kernel(addresses, n):
        mask, mask_step, out, out_step, x = (
            word_at(addresses, 0),
            word_at(addresses, 1),
            word_at(addresses, 2),
            word_at(addresses, 3),
            word_at(addresses, 4),
        )
        found = 0
        for i in range(n):
            if get_mask(mask + i * mask_step, 0):
                put(out + i * out_step, 0, get(x, found))
                found += 1
        return found

    return kernel
