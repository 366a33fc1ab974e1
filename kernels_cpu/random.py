"""Random numbers without a state: element i of a fill is a function of a seed, an offset and i alone.

The numbers are those of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011), which
turns a counter of 128 bits and a key of 64, the seed, into four words of 32 bits. Element i of a fill takes word ``i % 4`` of counter
``offset + i // 4``, or, where it needs 64 bits, half ``i % 2`` of counter ``offset + i // 2``. So any thread, block or device can
make any part of a fill. Integers and uniform numbers are the same on every device; where a logarithm, sine or cosine is taken, the
last bit is the compiler's. A kernel makes the words of a block in first-level cache and then maps them to elements: two plain loops
that vectorise (one of both, around calls of the C library, would not).

A kernel is ``kernel(addresses, n)``. The addresses are those of the first of n elements; of the words ``seed, offset, first, a, b``,
where `first` is the first element's place in the fill, a multiple of 4; of `a` again; and of what else it reads.
"""

import numpy as np
from llvmlite import ir
from numba import boolean, float32, float64, int64, types, uint32, uint64
from numba.extending import intrinsic, register_jitable

from kernels_cpu import mathematics
from kernels_cpu.pointers import on_stack, operands, wide

BLOCK = 512  # 64-bit words of a block: 4 KiB
LOW, HALF, ZERO = map(np.uint64, (0xFFFFFFFF, 32, 0))
# multipliers and Weyl constants of the paper, section 3.2
FIRST, SECOND, STEP, STRIDE = map(np.uint64, (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85))

# A call would keep the loops around these functions from vectorising, and LLVM alone does not inline all of them.
inlined = register_jitable(forceinline=True)


@inlined
def philox(low, high, key):
    """The four words of a counter, as two 64-bit numbers.

    All is in 64-bit lanes of which the low halves count: one vector multiply gives both halves of a product.
    """
    a, b, c, d = low & LOW, low >> HALF, high & LOW, high >> HALF
    k, l = key & LOW, key >> HALF
    for _ in range(10):
        p, q = FIRST * a, SECOND * c
        a, b, c, d = (q >> HALF) ^ b ^ k, q & LOW, (p >> HALF) ^ d ^ l, p & LOW
        k, l = (k + STEP) & LOW, (l + STRIDE) & LOW
    return a | b << HALF, c | d << HALF


@inlined
def draw(words, seed, counter, n):
    """``words[i]``: the i-th 64 bits from a counter on, in pairs."""
    for i in range((n + 1) // 2):
        words[2 * i], words[2 * i + 1] = philox(counter + uint64(i), ZERO, seed)


@inlined
def multiply_high(x, y):
    """The upper 64 of the 128 bits of a product, from four products of halves, which vectorise."""
    a, b, c, d = x >> HALF, x & LOW, y >> HALF, y & LOW
    middle = a * d + (b * d >> HALF)
    return a * c + (middle >> HALF) + (b * c + (middle & LOW) >> HALF)


@intrinsic
def block(typingctx):
    """The words of a block, on the stack."""

    def codegen(context, builder, signature, args):
        place = on_stack(builder, ir.ArrayType(ir.IntType(64), BLOCK))
        return builder.bitcast(place, ir.IntType(64).as_pointer())

    return types.CPointer(uint64)(), codegen


def words_of(word):
    """An intrinsic that gives a pointer to 64-bit words as one to words of a numba type, the lower half first."""

    @intrinsic
    def view(typingctx, words):
        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(word).as_pointer())

        return types.CPointer(word)(words), codegen

    return view


def precision(kind):
    """The words that a float is made of, the bits to drop of each, and the unit of what is left: 24 bits or 53."""
    return (uint32, 8, np.float32(2.0**-24)) if kind is float32 else (uint64, 11, np.float64(2.0**-53))


def positive(kind):
    """A function from a word to a number on (0, 1], as fine as 2**-33 near 0 (2**-54 in float64), where logarithms are steep."""
    shift, unit = (0, np.float32(2.0**-32)) if kind is float32 else (11, np.float64(2.0**-53))
    half = unit / 2

    def number(word):
        return kind(word >> shift) * unit + half

    return inlined(number)


