"""Indices in random order, or drawn with given weights. Draw number i takes half ``i % 2`` of Philox counter ``offset + i // 2``.

A kernel is ``kernel(addresses, n)`` for n draws. The addresses are those of the output, of the words ``seed, offset`` and the number
of categories, and of what it reads.
"""

import numpy as np
from numba import float64, int64, uint64
from numba.extending import register_jitable

from kernels_cpu import mathematics
from kernels_cpu.pointers import operands, wide
from kernels_cpu.random import BLOCK, block, draw, multiply_high, positive

UNIT = np.float64(2.0**-53)
LARGEST = np.finfo(np.float64).max
number = positive(float64)


def permutation(kind):
    """The numbers below n, in random order (Fisher and Yates; Durstenfeld, 1964): ``out[i]`` changes places with one of ``out[i:]``.

    Of one thread: for a million int64, 4 times faster than to sort random keys. Each draw is off by less than ``n / 2**64``.
    """
    pointers = operands([kind, uint64])[0]

    def kernel(addresses, n):
        out, parameters = pointers(addresses)
        seed, counter = parameters[0], parameters[1]
        words = block()
        for i in range(n):
            out[i] = kind(i)
        start = 0
        while start < n:
            m = min(BLOCK, n - start)
            draw(words, seed, counter + uint64(start // 2), m)
            for i in range(start, start + m):
                j = i + int64(multiply_high(words[i - start], uint64(n - i)))
                out[i], out[j] = out[j], out[i]
            start += m
        return 0

    return kernel


def positives(kind):
    """How many of n weights are above 0; -1 if one is negative or not a number, -2 if one is infinite."""
    pointers, infinity = operands([kind])[0], np.dtype(str(kind)).type(np.inf)

    def kernel(addresses, n):
        wide()
        weights = pointers(addresses)[0]
        count = negative = endless = 0
        for j in range(n):
            w = weights[j]
            count += w > kind(0)
            negative += not w >= kind(0)
            endless += w == infinity
        return -1 if negative else -2 if endless else count

    return kernel


@register_jitable
def running_sums(sums, weights, n):
    """``sums[j] = weights[0] + ... + weights[j]``, and the last. Four at a time: an addition to a total waits for the one before."""
    total = 0.0
    for j in range(0, n - 3, 4):
        a = float64(weights[j])
        b = a + weights[j + 1]
        c = b + weights[j + 2]
        d = b + (weights[j + 2] + float64(weights[j + 3]))
        sums[j], sums[j + 1], sums[j + 2], sums[j + 3] = total + a, total + b, total + c, total + d
        total += d
    for j in range(n - n % 4, n):
        total += weights[j]
        sums[j] = total
    return total


def choices(kind):
    """``out[i] = j`` with a probability in proportion to ``weights[j]``: a random number is looked up among their running sums."""
    pointers = operands([int64, uint64, kind, float64])[0]

    def kernel(addresses, n):
        out, parameters, weights, sums = pointers(addresses)
        seed, counter, categories = parameters[0], parameters[1], int64(parameters[2])
        total = running_sums(sums, weights, categories)
        words = block()
        start = 0
        while start < n:
            m = min(BLOCK, n - start)
            draw(words, seed, counter + uint64(start // 2), m)
            for i in range(m):
                x = float64(words[i] >> 11) * UNIT * total
                low, high = 0, categories - 1
                while low < high:
                    middle = (low + high) // 2
                    if sums[middle] > x:
                        high = middle
                    else:
                        low = middle + 1
                while weights[low] == kind(0):  # only where rounding made x the total
                    low -= 1
                out[start + i] = low
            start += m
        return 0

    return kernel


@register_jitable
def sink(heap, keys, i, n):
    """Let element i of a heap, whose largest key is on top, down to its place."""
    index = heap[i]
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and keys[heap[child + 1]] > keys[heap[child]]:
            child += 1
        if keys[heap[child]] <= keys[index]:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = index


def race(kind):
    """n different categories, as if drawn one by one with the weights of those that are left.

    Each has an exponential clock whose rate is its weight, and those that ring first win, in order (Efraimidis and Spirakis, 2006).
    """
    pointers = operands([int64, uint64, kind, float64])[0]

    def kernel(addresses, n):
        out, parameters, weights, clocks = pointers(addresses)
        seed, counter, categories = parameters[0], parameters[1], int64(parameters[2])
        words = block()
        start = 0
        while start < categories:
            m = min(BLOCK, categories - start)
            draw(words, seed, counter + uint64(start // 2), m)
            for j in range(m):
                w = float64(weights[start + j])
                clocks[start + j] = min(-mathematics.log(number(words[j])) / w, LARGEST) if w else np.inf
            start += m
        for i in range(n):
            out[i] = i
        for i in range(n // 2 - 1, -1, -1):
            sink(out, clocks, i, n)
        for j in range(n, categories):
            if clocks[j] < clocks[out[0]]:
                out[0] = j
                sink(out, clocks, 0, n)
        for end in range(n - 1, 0, -1):
            out[0], out[end] = out[end], out[0]
            sink(out, clocks, 0, end)
        return 0

    return kernel
