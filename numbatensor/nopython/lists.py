"""Numba's lists, as native functions read them: their items lie one after the other."""

from numbatensor.core.compiler import word
from numbatensor.core.private import ListInstance


def address_of_items(context, builder, kind, value):
    """The address of a list's first item, and how many there are."""
    found = ListInstance(context, builder, kind, value)
    return builder.ptrtoint(found.data, word), found.size
