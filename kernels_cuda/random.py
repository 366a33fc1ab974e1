"""Random numbers without a state, those of `kernels_cpu/random.py`: Philox4x32-10 makes of a seed and a counter four words of 32 bits.

A thread has one counter, and so four elements, or two where an element needs 64 bits. Integers and uniform numbers are those of the CPU; where a
logarithm, sine or cosine is taken, the last bits are libdevice's. Arguments: out (contiguous), p (probabilities, or null), n, the
place of the first element in the fill, seed, offset, a, b, c: the distribution's parameters, in the type that its formula wants.

Launch: ``n / 4`` threads, or ``n / 2``. Memory is written once; 10 rounds of 2 wide multiplications a counter.
"""

import numpy as np
from numba import cuda, float32, float64, int64, types, uint32, uint64

from kernels_cuda.mathematics import ceil, device, fma, libdevice, log, sqrt
from kernels_cuda.pointers import get, put

THREADS = 256
cospi = libdevice("cospi", meaning=lambda x: type(x)(np.cos(np.pi * float(x))))
sinpi = libdevice("sinpi", meaning=lambda x: type(x)(np.sin(np.pi * float(x))))


@device
def philox(counter, seed):
    """The four words of a counter, as two of 64 bits."""
    low, half = uint64(0xFFFFFFFF), uint64(32)
    a, b, c, d = uint64(counter & low), uint64(counter >> half), uint64(0), uint64(0)
    k, m = uint64(seed & low), uint64(seed >> half)
    for _ in range(10):
        p, q = uint64(uint64(0xD2511F53) * a), uint64(uint64(0xCD9E8D57) * c)
        a, b, c, d = uint64((q >> half) ^ b ^ k), uint64(q & low), uint64((p >> half) ^ d ^ m), uint64(p & low)
        k, m = uint64((k + uint64(0x9E3779B9)) & low), uint64((m + uint64(0xBB67AE85)) & low)
    return uint64(a | uint64(b << half)), uint64(c | uint64(d << half))


def filling(kind, wide, parameters, formula, pairs=False):
    """A kernel that puts ``formula(word, p[i], a, b, c)``, or two elements of two words, where an element's word has 64 bits if `wide`, else 32.

    `parameters`: the types of a, b and c.
    """
    per = 2 if wide else 4

    @device
    def put_at(out, i, n, value):
        if i < n:
            put(out, i, value)

    @device
    def put_each(out, p, i, n, word, a, b, c):
        if i < n:
            put(out, i, formula(word, p, i, a, b, c))

    @device
    def put_pair(out, p, i, n, word, other, a, b, c):
        x, y = formula(word, other, a, b, c)
        put_at(out, i, n, x)
        put_at(out, uint32(i + 1), n, y)

    @cuda.jit
    def kernel(out, p, n, first, seed, offset, a, b, c):
        k = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        i = uint32(k * per)
        if i < n:
            x, y = philox(uint64(offset + uint64(first // uint64(per)) + uint64(k)), seed)
            if wide:
                if pairs:
                    put_pair(out, p, i, n, x, y, a, b, c)
                else:
                    put_each(out, p, i, n, x, a, b, c)
                    put_each(out, p, uint32(i + 1), n, y, a, b, c)
            else:
                v, w, s, t = uint32(x), uint32(x >> uint64(32)), uint32(y), uint32(y >> uint64(32))
                if pairs:
                    put_pair(out, p, i, n, v, w, a, b, c)
                    put_pair(out, p, uint32(i + 2), n, s, t, a, b, c)
                else:
                    put_each(out, p, i, n, v, a, b, c)
                    put_each(out, p, uint32(i + 1), n, w, a, b, c)
                    put_each(out, p, uint32(i + 2), n, s, a, b, c)
                    put_each(out, p, uint32(i + 3), n, t, a, b, c)

    chances = types.CPointer(kind if isinstance(kind, types.Float) else float64)
    return kernel, (types.CPointer(kind), chances, types.uint32, types.uint64, types.uint64, types.uint64, *parameters)


def precision(kind):
    """Whether a float is made of words of 64 bits, the bits to drop of one, and the unit of what is left: 24 bits or 53."""
    return (False, 8, 2.0**-24) if kind is float32 else (True, 11, 2.0**-53)


def positive(kind):
    """A function from a word to a number on (0, 1], as fine as 2**-33 near 0 (2**-54 in float64)."""
    if kind is float32:
        return device(lambda word: kind(word) * kind(2.0**-32) + kind(2.0**-33))
    return device(lambda word: kind(uint64(word >> uint64(11))) * kind(2.0**-53) + kind(2.0**-54))


def uniform(kind, form):
    """``out[i] = a + c u``, where c = b - a and u has 24 bits (53 in float64) and is on [0, 1), rounded once. Where that gives b, a."""
    wide, drop, unit = precision(kind)
    word_of = uint64 if wide else uint32

    @device
    def formula(word, p, i, a, b, c):
        x = fma(kind(word_of(word >> word_of(drop))) * kind(unit), c, a)
        return x if x < b else a

    return filling(kind, wide, (kind,) * 3, formula)


def exponential(kind, form):
    """``out[i] = -log(u) a`` with u on (0, 1]; never 0."""
    number, (wide, _, unit) = positive(kind), precision(kind)

    @device
    def formula(word, p, i, a, b, c):
        x = -log(number(word))
        return (x if x > kind(unit / 2) else kind(unit / 2)) * a

    return filling(kind, wide, (kind,) * 3, formula)


def normal(kind, form):
    """``out[2k], out[2k + 1] = a + b r cos t, a + b r sin t`` with ``r = sqrt(-2 log u)`` and a random angle t (Box and Muller, 1958)."""
    number, wide = positive(kind), precision(kind)[0]

    @device
    def formula(word, other, a, b, c):
        r = sqrt(kind(-2) * log(number(word))) * b
        t = number(other) * kind(2) - kind(1)
        return r * cospi(t) + a, r * sinpi(t) + a

    return filling(kind, wide, (kind,) * 3, formula, True)


@device
def multiply_high(x, y):
    """The upper 64 of the 128 bits of a product."""
    low, half = uint64(0xFFFFFFFF), uint64(32)
    a, b, c, d = uint64(x >> half), uint64(x & low), uint64(y >> half), uint64(y & low)
    middle = uint64(a * d + uint64(uint64(b * d) >> half))
    return uint64(a * c + uint64(middle >> half) + uint64(uint64(b * c + uint64(middle & low)) >> half))


def random(kind, form):
    """``out[i] = a + floor(b w / 2**64)`` with w of 64 bits, b = 0 standing for 2**64."""
    boolean = kind == types.boolean

    @device
    def formula(word, p, i, a, b, c):
        whole = int64(uint64(a + (multiply_high(word, b) if b != uint64(0) else word)))
        return whole != 0 if boolean else kind(whole)

    return filling(kind, True, (types.uint64,) * 3, formula)


def bernoulli(kind, form):
    """``out[i] = b if w < a else 0`` with w of 32 bits: a is 2**32 times a probability."""

    @device
    def formula(word, p, i, a, b, c):
        return b if uint64(word) < a else kind(0)

    return filling(kind, False, (types.uint64, kind, kind), formula)


def trials(kind, form):
    """``out[i] = 1 if u < p[i] else 0`` with u of 53 bits: as integers, which needs no float64."""
    chance = kind if isinstance(kind, types.Float) else float64

    @device
    def formula(word, p, i, a, b, c):
        return kind(int64(uint64(word >> uint64(11))) < int64(ceil(get(p, i) * chance(2.0**53))))

    return filling(kind, True, (kind,) * 3, formula)
