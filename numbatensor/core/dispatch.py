"""The dispatch table, promotion, and the one road that every pointwise op takes from its arguments to its result."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from numbatensor.core.compiler import attempt, call, fail, i64, native, publish, symbol, word
from numbatensor.core.graph import (
    ATTRIBUTE,
    NATIVE,
    NUMBER,
    SAVED,
    attach,
    keep_attributes,
    link,
    needs_grad,
    new_node,
    node_of,
    save,
    settle,
)
from numbatensor.core.iterate import POINTERS, VARIANT, begin, operand, scalar_operand, sweep
from numbatensor.core.memory import decref, incref, load, number, store
from numbatensor.core.modes import grad_enabled
from numbatensor.core.python import LATE, call_python, late
from numbatensor.core.records import (
    POINTWISE,
    SIZE,
    STRUCTURED,
    Frame,
    Op,
    arguments_at,
    frame_at,
    new_frame,
    node_at,
    op_at,
    saved_at,
    storage_at,
    tensor_at,
)
from numbatensor.core.sites import mark
from numbatensor.core.tensors import FLOAT32, empty, itemsize_of, same_shape, shape_of

DTYPES = (np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64)
# codes 8 to 11 are reserved: float16, bfloat16, complex64, complex128
CODES: dict = {np.dtype(d): k for k, d in enumerate(DTYPES)}
INT64, BOOL = 5, 0
NUMBERS = Frame.fields["numbers"][1]

ROWS = 1024
TABLE = np.zeros(ROWS, Op)
publish("table", TABLE.ctypes.data)
RESERVED = (
    "to",
    "add",
    "sum",
    "reshape",
    "expand",
    "copy_slices",
    "as_strided_view",
    "copy",
)  # ops that the core itself runs
for k, name in enumerate(RESERVED):
    publish("op_" + name, TABLE.ctypes.data + k * Op.itemsize)
CONVERSIONS = np.zeros((16, 16), np.int64)  # kernels out = x, by target and source dtype
publish("conversions", CONVERSIONS.ctypes.data)

# What complain() is told.
NO_MEMORY, SHAPES, UNSUPPORTED, OUT_SHAPE, OUT_DTYPE, LEAF_IN_PLACE, OVERLAP, NO_GRAD_FN, FREED, RESTRICTED = range(10)
TOO_MANY_DIMENSIONS, EMPTY_BOX, OUT_GRAD, COPY_SHAPE, ZERO_DIVISION, NEGATIVE_POWER = range(10, 16)
DIVIDES, RAISES = 1, 2  # traits of pointwise ops: what their second operand must not be, of integers
REBASE_VIEW = LATE.index("rebase_view")
FIXED = -1  # resolve() is asked for FIXED - k: the variant of a pointwise kernel whose operand k is one value
RUN = -1  # what resolve() is asked for beside kernels: the code of `Op.run`


def promote_table():
    """PyTorch's promotion of two dtypes of one priority."""
    table = np.zeros((16, 16), np.int64)
    for x in range(8):
        for y in range(8):
            low, high = min(x, y), max(x, y)
            table[x, y] = high
            if low == 1 and high == 2:
                table[x, y] = 3  # uint8 and int8 fit in int16
    return table


PROMOTE = promote_table()
publish("promote", PROMOTE.ctypes.data)


@njit
def promote(x, y):
    """The dtype of two operands of one priority; -1 is none."""
    if x < 0:
        return y
    if y < 0:
        return x
    return load(symbol("promote") + 8 * (16 * x + y))


@njit
def outrank(high, low):
    """The dtype where the operands of higher priority have `high` and those of lower priority have `low`."""
    if high < 0:
        return low
    if high >= FLOAT32 or low < 0:
        return high
    if high == BOOL or low >= FLOAT32:
        return promote(high, low)
    return high


@njit
def common_dtype(a, tensors, masks):
    """The dtype that the arguments promote to that are not masks: dimensioned tensors over 0-d ones over Python numbers."""
    dims = zeros = numbers = -1
    for k in range(tensors):
        if masks >> k & 1:
            continue
        t = a.tensors[k]
        if t:
            x = tensor_at(t)
            if x.ndim:
                dims = x.dtype if dims == x.dtype else promote(dims, x.dtype)
            else:
                zeros = promote(zeros, x.dtype)
        elif a.kinds[k] == 3:
            numbers = promote(numbers, load(symbol("default_dtype")))
        else:
            numbers = promote(numbers, INT64 if a.kinds[k] == 2 else BOOL)
    return outrank(dims, outrank(zeros, numbers))


