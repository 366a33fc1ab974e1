"""The product of two matrices of any strides, on one thread: panels that fit in the caches, around tiles that fit in registers.

An element's terms are added in an order that does not depend on where it lies in the matrix. So a product can be cut into blocks
of rows, or of columns by multiples of 8, and gives the same bits.
"""

import numpy as np
from numba import from_dtype, types
from numba.extending import intrinsic, register_jitable

from kernels_cpu.pointwise import elementwise
from kernels_cpu.tiles import TALL, dots, tile, turn, weighted_rows
from kernels_cpu.vectors import lanes, mover, room

PANEL = 1 << 15  # bytes of a panel of y, which stays in first-level cache while rows of x pass
BLOCK = 1 << 20  # bytes of a block of x, which stays in second-level cache while panels of y pass
SQUARE = 1 << 21  # bytes of a block of the result, which stays in third-level cache until all terms are added
LOW, SHALLOW = 4, 8  # for so few rows of x, so many rows of y are read side by side: panels would be fetched too late

# One product: addresses, sizes, and steps in bytes. `old`: what the product is added to, or 0. `dots`: whether each element is the
# dot product of two contiguous vectors; else columns of out and old are contiguous. `packs`: whether panels of y are copied first;
# `block`: memory of BLOCK bytes where blocks of x are copied first, or 0.
names = "out old x y m n k out_row out_column old_row old_column x_row x_column y_row y_column dots packs block"
Plan = np.dtype([(name, "i8") for name in names.split()])


@intrinsic
def plan_at(typingctx, address):
    """The Plan at an address."""
    record = from_dtype(Plan)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(record))

    return record(types.int64), codegen


def product(kind):
    """A kernel ``(plan, unused)``: ``out[i, j] = old[i, j] + sum of x[i, p] * y[p, j]`` over p. `kind`: numba type of the elements."""
    item, count = np.dtype(str(kind)).itemsize, lanes(kind)
    width = 2 * count  # columns of a panel
    step = width * item
    deepest = PANEL // step
    highest = BLOCK // (deepest * item) // TALL * TALL
    broadest = SQUARE // (highest * item) // width * width
    panel = room(PANEL)
    move = mover(kind)
    turn_whole, turn_part = turn(kind, False), turn(kind, True)
    dots8, dots1 = dots(8, kind), dots(1, kind)
    rows8, rows1 = weighted_rows(8, kind), weighted_rows(1, kind)
    tall, four, two, one = [tile(rows, kind) for rows in (TALL, 4, 2, 1)]

    @register_jitable
    def strip(out, out_row, old, old_row, x, x_row, x_column, x_tile, y, y_row, m, n, depth):
        """All rows of one panel's columns."""
        for _ in range(m // TALL):
            tall(out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth)
            out, old, x = out + TALL * out_row, old + TALL * old_row, x + x_tile
        if m % TALL & 4:
            four(out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth)
            out, old, x = out + 4 * out_row, old + 4 * old_row, x + 4 * x_row
        if m % TALL & 2:
            two(out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth)
            out, old, x = out + 2 * out_row, old + 2 * old_row, x + 2 * x_row
        if m % TALL & 1:
            one(out, out_row, old, old_row, x, x_row, x_column, y, y_row, n, depth)

    @register_jitable
    def pack_panel(out, y, y_row, y_column, n, depth):
        """A panel of y: rows of `width` elements, one after the other."""
        if y_row == item:
            for j in range(0, n, count):
                for p in range(0, depth, count):
                    here, there = out + p * step + j * item, y + p * item + j * y_column
                    if j + count <= n and p + count <= depth:
                        turn_whole(here, step, there, y_column, count, count)
                    else:
                        turn_part(here, step, there, y_column, min(count, n - j), min(count, depth - p))
        elif y_column == item and n == width:
            for p in range(depth):
                for j in range(width):
                    move(out + p * step + j * item, y + p * y_row + j * item)
        else:
            for p in range(depth):
                for j in range(n):
                    move(out + p * step + j * item, y + p * y_row + j * y_column)

    @register_jitable
    def pack_block(out, x, x_row, x_column, m, depth):
        """A block of x: its rows, one after the other, where they are contiguous; else, for each tile, the tile's columns."""
        for i in range(0, m, TALL):
            here, there, rows = out + i * deepest * item, x + i * x_row, min(TALL, m - i)
            if x_column == item:
                for r in range(rows):
                    for p in range(depth):
                        move(here + (r * deepest + p) * item, there + r * x_row + p * item)
            elif rows == TALL and x_row == item:
                for p in range(depth):
                    for r in range(TALL):
                        move(here + (p * TALL + r) * item, there + r * item + p * x_column)
            else:
                for p in range(depth):
                    for r in range(rows):
                        move(here + (p * TALL + r) * item, there + r * x_row + p * x_column)

    def kernel(address, unused):
        a = plan_at(address)
        if a.dots:
            for i in range(a.m):
                out, old, x = a.out + i * a.out_row, a.old + i * a.old_row, a.x + i * a.x_row
                for j in range(a.n // 8):
                    there, here = out + 8 * j * a.out_column, old + 8 * j * a.old_column if a.old else 0
                    dots8(there, a.out_column, here, a.old_column, a.y + 8 * j * a.y_column, a.y_column, x, a.k)
                for j in range(a.n // 8 * 8, a.n):
                    there, here = out + j * a.out_column, old + j * a.old_column if a.old else 0
                    dots1(there, a.out_column, here, a.old_column, a.y + j * a.y_column, a.y_column, x, a.k)
            return 0
        if a.m == 1 and not a.packs:
            old, x, y = a.old, a.x, a.y
            for _ in range(a.k // 8):
                rows8(a.out, old, x, a.x_column, y, a.y_row, a.n)
                old, x, y = a.out, x + 8 * a.x_column, y + 8 * a.y_row
            for _ in range(a.k % 8):
                rows1(a.out, old, x, a.x_column, y, a.y_row, a.n)
                old, x, y = a.out, x + a.x_column, y + a.y_row
            return 0
        columns = panel()
        most = SHALLOW if a.m <= LOW and not a.packs else deepest
        for i in range(0, a.m, highest):
            for side in range(0, a.n, broadest):
                for p in range(0, a.k, most):
                    m, depth = min(highest, a.m - i), min(most, a.k - p)
                    x, x_row, x_column, x_tile = a.x + i * a.x_row + p * a.x_column, a.x_row, a.x_column, TALL * a.x_row
                    if a.block:
                        pack_block(a.block, x, x_row, x_column, m, depth)
                        x, x_tile = a.block, TALL * deepest * item
                        x_row, x_column = (deepest * item, item) if x_column == item else (item, TALL * item)
                    # later terms are added to what the earlier ones gave
                    old, old_row = (a.out, a.out_row) if p else (a.old, a.old_row if a.old else 0)
                    for j in range(side, min(side + broadest, a.n), width):
                        n, y, y_row = min(width, a.n - j), a.y + p * a.y_row + j * a.y_column, a.y_row
                        if a.packs:
                            pack_panel(columns, y, y_row, a.y_column, n, depth)
                            y, y_row = columns, step
                        out, start = a.out + i * a.out_row + j * item, old + i * old_row + j * item if old else 0
                        strip(out, a.out_row, start, old_row, x, x_row, x_column, x_tile, y, y_row, m, n, depth)
        return 0

    return kernel


def combination(kind):
    """``out[i] = beta * x[i] + alpha * y[i]``, without x where beta is 0."""

    def combined(x, y, beta, alpha):
        return beta * x + alpha * y if beta else alpha * y

    return elementwise(combined, [kind] * 5)
