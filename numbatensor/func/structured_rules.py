"""Batching rules of ops with code of their own: along dimensions, of matrices, by index."""

from numbatensor import dtypes, linear_algebra
from numbatensor.creation import arange
from numbatensor.func.batched import IN_PLACE, Batched, at, full
from numbatensor.func.rules import along, tried
from numbatensor.indexing import MOST
from numbatensor.ops import arranging, indexing, rows, structured
from numbatensor.tensor import wrap_dim

for op in (rows.softmax, rows.log_softmax, rows.logsumexp, rows.cumsum, rows.cumprod, rows.argsort, rows.topk_indices):
    op.batched(along)
arranging.flip.batched(along)
arranging.roll.batched(along)


def extremum(op, level, x, dim, keepdim):
    """`argmax` and `argmin`: None means the place among all elements of an entry."""
    if dim is not None:
        return along(op, level, x, dim, keepdim)
    flat = x.value.reshape(level.size, x.numel())
    made = tried(op, (x, dim, keepdim), lambda: op.fast(flat, 1, False))
    return Batched(made.reshape(level.size, *[1] * x.ndim) if keepdim else made, level)


rows.argmax.batched(extremum)
rows.argmin.batched(extremum)


def tile(op, level, x, dims):
    value, lead = x.value, len(dims) - x.ndim
    if lead > 0:
        value = value.reshape(level.size, *[1] * lead, *x.shape)
    return Batched(op.fast(value, (1, *[1] * -lead, *dims)), level)


def triangle(op, level, x, diagonal):
    if x.ndim < 2:
        raise RuntimeError(f"{op.name}: input tensor must have at least 2 dimensions")
    return Batched(op.fast(x.value, diagonal), level)


arranging.tile.batched(tile)
arranging.tril.batched(triangle)
arranging.triu.batched(triangle)

# products


def linear(op, level, x, weight, bias):
    if not at(weight, level) and not at(bias, level) and x.ndim:
        return Batched(tried(op, (x, weight, bias), lambda: op.fast(x.value, weight, bias)), level)
    if x.ndim == 0 or weight.ndim != 2:
        op.explain(x, weight, bias)
    made = linear_algebra.matmul(x, weight.mT)
    return made if bias is None else made + bias


def addmm(op, level, x, mat1, mat2, beta, alpha):
    if mat1.ndim != 2 or mat2.ndim != 2:
        op.explain(x, mat1, mat2, beta, alpha)
    made = linear_algebra.matmul(mat1, mat2)
    made = made if alpha == 1 else made * alpha
    return made if beta == 0 else made + (x if beta == 1 else x * beta)


def layer_norm(op, level, x, weight, bias, n, eps):
    if not at(weight, level) and not at(bias, level):
        return Batched(op.fast(x.value, weight, bias, n, eps), level)
    made = op.fast(x, None, None, n, eps)
    made = made if weight is None else made * weight
    return made if bias is None else made + bias


structured.linear.batched(linear)
structured.addmm.batched(addmm)
rows.layer_norm.batched(layer_norm)

# by index


def placed(level, x, tensors, first):
    """For an index into x: x, index tensors and their first dimension as they are for the whole batch, and where that comes to lie."""
    tensors = [t for t in tensors if t is not None]
    if not any(at(t, level) for t in tensors):
        return x.value, tensors, first + 1, 0
    shape = tensors[0].shape
    wide = [full(t, level) for t in tensors]
    if not at(x, level):
        return x, wide, first, first
    if len(wide) == MOST:
        raise NotImplementedError(f"vmap: at most {MOST - 1} index tensors can index what is mapped, not {MOST}")
    entry = arange(level.size).reshape(level.size, *[1] * len(shape)).expand(level.size, *shape)
    return x.value.movedim(0, first), [entry, *wide], first, first


def pick(op, level, x, *rest):
    *tensors, first = rest
    x, tensors, first, batch = placed(level, x, tensors, first)
    made = op.fast(x, *tensors, *[None] * (MOST - len(tensors)), first)
    return Batched(made.movedim(batch, 0) if batch else made, level)


