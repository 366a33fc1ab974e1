"""Numba's lists, as native functions read them: their items lie one after the other. What Numba gets wrong of them."""

from numba.core import cgutils, types
from numba.core.imputils import impl_ret_new_ref

from numbatensor.core.compiler import word
from numbatensor.core.private import ListInstance
from numbatensor.nopython.undefined import has_tensor


def address_of_items(context, builder, kind, value):
    """The address of a list's first item, and how many there are."""
    found = ListInstance(context, builder, kind, value)
    return builder.ptrtoint(found.data, word), found.size


def pop_at(context, builder, sig, args):
    """``list.pop(k)``. Numba moves the later items down and leaves the last one in its old place too, where what comes next lets go of it."""
    items = ListInstance(context, builder, sig.args[0], args[0])
    k, n = items.fix_index(args[1]), items.size
    cgutils.guard_zero(context, builder, n, (IndexError, "pop from empty list"))
    items.guard_index(k, "pop index out of range")
    last = builder.sub(n, n.type(1))
    taken = items.getitem(k)
    items.incref_value(items.getitem(last))
    items.move(k, builder.add(k, k.type(1)), builder.sub(last, k))
    items.clear_value(last)
    items.resize(last)
    return impl_ret_new_ref(context, builder, sig.return_type, taken)


def keep_items(context, kinds, known=set()):  # noqa: B006
    """Let lists of Tensors pop items as they should. `kinds`: of a function's variables."""
    found = {k for k in kinds if isinstance(k, types.List) and has_tensor(k.dtype)} - known
    context.insert_func_defn([(pop_at, "list.pop", (k, types.Integer)) for k in found])
    known |= found
