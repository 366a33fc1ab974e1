"""NumPy's functions of elements, and users' `@vectorize` and `@guvectorize` functions, over Tensors."""

import numpy as np
import pytest
from numba import guvectorize, njit, vectorize
from numba.core.errors import TypingError

import numbatensor as nt
from numbatensor.autograd import VersionError
from numbatensor.ufuncs import OPS


@vectorize
def lazy(x, y):
    return x * y + 1


@vectorize(["float32(float32, float32)", "float64(float64, float64)"])
def eager(x, y):
    return x * y + 1


@vectorize(["boolean(float64)"])
def positive(x):
    return x > 0


@guvectorize(["void(float64[:], float64, float64[:])"], "(n),()->(n)")
def shifted(x, a, out):
    for i in range(x.size):
        out[i] = x[i] + a


@vectorize
def exp(x):
    return x + 1


@guvectorize("(n),()->(n)")
def lazily_shifted(x, a, out):
    for i in range(x.size):
        out[i] = x[i] + a


def doubles(*values):
    return nt.tensor(values, dtype=nt.float64)


@pytest.mark.parametrize("f", [lazy, eager])
def test_results_are_tensors(f):
    x, y = doubles(1, 2), doubles(3, 4)
    for given in ((x, y), (x, y.numpy()), (x.numpy(), y)):
        made = f(*given)
        assert isinstance(made, nt.Tensor) and made.dtype is nt.float64 and made.tolist() == [4, 9]
    assert f(x, 2.0).tolist() == f(2.0, x).tolist() == [3, 5]
    assert eager(x.float(), y.float()).dtype is nt.float32
    assert f(x.reshape(2, 1), y[::-1]).tolist() == [[5, 4], [9, 7]]
    assert f(doubles(2)[0], 3.0).shape == () and f(doubles(), 1.0).shape == (0,)
    assert x._version == y._version == 0


def test_dtypes_follow_the_function():
    assert positive(doubles(-1, 1)).dtype is nt.bool
    assert vectorize(lambda x, y: x * y)(nt.tensor([1, 2]), 3).dtype is nt.int64
    assert exp(doubles(1)).tolist() == [2]  # not NumPy's of that name
    with pytest.raises(TypeError, match="can't convert np.ndarray of type complex128"):
        lazy(doubles(1), np.ones(1) * 1j)


def test_generalised_functions():
    x = doubles(1, 2)
    assert shifted(x, 1.0).tolist() == [2, 3] and x._version == 0
    assert shifted(nt.stack((x, x)), doubles(1, 2)).tolist() == [[2, 3], [3, 4]]
    out = nt.zeros(2, dtype=nt.float64)
    assert shifted(x, 1.0, out) is out and out.tolist() == [2, 3]


def test_generalised_functions_without_signatures():
    x, out = doubles(1, 2), nt.zeros(2, dtype=nt.float64)
    assert lazily_shifted(x, 1.0, out) is out and out.tolist() == [2, 3] and out._version == 1
    lazily_shifted(x, doubles(5)[0], out=out)
    assert out.tolist() == [6, 7]
    assert lazily_shifted(x.numpy(), 1.0, np.zeros(2)).tolist() == [2, 3]
    with pytest.raises(RuntimeError, match="lazily_shifted has no gradient"):
        lazily_shifted(x.requires_grad_(), 1.0, out)


@pytest.mark.parametrize("ufunc", OPS, ids=lambda f: f.__name__)
def test_ops_of_ours(ufunc):
    """Of Tensors, and of a Tensor and an array in either order; recorded."""
    x, w = doubles(1, 2, 3, 4).reshape(2, 2), doubles(2, 2, 4, 1).reshape(2, 2)
    given = (x, w)[: ufunc.nin]
    wanted = ufunc(*[g.numpy() for g in given])
    for args in (given, (x, w.numpy())[: ufunc.nin], (x.numpy(), w)[-ufunc.nin :] if ufunc.nin == 2 else (x,)):
        made = ufunc(*args)
        assert isinstance(made, nt.Tensor) and np.allclose(made.numpy(), wanted, rtol=1e-14)
    made = ufunc(x.requires_grad_(), *given[1:])
    assert made.requires_grad is (made.dtype is nt.float64)


