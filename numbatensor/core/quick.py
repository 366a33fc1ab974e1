"""The short road of pointwise ops: over few elements that lie in the same way in memory there is nothing to broadcast, convert or walk.

Most of the time of an op on four elements is not spent on elements. What is asked here for the sake of other cases is asked once.
"""

import numpy as np
from numba import njit

from numbatensor.core.compiler import attempt, call, fail, symbol
from numbatensor.core.copies import copy_run
from numbatensor.core.graph import attach
from numbatensor.core.memory import decref, local, store
from numbatensor.core.modes import grad_enabled, inference_used
from numbatensor.core.promotion import put_number
from numbatensor.core.records import arguments_at, local_at, on_stack, op_at, storage_at, tensor_at
from numbatensor.core.tensors import FLOAT32, itemsize_of, new_contiguous, same_shape

FEW = 4096  # elements for which a kernel is called once, on this thread
SHORT = 256  # elements for which a number is written out as often as there are elements
ROOM = 3  # most operands of the short road, the result included
new_pointers = on_stack(np.dtype([("words", "i8", 16)]))
new_short = on_stack(np.dtype([("words", "i8", SHORT)]))


@njit
def write_out(room, dtype, kind, value, n):
    """A Python number, n times over, as elements of a dtype. `room`: of whole words, since the first is written as one."""
    put_number(room, dtype, kind, value)
    copy_run(room, itemsize_of(dtype), room, 0, n, itemsize_of(dtype))


@njit
def current(x):
    """Whether a tensor's history is what its record says: it is no view whose base was written since."""
    return x.base == 0 or x.seen == storage_at(x.storage).version


@njit
def fits(y, x):
    """Whether two tensors have one dtype, and their elements lie in the same way, on the CPU."""
    return y.dtype == x.dtype and y.device == 0 and y.contiguous != 0 and same_shape(y, x) and current(y)


@njit
def quick(op, arguments):
    """The result of a pointwise op of one or two operands, recorded, as a new reference; 0 where the long road has to be taken."""
    o, a = op_at(op), arguments_at(arguments)
    first, second = a.tensors[0], a.tensors[1] if o.operands == 2 else 0
    t = first if first else second
    if o.operands > 2 or o.masks or t == 0 or inference_used():
        return 0
    x = tensor_at(t)
    dtype = x.dtype
    kernel = o.kernel[dtype]
    here = local()
    if (
        x.device | local_at(here).device
        or dtype < FLOAT32
        or x.contiguous == 0
        or x.numel > FEW
        or kernel == 0
        or not current(x)
    ):
        return 0
    wanted = x.requires_grad
    pointers = new_pointers()
    store(pointers + 8, x.data)
    if o.operands == 2:
        if first and second:
            y = tensor_at(second)
            if not fits(y, x):
                return 0
            wanted |= y.requires_grad
            store(pointers + 16, y.data)
        else:
            k = 1 if first else 0
            if x.numel > SHORT or a.kinds[k] > 3:
                return 0
            room = new_short()
            write_out(room, dtype, a.kinds[k], a.numbers[k], x.numel)
            store(pointers + 8 + 8 * k, room)
            store(pointers + 16 - 8 * k, x.data)
    made = new_contiguous(here, x, x.numel, o.result - 1 if o.result else dtype)
    if made == 0:
        return 0
    store(pointers, tensor_at(made).data)
    call(kernel, pointers, x.numel)
    if wanted and o.result == 0 and grad_enabled():
        node = attempt(symbol("record"), op, made, arguments, dtype, 0)
        if node == -1:
            decref(made)
            fail()
        attach(made, node)
    return made
