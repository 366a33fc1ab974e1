"""The skeleton of every pointwise kernel: ``out[i] = function(x[i], y[i], ...)``."""

from numba.extending import register_jitable

from kernels_cpu.pointers import operands, wide


def elementwise(function, kinds, fixed=0):
    """A kernel ``(pointers, n)`` that applies a scalar function. `kinds`: numba types, the output's first.

    `fixed`: the number of an operand that is one value for all i, or 0.
    """
    f = register_jitable(function)
    pointers, get, put = operands(kinds, fixed)

    def kernel(addresses, n):
        wide()
        p = pointers(addresses)
        for i in range(n):
            put(p, i, f(*get(p, i)))
        return 0

    return kernel
