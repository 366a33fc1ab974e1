"""The functions of kernels_cpu/mathematics.py: their errors in units in the last place, their special values, and what they compile to."""

import pathlib
import re

import numpy as np
import pytest
import scipy.special
from numba import njit, types

import numbatensor as nt
from kernels_cpu import exact, mathematics
from kernels_cpu.pointwise import elementwise
from kernels_cpu.traced import FUSED
from numbatensor.core import compiler

extended = np.longdouble  # 64 bits of fraction on x86; where it is float64, errors of float64 cannot be measured
EXTENDED = np.finfo(extended).nmant > 60
DTYPES = ["f4", "f8"] if EXTENDED else ["f4"]


def logistic(x):
    return np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))


def erf(x):
    """The error function by its series, whose terms are positive, or as what its complement leaves."""
    z, near = x * x, np.abs(x) < 1
    term = total = np.where(near, x, 0)
    for k in range(1, 40):
        term = term * 2 * np.where(near, z, 0) / (2 * k + 1)
        total = total + term
    return np.where(
        near, 2 / np.sqrt(np.pi, dtype=extended) * np.exp(-z) * total, np.sign(x) * (1 - far_erfc(np.abs(x)))
    )


def far_erfc(x):
    """The complement for x from 1 by its continued fraction; the square is taken in two parts, as its error would be multiplied."""
    x = np.maximum(x, 1)
    fraction = x
    for k in range(400, 0, -1):
        fraction = x + k / extended(2) / fraction
    part = np.round(x * 4096) / 4096
    power = np.exp(-part * part) * np.exp((part - x) * (part + x))
    return power / fraction / PI**0.5


def erfc(x):
    return np.where(x < 1, 1 - erf(np.minimum(x, 1)), far_erfc(x))


PI = 4 * np.arctan(extended(1))
# by name: the reference in extended precision, intervals to draw from, and the largest error if it is not 1.4
FUNCTIONS = {
    "exp": (np.exp, [(-1, 1), (-110, 90), (-746, 710)]),
    "exp2": (np.exp2, [(-150, 128), (-1075, 1024)]),
    "expm1": (np.expm1, [(-2, 2), (-20, 90), (-40, 710)]),
    "sigmoid": (logistic, [(-2, 2), (-100, 100), (-750, 750)], 2.5),
    "log": (np.log, [(0.5, 2), (0, 1e4)]),
    "log1p": (np.log1p, [(-1, 1), (0, 100)]),
    "log2": (np.log2, [(0.5, 2), (0, 1e4)]),
    "log10": (np.log10, [(0.5, 2), (0, 1e4)]),
    "sinh": (np.sinh, [(-2, 2), (-90, 90), (-711, 711)], 1.8),
    "cosh": (np.cosh, [(-2, 2), (-90, 90), (-711, 711)]),
    "tanh": (np.tanh, [(-1, 1), (-20, 20)]),
    "asinh": (np.arcsinh, [(-2, 2), (-50, 50)]),
    "acosh": (np.arccosh, [(1, 2), (1, 50)]),
    "atanh": (np.arctanh, [(-0.4, 0.4), (-1, 1)]),
    "sin": (np.sin, [(-4, 4), (-100, 100), (-1e5, 1e5), (2e5, 3e5)], 1.6),
    "cos": (np.cos, [(-4, 4), (-100, 100), (-1e5, 1e5), (2e5, 3e5)], 1.6),
    "tan": (np.tan, [(-4, 4), (-100, 100), (-1e5, 1e5), (2e5, 3e5)]),
    "asin": (np.arcsin, [(-0.6, 0.6), (-1, 1)]),
    "acos": (np.arccos, [(-0.6, 0.6), (-1, 1)]),
    "atan": (np.arctan, [(-3, 3), (-100, 100)]),
    "erf": (erf, [(-1.2, 1.2), (-6, 6)]),
    "erfc": (erfc, [(-1, 1), (-4, 10), (0, 27)], 1.8),
}
PAIRS = {"atan2": np.arctan2, "hypot": np.hypot, "pow": np.power}
LIMIT = 1.4
IN_DOUBLE = {"sigmoid": scipy.special.expit, "erf": scipy.special.erf, "erfc": scipy.special.erfc}


def any_floats(dtype, n, seed=0):
    """Floats with random bits: of all exponents."""
    unsigned = {"f4": np.uint32, "f8": np.uint64}[dtype]
    x = np.random.default_rng(seed).integers(0, np.iinfo(unsigned).max, n, unsigned, endpoint=True).view(dtype)
    return x[np.isfinite(x)]


