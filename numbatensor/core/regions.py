"""Where a storage was written: whether a write has touched what was saved before it.

A region is a lowest address and dimensions of positive steps in bytes, the first of them the bytes of an element. While something
of a storage is saved, each write is noted in the storage's log, with its region, op and line; a storage of which nothing is saved
keeps no log, and pays one comparison a write. The number of living saves stands above the owners in the storage's reference count,
so that saving costs nothing either.

A region's words: lowest address, address after the last byte, number of dimensions, then size and step of each, steps ascending.
An entry of the log: the version that the write made, op row, code object, instruction, region, and the entry's length in words, last,
so that it can be read from the newest entry back.
"""

import numpy as np
from numba import njit

from numbatensor.core.compiler import external, native
from numbatensor.core.memory import atomic_add, call_destructor, exchange, free, load, malloc, memcpy, store, take
from numbatensor.core.records import RANK, Storage, at, on_stack, saved_at, storage_at, tensor_at, words

SAVE = (1 << 32) + 1  # of a reference count: one owner that is a save
FIRST, MOST = 64, 1 << 18  # words of a log at first, and at most (2 MiB: 26,000 writes of contiguous memory)
LOG_LOCK = Storage.fields["log_lock"][1]
STEPS = 512  # pairs of parts that a comparison looks at before it takes two regions for overlapping

# A log: all writes that made a version above `since`, up to `last`, are in it. `used` of its `room` words are taken.
Log = np.dtype(words("room", "used", "since", "last"))
LOG = Log.itemsize
log_at = at(Log)
Region = np.dtype([("words", "i8", 3 + 2 * (RANK + 1))])
new_region = on_stack(Region)

# Two regions over common steps, outermost last; and the pairs of parts that are still to be compared.
LEVELS = 2 * (RANK + 1)
Comparison = np.dtype(
    [(name, "i8", LEVELS) for name in ("steps", "x_sizes", "y_sizes", "y_digits")] + [("parts", "i8", (9 * LEVELS, 5))]
)
comparison_at, new_comparison = at(Comparison), on_stack(Comparison)
# The parts of an interval of digits: for each, first and last carry, first and last digit.
Pieces = np.dtype([("pieces", "i8", (3, 4))])
pieces_at, new_pieces = at(Pieces), on_stack(Pieces)
realloc = external("realloc", 2)


# saves


@njit
def hold_saved(storage):
    """One more save of a storage."""
    atomic_add(storage, SAVE)


@njit
def release_saved_storage(storage):
    """One save of a storage less; the log ends with the last."""
    s = storage_at(storage)
    if s.log and s.refcount >> 32 == 1:
        take(storage + LOG_LOCK)
        if s.log:
            log_at(s.log).last = -1
        exchange(storage + LOG_LOCK, 0)
    if atomic_add(storage, -SAVE) == SAVE:
        call_destructor(storage)


# regions


@njit
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@njit
def describe(region, x):
    """Write down where the elements of a tensor, or of a saved value, are; gives the number of words."""
    low = x.data
    if x.numel == 0:
        store(region, 0)
        store(region + 8, 0)
        store(region + 16, 0)
        return 3
    dims = region + 24
    if x.contiguous:
        store(region, low)
        store(region + 8, low + x.numel * x.itemsize)
        store(region + 16, 1)
        store(dims, x.numel * x.itemsize)
        store(dims + 8, 1)
        return 5
    high, count = low + x.itemsize, 1
    store(dims, x.itemsize)
    store(dims + 8, 1)
    for i in range(x.ndim):
        n, step = x.shape[i], x.strides[i]
        if n == 1 or step == 0:
            continue
        if step < 0:
            step = -step
            low -= (n - 1) * step
        else:
            high += (n - 1) * step
        k = count
        while k > 1 and load(dims + 16 * (k - 1) + 8) > step:
            store(dims + 16 * k, load(dims + 16 * (k - 1)))
            store(dims + 16 * k + 8, load(dims + 16 * (k - 1) + 8))
            k -= 1
        store(dims + 16 * k, n)
        store(dims + 16 * k + 8, step)
        count += 1
    last = 0
    for k in range(1, count):
        n, step = load(dims + 16 * k), load(dims + 16 * k + 8)
        size, inner = load(dims + 16 * last), load(dims + 16 * last + 8)
        if step == inner:
            store(dims + 16 * last, size + n - 1)
        elif step == inner * size:
            store(dims + 16 * last, size * n)
        else:
            last += 1
            store(dims + 16 * last, n)
            store(dims + 16 * last + 8, step)
    store(region, low)
    store(region + 8, high)
    store(region + 16, last + 1)
    return 3 + 2 * (last + 1)


