"""The negative log-likelihood of classes: of each row of log-probabilities, the one that a target picks.

Strides are in bytes; a null weight means that all classes weigh 1. Targets are int64. `check` looks at them first, where the host can wait for
what it finds; the other kernels make NaN of a target that is no class, and touch nothing for it. `nll_loss` is one thread a row, or, for sums and means, one block, whose threads
sum every 256th row, by 64, and are then summed by halves: the order depends on the number of rows alone.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.pointers import atomic_or, get, is_null, moved, put

NONE, MEAN, SUM = range(3)
THREADS = 256
EACH = 64  # elements that a thread sums before it adds them to its total: a million rows are sums of 64, 62 and 8
words = types.CPointer(types.int64)


def check(kind, form):
    """The flag becomes 1 where a target is no class, nor ignored. Arguments: flag, target, n, target_step, classes, ignored."""

    @cuda.jit
    def kernel(flag, target, n, target_step, classes, ignored):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if i < n:
            t = get(moved(target, int64(i) * target_step), 0)
            if t != ignored and (t < 0 or t >= classes):
                atomic_or(flag, 0, 1)

    return kernel, (words, words, types.uint32) + (types.int64,) * 3


def weighing(kind):
    nan = kind(float("nan"))

    @cuda.jit(device=True)
    def scale_of(weight, weight_step, t, classes, ignored):
        """The weight of a class; 0 if it is ignored, NaN if there is none."""
        if t == ignored:
            return kind(0)
        if t < 0 or t >= classes:
            return nan
        if is_null(weight):
            return kind(1)
        return get(moved(weight, t * weight_step), 0)

    return scale_of


def halved(kind):
    @cuda.jit(device=True)
    def total(shared, t, value):
        """The sum of all threads' values, by halves."""
        shared[t] = value
        step = uint32(THREADS // 2)
        while step > 0:
            cuda.syncthreads()
            if t < step:
                shared[t] = shared[t] + shared[uint32(t + step)]
            step = uint32(step >> 1)
        cuda.syncthreads()
        return shared[0]

    return total


def nll_loss(kind, reduction):
    """``loss[i] = -weight[t[i]] * x[i, t[i]]``, or their sum, or that divided by the sum of the weights; 0 where t[i] is ignored.

    Arguments: out, x, target, weight, n, then the bytes from row to row and column to column of x, of target and of weight, how many classes there
    are, and which is ignored.
    """
    scale_of, total = weighing(kind), halved(kind)
    means = reduction == MEAN

    @cuda.jit(device=True)
    def loss_of(x, target, weight, i, row, column, target_step, weight_step, classes, ignored):
        t = get(moved(target, int64(i) * target_step), 0)
        scale = scale_of(weight, weight_step, t, classes, ignored)
        loss = scale
        if t != ignored and t >= 0 and t < classes:
            loss = -scale * get(moved(x, int64(i) * row + t * column), 0)
        return loss, scale

    @cuda.jit
    def each(out, x, target, weight, n, row, column, target_step, weight_step, classes, ignored):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if i < n:
            put(out, i, loss_of(x, target, weight, i, row, column, target_step, weight_step, classes, ignored)[0])

    @cuda.jit
    def kernel(out, x, target, weight, n, row, column, target_step, weight_step, classes, ignored):
        t = uint32(cuda.threadIdx.x)
        losses, scales = cuda.shared.array(THREADS, kind), cuda.shared.array(THREADS, kind)
        loss, scale, i = kind(0), kind(0), t
        while i < n:
            some, heavy, k = kind(0), kind(0), uint32(0)
            while i < n and k < EACH:
                more, weighed = loss_of(x, target, weight, i, row, column, target_step, weight_step, classes, ignored)
                some, heavy, i, k = some + more, heavy + weighed, uint32(i + THREADS), uint32(k + 1)
            loss, scale = loss + some, scale + heavy
        loss, scale = total(losses, t, loss), total(scales, t, scale)
        if t == 0:
            put(out, 0, loss / scale if means else loss)

    pointer = types.CPointer(kind)
    arguments = (pointer, pointer, words, pointer, types.uint32) + (types.int64,) * 6
    return (each if reduction == NONE else kernel), arguments


def weights(kind, form):
    """``out[0]``: the sum of the weights of the targets. Arguments as of `nll_loss`."""
    scale_of, total = weighing(kind), halved(kind)

    @cuda.jit
    def kernel(out, x, target, weight, n, row, column, target_step, weight_step, classes, ignored):
        t = uint32(cuda.threadIdx.x)
        scales = cuda.shared.array(THREADS, kind)
        scale, i = kind(0), t
        while i < n:
            some, k = kind(0), uint32(0)
            while i < n and k < EACH:
                some += scale_of(weight, weight_step, get(moved(target, int64(i) * target_step), 0), classes, ignored)
                i, k = uint32(i + THREADS), uint32(k + 1)
            scale += some
        scale = total(scales, t, scale)
        if t == 0:
            put(out, 0, scale)

    pointer = types.CPointer(kind)
    return kernel, (pointer, pointer, words, pointer, types.uint32) + (types.int64,) * 6


def nll_loss_grad(kind, form):
    """``out[i, t[i]] = -weight[t[i]] * grad[i]``, divided by ``share[0]`` where that is not null; `out` was cleared, its rows are `row` bytes apart.

    Of a target that is no class the first column gets NaN. Arguments: out, grad, target, weight, share, n, row, the bytes from element to
    element of grad, target and weight, how many classes there are, and which is ignored.
    """
    scale_of = weighing(kind)

    @cuda.jit
    def kernel(out, grad, target, weight, share, n, row, grad_step, target_step, weight_step, classes, ignored):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if i < n:
            t = get(moved(target, int64(i) * target_step), 0)
            if t != ignored and classes > 0:
                slope = -scale_of(weight, weight_step, t, classes, ignored) * get(moved(grad, int64(i) * grad_step), 0)
                if not is_null(share):
                    slope = slope / get(share, 0)
                put(moved(out, int64(i) * row), t if t >= 0 and t < classes else int64(0), slope)

    pointer = types.CPointer(kind)
    return kernel, (pointer, pointer, words, pointer, pointer, types.uint32) + (types.int64,) * 6
