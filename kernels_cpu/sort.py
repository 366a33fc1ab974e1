"""The order of the elements of a row, stable, NaN last; and the order of the k first alone.

An element's rank is an integer that orders as the elements do. A word holds 32 bits of a rank and, below them, the 31
bits of an index, so that what is sorted is words, by their bytes from the lowest up (a radix sort, 4 passes at most).
Ranks of 64 bits take two rounds, low half first: each is stable, so the second leaves equals in the order of the
first.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from kernels_cpu.row import NUMBERS, after, operand, plain, stack, word

int32, int64 = types.int32, types.int64
INDEX = 31  # bits of an index
INDICES, HALF = (1 << INDEX) - 1, 1 << 31
FEW = 40  # from this many elements on, counting their bytes beats insertion
DIGIT = 256


@intrinsic
def bits(typingctx, x):
    """The bits of a float, as an integer of its size."""
    size = types.int64 if x.bitwidth == 64 else types.int32
    return size(x), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(x.bitwidth))


def ranking(kind):
    """A function: an int64 that orders as the elements do. Zeros are equal, NaN is larger than all."""
    if not isinstance(kind, types.Float):
        return register_jitable(lambda x: int64(x))
    low = (1 << (kind.bitwidth - 1)) - 1

    @register_jitable
    def rank(x):
        b = int64(bits(x))
        if x == 0:
            return int64(0)
        return low if x != x else b ^ low if b < 0 else b

    return rank


@register_jitable
def insert(ranks, places, count, rank, place):
    """Put a rank, and where it was found, in order behind `count` others."""
    i = count
    while i > 0 and ranks[i - 1] > rank:
        ranks[i], places[i] = ranks[i - 1], places[i - 1]
        i -= 1
    ranks[i], places[i] = rank, place


new_counts = stack(int32, 4 * DIGIT)


@register_jitable
def sort(words, spare, n):
    """Sort words by the half rank in them, byte after byte."""
    counts = new_counts()
    for c in range(4 * DIGIT):
        counts[c] = 0
    for i in range(n):
        key = words[i] >> INDEX
        for d in range(4):
            counts[DIGIT * d + (key >> 8 * d & 255)] += 1
    moved = False
    for d in range(4):
        first, shift = DIGIT * d, INDEX + 8 * d
        if counts[first + (words[0] >> shift & 255)] == n:
            continue  # all have this byte
        place = 0
        for c in range(first, first + DIGIT):
            count = counts[c]
            counts[c] = place
            place += count
        for i in range(n):
            one = words[i]
            c = first + (one >> shift & 255)
            spare[counts[c]] = one
            counts[c] += 1
        words, spare, moved = spare, words, not moved
    if moved:
        for i in range(n):
            spare[i] = words[i]


def ordering(kind):
    """A function: bring words, whose indices name elements of x, in the order of these; `flip` -1 turns it."""
    rank, two_rounds = ranking(kind), kind.bitwidth > 32
    above = 32 if two_rounds else 0

    @register_jitable
    def order(words, spare, x, n, flip):
        if two_rounds:
            for i in range(n):
                k = words[i] & INDICES
                words[i] = ((rank(x[k]) ^ flip) & 0xFFFFFFFF) << INDEX | k
            sort(words, spare, n)
        for i in range(n):
            k = words[i] & INDICES
            words[i] = (((rank(x[k]) ^ flip) >> above) + HALF) << INDEX | k
        sort(words, spare, n)

    return order


def argsort(kind):
    """``x[i, out[i, j]] <= x[i, out[i, j + 1]]``, or ``>=`` where number 0 is not 0; operand 2 is room for 2 n words."""
    kind = plain(kind)
    to, source, order, rank = operand(int64), operand(kind), ordering(kind), ranking(kind)

    def kernel(addresses, rows, n):
        words, spare = to(addresses, 2, 0), after(to(addresses, 2, 0), n)
        flip = -1 if word(addresses + NUMBERS) else 0
        for i in range(rows):
            x, out = source(addresses, 1, i), to(addresses, 0, i)
            if n < FEW:
                for j in range(n):
                    insert(words, out, j, rank(x[j]) ^ flip, j)
                continue
            for j in range(n):
                words[j] = j
            order(words, spare, x, n, flip)
            for j in range(n):
                out[j] = words[j] & INDICES
        return 0

    return kernel


def topk_few(kind):
    """The first k of `argsort`, kept in order from the start.

    Operand 2 is room for k words; numbers are k and whether it is descending.
    """
    kind = plain(kind)
    to, source, rank = operand(int64), operand(kind), ranking(kind)

    def kernel(addresses, rows, n):
        k, flip = word(addresses + NUMBERS), -1 if word(addresses + NUMBERS + 8) else 0
        ranks = to(addresses, 2, 0)
        for i in range(rows):
            x, out = source(addresses, 1, i), to(addresses, 0, i)
            for j in range(n):
                one = rank(x[j]) ^ flip
                if j < k or one < ranks[k - 1]:
                    insert(ranks, out, min(j, k - 1), one, j)
        return 0

    return kernel


@register_jitable
def candidates(k, n):
    """How many words the choice of k from n keeps at a time."""
    return min(n, 2 * k + 512)


def topk_many(kind):
    """The first k of `argsort`, out of what is collected because it may be among them; sorted when room runs out.

    Of n elements in random order only about ``k log(n / k)`` are ever collected. Operand 2 is room for twice
    `candidates` words; numbers are k and whether it is descending.
    """
    kind = plain(kind)
    to, source, order, rank = operand(int64), operand(kind), ordering(kind), ranking(kind)

    def kernel(addresses, rows, n):
        k, flip = word(addresses + NUMBERS), -1 if word(addresses + NUMBERS + 8) else 0
        most = candidates(k, n)
        words, spare = to(addresses, 2, 0), after(to(addresses, 2, 0), most)
        for i in range(rows):
            x, out = source(addresses, 1, i), to(addresses, 0, i)
            count, limit, j = 0, int64(0), 0
            while j < n:
                while j < n and count < most:
                    if j < most or rank(x[j]) ^ flip < limit:
                        words[count] = j
                        count += 1
                    j += 1
                order(words, spare, x, count, flip)
                count, limit = k, rank(x[words[k - 1] & INDICES]) ^ flip
            for j in range(k):
                out[j] = words[j] & INDICES
        return 0

    return kernel
