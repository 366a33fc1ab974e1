"""Elements in another order, repeated, or left out: copies, not views."""

from kernels_cpu import index as kernels
from numbatensor.core import arranging as natives
from numbatensor.core import joining
from numbatensor.op import DIMS, EVERYWHERE, EXACT, INT, SIZES, TENSOR, Joined, structured
from numbatensor.samples import floats

TRIANGLES = [(floats(3, 3),), (floats(2, 2, 3), 1), (floats(3, 2), -1)]


@structured(
    run=natives.flip,
    there="same",
    halves=EVERYWHERE,
    kernels=((kernels.turn, 2, EXACT),),
    samples=[(floats(2, 3), (0, -1)), (floats(2, 3), 1), (floats(3), ())],
)
def flip(x: TENSOR, dims: DIMS):
    """The tensor with the order of some dimensions turned around."""


flip.backward(x=lambda grad, dims: flip(grad, dims))


@structured(
    run=natives.roll, there="same", halves=EVERYWHERE, samples=[(floats(2, 3), 1, 0), (floats(2, 3), (1, -2), (0, 1))]
)
def roll(x: TENSOR, shifts: DIMS, dims: DIMS):
    """The tensor shifted along dimensions; what leaves one end enters the other."""


def back(shifts):
    return -shifts if isinstance(shifts, int) else tuple(-s for s in shifts)


roll.backward(x=lambda grad, shifts, dims: roll(grad, back(shifts), dims))


@structured(
    run=natives.tile,
    there="same",
    halves=EVERYWHERE,
    samples=[(floats(2, 3), (2, 1)), (floats(3), (2, 2)), (floats(2, 3), (2,)), (floats(), ())],
)
def tile(x: TENSOR, dims: SIZES):
    """The tensor repeated along each dimension; missing dimensions count once."""


def untile(grad, dims, input_shape):
    """Sum over the repetitions."""
    ndim = max(len(dims), len(input_shape))
    repeats = (1,) * (ndim - len(dims)) + tuple(dims)
    full = (1,) * (ndim - len(input_shape)) + tuple(input_shape)
    pairs = [n for r, m in zip(repeats, full, strict=True) for n in (r, m)]
    return grad.reshape(pairs).sum(tuple(range(0, 2 * ndim, 2))).reshape(input_shape) if pairs else grad


tile.backward(x=untile)


@structured(
    run=natives.tril, there="same", halves=EVERYWHERE, there_kernels={0: "arranging:triangle"}, samples=TRIANGLES
)
def tril(x: TENSOR, diagonal: INT = 0):
    """The lower triangle of each matrix; zeros above."""


@structured(
    run=natives.triu, there="same", halves=EVERYWHERE, there_kernels={0: "arranging:triangle"}, samples=TRIANGLES
)
def triu(x: TENSOR, diagonal: INT = 0):
    """The upper triangle of each matrix; zeros below."""


tril.backward(x=lambda grad, diagonal: tril(grad, diagonal))
triu.backward(x=lambda grad, diagonal: triu(grad, diagonal))

cat = Joined(
    "cat",
    "Tensors joined along a dimension.",
    joining.cat,
    new=False,
    samples=[((floats(2, 3), floats(1, 3)), 0), ((floats(2, 1), floats(2, 2), floats(2, 3)), -1)],
)
stack = Joined(
    "stack",
    "Tensors joined along a new dimension.",
    joining.stack,
    new=True,
    samples=[((floats(2, 3), floats(2, 3)), 0), ((floats(2), floats(2)), -1)],
)
for op in (flip, roll, tile, tril, triu):
    op.internal()
