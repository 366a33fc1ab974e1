"""Permutations and weighted choices on CUDA devices: those that the CPU draws (`kernels_cuda/sampling.py`)."""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import copy_into, empty_on
from numbatensor.core.device_sort import sorted_rows
from numbatensor.core.devices import WAITS, on, parameter, parameters, refuse_capture, replace_device, start, use
from numbatensor.core.memory import decref
from numbatensor.core.records import new_launch, tensor_at
from numbatensor.core.sampling import CHOICES, POSITIVES, RACE, bucket_bits, counters_of, digit_counters
from numbatensor.core.there import THREADS, kernel_there

INT64 = 5
DIGITS = 1  # the kernel of randperm beside its own
DRAW = 1 + RACE  # looks up draws among the sums that CHOICES has made
assert copy_into and empty_on and sorted_rows  # reached through their symbols


@njit
def blocks_for(n):
    return (n + THREADS - 1) // THREADS


@native
def digits_there(out, seed, offset):
    """The buckets of numbers, as words."""
    made, launch, op = (
        on(tensor_at(out).device, symbol("empty_like"), out, INT64, 0),
        new_launch(),
        symbol("op_randperm"),
    )
    t = tensor_at(made)
    parameters(launch, (t.data, t.numel, seed, offset, bucket_bits(t.numel)))
    kernel = kernel_there(op, DIGITS, 0, INT64)
    if attempt(symbol("start"), op, kernel, blocks_for((t.numel + 7) // 8), 1, THREADS, 0, launch, t.device) == -1:
        decref(made)
        fail()
    return made


@native
def shuffle_there(out, digits, order, seed, offset):
    """Shuffle the buckets that `order` names one after the other; where it is 0, there is one."""
    x, launch, op = tensor_at(out), new_launch(), symbol("op_randperm")
    parameters(launch, (x.data, tensor_at(order).data if order else 0, tensor_at(digits).data if order else 0, x.numel))
    parameter(launch, seed)
    parameter(launch, offset + digit_counters(x.numel))
    return start(op, kernel_there(op, 0, 0, INT64), 1 << bucket_bits(x.numel), 1, THREADS, 0, launch, x.device)


@native
def permutation_there(op, out, seed, offset):
    """The same as `random_permutation`, for a vector of a device."""
    x, digits, order = tensor_at(out), 0, 0
    if x.numel == 0:
        return 0
    use(out)
    if bucket_bits(x.numel):
        digits = digits_there(out, seed, offset)
        before = replace_device(x.device)
        order = attempt(symbol("sorted_rows"), digits, x.numel, 0)
        replace_device(before)
    failed = order == -1
    if not failed:
        failed = attempt(symbol("shuffle_there"), out, digits, order, seed, offset) == -1
        decref(order)
    decref(digits)
    if failed:
        fail()
    return 0


@native
def start_faults(op, weights, found):
    """Launch what looks at each row of weights."""
    x, launch = tensor_at(weights), new_launch()
    parameters(launch, (tensor_at(found).data, x.data, x.shape[x.ndim - 1]))
    kernel = kernel_there(op, 1 + POSITIVES, 0, x.dtype)
    return start(op, kernel, tensor_at(found).numel, 1, THREADS, 0, launch, x.device)


@native
def weights_faults_there(op, weights, found):
    """The same as `faults_of`, for weights of a device: the host waits for what is found."""
    refuse_capture(WAITS, op)
    if tensor_at(found).numel == 0:
        return 0
    use(weights)
    far = on(tensor_at(weights).device, symbol("empty_like"), found, INT64, 0)
    failed = attempt(symbol("start_faults"), op, weights, far) == -1
    failed = failed or attempt(symbol("copy_into"), found, far) == -1
    decref(far)
    if failed:
        fail()
    return 0


@native
def multinomial_there(op, out, weights, rooms, seed, offset):
    """The same as `multinomial`, for tensors of a device."""
    x, y, launch = tensor_at(weights), tensor_at(out), new_launch()
    categories, samples = x.shape[x.ndim - 1], y.shape[y.ndim - 1]
    rows, pairs = y.numel // samples, counters_of(samples)
    use(out)
    use(weights)
    if rooms:
        parameters(launch, (tensor_at(rooms).data, x.data, categories))
        start(op, kernel_there(op, 1 + CHOICES, 0, x.dtype), rows, 1, THREADS, 0, launch, x.device)
    source = tensor_at(rooms).data if rooms else x.data
    parameters(launch, (y.data, source, rows, samples, categories, seed, offset))
    kernel = kernel_there(op, 1 + DRAW, 0, INT64) if rooms else kernel_there(op, 1 + RACE, 0, x.dtype)
    return start(op, kernel, blocks_for(rows * pairs), 1, THREADS, 0, launch, x.device)


assert digits_there and shuffle_there and start_faults  # reached through their symbols
