"""Indices in random order, or drawn with given weights: those of `kernels_cpu/sampling.py`, to the last one.

All draws are made of integers, and clocks of operations that are rounded alike everywhere: fused ones, and divisions. They take
float64 for weights of float32 too, a few for each category.
"""

from numba import cuda, float64, int64, types, uint16, uint32, uint64

from kernels_cuda.mathematics import device, fma, inf
from kernels_cuda.pointers import get, is_null, put
from kernels_cuda.random import multiply_high, philox
from kernels_cuda.row import over_block
from kernels_cuda.scan import of_threads

THREADS = 256
ROOM = 12288  # numbers of a bucket that are shuffled in shared memory: half more than the largest mean size
CHUNK = 512  # draws that a block makes at a time
# the same as the CPU's: bits of a digit; and the logarithm's constants, from `kernels_cpu/logarithms.py`
MOST_BITS = 16
LARGEST, LN2, SQRT_HALF = 1.7976931348623157e308, 0.6931471805599453, 0x3FE6A09E667F3BCD
LOG = (
    0.6666666666666734,
    0.3999999999941672,
    0.28571428742001914,
    0.2222219860831624,
    0.1818356266169194,
    0.1531409006661492,
    0.14795578220211467,
)
words = types.CPointer(types.int64)
add, larger = device(lambda x, y: x + y), device(lambda x, y: x if x > y else y)
summed, greatest = over_block(add, int64, 0), over_block(larger, int64, 0)
before_threads = of_threads(add, int64, 0)
C0, C1, C2, C3, C4, C5, C6 = LOG


@device
def number_of_thread():
    return uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))


def permutation_digits(kind, form):
    """The bucket of each number. A thread has one counter, and so 8 numbers. Arguments: out, n, seed, counter, bits."""

    @device
    def put_four(out, i, n, word, drop):
        for k in range(4):
            if uint32(i + k) < n:
                put(out, uint32(i + k), int64(uint64(uint64(word >> uint64(16 * k)) & uint64(0xFFFF)) >> drop))

    @cuda.jit
    def kernel(out, n, seed, counter, bits):
        t = number_of_thread()
        i, drop = uint32(8 * t), uint64(uint64(MOST_BITS) - bits)
        if i < n:
            x, y = philox(uint64(counter + uint64(t)), seed)
            put_four(out, i, n, x, drop)
            put_four(out, uint32(i + 4), n, y, drop)

    return kernel, (words, types.uint32, types.uint64, types.uint64, types.uint64)


@device
def draw_of(seed, counter, i, count):
    """Draw i, of so many numbers."""
    x, y = philox(uint64(counter + uint64(i >> uint32(1))), seed)
    return uint32(multiply_high(y if i & uint32(1) else x, uint64(count)))


def permutation(kind, form):
    """Each bucket shuffled, a block for each: threads make draws, and one of them exchanges numbers, in shared memory if there is room.

    Arguments: out, numbers by bucket (null where there is one bucket), the bucket of each number, n, seed, counter.
    """

    @device
    def first_of(order, digits, n, bucket):
        """How many numbers are in the buckets before."""
        low, high = uint32(0), uint32(n)
        while low < high:
            middle = uint32(uint32(low + high) >> uint32(1))
            if get(digits, get(order, middle)) < bucket:
                low = uint32(middle + 1)
            else:
                high = middle
        return low

    @cuda.jit
    def kernel(out, order, digits, n, seed, counter):
        t, bucket = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        ends, numbers = cuda.shared.array(2, types.uint32), cuda.shared.array(ROOM, types.uint16)
        draws = cuda.shared.array(CHUNK, types.uint32)
        whole = is_null(order)
        if t < 2:
            ends[t] = (n if t else uint32(0)) if whole else first_of(order, digits, n, int64(uint32(bucket + t)))
        cuda.syncthreads()
        first, size = ends[0], uint32(ends[1] - ends[0])
        here = size <= ROOM
        at = uint64(counter + uint64(first >> uint32(1)) + uint64(bucket))
        i = t
        while i < size:
            if here:
                numbers[i] = uint16(i)
            else:
                put(out, uint32(first + i), get(order, uint32(first + i)) if not whole else int64(i))
            i = uint32(i + THREADS)
        start = uint32(0)
        while start < size:
            i = t
            while i < CHUNK and uint32(start + i) < size:
                k = uint32(start + i)
                draws[i] = uint32(k + draw_of(seed, at, k, uint32(size - k)))
                i = uint32(i + THREADS)
            cuda.syncthreads()
            if t == 0:
                i = uint32(0)
                while i < CHUNK and uint32(start + i) < size:
                    a, b = uint32(start + i), draws[i]
                    if here:
                        numbers[a], numbers[b] = numbers[b], numbers[a]
                    else:
                        x, y = get(out, uint32(first + a)), get(out, uint32(first + b))
                        put(out, uint32(first + a), y)
                        put(out, uint32(first + b), x)
                    i = uint32(i + 1)
            cuda.syncthreads()
            start = uint32(start + CHUNK)
        if here:
            i = t
            while i < size:
                k = uint32(numbers[i])
                put(out, uint32(first + i), int64(k) if whole else get(order, uint32(first + k)))
                i = uint32(i + THREADS)

    return kernel, (words, words, words, types.uint32, types.uint64, types.uint64)


