"""Steps of optimisers: what a gradient does to parameters, in one pass over both and over what the optimiser remembers.

One launch moves up to ENTRIES parameters. The addresses of their arrays, their sizes and their first blocks are arguments, by value: nothing
is copied to the device before, and a CUDA graph holds them. A block finds the entry that it works for by its number. A thread moves four
elements, a block apart, so that every access of a warp is to memory that lies together, and reads all that it needs before it writes.
Settings are numbers of the type that is computed in (float32 for 16 bits), in the order of `kernels_cpu/optimizers.py`, whose formulas these are.

Steps that are counted on the device read their number from there: `count` adds one to each counter, in a launch before.

Launch: for each entry ``blocks(n)`` of 256 threads. Each array is read once, and all but the gradient are written once.
"""

from numba import cuda, float32, types, uint32
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from kernels_cuda.halves import computed
from kernels_cuda.mathematics import device, expm1, sqrt
from kernels_cuda.pointers import emulated, get, i32, is_null, load_elements, put, store_elements

ENTRIES, THREADS, EACH = 32, 256, 4


def blocks(n):
    """How many blocks an entry needs."""
    return -(-n // (THREADS * EACH))


@emulated(lambda firsts, block: sum(first <= block for first in firsts[1:]))
@intrinsic
def entry_of(typingctx, firsts, block):
    """The last entry whose first block is not after a block. Entries of no blocks have the first block of the next; those that are not
    there have one that no launch reaches.
    """

    def codegen(context, builder, signature, args):
        found = i32(0)
        for first in cgutils.unpack_tuple(builder, args[0])[1:]:
            found = builder.add(found, builder.zext(builder.icmp_unsigned("<=", first, args[1]), i32))
        return found

    return types.uint32(firsts, types.uint32), codegen


def members(lists, k):
    """What the lists, of one or several members for each entry, have for entry k."""
    sizes = [len(one) // ENTRIES for one in lists]
    return tuple(
        one[k] if size == 1 else one[k * size : (k + 1) * size] for one, size in zip(lists, sizes, strict=True)
    )


@emulated(members)
@intrinsic
def pick(typingctx, lists, k):
    """What each list has for entry k: a member, or a tuple of as many as there are for each entry.

    A branch to one of ENTRIES places, the same for all threads of a block: arguments cannot be indexed.
    """
    sizes = [one.count // ENTRIES for one in lists]
    kinds = [
        one.dtype if size == 1 else types.UniTuple(one.dtype, size) for one, size in zip(lists, sizes, strict=True)
    ]
    result = types.Tuple(kinds)

    def codegen(context, builder, signature, args):
        words = [cgutils.unpack_tuple(builder, one) for one in cgutils.unpack_tuple(builder, args[0])]
        end = builder.append_basic_block("picked")
        places = [builder.append_basic_block("entry") for _ in range(ENTRIES)]
        choice = builder.switch(args[1], places[-1])
        for j, place in enumerate(places):
            choice.add_case(i32(j), place)
            builder.position_at_end(place)
            builder.branch(end)
        builder.position_at_end(end)
        phis = [[builder.phi(value.type) for value in one[:size]] for one, size in zip(words, sizes, strict=True)]
        for one, found in zip(words, phis, strict=True):
            for j, place in enumerate(places):
                for m, phi in enumerate(found):
                    phi.add_incoming(one[j * len(found) + m], place)
        made = [f[0] if len(f) == 1 else context.make_tuple(builder, k, f) for f, k in zip(phis, kinds, strict=True)]
        return context.make_tuple(builder, result, made)

    return result(lists, types.uint32), codegen


@emulated(lambda places, i: tuple(place[i] for place in places))
@intrinsic
def read(typingctx, places, i):
    """Element i of each array."""
    kind = places.dtype.dtype
    result = types.UniTuple(computed(kind), places.count)

    def codegen(context, builder, signature, args):
        found = [
            load_elements(context, builder, kind, place, args[1])[0] for place in cgutils.unpack_tuple(builder, args[0])
        ]
        return context.make_tuple(builder, result, found)

    return result(places, types.uint32), codegen


def written(places):
    """The arrays that a step writes: all but the gradient."""
    return [*places[:1], *places[2:]]


@emulated(
    lambda places, i, values: [p.__setitem__(i, v) for p, v in zip(written(places), values, strict=True)] and None
)
@intrinsic
def write(typingctx, places, i, values):
    """Store element i of each array but the gradient."""
    kind = places.dtype.dtype

    def codegen(context, builder, signature, args):
        targets, given = (cgutils.unpack_tuple(builder, a) for a in (args[0], args[2]))
        for place, value in zip(written(targets), given, strict=True):
            store_elements(context, builder, kind, place, args[1], [value])
        return context.get_dummy_value()

    return types.void(places, types.uint32, types.UniTuple(computed(kind), places.count - 1)), codegen


def moving(step):
    """A function: one thread's share of a step ``step(values, settings)``, of the arrays of an entry."""

    @device
    def move(places, n, block, numbers):
        i = uint32(block * uint32(THREADS * EACH) + uint32(cuda.threadIdx.x))
        if i < n:
            j, k, m = uint32(i + THREADS), uint32(i + 2 * THREADS), uint32(i + 3 * THREADS)
            a = read(places, i)
            b = read(places, j if j < n else i)  # beyond the end in vain
            c = read(places, k if k < n else i)
            d = read(places, m if m < n else i)
            write(places, i, step(a, numbers))
            if j < n:
                write(places, j, step(b, numbers))
            if k < n:
                write(places, k, step(c, numbers))
            if m < n:
                write(places, m, step(d, numbers))

    return move


def table(kind, arrays):
    """Types of the arguments that say where entries are: addresses, sizes, first blocks."""
    return (
        types.UniTuple(types.CPointer(kind), ENTRIES * arrays),
        types.UniTuple(types.uint32, ENTRIES),
        types.UniTuple(types.uint32, ENTRIES),
    )


COUNTERS = types.UniTuple(types.CPointer(types.float32), ENTRIES)


def stepping(kind, arrays, settings, step):
    """A kernel ``(arrays, sizes, first blocks, settings)`` that does a step with each element."""
    move = moving(step)

    @cuda.jit
    def kernel(places, sizes, firsts, numbers):
        block = uint32(cuda.blockIdx.x)
        here, n, first = pick((places, sizes, firsts), entry_of(firsts, block))
        move(here, n, uint32(block - first), numbers)

    return kernel, (*table(kind, arrays), types.UniTuple(computed(kind), settings))


def counting(kind, arrays, settings, step, corrected):
    """The same, with an argument more before the settings: the entries' counters of steps. ``corrected(settings, steps)``: the settings of a step."""
    move, number = moving(step), computed(kind)

    @cuda.jit
    def kernel(places, sizes, firsts, counters, numbers):
        block = uint32(cuda.blockIdx.x)
        here, n, first, counter = pick((places, sizes, firsts, counters), entry_of(firsts, block))
        move(here, n, uint32(block - first), corrected(numbers, number(get(counter, 0))))

    return kernel, (*table(kind, arrays), COUNTERS, types.UniTuple(computed(kind), settings))


def count(kind, form):
    """``counter[k] += 1`` of each entry that has one; one thread an entry."""

    @cuda.jit
    def kernel(counters):
        (counter,) = pick((counters,), uint32(cuda.threadIdx.x))
        if not is_null(counter):
            put(counter, 0, get(counter, 0) + float32(1))

    return kernel, (COUNTERS,)


def directed(kind):
    """A function: the direction that a gradient gives, `decay` of the parameter added."""

    @device
    def direction(x, g, sign, decay):
        d = sign * g
        if decay != kind(0):  # without it an infinite parameter would become NaN
            d += decay * x
        return d

    return direction


def sgd(kind, form):
    """``p[i] -= rate * (sign * g[i] + decay * p[i])``"""
    number = computed(kind)
    direction = directed(number)

    @device
    def step(values, numbers):
        x, g = values
        rate, sign, decay = numbers
        return (x - rate * direction(x, g, sign, decay),)

    return stepping(kind, 2, 3, step)


def momentum(kind, form):
    """``d = sign * g[i] + decay * p[i]; b[i] = keep * b[i] + add * d; p[i] -= rate * (b[i], or d + look * b[i])``"""
    number = computed(kind)
    direction = directed(number)

    @device
    def step(values, numbers):
        x, g, b = values
        rate, sign, decay, keep, add, look = numbers
        d = direction(x, g, sign, decay)
        moving = keep * b + add * d
        return x - rate * (d + look * moving if look != number(0) else moving), moving

    return stepping(kind, 3, 6, step)


def moments(kind, largest):
    """Adam's step, with or without `s`, the largest second moments so far."""
    number = computed(kind)
    direction = directed(number)

    @device
    def step(values, numbers):
        x, g, m, v = values[:4]
        rate, sign, decay, shrink, first, second, square, scale, eps = numbers
        d = direction(x, g, sign, decay)
        if shrink != number(1):
            x *= shrink
        mean = m + first * (d - m)
        power = second * v + square * d * d
        if largest:
            s = values[-1]
            most = power if power > s or power != power else s
            return x - rate * mean / (sqrt(most) * scale + eps), mean, power, most
        return x - rate * mean / (sqrt(power) * scale + eps), mean, power

    return step


def adam(kind, form):
    """``m[i] += first * (d - m[i]); v[i] = second * v[i] + square * d * d; p[i] -= rate * m[i] / (sqrt(v[i]) * scale + eps)``"""
    return stepping(kind, 4, 9, moments(kind, False))


def amsgrad(kind, form):
    """`adam` with ``s[i] = maximum(s[i], v[i])`` in place of v[i] under the root."""
    return stepping(kind, 5, 9, moments(kind, True))


def correcting(kind):
    """A function: settings whose rate and scale are those of step number `steps`. `scale` is given as the logarithm of what a step keeps of the
    squares, and one setting more is that of the means: ``1 - keep**steps`` is exact for numbers close to 1 only so.
    """

    @device
    def corrected(numbers, steps):
        rate, sign, decay, shrink, first, second, square, squares, eps, means = numbers
        rate /= -expm1(steps * means)
        scale = kind(1) / sqrt(-expm1(steps * squares))
        return rate, sign, decay, shrink, first, second, square, scale, eps

    return corrected


def adam_counted(kind, form):
    """`adam` whose steps are counted on the device."""
    return counting(kind, 4, 10, moments(kind, False), correcting(computed(kind)))


def amsgrad_counted(kind, form):
    """`amsgrad` whose steps are counted on the device."""
    return counting(kind, 5, 10, moments(kind, True), correcting(computed(kind)))
