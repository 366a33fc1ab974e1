"""float16 and bfloat16 in all that is not an op: dtypes, random numbers, files, other libraries, training, compiled code."""

import copy
import ctypes
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

import numbatensor as nt

HALVES = (nt.float16, nt.bfloat16)
each_half = pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)


def exactly(x, numbers, half):
    """Whether a tensor has these numbers, rounded to a half type."""
    assert x.dtype is half and x.double().tolist() == nt.tensor(numbers, dtype=nt.float32).to(half).double().tolist()


# dtypes


@pytest.mark.parametrize(
    "half, digits, most, tiny, resolution",
    [(nt.float16, 11, 65504.0, 2.0**-14, 1e-3), (nt.bfloat16, 8, 3.3895313892515355e38, 2.0**-126, 1e-2)],
)
def test_limits(half, digits, most, tiny, resolution):
    f = nt.finfo(half)
    assert (f.bits, f.digits, f.eps, f.max, f.min) == (16, digits, 2.0 ** (1 - digits), most, -most)
    assert (f.tiny, f.smallest_normal, f.resolution, f.dtype) == (tiny, tiny, resolution, half.name)
    assert nt.tensor(most, dtype=half).item() == most and (nt.tensor(1.0, dtype=half) + f.eps).item() == 1.0 + f.eps
    assert nt.iinfo(nt.int16).max == 32767 and nt.half is nt.float16
    with pytest.raises(TypeError, match="iinfo"):
        nt.finfo(nt.int64)
    with pytest.raises(TypeError, match="integer"):
        nt.iinfo(half)


def test_promotion():
    h, b, f, d, i = nt.float16, nt.bfloat16, nt.float32, nt.float64, nt.int64
    for x, y, both in (
        (h, b, f),
        (h, f, f),
        (b, f, f),
        (h, d, d),
        (b, i, b),
        (h, nt.bool, h),
        (h, h, h),
        (nt.uint8, b, b),
    ):
        assert nt.promote_types(x, y) is nt.promote_types(y, x) is both
        assert (nt.ones(2, dtype=x) + nt.ones(2, dtype=y)).dtype is both
    for half in HALVES:
        x = nt.ones(2, dtype=half)
        for other in (1, 1.5, True, nt.tensor(1.5), nt.tensor(1.5, dtype=d), nt.tensor(3)):
            assert (x + other).dtype is (other + x).dtype is half
        assert (nt.ones(2) + nt.tensor(1.0, dtype=half)).dtype is f and (x > 0).dtype is nt.bool
        assert (nt.tensor(2, dtype=i) * nt.tensor(1.5, dtype=half)).dtype is half
        x += nt.ones(2)
        exactly(x, [2.0, 2.0], half)


@each_half
def test_created(half):
    exactly(nt.zeros(2, dtype=half), [0, 0], half)
    exactly(nt.full((2,), 0.1, dtype=half), [0.1, 0.1], half)
    exactly(nt.arange(0.0, 1.0, 0.25, dtype=half), [0, 0.25, 0.5, 0.75], half)
    exactly(nt.linspace(0, 1, 4, dtype=half), np.linspace(0, 1, 4).tolist(), half)
    exactly(nt.eye(2, dtype=half), [[1, 0], [0, 1]], half)
    exactly(nt.ones_like(nt.zeros(2, dtype=half)), [1, 1], half)
    exactly(nt.empty(2, dtype=half).fill_(0.3), [0.3, 0.3], half)
    exactly(nt.tensor([1, 2.3], dtype=half), [1, 2.3], half)
    exactly(nt.tensor([nt.tensor(1.5, dtype=half), nt.tensor(2.5, dtype=half)]), [1.5, 2.5], half)
    exactly(nt.tensor(nt.tensor([0.1], dtype=half)), [0.1], half)
    assert (
        nt.tensor([1e39, -1e39], dtype=half).tolist()
        == nt.full((2,), 1e39, dtype=half).mul(nt.tensor([1, -1])).tolist()
    )
    assert (
        nt.tensor(3.5, dtype=half).item() == float(nt.tensor(3.5, dtype=half)) == 3.5
        and nt.empty(0, dtype=half).tolist() == []
    )
    assert repr(nt.tensor([1.5, -2.25], dtype=half)) == f"tensor([ 1.5000, -2.2500], dtype=numbatensor.{half.name})"