def positives(kind, form):
    """``found[row]``: how many weights are above 0; -1 if one is negative or not a number, -2 if one is infinite. A block for each row.

    Arguments: found, weights, n of a row.
    """
    infinity = kind(inf)

    @cuda.jit
    def kernel(found, weights, n):
        row, i = uint32(cuda.blockIdx.x), uint32(cuda.threadIdx.x)
        count, fault = int64(0), int64(0)
        while i < n:
            w = get(weights, int64(row) * int64(n) + int64(i))
            if not w >= kind(0):
                fault = int64(2)
            elif w == infinity:
                fault = larger(fault, int64(1))
            elif w > kind(0):
                count += int64(1)
            i = uint32(i + THREADS)
        count, fault = summed(count), greatest(fault)
        if cuda.threadIdx.x == 0:
            put(found, row, count if fault == 0 else fault - int64(3))

    return kernel, (words, types.CPointer(kind), types.uint32)


def choices(kind, form):
    """``sums[row, j] = weights[row, 0] + ... + weights[row, j]``, as integers. A block for each row. Arguments: sums, weights, n of a row."""
    narrow = kind.bitwidth == 32
    fraction, bias = (23, 127) if narrow else (52, 1023)

    @device
    def bits_of(x):
        return int64(cuda.libdevice.float_as_int(x)) if narrow else int64(cuda.libdevice.double_as_longlong(x))

    @device
    def power_of_two(k):
        b = int64(k + int64(bias)) << int64(fraction)
        return cuda.libdevice.int_as_float(types.int32(b)) if narrow else cuda.libdevice.longlong_as_double(b)

    @cuda.jit
    def kernel(sums, weights, n):
        t = uint32(cuda.threadIdx.x)
        base = int64(cuda.blockIdx.x) * int64(n)
        top, i = int64(0), t
        while i < n:
            top = larger(top, bits_of(get(weights, base + int64(i))))
            i = uint32(i + THREADS)
        exponent = larger(greatest(top) >> int64(fraction), int64(1))
        power, below = int64(62 + bias - 1) - exponent, uint32(n - 1)
        while below:
            power -= int64(1)
            below = uint32(below >> uint32(1))
        half = power >> int64(1)
        first, second = power_of_two(half), power_of_two(power - half)
        total, start = int64(0), uint32(0)
        while start < n:
            i = uint32(start + t)
            value = int64(get(weights, base + int64(i)) * first * second) if i < n else int64(0)
            before, all_of = before_threads(value, t)
            if i < n:
                put(sums, base + int64(i), total + before + value)
            total += all_of
            start = uint32(start + THREADS)

    return kernel, (words, types.CPointer(kind), types.uint32)


def pairs(kind, formula):
    """A kernel that puts ``formula(source, base, categories, i, word)`` at i of a row, two to a thread.

    Arguments: out (rows of n), source, rows, n, categories, seed, counter. A row of the source begins at `base`.
    """

    @cuda.jit
    def kernel(out, source, rows, n, categories, seed, counter):
        t, per = number_of_thread(), uint32(uint32(n + uint32(1)) >> uint32(1))
        row = uint32(t // per)
        if row < rows:
            i = uint32(uint32(t - uint32(row * per)) << uint32(1))
            x, y = philox(uint64(counter + uint64(t)), seed)
            base, place = int64(row) * int64(categories), int64(row) * int64(n) + int64(i)
            put(out, place, formula(source, base, categories, i, x))
            if uint32(i + 1) < n:
                put(out, place + int64(1), formula(source, base, categories, uint32(i + 1), y))

    return kernel, (words, types.CPointer(kind), types.uint32, types.uint32, types.uint32, types.uint64, types.uint64)


def lookup(kind, form):
    """``out[row, i]``: the first category whose sum is above a random number."""

    @device
    def formula(sums, base, categories, i, word):
        low, high = uint32(0), uint32(categories - 1)
        x = int64(multiply_high(word, uint64(get(sums, base + int64(high)))))
        while low < high:
            middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))
            if get(sums, base + int64(middle)) > x:
                high = middle
            else:
                low = uint32(middle + 1)
        return int64(low)

    return pairs(kind, formula)


@device
def clock(x, weight):
    """``-log(x) / weight``"""
    above = cuda.libdevice.double_as_longlong(x) - int64(SQRT_HALF)
    m = cuda.libdevice.longlong_as_double((above & int64((1 << 52) - 1)) + int64(SQRT_HALF))
    e = float64(above >> int64(52))
    f = m - float64(1)
    s = f / (float64(2) + f)
    z = s * s
    p = fma(z, fma(z, fma(z, float64(C6), float64(C5)), float64(C4)), float64(C3))
    p = fma(z, fma(z, fma(z, p, float64(C2)), float64(C1)), float64(C0))
    return -fma(e, float64(LN2), s * fma(z, p, float64(2))) / weight


def race(kind, form):
    """``out[row, j]``: when a category's exponential clock rings, as the bits of a float64."""

    @device
    def formula(weights, base, categories, i, word):
        w = float64(get(weights, base + int64(i)))
        rings = float64(inf)
        if w > float64(0):
            rings = clock(float64(uint64(uint64(word >> uint64(11)) | uint64(1))) * float64(2.0**-53), w)
            if not rings < float64(LARGEST):
                rings = float64(LARGEST)
        return cuda.libdevice.double_as_longlong(rings)

    return pairs(kind, formula)
