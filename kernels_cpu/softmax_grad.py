"""Gradients of softmax and of its logarithm, for rows and for columns, from the gradient and the result.

Row kernels want all rows of an operand one after the other.
"""

from typing import Any, NamedTuple

from numba import types
from numba.extending import register_jitable

from kernels_cpu import mathematics as math
from kernels_cpu.pointers import wide
from kernels_cpu.row import BLOCK, LEVEL, ROWS, WIDTH, constant, kernels, operand, stack, total

float64 = types.float64


class Formula(NamedTuple):
    """`term` of grad and out is summed along a row; `element` takes grad, out, the sum. `exp`: of exp(out)."""

    term: Any
    element: Any
    exp: bool


softmax_grad = Formula(lambda grad, out, nothing: grad * out, lambda grad, out, s: (grad - s) * out, False)
log_softmax_grad = Formula(lambda grad, out, nothing: grad, lambda grad, out, s: grad - out * s, True)


def rows(kind, formula):
    """``result[i, j] = element(grad[i, j], out[i, j], sum(term(grad[i], out[i])))``"""
    element, exp = register_jitable(formula.element), formula.exp
    row, add, zero = operand(kind), total(kind, formula.term), constant(0, kind)

    def kernel(addresses, rows, n):
        wide()
        per = max(1, min(ROWS, BLOCK // max(n, 1)))
        for first in range(0, rows, per):
            count = min(per, rows - first)
            if exp:
                # rows lie one after the other: their exponentials are one loop
                e, out = row(addresses, 0, first), row(addresses, 2, first)
                for j in range(count * n):
                    e[j] = math.exp(out[j])
            for i in range(first, first + count):
                result, grad, out = row(addresses, 0, i), row(addresses, 1, i), row(addresses, 2, i)
                s = kind(add(grad, out, zero, n))
                for j in range(n):
                    result[j] = element(grad[j], result[j] if exp else out[j], s)
        return 0

    return kernel


def columns(kind, formula):
    """``result[i, j] = element(grad[i, j], out[i, j], sum(term(grad[:, j], out[:, j])))``"""
    term, element, exp = register_jitable(formula.term), register_jitable(formula.element), formula.exp
    row, zero, new_sums, new_parts = operand(kind), constant(0, kind), stack(float64, WIDTH), stack(kind, WIDTH)

    def kernel(addresses, n, width):
        wide()
        sums, parts = new_sums(), new_parts()
        for j in range(width):
            sums[j] = 0.0
        for first in range(0, n, LEVEL):
            for j in range(width):
                parts[j] = zero
            for i in range(first, min(first + LEVEL, n)):
                grad, out = row(addresses, 1, i), row(addresses, 2, i)
                for j in range(width):
                    parts[j] += term(grad[j], out[j], zero)
            for j in range(width):
                sums[j] += parts[j]
        for j in range(width):
            parts[j] = kind(sums[j])
        for i in range(n):
            result, grad, out = row(addresses, 0, i), row(addresses, 1, i), row(addresses, 2, i)
            for j in range(width):
                result[j] = element(grad[j], math.exp(out[j]) if exp else out[j], parts[j])
        return 0

    return kernel


SOFTMAX_GRAD, LOG_SOFTMAX_GRAD = (kernels(rows, columns, formula) for formula in (softmax_grad, log_softmax_grad))