@each_half
def test_as_the_default(half):
    nt.set_default_dtype(half)
    try:
        made = [
            nt.tensor([1.5]),
            nt.tensor(1.5),
            nt.tensor([]),
            nt.ones(2),
            nt.rand(2),
            nt.randn(2),
            nt.linspace(0, 1, 3),
        ]
        made += [nt.arange(0, 1, 0.5), nt.tensor([1, 2]) / 2, nt.tensor([4]).sqrt(), nt.full((1,), 0.5), nt.eye(2)]
        made += [nt.tensor([1]) * 1.5, nt.nn.Linear(2, 1)(nt.ones(2))]
        assert all(t.dtype is half for t in made) and nt.finfo().dtype == half.name
        assert repr(nt.ones(1)) == "tensor([1.])" and nt.tensor(np.ones(1)).dtype is nt.float64
    finally:
        nt.set_default_dtype(nt.float32)


# random numbers


@each_half
def test_random_numbers(half):
    def draw(make):
        nt.manual_seed(3)
        return make()

    makers = {
        "rand": lambda d: nt.rand(20_000, dtype=d),
        "randn": lambda d: nt.randn(20_000, dtype=d),
        "normal_": lambda d: nt.empty(300, dtype=d).normal_(2.0, 3.0),
        "exponential_": lambda d: nt.empty(300, dtype=d).exponential_(),
        "bernoulli": lambda d: nt.bernoulli(nt.full((300,), 0.25, dtype=d)),
        "bernoulli_": lambda d: nt.empty(300, dtype=d).bernoulli_(nt.full((300,), 0.25)),
        "dropout": lambda d: nt.nn.functional.dropout(nt.ones(300, dtype=d), 0.5),
        "randint": lambda d: nt.randint(-5, 100, (300,), dtype=d),
        "random_": lambda d: nt.empty(300, dtype=d).random_(0, 7),
        "randperm": lambda d: nt.randperm(200, dtype=d),
        "uniform_": lambda d: nt.empty(300, dtype=d).uniform_(-1.0, 1.0),
    }
    for name, make in makers.items():
        found, exact = draw(lambda: make(half)), draw(lambda: make(nt.float32))  # noqa: B023
        assert found.dtype is half, name
        assert np.array_equal(found.float().numpy(), draw(lambda: make(half)).float().numpy())  # noqa: B023
        np.testing.assert_allclose(
            found.float().numpy(), exact.numpy(), rtol=nt.finfo(half).eps, atol=nt.finfo(half).eps
        )
        if name not in ("rand", "uniform_"):
            assert np.array_equal(found.float().numpy(), exact.to(half).float().numpy())
    u = draw(lambda: makers["rand"](half))
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean().item() - 0.5) < 0.01
    assert nt.multinomial(nt.tensor([0.0, 0.0, 3.0], dtype=half), 5, True).tolist() == [2] * 5
    assert nt.randperm(5, dtype=half, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match="randperm"):
        nt.randperm(5000, dtype=half)
    with pytest.raises(RuntimeError, match="p_in"):
        nt.bernoulli(nt.tensor([1.5], dtype=half))
    x = nt.ones(1000, dtype=half, requires_grad=True)
    y = nt.nn.functional.dropout(x, 0.5)
    y.sum().backward()
    assert x.grad.dtype is half and x.grad.tolist() == y.tolist()


# files and other libraries


@each_half
def test_saved_and_copied(half, tmp_path):
    x = nt.tensor([[1.5, float("nan"), 1e-7], [float("inf"), -0.0, 3.0]], dtype=half, requires_grad=True)
    nt.save({"x": x, "list": [x, 1]}, tmp_path / "x")
    loaded = nt.load(tmp_path / "x")
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x), loaded["x"], loaded["list"][0]):
        assert y.dtype is half and y.requires_grad and repr(y) == repr(x)
    module = nt.nn.Linear(2, 2).to(half)
    other = nt.nn.Linear(2, 2).to(half)
    other.load_state_dict(pickle.loads(pickle.dumps(module.state_dict())))
    assert nt.equal(other.weight, module.weight) and other.weight.dtype is half


def test_shared_with_numpy():
    x = nt.ones(2, dtype=nt.float16)
    array = x.numpy()
    array[0] = 3
    assert x.tolist() == [3, 1] and array.dtype == np.float16
    y = nt.from_numpy(array[::-1])
    y[0] = 7.0
    assert x.tolist() == [3, 7] and y.dtype is nt.float16
    assert (x + np.float16(1)).dtype is (x + np.ones(2, np.float16)).dtype is nt.float16
    b = nt.ones(2, dtype=nt.bfloat16)
    for refused in (b.numpy, lambda: np.asarray(b)):
        with pytest.raises(TypeError, match="BFloat16.*float"):
            refused()
    with pytest.raises(TypeError, match="float64"):
        nt.set_default_dtype("bfloat")


