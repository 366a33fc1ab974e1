"""Copies of what is contiguous along another dimension: by tiles in shared memory, in the block emulator."""

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.core.there import CONVERSIONS_THERE, TILES

pytest.importorskip("greenlet")

# Shapes, and the order of dimensions that is made contiguous: full tiles and parts of them, batches inside and outside, four dimensions.
CASES = [((64, 32), (1, 0)), ((17, 45), (1, 0)), ((33, 16), (1, 0)), ((3, 20, 40), (0, 2, 1)), ((20, 3, 40), (2, 1, 0))]
CASES += [
    ((20, 40, 3), (2, 1, 0)),
    ((2, 3, 17, 18), (1, 3, 0, 2)),
    ((2, 17, 2, 18), (3, 0, 2, 1)),
    ((15, 40), (1, 0)),
    ((0, 32), (1, 0)),
]


@pytest.fixture(autouse=True, params=["forward", "reverse"], scope="module")
def emulated(request):
    nt.cuda.emulate(order=request.param)
    yield
    nt.cuda.emulate()


@pytest.mark.parametrize("shape, order", CASES)
def test_values(shape, order):
    for dtype in (np.float32, np.float64, np.int16, np.bool_):
        x = (np.arange(np.prod(shape)) * 7 % 251).reshape(shape).astype(dtype)
        y = nt.tensor(x).to("cuda").permute(*order)
        made = y.contiguous()
        assert made.is_contiguous() and (made.cpu().numpy() == x.transpose(order)).all()


def test_halves_into_slices_and_from_behind():
    x = nt.tensor(np.arange(40.0 * 50).reshape(40, 50) % 97, dtype=nt.bfloat16)
    there, out = x.to("cuda"), nt.zeros(60, 64, dtype=nt.bfloat16, device="cuda")
    out[3:51, 2:40] = there[1:39, :48].t()
    expected = nt.zeros(60, 64, dtype=nt.bfloat16)
    expected[3:51, 2:40] = x[1:39, :48].t()
    assert (out.cpu() == expected).all()


def test_tiles_are_what_is_used():
    x = nt.ones(20, 30, device="cuda")
    CONVERSIONS_THERE[4, 4] = 0
    x.t().contiguous()
    assert np.flatnonzero(CONVERSIONS_THERE[4, 4]).tolist() == [TILES]
    x[:, :4].t().contiguous()  # too narrow
    assert np.flatnonzero(CONVERSIONS_THERE[4, 4]).tolist() == [2, TILES]
