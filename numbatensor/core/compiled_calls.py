"""What C functions of `nt.cfunc` do around the user's function: tensors of what C gives, gradients where C wants them, errors kept.

A call has words on the stack. The first say what was before: this thread's modes, and how Python knows the thread. After them each
tensor has 16: its record, what C gave (the elements' address, the dtype, the rank), and its sizes.
"""

from numbatensor.core.compiler import attempt, external, fail, native, symbol
from numbatensor.core.engine import backward_from
from numbatensor.core.graph import needs_grad, output_of
from numbatensor.core.memory import decref, load, local, memcpy, memset, store
from numbatensor.core.modes import C_CALL, UNRECORDED
from numbatensor.core.packing import packed_as
from numbatensor.core.python import call_python, ensure, release, restore_thread, save_thread
from numbatensor.core.records import local_at, output_at, tensor_at

HEAD, WORDS = 24, 128  # bytes of what stands before the tensors, and of each
DATA, DTYPE, RANK, SIZES = 8, 16, 24, 32
OUT_OF_RANGE = 1
known_thread = external("PyGILState_GetThisThreadState", 0)


@native
def compiled_enter_call(words, count, recording):
    """Make the tensors, which are copies: what the function keeps may outlive the memory that C lends. Recording is on."""
    for k in range(count):
        store(words + HEAD + WORDS * k, 0)
    m = local_at(local())
    store(words, m.mode)
    m.mode = m.mode & ~UNRECORDED | C_CALL
    store(words + 8, 0)
    if known_thread() == 0:  # a thread of C's: Python has to know it until the end, or an error is forgotten on the way
        store(words + 16, ensure())
        store(words + 8, save_thread())
    for k in range(count):
        place = words + HEAD + WORDS * k
        sizes, rank, dtype = place + SIZES, load(place + RANK), load(place + DTYPE)
        t = attempt(symbol("compiled_new"), sizes, rank, dtype, 0, 0, recording)
        if t == -1:
            fail()
        store(place, t)
        x = tensor_at(t)
        if x.numel:
            memcpy(x.data, load(place + DATA), x.numel * x.itemsize)
    return 0


@native
def compiled_leave_call(words, count, result):
    """Let go of all tensors, and make the thread what it was."""
    for k in range(count):
        decref(load(words + HEAD + WORDS * k))
    decref(result)
    local_at(local()).mode = load(words)
    if load(words + 8):
        restore_thread(load(words + 8))
        release(load(words + 16))
    return 0


@native
def compiled_slopes(words, count, result, first, last, out):
    """Write the slopes of a result in the numbers from `first` up to `last` of all tensors (all: -1), one after the other, at `out`."""
    total = 0
    for k in range(count):
        total += tensor_at(load(words + HEAD + WORDS * k)).numel
    if last > total:
        call_python("c_function_failed", OUT_OF_RANGE, first, total)
    if needs_grad(tensor_at(result)):
        backward_from(result)
    begin = 0
    for k in range(count):
        x = tensor_at(load(words + HEAD + WORDS * k))
        low, high = max(first - begin, 0), x.numel if last < 0 else min(last - begin, x.numel)
        n = (high - low) * x.itemsize
        g = output_at(output_of(x.node, x.output_nr)).grad if x.node else 0
        if n > 0 and g == 0:
            memset(out, 0, n)
        elif n > 0:
            packed = packed_as(g, x.dtype)
            memcpy(out, tensor_at(packed).data + low * x.itemsize, n)
            decref(packed)
        out += max(n, 0)
        begin += x.numel
    return 0


@native
def compiled_keep_error(which):
    """Give the error that was put away on this thread to the C function that failed."""
    return call_python("c_function_failed", 0, which, 0)
