"""Arrays that share a tensor's memory: their writes are noticed while they live, and cost nothing after."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import numbatensor as nt
from numbatensor.autograd import VersionError
from numbatensor.core import entries
from numbatensor.core.records import Storage, view_record
from numbatensor.memory import memory_stats


def aliases(t):
    return int(view_record(entries.get(t, entries.STORAGE), Storage)["aliases"])


def saving(t):
    """A leaf, and a sum whose gradient reads t."""
    w = nt.ones_like(t, requires_grad=True)
    return w, (w * t).sum()


def fails(y):
    with pytest.raises(VersionError, match="memory that a NumPy array shares .* was written after mul saved it"):
        y.backward()


@njit
def shown(t):
    return t.numpy()


@njit
def reversed_in_compiled_code(t):
    return t.numpy()[::-1]


# Ways to come by an array that shares the memory of a tensor of two dimensions.
WAYS = {
    "numpy": lambda t: t.numpy(),
    "detach().numpy": lambda t: t.detach().numpy(),
    "view.numpy": lambda t: t.view(-1).numpy(),
    "transposed": lambda t: t.t().numpy().T,
    "asarray": np.asarray,
    "__array__": lambda t: t.__array__(),
    "array(copy=False)": lambda t: np.array(t, copy=False),
    "view of an array": lambda t: t.numpy()[::-1, ::2],
    "view of another dtype": lambda t: t.numpy().view(np.uint8)[:, :4],
    "reshaped": lambda t: t.numpy().reshape(-1),
    "subclass": lambda t: t.numpy().view(np.recarray),
    "memoryview": lambda t: np.asarray(memoryview(t.numpy())),
    "dlpack": lambda t: np.from_dlpack(t.numpy()),
    "as_strided": lambda t: np.lib.stride_tricks.as_strided(t.numpy(), (2,)),
    "another tensor's": lambda t: nt.from_numpy(t.numpy()).numpy(),
    "compiled": shown,
    "compiled, a view": reversed_in_compiled_code,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_alias_ends_with_its_array(way):
    t = nt.arange(12.0).view(3, 4).clone()
    array = WAYS[way](t)
    assert aliases(t) == 1
    second = array[:1]
    del array
    assert aliases(t) == 1
    del second
    gc.collect()
    memory_stats()  # drops what waits to be dropped
    assert aliases(t) == 0
    w, y = saving(t)
    y.backward()
    assert w.grad.tolist() == t.tolist()


@pytest.mark.parametrize("way", WAYS)
def test_a_write_is_noticed(way):
    t = nt.arange(12.0).view(3, 4).clone()
    array = WAYS[way](t)
    w, y = saving(t)
    array.reshape(-1)[:1] = 77
    if not np.shares_memory(array, t.numpy()) or t.view(-1).eq(nt.arange(12.0)).all():  # reshaping copied
        array[...] = 77
    fails(y)
    del array
    fails(y)  # it stays so


def test_a_write_before_the_array_dies_is_noticed_after():
    t = nt.ones(2, 3)
    array = t.numpy()
    w, y = saving(t)
    array[0, 0] = 2.0
    del array
    assert aliases(t) == 0
    fails(y)
    z = (w * t).sum()  # saved anew
    z.backward()
    assert w.grad[0, 0].item() == 2.0


def test_what_is_written_back_is_intact():
    t = nt.ones(3)
    array = t.numpy()
    w, y = saving(t)
    array += 1.0
    array -= 1.0
    y.backward()
    assert w.grad.tolist() == [1.0] * 3


def test_counted_writes_beside_arrays():
    t = nt.ones(4)
    array = t.numpy()
    w = nt.ones(2, requires_grad=True)
    y = (w * t[:2]).sum()
    t[2:] = 5.0
    array[3] = 6.0
    y.backward()
    assert w.grad.tolist() == [1.0, 1.0]
    y = (w * t[:2]).sum()
    t[1] = 5.0
    with pytest.raises(VersionError, match="has overwritten it since"):
        y.backward()


def test_arrays_given_to_from_numpy_stay():
    array = np.ones(3, np.float32)
    t = nt.from_numpy(array)
    more = t.numpy()
    assert aliases(t) == 2
    del more
    assert aliases(t) == 1
    w, y = saving(t)
    array[0] = 3.0
    fails(y)


def test_an_array_outlives_its_tensor():
    before = memory_stats()["storages"]
    t = nt.arange(5.0).clone()
    array = t.numpy()[1:]
    del t
    gc.collect()
    array += 1.0
    assert array.tolist() == [2.0, 3.0, 4.0, 5.0] and memory_stats()["storages"] == before + 1
    del array
    assert memory_stats()["storages"] == before


def test_an_array_of_a_tensor_that_was_given_other_memory():
    t = nt.ones(3)
    array = t.numpy()
    t.data = nt.zeros(3)
    assert array.tolist() == [1.0, 1.0, 1.0] and aliases(t) == 0
    array[0] = 2.0
    assert t.tolist() == [0.0, 0.0, 0.0]


def test_copies_share_nothing():
    t = nt.ones(3)
    array = t.numpy()
    others = [pickle.loads(pickle.dumps(array)), copy.deepcopy(array), np.array(t), array.astype("f8"), array.tobytes()]
    del array
    assert aliases(t) == 0
    others[0][0] = 5.0
    assert t.tolist() == [1.0, 1.0, 1.0]


def test_a_pickled_buffer_shares():
    t = nt.ones(3)
    buffers: list = []
    text = pickle.dumps(t.numpy(), 5, buffer_callback=buffers.append)
    assert aliases(t) == 1
    array = pickle.loads(text, buffers=buffers)
    del buffers
    assert aliases(t) == 1
    array[0] = 4.0
    assert t[0].item() == 4.0
    del array
    assert aliases(t) == 0


def test_a_memoryview_shares():
    t = nt.ones(3)
    shown = memoryview(t.numpy().base)
    w, y = saving(t)
    assert aliases(t) == 1 and shown.nbytes == 12 and not shown.readonly
    shown[3] = 0x40
    fails(y)
    shown.release()
    del shown
    assert aliases(t) == 0


def test_refusals():
    t = nt.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="Can't call numpy"):
        t.numpy()
    with pytest.raises(ValueError, match="a copy is needed"):
        t.detach().__array__("f8", copy=False)
    kind = type(t.detach().numpy().base)
    with pytest.raises(TypeError, match="cannot create"):
        kind()
    assert aliases(t) == 0


def test_arrays_without_elements():
    t = nt.ones(3, 0)
    array = t.numpy()
    assert array.shape == (3, 0) and array.dtype == np.float32 and aliases(t) == 0
    assert nt.ones(4)[4:].numpy().shape == (0,)
    w, y = saving(t)
    y.backward()


def test_errors_let_the_array_go():
    t = nt.ones(3)

    @njit
    def stops(t, k):
        a = t.numpy()
        if k:
            raise ValueError("stop")
        return a.sum()

    assert stops(t, 0) == 3.0
    with pytest.raises(ValueError, match="stop"):
        stops(t, 1)
    w, y = saving(t)
    array = t.numpy()
    array[0] = 2.0
    y.backward()  # nothing shared the memory when it was saved


def test_arrays_inside_compiled_code():
    @njit
    def saved_then_written(w, t):
        a = t.numpy()
        y = (w * t).sum()
        a[0] = 5.0
        return y

    @njit
    def read(w, t):
        total = 0.0
        for value in t.numpy():
            total += value
        return (w * t).sum()

    w, t = nt.ones(3, requires_grad=True), nt.ones(3)
    fails(saved_then_written(w, t))
    assert aliases(t) == 0
    read(w, t).backward()
    assert aliases(t) == 0 and t._version == 2


def test_saved_values_that_hooks_keep():
    t = nt.ones(3)
    array = t.numpy()
    w = nt.ones(3, requires_grad=True)
    with nt.autograd.graph.saved_tensors_hooks(lambda x: x * 2.0, lambda x: x):
        y = (w * t).sum()
    array[0] = 9.0  # what was packed shares nothing
    y.backward()
    assert w.grad.tolist() == [2.0, 2.0, 2.0]


def test_what_a_node_tells():
    t = nt.ones(3)
    array = t.numpy()
    w = nt.ones(3, requires_grad=True)
    y = w * t
    (value,) = (v for v in y.grad_fn.saved if v.shape == (3,))
    assert value.writer == ""
    array[0] = 2.0
    (value,) = (v for v in y.grad_fn.saved if v.shape == (3,))
    assert value.writer == "a NumPy array that shares its memory"


def test_threads():
    """Arrays that come and go while other threads save: the count ends where it began, and no sound value is refused."""
    t = nt.arange(300.0).clone()
    w, y = saving(t)
    y.backward()
    shown(t)
    failures = []

    def work(k):
        try:
            for i in range(200):
                array = shown(t) if k == 0 and i % 20 == 0 else t.numpy()[k:]
                if k:
                    x = nt.ones(300, requires_grad=True)
                    z = (x * t.detach().clone()).sum() if i % 2 else (x * other).sum()
                    z.backward()
                del array
        except Exception as error:
            failures.append(error)

    other = nt.arange(300.0).clone()
    kept = other.numpy()
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failures and aliases(t) == 0 and aliases(other) == 1 and kept[1] == 1.0


# the checksum itself


class Keep(nt.autograd.Function):
    """Saves a tensor of any dtype as it lies."""

    @staticmethod
    def forward(ctx, w, t):
        ctx.save_for_backward(t)
        return w.clone()

    @staticmethod
    def backward(ctx, grad):
        assert ctx.saved_tensors
        return grad, None


def noticed(t, change):
    """Whether a change of the array is noticed."""
    array = t.numpy()
    y = Keep.apply(nt.ones((), requires_grad=True), t)
    change(array)
    try:
        y.backward()
    except VersionError:
        return True
    return False


SIZES = st.integers(1, 700)
DTYPES = [nt.float32, nt.float64, nt.int64, nt.int32, nt.int16, nt.uint8]


def layouts(whole):
    """Tensors over an array's elements, in several layouts."""
    n = whole.size
    yield nt.tensor(whole)
    yield nt.tensor(np.stack([whole, whole]))[:, n // 2 :] if n > 1 else nt.tensor(whole)
    yield nt.tensor(np.stack([whole, whole])).t()
    yield nt.tensor(np.stack([whole, whole, whole], 1))[:, 1]
    yield nt.tensor(np.stack([whole] * 4).reshape(2, 2, n))[:, :1, ::2]
    yield nt.from_numpy(whole.copy()[::-1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_changed_bit_is_noticed(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    n = data.draw(SIZES)
    whole = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 100, n).astype(dtype.numpy)
    for t in layouts(whole):
        k = data.draw(st.integers(0, t.numel() - 1))
        bit = data.draw(st.integers(0, 8 * t.itemsize - 1))

        def flip(array, k=k, bit=bit):
            one = array[np.unravel_index(k, array.shape)].tobytes()
            changed = int.from_bytes(one, "little") ^ 1 << bit
            array[np.unravel_index(k, array.shape)] = np.frombuffer(changed.to_bytes(len(one), "little"), array.dtype)[
                0
            ]

        assert noticed(t, flip)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.data())
def test_swapped_elements_are_noticed(n, data):
    a, b = (data.draw(st.integers(0, n)) for _ in range(2))

    def swap(array):
        array[[a, b]] = array[[b, a]]

    assert noticed(nt.arange(n + 1.0).clone(), swap) == (a != b)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.sampled_from([nt.float32, nt.float64]), st.data())
def test_signs_are_noticed(n, dtype, data):
    chosen = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)))

    def negate(array):
        array[chosen] *= -1

    assert noticed(nt.zeros(n, dtype=dtype), negate)
    assert noticed(nt.ones(n, dtype=dtype), negate)