@njit
def lattices_miss(x, y):
    """Whether the elements of two regions lie on lattices that miss each other."""
    step = 0
    for k in range(1, load(x + 16)):
        step = gcd(step, load(x + 24 + 16 * k + 8))
    for k in range(1, load(y + 16)):
        step = gcd(step, load(y + 24 + 16 * k + 8))
    if step == 0:
        return False
    apart = (load(y) - load(x)) % step
    return apart >= load(x + 24) and step - apart >= load(y + 24)


@njit
def common_steps(c, x, y):
    """Bring two regions over the steps of both; how many there are, or 0 where one does not divide the next."""
    i = j = count = 0
    while i < load(x + 16) or j < load(y + 16):
        x_step = load(x + 24 + 16 * i + 8) if i < load(x + 16) else 1 << 62
        y_step = load(y + 24 + 16 * j + 8) if j < load(y + 16) else 1 << 62
        step = min(x_step, y_step)
        if count and step % c.steps[count - 1]:
            return 0
        c.steps[count], c.x_sizes[count], c.y_sizes[count] = step, 1, 1
        if x_step == step:
            c.x_sizes[count] = load(x + 24 + 16 * i)
            i += 1
        if y_step == step:
            c.y_sizes[count] = load(y + 24 + 16 * j)
            j += 1
        count += 1
    return count


@njit
def cut(pieces, low, high, radix):
    """Cut an interval into a first part, whole laps of the radix and a last part, as far as it has them; how many."""
    p = pieces_at(pieces)
    first, last = low // radix, high // radix
    if first == last:
        p.pieces[0, 0], p.pieces[0, 1], p.pieces[0, 2], p.pieces[0, 3] = first, first, low % radix, high % radix
        return 1
    count = 0
    if low % radix:
        p.pieces[0, 0], p.pieces[0, 1], p.pieces[0, 2], p.pieces[0, 3] = first, first, low % radix, radix - 1
        count, first = 1, first + 1
    if high % radix < radix - 1:
        p.pieces[count, 0], p.pieces[count, 1], p.pieces[count, 2], p.pieces[count, 3] = last, last, 0, high % radix
        count, last = count + 1, last - 1
    if first <= last:
        p.pieces[count, 0], p.pieces[count, 1], p.pieces[count, 2], p.pieces[count, 3] = first, last, 0, radix - 1
        count += 1
    return count


@native
def meet(x, y):
    """Whether two regions have a byte in common. Where each of their steps divides the next this is exact; elsewhere only 0 is sure.

    A byte's distance from the start of x is a number whose digits, in the mixed base of the steps, run through an interval for each
    dimension. An interval that is longer than its radix carries: it is cut into laps, and each goes on with its carry.
    """
    if load(x + 8) <= load(y) or load(y + 8) <= load(x):
        return 0
    if load(x + 16) == 1 and load(y + 16) == 1:
        return 1
    if load(y) < load(x):
        x, y = y, x
    comparison = new_comparison()
    c = comparison_at(comparison)
    count = common_steps(c, x, y)
    if count == 0:
        return 0 if lattices_miss(x, y) else 1
    left = load(y) - load(x)
    for k in range(count - 1, -1, -1):
        c.y_digits[k] = left // c.steps[k]
        left %= c.steps[k]
    x_pieces, y_pieces = new_pieces(), new_pieces()
    p, q = pieces_at(x_pieces), pieces_at(y_pieces)
    for k in range(5):
        c.parts[0, k] = 0
    waiting, looked = 1, 0
    while waiting:
        waiting -= 1
        looked += 1
        if looked > STEPS:
            return 1
        k = c.parts[waiting, 0]
        x_low, x_high = c.parts[waiting, 1], c.parts[waiting, 2] + c.x_sizes[k] - 1
        y_low = c.y_digits[k] + c.parts[waiting, 3]
        y_high = c.y_digits[k] + c.parts[waiting, 4] + c.y_sizes[k] - 1
        if k == count - 1:
            if x_low <= y_high and y_low <= x_high:
                return 1
            continue
        radix = c.steps[k + 1] // c.steps[k]
        x_count, y_count = cut(x_pieces, x_low, x_high, radix), cut(y_pieces, y_low, y_high, radix)
        for i in range(x_count):
            for j in range(y_count):
                if p.pieces[i, 2] <= q.pieces[j, 3] and q.pieces[j, 2] <= p.pieces[i, 3]:
                    c.parts[waiting, 0] = k + 1
                    c.parts[waiting, 1], c.parts[waiting, 2] = p.pieces[i, 0], p.pieces[i, 1]
                    c.parts[waiting, 3], c.parts[waiting, 4] = q.pieces[j, 0], q.pieces[j, 1]
                    waiting += 1
    return 0