def by_blocks(convert, kinds, word):
    """A kernel that makes the words of block after block and has ``convert(p, word, start, m)`` turn them into m elements from `start` on."""
    turn, view, per, pointers = inlined(convert), words_of(word), 64 // word.bitwidth, operands(kinds)[0]

    def kernel(addresses, n):
        wide()
        p = pointers(addresses)
        seed, counter = p[1][0], p[1][1] + p[1][2] // uint64(2 * per)
        words = block()
        start = 0
        while start < n:
            m = min(per * BLOCK, n - start)
            draw(words, seed, counter + uint64(start // (2 * per)), (m + per - 1) // per)
            turn(p, view(words), start, m)
            start += m
        return 0

    return kernel


def fill(formula, kind, word, parameter=float64):
    """``out[i] = formula(word[i], a, b)``"""
    f, kinds = inlined(formula), [kind, uint64, parameter]
    put = operands(kinds)[2]

    def convert(p, word, start, m):
        a, b = p[2][0], p[2][1]
        for i in range(m):
            put(p, start + i, f(word[i], a, b))

    return by_blocks(convert, kinds, word)


def uniform(kind):
    """``out[i] = a + (b - a) u``, where u has 24 bits (53 in float64) and is on [0, 1), rounded once where the
    processor can. Where that gives b, a."""
    word, shift, unit = precision(kind)

    def formula(word, a, b):
        x = kind(word >> shift) * unit * kind(b - a) + kind(a)
        return x if x < kind(b) else kind(a)

    return fill(formula, kind, word)


def exponential(kind):
    """``out[i] = -log(u) / a`` with u on (0, 1]; never 0, which the least positive step of u near 1 stands for."""
    number, least = positive(kind), precision(kind)[2] / 2

    def formula(word, a, b):
        x = -mathematics.log(number(word))
        return (x if x > least else least) * kind(1.0 / a)

    return fill(formula, kind, precision(kind)[0])


def integers(kind):
    """``out[i] = a + floor(b w / 2**64)`` with w of 64 bits, b = 0 standing for 2**64.

    The probability of any of the b numbers differs from ``1 / b`` by less than ``2**-64``.
    """

    def formula(word, a, b):
        whole = int64(a + (multiply_high(word, b) if b else word))
        return whole != 0 if kind is boolean else kind(whole)

    return fill(formula, kind, uint64, uint64)


def bernoulli(kind):
    """``out[i] = b if w < a else 0`` with w of 32 bits: a is 2**32 times a probability, which is rounded to 2**-32."""

    def formula(word, a, b):
        return kind(b) if uint64(word) < uint64(a) else kind(0)

    return fill(formula, kind, uint32)


def trials(kind, probability):
    """``out[i] = 1 if u < p[i] else 0`` with u of 53 bits, compared in float64: so 1 is certain, and small probabilities are right."""
    kinds = [kind, uint64, float64, probability]
    put = operands(kinds)[2]
    word, shift, unit = precision(float64)

    def convert(p, word, start, m):
        for i in range(m):
            put(p, start + i, kind(float64(word[i] >> shift) * unit < float64(p[3][start + i])))

    return by_blocks(convert, kinds, word)


def improper(kind):
    """Whether any ``x[i]`` is not a probability."""
    pointers = operands([kind])[0]

    def kernel(addresses, n):
        x = pointers(addresses)[0]
        wrong = 0
        for i in range(n):
            wrong |= not (x[i] >= kind(0) and x[i] <= kind(1))
        return wrong

    return kernel


def normal(kind):
    """``out[2k], out[2k + 1] = a + b r cos t, a + b r sin t`` with ``r = sqrt(-2 log u)`` and a random angle t (Box and Muller, 1958)."""
    number, kinds = positive(kind), [kind, uint64, float64]
    put = operands(kinds)[2]
    turn, half = (np.float32(2 * np.pi), np.float32(np.pi)) if kind is float32 else (2 * np.pi, np.pi)

    def polar(word, k, b):
        r = mathematics.sqrt(kind(-2) * mathematics.log(number(word[2 * k]))) * b
        t = number(word[2 * k + 1]) * turn - half
        return r * mathematics.cos(t), r * mathematics.sin(t)

    pair = inlined(polar)

    def convert(p, word, start, m):
        a, b = kind(p[2][0]), kind(p[2][1])
        for k in range(m // 2):
            x, y = pair(word, k, b)
            put(p, start + 2 * k, x + a)
            put(p, start + 2 * k + 1, y + a)
        if m % 2:
            put(p, start + m - 1, pair(word, m // 2, b)[0] + a)

    return by_blocks(convert, kinds, precision(kind)[0])
