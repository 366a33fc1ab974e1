"""Memory shared with other libraries: DLPack both ways, on the CPU and on a device, and `__cuda_array_interface__`."""

import gc

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.autograd import VersionError
from numbatensor.core import entries
from numbatensor.core.records import Storage, view_record
from numbatensor.memory import memory_stats
from tests.device import open_device

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"]


def aliases(t):
    return int(view_record(entries.get(t, entries.STORAGE), Storage)["aliases"])


def sample(dtype):
    return nt.tensor(np.arange(12).reshape(3, 4).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_what_we_give(dtype):
    t = sample(dtype)
    for x in (t, t.t(), t[:, ::2], t[1]):
        array = np.from_dlpack(x)
        assert array.dtype == dtype and array.tolist() == x.tolist() and array.ctypes.data == x.data_ptr()
    array = np.from_dlpack(t)
    t[0, 0] = 1
    assert array[0, 0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_we_share_what_numpy_gives(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for a in (array, array.T, array[:, ::2], array[::-1], array[1]):
        t = nt.from_dlpack(a)
        assert t.dtype.name == dtype and t.tolist() == a.tolist() and list(t.shape) == list(a.shape)
    t = nt.from_dlpack(array)
    t[0, 0] = 1
    assert array[0, 0] == 1


def test_an_alias_is_noticed_while_it_lives():
    t = nt.ones(3)
    array = np.from_dlpack(t)
    assert aliases(t) == 1
    w = nt.ones(3, requires_grad=True)
    y = (w * t).sum()
    array[0] = 5
    with pytest.raises(VersionError):
        y.backward()
    del array, y
    gc.collect()
    assert aliases(t) == 0


def test_memory_outlives_the_tensor():
    array = np.from_dlpack(nt.arange(4.0))
    gc.collect()
    assert array.tolist() == [0, 1, 2, 3]
    held = nt.from_dlpack(np.arange(4.0))
    gc.collect()
    assert held.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 1), (2, 0)])
def test_a_capsule_that_nobody_takes_is_freed(version):
    t = nt.ones(3)
    capsule = t.__dlpack__(max_version=version)
    assert ("dltensor_versioned" in repr(capsule)) == (version is not None and version[0] >= 1)
    assert aliases(t) == 1
    del capsule
    assert aliases(t) == 0


class Older:
    """An array of a library that knows the first form of DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_older_libraries():
    assert nt.from_dlpack(Older(np.ones(3))).tolist() == [1, 1, 1]
    assert nt.from_dlpack(Older(nt.ones(3))).tolist() == [1, 1, 1]


def test_copies():
    t = nt.ones(3)
    array = np.from_dlpack(t, copy=True)
    array[0] = 2
    assert t.tolist() == [1, 1, 1] and aliases(t) == 0
    source = np.ones(3)
    x = nt.from_dlpack(source, copy=True)
    x[0] = 2
    assert source.tolist() == [1, 1, 1]


class Used:
    """Gives one capsule twice."""

    def __init__(self):
        self.capsule = np.ones(3).__dlpack__()

    def __dlpack__(self, **options):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


def test_refusals():
    with pytest.raises(BufferError, match=r"use tensor.detach\(\)"):
        np.from_dlpack(nt.ones(3, requires_grad=True))
    with pytest.raises(BufferError, match="stream must be None"):
        nt.ones(3).__dlpack__(stream=1)
    with pytest.raises(BufferError, match="without a copy"):
        nt.ones(3).__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="complex|no dtype"):
        nt.from_dlpack(np.ones(3, complex))
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(BufferError):
        nt.from_dlpack(fixed)
    used = Used()
    nt.from_dlpack(used)
    with pytest.raises(BufferError, match="used before"):
        nt.from_dlpack(used)
    with pytest.raises(AttributeError):
        nt.from_dlpack([1.0])


def test_torch():
    torch = pytest.importorskip("torch")
    for dtype in DTYPES:
        t = sample(dtype)
        for x in (t, t.t(), t[:, ::2]):
            shared = torch.from_dlpack(x)
            assert (
                shared.tolist() == x.tolist()
                and str(shared.dtype) == f"torch.{dtype}"
                and shared.data_ptr() == x.data_ptr()
            )
        back = nt.from_dlpack(torch.from_dlpack(t).t())
        assert back.tolist() == t.t().tolist() and back.data_ptr() == t.data_ptr()
        del shared, back
        assert aliases(t) == 1 if dtype == "never" else True
    t = nt.ones(3)
    shared = torch.from_dlpack(t)
    assert aliases(t) == 1
    del shared
    gc.collect()
    assert aliases(t) == 0


@pytest.fixture
def emulated():
    open_device(devices=2)


def test_a_device_by_dlpack(emulated):
    x = nt.arange(6.0, device="cuda").view(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    before = x._version
    y = nt.from_dlpack(x.t())
    assert y.device == "cuda:0" and y.data_ptr() == x.data_ptr() and y.tolist() == x.t().tolist()
    assert x._version == before + 1
    y += 1
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.from_dlpack(nt.from_dlpack(x, device="cpu")).tolist() == x.tolist()
    with pytest.raises(BufferError, match="without a copy"):
        nt.from_dlpack(x, device="cpu", copy=False)
    with pytest.raises(BufferError, match="ambiguous"):
        x.__dlpack__(stream=0)
    stream = nt.cuda.Stream()
    x.__dlpack__(stream=stream.cuda_stream)
    x.__dlpack__(stream=-1)


def test_the_memory_of_a_device_is_freed_when_nobody_uses_it(emulated):
    before = nt.cuda.memory_allocated()
    x = nt.ones(1000, device="cuda")
    y = nt.from_dlpack(x)
    del x
    gc.collect()
    assert nt.cuda.memory_allocated() == before + 4000
    del y
    memory_stats()  # drops what waits to be dropped
    assert nt.cuda.memory_allocated() == before


class Interface:
    def __init__(self, t):
        self.held, self.__cuda_array_interface__ = t, t.__cuda_array_interface__


def test_the_cuda_array_interface(emulated):
    x = nt.arange(6.0, device="cuda").view(2, 3)
    found = x.__cuda_array_interface__
    assert found["shape"] == (2, 3) and found["typestr"] == "<f4" and found["version"] == 3 and found["strides"] is None
    assert found["data"] == (x.data_ptr(), False) and found["stream"] == nt.cuda.current_stream().cuda_stream
    assert x.t().__cuda_array_interface__["strides"] == (4, 12)
    shared = nt.as_tensor(Interface(x.t()))
    assert shared.data_ptr() == x.data_ptr() and shared.tolist() == x.t().tolist()
    copied = nt.tensor(Interface(x))
    shared.zero_()
    assert copied.sum().item() == 15 and x.sum().item() == 0
    with pytest.raises(RuntimeError, match="use var.detach"):
        x.requires_grad_().__cuda_array_interface__  # noqa: B018


def test_what_is_handed_out_counts_as_written(emulated):
    x = nt.ones(3, device="cuda")
    w = nt.ones(3, device="cuda", requires_grad=True)
    y = (w * x).sum()
    x.__cuda_array_interface__  # noqa: B018
    with pytest.raises(VersionError):
        y.backward()
