"""Values that were saved are stale where a write touched them, and only there: against sets of elements, and in the uses it is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_properties import options

import numbatensor as nt

LENGTH = 200
STALE = "modified by an inplace operation"


@st.composite
def layouts(draw, steps, zero):
    """Shape, strides and offset of a part of a buffer."""
    dims = draw(st.lists(st.tuples(st.integers(1, 7), st.sampled_from(steps), st.sampled_from([1, 1, -1])), max_size=4))
    room = LENGTH - 1
    shape, strides, offset = [], [], 0
    for n, step, sign in dims:
        n = min(n, room // step + 1) if step else n
        if step == 0 and not zero:
            continue
        room -= (n - 1) * step
        offset += (n - 1) * step if sign < 0 else 0
        shape.append(n)
        strides.append(sign * step)
    if draw(st.integers(0, 30)) == 0 and shape:
        shape[0] = 0
    return tuple(shape), tuple(strides), offset + draw(st.integers(0, room))


def cells(layout):
    shape, strides, offset = layout
    return {offset + sum(i * s for i, s in zip(at, strides, strict=True)) for at in np.ndindex(*shape)}


def nested(*layouts_):
    found = sorted(
        {abs(s) for shape, strides, _ in layouts_ for n, s in zip(shape, strides, strict=True) if n > 1} - {0}
    )
    return all(b % a == 0 for a, b in zip(found, found[1:], strict=False))


def is_stale(saved, written, dtype=nt.float32):
    """Whether a write to one part of a buffer makes what was saved of another stale."""
    buffer = nt.zeros(LENGTH, dtype=dtype)
    x = buffer.as_strided(*saved)
    y = x * nt.ones(saved[0], dtype=dtype, requires_grad=True)
    buffer.as_strided(*written).zero_()
    try:
        y.sum().backward()
    except RuntimeError as error:
        assert STALE in str(error)
        return True
    return False


@pytest.mark.parametrize("steps", [[0, 1, 2, 6, 12, 36], [0, 1, 4, 8, 16, 64], [1, 2, 3, 4, 5, 7, 12, 30]], ids=str)
@settings(max_examples=1000, **options)
@given(st.data())
def test_a_write_counts_where_it_was(steps, data):
    saved, written = data.draw(layouts(steps, True)), data.draw(layouts(steps, False))
    common = bool(cells(saved) & cells(written))
    found = is_stale(saved, written, data.draw(st.sampled_from([nt.float32, nt.float64])))
    assert found or not common
    if nested(saved, written):
        assert found == common


def test_rows_and_columns():
    """Of a matrix of 10 x 20."""
    row = lambda i: ((20,), (1,), 20 * i)
    rows = lambda i, j: ((j - i, 20), (20, 1), 20 * i)
    column = lambda j, low=0, high=10: ((high - low,), (20,), j + 20 * low)
    assert is_stale(rows(2, 5), column(19)) and is_stale(column(19), rows(2, 5))
    assert not is_stale(rows(2, 5), column(19, 5, 10)) and not is_stale(column(0, 0, 2), rows(2, 5))
    assert not is_stale(((25,), (1,), 10), column(15, 1)) and not is_stale(row(3), row(4))
    assert is_stale(((25,), (1,), 10), column(10, 1)) and not is_stale(column(3), column(4))


def test_steps_that_do_not_divide_each_other_are_taken_for_overlapping():
    assert not is_stale(((10,), (4,), 0), ((10,), (6,), 1))  # but for lattices that miss each other
    assert is_stale(((2,), (4,), 0), ((2,), (3,), 2))


# what it is for


def test_a_ring_buffer():
    w, ring = nt.tensor([1.0, 2.0, 3.0], requires_grad=True), nt.zeros(4, 3)
    total = 0
    for t in range(4):
        ring[t] = float(t)
        total = total + (w * ring[t]).sum()
    total.backward()
    assert w.grad.tolist() == [6.0] * 3


def test_a_ring_buffer_that_comes_round_too_early():
    w, ring = nt.ones(3, requires_grad=True), nt.zeros(4, 3)
    total = 0
    for t in range(5):
        ring[t % 4] = float(t)
        total = total + (w * ring[t % 4]).sum()
    with pytest.raises(RuntimeError, match=STALE):
        total.backward()


def test_a_key_value_cache():
    steps, x = 1000, nt.tensor(np.linspace(0.1, 0.2, 1000), requires_grad=True)
    cache, total = nt.zeros(steps, dtype=nt.float64), 0
    for t in range(steps):
        cache[t] = x[t] * x[t]
        if t % 10 == 9:
            seen = cache[: t + 1]
            total = total + (seen * seen).sum()
    total.backward()
    uses = np.array([sum(1 for t in range(9, steps, 10) if t >= k) for k in range(steps)])
    np.testing.assert_allclose(x.grad.numpy(), 4 * uses * x.tolist() ** np.float64(3), rtol=1e-12)


def test_a_cache_that_is_filled_without_gradients():
    w = nt.ones(8, dtype=nt.float64, requires_grad=True)
    cache, total = nt.zeros(1000, 8, dtype=nt.float64), 0
    for t in range(1000):
        cache[t] = float(t)
        total = total + (w * cache[: t + 1]).sum()
    total.backward()
    assert w.grad[0].item() == sum(sum(range(t + 1)) for t in range(1000))


@pytest.mark.parametrize(
    ("kept", "written"),
    [
        (np.s_[:2], np.s_[2:]),
        (np.s_[::2], np.s_[1::2]),
        (np.s_[:, :3], np.s_[:, 3:]),
        (np.s_[:, ::2], np.s_[:, 1::2]),
        (np.s_[1], np.s_[2]),
        (np.s_[:, 1], np.s_[:, 2]),
        (np.s_[::-2], np.s_[::2]),
    ],
    ids=str,
)
def test_disjoint_slices(kept, written):
    buffer, w = nt.arange(24.0).reshape(4, 6).clone(), nt.ones(4, 6, requires_grad=True)
    expected = buffer[kept].tolist()
    y = w[kept] * buffer[kept]
    buffer[written] = -1.0
    y.sum().backward()
    assert w.grad[kept].tolist() == expected
    with pytest.raises(RuntimeError, match=STALE):
        y = w[kept] * buffer[kept]
        buffer[written][:1] = -1.0
        buffer[kept][:1] = -1.0
        y.sum().backward()


def test_gradients_through_disjoint_slices():
    x = nt.tensor([1.0, 2.0, 3.0, 4.0], dtype=nt.float64, requires_grad=True)
    buffer = nt.zeros(4, dtype=nt.float64)
    buffer[:2] = x[:2].exp()
    buffer[2:] = buffer[:2] * buffer[:2] * x[2:]
    buffer[2:].mul_(buffer[:2])
    buffer.sum().backward(retain_graph=True)
    e, c = np.exp([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_allclose(x.grad.numpy(), [*(e + 3 * e**3 * c), *e**3])
    buffer[:1].mul_(2.0)
    with pytest.raises(RuntimeError, match=STALE):
        buffer.sum().backward()


def test_strict_versions():
    w, buffer = nt.ones(3, requires_grad=True), nt.zeros(2, 3)
    y = w * buffer[0]
    buffer[1] = 1.0
    with nt.autograd.strict_versions(), pytest.raises(RuntimeError, match=STALE) as raised:
        y.sum().backward(retain_graph=True)
    assert "strict_versions" in str(raised.value)
    with nt.autograd.strict_versions(), nt.autograd.strict_versions(False):
        y.sum().backward(retain_graph=True)

    @nt.autograd.strict_versions
    def strict():
        y.sum().backward(retain_graph=True)

    with pytest.raises(RuntimeError, match=STALE):
        strict()
    y.sum().backward()


def test_more_writes_than_the_log_holds():
    w, buffer = nt.ones(2, requires_grad=True), nt.zeros(3, 2)
    with nt.no_grad():
        row = buffer[1]
    y = w * buffer[0]
    for _ in range(30_000):
        row.zero_()
    late = w * buffer[0]
    row.zero_()
    late.sum().backward()
    with pytest.raises(RuntimeError, match="does not reach back"):
        y.sum().backward()


def test_the_log_ends_with_the_last_save():
    w, buffer = nt.ones(2, requires_grad=True), nt.zeros(3, 2)
    for k in range(100):
        y = w * buffer[0]
        buffer[1] = 1.0
        y.sum().backward()
        buffer[0] = float(k)
    assert w.grad.tolist() == [sum(range(99))] * 2


def test_the_error_names_the_write_that_touched_it():
    w, buffer = nt.ones(2, requires_grad=True), nt.zeros(3, 2)
    y = w * buffer[0]
    buffer[1] = 1.0
    buffer[0].add_(1.0)
    buffer[1].mul_(2.0)
    with pytest.raises(RuntimeError, match=r"`add_` at .*has overwritten it since, making version 2"):
        y.sum().backward()
