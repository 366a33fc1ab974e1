"""Batching rules that follow from the kind of an op.

A rule takes the op, the vmap and the op's arguments, of which some are Batched by that vmap, and gives what is Batched again. What it
calls may be Batched by vmaps further out: then rules run inside of rules.
"""

import warnings

import numbatensor.refusals
from numbatensor import dtypes, joining
from numbatensor.func.batched import IN_PLACE, KINDS, Batched, aligned, at, full
from numbatensor.op import Joined, Pointwise, Reduction, View
from numbatensor.tensor import Tensor, wrap_dim


def tried(op, values, call):
    """A call on whole batches; where it fails, the error is that of one entry, if the op can tell."""
    try:
        return call()
    except (RuntimeError, IndexError):
        if op.explain:
            op.explain(*values)
        raise


def category(dtype):
    return 2 if dtype.is_floating_point else 0 if dtype is dtypes.bool else 1


def agreed(op, level, values):
    """The arguments of a pointwise op, converted where promotion would not see that an entry has no dimensions."""
    tensors = [v for v, name in zip(values, op.inputs, strict=False) if isinstance(v, Tensor) and name not in op.masks]
    if len({t.dtype for t in tensors}) < 2 or all(t.ndim or not at(t, level) for t in tensors):
        return values
    found = []
    for group in ([t for t in tensors if t.ndim], [t for t in tensors if not t.ndim]):
        kind = None
        for t in group:
            kind = t.dtype if kind is None else dtypes.promote_types(kind, t.dtype)
        found.append(kind)
    long, short = found
    target = short if long is None else long
    if long is not None and category(short) > category(long):
        target = dtypes.promote_types(long, short)
    masks = [name in op.masks for name in op.inputs]
    return [
        v.to(target) if at(v, level) and v.ndim == 0 and not mask else v for v, mask in zip(values, masks, strict=False)
    ]


def pointwise(op, level, *values, in_place=False):
    """The op on whole batches, with ranks aligned behind the batch dimension."""
    if in_place:
        out = values[0]
        if not at(out, level):
            raise RuntimeError(IN_PLACE)
        for v in values[1:]:
            if isinstance(v, Tensor) and v.ndim > out.ndim:
                raise RuntimeError(
                    f"output with shape {list(out.shape)} doesn't match the broadcast shape {list(v.shape)}"
                )
        op.slow.fast_in_place(*[aligned(v, level, out.ndim) for v in values])
        return out
    ranks = [v.ndim for v in values if isinstance(v, Tensor)]
    if 0 in ranks:
        values = agreed(op, level, values)
    ndim = max(ranks)
    return Batched(op.fast(*[aligned(v, level, ndim) for v in values]), level)


def reduction(op, level, x, dim, keepdim, *more):
    """The op on the dimensions behind the batch's; None means all of those."""
    dims = numbatensor.refusals.each_dim(None if dim == () else dim, x.ndim)
    if x.ndim == 0:
        return Batched(op.fast(x.value.unsqueeze(1), 1, False, *more), level)
    call = lambda: op.fast(x.value, tuple(d + 1 for d in dims), keepdim, *more)
    return Batched(tried(op, (x, dim, keepdim, *more), call), level)


DIMS = ("dim", "dims", "dim0", "dim1", "dim2", "dimension")


def shifted(op, values, ndim):
    """The arguments of an op with those that are dimensions counted behind the batch's."""
    move = lambda d: wrap_dim(d, ndim) + 1
    made = []
    for v, name in zip(values, op.inputs, strict=True):
        if name in DIMS and v is not None:
            v = move(v) if isinstance(v, int) else tuple(move(d) for d in v)
        made.append(v)
    return made


def along(op, level, x, *rest):
    """An op of one tensor along dimensions; an entry without dimensions counts as one of size 1."""
    if x.ndim == 0:
        args = shifted(op, (x, *rest), 0)
        return Batched(op.fast(x.value.unsqueeze(1), *args[1:]).reshape(level.size), level)
    args = shifted(op, (x, *rest), x.ndim)
    return Batched(tried(op, (x, *rest), lambda: op.fast(x.value, *args[1:])), level)


def moved(op, level, x, *rest):
    """A view by dimensions: the same view, of dimensions behind the batch's."""
    if x.ndim == 0:
        return view(op, level, x, *rest)
    return Batched(tried(op, (x, *rest), lambda: op.fast(x.value, *shifted(op, (x, *rest), x.ndim)[1:])), level)


def view(op, level, x, *rest):
    """Any view: what it makes of the first entry, at the same distance from each entry."""
    value = x.value
    if level.size == 0:
        one = op.fast(value.new_empty(x.shape), *rest)
        return Batched(value.new_empty((0, *one.shape)), level)
    one = op.fast(value.select(0, 0), *rest)
    return Batched(
        value.as_strided((level.size, *one.shape), (value.stride(0), *one.stride()), one.storage_offset()), level
    )


def joined(op, level, tensors, dim):
    """`cat` and `stack` of whole batches."""
    new = bool(op.row["trait"])
    ndim = max(t.ndim for t in tensors)
    if not new:  # an empty vector fits to anything
        tensors = [t for t in tensors if t.ndim != 1 or t.numel() or ndim == 1] or tensors
    fits = all(t.ndim == ndim for t in tensors) and (new or ndim)
    d = wrap_dim(dim, ndim + new) + 1 if fits else 1
    if not fits and op.explain:
        op.explain(tensors, dim)
    return Batched(tried(op, (tensors, dim), lambda: op([full(t, level) for t in tensors], d)), level)


warned: set[str] = set()


def looped(op, level, *values, in_place=False):
    """The op on each entry alone: what is left where no rule is known."""
    if op.name not in warned:
        warned.add(op.name)
        warnings.warn(
            f"vmap: {op.name} has no batching rule: it runs in a loop over the batch, which is slow. This is said once for each op.",
            stacklevel=5,
        )
    if level.size == 0:
        raise RuntimeError(
            f"vmap: {op.name} has no batching rule, and a loop over an empty batch cannot tell what it would give"
        )
    if in_place and not at(values[0], level):
        raise RuntimeError(IN_PLACE)
    run = op.slow.fast_in_place if in_place else op.fast
    made = [run(*[v.value.select(0, k) if at(v, level) else v for v in values]) for k in range(level.size)]
    return values[0] if in_place else Batched(joining.stack(made), level)


KINDS.update({Pointwise: pointwise, Reduction: reduction, View: view, Joined: joined, None: looped})