default_dtype = np.array([FLOAT32])
publish("default_dtype", default_dtype.ctypes.data)


@intrinsic
def put_float32(typingctx, address, value):
    def codegen(context, builder, signature, args):
        narrow = builder.fptrunc(args[1], ir.FloatType())
        builder.store(narrow, builder.inttoptr(args[0], ir.FloatType().as_pointer()))
        return context.get_dummy_value()

    return types.none(i64, types.float64), codegen


@njit
def put_number(address, dtype, kind, value):
    """Store a Python number as an element: `kind` 3 means that `value` is the bits of a float64."""
    if dtype >= FLOAT32:
        real = number(value) if kind == 3 else float(value)
        if dtype == FLOAT32:
            put_float32(address, real)
        else:
            store(address, bits_of(real))
    else:
        whole = int(number(value)) if kind == 3 else value
        store(address, (1 if whole else 0) if dtype == BOOL else whole)


@intrinsic
def bits_of(typingctx, value):
    return i64(types.float64), lambda context, builder, signature, args: builder.bitcast(args[0], word)


@njit
def kernel_of(op, dtype):
    """The kernel of an op for a compute dtype, compiled or loaded if this is its first use."""
    kernel = op_at(op).kernel[dtype]
    return kernel if kernel else call_python("resolve", op, 0, dtype)


@njit
def extra_kernel(op, i, dtype):
    """Kernel i of an op that has several."""
    kernel = op_at(op).rule[i, dtype]
    return kernel if kernel else call_python("resolve", op, 1 + i, dtype)


@njit
def runner(op):
    """The code that runs an op, compiled or loaded if this is its first use."""
    run = op_at(op).run
    return run if run else call_python("resolve", op, RUN, 0)


@njit
def refuse(op, arguments):
    """Fail because an op cannot take its arguments: the op's Python side says why."""
    return call_python("refused", op, arguments)


@njit
def conversion(target, source):
    """The kernel that converts elements."""
    kernel = load(symbol("conversions") + 8 * (16 * target + source))
    return kernel if kernel else call_python("resolve", 0, target, source)


@njit
def broadcast(frame, x):
    """Widen a frame's shape by a tensor's; whether they fit."""
    f = frame_at(frame)
    if x.ndim > f.ndim:
        grow = x.ndim - f.ndim
        for i in range(f.ndim - 1, -1, -1):
            f.shape[i + grow] = f.shape[i]
        for i in range(grow):
            f.shape[i] = 1
        f.ndim = x.ndim
    lead = f.ndim - x.ndim
    for i in range(x.ndim):
        if f.shape[lead + i] == 1:
            f.shape[lead + i] = x.shape[i]
        elif x.shape[i] != 1 and x.shape[i] != f.shape[lead + i]:
            return False
    return True


@native
def copy_into(out, x):
    """out[...] = x, converted and broadcast; neither is recorded nor counted."""
    a, b = tensor_at(out), tensor_at(x)
    f = new_frame()
    begin(f, 0 if a.dtype == b.dtype else conversion(a.dtype, b.dtype))
    shape_of(f, a)
    operand(f, a)
    operand(f, b)
    return sweep(f, 1)


@native
def convert(x, dtype):
    """The tensor in another dtype, recorded where it is wanted; a new reference."""
    t = tensor_at(x)
    if t.dtype == dtype:
        incref(x)
        return x
    conversion(dtype, t.dtype)
    f = new_frame()
    shape_of(f, t)
    made = empty(f, dtype)
    copy_into(made, x)
    if needs_grad(t) and grad_enabled() and dtype >= FLOAT32:
        settle(x)
        node = new_node(NATIVE, symbol("op_to"), 1, 0, 0, made)
        link(node, 0, x)
        attach(made, node)
    return made