@pytest.mark.parametrize("every", [1, 2, 8, 16, 32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
@pytest.mark.parametrize("start", range(3))
def test_patterns_are_noticed(every, dtype, start):
    """Negated columns and exchanged rows, whose differences are alike, do not cancel in the lanes."""

    def negate(array):
        array[start::every] *= -1

    def exchange(array):
        rows = array[: array.size // (2 * every) * 2 * every].reshape(-1, 2, every)
        rows[...] = rows[:, ::-1].copy()

    assert noticed(nt.ones(1 << 12, dtype=dtype), negate)
    assert noticed(nt.arange(1 << 12, dtype=dtype).clone(), exchange)


@pytest.mark.parametrize(("dtype", "word", "bits"), [(nt.float32, np.int32, 22), (nt.float64, np.int64, 51)])
def test_payloads_of_nans_are_noticed(dtype, word, bits):
    for n in (1, 7, 300):
        for bit in range(0, bits, 7):
            t = nt.full((n,), float("nan"), dtype=dtype)

            def change(array, n=n, bit=bit):
                array.view(word)[n // 2] ^= 1 << bit

            assert noticed(t, change)
    t = nt.full((5,), float("nan"), dtype=dtype)
    assert not noticed(t, lambda array: None)


def test_long_arrays_on_several_threads():
    before = nt.get_num_threads()
    t = nt.arange(600_000.0).clone()
    w = nt.ones(600_000, requires_grad=True)
    try:
        nt.set_num_threads(2)
        array = t.numpy()
        y = (w * t).sum()
        nt.set_num_threads(1)
        y.backward(retain_graph=True)  # the checksum does not depend on how many there are
        for k in (0, 1, 37_499, 37_500, 299_999, 599_999):
            kept = array[k]
            array[k] = -1.0
            fails(y)
            array[k] = kept
            y.backward(retain_graph=True)
    finally:
        nt.set_num_threads(before)
