"""Gradient rules that run natively: a fused kernel, a program of ops, or what undoes a view.

A program is a rule that was traced once, when it was declared: instructions, each an op and where its arguments come from (the
gradient, a saved value, an attribute, an earlier result, a constant). Nothing is compiled for it.
"""

from numba import njit

from numbatensor.core.arguments import arguments_room
from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import convert, copy_into
from numbatensor.core.copies import copy_run
from numbatensor.core.devices import ADD_EACH, KERNEL_RULE, on, there
from numbatensor.core.dispatch import perform
from numbatensor.core.graph import ATTRIBUTE, SAVED, unpack
from numbatensor.core.halves import computed
from numbatensor.core.iterate import POINTERS, advance, begin, operand, scalar_operand, sweep
from numbatensor.core.memory import decref, incref, load, store
from numbatensor.core.python import call_python
from numbatensor.core.quick import FEW, SHORT, new_pointers, new_short
from numbatensor.core.records import (
    Instruction,
    arguments_at,
    attribute_at,
    frame_at,
    new_arguments,
    new_frame,
    node_at,
    op_at,
    saved_at,
    tensor_at,
)
from numbatensor.core.table import FUSED, extra_kernel, kernel_of, runner
from numbatensor.core.tensors import FLOAT16, FLOAT32, alias, empty, is_packed, like, same_shape, shape_of, zero

NONE, IDENTITY, KERNEL, PROGRAM, UNDO_VIEW, PYTHON, SPLIT, CUSTOM = range(8)  # kinds of rule
GRAD, SAVED_VALUE, KEPT, RESULT, CONSTANT = range(5)  # origins of an instruction's argument
INSTRUCTION, SOURCE, SOURCES = Instruction.itemsize, 24, 16
ALL = -1  # saved values, as bits
MOST = 24  # instructions of one program


@njit
def gather(n, reads, g, pointers, room):
    """Bring the operands of a rule together for one call of its kernel; whether they are few, and lie in the same way.

    `room`: of the caller's, for a number, written out.
    """
    if g.device or g.contiguous == 0 or g.numel > FEW or g.dtype >= FLOAT16:
        return False
    store(pointers + 8, g.data)
    place = pointers + 16
    taken = False
    for k in range(n.saved):
        s = saved_at(n.saves + k * SAVED)
        if reads >> s.which & 1:
            if s.storage:
                if s.contiguous == 0 or not same_shape(s, g):
                    return False
                store(place, s.data)
            else:
                if taken or g.numel > SHORT:
                    return False
                taken = True
                copy_run(room, s.itemsize, s.data, 0, g.numel, s.itemsize)
                store(place, room)
            place += 8
    return True


@njit
def saved_operands(f, n, reads):
    """Add what a node saved, and a rule reads, as the next operands."""
    for k in range(n.saved):
        s = saved_at(n.saves + k * SAVED)
        if reads >> s.which & 1:
            if s.storage:
                operand(f, s)
            else:
                scalar_operand(f, s.data, s.itemsize)


@native
def run_kernel_rule(node, i, grad):
    """The gradient of input i by the op's fused rule: one kernel over the gradient and the saved values."""
    n = node_at(node)
    o, g = op_at(n.op), tensor_at(grad)
    if g.device:
        return on(g.device, there(KERNEL_RULE), node, i, grad)
    rule = extra_kernel(n.op, i, computed(g.dtype))
    pointers = new_pointers()
    if gather(n, o.saves[i], g, pointers, new_short()):
        out = like(g, g.dtype)
        if out:
            store(pointers, tensor_at(out).data)
            call(rule, pointers, g.numel)
            return out
    f = new_frame()
    begin(f, rule)
    shape_of(f, n)
    out = empty(f, g.dtype)
    operand(f, tensor_at(out))
    operand(f, g)
    saved_operands(f, n, o.saves[i])
    sweep(f, o.cost)
    return out


@native
def run_fused_rule(node, which, grad, results):
    """The gradients of several inputs, the bits of `which`, by one kernel over the gradient and all that is saved: new references, in order."""
    n, g, f = node_at(node), tensor_at(grad), new_frame()
    o, count = op_at(n.op), 0
    kernel = load(o.fused + 8 * (16 * which + g.dtype))
    if kernel == 0:
        kernel = call_python("resolve", n.op, FUSED + which, g.dtype)
    begin(f, kernel)
    shape_of(f, n)
    for i in range(n.inputs):
        if which >> i & 1:
            out = empty(f, g.dtype)
            store(results + 8 * count, out)
            operand(f, tensor_at(out))
            count += 1
    pointers = new_pointers()
    if gather(n, ALL, g, pointers + 8 * (count - 1), new_short()):
        for k in range(count):
            store(pointers + 8 * k, tensor_at(load(results + 8 * k)).data)
        call(kernel, pointers, g.numel)
        return 0
    frame_at(f).outputs = count
    operand(f, g)
    saved_operands(f, n, ALL)
    sweep(f, o.cost * count)
    return 0


