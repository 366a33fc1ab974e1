"""Why ops refuse arguments: each function raises the error, in PyTorch's words at its start."""

from numbatensor.ops import reductions, rows, structured, views
from numbatensor.tensor import Size, wrap_dim


def each_dim(dims, ndim):
    """Fail for a dimension that is not there, or there twice."""
    dims = range(ndim) if dims is None else (dims,) if isinstance(dims, int) else dims
    found = [wrap_dim(d, ndim) for d in dims]
    for d in found:
        if found.count(d) > 1:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    return found


@views.transpose.explained
def transpose(x, dim0, dim1):
    wrap_dim(dim0, x.ndim)
    wrap_dim(dim1, x.ndim)


@views.permute.explained
def permute(x, dims):
    if len(dims) != x.ndim:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {x.ndim} is not equal to len(dims) = {len(dims)}"
        )
    each_dim(dims, x.ndim)


@views.t.explained
def t(x):
    raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {x.ndim}D")


@views.expand.explained
def expand(x, size):
    if len(size) < x.ndim:
        raise RuntimeError(
            f"expand(numbatensor.{x.dtype.name}{list(x.shape)}, size={list(size)}): the number of sizes provided ({len(size)}) "
            f"must be greater or equal to the number of dimensions in the tensor ({x.ndim})"
        )
    lead = len(size) - x.ndim
    for k in range(len(size) - 1, -1, -1):
        if k >= lead and size[k] != -1 and x.shape[k - lead] not in (1, size[k]):
            raise RuntimeError(
                f"The expanded size of the tensor ({size[k]}) must match the existing size ({x.shape[k - lead]}) at non-singleton "
                f"dimension {k}.  Target sizes: {list(size)}.  Tensor sizes: {list(x.shape)}"
            )
    raise RuntimeError(f"expand: the sizes {list(size)} must not be negative, but for -1 where a dimension exists")


@views.select.explained
def select(x, dim, index):
    if x.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    n = x.shape[wrap_dim(dim, x.ndim)]
    raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {n}")


@views.narrow.explained
def narrow(x, dim, start, length):
    if x.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    n = x.shape[wrap_dim(dim, x.ndim)]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")


@views.unsqueeze.explained
def unsqueeze(x, dim):
    wrap_dim(dim, x.ndim + 1)
    raise RuntimeError(f"unsqueeze: a tensor of {x.ndim} dimensions has no room for one more")


@views.squeeze.explained
def squeeze(x, dim):
    each_dim(dim, x.ndim)


@views.diagonal.explained
def diagonal(x, offset, dim1, dim2):
    if wrap_dim(dim1, x.ndim) == wrap_dim(dim2, x.ndim):
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")


@views.unfold.explained
def unfold(x, dimension, size, step):
    n = x.shape[wrap_dim(dimension, x.ndim)] if x.ndim else 1
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    raise RuntimeError(f"maximum size for tensor at dimension {dimension} is {n} but size is {size}")


@views.as_strided.explained
def as_strided(x, layout, steps, size, stride, offset):
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {len(stride)} and {len(size)}")
    steps = [s // x.itemsize for s in stride]
    raise RuntimeError(
        f"setStorage: sizes {list(size)}, strides {steps}, storage offset {x.storage_offset() + offset // x.itemsize}, and "
        f"itemsize {x.itemsize} are out of bounds for the storage"
    )


def invalid_shape(x, shape):
    """Fail for a shape that cannot have the tensor's elements."""
    if list(shape).count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    for n in shape:
        if n < -1:
            raise RuntimeError(f"invalid shape dimension {n}")
    known = Size(n for n in shape if n != -1).numel()
    if -1 in shape and known == 0 and x.numel() == 0:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be any "
            "value and is ambiguous"
        )
    if (known != x.numel() and -1 not in shape) or (-1 in shape and (known == 0 or x.numel() % known)):
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {x.numel()}")


views.reshape.explained(invalid_shape)


