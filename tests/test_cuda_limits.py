"""Sizes that few devices hold, and limits of all devices: what runs in the emulator only in pieces."""

import numpy as np
import pytest
from numba import types

import numbatensor as nt
from kernels_cuda import extremum, scan
from numbatensor.cuda import check, emulator
from numbatensor.cuda.emulator import launch
from tests.device import of_the_emulator, open_device

HUGE, CHUNK = (1 << 32) + 100, 1 << 31


@pytest.fixture
def untouched(tmp_path):
    """Makes zeros, of which a file holds what is written."""
    return lambda count, dtype: np.memmap(tmp_path / dtype, dtype, "w+", shape=count).view(np.ndarray)


@pytest.fixture
def last_block(monkeypatch):
    """Of several blocks the last one alone runs."""
    places = emulator.Dim3.places
    monkeypatch.setattr(emulator.Dim3, "places", lambda self: places(self)[-1:] if self.x == 3 else places(self))


def test_an_extremum_beyond_32_bits(last_block, untouched):
    pytest.importorskip("greenlet")
    x, found, out = untouched(HUGE, "int8"), np.zeros(3, np.int64), np.zeros(1, np.int64)
    x[HUGE - 7] = x[HUGE - 5] = 1
    kernel, kinds = extremum.argmax_by_block(types.int8, 0)
    launch(kernel, 3, 256, [found, x, 0, 3, HUGE, 3, CHUNK], kinds)
    assert found[2] == HUGE - 7
    found[1] = CHUNK + 1
    kernel, kinds = extremum.argmax_by_warp(types.int8, 0)
    launch(kernel, 1, 32, [out, x, found, 1, 3, 1, HUGE], kinds)
    assert out[0] == HUGE - 7


def test_sums_beyond_32_bits(last_block, untouched):
    pytest.importorskip("greenlet")
    x, out, starts = untouched(HUGE, "int8"), untouched(HUGE, "int64"), np.array([1, 2, 3], np.int64)
    x[HUGE - 7] = 4
    kernel, kinds = scan.cumsum_by_block(types.int8, 0)
    launch(kernel, 3, 256, [out, x, starts, 3, HUGE, 3, CHUNK], kinds)
    assert out[2 * CHUNK] == out[HUGE - 8] == 2 and out[HUGE - 7] == out[HUGE - 1] == 6


@of_the_emulator
def test_rows_that_are_too_long_or_too_many_are_refused():
    """Before anything is made of them."""
    open_device()
    one = nt.ones(1, device="cuda")
    for call in (lambda x: x.softmax(0), lambda x: x.logsumexp(0), lambda x: x.unsqueeze(1).log_softmax(1)):
        with pytest.raises(
            RuntimeError, match=r"softmax|logsumexp.*rows of .* elements, of which .* at most 2147483647"
        ):
            call(one.expand(1 << 31))
    with pytest.raises(RuntimeError, match="1 rows of 2147483648 elements"):
        nt.ops.rows.layer_norm(one.expand(1 << 31), None, None, 1 << 31, 1e-5)
    with pytest.raises(RuntimeError, match="2147483648 rows of 1 elements"):
        one.expand(1 << 31).unsqueeze(1).argmax(1)


@of_the_emulator
def test_short_rows_share_warps_and_long_ones_get_large_blocks(monkeypatch):
    open_device()
    launches = []
    monkeypatch.setattr(emulator, "launch", lambda kernel, grid, block, *more: launches.append((grid[0], block[0])))
    for rows, n in ((1000, 64), (1000, 65), (7, 3), (1000, 1), (3, 1000), (3, 8192), (3, 8193)):
        nt.empty(rows, n, device="cuda").softmax(1)
    assert launches == [(63, 256), (125, 256), (1, 32), (4, 256), (1, 96), (3, 256), (3, 1024)]
    del launches[:]
    nt.empty(1000, 64, device="cuda", dtype=nt.float16).softmax(1)  # eight elements to a lane
    nt.empty(1000, 65, device="cuda", dtype=nt.float16).softmax(1)  # four
    assert launches == [(32, 256), (125, 256)]


def test_blocks_have_room_for_their_registers():
    found = {"spilled": 0, "float64": 0, "wide divisions": 0, "loads": [128], "registers": 65}
    assert check.row_faults(("softmax", 2, 6, "aligned"), found) == ["65 registers for each of 1024 threads"]
    assert not check.row_faults(("softmax", 1, 6, "aligned"), found)
    assert not check.row_faults(("softmax", 2, 6, "aligned"), found | {"registers": 64})


@of_the_emulator
def test_small_tiles_of_columns_share_blocks(monkeypatch):
    open_device()
    x = np.random.default_rng(0).normal(size=(70, 5, 3)).astype("float32")
    found = [getattr(nt.tensor(x).to("cuda"), name)(1).cpu().numpy() for name in ("sum", "var")]
    np.testing.assert_allclose(found, [x.sum(1), x.var(1, ddof=1)], rtol=1e-5, atol=1e-5)
    launches = []
    monkeypatch.setattr(emulator, "launch", lambda kernel, grid, block, *more: launches.append((grid[0], block[0])))
    for shape in ((1000, 5, 3), (3, 5, 3), (1000, 5, 128), (4, 1000, 128)):
        nt.empty(*shape, device="cuda").sum(1)
    assert launches == [(32, 256), (1, 24), (250, 256), (12, 256), (1, 128)]  # the last in two passes
