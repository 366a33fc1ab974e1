"""Why indexing and joining ops refuse arguments, in PyTorch's words at their start; see `refusals.py`."""

from numbatensor.ops import arranging, indexing
from numbatensor.refusals import each_dim
from numbatensor.tensor import wrap_dim


def out_of_range(index, n):
    """The first element of an index that names none of n places, or None."""
    flat = index.array().reshape(-1)
    wrong = flat[(flat < -n) | (flat >= n)]
    return int(wrong[0]) if wrong.size else None


def check_places(x, tensors, first):
    """Fail for an index tensor with a number that its dimension does not have."""
    for d, index in enumerate(tensors, first):
        wrong = out_of_range(index, x.shape[d])
        if wrong is not None:
            raise IndexError(f"index {wrong} is out of bounds for dimension {d} with size {x.shape[d]}")


@indexing.pick.explained
def pick(x, *rest):
    *tensors, first = rest
    check_places(x, [t for t in tensors if t is not None], first)


@indexing.index_put.explained
def index_put(x, y, *rest):
    *tensors, first = rest
    check_places(x, [t for t in tensors if t is not None], first)


indexing.index_put_add.explained(index_put)


@indexing.select_slices.explained
def select_slices(x, index, dim):
    n = x.shape[wrap_dim(dim, x.ndim)]
    if out_of_range(index, n) is not None:
        raise IndexError("index out of range in self")


@indexing.add_slices.explained
def add_slices(x, index, source, dim):
    dim = wrap_dim(dim, x.ndim)
    if index.ndim > 1:
        raise IndexError("index_add_(): Index is supposed to be a vector")
    if out_of_range(index, x.shape[dim]) is not None:
        raise IndexError("index out of range in self")
    raise RuntimeError(
        f"source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = {list(x.shape)} "
        f"source.shape = {list(source.shape)}"
    )


def check_along(x, index, dim):
    """Fail for an index that does not fit an input along a dimension."""
    dim = wrap_dim(dim, x.ndim)
    if max(index.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for d in range(index.ndim):
        if d != dim and index.shape[d] > x.shape[d]:
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than self {list(x.shape)} "
                f"apart from dimension {dim}"
            )
    n = x.shape[dim] if x.ndim else 1
    wrong = out_of_range(index, n)
    if wrong is not None:
        raise RuntimeError(f"index {wrong} is out of bounds for dimension {dim} with size {n}")


@indexing.gather.explained
def gather(x, index, dim):
    check_along(x, index, dim)


def scatter(x, index, src, dim):
    if src.ndim:
        if src.ndim != index.ndim:
            raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
        if any(n > m for n, m in zip(index.shape, src.shape, strict=True)):
            raise RuntimeError(
                f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from dimension {dim} and to be no "
                f"larger size than src {list(src.shape)}"
            )
    check_along(x, index, dim)


indexing.scatter.explained(scatter)
indexing.scatter_add.explained(scatter)


@indexing.masked_select.explained
def masked_select(x, mask):
    raise RuntimeError(f"masked_select: a mask of shape {list(mask.shape)} does not broadcast with {list(x.shape)}")


@indexing.nll_loss.explained
def nll_loss(x, target, weight, ignore_index, reduction):
    if x.ndim != 2:
        raise RuntimeError(f"nll_loss: expected (N, C) log-probabilities, got {tuple(x.shape)}")
    if target.shape != x.shape[:1]:
        raise ValueError(
            f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({target.shape[0] if target.ndim else 1})."
        )
    if weight is not None and (tuple(weight.shape) != (x.shape[1],) or weight.dtype is not x.dtype):
        raise RuntimeError(
            f"weight tensor should be defined either for all {x.shape[1]} classes or no classes but got weight tensor of shape: "
            f"{list(weight.shape)}"
        )
    for t in target.tolist():
        if t != ignore_index and not 0 <= t < x.shape[1]:
            raise IndexError(f"Target {t} is out of bounds.")


@arranging.flip.explained
def flip(x, dims):
    each_dim(dims, x.ndim)


@arranging.roll.explained
def roll(x, shifts, dims):
    count = lambda v: 1 if isinstance(v, int) else len(v)
    if count(shifts) != count(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {count(shifts)}, dims:{count(dims)}")
    for d in (dims,) if isinstance(dims, int) else dims:
        wrap_dim(d, x.ndim)


@arranging.tile.explained
def tile(x, dims):
    raise RuntimeError(f"Trying to create tensor with negative dimension {min(dims)}: {list(dims)}")


def triangle(name):
    def explain(x, diagonal):
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")

    return explain


arranging.tril.explained(triangle("tril"))
arranging.triu.explained(triangle("triu"))


def joined(name):
    def explain(tensors, dim):
        shapes = [tuple(t.shape) for t in tensors]
        if not shapes:
            raise RuntimeError(f"{name}() expects a non-empty TensorList")
        if name == "stack":
            wrong = [(k, s) for k, s in enumerate(shapes) if s != shapes[0]]
            if wrong:
                raise RuntimeError(
                    f"stack expects each tensor to be equal size, but got {list(shapes[0])} at entry 0 and {list(wrong[0][1])} at "
                    f"entry {wrong[0][0]}"
                )
            wrap_dim(dim, len(shapes[0]) + 1)
        else:
            whole = [(k, s) for k, s in enumerate(shapes) if s != (0,)] or [(0, shapes[0])]
            first = whole[0][1]
            if not first:
                raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
            dim = wrap_dim(dim, len(first))
            for k, s in whole:
                if len(s) != len(first):
                    raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(s)}")
                for d, (n, m) in enumerate(zip(first, s, strict=True)):
                    if n != m and d != dim:
                        raise RuntimeError(
                            f"Sizes of tensors must match except in dimension {dim}. Expected size {n} but got size {m} for tensor "
                            f"number {k} in the list."
                        )
        raise RuntimeError(f"{name}: tensors of shapes {shapes[:4]} do not fit together")

    return explain


arranging.cat.explain, arranging.stack.explain = joined("cat"), joined("stack")