@njit
def recall(node, a, k, which):
    """Make argument k the attribute of a node."""
    b = attribute_at(node_at(node).attributes + which * ATTRIBUTE)
    if b.kind == 5:
        start = arguments_room(a, k, b.length)
        for i in range(b.length):
            a.lists[start + i] = load(b.value + 8 * i)
    else:
        a.tensors[k], a.kinds[k], a.numbers[k] = 0, b.kind, b.value


@njit
def saved_slot(n, which):
    """The slot in which a node saved its output (0) or argument `which`; -1 where that was no tensor."""
    for k in range(n.saved):
        if saved_at(n.saves + k * SAVED).which == which:
            return k
    return -1


@njit
def fill(node, place, grad, results, a):
    """Bring the arguments of an instruction together. Saved tensors are new references, which the caller gives back."""
    a.room, a.count = 0, load(place + 8)
    for k in range(a.count):
        source = place + SOURCES + k * SOURCE
        origin, value = load(source), load(source + 8)
        a.tensors[k] = a.kinds[k] = 0
        if origin == GRAD:
            a.tensors[k] = grad
            incref(grad)
        elif origin == RESULT:
            a.tensors[k] = load(results + 8 * value)
            incref(a.tensors[k])
        elif origin == SAVED_VALUE:
            slot = saved_slot(node_at(node), value)
            if slot == -1:
                recall(node, a, k, value - 1)
            else:
                a.tensors[k] = unpack(node, slot)
        elif origin == KEPT:
            recall(node, a, k, value)
        else:
            a.kinds[k], a.numbers[k] = load(source + 16), value


@njit
def written_out(t):
    """A tensor of one value everywhere, such as a sum's gradient: as contiguous memory where that is short. Takes and gives a reference."""
    x = tensor_at(t)
    if x.device or x.contiguous or x.requires_grad or x.numel > SHORT:
        return t
    for i in range(x.ndim):
        if x.shape[i] != 1 and x.strides[i]:
            return t
    made = like(x, x.dtype)
    if made == 0:
        return t
    copy_run(tensor_at(made).data, x.itemsize, x.data, 0, x.numel, x.itemsize)
    decref(t)
    return made


@native
def run_program(node, program, grad):
    """The gradient of an input by a program; what it reads has been checked."""
    arguments, results = new_arguments(), new_frame()
    a = arguments_at(arguments)
    count = load(program)
    made = 0
    for j in range(count):
        place = program + 8 + j * INSTRUCTION
        fill(node, place, grad, results, a)
        # an op may replace its arguments by converted ones, so what is given back is noted before
        held = results + 8 * MOST
        for k in range(a.count):
            store(held + 8 * k, a.tensors[k])
        made = attempt(symbol("perform"), load(place), arguments)
        for k in range(load(place + 8)):
            decref(load(held + 8 * k))
        if made == -1:
            for k in range(j):
                decref(load(results + 8 * k))
            fail()
        store(results + 8 * j, made)
    for j in range(count - 1):
        decref(load(results + 8 * j))
    return written_out(made)


@native
def add_each_in_order(y, x):
    """y += x, element by element in order: elements of y may name one place. Unrecorded; x is expanded to y's shape."""
    a, f = tensor_at(y), new_frame()
    begin(f, kernel_of(symbol("op_add"), a.dtype))
    shape_of(f, a)
    operand(f, a)
    operand(f, a)
    operand(f, tensor_at(x))
    g = frame_at(f)
    if a.numel == 0:
        return 0
    for i in range(g.ndim):
        g.index[i] = 0
    while True:
        call(g.kernel, f + POINTERS, 1)
        if not advance(g, g.ndim):
            break
    return 0


@native
def add_each(y, x):
    """y += x, element by element in order: elements of y may name one place. Unrecorded; x is expanded to y's shape."""
    return call(there(ADD_EACH), y, x) if tensor_at(y).device else add_each_in_order(y, x)


