"""How gradients that reach one place are added up: brought to its shape and dtype, in place where nobody can see it."""

from numba import njit

from numbatensor.core.compiler import attempt, external, fail, native, symbol
from numbatensor.core.devices import STRAY, on
from numbatensor.core.dispatch import launch, perform, pointwise
from numbatensor.core.graph import (
    LOCK,
)
from numbatensor.core.halves import computed
from numbatensor.core.memory import claim, decref, exchange, incref, load
from numbatensor.core.python import LATE, call_python, gil_held, late, restore_thread, save_thread
from numbatensor.core.records import (
    arguments_at,
    block_at,
    new_arguments,
    output_at,
    state_at,
    tensor_at,
)
from numbatensor.core.table import kernel_of
from numbatensor.core.tensors import same_shape
from numbatensor.core.write_log import SAVE
from numbatensor.core.writes import bump

SUM_TO = LATE.index("sum_to")
sched_yield = external("sched_yield", 0, small=True)


@njit
def only_owner(t):
    """Whether a tensor is a plain buffer that nobody else can see."""
    x = tensor_at(t)
    return (
        block_at(t).refcount == 1
        and block_at(x.storage).refcount == 1
        and x.contiguous != 0
        and x.requires_grad == 0
        and x.base == 0
    )


@njit
def put_pair(a, x, y):
    """Make two tensors the arguments."""
    r = arguments_at(a)
    r.tensors[0], r.tensors[1] = x, y
    r.kinds[0] = r.kinds[1] = 0


@native
def add_in_place(x, y):
    """x += y for tensors of one shape and dtype, unrecorded."""
    a, dtype = new_arguments(), tensor_at(x).dtype
    put_pair(a, x, y)
    kernel = 0 if tensor_at(x).device else kernel_of(symbol("op_add"), computed(dtype))
    return launch(symbol("op_add"), kernel, a, x, dtype)


@native
def added(x, y, unused):
    """x + y where this thread makes its tensors."""
    a = new_arguments()
    put_pair(a, x, y)
    return pointwise(symbol("op_add"), a, 0)


@native
def add_tensors(x, y):
    """x + y, recorded where it is wanted."""
    return on(tensor_at(x).device, symbol("added"), x, y, 0)


@native
def fitted(output, grad):
    """A gradient with the shape and dtype of a node's output: summed over what was broadcast. Takes and gives a reference."""
    o, g = output_at(output), tensor_at(grad)
    if o.device != g.device:
        decref(grad)
        call_python("driver_failed", STRAY, o.device, g.device)
    if not same_shape(o, g):
        summed = attempt(late(SUM_TO), grad, output)
        decref(grad)
        if summed == -1:
            fail()
        grad = summed
    if tensor_at(grad).dtype != o.dtype:
        converted = attempt(symbol("convert"), grad, o.dtype)
        decref(grad)
        if converted == -1:
            fail()
        grad = converted
    return grad


@njit
def shared(t):
    """Whether somebody else can see a tensor's memory: through another tensor, or as a gradient somewhere else."""
    x = tensor_at(t)
    tensors = block_at(x.storage).refcount - (block_at(x.storage).refcount >> 32) * SAVE  # owners that are no saves
    return block_at(t).refcount != 1 or tensors != 1 or x.contiguous == 0 or x.base != 0


@njit
def spread(x):
    """Whether elements of a tensor share a place in memory."""
    for i in range(x.ndim):
        if x.strides[i] == 0 and x.shape[i] > 1:
            return True
    return False


@native
def add_grad(old, grad, recorded):
    """The gradient that is kept, after another reached it: `grad` or `old` themselves where they can be. Gives a reference."""
    if old == 0:
        if only_owner(grad) or (recorded and not shared(grad)):
            incref(grad)
            return grad
        if recorded:
            a = new_arguments()
            r = arguments_at(a)
            r.count, r.room, r.tensors[0], r.kinds[0] = 1, 0, grad, 0
            return perform(symbol("op_clone"), a)
        return on(tensor_at(grad).device, symbol("contiguous_copy"), grad, tensor_at(grad).dtype, 0)
    if recorded or tensor_at(old).requires_grad or spread(tensor_at(old)):
        return add_tensors(old, grad)
    add_in_place(old, grad)
    bump(symbol("op_add"), old)
    incref(old)
    return old


@native
def accumulate(node, output, grad, recorded):
    """Add to the gradient that is kept for a node's output. Takes the reference."""
    mine = 1 + state_at(symbol("state")).forks
    while claim(node + LOCK, mine, 0) == 0:
        held = load(node + LOCK)
        if held and held != mine and claim(node + LOCK, mine, held):
            break  # a thread held it when this process was forked
        if gil_held():
            thread = save_thread()
            sched_yield()
            restore_thread(thread)
    o = output_at(output)
    old = o.grad
    incref(old)  # a long addition lets other threads run, which may set `.grad`
    made = attempt(symbol("add_grad"), old, grad, recorded)
    if made != -1 and made != old:
        replaced = o.grad
        o.grad = made
        decref(replaced)
    elif made != -1:
        decref(made)
    exchange(node + LOCK, 0)
    decref(old)
    decref(grad)
    if made == -1:
        fail()
    return 0
