"""Values in compiled code: attributes, operators, parts, new tensors, what Python runs."""

import numpy as np
from alike import alike

import numbatensor as nt


def test_attributes():
    def look(x):
        n, m = x.shape
        return n * m, x.ndim, x.size(0), x.size(-1), x.numel(), x.dim(), len(x), x.dtype == nt.float32, x.itemsize

    def more(x):
        return x.requires_grad, x.is_leaf, x._version, x.is_contiguous(), x.is_floating_point(), x.T, x.mT

    def numbers(x):
        return x.sum().item(), float(x.sum()), int(x.sum()), bool(x.sum() > 1), (x > 0.5).sum().item()

    for function in (look, more, numbers):
        alike(function, nt.rand(3, 4))
    alike(more, nt.rand(3, 4, requires_grad=True).T)


def test_operators():
    def floats(x, y):
        return (
            x + y,
            1 - x,
            2.0 * x,
            x / y,
            x**2,
            2**x,
            -x,
            +x,
            abs(x),
            x > 0.5,
            x == y,
            x != 1,
            x <= y,
            x % 0.3,
            x // y,
        )

    def whole(x):
        return x + 1, x * 2.0, x / 2, ~x, x & 3, x | 1, x ^ 1, x << 1, x >> 1, ~(x > 2)

    def products(x, w, v):
        return x @ w, x @ v, v @ w, v @ v, nt.matmul(x, w), (x + x).matmul(w)

    alike(floats, nt.rand(3, 4), nt.rand(4))
    alike(whole, nt.arange(6))
    alike(products, nt.rand(3, 4), nt.rand(4, 2), nt.rand(4))


def test_in_place():
    def change(x):
        y = x.clone()
        y += 1
        y *= x
        y.add_(x)
        y.tanh_()
        y -= 0.5
        y /= 2
        z = y
        z.zero_()
        y.fill_(3)
        y.copy_(x)
        return y, z, y._version

    alike(change, nt.rand(3))


def test_keywords_and_lists():
    def call(x):
        a = x.sum(0), x.sum(dim=1), nt.sum(x, 1, keepdim=True), x.mean(axis=0), x.sum((0, -1)), x.amax(-1), x.sum()
        b = (
            x.reshape(4, 3),
            x.reshape((2, 6)),
            x.permute(1, 0),
            x.unsqueeze(0),
            x.squeeze(),
            x.reshape(-1),
            x.expand(2, 3, 4),
        )
        return a, b

    alike(call, nt.rand(3, 4))


def test_parts():
    def read(x):
        a = x[0], x[1, 2], x[:, 1], x[0:2], x[::2, 1:], x[-1, -2], x[None], x[..., 0], x[:, None, 1], x[::-1]
        return a, x[2:0:-1], x[5:], x[...], x[1:2, 0:3:2]

    def write(x, v):
        y = x.clone()
        y[0] = 1
        y[1, 2] = 7.5
        y[:, 1] = y[:, 0]
        y[2] = v
        y[::2, 3:] = -1
        y[1] = v[None]
        return y, y._version

    alike(read, nt.rand(3, 4))
    alike(write, nt.rand(3, 4), nt.rand(4))


def test_new_tensors():
    def make(n, x):
        a = (
            nt.zeros(n, 2),
            nt.ones((2, n)),
            nt.full((2,), 3.5),
            nt.full((n,), 2),
            nt.zeros(()),
            nt.zeros(3, dtype=nt.int64),
        )
        b = nt.ones(2, dtype=nt.float64, requires_grad=True), nt.zeros_like(x), nt.full_like(x, 7), nt.tensor(1.5)
        c = (
            nt.tensor((1, 2)),
            nt.arange(5),
            nt.linspace(0, 1, 3),
            nt.eye(n),
            nt.tensor(np.ones(3)),
            nt.arange(0, 1, 0.25),
        )
        return a, b, c

    def draw(n):
        nt.manual_seed(3)
        return nt.rand(n, 2), nt.randn(2), nt.randint(0, 10, (4,)), nt.randperm(5), nt.rand(2, dtype=nt.float64)

    alike(make, 3, nt.rand(2, 2))
    alike(draw, 3)


def test_functions_that_python_runs():
    def first(x):
        a = nt.softmax(x, 1), x.softmax(-1), nt.log_softmax(x, dim=0), nt.cumsum(x, 0), x.max(), nt.clamp(x, 0.2, 0.5)
        return a, x.clamp(min=0.3), nt.where(x > 0.5, x, 0.0), x.max(1), nt.min(x, 0).values, x.argmax(), nt.topk(x, 2)

    def second(x):
        a = x.sort(1), x.std(), x.var(0), x.norm(), nt.cat((x, x)), nt.stack((x, x), 1), nt.allclose(x, x), nt.tril(x)
        return a, x.flip(0), nt.einsum("ij,ij->i", x, x), x.flatten(), x.masked_fill(x > 0.5, 0.0), nt.outer(x[0], x[1])

    alike(first, nt.rand(3, 4))
    alike(second, nt.rand(3, 4))


def test_dtypes():
    def convert(x, i):
        return x.double(), x.to(nt.int64), i + 1.5, i * True, x + i, x.type_as(i), i.float(), i / 2, x.double() + x

    alike(convert, nt.rand(3), nt.arange(3))