@views.view_as_shape.explained
def view(x, shape):
    invalid_shape(x, shape)
    raise RuntimeError(
        "view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous "
        "subspaces). Use .reshape(...) instead."
    )


def reduced(x, dim, keepdim, *rest):
    each_dim(dim, x.ndim)


for op in (
    reductions.sum,
    reductions.mean,
    reductions.prod,
    reductions.all,
    reductions.any,
    reductions.var,
    reductions.std,
):
    op.explained(reduced)
for op in (reductions.euclidean_norm, reductions.count_nonzero):
    op.explained(reduced)


def extreme(name):
    def explain(x, dim, keepdim):
        for d in each_dim(dim, x.ndim):
            if dim is not None and x.ndim and x.shape[d] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' "
            "argument."
        )

    return explain


reductions.amax.explained(extreme("amax"))
reductions.amin.explained(extreme("amin"))


def multiplied(x, y):
    """Fail for matrices that cannot be multiplied."""
    if x.dtype is not y.dtype:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {x.dtype.name} != {y.dtype.name}")
    if x.shape[-1] != y.shape[-2]:
        sizes = ["x".join(map(str, t.shape)) for t in (x, y)]
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({sizes[0]} and {sizes[1]})")


@structured.matmul.explained
def matmul(x, y):
    multiplied(x, y)
    batches = [list(t.shape[:-2]) for t in (x, y)]
    raise RuntimeError(f"matmul: the batch dimensions {batches[0]} and {batches[1]} do not broadcast")


@structured.linear.explained
def linear(x, weight, bias):
    if x.ndim == 0 or weight.ndim != 2:
        raise RuntimeError(
            f"linear: expected an input of at least 1-D and a 2-D weight, got {x.ndim}-D and {weight.ndim}-D"
        )
    multiplied(x if x.ndim > 1 else x.unsqueeze(0), weight.mT)
    raise RuntimeError(
        f"linear: a bias {list(bias.shape)} of {bias.dtype.name} does not fit {weight.shape[0]} features of {x.dtype.name}"
    )


@structured.addmm.explained
def addmm(x, mat1, mat2, beta, alpha):
    for name, matrix in (("mat1", mat1), ("mat2", mat2)):
        if matrix.ndim != 2:
            raise RuntimeError(f"{name} must be a matrix, got {matrix.ndim}-D tensor")
    multiplied(mat1, mat2)
    if x.dtype is not mat1.dtype:
        raise RuntimeError(f"self and mat2 must have the same dtype, but got {x.dtype.name} and {mat2.dtype.name}")
    for name, number in (("beta", beta), ("alpha", alpha)):
        if isinstance(number, float) and not mat1.dtype.is_floating_point:
            raise RuntimeError(f"For integral input tensors, argument {name} must not be a floating point number.")
    raise RuntimeError(
        f"The expanded size of the tensor ({mat2.shape[1]}) must match the existing size: {list(x.shape)} does not broadcast to "
        f"{[mat1.shape[0], mat2.shape[1]]}"
    )


def along(x, dim, *rest):
    wrap_dim(dim, x.ndim)


for op in (rows.softmax, rows.log_softmax, rows.logsumexp, rows.cumsum, rows.cumprod, rows.argsort):
    op.explained(along)


def place(name):
    def explain(x, dim, keepdim):
        if dim is None:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
        d = wrap_dim(dim, x.ndim)
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")

    return explain


rows.argmax.explained(place("argmax"))
rows.argmin.explained(place("argmin"))


@rows.layer_norm.explained
def layer_norm(x, weight, bias, n, eps):
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.dtype is not x.dtype:
            raise RuntimeError(f"layer_norm: a {name} of {t.dtype.name} does not go with an input of {x.dtype.name}")


@rows.topk_indices.explained
def topk(x, k, dim, largest, sorted):
    wrap_dim(dim, x.ndim)
    raise RuntimeError("selected index k out of range")