@native
def viewed(node, dtype):
    """A view like the one that a node's op made, of a new tensor, which it owns as its base."""
    n = node_at(node)
    o = op_at(n.op)
    arguments, f = new_arguments(), new_frame()
    a, shape = arguments_at(arguments), frame_at(f)
    a.room, a.count = 0, o.operands
    size = attribute_at(n.attributes + o.operands * ATTRIBUTE)
    shape.ndim = size.length
    for i in range(size.length):
        shape.shape[i] = load(size.value + 8 * i)
    for k in range(1, o.operands):
        recall(node, a, k, k)
    whole = empty(f, dtype)
    a.tensors[0], a.kinds[0] = whole, 0
    view = attempt(runner(n.op), n.op, arguments, 0)
    decref(whole)
    if view == -1:
        fail()
    return view


@native
def undo_view(node, grad):
    """Zeros in the shape of what was viewed, with the gradient at the places that the view shows."""
    g = tensor_at(grad)
    if g.dtype < FLOAT16 or op_at(node_at(node).op).trait == 0:
        return on(g.device, symbol("unviewed"), node, grad, 0)
    # elements that meet are added up in float32
    wide = convert(grad, FLOAT32)
    whole = attempt(symbol("unviewed_on"), node, wide, g.device)
    decref(wide)
    if whole == -1:
        fail()
    rounded = attempt(symbol("convert"), whole, g.dtype)
    decref(whole)
    if rounded == -1:
        fail()
    return rounded


@native
def unviewed_on(node, grad, device):
    """The same, on a device."""
    return on(device, symbol("unviewed"), node, grad, 0)


@native
def unviewed(node, grad, unused):
    """The same, where this thread makes its tensors."""
    view = viewed(node, tensor_at(grad).dtype)
    whole = tensor_at(view).base
    zero(whole)
    if op_at(node_at(node).op).trait:
        failed = attempt(symbol("add_each"), view, grad) == -1
    else:
        failed = attempt(symbol("copy_into"), view, grad) == -1
    incref(whole)
    decref(view)
    if failed:
        decref(whole)
        fail()
    return whole


@njit
def put_sizes(a, k, x, strides):
    """Make argument k the shape, or the strides, of a tensor."""
    start = arguments_room(a, k, x.ndim)
    for i in range(x.ndim):
        a.lists[start + i] = x.strides[i] if strides else x.shape[i]


@native
def undo_view_recorded(node, grad):
    """The same as `undo_view`, as an op that is recorded."""
    view, arguments = viewed(node, tensor_at(grad).dtype), new_arguments()
    whole, a = tensor_at(view).base, arguments_at(arguments)
    a.room, a.count = 0, 6
    a.tensors[0], a.kinds[0] = grad, 0
    put_sizes(a, 1, tensor_at(whole), False)
    put_sizes(a, 2, tensor_at(whole), True)
    put_sizes(a, 3, tensor_at(view), False)
    put_sizes(a, 4, tensor_at(view), True)
    a.tensors[5], a.kinds[5], a.numbers[5] = 0, 2, tensor_at(view).data - tensor_at(whole).data
    decref(view)
    return perform(symbol("op_placed"), arguments)


@native
def split_part(grad, dim, start, length, new):
    """The part of a join's gradient that is one input's: a plain tensor over the same memory. `new`: of a stack."""
    t = alias(grad)
    y = tensor_at(t)
    y.data += start * y.strides[dim]
    if new:
        y.ndim -= 1
        for i in range(dim, y.ndim):
            y.shape[i], y.strides[i] = y.shape[i + 1], y.strides[i + 1]
    else:
        y.shape[dim] = length
    y.numel = 1
    for i in range(y.ndim):
        y.numel *= y.shape[i]
    y.contiguous = 1 if is_packed(y) else 0
    return t


@native
def run_rule_natively(node, i, grad):
    """The gradient of input i of a node whose rule is not Python's; a new reference."""
    o = op_at(node_at(node).op)
    kind = o.rule_kind[i]
    if kind == IDENTITY:
        incref(grad)
        return grad
    if kind == KERNEL:
        return run_kernel_rule(node, i, grad)
    if kind == UNDO_VIEW:
        return undo_view(node, grad)
    return run_program(node, o.program[i], grad)


@native
def run_rule_recorded(node, i, grad):
    """The gradient of input i of a node, as part of a graph."""
    o = op_at(node_at(node).op)
    kind = o.rule_kind[i]
    if o.again[i] > 0:
        return run_program(node, o.again[i], grad)
    if kind == IDENTITY:
        incref(grad)
        return grad
    return undo_view_recorded(node, grad)


@njit
def recordable(o, i):
    """Whether Python need not run the rule of input i where its result is part of a graph; 0 where that is not known."""
    if o.again[i]:
        return o.again[i] > 0
    kind = o.rule_kind[i]
    return kind == NONE or kind == IDENTITY or kind == UNDO_VIEW


assert convert and copy_into and perform and unviewed_on  # reached through their symbols
