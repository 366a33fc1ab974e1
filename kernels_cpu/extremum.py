"""Where the largest or smallest element along a dimension is, the first of equals, NaN before all."""

from numba import types
from numba.extending import register_jitable

from kernels_cpu.pointers import wide
from kernels_cpu.row import BLOCK, WIDTH, kernels, larger, operand, plain, smaller, stack

int32, int64 = types.int32, types.int64


def rows(kind, better, pick):
    """``out[i] = min(j where x[i, j] == max(x[i]))``: the best block by block, then its place in that block."""
    better = register_jitable(better)
    source, to, none = operand(plain(kind)), operand(int64), int32(BLOCK)

    def kernel(addresses, rows, n):
        wide()
        for i in range(rows):
            x = source(addresses, 1, i)
            best, block, empty = x[0], 0, False
            for start in range(0, n, BLOCK):
                found = x[start]
                for j in range(start, min(start + BLOCK, n)):
                    found = pick(found, x[j])
                    empty |= x[j] != x[j]
                if empty:
                    block = start
                    break
                if better(found, best):
                    best, block = found, start
            place = none
            for j in range(min(BLOCK, n - block)):
                y = x[block + j]
                here = int32(j) if (y != y if empty else y == best) else none
                place = here if here < place else place
            to(addresses, 0, i)[0] = block + place
        return 0

    return kernel


def columns(kind, better, pick):
    """``out[j] = min(i where x[i, j] == max(x[:, j]))``, of less than 2**31 rows."""
    better = register_jitable(better)
    kind = plain(kind)
    source, to, new_best, new_place = operand(kind), operand(int64), stack(kind, WIDTH), stack(int32, WIDTH)

    def kernel(addresses, n, width):
        wide()
        best, place = new_best(), new_place()
        x = source(addresses, 1, 0)
        for j in range(width):
            best[j], place[j] = x[j], int32(0)
        for i in range(1, n):
            x = source(addresses, 1, i)
            for j in range(width):
                y, known = x[j], best[j]
                taken = better(y, known) | ((y != y) & (known == known))
                best[j] = y if taken else known
                place[j] = int32(i) if taken else place[j]
        out = to(addresses, 0, 0)
        for j in range(width):
            out[j] = place[j]
        return 0

    return kernel


ARGMAX = kernels(rows, columns, lambda x, y: x > y, larger)
ARGMIN = kernels(rows, columns, lambda x, y: x < y, smaller)