class Known(np.ndarray):
    """An array as a package makes it that has taught NumPy bfloat16: its dtype has this name."""

    dtype = types.SimpleNamespace(name="bfloat16", itemsize=2)


def test_arrays_of_bfloat16():
    array = np.array([0x3FC0, 0x4000], np.uint16)
    shared = nt.from_numpy(array.view(Known))
    array[0] = 0x4040
    exactly(shared, [3, 2], nt.bfloat16)
    assert shared.data_ptr() == array.ctypes.data


@each_half
def test_dlpack_and_device_interface(half):
    x = nt.tensor([[1.5, 2.0], [3.0, 4.0]], dtype=half)
    y = nt.from_dlpack(x.t())
    y[0, 1] = 9.0
    assert y.dtype is half and x.tolist() == [[1.5, 2.0], [9.0, 4.0]]
    if half is nt.float16:
        assert np.from_dlpack(x).dtype == np.float16


def test_what_a_numpy_array_writes_into_saved_numbers_is_noticed():
    y = nt.ones(4, dtype=nt.float16, requires_grad=True) * 1.0
    array, z = y.detach().numpy(), y * y
    array[0] = 5
    with pytest.raises(RuntimeError, match="NumPy array"):
        z.sum().backward()


@each_half
def test_versions_and_regions(half):
    y = nt.ones(4, dtype=half, requires_grad=True) * 1.0
    z = y[:2] * y[:2]
    y[2:].add_(1.0)
    z.sum().backward()
    z = y * y
    y[2:].add_(1.0)
    with pytest.raises(RuntimeError, match=f"{half.name} .4.*overwritten"):
        z.sum().backward()


@each_half
def test_transforms_and_gradcheck(half):
    x = nt.arange(6, dtype=half).reshape(2, 3)
    exactly(nt.func.vmap(lambda row: (row * 2.0).sum())(x), [6, 24], half)
    exactly(nt.func.grad(lambda t: (t * t).sum())(x), [[0, 2, 4], [6, 8, 10]], half)
    with pytest.raises(ValueError, match=f"{half.name}.*float64"):
        nt.autograd.gradcheck(lambda t: t * 2.0, x.requires_grad_())


# training


@pytest.mark.parametrize("way", ["sgd", "momentum", "adam", "amsgrad", "adamw"])
@each_half
def test_a_step_is_taken_in_float32(half, way):
    """And its results, the parameter and what is remembered, are rounded."""
    make = {
        "sgd": lambda p: nt.optim.SGD(p, lr=0.1, weight_decay=0.01),
        "momentum": lambda p: nt.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "adam": lambda p: nt.optim.Adam(p, lr=0.1),
        "amsgrad": lambda p: nt.optim.Adam(p, lr=0.1, amsgrad=True),
        "adamw": lambda p: nt.optim.AdamW(p, lr=0.1),
    }[way]
    start = np.random.default_rng(0).standard_normal(50_000)
    p = nt.tensor(start, dtype=half, requires_grad=True)
    q = p.detach().float().requires_grad_()
    strided = nt.tensor(start[:6].reshape(2, 3), dtype=half).t().requires_grad_()
    a, b = make([p, strided]), make([q])
    for _ in range(2):
        p.grad = nt.full(p.shape, 0.5, dtype=half)
        strided.grad = nt.full(strided.shape, 0.5, dtype=half)
        q.grad = p.grad.float()
        version = p._version
        a.step()
        b.step()
        assert p._version == version + 1
        exactly(p.detach(), q.detach().tolist(), half)
        np.testing.assert_array_equal(strided.detach().t().reshape(-1).float().numpy(), p.detach()[:6].float().numpy())
        with nt.no_grad():  # the next step begins with rounded numbers
            q.copy_(p)
            for name, kept in b.state[q].items():
                if isinstance(kept, nt.Tensor):
                    exactly(a.state[p][name], kept.tolist(), half)
                    kept.copy_(a.state[p][name])


@each_half
def test_a_module_is_trained(half):
    nt.manual_seed(0)
    model = nt.nn.Sequential(nt.nn.Linear(4, 16), nt.nn.LayerNorm(16), nt.nn.Tanh(), nt.nn.Linear(16, 3))
    model = model.half() if half is nt.float16 else model.bfloat16()
    assert all(p.dtype is half for p in model.parameters())
    x, target = nt.randn(12, 4, dtype=half), nt.arange(12) % 3
    optimizer, losses = nt.optim.Adam(model.parameters(), lr=0.02, eps=1e-4), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nt.nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0] and all(p.grad.dtype is half for p in model.parameters())


# compiled code


@njit
def worked(x):
    y = nt.cat([x * 2.0, nt.exp(x)])
    y[0] = 0.5
    y[1:3].mul_(2.0)
    picked = y[y > 1.0]
    return y.sum() + picked.mean(), x.softmax(0), nt.where(x > 1.0, x, 0.0), x @ x