@njit
def overlaps_itself(x):
    """Whether two indices of a tensor are known to name one element: a dimension that does not move."""
    for i in range(x.ndim):
        if x.shape[i] > 1 and x.strides[i] == 0:
            return x.numel != 0
    return False


@njit
def extent(x):
    """First byte of a tensor, and the byte after its last."""
    low = high = x.data
    for i in range(x.ndim):
        if x.strides[i] > 0:
            high += (x.shape[i] - 1) * x.strides[i]
        else:
            low += (x.shape[i] - 1) * x.strides[i]
    return low, high + x.itemsize


@njit
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@njit
def overlaps(out, x):
    """Whether writing `out` could change elements of x that are still to be read: they share memory, and not element by element."""
    if out.storage != x.storage or out.numel == 0 or x.numel == 0:
        return False
    if out.data == x.data and same_shape(out, x):
        same = True
        for i in range(out.ndim):
            same &= out.strides[i] == x.strides[i] or out.shape[i] == 1
        if same:
            return False
    a, b = extent(out)
    c, d = extent(x)
    if b <= c or d <= a:
        return False
    # all elements of each lie on a lattice; the two lattices may miss each other
    step = 0
    for i in range(out.ndim):
        if out.shape[i] > 1:
            step = gcd(step, abs(out.strides[i]))
    for i in range(x.ndim):
        if x.shape[i] > 1:
            step = gcd(step, abs(x.strides[i]))
    apart = (x.data - out.data) % step if step else 0
    return step == 0 or apart < out.itemsize or step - apart < x.itemsize


@native
def check_write(op, out, wanted):
    """Fail unless a tensor may be written in place. `wanted`: the write is recorded."""
    x = tensor_at(out)
    if overlaps_itself(x):
        call_python("complain", OVERLAP, op, out, 0)
    if grad_enabled():
        if x.base:
            b = tensor_at(x.base)
            if b.requires_grad and (b.node == 0 or node_at(b.node).kind == 0):
                call_python("complain", LEAF_IN_PLACE, op, out, 1)
            if x.restriction and (wanted or x.requires_grad or b.requires_grad):
                call_python("complain", RESTRICTED, op, out, x.restriction)
        elif x.requires_grad and (x.node == 0 or node_at(x.node).kind == 0):
            call_python("complain", LEAF_IN_PLACE, op, out, 0)
    return 0


@njit
def bump(op, out):
    """Count a write, and note who made it."""
    s = storage_at(tensor_at(out).storage)
    s.version += 1
    s.writer = op
    mark(s)


@native
def record(op, out, arguments, dtype, in_place):
    """Link `out` to the arguments, and save what the wanted rules read. `in_place`: slot of the argument that was overwritten."""
    o, a = op_at(op), arguments_at(arguments)
    wanted = 0
    for k in range(o.tensors):
        t = a.tensors[k]
        if t and needs_grad(tensor_at(t)):
            wanted |= o.saves[k]
    count = 0
    for k in range(o.operands + 1):
        count += wanted >> k & 1
    node = new_node(NATIVE, op, o.tensors, count, 0, out)
    for k in range(o.tensors):
        if o.rule_kind[k]:
            link(node, k, a.tensors[k])
    slot = 0
    for k in range(o.operands + 1):
        if wanted >> k & 1:
            if k == 0:
                save(node, slot, out, 0, storage_at(tensor_at(out).storage).version)
            elif a.tensors[k - 1]:
                t = a.tensors[k - 1]
                save(node, slot, t, k, storage_at(tensor_at(t).storage).version)
            else:
                address = node_at(node).saves + slot * SAVED
                s = saved_at(address)
                s.storage, s.data, s.dtype, s.itemsize, s.ndim, s.numel, s.contiguous = (
                    0,
                    address + NUMBER,
                    dtype,
                    itemsize_of(dtype),
                    0,
                    1,
                    1,
                )
                s.which, s.checksum = k, 0
                put_number(address + NUMBER, dtype, a.kinds[k - 1], a.numbers[k - 1])
            slot += 1
    return node


