"""The skeletons of reductions: many elements into one accumulator, or each into its own."""

import numpy as np
from numba.extending import register_jitable

from kernels_cpu.pointers import operands, wide


def rows(combine, identity, accumulator, kind):
    """``out[0] = combine(combine(identity, x[0]), x[1])...`` in an order that suits vectors."""
    f, start = (
        register_jitable(combine),
        np.dtype(str(accumulator)).type(identity) if str(accumulator) != "bool" else bool(identity),
    )
    pointers, get, put = operands([accumulator, kind])

    def kernel(addresses, n):
        wide()
        p = pointers(addresses)
        total = start
        for i in range(n):
            total = accumulator(f(total, accumulator(get(p, i)[0])))
        put(p, 0, total)
        return 0

    return kernel


def columns(combine, accumulator, kind):
    """``out[i] = combine(out[i], x[i])``."""
    f = register_jitable(combine)
    pointers, get, put = operands([accumulator, kind])

    def kernel(addresses, n):
        wide()
        p = pointers(addresses)
        for i in range(n):
            put(p, i, f(p[0][i], accumulator(get(p, i)[0])))
        return 0

    return kernel


def fill(value, kind):
    """``out[i] = value``."""
    pointers, _, put = operands([kind])

    def kernel(addresses, n):
        p = pointers(addresses)
        for i in range(n):
            put(p, i, value)
        return 0

    return kernel
