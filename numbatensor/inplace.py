"""In-place writes and views in the graph: a write to a view changes its base's history, and with it that of all other views."""

from numbatensor.core import entries
from numbatensor.core.handles import hold
from numbatensor.core.python import callback
from numbatensor.op import Op, packed, positions
from numbatensor.ops.structured import only, placed, without


def declare(name, **rules):
    """An op that is only recorded: its inputs, and its rules on Tensors."""

    def function(*args):
        raise NotImplementedError(f"{name} is recorded, never run forward")

    function.__name__ = name
    op = Op(function)
    op.backward(**rules)
    return op


overwritten = declare(
    "copy_slices", base=lambda grad, where: without(grad, where), region=lambda grad, where: only(grad, where)
)
strided_view = declare("as_strided_view", base=lambda grad, where, size: placed(grad, where, size))
overwritten.inputs, strided_view.inputs = ["base", "region"], ["base"]
overwritten.node_name = lambda: "CopySlices"
strided_view.node_name = lambda: "AsStridedBackward0"


def places(view, base):
    """Flat positions, in a contiguous copy of the base, of a view's elements."""
    item = base.itemsize
    steps = [s // item for s in entries.stride_tuple(view)]
    offset = (view.data_ptr() - base.data_ptr()) // item
    if base.is_contiguous():
        return positions(base.shape, view.shape, steps, offset)
    in_base = positions(base.shape, base.shape, [s // item for s in entries.stride_tuple(base)], 0)
    in_view = positions(base.shape, view.shape, steps, offset)
    lookup = dict(
        zip(
            in_base.reshape(-1).tolist(),
            positions(base.shape, base.shape, packed(base.shape), 0).reshape(-1).tolist(),
            strict=True,
        )
    )
    flat = [lookup[p] for p in in_view.reshape(-1).tolist()]
    in_view.reshape(-1)[:] = flat
    return in_view


@callback
def rebase_view(address):
    """A view was written, and its node is the write's: make it the history of the base."""
    view = entries.box_of(address)
    base = entries.box_of(entries.get(view, entries.BASE))
    where = places(view, base)
    handle = hold((["base", "region"], ["base", "region"], [], {"where": where}))
    entries.record_python(overwritten.address, base, (base, view), (), (), handle, 1)
    entries.make_stale(view)
    return 0


@callback
def regenerate(address):
    """A view's storage was written since its node was made: its history is now that of the base."""
    view = entries.box_of(address)
    base = entries.box_of(entries.get(view, entries.BASE))
    if not base.requires_grad:
        entries.set_seen(view)
        return 0
    handle = hold((["base"], ["base"], [], {"where": places(view, base), "size": base.shape}))
    entries.record_python(strided_view.address, view, (base,), (), (), handle, 0)
    return 0