@native
def launch(op, kernel, arguments, out, dtype):
    """Run a kernel over the arguments, all of dtype `dtype` but masks, broadcast to the shape of `out`."""
    o, a, x = op_at(op), arguments_at(arguments), tensor_at(out)
    frame = new_frame()
    f = frame_at(frame)
    even = x.contiguous
    for k in range(o.operands):
        t = a.tensors[k]
        even = even and t != 0 and tensor_at(t).contiguous and same_shape(tensor_at(t), x)
    begin(frame, kernel)
    if o.operands == 2 and x.numel >= VARIANT:
        f.op, f.dtype = op, dtype
    if even and x.numel < 4096:
        f.pointers[0] = x.data
        for k in range(o.operands):
            f.pointers[k + 1] = tensor_at(a.tensors[k]).data
        return call(kernel, frame + POINTERS, x.numel)
    shape_of(frame, x)
    operand(frame, x)
    for k in range(o.operands):
        t = a.tensors[k]
        if t:
            operand(frame, tensor_at(t))
        else:
            address = frame + NUMBERS + 8 * k
            put_number(address, dtype, a.kinds[k], a.numbers[k])
            scalar_operand(frame, address, itemsize_of(dtype))
    return sweep(frame, o.cost)


@njit
def frame_of(frame, t):
    shape_of(frame, tensor_at(t))
    return frame


@njit
def reads(o, a, k):
    """Whether a wanted rule reads argument k."""
    for i in range(o.tensors):
        if a.tensors[i] and needs_grad(tensor_at(a.tensors[i])) and o.saves[i] >> (k + 1) & 1:
            return True
    return False


@njit
def category(dtype):
    """0 bool, 1 integer, 2 float: what an in-place op may not leave upwards."""
    return 0 if dtype == BOOL else 1 if dtype < FLOAT32 else 2


@native
def rebase(out, node):
    """Make a recorded write the history of the tensor it wrote; of a view's base too. Takes the reference."""
    x = tensor_at(out)
    attach(out, node)
    if x.base:
        call(late(REBASE_VIEW), out)
    return 0


@njit
def check_second(op, o, a):
    """Fail where integers would be divided by zero, or raised to a negative number."""
    if o.trait == RAISES:
        if a.kinds[1] == 2 and a.numbers[1] < 0:
            call_python("complain", NEGATIVE_POWER, op, 0, 0)
        return
    zero = a.kinds[1] != 0 and a.numbers[1] == 0
    if a.tensors[1]:
        t = tensor_at(a.tensors[1])
        zero = t.numel != 0 and call_python("has_zero", a.tensors[1]) != 0
    if zero:
        call_python("complain", ZERO_DIVISION, op, 0, 0)


@native
def pointwise(op, arguments, out):
    """Run a pointwise op; into `out` if that is not 0. Gives a new reference to the result."""
    o, a = op_at(op), arguments_at(arguments)
    dtype = common_dtype(a, o.tensors, o.masks)
    if o.promotes and dtype < FLOAT32:
        dtype = load(symbol("default_dtype"))
    if o.dtypes >> dtype & 1 == 0:
        call_python("complain", UNSUPPORTED, op, dtype, 0)
    if o.trait and dtype < FLOAT32:
        check_second(op, o, a)
    result = o.result - 1 if o.result else dtype
    frame = new_frame()
    frame_at(frame).ndim = 0
    mixed = wanted = 0
    for k in range(o.tensors):
        t = a.tensors[k]
        if t:
            x = tensor_at(t)
            if not broadcast(frame, x):
                call_python("complain", SHAPES, op, arguments, k)
            mixed |= (x.dtype != dtype and o.masks >> k & 1 == 0) << k
            wanted |= needs_grad(x)
    wanted = 1 if wanted and o.result == 0 and dtype >= FLOAT32 and grad_enabled() else 0
    kernel = kernel_of(op, dtype)
    if wanted:
        for k in range(o.tensors):
            if a.tensors[k]:
                settle(a.tensors[k])
    if out:
        y = tensor_at(out)
        if not same_shape(y, frame_at(frame)):
            call_python("complain", OUT_SHAPE, op, out, frame)
        if category(result) > category(y.dtype):
            call_python("complain", OUT_DTYPE, result, y.dtype, 0)
        check_write(op, out, wanted)
        for k in range(o.tensors):
            if a.tensors[k] and overlaps(y, tensor_at(a.tensors[k])):
                call_python("complain", OVERLAP, op, out, a.tensors[k])
        if y.dtype != result:
            conversion(y.dtype, result)
    if mixed:
        for k in range(o.tensors):
            if mixed >> k & 1:
                conversion(dtype, tensor_at(a.tensors[k]).dtype)
        for k in range(o.tensors):
            if mixed >> k & 1:
                a.tensors[k] = convert(a.tensors[k], dtype)
    made = out
    if out == 0 or tensor_at(out).dtype != result:
        made = empty(frame, result)
    elif wanted:
        # a rule that reads the value that is overwritten gets a copy of it
        for k in range(o.tensors):
            t = a.tensors[k]
            if t and tensor_at(t).storage == tensor_at(out).storage and reads(o, a, k):
                kept = empty(frame_of(frame, t), tensor_at(t).dtype)
                copy_into(kept, t)
                if tensor_at(t).requires_grad:
                    incref(node_of(t))
                    tensor_at(kept).node, tensor_at(kept).output_nr, tensor_at(kept).requires_grad = (
                        node_of(t),
                        tensor_at(t).output_nr,
                        1,
                    )
                if mixed >> k & 1:
                    decref(t)
                mixed |= 1 << k
                a.tensors[k] = kept
    launch(op, kernel, arguments, made, dtype)
    final = made
    if out:
        if made != out:
            copy_into(out, made)
            final = out
        bump(op, out)
    if wanted:
        node = record(op, final, arguments, dtype, out)
        if out:
            rebase(out, node)
        else:
            attach(made, node)
    if out:
        if made != out:
            decref(made)
        incref(out)
    for k in range(o.tensors):
        if mixed >> k & 1:
            decref(a.tensors[k])
    return final


