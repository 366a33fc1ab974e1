"""Indices in random order, or drawn with given weights. Draw number i takes half ``i % 2`` of Philox counter ``offset + i // 2``.

A kernel is ``kernel(addresses, n)`` for n draws. The addresses are those of the output, of the words ``seed, offset`` and the number
of categories, and of what it reads.
"""

import numpy as np
from llvmlite import ir
from numba import float64, int64, types, uint16, uint64
from numba.extending import intrinsic, register_jitable

from kernels_cpu.exponents import BIAS, small_float, split
from kernels_cpu.logarithms import LOG
from kernels_cpu.pointers import operands, wide
from kernels_cpu.random import BLOCK, block, draw, words_of
from kernels_cpu.sort import bits
from kernels_cpu.traced import fma, polynomial, traced

UNIT = np.float64(2.0**-53)
LARGEST = np.finfo(np.float64).max
DROPPED, ONE = np.uint64(11), np.uint64(1)
LN2 = 0.6931471805599453


# A permutation of many numbers begins with a random digit for each, which names its bucket (Rao, 1961; Sandelius, 1962). Numbers go to their
# buckets in order, and each bucket is shuffled (Fisher and Yates; Durstenfeld, 1964), in cache and on any thread. A number's digit has 16
# bits, 8 to a counter; the buckets' draws have counters behind those, bucket b's from ``start // 2 + b`` on. Fewer numbers are one bucket.
LEAF = 13  # bits of a bucket's mean size, at most: 64 KiB
MOST_BITS = 16  # of a digit
digits_of = words_of(uint16)


