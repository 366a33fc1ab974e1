"""Permutations and weighted choices: rows of draws, each row beginning at a counter of its own."""

from numba import njit

from kernels_cpu.sampling import LEAF, MOST_BITS
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.devices import MULTINOMIAL, PERMUTATION, WEIGHTS_FAULTS, there
from numbatensor.core.memory import decref, load, memset, store
from numbatensor.core.promotion import INT64
from numbatensor.core.python import (
    argument,
    as_long,
    entry,
    from_long,
    none,
    unboxed,
)
from numbatensor.core.random import reserve, run, tensor_or_none
from numbatensor.core.records import frame_at, new_frame, tensor_at
from numbatensor.core.table import extra_kernel, kernel_of
from numbatensor.core.tensors import empty

POSITIVES, CHOICES, RACE = range(3)  # kernels of multinomial
COST = 20  # of a category or a draw, an addition's being 1
SHARE, MOST_PIECES = 1 << 12, 16  # numbers of a range of a permutation, at least, and most ranges
NUMEL, COUNTS, BITS, DIGITS, BUCKETS = range(96, 136, 8)
(KERNEL, OUT, WEIGHTS, ROOMS, SEED, OFFSET, COUNTERS, CATEGORIES, SAMPLES, ROWS, PIECES, ITEM) = range(
    0, 96, 8
)  # words of a context
INVALID, ENDLESS, NOTHING, TOO_FEW = 1, 2, 3, 4  # what is wrong with weights


@njit
def bit_length(n):
    count = 0
    while n >> count:
        count += 1
    return count


@njit
def bucket_bits(n):
    """How many bits of the digit of one of n numbers name its bucket."""
    return min(max(0, bit_length(max(n - 1, 0)) - LEAF), MOST_BITS)


@njit
def digit_counters(n):
    """How many counters the digits of n numbers take."""
    return (n + 7) >> 3 if bucket_bits(n) else 0


@njit
def range_start(context, i):
    """The first number of a range, and of a counter."""
    n, pieces = load(context + NUMEL), load(context + PIECES)
    return n if i == pieces else n * i // pieces // 8 * 8