@njit
def wants_record(o, a, out):
    """Whether a result becomes part of the graph."""
    if tensor_at(out).dtype < FLOAT32 or not grad_enabled():
        return False
    for k in range(o.tensors):
        if a.tensors[k] and needs_grad(tensor_at(a.tensors[k])) and o.rule_kind[k]:
            return True
    return False


@native
def record_node(op, out, arguments):
    """A node for the result of an op that is not pointwise: saved tensors, and the attributes that the wanted rules read."""
    o, a = op_at(op), arguments_at(arguments)
    wanted = 0
    for k in range(o.tensors):
        if a.tensors[k] and o.rule_kind[k] and needs_grad(tensor_at(a.tensors[k])):
            settle(a.tensors[k])
            wanted |= o.saves[k]
    count, attributes = wanted & 1, wanted >> SIZE
    for k in range(o.operands):
        if wanted >> (k + 1) & 1:
            if a.tensors[k]:
                count += 1
            else:
                attributes = 1
    words = 0
    if attributes:
        words = (o.operands + 2) * ATTRIBUTE // 8 + a.room + tensor_at(a.tensors[0]).ndim
    node = new_node(NATIVE, op, o.tensors, count, words, out)
    for k in range(o.tensors):
        if o.rule_kind[k]:
            link(node, k, a.tensors[k])
    slot = 0
    for k in range(o.operands + 1):
        if wanted >> k & 1:
            t = out
            if k:
                t = a.tensors[k - 1]
            if t:
                save(node, slot, t, k, storage_at(tensor_at(t).storage).version)
                slot += 1
    if attributes:
        x, y = tensor_at(a.tensors[0]), tensor_at(out)
        keep_attributes(node, a, o.operands, x, x.numel / y.numel if y.numel else 0.0)
    return node


@native
def record_call(op, out, arguments):
    """Give the result of an op that is not pointwise its node."""
    attach(out, record_node(op, out, arguments))
    return out


@native
def write(out, source):
    """out[...] = source, converted and broadcast: recorded as a copy where that is wanted, counted as a write."""
    y, x, op = tensor_at(out), tensor_at(source), symbol("op_copy")
    wanted = 1 if y.dtype >= FLOAT32 and grad_enabled() and (needs_grad(x) or needs_grad(y)) else 0
    frame = new_frame()
    shape_of(frame, y)
    if not broadcast(frame, x) or not same_shape(y, frame_at(frame)):
        call_python("complain", COPY_SHAPE, out, source, 0)
    check_write(op, out, wanted)
    if y.dtype != x.dtype:
        conversion(y.dtype, x.dtype)
    if wanted:
        settle(out)
        settle(source)
    if overlaps(y, x):
        shape_of(frame, x)
        apart = empty(frame, x.dtype)
        copy_into(apart, source)
        copy_into(out, apart)
        decref(apart)
    else:
        copy_into(out, source)
    bump(op, out)
    if wanted:
        node = new_node(NATIVE, op, 1, 0, 0, out)
        link(node, 0, source)
        rebase(out, node)
    return 0