def test_numpy_s_reductions():
    """They call the methods, with NumPy's keywords and meaning, and are recorded."""
    x = doubles(1, 5, 3, 2, 4, 9).reshape(2, 3).requires_grad_()
    a = x.detach().numpy()
    for f in (np.max, np.min, np.amax, np.std, np.var, np.sum, np.mean, np.prod):
        for given in ({}, {"axis": 0}, {"axis": 1, "keepdims": True}, {"axis": (0, 1)}):
            made = f(x, **given)
            assert made.requires_grad and np.allclose(made.detach().numpy(), f(a, **given)), (f, given)
            assert made.shape == np.shape(f(a, **given))
    assert np.isclose(np.std(x, ddof=1).item(), np.std(a, ddof=1)) and np.var(x, dtype=np.float32).dtype is nt.float32
    for f in (np.max, np.std):
        with pytest.raises(TypeError, match="out= of a NumPy function cannot be used"):
            f(x.detach(), axis=0, out=np.zeros(3))


def test_out_is_counted():
    x, out = doubles(1, 2), nt.zeros(2, dtype=nt.float64)
    for k, made in enumerate((lazy(x, x, out=out), lazy(x, x, out), eager(x, x, out=(out,)), np.hypot(x, x, out=out))):
        assert made is out and out._version >= k
    assert out._version == 4 and x._version == 0
    array = np.zeros(2)
    assert lazy(x, x, out=array) is array and array.tolist() == [2, 5]
    array += x
    assert array.tolist() == [3, 7]
    w = nt.ones(2, dtype=nt.float64, requires_grad=True)
    y = w * out
    lazy(x, x, out=out)
    with pytest.raises(VersionError, match="`out= of a NumPy function` at .*test_ufuncs.py"):
        y.sum().backward()


def test_tensors_that_require_grad_are_refused():
    w = nt.ones(2, requires_grad=True)
    for call in (
        lambda: lazy(w, w),
        lambda: lazy(1.0, w),
        lambda: lazy(w.detach(), 1.0, out=w),
        lambda: np.hypot(w, w),
    ):
        with pytest.raises(RuntimeError, match="has no gradient, and a Tensor that it is called with requires grad"):
            call()
    with nt.no_grad():
        assert lazy(w, w).tolist() == [2, 2]
    assert np.exp(w).requires_grad and np.ones(2, np.float32).__mul__(w).requires_grad


def test_what_must_not_be_written():
    x = nt.zeros(1, 2).expand(2, 2)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        np.add(x, 1.0, out=x)
    with nt.inference_mode():
        inner = nt.ones(2)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        np.hypot(1.0, 2.0, out=inner)


def test_methods_of_functions():
    x = doubles(1, 2, 4)
    assert np.add.reduce(x).item() == 7 and np.multiply.accumulate(x).tolist() == [1, 2, 8]
    assert np.subtract.outer(x, x).shape == (3, 3) and lazy.reduce(x).item() == 13
    part, whole = np.modf(x + 0.5)
    assert part.tolist() == [0.5] * 3 and whole.tolist() == [1, 2, 4]
    assert x._version == 0
    np.add.at(x, np.array([0, 0]), 1.0)
    assert x.tolist() == [3, 2, 4] and x._version == 1


def test_results_belong_to_the_tensor():
    made = np.hypot(doubles(3), doubles(4))
    w = nt.ones(1, dtype=nt.float64, requires_grad=True)
    y = w * made
    made.add_(1.0)
    with pytest.raises(VersionError, match="`add_`"):
        y.sum().backward()


def test_other_libraries_go_first():
    class Other:
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            return "theirs"

    assert np.hypot(doubles(1), Other()) == "theirs"


def test_vmap_says_what_to_do():
    with pytest.raises(RuntimeError, match="vmap: lazy is a NumPy function"):
        nt.vmap(lambda x: lazy(x, x))(doubles(1, 2))


def test_in_compiled_code_they_take_arrays():
    @njit
    def over_memory(x):
        return lazy(x.numpy(), 2.0).sum()

    assert over_memory(doubles(1, 2)) == 8
    for f in (lazy, eager):
        with pytest.raises(TypingError, match=r"takes arrays.*such as x\.numpy\(\)"):
            njit(lambda x, f=f: f(x, x))(doubles(1, 2))


def test_a_tensor_of_the_cpu_is_none_of_the_gpu():
    x = doubles(1)
    assert not hasattr(x, "__cuda_array_interface__")
    with pytest.raises(
        AttributeError, match="Can't get __cuda_array_interface__ on non-CUDA tensor type: numbatensor.DoubleTensor"
    ):
        x.__cuda_array_interface__  # noqa: B018
