"""Exponentials along a dimension and their sums: softmax, its logarithm and logsumexp, for rows and for columns.

A row kernel takes a block of rows through each step together, so that the exponentials are one long loop however
short the rows: 64 rows of 10 take a third of the time that row after row takes, rows of 1000 a fifth more. A row with
a NaN becomes NaN by its sum, whatever its maximum was taken to be.
"""

from typing import Any, NamedTuple

from numba import types
from numba.extending import register_jitable

from kernels_cpu import mathematics as math
from kernels_cpu.pointers import wide
from kernels_cpu.row import BLOCK, LEVEL, ROWS, WIDTH, after, constant, inf, kernels, larger, operand, stack, total

float64 = types.float64


class Formula(NamedTuple):
    """What is made of a row's exponentials ``e = exp(x - top)``.

    `fold` takes their sum, `element` makes an element of the result of e, x, top and what `fold` gave. `keeps`: it
    needs e. `one`: the result has one element a row, and `top` is 0 where the maximum is infinite, which would be
    subtracted from itself.
    """

    fold: Any
    element: Any
    keeps: bool
    one: bool


def softmax(kind):
    """``out[i, j] = exp(x[i, j] - top[i]) / sum(exp(x[i] - top[i]))`` with ``top[i] = max(x[i])``"""
    one = constant(1, kind)
    return Formula(lambda total: one / total, lambda e, x, top, scale: e * scale, True, False)


def log_softmax(kind):
    """``out[i, j] = x[i, j] - top[i] - log(sum(exp(x[i] - top[i])))`` with ``top[i] = max(x[i])``"""
    return Formula(lambda total: math.log(total), lambda e, x, top, log: (x - top) - log, False, False)


def logsumexp(kind):
    """``out[i] = top[i] + log(sum(exp(x[i] - top[i])))`` with ``top[i] = max(x[i])``, or 0 where that is infinite"""
    return Formula(lambda total: math.log(total), lambda e, x, top, log: top + log, False, True)


def rows(kind, formula):
    """The row kernel of a formula."""
    formula = formula(kind)
    fold, element = register_jitable(formula.fold), register_jitable(formula.element)
    keeps, one = formula.keeps, formula.one
    row, zero, least, most = operand(kind), constant(0, kind), constant(-inf, kind), constant(inf, kind)
    add = total(kind, lambda e, unused, nothing: e)
    new_tops, new_sums, new_spare = stack(kind, ROWS), stack(float64, ROWS), stack(kind, BLOCK)

    def kernel(addresses, rows, n):
        wide()
        tops, sums, spare = new_tops(), new_sums(), new_spare()
        per = max(1, min(ROWS, BLOCK // max(n, 1)))
        for first in range(0, rows, per):
            count = min(per, rows - first)
            for i in range(count):
                x, top = row(addresses, 1, first + i), least
                for j in range(n):
                    top = larger(top, x[j])
                tops[i], sums[i] = zero if one and (top == least or top == most) else top, 0.0
            for low in range(0, n, BLOCK):
                m = min(BLOCK, n - low)
                e = after(row(addresses, 0, first), low) if keeps else spare
                for i in range(count):
                    x, shifted, top = after(row(addresses, 1, first + i), low), after(e, i * m), tops[i]
                    for j in range(m):
                        shifted[j] = x[j] - top
                for j in range(count * m):
                    e[j] = math.exp(e[j])
                for i in range(count):
                    part = after(e, i * m)
                    sums[i] += add(part, part, zero, m)
            for i in range(count):
                out, x = row(addresses, 0, first + i), row(addresses, 1, first + i)
                top, f = tops[i], fold(kind(sums[i]))
                for j in range(1 if one else n):
                    out[j] = element(out[j], x[j], top, f)
        return 0

    return kernel


def columns(kind, formula):
    """The column kernel of a formula. A sum takes LEVEL elements one after the other, then goes on in float64."""
    formula = formula(kind)
    fold, element = register_jitable(formula.fold), register_jitable(formula.element)
    keeps, one = formula.keeps, formula.one
    row, zero, least, most = operand(kind), constant(0, kind), constant(-inf, kind), constant(inf, kind)
    new_tops, new_sums, new_parts = stack(kind, WIDTH), stack(float64, WIDTH), stack(kind, WIDTH)

    def kernel(addresses, n, width):
        wide()
        tops, sums, parts = new_tops(), new_sums(), new_parts()
        for j in range(width):
            tops[j], sums[j] = least, 0.0
        for i in range(n):
            x = row(addresses, 1, i)
            for j in range(width):
                tops[j] = larger(tops[j], x[j])
        if one:
            for j in range(width):
                tops[j] = zero if tops[j] == least or tops[j] == most else tops[j]
        for first in range(0, n, LEVEL):
            for j in range(width):
                parts[j] = zero
            for i in range(first, min(first + LEVEL, n)):
                out, x = row(addresses, 0, i), row(addresses, 1, i)
                for j in range(width):
                    e = math.exp(x[j] - tops[j])
                    if keeps:
                        out[j] = e
                    parts[j] += e
            for j in range(width):
                sums[j] += parts[j]
        for j in range(width):
            parts[j] = fold(kind(sums[j]))
        for i in range(1 if one else n):
            out, x = row(addresses, 0, i), row(addresses, 1, i)
            for j in range(width):
                out[j] = element(out[j], x[j], tops[j], parts[j])
        return 0

    return kernel


SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = (kernels(rows, columns, formula) for formula in (softmax, log_softmax, logsumexp))