@native
def write_number(out, kind, value):
    """out[...] = a Python number."""
    y, frame = tensor_at(out), new_frame()
    frame_at(frame).ndim = 0
    source = empty(frame, y.dtype)
    put_number(tensor_at(source).data, y.dtype, kind, value)
    failed = attempt(symbol("write"), out, source) == -1
    decref(source)
    if failed:
        fail()
    return 0


@native
def perform(op, arguments):
    """Run an op on its arguments and record it; gives a new reference to the result."""
    o, a = op_at(op), arguments_at(arguments)
    if o.kind == POINTWISE:
        return pointwise(op, arguments, 0)
    check_dtype(op, a)
    out = call(runner(op), op, arguments, 0)
    if wants_record(o, a, out) and attempt(symbol("record_call"), op, out, arguments) == -1:
        decref(out)
        fail()
    return out


@njit
def check_dtype(op, a):
    """Fail unless an op takes tensors of the first argument's dtype."""
    if a.tensors[0]:
        dtype = tensor_at(a.tensors[0]).dtype
        if op_at(op).dtypes >> dtype & 1 == 0:
            call_python("complain", UNSUPPORTED, op, dtype, 0)


@native
def write_structured(op, arguments, out):
    """Run an op that can write in place on its first argument; its rules do not read what is overwritten."""
    o, a = op_at(op), arguments_at(arguments)
    wanted = 1 if wants_record(o, a, out) else 0
    check_write(op, out, wanted)
    for k in range(1, o.tensors):
        if a.tensors[k] and overlaps(tensor_at(out), tensor_at(a.tensors[k])):
            call_python("complain", OVERLAP, op, out, a.tensors[k])
    if wanted:
        for k in range(o.tensors):
            if a.tensors[k]:
                settle(a.tensors[k])
    decref(call(runner(op), op, arguments, out))
    bump(op, out)
    if wanted:
        rebase(out, record_node(op, out, arguments))
    incref(out)
    return out


@native
def perform_into(op, arguments, out, in_place):
    """Run an op and write the result into a tensor: its first argument (`in_place`), or one that must not need a gradient."""
    o, a = op_at(op), arguments_at(arguments)
    if in_place == 0 and o.result == 0 and grad_enabled():
        wanted = tensor_at(out).requires_grad
        for k in range(o.tensors):
            wanted |= a.tensors[k] != 0 and needs_grad(tensor_at(a.tensors[k]))
        if wanted:
            call_python("complain", OUT_GRAD, op, 0, 0)
    if o.kind == POINTWISE:
        return pointwise(op, arguments, out)
    check_dtype(op, a)
    if in_place and o.kind == STRUCTURED and (o.trait == 2 or (o.trait and tensor_at(out).contiguous)):
        return write_structured(op, arguments, out)
    if in_place:
        made = perform(op, arguments)
        failed = attempt(symbol("write"), out, made) == -1
        decref(made)
        if failed:
            fail()
        incref(out)
        return out
    check_write(op, out, 0)
    made = call(runner(op), op, arguments, 0)
    y, x = tensor_at(out), tensor_at(made)
    if not same_shape(x, y) or category(x.dtype) > category(y.dtype):
        f = new_frame()
        shape_of(f, x)
        wrong_shape, dtype = not same_shape(x, y), x.dtype
        decref(made)
        if wrong_shape:
            call_python("complain", OUT_SHAPE, op, out, f)
        call_python("complain", OUT_DTYPE, dtype, y.dtype, 0)
    copy_into(out, made)
    decref(made)
    bump(op, out)
    incref(out)
    return out


@native
def run_on_arrays(op, arguments, out):
    """Run an op whose code is Python on arrays."""
    return call_python("run_op", op, arguments)
