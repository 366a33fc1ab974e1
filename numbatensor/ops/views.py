"""Views: new shapes and strides over the same memory. Each maps a geometry (in elements) to a geometry and an offset."""

from numbatensor.op import view


@view
def transpose(size, strides, dim0, dim1):
    """The tensor with two dimensions swapped."""
    order = list(range(len(size)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return [size[k] for k in order], [strides[k] for k in order], 0


@view
def permute(size, strides, dims):
    """The tensor with its dimensions in another order."""
    return [size[k] for k in dims], [strides[k] for k in dims], 0


@view
def expand(size, strides, shape):
    """The tensor broadcast to a shape, without a copy."""
    lead = len(shape) - len(size)
    return (
        shape,
        [0] * lead + [0 if n == 1 and m != 1 else s for n, m, s in zip(size, shape[lead:], strides, strict=True)],
        0,
    )


@view
def select(size, strides, dim, index):
    """One slice of a dimension, without that dimension."""
    return [*size[:dim], *size[dim + 1 :]], [*strides[:dim], *strides[dim + 1 :]], index * strides[dim]


@view
def slice(size, strides, dim, start, step, length):
    """Every `step`-th slice of a dimension."""
    return (
        [*size[:dim], length, *size[dim + 1 :]],
        [*strides[:dim], strides[dim] * step, *strides[dim + 1 :]],
        start * strides[dim],
    )


@view
def unsqueeze(size, strides, dim):
    """The tensor with a dimension of size 1 put in."""
    step = size[dim] * strides[dim] if dim < len(size) else 1
    return [*size[:dim], 1, *size[dim:]], [*strides[:dim], step, *strides[dim:]], 0


@view
def squeeze(size, strides, dims):
    """The tensor without those of its dimensions that have size 1."""
    keep = [k for k in range(len(size)) if not (k in dims and size[k] == 1)]
    return [size[k] for k in keep], [strides[k] for k in keep], 0


@view
def diagonal(size, strides, offset, dim1, dim2):
    """The diagonal of two dimensions, as the last dimension."""
    start = offset * strides[dim2] if offset >= 0 else -offset * strides[dim1]
    n = min(size[dim1], size[dim2] - offset) if offset >= 0 else min(size[dim1] + offset, size[dim2])
    keep = [k for k in range(len(size)) if k not in (dim1, dim2)]
    return (
        [*[size[k] for k in keep], max(n, 0)],
        [*[strides[k] for k in keep], strides[dim1] + strides[dim2]],
        start if n > 0 else 0,
    )


@view
def unfold(size, strides, dimension, length, step):
    """Windows of a dimension, which become a last dimension."""
    n = (size[dimension] - length) // step + 1
    windows = [*strides[:dimension], strides[dimension] * step, *strides[dimension + 1 :], strides[dimension]]
    return [*size[:dimension], n, *size[dimension + 1 :], length], windows, 0


@view
def as_strided(size, strides, shape, steps, offset):
    """Any shape and strides over the same memory."""
    return shape, steps, offset


@view
def reshape(size, strides, shape):
    """The same elements in another shape."""
    return shape, viewed_strides(size, strides, shape), 0


def viewed_strides(size, strides, shape):
    """The strides under which memory of one shape and strides reads as another shape, or None where there are none."""
    if 0 in size:
        steps, step = [], 1
        for n in reversed(shape):
            steps.append(step)
            step *= max(n, 1)
        return steps[::-1]
    groups = []  # (elements, innermost step) of the runs of dimensions that lie evenly
    for n, s in zip(size, strides, strict=True):
        if n == 1:
            continue
        if groups and groups[-1][1] == n * s:
            groups[-1] = (groups[-1][0] * n, s)
        else:
            groups.append((n, s))
    steps = [1] * len(shape)
    k = len(groups) - 1
    left, step = groups[k] if groups else (1, 1)
    for d in range(len(shape) - 1, -1, -1):
        n = shape[d]
        if n == 1:
            steps[d] = step
            continue
        while left == 1 and k > 0:
            k -= 1
            left, step = groups[k]
        if left % n:
            return None
        steps[d] = step
        step, left = step * n, left // n
    return steps


# What moves elements without dropping any is undone without a copy; other views use the rule that all views have.
transpose.backward(x=lambda grad, arguments: transpose(grad, *arguments))
permute.backward(x=lambda grad, arguments: permute(grad, tuple(sorted(range(grad.ndim), key=arguments[0].__getitem__))))
expand.backward(x=lambda grad, size: grad.sum_to_size(size))
unsqueeze.backward(x=lambda grad, size: grad.reshape(size))
squeeze.backward(x=lambda grad, size: grad.reshape(size))
reshape.backward(x=lambda grad, size: grad.reshape(size))
