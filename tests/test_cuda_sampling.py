"""Permutations and weighted choices on a device: those that the CPU draws with the same generator."""

import pytest

import numbatensor as nt
from kernels_cpu import exponents, logarithms
from kernels_cpu import sampling as here
from kernels_cuda import sampling as there
from tests.device import ON_GPU, ORDERS, open_device


@pytest.fixture(autouse=True, params=ORDERS)
def order(request):
    open_device(**({} if ON_GPU else {"order": request.param}))


def both(draw):
    """What a draw gives on the CPU and on the device, from one state of a generator."""
    g = nt.Generator().manual_seed(5)
    state = g.get_state()
    near = draw("cpu", g)
    after = g.get_state().tolist()
    g.set_state(state)
    far = draw("cuda", g)
    assert far.device == "cuda:0" and g.get_state().tolist() == after
    return near, far.cpu()


@pytest.mark.parametrize("n", [0, 1, 2, 511, 1300])
def test_permutations_of_one_bucket(n):
    near, far = both(lambda device, g: nt.randperm(n, device=device, generator=g))
    assert far.tolist() == near.tolist() and sorted(far.tolist()) == list(range(n))


def test_a_permutation_of_several_buckets():
    near, far = both(lambda device, g: nt.randperm(8200, device=device, generator=g))
    assert far.tolist() == near.tolist()


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64, nt.bfloat16])
@pytest.mark.parametrize("replacement", [True, False])
def test_choices(dtype, replacement):
    for shape, n in [((7,), 3), ((3, 301), 301), ((2, 5), 5)]:
        w = nt.rand(shape, dtype=dtype) + 0.01
        near, far = both(lambda device, g: nt.multinomial(w.to(device), n, replacement, generator=g))
        assert far.tolist() == near.tolist()
    w = nt.tensor([0.0, 1e-30, 3e-39, 2.0, 1e38, 0.0, 5.0], dtype=dtype)
    near, far = both(lambda device, g: nt.multinomial(w.to(device), 4, replacement, generator=g))
    assert far.tolist() == near.tolist() and not {0, 5} & set(far.tolist())


def test_an_integer_dtype_and_out():
    out = nt.zeros(30, dtype=nt.int16, device="cuda")
    assert nt.randperm(30, out=out) is out and sorted(out.tolist()) == list(range(30))
    w, out = nt.ones(6, device="cuda"), nt.zeros(6, dtype=nt.int64, device="cuda")
    assert nt.multinomial(w, 6, out=out) is out and sorted(out.tolist()) == list(range(6))
    assert nt.multinomial(nt.zeros(0, 4, device="cuda"), 2).shape == (0, 2)


def test_wrong_weights_are_told_before_anything_is_drawn():
    g = nt.Generator()
    before = g.get_state().tolist()
    for bad, replacement, told in [
        ([1.0, -1.0], False, "`inf`, `nan` or element < 0"),
        ([1.0, -1.0], True, "encountering probability entry < 0"),
        ([1.0, float("nan")], True, "encountering probability entry < 0"),
        ([1.0, float("inf")], True, "= infinity or NaN"),
        ([0.0, 0.0], True, "sum of probabilities <= 0"),
        ([0.0, 1.0], False, "not enough"),
    ]:
        with pytest.raises(RuntimeError, match=told):
            nt.multinomial(nt.tensor([[1.0, 1.0], bad], device="cuda"), 2, replacement, generator=g)
    assert g.get_state().tolist() == before


def test_in_a_graph():
    """A permutation is captured, with its numbers; weights are looked at on the CPU, which a graph cannot hold."""
    graph = nt.cuda.graph(lambda: nt.randperm(9, device="cuda"))
    assert sorted(graph().tolist()) == list(range(9))
    w = nt.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="graph cannot hold this: .*wait"):
        nt.cuda.graph(lambda: nt.multinomial(w, 2))


def test_constants_are_the_same_on_both_sides():
    assert logarithms.LOG[64] == there.LOG and exponents.SQRT_HALF[64] == there.SQRT_HALF
    assert (here.LN2, here.LARGEST, here.MOST_BITS) == (there.LN2, there.LARGEST, there.MOST_BITS)
    assert 1.4 * 2**here.LEAF < there.ROOM
