"""The skeletons of reductions: ``finish(combine over i of term(x[i]))``, many elements into one, or each row into the next.

Terms are combined in blocks, in one type (float32 for sums of float32: at most 8 additions in a row in each lane), and the blocks
in a wider one. A centred reduction has terms of two values: the element, and a centre that belongs to the result.
"""

import numpy as np
from numba import types
from numba.extending import register_jitable

from kernels_cpu.pointers import array_of, itemsize, wide, word_at

BLOCK = 512  # elements that one partial result combines
TOGETHER = 4  # rows that one walk over the columns combines: a load and a store of the accumulators for four elements


def constant(kind, value):
    """A constant of a numba type, for a kernel to close over."""
    return bool(value) if kind == types.boolean else np.dtype(str(kind)).type(value)


def rows(term, combine, identity, kinds, centred):
    """``acc[r] = combine over i of term(x[r, i])`` for rows that are `step` bytes apart. Operands: acc, x, step, centre.

    `kinds`: the numba types of the accumulator, of a block's partial result, and of the elements.
    """
    accumulator, partial, kind = kinds
    f, g = register_jitable(combine), register_jitable(term)
    zero, start, width = constant(accumulator, identity), constant(partial, identity), itemsize(accumulator)
    acc_at, acc_get, acc_put = array_of(accumulator)
    x_at, x_get, _ = array_of(kind)

    @register_jitable
    def block(x, low, high):
        part = start
        for i in range(low, high):
            part = partial(f(part, partial(g(x_get(x, i)))))
        return part

    @register_jitable
    def centred_block(x, low, high, centre):
        part = start
        for i in range(low, high):
            part = partial(f(part, partial(g(x_get(x, i), centre))))
        return part

    def kernel(addresses, count, n):
        wide()
        out, source, step = acc_at(word_at(addresses, 0)), word_at(addresses, 1), word_at(addresses, 2)
        for r in range(count):
            x, total = x_at(source + r * step), zero
            for low in range(0, n, BLOCK):
                total = accumulator(f(total, accumulator(block(x, low, min(n, low + BLOCK)))))
            acc_put(out, r, total)
        return 0

    def centred_kernel(addresses, count, n):
        wide()
        out, source, step = acc_at(word_at(addresses, 0)), word_at(addresses, 1), word_at(addresses, 2)
        centres = word_at(addresses, 3)
        for r in range(count):
            x, total = x_at(source + r * step), zero
            centre = partial(acc_get(acc_at(centres + r * width), 0))
            for low in range(0, n, BLOCK):
                total = accumulator(f(total, accumulator(centred_block(x, low, min(n, low + BLOCK), centre))))
            acc_put(out, r, total)
        return 0

    return centred_kernel if centred else kernel


def columns(term, combine, identity, kinds, centred):
    """``part[i] = combine over r of term(x[r, i])`` for rows that are `step` bytes apart. Operands: part, x, step, centre."""
    accumulator, partial, kind = kinds
    f, g = register_jitable(combine), register_jitable(term)
    start = constant(partial, identity)
    at, get, put = array_of(partial)
    x_at, x_get, _ = array_of(kind)
    centre_at, centre_get, _ = array_of(accumulator)

    def kernel(addresses, count, n):
        wide()
        part, source, step = at(word_at(addresses, 0)), word_at(addresses, 1), word_at(addresses, 2)
        for i in range(n):
            put(part, i, start)
        whole = count - count % TOGETHER
        for r in range(0, whole, TOGETHER):
            a, b = x_at(source + r * step), x_at(source + (r + 1) * step)
            c, d = x_at(source + (r + 2) * step), x_at(source + (r + 3) * step)
            for i in range(n):
                first = partial(f(partial(g(x_get(a, i))), partial(g(x_get(b, i)))))
                second = partial(f(partial(g(x_get(c, i))), partial(g(x_get(d, i)))))
                put(part, i, partial(f(get(part, i), partial(f(first, second)))))
        for r in range(whole, count):
            a = x_at(source + r * step)
            for i in range(n):
                put(part, i, partial(f(get(part, i), partial(g(x_get(a, i))))))
        return 0

    def centred_kernel(addresses, count, n):
        wide()
        part, source, step = at(word_at(addresses, 0)), word_at(addresses, 1), word_at(addresses, 2)
        centre = centre_at(word_at(addresses, 3))
        for i in range(n):
            put(part, i, start)
        for r in range(count):
            x = x_at(source + r * step)
            for i in range(n):
                put(part, i, partial(f(get(part, i), partial(g(x_get(x, i), partial(centre_get(centre, i)))))))
        return 0

    return centred_kernel if centred else kernel


def merge(combine, identity, accumulator):
    """``acc[0] = combine over i of x[i]``, both of the accumulator's type."""
    f, zero = register_jitable(combine), constant(accumulator, identity)
    at, get, put = array_of(accumulator)

    def kernel(addresses, n):
        x, total = at(word_at(addresses, 1)), zero
        for i in range(n):
            total = accumulator(f(total, get(x, i)))
        put(at(word_at(addresses, 0)), 0, total)
        return 0

    return kernel


def fold(combine, accumulator, partial):
    """``acc[i] = combine(acc[i], part[i])``"""
    f = register_jitable(combine)
    at, get, put = array_of(accumulator)
    part_at, part_get, _ = array_of(partial)

    def kernel(addresses, n):
        wide()
        acc, part = at(word_at(addresses, 0)), part_at(word_at(addresses, 1))
        for i in range(n):
            put(acc, i, accumulator(f(get(acc, i), accumulator(part_get(part, i)))))
        return 0

    return kernel


def fill(value, kind):
    """``out[i] = value``"""
    at, _, put = array_of(kind)
    value = constant(kind, value)

    def kernel(addresses, n):
        out = at(word_at(addresses, 0))
        for i in range(n):
            put(out, i, value)
        return 0

    return kernel


def finish(function, accumulator, result):
    """``out[i] = function(acc[i], parameters[0], parameters[1])``; the parameters are float64."""
    f = register_jitable(function)
    at, get, _ = array_of(accumulator)
    out_at, _, out_put = array_of(result)
    parameters_at, parameter, _ = array_of(types.float64)

    def kernel(addresses, n):
        wide()
        out, acc = out_at(word_at(addresses, 0)), at(word_at(addresses, 1))
        parameters = parameters_at(word_at(addresses, 2))
        first, second = parameter(parameters, 0), parameter(parameters, 1)
        for i in range(n):
            out_put(out, i, result(f(get(acc, i), first, second)))
        return 0

    return kernel
