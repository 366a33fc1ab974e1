"""Random fills of tensors of CUDA devices: the numbers that the CPU draws (`kernels_cuda/random.py`)."""

from numba import njit

from numbatensor.core.compiler import native, symbol
from numbatensor.core.devices import parameter, parameters, start
from numbatensor.core.memory import bits, load, number
from numbatensor.core.promotion import put_number
from numbatensor.core.records import new_frame, new_launch, tensor_at
from numbatensor.core.there import MOST, THREADS, kernel_there

FLOAT, TRIALS = 3, 1


@njit
def in_type(dtype, value):
    """A float64 as an element of a dtype."""
    place = new_frame()
    put_number(place, dtype, FLOAT, bits(value))
    return load(place)


@native
def random_fill_there(op, out, seed, offset, a, b, p):
    """The same as `random_fill`, for a tensor of a device."""
    x, launch, done = tensor_at(out), new_launch(), 0
    first, second, third = a, b, 0
    if op == symbol("op_bernoulli"):
        first, second = int(number(a)), in_type(x.dtype, number(b))
    elif op != symbol("op_random"):
        low, high = number(a), number(b)
        first = in_type(x.dtype, 1.0 / low if op == symbol("op_exponential") else low)
        second, third = in_type(x.dtype, high), in_type(x.dtype, high - low)
    kernel = kernel_there(op, TRIALS if p else 0, 0, x.dtype)
    while done < x.numel:
        n = min(MOST - 4, x.numel - done)
        parameters(launch, (x.data + done * x.itemsize, tensor_at(p).data + done * tensor_at(p).itemsize if p else 0))
        for word in (n, done, seed, offset, first, second, third):
            parameter(launch, word)
        start(op, kernel, ((n + 1) // 2 + THREADS - 1) // THREADS, 1, THREADS, 0, launch, x.device)
        done += n
    return 0
