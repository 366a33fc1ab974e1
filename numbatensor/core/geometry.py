"""Geometry changed in place: no element is written, but views and graphs have to notice."""

from numbatensor.core.collection import forget_variable
from numbatensor.core.graph import LEAF, attach, needs_grad
from numbatensor.core.memory import decref, incref
from numbatensor.core.modes import grad_enabled
from numbatensor.core.python import argument, as_long, entry, none, unboxed
from numbatensor.core.records import node_at, storage_at, tensor_at
from numbatensor.core.sites import mark
from numbatensor.core.writes import check_permission, count


@entry
def check_change(self, args, number):
    """(x): fail where a tensor must not be changed in place"""
    t = unboxed(argument(args, 0))
    check_permission(0, t, 1 if grad_enabled() and needs_grad(tensor_at(t)) else 0)
    return none()


@entry
def take_geometry(self, args, number):
    """(x, view, writer): give x the geometry and history of a view of it; counted as a write that touches no element"""
    t, y = unboxed(argument(args, 0)), tensor_at(unboxed(argument(args, 1)))
    x = tensor_at(t)
    s = storage_at(x.storage)
    x.data, x.ndim, x.numel, x.contiguous = y.data, y.ndim, y.numel, y.contiguous
    for i in range(y.ndim):
        x.shape[i], x.strides[i] = y.shape[i], y.strides[i]
    if y.node:
        incref(y.node)
        attach(t, y.node)
        x.output_nr = y.output_nr
    elif x.node and node_at(x.node).kind == LEAF:  # it, and its gradient, have the old shape
        forget_variable(x.node, t)
        decref(x.node)
        x.node = 0
    s.writer = as_long(argument(args, 2))
    mark(s)
    count(t, 1)
    x.seen = s.version
    return none()
