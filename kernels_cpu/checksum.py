"""A checksum of bytes, 64 bits wide, as fast as memory is read."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from kernels_cpu.vectors import loop

word = ir.IntType(64)
LANES, SIDE_BY_SIDE = 8, 4  # words of a vector; vectors whose rounds do not wait for each other
STRIPE = 8 * LANES * SIDE_BY_SIDE  # bytes
ODD, OTHER_ODD = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F  # XXH64's
TURN = 31
SEED = int(np.uint64(ODD).view(np.int64))


def one_round(builder, h, x):
    """One round of XXH64 (Collet 2012), of a word or of each lane of a vector: ``h = rotate(h + x * a, 31) * b`` with a and b odd.

    For each x it is a bijection of h, and for each h one of x.
    """
    kind = h.type
    constant = lambda n: ir.Constant(kind, n if kind == word else [n] * LANES)
    h = builder.add(h, builder.mul(x, constant(OTHER_ODD)))
    h = builder.or_(builder.shl(h, constant(TURN)), builder.lshr(h, constant(64 - TURN)))
    return builder.mul(h, constant(ODD))


@intrinsic
def mix(typingctx, h, x):
    """The checksum after one more word."""
    return types.int64(types.int64, types.int64), lambda context, builder, signature, args: one_round(builder, *args)


def loader(kind):
    """An intrinsic: the number at any address, as a word."""

    @intrinsic
    def at(typingctx, address):
        def codegen(context, builder, signature, args):
            made = builder.load(builder.inttoptr(args[0], kind.as_pointer()))
            made.align = 1
            return made if kind == word else builder.zext(made, word)

        return types.int64(types.int64), codegen

    return at


load8, load4, load2, load1 = (loader(ir.IntType(n)) for n in (64, 32, 16, 8))


@intrinsic
def over_stripes(typingctx, address, count):
    """The checksum of one or more stripes: each lane sums every 32nd word, and then they are folded, half onto half."""
    vector = ir.VectorType(word, LANES)

    def codegen(context, builder, signature, args):
        address, count = args

        def body(i, sums):
            place = builder.add(address, builder.mul(i, word(STRIPE)))
            made = []
            for k, h in enumerate(sums):
                at = builder.inttoptr(builder.add(place, word(8 * LANES * k)), vector.as_pointer())
                x = builder.load(at)
                x.align = 1
                made.append(one_round(builder, h, x))
            return made

        seeds = [ir.Constant(vector, [LANES * k + j + 1 for j in range(LANES)]) for k in range(SIDE_BY_SIDE)]
        first, *others = loop(builder, count, seeds, body)
        for x in others:
            first = one_round(builder, first, x)
        index = ir.IntType(32)
        found, *others = [builder.extract_element(first, index(j)) for j in range(LANES)]
        for x in others:
            found = one_round(builder, found, x)
        return found

    return types.int64(types.int64, types.int64), codegen


@njit
def over_bytes(h, address, n):
    """The checksum h after n more bytes.

    A round loses nothing, so bytes that differ in one word of eight only, at a multiple of eight from the start, never give
    the same: a changed element is noticed with certainty. Other changes go unnoticed by a chance of 2**-64: what a round leaves of a
    difference is spread by the next, so that no pattern of numbers (swapped ones, signs, rows) cancels.
    """
    if n >= STRIPE:
        h = mix(h, over_stripes(address, n // STRIPE))
        address, n = address + n // STRIPE * STRIPE, n % STRIPE
    while n >= 8:
        h = mix(h, load8(address))
        address, n = address + 8, n - 8
    if n:
        x = 0
        if n & 4:
            x, address = load4(address), address + 4
        if n & 2:
            x, address = x << 16 | load2(address), address + 2
        if n & 1:
            x = x << 8 | load1(address)
        h = mix(h, x)
    return h
