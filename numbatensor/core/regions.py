"""Regions: where the elements of a tensor are in memory, and whether two of them have a byte in common.

A region is a lowest address and dimensions of positive steps in bytes, the first of them the bytes of an element. Its words: lowest
address, address after the last byte, number of dimensions, then size and step of each, steps ascending.
"""

import numpy as np
from numba import njit

from numbatensor.core.compiler import native
from numbatensor.core.memory import load, store
from numbatensor.core.records import RANK, at, on_stack

LOOKS = 512  # pairs of parts that a comparison looks at before it takes two regions for overlapping

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
        if looked > LOOKS:
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
