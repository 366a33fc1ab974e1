"""What of the public interface there is inside users' compiled functions."""

import types

import numba
import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from numba.typed import List

import numbatensor as nt
import numbatensor.nn.functional as F
from numbatensor import nopython
from numbatensor.core.python import NativeFunction
from numbatensor.tensor import Tensor


def same(a, b):
    """Whether results are equal: Tensors by all that is seen of them, sequences by what is in them."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        known = lambda x: (x.dtype, x.shape, x.stride(), x.requires_grad)
        return known(a) == known(b) and np.array_equal(a.detach().numpy(), b.detach().numpy(), equal_nan=True)
    return type(a) is type(b) and a == b


def leaves(found):
    """All Tensors in a result."""
    return [t for part in found for t in leaves(part)] if isinstance(found, (tuple, list)) else [found]


def alike(function, *args):
    """Run a function compiled and as Python: the results and the gradients have to be equal."""
    outcomes = []
    for run in (njit(function), function):
        nt.manual_seed(0)
        given = [a.detach().clone().requires_grad_(a.requires_grad) if isinstance(a, Tensor) else a for a in args]
        found = run(*given)
        tracked = [t.sum() for t in leaves(found) if isinstance(t, Tensor) and t.requires_grad]
        for t in tracked:
            t.backward(retain_graph=True)
        outcomes.append((found, [a.grad for a in given if isinstance(a, Tensor)]))
    (found, grads), (expected, wanted) = outcomes
    assert same(found, expected), (found, expected)
    assert same([g for g in grads if g is not None], [g for g in wanted if g is not None]), (grads, wanted)
    assert [g is None for g in grads] == [g is None for g in wanted]
    return found


def matrix(grad=True):
    return nt.arange(12, dtype=nt.float32).reshape(3, 4).clone().requires_grad_(grad)


def test_masks_and_index_tensors_are_read():
    def masks(x, i, m):
        return x[m], x[m[:, 0]], x[:, m[0]], x[None, m], x[i > 0], x[~m], x[m, None], x[..., m[0]]

    def tensors(x, i, m):
        a = x[i], x[:, i], x[i, 0], x[i, i], x[i, :2], x[None, i], x[..., i], x[i[:, None], i], x[-i], x[i, ..., None]
        return a, x[0, i], x[1:, i], x[i, None, i], x[::-1, i], x[i[0]], x[i[0], i]

    i, m = nt.tensor([0, 2, 1]), matrix(False) % 2 == 0
    alike(masks, matrix(), i, m)
    alike(tensors, matrix(), i, m)


def test_arrays_and_lists_are_indices():
    def read(x, a, m):
        return (
            x[a],
            x[m],
            x[:, a],
            x[[0, 2]],
            x[[2, 1], [0, 3]],
            x[[True, False, True]],
            x[(0, 1), 1],
            x[True],
            x[False],
        )

    def write(x, a, m):
        y = x.clone()
        y[a] = 1.5
        y[[0, 2]] = np.ones(4, np.float32)
        y[0] = np.zeros(4)
        return y

    arrays = np.array([0, 2]), np.arange(12).reshape(3, 4) > 5
    alike(read, matrix(), *arrays)
    alike(write, matrix(), *arrays)


def test_masks_and_index_tensors_are_written():
    def write(x, v, i, m):
        y = x.clone()
        y[m] = 0.0
        y[i] = v
        y[:, i] = 2
        y[i, i] = v[:3]
        y[m] += 1
        y[i] *= 3.0
        y[0] += v
        y[1, 1:] -= 1
        return y, y._version

    alike(write, matrix(), nt.rand(4, requires_grad=True), nt.tensor([0, 2, 1]), matrix(False) % 2 == 0)


def test_wrong_indices():
    def far(x, i):
        return x[i]

    def shape(x, i):
        return x[i > 0]

    for function, i in ((far, nt.tensor([7])), (shape, nt.tensor([0, 1]))):
        with pytest.raises(IndexError) as expected:
            function(matrix(), i)
        with pytest.raises(IndexError) as found:
            njit(function)(matrix(), i)
        assert str(found.value) == str(expected.value)
    for i, words in (
        (nt.ones(2), r"Tensor\(float32, 1-D\) as an index"),
        ("a", "no place for an index of type str"),
    ):
        with pytest.raises(TypingError, match=words):
            njit(far)(matrix(), i)


def test_iteration():
    def rows(x):
        total = x[0] * 0
        for row in x:
            total = total + row * row
        for k, row in enumerate(x):
            total = total + k * row
        for row, other in zip(x, x * 2):  # noqa: B905
            total = total + row * other
        return total

    def unpacked(x):
        a, b, c = x
        (d, e, f, g) = x[0]
        return a * b - c, d + e * f / g, 3.0 in x, 77.0 in x, [row.sum() for row in x]

    def any_rank(x, n):
        while x.ndim > n:
            x = x.sum(0)
        total = 0.0
        for row in x:
            total += row.sum().item()
        return total

    alike(rows, matrix())
    alike(unpacked, matrix())
    alike(any_rank, matrix(False), 1)
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        njit(any_rank)(matrix(False), 0)
    with pytest.raises(TypingError, match="iteration over a 0-d tensor"):
        njit(lambda x: [row for row in x])(nt.tensor(1.0))  # noqa: C416


def test_rows_live_as_long_as_they_are_used():
    @njit
    def last(n):
        kept = [nt.ones(1)]
        for row in nt.arange(n).double().reshape(n, 1):
            kept.append(row.float())
            if len(kept) > 3:
                break
        return kept

    @njit
    def rows(x):
        for row in x:  # noqa: UP028
            yield row

    assert [t.item() for t in last(10)] == [1.0, 0.0, 1.0, 2.0]
    assert [t.tolist() for t in rows(nt.eye(2))] == [[1.0, 0.0], [0.0, 1.0]]


def test_strides_and_views():
    def look(x):
        y = x.T
        return x.stride(), y.stride(), y.stride(0), y.stride(-1), y[1].storage_offset(), y.nelement(), str(x.device)

    def view(x):
        y = x.view(2, 6)
        return y, x.view(-1), x.view((4, 3)), y.view(12).view(3, -1), x.view([6, 2])

    def wrong(x):
        return x.T.view(12)

    alike(look, matrix())
    alike(view, matrix())
    with pytest.raises(RuntimeError, match="view"):
        njit(wrong)(matrix())
    with pytest.raises(IndexError, match="Dimension out of range"):
        njit(lambda x: x.stride(5))(matrix())


def test_parts_and_joins():
    def taken(x):
        a, b = x.split((1, 2))
        c, d = x.split(2, 1)
        e = nt.chunk(x, 2, dim=1)
        return a * 2, b, c + d, e[0] * e[1], len(x.unbind()), x.unbind(1)[2], len(x.split(2))

    def joined(x):
        parts = [x, x * 2]
        a = (
            nt.cat(parts),
            nt.stack(parts, 1),
            nt.hstack(parts),
            nt.vstack((x, x)),
            nt.cat(x.unbind()),
            nt.stack(x.unbind(1)),
        )
        return a, nt.hstack((x[0], x[1])), nt.vstack((x[0], x[1])), nt.cat(x.split(2, dim=1), dim=1)

    def written(x):
        y = x.clone()
        a, b = y.split(2, 1)
        a.add_(1)

    alike(taken, matrix())
    alike(joined, matrix())
    with pytest.raises(RuntimeError) as expected:
        written(matrix())
    with pytest.raises(RuntimeError) as found:
        njit(written)(matrix())
    assert str(found.value) == str(expected.value)
    many = List([nt.ones(2), nt.zeros(2)])
    assert njit(lambda many: nt.cat(many))(many).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert njit(lambda many: nt.stack(many))([nt.ones(2), nt.zeros(2)]).shape == (2, 2)


def test_lists_are_shapes():
    def shapes(x, n):
        sizes = [n, 12 // n]
        a = (
            x.reshape(sizes),
            x.permute([1, 0]),
            x.sum([0, 1]),
            x.sum(dim=[0], keepdim=True),
            x.flip([0]),
            x.expand([2, 3, 4]),
        )
        return (
            a,
            nt.zeros(sizes),
            nt.ones([2, 3]),
            nt.full([n], 2.5),
            nt.rand([2]),
            nt.tensor([1.0, 2.0]),
            nt.tensor([[1, 2]]),
        )

    alike(shapes, matrix(), 4)


def test_arrays_are_operands():
    def operators(x, a):
        return x + a, a * x, x / a, a - x, x > a, a == x, x @ a, nt.maximum(x, a), x.add(a), nt.where(x > 1, x, a)

    def scalars(x, a):
        return x * np.float64(2.0), np.float32(2) - x, x + a[0], x ** np.int64(2), x * np.max(a)

    def in_place(x, a):
        y = x.clone()
        y += a
        y.mul_(a)
        return y

    for a in (np.arange(1, 5, dtype=np.float32), np.arange(1, 5)):
        alike(scalars, matrix(), a)
        alike(in_place, matrix(), a)
        if a.dtype == np.float32:
            alike(operators, matrix(), a)
    alike(lambda x, a: (x + a, a * x), matrix(), np.arange(4.0))
    with pytest.raises(TypingError, match="add.*no dtype for an array of complex128"):
        njit(lambda x, a: x + a)(matrix(), np.ones(4, complex))


def test_keywords_that_native_functions_decline():
    def given(x):
        out = nt.zeros(4)
        y = nt.add(x[0], x[1], out=out)
        a = (
            x.sum(dtype=nt.float64),
            x.mean(0, dtype=nt.float64),
            nt.add(x, x, alpha=2),
            nt.div(x, 3, rounding_mode="floor"),
        )
        return (
            y,
            out,
            a,
            nt.cumsum(x, 1, dtype=nt.float64),
            x.to(nt.int64).sum(dtype=nt.float32),
            (x > 1).sum(0, dtype=nt.int32),
        )

    def in_place(x):
        y = x.clone()
        y.add_(x, alpha=3)
        y.clamp_(min=1.0)
        y.masked_fill_(y > 9, 0.0)
        y.cumsum_(1)
        y.gt_(3)
        return y, y._version

    alike(given, matrix(False))
    alike(in_place, matrix(False))
    with pytest.raises(TypingError, match="out= must be a Tensor"):
        njit(lambda x: nt.add(x, x, out=1))(matrix())


def test_attributes_are_set():
    @njit
    def step(w, x, target):
        w.grad = None
        ((x @ w - target) ** 2).sum().backward()
        g = w.grad
        if g is not None:
            w.grad = g * 2
        return w.grad

    @njit
    def switched(x):
        y = x.detach()
        y.requires_grad = True
        before = y.requires_grad
        y.requires_grad = False
        return before, y, x.data

    w, x = nt.rand(4, requires_grad=True), matrix(False)
    for _ in range(2):
        found = step(w, x, nt.ones(3))
        assert w.grad is found
    expected = w.detach().clone().requires_grad_()
    ((x @ expected - 1) ** 2).sum().backward()
    assert nt.allclose(found, expected.grad * 2)
    before, y, data = switched(x)
    assert before and not y.requires_grad and same(y, x) and same(data, x)
    with pytest.raises(RuntimeError, match="only Tensors of floating point dtype can require gradients"):
        switched(nt.arange(3))
    with pytest.raises(RuntimeError, match="assign a gradient of size"):
        set_grad(w, nt.ones(2))


def test_attributes_that_cannot_be_set():
    kind = numba.typeof(nt.ones(2))
    with pytest.raises(TypingError, match="grad = g"):
        set_grad.compile((kind, numba.float64))
    with pytest.raises(TypingError, match="Tensor.data cannot be set in compiled code: compiled code holds on"):
        njit(set_data).compile((kind, kind))


@njit
def set_grad(w, g):
    w.grad = g


def set_data(x, y):
    x.data = y


def test_modes():
    def blocks(x, on):
        with nt.set_grad_enabled(on):
            a = (x * 2).requires_grad
        with nt.set_grad_enabled(False):
            b = (x * 2).requires_grad
            with nt.inference_mode(False):
                c = (x * 2).requires_grad
        with nt.inference_mode():
            d = nt.is_inference_mode_enabled(), nt.is_grad_enabled(), x * 2
        with nt.inference_mode(mode=on):
            e = nt.is_inference_mode_enabled()
        with nt.autograd.strict_versions():
            f = x + 1
        return a, b, c, d, d[2].is_inference(), e, f, nt.is_grad_enabled(), nt.is_inference_mode_enabled()

    def lasting(x):
        nt.set_grad_enabled(False)
        a = (x * 2).requires_grad
        nt.set_grad_enabled(True)
        return a, (x * 2).requires_grad

    def refused(x):
        with nt.inference_mode():
            y = x * 2
        y.requires_grad_()

    def stale(x):
        y = x * x
        loss = (y * y).sum()
        z = nt.zeros(2)
        y[:1].detach()[:0].zero_()
        with nt.autograd.strict_versions():
            loss.backward()
        return z

    for on in (True, False):
        alike(blocks, matrix(), on)
    alike(lasting, matrix())
    assert nt.is_grad_enabled() and not nt.is_inference_mode_enabled()
    for function in (refused, stale):
        with pytest.raises(Exception) as expected:
            function(matrix())
        with pytest.raises(type(expected.value)) as found:
            njit(function)(matrix())
        assert function is stale or str(found.value) == str(expected.value)
        expected = found = None


def test_text(capsys):
    def show(x):
        print(x)
        print("sum", x.sum(), 1)
        print(x.grad)
        print((x, x))
        for row in x:
            print(row)
        return str(x), repr(x[0]), f"{x} and {x[0]}", format(x.sum(), ".2f")

    texts = []
    for function in (njit(show), show):
        x = matrix()
        x.sum().backward()
        texts.append((function(x), capsys.readouterr().out, x.grad.sum().item()))
    assert texts[0] == texts[1]


def test_numpys_functions():
    def ufuncs(x):
        y = x * x + 1
        return np.exp(x), np.sqrt(y), np.add(x, y), np.multiply(2.0, x), np.abs(-x), np.power(y, 2), np.less(x, 3)

    def reductions(x):
        return np.sum(x), np.sum(x, axis=1), np.mean(x, 0), np.prod(x), np.any(x > 3), np.all(x > 3, axis=0)

    alike(ufuncs, matrix())
    alike(reductions, matrix())
    with pytest.raises(TypingError, match="sort"):
        njit(lambda x: np.sort(x))(matrix())
    assert njit(lambda a: np.exp(a) + np.sum(a))(np.zeros(2)).tolist() == [1.0, 1.0]


def test_losses_and_layers():
    def losses(x, y, t, p):
        a = (
            F.mse_loss(x, y),
            F.mse_loss(x, y, reduction="none"),
            F.l1_loss(x, y, reduction="sum"),
            F.nll_loss(F.log_softmax(x, 1), t),
        )
        b = F.cross_entropy(x, t), F.cross_entropy(x, t, reduction="none"), F.cross_entropy(x, t, label_smoothing=0.1)
        return a, b, F.binary_cross_entropy_with_logits(x, p), F.cross_entropy(x, p), nt.nn.functional.mse_loss(x, y)

    def layers(x, w, b, t):
        a = F.relu(x), F.leaky_relu(x, 0.1), F.elu(x, alpha=0.5), F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x)
        c = (
            F.linear(x, w, b),
            F.linear(x, w),
            F.linear(x, w[0]),
            F.embedding(t, x),
            F.layer_norm(x, (4,)),
            F.softmax(x, 1),
        )
        return a, c, F.dropout(x, 0.5), F.dropout(x, 0.5, training=False) * 1, F.mish(x), F.softplus(x)

    x = matrix(False) / 10
    x.requires_grad_()
    t = nt.tensor([1, 0, 3])
    alike(losses, x, nt.rand(3, 4), t, nt.rand(3, 4))
    alike(layers, x, nt.rand(5, 4, requires_grad=True), nt.rand(5, requires_grad=True), nt.tensor([1, 0, 2]))
    with pytest.raises(ValueError, match="nope is not a valid value for reduction"):
        njit(lambda x: F.mse_loss(x, x, reduction="nope"))(x)


def test_passes():
    def grads(x, w):
        loss = ((x * w) ** 2).sum()
        (a,) = nt.autograd.grad(loss, w, create_graph=True)
        b, c = nt.autograd.grad((a * a).sum(), (x, w))
        return a.detach(), b, c

    def unused(x, w):
        a, b = nt.autograd.grad((x * 2).sum(), (x, w), allow_unused=True)
        return a is None, b is None

    def several(x, w):
        nt.autograd.backward(((x * w).sum(), w.sum()))
        (x * x).backward(gradient=x.detach())
        return x.requires_grad

    for function in (grads, unused, several):
        alike(function, matrix(), nt.rand(4, requires_grad=True))


def test_new_tensors_and_randomness():
    def make(x):
        a = (
            x.new_zeros(2, 3),
            x.new_ones((2,)),
            x.new_full((2,), 7.0),
            x.new_tensor((1, 2)),
            nt.as_tensor(x),
            nt.asarray([1, 2]),
        )
        return a, x.new_zeros(2, dtype=nt.int64), nt.randint_like(x, 10), nt.normal(0.0, 1.0, (2,)), nt.normal(x, 1.0)

    def filled(x):
        y = x.clone()
        y.uniform_()
        z = x.clone()
        z.normal_(1.0, std=2.0)
        u = x.clone()
        u.random_(0, 10)
        return y, z, u, x.clone().bernoulli_(0.5), x.clone().exponential_(), nt.initial_seed() == 0

    def restored(x):
        state = nt.get_rng_state()
        a = nt.rand(2)
        nt.set_rng_state(state)
        return a, nt.rand(2)

    for function in (make, filled, restored):
        alike(function, matrix(False))


def test_shapes_that_change():
    def change(x):
        y = x.clone()
        y.transpose_(0, 1)
        y.t_()
        y.swapaxes_(0, 1)
        z = x.clone()
        z.as_strided_((2, 2), (1, 4))
        return (
            y,
            z,
            x.as_strided((2, 2), (1, 4)),
            x.unflatten(1, (2, -1)),
            nt.flatten(x),
            x.sum_to_size(1, 4),
            x.broadcast_to((2, 3, 4)),
        )

    alike(change, matrix(False))
    for function, words in (
        (
            lambda x: x.as_strided_((12,), (1,)),
            r"as_strided_\(\): the rank is part of the type of Tensor\(float32, 2-D\)",
        ),
        (lambda x: x.squeeze_(), "squeeze_ is not there in compiled code: the rank is part of"),
        (lambda x: x.resize_(12), "resize_ is not there in compiled code: compiled code holds on to the memory"),
        (lambda x: x.tolist(), "Tensor.tolist is not there in compiled code: how deep"),
    ):
        with pytest.raises(TypingError, match=words):
            njit(function)(matrix(False))


def test_errors_of_python_name_the_compiled_line():
    @njit
    def stale(x, i):
        y = x * x
        loss = (y * y).sum()
        y[i, i] = 0.0
        loss.backward()

    with pytest.raises(nt.autograd.VersionError) as caught:
        stale(nt.rand(2, 2, requires_grad=True), nt.tensor([0, 1]))
    start = stale.py_func.__code__.co_firstlineno
    assert f"{__file__}:{start + 4}" in str(caught.value)


def known_function(value):
    """Whether compiled code knows what Python's code names."""
    if isinstance(value, type):
        return nopython.cpu.typing_context._lookup_global(value) is not None
    kind = nopython.type_of_op if isinstance(value, NativeFunction) else nopython.type_of_function
    return isinstance(value, (NativeFunction, types.FunctionType)) and kind(value, None) is not None


def test_all_that_is_public_is_there_or_has_a_reason():
    nopython.all_of_it()
    missing, attributes = nopython.loaded("missing"), nopython.loaded("attributes")
    public = [name for name in {*vars(nt), *nt.LAZY} if not name.startswith("_")]
    lacking = [name for name in public if callable(value := getattr(nt, name)) and not known_function(value)]
    assert sorted(lacking) == sorted(missing.FUNCTIONS)
    x = nopython.type_of_tensor(nt.ones(2, 2))
    lacking = []
    for name in dir(Tensor):
        if name.startswith("_"):
            continue
        try:
            assert attributes.TensorAttributes(None).generic_resolve(x, name) is not None
        except TypingError as error:
            assert missing.METHODS[name] in str(error)
            lacking.append(name)
    assert sorted(lacking) == sorted(missing.METHODS)
    known = lambda names, place: [n for n in names if not known_function(getattr(place, n))]
    assert known([n for n, f in vars(F).items() if callable(f) and n not in ("activation", "reduce")], F) == []