def put(op, level, x, y, *rest, in_place=False):
    if in_place and not at(x, level):
        raise RuntimeError(IN_PLACE)
    x = x if in_place else Batched(full(x, level).clone(), level)
    *tensors, first = rest
    wide = full(y, level)
    value, tensors, first, batch = placed(level, x, tensors, first)
    op.slow.fast_in_place(
        value, wide.movedim(0, batch) if batch else wide, *tensors, *[None] * (MOST - len(tensors)), first
    )
    return x


indexing.pick.batched(pick)
indexing.index_put.batched(put)
indexing.index_put_add.batched(put)


def select_slices(op, level, x, index, dim):
    d = wrap_dim(dim, x.ndim)
    if not at(index, level):
        return Batched(tried(op, (x, index, dim), lambda: op.fast(x.value, index, d + 1)), level)
    return pick(indexing.pick, level, x, index.to(dtypes.int64), *[None] * (MOST - 1), d)


def add_slices(op, level, x, index, source, dim):
    d = wrap_dim(dim, x.ndim)
    if not at(index, level):
        return Batched(op.fast(full(x, level), index, full(source, level), d + 1), level)
    places = index.reshape([-1 if k == d else 1 for k in range(x.ndim)]).expand(source.shape)
    return indexing.scatter_add(x, places, source, d)


indexing.select_slices.batched(select_slices)
indexing.add_slices.batched(add_slices)


def at_index(op, level, x, index, *rest):
    """`gather`, `scatter` and `scatter_add`; what is scattered may be one number for all places."""
    *sources, dim = rest
    shape, d = x.shape, wrap_dim(dim, x.ndim)
    if x.ndim == 0:
        x = x.reshape(1)
    scalar = index.ndim == 0
    if scalar:
        index = index.reshape(1)
    wide = []
    for source in sources:
        if source.ndim == 0 and (scalar or at(source, level)):
            source = source.expand(index.shape)
        wide.append(full(source, level) if source.ndim else source)
    made = op.fast(full(x, level).contiguous() if wide else full(x, level), full(index, level), *wide, d + 1)
    shape = shape if wide else () if scalar else None
    return Batched(made if shape is None else made.reshape(level.size, *shape), level)


for op in (indexing.gather, indexing.scatter, indexing.scatter_add):
    op.batched(at_index)


def masked_select(op, level, x, mask):
    if at(mask, level):
        raise RuntimeError(
            "vmap: Attempted to vmap over `mask` in masked_select(self, mask). We cannot support this because for each batch this "
            "would return a differently shaped Tensor."
        )
    return x[mask]


def nonzero(op, level, x):
    raise RuntimeError(
        "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over nonzero, or a boolean mask as "
        "an index: choose between values by nt.where instead."
    )


indexing.masked_select.batched(masked_select)
indexing.nonzero.batched(nonzero)


def nll_loss(op, level, x, target, weight, ignore_index, reduction):
    """Losses of all rows of the batch, then each entry's sum or mean."""
    if x.ndim != 2 or target.ndim != 1 or x.shape[0] != target.shape[0]:
        return op.fast(x.value.select(0, 0) if at(x, level) else x, target, weight, ignore_index, reduction)
    n, classes = x.shape
    weight = weight if weight is None else weight.detach()
    if at(weight, level):
        used = (target != ignore_index).to(x.dtype)
        known = (target * (target != ignore_index)).unsqueeze(1)
        scale = weight[known.squeeze(1)] * used
        losses = -x.gather(1, known).squeeze(1) * scale
        return losses.sum() / scale.sum() if reduction == 1 else losses.sum() if reduction == 2 else losses
    rows_ = full(x, level).reshape(level.size * n, classes)
    places = full(target, level).reshape(level.size * n)
    losses = Batched(op.fast(rows_, places, weight, ignore_index, 0).reshape(level.size, n), level)
    if reduction != 1:
        return losses.sum() if reduction == 2 else losses
    used = target != ignore_index
    kept = used.to(x.dtype) if weight is None else weight[target * used] * used.to(x.dtype)
    return losses.sum() / kept.sum()


indexing.nll_loss.batched(nll_loss)
