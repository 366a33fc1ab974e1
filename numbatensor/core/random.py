"""Random fills of tensors, and the counters that they use up.

A generator is two words in memory, its seed and its offset: the first counter that no fill has taken. A fill takes counters by one
atomic addition, so that threads which share a generator never draw the same numbers; what it makes of them is decided by the
seed, the offset and each element's place alone (`kernels_cpu.random`), not by threads or strides.
"""

from numba import njit

from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import copy_into, empty_on
from numbatensor.core.devices import RANDOM_FILL, there
from numbatensor.core.dispatch import perform_into
from numbatensor.core.entries import read_shape
from numbatensor.core.graph import NATIVE, link, needs_grad, new_node, settle
from numbatensor.core.halves import computed
from numbatensor.core.iterate import PARALLEL, parallel
from numbatensor.core.memory import atomic_add, bits, decref, load, number, store
from numbatensor.core.modes import grad_enabled
from numbatensor.core.python import (
    TYPE,
    add_reference,
    argument,
    as_float,
    as_long,
    box,
    clear_error,
    entry,
    from_long,
    gil_held,
    is_tensor,
    none,
    restore_thread,
    save_thread,
    tuple_item,
    tuple_size,
    unboxed,
)
from numbatensor.core.records import arguments_at, new_arguments, new_frame, op_at, tensor_at
from numbatensor.core.table import conversion, extra_kernel, kernel_of
from numbatensor.core.tensors import FLOAT16, FLOAT32, alias, empty
from numbatensor.core.writes import bump, check_write, rebase

INT32 = 4
CHUNK = 1 << 14  # elements of a thread's share; a multiple of 4, so that it begins with a counter
TRIALS, IMPROPER = 0, 1  # kernels of bernoulli that read a tensor of probabilities
KERNEL, OUT, ITEM, NUMEL, SEED, OFFSET, A, B, OTHER, STEP = range(0, 80, 8)  # words of a fill's context


@njit
def reserve(generator, n):
    """The first of the counters of n elements, which no other fill gets: two elements to a counter, which is enough for all."""
    return atomic_add(generator + 8, (n + 1) >> 1)


@njit
def run(function, context, pieces, cost):
    """Call ``function(context, piece)`` for each piece; where the work is long, without the GIL and on all threads."""
    if cost < PARALLEL:
        for i in range(pieces):
            call(function, context, i)
    elif gil_held():
        thread = save_thread()
        parallel(function, context, pieces)
        restore_thread(thread)
    else:
        parallel(function, context, pieces)


@native
def random_piece(context, i):
    """One chunk of a fill."""
    here = new_frame()
    first = CHUNK * i
    parameters = here + 64
    store(here, load(context + OUT) + first * load(context + ITEM))
    store(here + 8, parameters)
    store(here + 16, parameters + 24)
    store(here + 24, load(context + OTHER) + first * load(context + STEP))
    store(parameters, load(context + SEED))
    store(parameters + 8, load(context + OFFSET))
    store(parameters + 16, first)
    store(parameters + 24, load(context + A))
    store(parameters + 32, load(context + B))
    return call(load(context + KERNEL), here, min(CHUNK, load(context + NUMEL) - first))


@njit
def truncate(t, dtype):
    """Clear the bits of float32 numbers that a half type does not have: so that rounding does not lead up to the end of a range."""
    words, arguments = alias(t), new_arguments()
    a = arguments_at(arguments)
    tensor_at(words).dtype = INT32
    a.count, a.room, a.tensors[0], a.kinds[0], a.tensors[1], a.kinds[1] = 2, 0, words, 0, 0, 2
    a.numbers[1] = -(1 << 13) if dtype == FLOAT16 else -(1 << 16)
    made = attempt(symbol("perform_into"), symbol("op_bitwise_and"), arguments, words, 1)
    decref(words)
    if made != -1:
        decref(made)
    return made


