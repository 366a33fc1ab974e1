"""Gradients of softmax and of its logarithm along rows, from the gradient and the result.

Rows in registers, as in :mod:`softmax`: each operand is read once; longer rows are read twice. Arguments: ``result, grad, out, rows, n``.
"""

from typing import Any, NamedTuple

from numba import cuda, int64, types, uint32

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import device, exp
from kernels_cuda.pointers import itemsize, moved, vectors
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
    """`term` of grad and out is summed along a row; `element` takes grad, out and the sum."""

    term: Any
    element: Any


softmax_grad = Formula(lambda grad, out: grad * out, lambda grad, out, s: (grad - s) * out)
log_softmax_grad = Formula(lambda grad, out: grad, lambda grad, out, s: grad - exp(out) * s)


def rows(stored, form, what, formula):
    """``result[i, j] = element(grad[i, j], out[i, j], sum(term(grad[i], out[i])))``"""
    kind, (size, count) = computed(stored), shape_of(stored, form)
    term, element = device(formula.term), device(formula.element)
    load, store, _ = registers(stored, size, count)
    apply, where = each(kind, size * count), group_of(what, form, size * count)
    item, zero = itemsize(stored), constant(0, kind)
    total = over_group(what, add, kind, zero, form)

    @cuda.jit
    def kernel(result, grad, out, rows, n):
        row, place, threads = where(n)
        known = row < rows  # lanes of one warp can have several rows, and all take part
        here = int64(row if known else uint32(0)) * int64(n) * item
        slopes = load(moved(grad, here), place, threads, n, zero)
        values = load(moved(out, here), place, threads, n, zero)
        s = total(joined(add, apply(term, (slopes, values))), threads)
        if known:
            store(moved(result, here), place, threads, n, apply(element, (slopes, values, s)))

    return kernel, (types.CPointer(stored),) * 3 + (types.uint32,) * 2


def passes(stored, form, formula):
    """The same for longer rows."""
    kind, (size, _) = computed(stored), shape_of(stored, form & 1)
    term, element = device(formula.term), device(formula.element)
    load, store = vectors(size)
    apply, item, zero = each(kind, size), itemsize(stored), constant(0, kind)
    total = over_group(BY_BLOCK, add, kind, zero)

    @cuda.jit
    def kernel(result, grad, out, rows, n):
        row, thread, threads = of_block(n)
        here, step = int64(row) * int64(n) * item, uint32(threads * size)
        target, slopes, values = moved(result, here), moved(grad, here), moved(out, here)
        s, i = zero, uint32(thread * size)
        while i < n:
            s = s + joined(add, apply(term, (load(slopes, i), load(values, i))))
            i = uint32(i + step)
        s, i = total(s, threads), uint32(thread * size)
        while i < n:
            store(target, i, apply(element, (load(slopes, i), load(values, i), s)))
            i = uint32(i + step)

    return kernel, (types.CPointer(stored),) * 3 + (types.uint32,) * 2


softmax_grad_by_warp, softmax_grad_by_block, softmax_grad_by_passes = for_groups(rows, passes, softmax_grad)
log_softmax_grad_by_warp, log_softmax_grad_by_block, log_softmax_grad_by_passes = for_groups(
    rows, passes, log_softmax_grad
)