def errors(got, exact_values):
    """Errors in units in the last place of the exact values, in the dtype of what was got; 0 where both overflow or are NaN."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact_values.astype(got.dtype)
        exponent = np.maximum(np.frexp(np.abs(exact_values))[1] - 1, info.minexp)
        units = np.abs(got - exact_values) / np.ldexp(extended(1), exponent - info.nmant)
    units[(got == rounded) & ~np.isfinite(rounded) | np.isnan(got) & np.isnan(rounded)] = 0
    return np.where(np.isnan(units), np.inf, units)


def check(name, got, expected, limit, *operands):
    units = errors(got, expected)
    worst = np.argmax(units)
    at = [operand[worst] for operand in operands]
    assert units[worst] <= limit * (1 if FUSED else 1.5), (
        f"{name}{tuple(at)}: {units[worst]:.3f} units, {got[worst]} for {expected[worst]}"
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors(name):
    for dtype in DTYPES:
        check_errors(name, dtype)


def check_errors(name, dtype):
    reference, intervals, *limit = FUNCTIONS[name]
    rng = np.random.default_rng(1)
    n = 3_000 if "erf" in name else 30_000
    samples = [any_floats(dtype, n)] + [rng.uniform(*interval, n).astype(dtype) for interval in intervals]
    x = np.concatenate(samples)
    if dtype == "f8" and "erf" in name:
        x = x[np.abs(x) < 28]
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64 if dtype == "f4" and name in IN_DOUBLE else extended)
        expected = (IN_DOUBLE[name] if wide.dtype == np.float64 else reference)(wide).astype(extended)
    check(name, getattr(nt, name)(nt.tensor(x)).numpy(), expected, limit[0] if limit else LIMIT, x)


@pytest.mark.parametrize("name", PAIRS)
def test_errors_of_pairs(name):
    for dtype in DTYPES:
        check_errors_of_pairs(name, dtype)


def check_errors_of_pairs(name, dtype):
    rng, n = np.random.default_rng(2), 30_000
    x = np.concatenate([any_floats(dtype, n)[: n // 2], rng.uniform(-1, 1, n), np.exp(rng.uniform(-20, 20, n))])
    y = np.concatenate([any_floats(dtype, n, 1)[: n // 2], rng.uniform(-1, 1, n), np.exp(rng.uniform(-20, 20, n))])
    if name == "pow":
        x = np.exp2(rng.uniform(-120, 120, n))
        x[: n // 2] = 1 + rng.uniform(-0.4, 0.6, n // 2)
        bound = 126 if dtype == "f4" else 1000
        y = rng.uniform(-bound, bound, n) / np.log2(x)
        y[: n // 2] = rng.uniform(-40, 40, n // 2)
    x, y = x.astype(dtype), y.astype(dtype)
    with np.errstate(all="ignore"):
        expected = PAIRS[name](x.astype(extended), y.astype(extended))
    # the reference's own error grows with the exponent of a power: 64 bits less the 10 of the exponent
    check(name, getattr(nt, name)(nt.tensor(x), nt.tensor(y)).numpy(), expected, 1.1 + (name == "pow"), x, y)


SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    2.5,
    np.inf,
    -np.inf,
    np.nan,
    1e20,
    -1e20,
    2.0**24 + 1,
]


def agree(got, expected):
    """Whether values are equal to the last bits, signs of zeros included, and NaN where NaN is."""
    with np.errstate(all="ignore"):
        near = np.abs(got - expected) <= 2.5 * np.finfo(got.dtype).eps * np.abs(expected)
    same = (near | (got == expected)) & (np.signbit(got) == np.signbit(expected))
    return np.all(same | np.isnan(got) & np.isnan(expected))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_special_values(dtype):
    for name in (*FUNCTIONS, *PAIRS):
        check_special_values(name, dtype)


def check_special_values(name, dtype):
    info = np.finfo(dtype)
    edges = [info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal, -info.smallest_subnormal]
    operands = [np.array(SPECIAL + edges, dtype)]
    reference = IN_DOUBLE.get(name) or FUNCTIONS.get(name, PAIRS.get(name))
    if name in PAIRS:
        operands = [one.ravel().copy() for one in np.meshgrid(*operands * 2)]
    function = reference[0] if isinstance(reference, tuple) else reference
    with np.errstate(all="ignore"):
        expected = function(*[operand.astype(np.float64) for operand in operands]).astype(dtype)
    got = getattr(nt, name)(*[nt.tensor(operand) for operand in operands]).numpy()
    assert agree(got, expected), (name, *zip(*operands, got, expected, strict=True))


def test_beyond_the_bound():
    """Kernels ask the C library where the formula cannot tell: in place, with NaN among the elements, in any dtype and stride."""
    x = np.concatenate([any_floats("f8", 2000), [np.nan, np.inf] * 20, np.linspace(-9, 9, 1001)])
    np.random.default_rng(3).shuffle(x)
    for name in ("sin", "cos", "tan"):
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x)
        t = nt.tensor(x)
        getattr(t, name + "_")()
        np.testing.assert_allclose(t.numpy(), expected, rtol=1e-14)
        np.testing.assert_allclose(getattr(nt, name)(nt.from_numpy(x)[::3]).numpy(), expected[::3], rtol=1e-14)
    t = nt.tensor(np.array([1e30, 2.0]), requires_grad=True)
    nt.sin(t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), np.cos([1e30, 2.0]), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_remainders_are_exact(dtype):
    rng, n = np.random.default_rng(4), 20_000
    special = np.array(SPECIAL + [np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max], dtype)
    pairs = [one.ravel() for one in np.meshgrid(special, special)]
    sources = [(any_floats(dtype, n)[: n // 2], any_floats(dtype, n, 1)[: n // 2]), pairs]
    sources += [(rng.uniform(-10, 10, n), rng.uniform(-3, 3, n)), (rng.integers(-999, 999, n) * 0.1, np.full(n, 0.1))]
    sources += [(np.exp(rng.uniform(-15, 30, n)), -np.exp(rng.uniform(-15, 10, n)))]
    x, y = [np.concatenate([pair[k] for pair in sources]).astype(dtype) for k in (0, 1)]
    for name in ("fmod", "remainder", "floor_divide"):
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x, y)
        np.testing.assert_array_equal(getattr(nt, name)(nt.tensor(x), nt.tensor(y)).numpy(), expected, name)


def test_exact_where_nan_cannot_tell():
    """A formula of bounded functions whose result is no float is compiled from exact ones."""
    kinds = [types.boolean, types.float64]
    kernel = elementwise(lambda x: mathematics.sin(x) > 0, kinds, 0, lambda x: exact.sin(x) > 0)
    made = compiler.compile(kernel, "test_positive_sine", arguments=2, fastmath={"contract"})
    assert made.address
    x, out = np.array([1e30, 1.0, -1.0]), np.zeros(3, bool)
    run(made, [out, x], 3)
    np.testing.assert_array_equal(out, np.sin(x) > 0)


def run(made, arrays, n):
    """Call a compiled kernel on arrays."""
    addresses = np.array([a.ctypes.data for a in arrays])
    address = made.address

    @njit
    def call(addresses, n):
        return compiler.call(address, addresses.ctypes.data, n)

    call(addresses, n)


def called(text):
    """Names of functions that LLVM code calls, its own intrinsics aside."""
    names = re.findall(r"\b(?:call|invoke) [^@\n]*@\"?([\w.$]+)", text)
    return [name for name in names if not name.startswith("llvm.")]


def test_float32_stays_float32_and_calls_nothing():
    for name in (*FUNCTIONS, *PAIRS, "softplus", "fmod", "modulo", "floor_divide"):
        count = 2 if name in PAIRS or name in ("fmod", "modulo", "floor_divide") else 1
        function, kinds = getattr(mathematics, name), (types.float32,) * count
        formula = (lambda x, y: function(x, y)) if count == 2 else (lambda x: function(x))
        made = njit(kinds, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")(formula)
        (text,) = made.inspect_llvm().values()
        assert "double" not in text, name
        assert called(text) == [], name


def test_hot_kernels_are_vectors(monkeypatch):
    monkeypatch.setattr(compiler, "FOLDER", None)  # not from the disk
    for name in ("exp", "tanh", "sigmoid", "log", "erf", "sin", "expm1", "pow"):
        function = getattr(mathematics, name)
        formula = (lambda x, y: function(x, y)) if name in PAIRS else (lambda x: function(x))
        for kind, element in ((types.float32, "float"), (types.float64, "double")):
            kernel = elementwise(formula, [kind] * (2 + (name in PAIRS)))
            text = compiler.compile(kernel, f"test_{name}", arguments=2, fastmath={"contract"}).library.get_llvm_str()
            assert re.search(rf"fmul [a-z ]*<\d+ x {element}>", text), name
            assert called(text) == [], name


def test_a_changed_coefficient_recompiles_its_users_alone(monkeypatch):
    def fingerprints():
        compiler.sources.cache_clear()
        kernels = [elementwise(f, [types.float32] * 2) for f in (lambda x: mathematics.exp(x), lambda x: -x)]
        return [compiler.describe(kernel, {}) for kernel in kernels]

    read = pathlib.Path.read_text
    before = fingerprints()
    assert before == fingerprints()

    def changed(path, **options):
        text = read(path, **options)
        return text.replace("0.5,", "0.25,") if path.name == "exponentials.py" else text

    monkeypatch.setattr(pathlib.Path, "read_text", changed)
    after = fingerprints()
    monkeypatch.undo()
    compiler.sources.cache_clear()
    assert after[0] != before[0] and after[1] == before[1]


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "int8", "uint8"])
def test_shifts_by_more_bits_than_there_are(dtype):
    """What processors do differs; here the sign stays."""
    x = np.array([-128, -7, -1, 0, 5, 100]).astype(dtype)
    for bits in (64, 100, -1):
        if dtype == "uint8" and bits < 0:
            continue
        by = nt.tensor(np.full(6, bits).astype(dtype))
        assert (nt.tensor(x) >> by).tolist() == [-1 if v < 0 else 0 for v in x.tolist()]
        assert (nt.tensor(x) << by).tolist() == [0] * 6
