"""Permutations and weighted choices: rows of draws, each row beginning at a counter of its own."""

from numba import njit

from numbatensor.core.compiler import call, native, symbol
from numbatensor.core.iterate import PARALLEL
from numbatensor.core.memory import load, store
from numbatensor.core.python import (
    argument,
    as_long,
    entry,
    from_long,
    gil_held,
    none,
    restore_thread,
    save_thread,
    unboxed,
)
from numbatensor.core.random import reserve, run
from numbatensor.core.records import new_frame, tensor_at
from numbatensor.core.table import extra_kernel, kernel_of

POSITIVES, CHOICES, RACE = range(3)  # kernels of multinomial
COST = 20  # of a category or a draw, an addition's being 1
(KERNEL, OUT, WEIGHTS, ROOMS, SEED, OFFSET, COUNTERS, CATEGORIES, SAMPLES, ROWS, PIECES, ITEM) = range(0, 96, 8)
INVALID, ENDLESS, NOTHING, TOO_FEW = 1, 2, 3, 4  # what is wrong with weights


@native
def random_permutation(op, out, seed, offset):
    """Fill a contiguous vector with the integers below its length, in random order."""
    x = tensor_at(out)
    here, parameters, kernel = new_frame(), new_frame(), kernel_of(op, x.dtype)
    store(here, x.data)
    store(here + 8, parameters)
    store(parameters, seed)
    store(parameters + 8, offset)
    if x.numel < PARALLEL or gil_held() == 0:
        return call(kernel, here, x.numel)
    thread = save_thread()
    call(kernel, here, x.numel)
    restore_thread(thread)
    return 0


@native
def weights_fault(op, weights, needed):
    """What is wrong with contiguous rows of weights of which `needed` must be above 0 in each: 0 for nothing."""
    x = tensor_at(weights)
    kernel, here = extra_kernel(op, POSITIVES, x.dtype), new_frame()
    categories = x.shape[x.ndim - 1]
    for row in range(x.numel // max(categories, 1)):
        store(here, x.data + row * categories * x.itemsize)
        found = call(kernel, here, categories)
        if found < 0:
            return INVALID if found == -1 else ENDLESS
        if found < needed:
            return TOO_FEW if found else NOTHING
    return 0


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
def multinomial(op, out, weights, rooms, replacement, seed, offset):
    """Draw rows of categories (int64) with sound weights; all contiguous. `rooms`: float64, for each of its rows a thread's scratch."""
    x, y = tensor_at(weights), tensor_at(out)
    context = new_frame()
    categories, samples = x.shape[x.ndim - 1], y.shape[y.ndim - 1]
    rows = y.numel // samples
    store(context + KERNEL, extra_kernel(op, CHOICES if replacement else RACE, x.dtype))
    store(context + OUT, y.data)
    store(context + WEIGHTS, x.data)
    store(context + ROOMS, tensor_at(rooms).data)
    store(context + SEED, seed)
    store(context + OFFSET, offset)
    store(context + COUNTERS, counters_of(samples if replacement else categories))
    store(context + CATEGORIES, categories)
    store(context + SAMPLES, samples)
    store(context + ROWS, rows)
    store(context + PIECES, tensor_at(rooms).shape[0])
    store(context + ITEM, x.itemsize)
    run(symbol("multinomial_piece"), context, tensor_at(rooms).shape[0], COST * rows * (categories + samples))
    return 0


@entry
def write_permutation(self, args, count):
    """(row, x, generator's address): overwrite a contiguous vector"""
    x, generator = unboxed(argument(args, 1)), as_long(argument(args, 2))
    offset = reserve(generator, tensor_at(x).numel)
    random_permutation(as_long(argument(args, 0)), x, load(generator), offset)
    return none()


@entry
def find_fault(self, args, count):
    """(row, weights, needed) -> what is wrong with the weights"""
    return from_long(weights_fault(as_long(argument(args, 0)), unboxed(argument(args, 1)), as_long(argument(args, 2))))


@entry
def write_multinomial(self, args, count):
    """(row, out, weights, rooms, replacement, generator's address): overwrite out with draws"""
    op, out, weights, rooms, replacement, generator = (
        as_long(argument(args, 0)),
        unboxed(argument(args, 1)),
        unboxed(argument(args, 2)),
        unboxed(argument(args, 3)),
        as_long(argument(args, 4)),
        as_long(argument(args, 5)),
    )
    x, y = tensor_at(weights), tensor_at(out)
    samples, categories = y.shape[y.ndim - 1], x.shape[x.ndim - 1]
    rows = y.numel // samples
    offset = reserve(generator, 2 * rows * counters_of(samples if replacement else categories))
    multinomial(op, out, weights, rooms, replacement, load(generator), offset)
    return none()