@each_half
def test_ops_in_compiled_code(half):
    x = nt.arange(4, dtype=half).requires_grad_()
    for found, exact in zip(worked(x), worked.py_func(x), strict=True):
        assert found.dtype is half and found.tolist() == exact.tolist()
        slopes = [nt.autograd.grad(out.sum(), x)[0].tolist() for out in (found, exact)]
        assert slopes[0] == slopes[1]


@njit
def created(x):
    made = nt.zeros((2,), dtype=x.dtype), nt.full((2,), 2.5, dtype=nt.bfloat16), nt.tensor([1.5, 2.5], dtype=nt.float16)
    return made, nt.tensor(0.1, dtype=nt.bfloat16), nt.rand((3,), dtype=nt.float16), nt.zeros_like(x)


@njit
def converted(x):
    return (
        x.to(nt.float16),
        x.to(nt.bfloat16),
        x.half(),
        x.bfloat16(),
        x.half().float(),
        x.half().long(),
        x.double().half(),
    )


@njit
def numbers(x):
    total = x.sum()
    return total.item() + 1.0, float(total), int(total), bool(total), x[1].item()


def test_tensors_and_numbers_in_compiled_code():
    for half in HALVES:
        (zeros, full, listed), number, random, like = created(nt.ones(2, dtype=half))
        exactly(zeros, [0, 0], half)
        exactly(like, [0, 0], half)
        exactly(full, [2.5, 2.5], nt.bfloat16)
        exactly(listed, [1.5, 2.5], nt.float16)
        exactly(number, 0.1, nt.bfloat16)
        assert random.dtype is nt.float16 and 0 <= random.min() and random.max() < 1
        assert numbers(nt.tensor([1.0, 0.5], dtype=half)) == (2.5, 1.5, 1, True, 0.5)
    found = converted(nt.tensor([0.1, 70000.0]))
    kinds = [nt.float16, nt.bfloat16, nt.float16, nt.bfloat16, nt.float32, nt.int64, nt.float16]
    assert [t.dtype for t in found] == kinds
    for t, expected in zip(found, converted.py_func(nt.tensor([0.1, 70000.0])), strict=True):
        assert t.tolist() == expected.tolist()


@each_half
def test_what_compiled_code_has_no_arrays_for(half):
    x = nt.ones(2, dtype=half)

    @nt.custom_op
    def twice(x):
        return x * 2

    for function, what in ((njit(lambda x: x.numpy()), r"numpy\(\)"), (twice, "custom op")):
        with pytest.raises(TypingError, match=f"{what}.*no arrays of {half.name}; convert with .to.nt.float32"):
            function(x)
    with pytest.raises(TypingError, match="two dtypes: convert"):
        njit(lambda x: x @ x.to(nt.float32))(x)


def test_users_scalar_functions_are_computed_in_float32():
    @nt.pointwise
    def hill(x, y):
        return x * x * y + 1.0

    for half in HALVES:
        x, y = (nt.tensor([0.3, 1.7, -2.1], dtype=half, requires_grad=True) for _ in range(2))
        u, v = (t.detach().float().requires_grad_() for t in (x, y))
        found, exact = hill(x, y), hill(u, v)
        exactly(found.detach(), exact.detach().tolist(), half)
        seed = nt.tensor([1.0, 0.5, 2.0], dtype=half)
        found.backward(seed)
        exact.backward(seed.float())
        exactly(x.grad, u.grad.tolist(), half)
        exactly(y.grad, v.grad.tolist(), half)


@njit
def rounded(x):
    return (x.to(nt.bfloat16) * 1.0).sum()


def test_c_functions_with_halves_inside():
    f, numbers = nt.cfunc(rounded, "float64(float64[:])"), (ctypes.c_double * 2)(0.1, 0.2)
    assert f.ctypes(2, numbers) == nt.tensor([0.1, 0.2]).to(nt.bfloat16).sum().item()


CACHED = """
import sys
import numbatensor as nt
from numba import njit

@njit(cache=True)
def f(x):
    return (x * 2.0 + nt.zeros((2,), dtype=nt.bfloat16)).sum().item()

print(f(nt.ones(2, dtype=nt.bfloat16)), f(nt.ones(2, dtype=nt.float16)), sum(f.stats.cache_hits.values()))
"""


def test_cached_code(tmp_path):
    (tmp_path / "script.py").write_text(CACHED)
    lines = [
        subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [line.split() for line in lines] == [["4.0", "4.0", "0"], ["4.0", "4.0", "2"]]
