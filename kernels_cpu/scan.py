"""Sums and products of the elements so far, for rows and for columns.

What is running is float64 for floats (as PyTorch's is): a thousand float32 additions in a row would lose three digits.
"""

from numba import types
from numba.extending import register_jitable

from kernels_cpu.pointers import wide
from kernels_cpu.row import WIDTH, constant, kernels, operand, stack


def sums(so_far, x):
    return so_far + x


def products(so_far, x):
    return so_far * x


def wider(kind):
    """The type of what is running: int64 for integers and bool."""
    return types.float64 if isinstance(kind, types.Float) else types.int64


def result(kind):
    """The type of the result."""
    return kind if isinstance(kind, types.Float) else types.int64


def rows(kind, combine, start):
    """``out[i, j] = combine(out[i, j - 1], x[i, j])``"""
    f, wide_kind, made = register_jitable(combine), wider(kind), result(kind)
    to, source, first = operand(made), operand(kind), constant(start, wide_kind)

    def kernel(addresses, rows, n):
        for i in range(rows):
            out, x, so_far = to(addresses, 0, i), source(addresses, 1, i), first
            for j in range(n):
                so_far = f(so_far, wide_kind(x[j]))
                out[j] = made(so_far)
        return 0

    return kernel


def columns(kind, combine, start):
    """``out[i, j] = combine(out[i - 1, j], x[i, j])``"""
    f, wide_kind, made = register_jitable(combine), wider(kind), result(kind)
    to, source, first, new = operand(made), operand(kind), constant(start, wide_kind), stack(wide_kind, WIDTH)

    def kernel(addresses, n, width):
        wide()
        so_far = new()
        for j in range(width):
            so_far[j] = first
        for i in range(n):
            out, x = to(addresses, 0, i), source(addresses, 1, i)
            for j in range(width):
                so_far[j] = f(so_far[j], wide_kind(x[j]))
                out[j] = made(so_far[j])
        return 0

    return kernel


CUMSUM, CUMPROD = kernels(rows, columns, sums, 0), kernels(rows, columns, products, 1)
