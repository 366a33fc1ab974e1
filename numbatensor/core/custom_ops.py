"""Custom ops: a user's compiled forward and backward, run over tensors and recorded.

Both are reached as code ``(words, results)``, which gives 0, or -1 where a Python error is set, or 1 + the output that shows memory of an
argument. `words` of a forward: an argument each, a contiguous tensor or the word of a number. Of a backward: what was saved of the
arguments, and of the outputs (0: nothing); the gradients of the outputs; whether each argument's gradient is wanted.
"""

from numba import njit

from numbatensor.core.compiler import attempt, call, fail, native, symbol
from numbatensor.core.conversions import contiguous_copy, copy_into
from numbatensor.core.custom import describe_output
from numbatensor.core.devices import need_cpu
from numbatensor.core.graph import (
    ATTRIBUTE,
    NATIVE,
    SIDE,
    attach,
    link,
    needs_grad,
    new_node,
    output_of,
    save,
    settle,
)
from numbatensor.core.memory import decref, free, incref, load, local, malloc, memset, store
from numbatensor.core.modes import grad_enabled
from numbatensor.core.python import (
    argument,
    as_long,
    box,
    call_python,
    entry,
    gil_held,
    new_tuple,
    restore_thread,
    save_thread,
    set_item,
    tuple_item,
    unboxed,
)
from numbatensor.core.recording import told
from numbatensor.core.records import (
    attribute_at,
    block_at,
    custom_at,
    new_frame,
    new_view,
    node_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.sites import enter_site, leave_site
from numbatensor.core.table import INFERENCE_SAVE
from numbatensor.core.tensors import (
    FLOAT32,
    alias,
    blank,
    empty,
    is_packed,
    itemsize_of,
    shape_of,
    storage_over,
)
from numbatensor.core.writes import bump, check_write, extent, rebase

NO_BACKWARD, ALIASES, GRAD_SHAPE = range(3)
TENSOR = 0  # in a plan


@njit
def kind_of(o, i):
    """What parameter i is."""
    return load(o.plan + 8 * i)


@njit
def saves_input(o, i):
    return load(o.plan + 8 * (o.parameters + i))


@njit
def is_float(o, k):
    """Whether output k can have a gradient."""
    return load(o.plan + 8 * (2 * o.parameters + k))


@njit
def saves_output(o, k):
    return load(o.plan + 8 * (2 * o.parameters + o.outputs + k))


@njit
def release(words, n):
    """Give back n tensors, or zeros."""
    for k in range(n):
        decref(load(words + 8 * k))
        store(words + 8 * k, 0)


@njit
def take_inputs_back(o, words):
    """Give back the tensors that were lent for the arguments, or zeros."""
    for i in range(o.parameters):
        if kind_of(o, i) == TENSOR:
            decref(load(words + 8 * i))


@njit
def shows_an_argument(op, words, x):
    """Whether a tensor lies in the memory of an argument."""
    low, high = extent(x)
    o = custom_at(op)
    for i in range(o.parameters):
        if kind_of(o, i) == TENSOR:
            s = storage_at(tensor_at(load(words + 8 * i)).storage)
            if s.nbytes and low < s.data + s.nbytes and s.data < high:
                return True
    return False


@native
def custom_result(op, words, place, wanted, data, dtype, ndim, geometry, meminfo):
    """Put a new tensor of an array's elements at a place; 1 where the array shows memory of an argument. `op`: 0 in a backward.

    `wanted`: the tensor's dtype. `geometry`: address of the sizes and, after them, the strides. The tensor takes over the memory where
    nothing else holds it.
    """
    view, f = new_view(), new_frame()
    x = tensor_at(view)
    x.data, x.dtype, x.itemsize, x.ndim, x.numel, x.device = data, dtype, itemsize_of(dtype), ndim, 1, 0
    for i in range(ndim):
        x.shape[i], x.strides[i] = load(geometry + 8 * i), load(geometry + 8 * (ndim + i))
        x.numel *= x.shape[i]
    if op and x.numel and shows_an_argument(op, words, x):
        return 1
    if dtype == wanted and meminfo and x.numel and is_packed(x) and block_at(meminfo).refcount == 1:
        s = storage_over(local(), data, x.numel * x.itemsize, meminfo)
        if s:
            t = blank(s, data)
            y = tensor_at(t)
            y.dtype, y.itemsize, y.ndim, y.numel, y.contiguous = dtype, x.itemsize, ndim, x.numel, 1
            for i in range(ndim):
                y.shape[i], y.strides[i] = x.shape[i], x.strides[i]
            store(place, t)
            return 0
    shape_of(f, x)
    t = empty(f, wanted)
    failed = attempt(symbol("copy_into"), t, view) == -1
    if failed:
        decref(t)
        fail()
    store(place, t)
    return 0


@njit
def run_user(o, function, words, results):
    """Run compiled code of a user's, without the GIL where it was declared so."""
    thread = save_thread() if o.nogil and gil_held() else 0
    code = call(function, words, results)
    if thread:
        restore_thread(thread)
    return code


@native
def lent(t):
    """What a user's function gets of a tensor: a contiguous one, over the same memory where that is, which has no other owner."""
    if tensor_at(t).contiguous:
        return alias(t)
    return contiguous_copy(t, tensor_at(t).dtype, 0)


@native
def lend_arguments(op, words, inner):
    """The arguments as a forward gets them; those that share memory with what is written, as copies."""
    o = custom_at(op)
    for i in range(o.parameters):
        t = load(words + 8 * i)
        if kind_of(o, i) == TENSOR:
            if o.in_place and i and tensor_at(t).storage == tensor_at(load(words)).storage:
                t = contiguous_copy(t, tensor_at(t).dtype, 0)
            else:
                t = lent(t)
        store(inner + 8 * i, t)
    return 0


@njit
def wants_record(o, words):
    """Whether a call becomes part of the graph."""
    if not grad_enabled():
        return False
    for i in range(o.parameters):
        if kind_of(o, i) == TENSOR:
            x = tensor_at(load(words + 8 * i))
            if x.dtype >= FLOAT32 and needs_grad(x):
                for k in range(o.outputs):
                    if is_float(o, k):
                        return True
    return False


@native
def prepare_record(op, words):
    """Fail where a call cannot be recorded; make the arguments ready for it."""
    o = custom_at(op)
    if o.differentiable == 0:
        call_python("custom_error", NO_BACKWARD, op, 0, 0)
    for i in range(o.parameters):
        t = load(words + 8 * i)
        if kind_of(o, i) == TENSOR:
            settle(t)
            if saves_input(o, i) and storage_at(tensor_at(t).storage).inference:
                call_python("complain", INFERENCE_SAVE, 0, 0, 0)
    return 0


@native
def record_custom(op, words, outs):
    """Make a call part of the graph."""
    o = custom_at(op)
    n, count = o.parameters, 0
    for i in range(n):
        count += saves_input(o, i)
    for k in range(o.outputs):
        count += saves_output(o, k)
    node = new_node(NATIVE, op, n, count, (n + 2) * ATTRIBUTE // 8 + (o.outputs - 1) * (SIDE // 8), load(outs))
    m = node_at(node)
    m.more = m.attributes + (n + 2) * ATTRIBUTE
    for i in range(n + 2):
        b = attribute_at(m.attributes + i * ATTRIBUTE)
        b.kind, b.value, b.length = 4, 0, 0
        if i < n and kind_of(o, i) != TENSOR:
            b.kind, b.value = kind_of(o, i), load(words + 8 * i)
    for k in range(o.outputs):
        describe_output(output_of(node, k), tensor_at(load(outs + 8 * k)))
    m.outputs = o.outputs
    slot = 0
    for i in range(n):
        t = load(words + 8 * i)
        if kind_of(o, i) == TENSOR:
            link(node, i, t)
        if saves_input(o, i):
            save(node, slot, t, 1 + i, storage_at(tensor_at(t).storage).version)
            slot += 1
    for k in range(o.outputs):
        t = load(outs + 8 * k)
        if saves_output(o, k):
            save(node, slot, t, -k, storage_at(tensor_at(t).storage).version)
            slot += 1
    told(node)
    for k in range(o.outputs):
        t = load(outs + 8 * k)
        if is_float(o, k):
            incref(node)
            if o.in_place:
                rebase(t, node)
            else:
                attach(t, node)
                tensor_at(t).output_nr = k
    decref(node)
    return 0


@native
def custom_call(op, words):
    """Run a custom op. `words`: the arguments, room for as many again, and room for the results, which are new references."""
    o = custom_at(op)
    n = o.parameters
    inner, outs = words + 8 * n, words + 16 * n
    memset(inner, 0, 8 * (n + o.outputs))
    for i in range(n):
        if kind_of(o, i) == TENSOR:
            need_cpu(tensor_at(load(words + 8 * i)).device)
    recorded = wants_record(o, words)
    if recorded:
        prepare_record(op, words)
    target = load(words) if o.in_place else 0
    if target:
        check_write(op, target, 1 if recorded else 0)
    code = attempt(symbol("lend_arguments"), op, words, inner)
    direct = target and tensor_at(target).contiguous
    if code == 0:
        if direct:
            bump(op, target)  # before, as a forward that fails has written too
        code = run_user(o, o.forward, inner, outs)
    if target and code == 0:
        if not direct:
            copy_into(target, load(inner))
            bump(op, target)
        incref(target)
        store(outs, target)
    take_inputs_back(o, inner)
    if code == 0 and recorded:
        code = attempt(symbol("record_custom"), op, words, outs)
    if code:
        release(outs, o.outputs)
        if code > 0:
            call_python("custom_error", ALIASES, op, code - 1, 0)
        fail()
    return 0


@njit
def new_words(o):
    """Room for what `custom_call` takes and gives."""
    return malloc(8 * (2 * o.parameters + o.outputs))


@entry
def custom_apply(self, args, count):
    """(row, arguments) -> what a custom op gives; the arguments are tensors, and the words of numbers"""
    op, given = as_long(argument(args, 0)), argument(args, 1)
    o = custom_at(op)
    for i in range(o.parameters):
        if kind_of(o, i) == TENSOR:
            unboxed(tuple_item(given, i))  # fails for an empty box, before there is anything to give back
    words = new_words(o)
    for i in range(o.parameters):
        item = tuple_item(given, i)
        store(words + 8 * i, unboxed(item) if kind_of(o, i) == TENSOR else as_long(item))
    made = attempt(symbol("custom_call"), op, words)
    outs = words + 16 * o.parameters
    if made == 0 and o.several:
        made = new_tuple(o.outputs)
        for k in range(o.outputs):
            set_item(made, k, box(load(outs + 8 * k)))
    elif made == 0:
        made = box(load(outs))
    free(words)
    if made == -1:
        fail()
    return made


@native
def compiled_custom(op, words, site):
    """Run a custom op, at a line of the user's."""
    enter_site(site)
    made = attempt(symbol("custom_call"), op, words)
    leave_site()
    if made == -1:
        fail()
    return 0
