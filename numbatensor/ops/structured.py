"""Products of matrices, and copies into tensors."""

from kernels_cpu.matmul import combination, product
from numbatensor.core import device_moves, device_products, products
from numbatensor.core.autocast import LOWER
from numbatensor.op import EVERYWHERE, EXACT, INT, NUMBER, NUMERIC, ON_DEVICES, OPTIONAL, TENSOR, same, structured
from numbatensor.ops.views import as_rows
from numbatensor.samples import floats


@structured(
    halves=ON_DEVICES,
    run=products.matmul,
    there=device_products.matmul_there,
    there_kernels={0: "matmul:product"},
    kernels={0: (product, 2, EXACT)},
    dtypes=NUMERIC,
    samples=[(floats(2, 3), floats(3, 2)), (floats(2, 2, 3), floats(3, 2)), (floats(2, 0), floats(0, 3))],
)
def matmul(x: TENSOR, y: TENSOR):
    """Matrix product: ``out[..., i, j] = sum over k of x[..., i, k] * y[..., k, j]``, both at least 2-D."""


@structured(
    run=products.dot,
    there=device_products.dot_there,
    halves=ON_DEVICES,
    dtypes=NUMERIC,
    samples=[(floats(3), floats(3)), (floats(0), floats(0))],
)
def dot(x: TENSOR, y: TENSOR):
    """Sum of the products of two vectors."""


@structured(
    halves=ON_DEVICES,
    run=products.linear,
    there=device_products.linear_there,
    dtypes=NUMERIC,
    samples=[
        (floats(2, 3), floats(4, 3), floats(4)),
        (floats(2, 2, 3), floats(1, 3)),
        (floats(3), floats(2, 3), floats(2)),
    ],
)
def linear(x: TENSOR, weight: TENSOR, bias: OPTIONAL = None):
    """``x @ weight.T + bias``, for x of any rank but 0."""


@structured(
    halves=ON_DEVICES,
    run=products.addmm,
    there=device_products.addmm_there,
    kernels={1: (combination, 2, EXACT)},
    dtypes=NUMERIC,
    samples=[(floats(2, 2), floats(2, 3), floats(3, 2)), (floats(2), floats(2, 3), floats(3, 2), 0.5, 2.0)],
)
def addmm(x: TENSOR, mat1: TENSOR, mat2: TENSOR, beta: NUMBER = 1, alpha: NUMBER = 1):
    """``beta * x + alpha * mat1 @ mat2``; x is not looked at where beta is 0."""


matmul.backward(x=lambda grad, y: matmul(grad, y.mT), y=lambda grad, x: matmul(x.mT, grad))
dot.backward(x=lambda grad, y: grad * y, y=lambda grad, x: grad * x)
linear.backward(
    x=lambda grad, weight: linear(grad, weight.mT),
    weight=lambda grad, x: matmul(as_rows(grad).mT, as_rows(x)),
    bias=same,
)
addmm.backward(
    x=lambda grad, beta: grad * beta,
    mat1=lambda grad, mat2, alpha: matmul(grad, mat2.mT) * alpha,
    mat2=lambda grad, mat1, alpha: matmul(mat1.mT, grad) * alpha,
)


@structured(samples="only ever recorded: its rule passes the gradient on")
def copy(source: TENSOR):
    """The elements that an in-place copy wrote; only ever recorded."""


copy.backward(source=same)


@structured(run=device_moves.moved, there="same", halves=EVERYWHERE, samples="between devices: see tests/test_cuda.py")
def moved(x: TENSOR, device: INT, source: INT):
    """The tensor on another device, by the core's numbers of devices."""


moved.backward(x=lambda grad, device, source: moved(grad, source, device))
for op in (matmul, dot, linear, addmm):
    op.under_autocast(LOWER, LOWER)
for op in (matmul, dot, linear, addmm, copy, moved):
    op.internal()
