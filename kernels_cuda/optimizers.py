"""Steps of optimisers: what a gradient does to a parameter, in one pass over both and over what the optimiser remembers.

A thread moves four elements, a block apart, so that every access of a warp is to memory that lies together. Settings are numbers of the
parameters' type, in the order of `kernels_cpu/optimizers.py`, whose formulas these are.

Launch: ``blocks(n)`` of 256 threads. Each array is read once, and all but the gradient are written once.
"""

from numba import cuda, types, uint32

from kernels_cuda.mathematics import sqrt
from kernels_cuda.pointers import get, put

THREADS, EACH = 256, 4


def blocks(n):
    """How many blocks a launch needs."""
    return -(-n // (THREADS * EACH))


def stepping(kind, arrays, settings, step):
    """A kernel ``(arrays..., n, settings)`` that calls ``step(arrays, i, settings)`` for each element."""

    @cuda.jit
    def kernel(places, n, numbers):
        size = uint32(cuda.blockDim.x)
        first = uint32(uint32(cuda.blockIdx.x) * size * EACH + uint32(cuda.threadIdx.x))
        for k in range(EACH):
            i = uint32(first + uint32(k) * size)
            if i < n:
                step(places, i, numbers)

    return kernel, (types.UniTuple(types.CPointer(kind), arrays), types.uint32, types.UniTuple(kind, settings))


def directed(kind):
    """A function: the direction that a gradient gives, `decay` of the parameter added."""

    @cuda.jit(device=True)
    def direction(x, g, sign, decay):
        d = sign * g
        if decay != kind(0):  # without it an infinite parameter would become NaN
            d += decay * x
        return d

    return direction


def sgd(kind, form):
    """``p[i] -= rate * (sign * g[i] + decay * p[i])``"""
    direction = directed(kind)

    @cuda.jit(device=True)
    def step(places, i, numbers):
        p, g = places
        rate, sign, decay = numbers
        x = get(p, i)
        put(p, i, x - rate * direction(x, get(g, i), sign, decay))

    return stepping(kind, 2, 3, step)


def momentum(kind, form):
    """``d = sign * g[i] + decay * p[i]; b[i] = keep * b[i] + add * d; p[i] -= rate * (b[i], or d + look * b[i])``"""
    direction = directed(kind)

    @cuda.jit(device=True)
    def step(places, i, numbers):
        p, g, b = places
        rate, sign, decay, keep, add, look = numbers
        x = get(p, i)
        d = direction(x, get(g, i), sign, decay)
        moving = keep * get(b, i) + add * d
        put(b, i, moving)
        put(p, i, x - rate * (d + look * moving if look != kind(0) else moving))

    return stepping(kind, 3, 6, step)


def moments(kind, largest):
    """Adam's step, with or without `s`, the largest second moments so far."""
    direction = directed(kind)

    @cuda.jit(device=True)
    def step(places, i, numbers):
        p, g, m, v = places[:4]
        rate, sign, decay, shrink, first, second, square, scale, eps = numbers
        x = get(p, i)
        d = direction(x, get(g, i), sign, decay)
        if shrink != kind(1):
            x *= shrink
        mean = get(m, i)
        mean += first * (d - mean)
        put(m, i, mean)
        power = second * get(v, i) + square * d * d
        put(v, i, power)
        if largest:
            s = places[-1]
            before = get(s, i)
            power = power if power > before or power != power else before
            put(s, i, power)
        put(p, i, x - rate * mean / (sqrt(power) * scale + eps))

    return stepping(kind, 5 if largest else 4, 9, step)


def adam(kind, form):
    """``m[i] += first * (d - m[i]); v[i] = second * v[i] + square * d * d; p[i] -= rate * m[i] / (sqrt(v[i]) * scale + eps)``"""
    return moments(kind, False)


def amsgrad(kind, form):
    """`adam` with ``s[i] = maximum(s[i], v[i])`` in place of v[i] under the root."""
    return moments(kind, True)