# the log


@njit
def shorten(log):
    """Drop the older half of a log."""
    g = log_at(log)
    start, oldest = g.used, g.last
    while True:
        length = load(log + LOG + 8 * (start - 1))
        if g.used - start + length > g.room // 2:
            break
        start -= length
        oldest = load(log + LOG + 8 * start)
    memcpy(log + LOG, log + LOG + 8 * start, 8 * (g.used - start))
    g.used, g.since = g.used - start, oldest - 1


@native
def note_write(out, geometry_only):
    """Put the write that a storage has just counted into its log."""
    x = tensor_at(out)
    storage = x.storage
    s, region = storage_at(storage), new_region()
    count = 0
    if geometry_only:
        store(region, 0)
        store(region + 8, 0)
        store(region + 16, 0)
        count = 3
    else:
        count = describe(region, x)
    length = count + 5
    take(storage + LOG_LOCK)
    if s.log and log_at(s.log).last != s.version - 1:  # nothing was saved in between
        free(s.log)
        s.log = 0
    if s.log == 0:
        s.log = malloc(LOG + 8 * FIRST)
        if s.log:
            g = log_at(s.log)
            g.room, g.used, g.since = FIRST, 0, s.version - 1
    elif log_at(s.log).used + length > log_at(s.log).room:
        if log_at(s.log).room < MOST:
            larger = realloc(s.log, LOG + 16 * log_at(s.log).room)
            if larger == 0:
                free(s.log)
            else:
                log_at(larger).room *= 2
            s.log = larger
        else:
            shorten(s.log)
    if s.log:
        g = log_at(s.log)
        entry = s.log + LOG + 8 * g.used
        store(entry, s.version)
        store(entry + 8, s.writer)
        store(entry + 16, s.code)
        store(entry + 24, s.at)
        memcpy(entry + 32, region, 8 * count)
        store(entry + 8 * (length - 1), length)
        g.used += length
        g.last = s.version
    exchange(storage + LOG_LOCK, 0)
    return 0


@native
def overwritten(saved, found):
    """Look for a write since a value was saved: 1 one touched it, 2 there may be one, as the log does not reach back, 0 there is none.

    Where there is one, its version, op row, code object and instruction are put into the words from `found` on.
    """
    v = saved_at(saved)
    s, region = storage_at(v.storage), new_region()
    describe(region, v)
    take(v.storage + LOG_LOCK)
    result = 2
    if s.log and log_at(s.log).last == s.version:
        log = s.log
        g = log_at(log)
        end, result = g.used, 0
        while end:
            end -= load(log + LOG + 8 * (end - 1))
            entry = log + LOG + 8 * end
            if load(entry) <= v.version:
                break
            if meet(region, entry + 32):
                memcpy(found, entry, 32)
                result = 1
                break
        if result == 0 and v.version < g.since:
            result = 2
    exchange(v.storage + LOG_LOCK, 0)
    if result != 1:
        store(found, s.version)
        store(found + 8, s.writer)
        store(found + 16, s.code)
        store(found + 24, s.at)
    return result