@native
def random_fill(op, out, seed, offset, a, b, p):
    """Fill a contiguous tensor, of a dtype that is computed with, by a distribution of parameters a and b: bits of float64, or integers.

    `p`: a contiguous tensor that it reads, or 0.
    """
    x = tensor_at(out)
    if x.device:
        return call(there(RANDOM_FILL), op, out, seed, offset, a, b, p)
    context = new_frame()
    store(context + KERNEL, extra_kernel(op, TRIALS, x.dtype) if p else kernel_of(op, x.dtype))
    store(context + OUT, x.data)
    store(context + ITEM, x.itemsize)
    store(context + NUMEL, x.numel)
    store(context + SEED, seed)
    store(context + OFFSET, offset)
    store(context + A, a)
    store(context + B, b)
    store(context + OTHER, tensor_at(p).data if p else 0)
    store(context + STEP, tensor_at(p).itemsize if p else 0)
    run(symbol("random_piece"), context, (x.numel + CHUNK - 1) // CHUNK, x.numel * op_at(op).cost)
    return 0


@native
def random_write(op, out, seed, offset, a, b, p):
    """The same for a tensor of any dtype and strides: its elements are numbered in row-major order."""
    x = tensor_at(out)
    dtype = computed(x.dtype)
    if x.contiguous and x.dtype == dtype:
        return random_fill(op, out, seed, offset, a, b, p)
    if x.device == 0:  # what may fail comes before what allocates
        if p == 0:
            kernel_of(op, dtype)
        else:
            extra_kernel(op, TRIALS, dtype)
        conversion(x.dtype, dtype)
    made = empty_on(x.device, out, dtype)
    failed = attempt(symbol("random_fill"), op, made, seed, offset, a, b, p) == -1
    if not failed and x.dtype >= FLOAT16 and op == symbol("op_uniform"):
        failed = truncate(made, x.dtype) == -1
    failed = failed or attempt(symbol("copy_into"), out, made) == -1
    decref(made)
    if failed:
        fail()
    return 0


@native
def dropout_mask(op, out, keep, scale, seed, offset):
    """Fill a contiguous tensor with `scale`, or 0 where an element is dropped. `keep`, `scale`: bits of float64; `op`: bernoulli's row."""
    return random_write(op, out, seed, offset, bits(float(round(number(keep) * 4294967296.0))), scale, 0)


@njit
def parameter(obj):
    """The word of a Python number: an int, or the bits of a float."""
    return as_float(obj) if load(obj + TYPE) == symbol("type_float") else as_long(obj)


@njit
def plain_sizes(shape):
    """Whether a tuple holds ints only, none below 0."""
    for i in range(tuple_size(shape)):
        size = tuple_item(shape, i)
        if load(size + TYPE) != symbol("type_int") or as_long(size) < 0:
            return False
    return True


@entry
def new_random(self, args, count):
    """(row, shape, dtype code, generator's address, a, b) -> Tensor, or None for a shape that is not of plain sizes"""
    if not plain_sizes(argument(args, 1)):
        clear_error()
        return none()
    op, dtype, generator = as_long(argument(args, 0)), as_long(argument(args, 2)), as_long(argument(args, 3))
    kernel_of(op, computed(dtype))
    frame = new_frame()
    read_shape(argument(args, 1), frame)
    made = empty(frame, dtype)
    offset = reserve(generator, tensor_at(made).numel)
    random_write(op, made, load(generator), offset, parameter(argument(args, 4)), parameter(argument(args, 5)), 0)
    return box(made)


@entry
def new_trials(self, args, count):
    """(bernoulli's row, p, generator's address) -> a new Tensor like p, a contiguous one"""
    op, p, generator = as_long(argument(args, 0)), unboxed(argument(args, 1)), as_long(argument(args, 2))
    x = tensor_at(p)
    if x.device == 0:
        extra_kernel(op, TRIALS, computed(x.dtype))
    made = empty_on(x.device, p, x.dtype)
    if attempt(symbol("random_fill"), op, made, load(generator), reserve(generator, x.numel), 0, 0, p) == -1:
        decref(made)
        fail()
    return box(made)


@native
def overwrite_random(op, out, generator, a, b, p, source):
    """Fill a tensor in place: counted, and recorded where `out`, or the `source` of the probabilities p, is part of the graph."""
    x = tensor_at(out)
    wanted = (
        1
        if x.dtype >= FLOAT32 and grad_enabled() and (needs_grad(x) or source and needs_grad(tensor_at(source)))
        else 0
    )
    check_write(op, out, wanted)
    if wanted:
        settle(out)
        if source:
            settle(source)
    random_write(op, out, load(generator), reserve(generator, x.numel), a, b, p)
    bump(op, out)
    if wanted:
        node = new_node(NATIVE, op, 2, 0, 0, out)
        link(node, 0, out)
        if source:
            link(node, 1, source)
        rebase(out, node)
    return 0


@njit
def tensor_or_none(obj):
    return unboxed(obj) if is_tensor(obj) else 0


@entry
def write_random(self, args, count):
    """(row, x, generator's address, a, b, p, source): overwrite x, and give it back. `p`: `source`, contiguous in the shape of x; or None"""
    overwrite_random(
        as_long(argument(args, 0)),
        unboxed(argument(args, 1)),
        as_long(argument(args, 2)),
        parameter(argument(args, 3)),
        parameter(argument(args, 4)),
        tensor_or_none(argument(args, 5)),
        tensor_or_none(argument(args, 6)),
    )
    add_reference(argument(args, 1))
    return argument(args, 1)


@entry
def new_dropout_mask(self, args, count):
    """(bernoulli's row, x, generator's address, keep, scale) -> a mask of the shape and dtype of x"""
    op, like, generator = as_long(argument(args, 0)), unboxed(argument(args, 1)), as_long(argument(args, 2))
    x, keep, scale = tensor_at(like), as_float(argument(args, 3)), as_float(argument(args, 4))
    if x.device == 0:
        kernel_of(op, computed(x.dtype))
    made = empty_on(x.device, like, x.dtype)
    offset = reserve(generator, x.numel)
    if attempt(symbol("dropout_mask"), op, made, keep, scale, load(generator), offset) == -1:
        decref(made)
        fail()
    return box(made)


@entry
def any_improper(self, args, count):
    """(row, p) -> whether a contiguous tensor holds anything but probabilities"""
    p = tensor_at(unboxed(argument(args, 1)))
    here = new_frame()
    store(here, p.data)
    return from_long(call(extra_kernel(as_long(argument(args, 0)), IMPROPER, p.dtype), here, p.numel))


assert copy_into and dropout_mask and perform_into  # reached through their symbols
