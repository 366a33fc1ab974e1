"""Parts of tensors, products of matrices and writes, as users' compiled code calls them."""

from numbatensor.core.compiled import BAD_INDEX, NO_PRODUCT, TOO_MANY, checked, left
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.dispatch import perform
from numbatensor.core.memory import decref, incref, load, store
from numbatensor.core.python import (
    call_python,
)
from numbatensor.core.records import (
    arguments_at,
    new_arguments,
    new_frame,
    tensor_at,
)
from numbatensor.core.sites import enter_site, leave_site
from numbatensor.core.writes import write, write_number


@native
def index_step(t, dim, item):
    """What one item of an index makes of dimension `dim`: an int (0), a slice (1), or None (2), with its numbers after it."""
    arguments = new_arguments()
    a, x, kind = arguments_at(arguments), tensor_at(t), load(item)
    a.tensors[0], a.kinds[0], a.room = t, 0, 0
    for k in range(1, 5):
        a.tensors[k], a.kinds[k] = 0, 2
    a.numbers[1] = dim
    if kind == 2:
        a.count = 2
        return perform(symbol("op_unsqueeze"), arguments)
    if kind == 0:
        a.count, a.numbers[2] = 3, load(item + 8)
        return perform(symbol("op_select"), arguments)
    start, stop, step, n = load(item + 8), load(item + 16), load(item + 24), x.shape[dim]
    if step == 0:
        call_python("mistyped", BAD_INDEX, 0, 0)
    low, high = (0, n) if step > 0 else (-1, n - 1)
    start = min(max(start + n if start < 0 else start, low), high)
    stop = min(max(stop + n if stop < 0 else stop, low), high)
    span = stop - start if step > 0 else start - stop
    size = (span + abs(step) - 1) // abs(step) if span > 0 else 0
    a.count, a.numbers[2], a.numbers[3], a.numbers[4] = 5, start if size else 0, step, size
    return perform(symbol("op_slice"), arguments)


@native
def index_steps(t, items, n):
    """What an index of n items, four words each, names: a view, or the tensor itself where there is nothing to do."""
    used, dim, made = 0, 0, t
    for k in range(n):
        used += load(items + 32 * k) < 2
    spare = tensor_at(t).ndim - used
    if spare < 0:
        call_python("mistyped", TOO_MANY, tensor_at(t).ndim, 0)
    incref(made)
    for k in range(n):
        kind = load(items + 32 * k)
        if kind == 3:
            dim += spare
            continue
        following = attempt(symbol("index_step"), made, dim, items + 32 * k)
        decref(made)
        if following == -1:
            fail()
        made = following
        dim += kind != 0
    return made


@native
def compiled_index(t, items, n, kind, site):
    """``t[...]``"""
    enter_site(site)
    made = attempt(symbol("index_steps"), t, items, n)
    return checked(left(made), kind)


@native
def end_step(t, kind, place):
    """A view with a dimension of size 1 more (`kind` 2), or with its first element (0), at the end or at the front (`place`)."""
    item = new_frame()
    store(item, kind)
    store(item + 8, 0)
    return index_step(t, place, item)


@native
def product_with_vector(x, y):
    """``x @ y`` where one is a vector, and the other a vector or a matrix: one op, and a view for a vector times a matrix."""
    arguments = new_arguments()
    r = arguments_at(arguments)
    turned, matrix = 0, tensor_at(x).ndim == 2
    r.room, r.count, r.tensors[0], r.tensors[1] = 0, 2, x, y
    r.kinds[0] = r.kinds[1] = 0
    if tensor_at(x).ndim == tensor_at(y).ndim:
        return perform(symbol("op_dot"), arguments)
    if matrix:
        r.tensors[0], r.tensors[1] = y, x
    else:
        r.count, r.tensors[0], r.tensors[1], r.tensors[2] = 3, y, 0, 0
        r.kinds[1] = r.kinds[2] = 2
        r.numbers[1], r.numbers[2] = 0, 1
        turned = perform(symbol("op_transpose"), arguments)
        r.tensors[0], r.tensors[1], r.kinds[1] = x, turned, 0
    r.count, r.tensors[2], r.kinds[2] = 3, 0, 4
    made = attempt(symbol("perform"), symbol("op_linear"), arguments)
    decref(turned)
    if made == -1:
        fail()
    return made


@native
def product_of(x, y):
    """``x @ y`` of tensors of all ranks but 0."""
    a, b = tensor_at(x), tensor_at(y)
    fits = a.dtype == b.dtype and a.ndim > 0 and b.ndim > 0
    if fits:
        fits = a.shape[a.ndim - 1] == b.shape[max(b.ndim - 2, 0)]
    if not fits:
        call_python("mistyped", NO_PRODUCT, x, y)
    if a.ndim + b.ndim <= 3:
        return product_with_vector(x, y)
    first, second = a.ndim == 1, b.ndim == 1
    left = right = made = 0
    arguments = new_arguments()
    r = arguments_at(arguments)
    if first:
        left = end_step(x, 2, 0)
    if second:
        right = attempt(symbol("end_step"), y, 2, 1)
    if right != -1:
        r.count, r.room = 2, 0
        r.tensors[0], r.tensors[1] = left if first else x, right if second else y
        r.kinds[0] = r.kinds[1] = 0
        made = attempt(symbol("perform"), symbol("op_matmul"), arguments)
        decref(right)
    decref(left)
    if right == -1 or made == -1:
        fail()
    for which in range(2):
        if which == 0 and second or which == 1 and first:
            whole = made
            place = tensor_at(whole).ndim - (1 if which == 0 or second else 2)
            made = attempt(symbol("end_step"), whole, 0, place)
            decref(whole)
            if made == -1:
                fail()
    return made


@native
def compiled_product(x, y, kind, site):
    """``x @ y``"""
    enter_site(site)
    made = attempt(symbol("product_of"), x, y)
    return checked(left(made), kind)


@native
def write_here(target, kind, value, word):
    """Overwrite a tensor with a number (`kind` 1 to 3), or with a tensor, by address (`kind` 0)."""
    if kind:
        return write_number(target, kind, value, word)
    incref(value)
    while tensor_at(value).ndim > tensor_at(target).ndim and tensor_at(value).shape[0] == 1:
        item = new_frame()
        store(item, 0)
        store(item + 8, 0)
        inner = attempt(symbol("index_step"), value, 0, item)
        decref(value)
        if inner == -1:
            fail()
        value = inner
    done = attempt(symbol("write"), target, value, word)
    decref(value)
    if done == -1:
        fail()
    return 0


@native
def compiled_set(t, items, n, kind, value, site):
    """``t[...] = value``"""
    enter_site(site)
    target = attempt(symbol("index_steps"), t, items, n)
    done = attempt(symbol("write_here"), target, kind, value, symbol("writer_setitem")) if target != -1 else -1
    leave_site()
    if target != -1:
        decref(target)
    if done == -1:
        fail()
    return 0


@native
def compiled_overwrite(t, kind, value, which, site):
    """``t.zero_()`` (0), ``t.fill_(value)`` (1), ``t.copy_(value)`` (2)."""
    word = symbol("writer_zero_")
    if which == 1:
        word = symbol("writer_fill_")
    elif which == 2:
        word = symbol("writer_copy_")
    enter_site(site)
    done = attempt(symbol("write_here"), t, kind, value, word)
    left(done)
    return 0


assert write  # reached through its symbol
