"""Rows shifted and scaled to mean 0 and variance 1, and the gradients: of the row, and of the weight.

Mean and variance are two passes over a row that lies in cache, the second over distances to the mean: nothing cancels.
"""

from numba.extending import register_jitable

from kernels_cpu import mathematics as math
from kernels_cpu.pointers import wide
from kernels_cpu.row import BLOCK, NUMBERS, constant, operand, plus, real, total


def moments(kind):
    """A function: the mean of a row, and ``1 / sqrt(variance + eps)``."""
    one, zero = constant(1, kind), constant(0, kind)
    add = total(kind, lambda x, unused, nothing: x)
    squares = total(kind, lambda x, unused, mean: (x - mean) * (x - mean))

    @register_jitable
    def found(x, n, eps):
        mean = kind(add(x, x, zero, n) / n)
        return mean, one / math.sqrt(kind(squares(x, x, mean, n) / n + eps))

    return found


def layer_norm(kind):
    """``out[i, j] = (x[i, j] - mean[i]) * scale[i] * weight[j] + bias[j]``, ``scale = 1 / sqrt(variance + eps)``"""
    row, found = operand(kind), moments(kind)

    def kernel(addresses, rows, n):
        wide()
        weight, bias, eps = row(addresses, 2, 0), row(addresses, 3, 0), real(addresses + NUMBERS)
        for i in range(rows):
            out, x = row(addresses, 0, i), row(addresses, 1, i)
            mean, scale = found(x, n, eps)
            for j in range(n):
                out[j] = (x[j] - mean) * scale * weight[j] + bias[j]
        return 0

    return kernel


def layer_norm_grad(kind):
    """``out[i, j] = scale[i] * (g[i, j] - mean(g[i]) - y[i, j] * mean(g[i] * y[i]))``

    with ``g[i, j] = grad[i, j] * weight[j]`` and ``y[i, j] = (x[i, j] - mean[i]) * scale[i]``.
    """
    row, zero, one = operand(kind), constant(0, kind), constant(1, kind)
    add = total(kind, lambda x, unused, nothing: x)

    def kernel(addresses, rows, n):
        wide()
        weight, eps = row(addresses, 3, 0), real(addresses + NUMBERS)
        for i in range(rows):
            out, grad, x = row(addresses, 0, i), row(addresses, 1, i), row(addresses, 2, i)
            mean = kind(add(x, x, zero, n) / n)
            squares = gradients = products = 0.0
            for start in range(0, n, BLOCK):
                a = b = c = zero
                for j in range(start, min(start + BLOCK, n)):
                    g, far = grad[j] * weight[j], x[j] - mean
                    a, b, c = plus(a, far * far), plus(b, g), plus(c, g * far)
                squares, gradients, products = squares + a, gradients + b, products + c
            scale = one / math.sqrt(kind(squares / n + eps))
            shift, slope = kind(gradients / n), kind(products / n) * scale * scale
            for j in range(n):
                out[j] = scale * (grad[j] * weight[j] - shift - (x[j] - mean) * slope)
        return 0

    return kernel


def layer_norm_grad_weight(kind):
    """``out[j] = sum(grad[i, j] * (x[i, j] - mean[i]) * scale[i] for i)``, row after row: the caller brings few."""
    row, found, zero = operand(kind), moments(kind), constant(0, kind)

    def kernel(addresses, rows, n):
        wide()
        out, eps = row(addresses, 0, 0), real(addresses + NUMBERS)
        for j in range(n):
            out[j] = zero
        for i in range(rows):
            grad, x = row(addresses, 1, i), row(addresses, 2, i)
            mean, scale = found(x, n, eps)
            for j in range(n):
                out[j] += grad[j] * ((x[j] - mean) * scale)
        return 0

    return kernel


def add_rows(kind):
    """``out[j] = sum(x[i, j] for i)``, row after row."""
    row, zero = operand(kind), constant(0, kind)

    def kernel(addresses, rows, n):
        wide()
        out = row(addresses, 0, 0)
        for j in range(n):
            out[j] = zero
        for i in range(rows):
            x = row(addresses, 1, i)
            for j in range(n):
                out[j] += x[j]
        return 0

    return kernel