def permutation_digits(kind):
    """The digits of n numbers, and how many of each quarter each bucket gets: one after the other, a count would wait for the one before.

    Addresses: counts, (seed, counter, bits of 16 to drop), the digits.
    """
    pointers = operands([int64, uint64, uint16])[0]

    def kernel(addresses, n):
        wide()
        counts, parameters, digits = pointers(addresses)
        seed, counter, drop = parameters[0], parameters[1], uint16(parameters[2])
        words = block()
        pieces = digits_of(words)
        start = 0
        while start < n:
            m = min(4 * BLOCK, n - start)
            draw(words, seed, counter + uint64(start // 8), (m + 3) // 4)
            for i in range(m):
                digits[start + i] = pieces[i] >> drop
            start += m
        strand, buckets = n // 4, int64(1) << int64(uint64(MOST_BITS) - parameters[2])
        for i in range(strand):
            counts[digits[i]] += 1
            counts[buckets + digits[strand + i]] += 1
            counts[2 * buckets + digits[2 * strand + i]] += 1
            counts[3 * buckets + digits[3 * strand + i]] += 1
        for i in range(4 * strand, n):
            counts[3 * buckets + digits[i]] += 1
        return 0

    return kernel


def permutation_buckets(kind):
    """Put n successive numbers into their buckets. Addresses: out, where each quarter's next number of a bucket goes, (the first, bits), digits."""
    pointers = operands([int64, int64, int64, uint16])[0]

    def kernel(addresses, n):
        out, places, parameters, digits = pointers(addresses)
        first, strand, buckets = parameters[0], n // 4, int64(1) << parameters[1]
        for i in range(strand):
            for k in range(4):
                d = k * buckets + digits[k * strand + i]
                place = places[d]
                places[d] = place + 1
                out[place] = first + k * strand + i
        for i in range(4 * strand, n):
            d = 3 * buckets + digits[i]
            place = places[d]
            places[d] = place + 1
            out[place] = first + i
        return 0

    return kernel


@intrinsic
def high_product(typingctx, x, y):
    """The upper 64 of the 128 bits of a product, in one instruction, which does not vectorise."""

    def codegen(context, builder, signature, args):
        a, b = (builder.zext(arg, ir.IntType(128)) for arg in args)
        return builder.trunc(builder.lshr(builder.mul(a, b), ir.Constant(a.type, 64)), ir.IntType(64))

    return uint64(uint64, uint64), codegen


def permutation(kind):
    """Shuffle n numbers: ``out[i]`` changes places with one of ``out[i:]``. Each draw is off by less than ``n / 2**64``.

    Addresses: out, (seed, counter).
    """
    pointers = operands([int64, uint64])[0]

    def kernel(addresses, n):
        out, parameters = pointers(addresses)
        seed, counter = parameters[0], parameters[1]
        words = block()
        start = 0
        while start < n:
            m = min(BLOCK, n - start)
            draw(words, seed, counter + uint64(start // 2), m)
            for i in range(start, start + m):
                j = i + int64(high_product(words[i - start], uint64(n - i)))
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


def bits_as(kind):
    """An intrinsic: a float of the bits of an integer of its size."""

    @intrinsic
    def floated(typingctx, x):
        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(kind))

        return kind(types.Integer.from_bitwidth(kind.bitwidth)), codegen

    return floated


@register_jitable
def bits_of_count(n):
    """The least k for which n is at most ``2**k``."""
    k = 0
    while (n - 1) >> k:
        k += 1
    return k


def summing(kind):
    """A function: ``sums[j] = weights[0] + ... + weights[j]`` as integers, and the last.

    A weight is rounded down to a multiple of the largest's power of two times ``2**-62`` times the number of weights: so that sums are below
    ``2**63``, and the same in whatever order they are made.
    """
    integer, floated = types.Integer.from_bitwidth(kind.bitwidth), bits_as(kind)
    fraction, bias = (23, 127) if kind.bitwidth == 32 else (52, 1023)

    @register_jitable
    def running_sums(sums, weights, n):
        top = integer(0)
        for j in range(n):
            top = max(top, integer(bits(weights[j])))
        power = 62 - bits_of_count(n) + bias - 1 - max(int64(top) >> fraction, 1)
        half = power >> 1  # two factors, since one power of two may be too large
        first = floated(integer((half + bias) << fraction))
        second = floated(integer((power - half + bias) << fraction))
        total = int64(0)
        for j in range(n):
            total += int64(weights[j] * first * second)
            sums[j] = total
        return total

    return running_sums


def choices(kind):
    """``out[i] = j`` with a probability in proportion to ``weights[j]``: a random number is looked up among their running sums."""
    pointers, running_sums = operands([int64, uint64, kind, int64])[0], summing(kind)

    def kernel(addresses, n):
        out, parameters, weights, sums = pointers(addresses)
        seed, counter, categories = parameters[0], parameters[1], int64(parameters[2])
        total = uint64(running_sums(sums, weights, categories))
        words = block()
        start = 0
        while start < n:
            m = min(BLOCK, n - start)
            draw(words, seed, counter + uint64(start // 2), m)
            for i in range(m):
                x = int64(high_product(words[i], total))
                low, high = 0, categories - 1
                while low < high:
                    middle = (low + high) // 2
                    if sums[middle] > x:
                        high = middle
                    else:
                        low = middle + 1
                out[start + i] = low
            start += m
        return 0

    return kernel


@traced
def clock(x, weight):
    """``-log(x) / weight``, in operations that all devices round alike: any logarithm does whose order is right."""
    m, n = split(x)
    s = (m - 1.0) / (2.0 + (m - 1.0))
    z = s * s
    return -fma(small_float(n, BIAS[64]), LN2, s * fma(z, polynomial(z, LOG[64]), 2.0)) / weight


def race(kind):
    """``out[j]``: when a category's exponential clock rings, whose rate is its weight: the bits of a float64, in the order of int64.

    Those that ring first win, in order, as if drawn one by one with the weights of those that are left (Efraimidis and Spirakis, 2006).
    """
    pointers = operands([int64, uint64, kind])[0]

    def kernel(addresses, n):
        out, parameters, weights = pointers(addresses)
        seed, counter = parameters[0], parameters[1]
        words = block()
        start = 0
        while start < n:
            m = min(BLOCK, n - start)
            draw(words, seed, counter + uint64(start // 2), m)
            for j in range(m):
                x, w = float64(words[j] >> DROPPED | ONE) * UNIT, float64(weights[start + j])
                rings = clock(x, w if w > 0.0 else 1.0)
                out[start + j] = bits((rings if rings < LARGEST else LARGEST) if w > 0.0 else np.inf)
            start += m
        return 0

    return kernel
