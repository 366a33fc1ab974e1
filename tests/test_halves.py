"""float16 and bfloat16: their bits, and every op on them, which is the op in float32, rounded once."""

import numpy as np
import pytest
from numba import njit
from sampled import CASES

import numbatensor as nt
from kernels_cpu import halves
from numbatensor.core.memory import state
from numbatensor.memory import memory_stats
from numbatensor.op import OPS, Pointwise, View

HALVES = (nt.float16, nt.bfloat16)
each_half = pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)
BITS = np.arange(1 << 16, dtype=np.uint16)
FLOATS = np.random.default_rng(0).integers(0, 1 << 32, 300_000, np.uint32).view(np.float32)


def bfloat16(x):
    """The bits of the bfloat16 nearest to each float32, worked out with whole numbers; NaN is 0x7FC0."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.int64)
    low, high = bits & 0xFFFF, bits >> 16
    high += (low > 0x8000) | ((low == 0x8000) & (high & 1 == 1))
    return np.where(np.isnan(x), 0x7FC0, high).astype(np.uint16)


def between():
    """All float16, the numbers halfway between neighbours, and their float32 neighbours on both sides."""
    exact = BITS.view(np.float16).astype(np.float32)
    exact = exact[np.isfinite(exact)]
    ordered = np.unique(np.concatenate([exact, [65536.0, -65536.0]]).astype(np.float32))
    halfway = (ordered[1:] + ordered[:-1]) / 2
    beside = [np.nextafter(halfway, np.float32(way)) for way in (-np.inf, np.inf)]
    special = np.array([np.inf, -np.inf, np.nan, 65519.996, 65520.0, 1e-8, -1e-8, 1e38, -0.0], np.float32)
    return np.concatenate([exact, halfway, *beside, special])


def converted(function, x, out):
    """A conversion of numbers, compiled, of each element."""

    @njit
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    loop(x, out)
    return out


def same_floats(x, y):
    signs = np.signbit(x) == np.signbit(y)
    return np.array_equal(x, y, equal_nan=True) and bool((signs | np.isnan(x)).all())


WAYS = [
    (halves.widen_float16, halves.narrow_float16),
    (halves.widened_by_integers, halves.narrowed_by_integers),
]


@pytest.mark.parametrize("widen, narrow", WAYS, ids=["by the processor", "by integers"])
def test_float16_is_ieee_754(widen, narrow):
    wide = converted(halves.to_float32(widen), BITS, np.empty(BITS.size, np.float32))
    assert same_floats(wide, BITS.view(np.float16).astype(np.float32))
    numbers = np.concatenate([between(), FLOATS])
    found = converted(halves.from_float32(narrow), numbers, np.empty(numbers.size, np.uint16)).view(np.float16)
    with np.errstate(over="ignore"):
        assert same_floats(found, numbers.astype(np.float16))


def test_bfloat16_is_the_upper_half_of_float32():
    x = nt.from_numpy((BITS.astype(np.uint32) << 16).view(np.float32))
    half = x.to(nt.bfloat16)
    quiet = np.where(np.isnan(x.numpy()), 0x7FC0, BITS)
    assert np.array_equal(half.bits(), quiet) and same_floats(half.float().numpy(), x.numpy())
    ties = ((BITS.astype(np.uint32) << 16) + 0x8000).view(np.float32)
    largest = np.finfo(np.float32).max
    special = np.array([largest, -largest, np.inf, -np.inf, 1e-45, -0.0], np.float32)
    with np.errstate(invalid="ignore"):
        numbers = np.concatenate([ties, np.nextafter(ties, np.float32(0)), FLOATS, special])
    assert np.array_equal(nt.from_numpy(numbers).to(nt.bfloat16).bits(), bfloat16(numbers))


def test_the_library_converts_float16_of_every_layout():
    with np.errstate(all="ignore"):
        numbers = np.concatenate([between(), FLOATS])
        expected = numbers.astype(np.float16)
    for made, right in (
        (nt.from_numpy(numbers).half(), expected),
        (nt.from_numpy(numbers[::-3]).half(), expected[::-3]),
        (nt.from_numpy(expected[::5]).float(), expected[::5].astype(np.float32)),
        (
            nt.from_numpy(expected[::-1]).bfloat16().float(),
            nt.from_numpy(expected[::-1].astype(np.float32)).bfloat16().float().numpy(),
        ),
    ):
        assert same_floats(made.numpy(), right)


@pytest.mark.parametrize("other", ["bool", "uint8", "int8", "int16", "int32", "int64", "float64"])
@each_half
def test_other_dtypes_are_converted_by_way_of_float32(half, other):
    other = getattr(nt, other)
    numbers = nt.tensor([0.0, 1.0, 2.75, 100.0, 100.3], dtype=other)
    assert numbers.to(half).tolist() == numbers.float().to(half).tolist()
    assert numbers.to(half).to(other).tolist() == numbers.to(half).float().to(other).tolist()


# every op


def drawn(case, half):
    """The tensors of a case in a half type, and the same numbers in float32."""
    narrow = [nt.tensor(a, dtype=half if a.dtype.kind == "f" else None) for a in case.arrays]
    return narrow, [t.float() if t.dtype is half else t.clone() for t in narrow]


def leaves(case, tensors):
    return [t.detach().requires_grad_(wanted) for t, wanted in zip(tensors, case.wanted, strict=True)]


def turned(t):
    """The same elements with other strides, the first of them negative."""
    if t.ndim == 0:
        return t
    order = tuple(range(t.ndim))[::-1]
    return t.flip(0).permute(*order).clone().permute(*order)[::-1].detach()


def as_rounded(found, exact, half):
    """Whether a result is that of float32, rounded once."""
    wanted = half if exact.dtype is nt.float32 else exact.dtype
    assert found.dtype is wanted and found.shape == exact.shape
    exact = exact.detach().to(wanted).double().numpy()
    np.testing.assert_array_equal(found.detach().double().numpy(), exact)


def near(found, exact, half, steps=4):
    """Whether a gradient is that of float32, but for a few roundings."""
    assert found.dtype is half and found.shape == exact.shape
    found, exact, eps = found.detach().double().numpy(), exact.detach().double().numpy(), nt.finfo(half).eps
    np.testing.assert_allclose(found, exact, rtol=steps * eps, atol=steps * eps * np.abs(exact).max(initial=1e-3))


def agree(case, narrow, wide, half, function=None):
    """Whether an op and its gradients are right."""
    function = function or case
    narrow, wide = leaves(case, narrow), leaves(case, wide)
    found, exact = function(*narrow), function(*wide)
    as_rounded(found, exact, half)
    assert found.requires_grad == exact.requires_grad
    if exact.requires_grad:
        seed = nt.tensor(np.random.default_rng(0).uniform(0.5, 1.5, tuple(exact.shape)), dtype=half)
        gradients = [
            nt.autograd.grad(out, [t for t in tensors if t.requires_grad], s, allow_unused=True)
            for out, tensors, s in ((found, narrow, seed), (exact, wide, seed.float()))
        ]
        for a, b in zip(*gradients, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                near(a, b, half)


BYTES = [
    c for c in CASES if "steps" in c.op.inputs
]  # whose samples say steps in bytes of float64: they are tested by what uses them
ELEMENTS = [c for c in CASES if c not in BYTES]
POINTWISE = [c for c in ELEMENTS if isinstance(c.op, Pointwise)]
each = lambda cases: pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


@each(ELEMENTS)
def test_an_op_and_its_gradients(case):
    for half in HALVES:
        narrow, wide = drawn(case, half)
        agree(case, narrow, wide, half)
        if not isinstance(case.op, View):  # whose strides are the value
            agree(case, [turned(t) for t in narrow], wide, half)


@each(POINTWISE)
def test_operands_of_other_shapes(case):
    for half in HALVES:
        narrow, wide = drawn(case, half)
        for change in (
            lambda t, k: t[:0],
            lambda t, k: t[:, :1] if k == 0 else t[0] if k == 1 else t,
            lambda t, k: t[:1, :1].expand(3, 4),
            lambda t, k: t[0, 0],
        ):
            agree(case, *([change(t, k) for k, t in enumerate(tensors)] for tensors in (narrow, wide)), half)


@each([c for c in POINTWISE if hasattr(nt.Tensor, c.op.name + "_") and c.arrays[0].dtype.kind == "f"])
def test_in_place_and_out(case):
    attributes = case.arguments[len(case.arrays) :]

    def in_place(first, *others):
        made = first.clone()
        before = made._version
        assert getattr(made, case.op.name + "_")(*others, *attributes) is made and made._version == before + 1
        return made

    for half in HALVES:
        narrow, wide = drawn(case, half)
        agree(case, narrow, wide, half, in_place)
        exact = case(*wide)
        for out in (nt.empty_like(narrow[0]), nt.empty(3, 2, dtype=half).t()):
            assert case.op(*narrow, *attributes, out=out) is out
            as_rounded(out, exact, half)
        assert np.array_equal(
            case.op(*narrow, *attributes, out=nt.empty_like(wide[0])).numpy(), exact.to(half).float().numpy()
        )


@pytest.mark.parametrize("name", ["exp", "mul", "matmul", "softmax", "layer_norm", "logsumexp", "prod", "cumprod"])
@each_half
def test_gradient_of_gradient(name, half):
    case = next(c for c in CASES if c.op.name == name)

    def slopes(tensors):
        tensors = leaves(case, tensors)
        out = case(*tensors)
        first = nt.autograd.grad((out * out).sum(), tensors, create_graph=True)
        return nt.autograd.grad(sum((g * g).sum() for g in first), tensors)

    for a, b in zip(*(slopes(t) for t in drawn(case, half)), strict=True):
        near(a, b, half, steps=16)


@pytest.mark.parametrize("n", [1, 127, 256, 1023, 1025, 4097, 50_001, 100_003])
@each_half
def test_rows_of_every_length(half, n):
    """Blocks, threads, and a row beside one value."""
    x = nt.from_numpy(np.random.default_rng(1).standard_normal((2, n)).astype(np.float32)).to(half)
    wide = x.float()
    for f in (
        lambda t: t * 0.7,
        lambda t: t + t[:, :1],
        lambda t: t[::-1] / t,
        lambda t: t.exp(),
        lambda t: t.sum(1),
        lambda t: t > 0.5,
    ):
        as_rounded(f(x), f(wide), half)
    y, z = x.clone(), wide.clone()
    as_rounded(y.add_(y[:, -1:].clone()), z.add_(z[:, -1:].clone()), half)
    as_rounded(x.t().clone().mul_(2.0).t(), wide * 2.0, half)


@each_half
def test_transposed_operands_and_several_gradients(half):
    x = nt.from_numpy(np.random.default_rng(2).standard_normal((130, 70)).astype(np.float32)).to(half)
    y, wide = x.t().clone(), x.float()
    as_rounded(x + y.t(), wide + y.float().t(), half)
    as_rounded(y.clone().add_(x.t()).t(), wide + y.float().t(), half)
    as_rounded(nt.addcmul(x, y.t(), x[:1]), nt.addcmul(wide, y.float().t(), wide[:1]), half)
    leaf = x.clone().requires_grad_()
    for k in (1, 2):
        (leaf * 0.75).sum().backward()
        assert leaf.grad.dtype is half and leaf.grad.float().sum().item() == 0.75 * k * x.numel()


# views and other writes


@each_half
def test_writes_in_place_of_ops_with_code_of_their_own(half):
    at = nt.tensor([0, 0, 2])

    def write(dtype):
        x = (nt.arange(4, dtype=dtype) * 1.1).requires_grad_()
        parts = nt.tensor([0.3, 0.4, 0.5], dtype=dtype, requires_grad=True)
        y = x * 1.0
        y.scatter_add_(0, at, parts)
        y.index_add_(0, at, parts)
        y.index_put_((at,), parts)
        y[1:] = y[:-1].cumsum(0)
        y.masked_fill_(y > 2.0, 0.5)
        (y * y).sum().backward()
        return y.detach(), x.grad, parts.grad

    for found, exact in zip(write(half), write(nt.float32), strict=True):
        near(found, exact, half)
    x = nt.ones(3, dtype=half)
    for refused in (lambda: x.index_add_(0, at + 1, x.clone()), lambda: x.scatter_add_(0, at + 1, x.clone())):
        with pytest.raises((IndexError, RuntimeError), match="out of (bounds|range)"):
            refused()
    assert x.tolist() == [1.0, 1.0, 1.0] and x._version == 0


@each_half
def test_a_write_to_a_view_is_history_of_the_base(half):
    def gradient(dtype):
        x = nt.arange(12, dtype=dtype).reshape(3, 4).requires_grad_()
        y = x * 1.0
        y[:, 1].mul_(3.0)
        y.t()[::2, 1] = x[0, :2]
        y[1:, 1:].add_(y[:2, :3].clone())
        y[y > 20.0] = 1.0
        (y * y).sum().backward()
        return y.detach(), x.grad

    for a, b in zip(gradient(half), gradient(nt.float32), strict=True):
        assert a.dtype is half and a.tolist() == b.to(half).tolist()


@each_half
def test_what_meets_in_one_place_is_added_in_float32(half):
    """3000 ones: in 16 bits, a sum of ones ends at 2048 or 256."""
    for view, shape in (
        (lambda x: x.expand(3000), (1,)),
        (lambda x: x.as_strided((3000,), (0,)), (1,)),
        (lambda x: x.unfold(0, 3000, 1)[:, :1], (5999,)),
        (lambda x: x[nt.zeros(3000, dtype=nt.int64)], (1,)),
        (lambda x: x.gather(0, nt.zeros(3000, dtype=nt.int64)), (1,)),
        (lambda x: x.reshape(1, 1).tile(3000, 1), (1,)),
    ):
        x = nt.ones(shape, dtype=half, requires_grad=True)
        view(x).sum().backward()
        assert x.grad.sum().item() == nt.tensor(3000.0, dtype=half).item()
    x = nt.zeros(2, dtype=half)
    many = nt.zeros(3000, dtype=nt.int64)
    for added in (
        x.scatter_add(0, many, nt.ones(3000, dtype=half)),
        x.index_add(0, many, nt.ones(3000, dtype=half)),
        x.clone().index_put_((many,), nt.ones(3000, dtype=half), accumulate=True),
    ):
        assert added.tolist() == nt.tensor([3000.0, 0.0], dtype=half).tolist()


@each_half
def test_reductions_round_once(half):
    many = nt.ones(70_000, dtype=half)
    assert many.mean().item() == 1.0 and many.sum(dtype=nt.float32).item() == 70_000.0
    assert many.reshape(7, -1).sum(0).sum().item() == nt.tensor(70_000.0, dtype=half).item()
    assert nt.full((400,), 300.0, dtype=half).norm().item() == 6000.0 if half is nt.float16 else True
    x = nt.arange(300, dtype=half)
    as_rounded(x.cumsum(0), x.float().cumsum(0), half)
    as_rounded(x.var(), x.float().var(), half)


# dtypes together


def test_tensors_of_mixed_dtypes_are_joined():
    a, b = (
        nt.tensor([1.5, 2.5], dtype=nt.float16, requires_grad=True),
        nt.tensor([3.25], dtype=nt.bfloat16, requires_grad=True),
    )
    made = nt.cat([a, b])
    assert made.dtype is nt.float32 and made.tolist() == [1.5, 2.5, 3.25]
    made.sum().backward()
    assert a.grad.dtype is nt.float16 and b.grad.dtype is nt.bfloat16 and b.grad.tolist() == [1.0]
    for half in HALVES:
        x = nt.tensor([[1.5, 2.5]], dtype=half)
        for others in (nt.int64, nt.float32, nt.float64, nt.bool):
            y = nt.ones(1, 2, dtype=others)
            for joined in (nt.cat([x, y], 1), nt.cat([y, x.t().t()], 0), nt.stack([y, x], 2)):
                assert joined.dtype is nt.promote_types(half, others)
                assert sorted(joined.double().reshape(-1).tolist()) == [1.0, 1.0, 1.5, 2.5]


def test_mixed_floats_are_refused():
    a, b = nt.ones(2, 2, dtype=nt.float16), nt.ones(2, 2)
    for f in (nt.matmul, lambda x, y: x.scatter(0, nt.zeros(1, 2, dtype=nt.int64), y), lambda x, y: nt.dot(x[0], y[0])):
        for x, y in ((a, b), (b, a), (a, a.bfloat16())):
            with pytest.raises(RuntimeError, match="dtype|do not go together|refuse"):
                f(x, y)
    with pytest.raises(RuntimeError, match="float16 and float32 do not go together; convert"):
        nt.nn.functional.layer_norm(a, (2,), b[0], b[1])


# elements that are only moved


MOVERS = {
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "tile": lambda x: x[:1].tile(x.shape[0], 1),
    "tril": lambda x: x.tril(),
    "pick": lambda x: x[nt.arange(x.shape[0])],
    "index_select": lambda x: x.index_select(1, nt.arange(x.shape[1])),
    "gather": lambda x: x.gather(0, nt.zeros(1, x.shape[1], dtype=nt.int64)),
    "scatter": lambda x: x.scatter_(0, nt.zeros(1, 1, dtype=nt.int64), x[:1, :1].clone()),
    "index_put": lambda x: x.index_put_((nt.tensor([1]),), x[0].clone()),
    "masked_select": lambda x: OPS["masked_select"](x, nt.ones(x.shape, dtype=nt.bool)),
    "clone": lambda x: x.t().clone(),
    "cat": lambda x: nt.cat([x[:1], x[1:]]),
    "nonzero": lambda x: x.nonzero(),
}


@pytest.mark.parametrize("name", MOVERS)
def test_what_only_moves_elements_makes_no_copy_in_float32(name):
    """By the most bytes that live at once: beside the result there is no room for float32."""
    x = nt.ones(1024, 512, dtype=nt.bfloat16)
    before = memory_stats()["bytes"]
    state[0]["peak"] = 0
    made = MOVERS[name](x)
    most = memory_stats()["peak"] - before
    assert most < made.numel() * made.itemsize + 2 * x.numel()