@native
def digits_piece(context, i):
    """The digits of a range of numbers, and how many each bucket gets."""
    here, parameters = new_frame(), new_frame()
    bits, first = load(context + BITS), range_start(context, i)
    store(here, load(context + COUNTS) + 8 * (4 * i << bits))
    store(here + 8, parameters)
    store(here + 16, load(context + ROOMS) + 2 * first)
    store(parameters, load(context + SEED))
    store(parameters + 8, load(context + OFFSET) + first // 8)
    store(parameters + 16, MOST_BITS - bits)
    return call(load(context + DIGITS), here, range_start(context, i + 1) - first)


@native
def buckets_piece(context, i):
    """A range of numbers, put into buckets."""
    here, parameters = new_frame(), new_frame()
    first = range_start(context, i)
    store(here, load(context + OUT))
    store(here + 8, load(context + COUNTS) + 8 * (4 * i << load(context + BITS)))
    store(here + 16, parameters)
    store(here + 24, load(context + ROOMS) + 2 * first)
    store(parameters, first)
    store(parameters + 8, load(context + BITS))
    return call(load(context + BUCKETS), here, range_start(context, i + 1) - first)


@njit
def bucket_places(context):
    """Make of the counts of each quarter of a range and bucket the place where its first number of the bucket goes."""
    counts, bits, place = load(context + COUNTS), load(context + BITS), 0
    for bucket in range(1 << bits):
        for i in range(4 * load(context + PIECES)):
            here = counts + 8 * ((i << bits) + bucket)
            count = load(here)
            store(here, place)
            place += count


@native
def shuffle_piece(context, i):
    """A range of buckets, shuffled."""
    here, parameters = new_frame(), new_frame()
    n, bits, pieces = load(context + NUMEL), load(context + BITS), load(context + PIECES)
    ends = load(context + COUNTS) + 8 * (
        (4 * pieces - 1) << bits
    )  # where the last quarter's next number of each bucket would go
    store(here + 8, parameters)
    store(parameters, load(context + SEED))
    for bucket in range((i << bits) // pieces, ((i + 1) << bits) // pieces):
        first = load(ends + 8 * (bucket - 1)) if bucket else 0
        store(here, load(context + OUT) + 8 * first)
        store(parameters + 8, load(context + OFFSET) + digit_counters(n) + first // 2 + bucket)
        call(load(context + KERNEL), here, (load(ends + 8 * bucket) if bits else n) - first)
    return 0


@native
def random_permutation(op, out, seed, offset):
    """Fill a contiguous vector of int64 with the integers below its length, in random order: see `kernels_cpu/sampling.py`."""
    x, context, frame = tensor_at(out), new_frame(), new_frame()
    n, bits = x.numel, bucket_bits(x.numel)
    pieces = min(MOST_PIECES, 1 + n // SHARE) if bits else 1
    store(context + KERNEL, kernel_of(op, INT64))
    store(context + DIGITS, extra_kernel(op, 0, INT64))
    store(context + BUCKETS, extra_kernel(op, 1, INT64))
    store(context + OUT, x.data)
    store(context + SEED, seed)
    store(context + OFFSET, offset)
    store(context + NUMEL, n)
    store(context + PIECES, pieces)
    store(context + BITS, bits)
    if bits == 0:
        for i in range(n):
            store(x.data + 8 * i, i)
        return shuffle_piece(context, 0)
    frame_at(frame).ndim, frame_at(frame).shape[0] = 1, (4 * pieces << bits) + (n + 3) // 4
    room = empty(frame, INT64)
    counts = tensor_at(room).data
    memset(counts, 0, 8 * (4 * pieces << bits))
    store(context + COUNTS, counts)
    store(context + ROOMS, counts + 8 * (4 * pieces << bits))
    run(symbol("digits_piece"), context, pieces, COST * n)
    bucket_places(context)
    run(symbol("buckets_piece"), context, pieces, COST * n)
    run(symbol("shuffle_piece"), context, pieces, COST * n)
    decref(room)
    return 0


@native
def faults_of(op, weights, found):
    """For each contiguous row of weights how many are above 0, or what is wrong: see `kernels_cpu/sampling.py: positives`."""
    x = tensor_at(weights)
    kernel, here = extra_kernel(op, POSITIVES, x.dtype), new_frame()
    categories = x.shape[x.ndim - 1]
    for row in range(tensor_at(found).numel):
        store(here, x.data + row * categories * x.itemsize)
        store(tensor_at(found).data + 8 * row, call(kernel, here, categories))
    return 0


@native
def weights_fault(op, weights, needed):
    """What is wrong with contiguous rows of weights of which `needed` must be above 0 in each: 0 for nothing."""
    x, frame = tensor_at(weights), new_frame()
    frame_at(frame).ndim, frame_at(frame).shape[0] = 1, x.numel // max(x.shape[x.ndim - 1], 1)
    found = empty(frame, INT64)
    failed = attempt(there(WEIGHTS_FAULTS) if x.device else symbol("faults_of"), op, weights, found) == -1
    fault = 0
    for row in range(tensor_at(found).numel):
        count = load(tensor_at(found).data + 8 * row)
        if fault == 0 and count < needed and not failed:
            fault = INVALID if count == -1 else ENDLESS if count == -2 else TOO_FEW if count else NOTHING
    decref(found)
    if failed:
        fail()
    return fault


@native
def multinomial_piece(context, i):
    """The draws of a range of rows."""
    rows, pieces = load(context + ROWS), load(context + PIECES)
    categories, samples = load(context + CATEGORIES), load(context + SAMPLES)
    here, parameters = new_frame(), new_frame()
    store(here + 8, parameters)
    store(here + 24, load(context + ROOMS) + 8 * categories * i)
    store(parameters, load(context + SEED))
    store(parameters + 16, categories)
    for row in range(rows * i // pieces, rows * (i + 1) // pieces):
        store(here, load(context + OUT) + 8 * samples * row)
        store(here + 16, load(context + WEIGHTS) + row * categories * load(context + ITEM))
        store(parameters + 8, load(context + OFFSET) + row * load(context + COUNTERS))
        call(load(context + KERNEL), here, samples)
    return 0


@njit
def counters_of(n):
    return (n + 1) >> 1


@native
def multinomial(op, out, weights, rooms, seed, offset):
    """Draw rows of categories (int64) with sound weights, or, where `rooms` is 0, when the categories' clocks ring; all contiguous.

    `rooms`: int64, for each of its rows a thread's scratch; on a device, a row for each row of weights.
    """
    x, y = tensor_at(weights), tensor_at(out)
    if x.device:
        return call(there(MULTINOMIAL), op, out, weights, rooms, seed, offset)
    context = new_frame()
    categories, samples = x.shape[x.ndim - 1], y.shape[y.ndim - 1]
    rows = y.numel // samples
    pieces = tensor_at(rooms).shape[0] if rooms else min(rows, MOST_PIECES)
    store(context + KERNEL, extra_kernel(op, CHOICES if rooms else RACE, x.dtype))
    store(context + OUT, y.data)
    store(context + WEIGHTS, x.data)
    store(context + ROOMS, tensor_at(rooms).data if rooms else 0)
    store(context + SEED, seed)
    store(context + OFFSET, offset)
    store(context + COUNTERS, counters_of(samples))
    store(context + CATEGORIES, categories)
    store(context + SAMPLES, samples)
    store(context + ROWS, rows)
    store(context + PIECES, pieces)
    store(context + ITEM, x.itemsize)
    run(symbol("multinomial_piece"), context, pieces, COST * rows * (categories + samples))
    return 0


@native
def permute(op, out, seed, offset):
    """Fill a contiguous vector of int64 with a permutation, on its device."""
    if tensor_at(out).device:
        return call(there(PERMUTATION), op, out, seed, offset)
    return random_permutation(op, out, seed, offset)


@entry
def write_permutation(self, args, count):
    """(row, x, generator's address): overwrite a contiguous vector"""
    x, generator = unboxed(argument(args, 1)), as_long(argument(args, 2))
    n = tensor_at(x).numel
    offset = reserve(generator, n + 2 * (digit_counters(n) + (1 << bucket_bits(n))))
    permute(as_long(argument(args, 0)), x, load(generator), offset)
    return none()


@entry
def find_fault(self, args, count):
    """(row, weights, needed) -> what is wrong with the weights"""
    return from_long(weights_fault(as_long(argument(args, 0)), unboxed(argument(args, 1)), as_long(argument(args, 2))))


@entry
def write_multinomial(self, args, count):
    """(row, out, weights, rooms or None, generator's address): overwrite out with draws, or with times"""
    op, out, weights, rooms, generator = (
        as_long(argument(args, 0)),
        unboxed(argument(args, 1)),
        unboxed(argument(args, 2)),
        tensor_or_none(argument(args, 3)),
        as_long(argument(args, 4)),
    )
    y = tensor_at(out)
    samples = y.shape[y.ndim - 1]
    offset = reserve(generator, 2 * y.numel // samples * counters_of(samples))
    multinomial(op, out, weights, rooms, load(generator), offset)
    return none()
