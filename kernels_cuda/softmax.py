"""Exponentials along rows and their sums: softmax, its logarithm and logsumexp.

A row of up to 1024 elements is in the registers of a warp (which has several rows of up to 64), one of up to 8192 in those of a block: it is read
once, and written once.
Longer rows get a larger block, which reads them twice: once for the maximum and the sum, which is scaled down when the maximum grows (Milakov and
Gimelshein, 2018), once for the result. Arguments: ``out, x, rows, n``; rows lie one after the other.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, int64, types, uint32

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import device, exp, larger, log
from kernels_cuda.pointers import itemsize, moved, put, vectors
from kernels_cuda.row import (
    BY_BLOCK,
    add,
    constant,
    each,
    for_groups,
    group_of,
    joined,
    of_block,
    over_group,
    registers,
    shape_of,
)


class Formula(NamedTuple):
    """What is made of a row's exponentials ``e = exp(x - top)``.

    `fold` takes their sum, `element` makes an element of the result of e, x, top and what `fold` gave. `one`: the result has one
    element a row, and `top` is 0 where the maximum is infinite, which would be subtracted from itself.
    """

    fold: Any
    element: Any
    one: bool


def softmax(kind):
    """``out[i, j] = exp(x[i, j] - top[i]) / sum(exp(x[i] - top[i]))`` with ``top[i] = max(x[i])``"""
    one = constant(1, kind)
    return Formula(lambda total: one / total, lambda e, x, top, scale: e * scale, False)


def log_softmax(kind):
    """``out[i, j] = x[i, j] - top[i] - log(sum(exp(x[i] - top[i])))`` with ``top[i] = max(x[i])``"""
    return Formula(lambda total: log(total), lambda e, x, top, log: (x - top) - log, False)


def logsumexp(kind):
    """``out[i] = top[i] + log(sum(exp(x[i] - top[i])))`` with ``top[i] = max(x[i])``, or 0 where that is infinite"""
    return Formula(lambda total: log(total), lambda e, x, top, log: top + log, True)


@device
def exponential(x, top):
    return exp(x - top)


def parts(kind, formula):
    """Functions: `fold`, `element`, a maximum without infinities that `one` would subtract, and one without the empty row's."""
    formula = formula(kind)
    one, zero, least, most = formula.one, constant(0, kind), constant(-np.inf, kind), constant(np.inf, kind)

    @device
    def known(top):
        return zero if one and (top == least or top == most) else top

    @device
    def begun(top):
        return zero if top == least or (one and top == most) else top

    return device(formula.fold), device(formula.element), known, begun, one


def rows(stored, form, what, formula):
    """The kernel for rows in registers."""
    kind, (size, count) = computed(stored), shape_of(stored, form)
    fold, element, known, _, one = parts(kind, formula)
    load, store, _ = registers(stored, size, count)
    apply, where, item = each(kind, size * count), group_of(what, form, size * count), itemsize(stored)
    zero, least = constant(0, kind), constant(-np.inf, kind)
    highest, total = over_group(what, larger, kind, least, form), over_group(what, add, kind, zero, form)

    @cuda.jit
    def kernel(out, x, rows, n):
        row, place, threads = where(n)
        known_row = row < rows  # lanes of one warp can have several rows, and all take part
        here = int64(row if known_row else uint32(0)) * int64(n) * item
        values = load(moved(x, here), place, threads, n, least)
        top = known(highest(joined(larger, values), threads))
        e = apply(exponential, (values, top))
        made = fold(total(joined(add, e), threads))
        if known_row:
            if one:
                if place == 0:
                    put(out, row, element(e[0], values[0], top, made))
            else:
                store(moved(out, here), place, threads, n, apply(element, (e, values, top, made)))

    return kernel, (types.CPointer(stored),) * 2 + (types.uint32,) * 2


def passes(stored, form, formula):
    """The kernel for longer rows."""
    kind, (size, _) = computed(stored), shape_of(stored, form & 1)
    fold, element, known, begun, one = parts(kind, formula)
    load, store = vectors(size)
    apply, item = each(kind, size), itemsize(stored)
    zero, least = constant(0, kind), constant(-np.inf, kind)
    highest, total = over_group(BY_BLOCK, larger, kind, least), over_group(BY_BLOCK, add, kind, zero)

    @cuda.jit
    def kernel(out, x, rows, n):
        row, thread, threads = of_block(n)
        here = int64(row) * int64(n) * item
        source, target, step = moved(x, here), moved(out, here), uint32(threads * size)
        best, sum_of = least, zero
        i = uint32(thread * size)
        while i < n:
            values = load(source, i)
            top = larger(best, joined(larger, values))
            sum_of = sum_of * exp(best - begun(top)) + joined(add, apply(exponential, (values, begun(top))))
            best = top
            i = uint32(i + step)
        top = highest(best, threads)
        made = fold(total(sum_of * exp(best - begun(top)), threads))
        top = known(top)
        if one:
            if thread == 0:
                put(out, row, element(zero, zero, top, made))
        else:
            i = uint32(thread * size)
            while i < n:
                values = load(source, i)
                store(target, i, apply(element, (apply(exponential, (values, top)), values, top, made)))
                i = uint32(i + step)

    return kernel, (types.CPointer(stored),) * 2 + (types.uint32,) * 2


softmax_by_warp, softmax_by_block, softmax_by_passes = for_groups(rows, passes, softmax)
log_softmax_by_warp, log_softmax_by_block, log_softmax_by_passes = for_groups(rows, passes, log_softmax)
logsumexp_by_warp, logsumexp_by_block, logsumexp_by_passes = for_groups(rows, passes, logsumexp)
