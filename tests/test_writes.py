"""Every way to write in place writes in place, and counts as one write."""

import pytest

import numbatensor as nt


def x():
    return nt.tensor([[0.3, 0.6], [0.2, 0.9]])


INTEGERS = lambda: nt.tensor([[5, 2], [3, 4]])
INDEX = lambda: nt.tensor([[0, 1]])
# How to call what takes more than the tensor: a function that makes the tensor, one that makes the arguments.
CALLS = {
    "addcdiv_": (x, lambda: (x(), x())),
    "addcmul_": (x, lambda: (x(), x())),
    "acosh_": (lambda: x() + 1.0, tuple),
    "as_strided_": (x, lambda: ((2,), (1,))),
    "bernoulli_": (x, lambda: (0.5,)),
    "clamp_": (x, lambda: (0.1, 0.5)),
    "clip_": (x, lambda: (0.1, 0.5)),
    "cumprod_": (x, lambda: (0,)),
    "cumsum_": (x, lambda: (0,)),
    "fill_": (x, lambda: (1.0,)),
    "index_add_": (x, lambda: (0, nt.tensor([1, 0]), x())),
    "index_copy_": (x, lambda: (0, nt.tensor([1, 0]), x())),
    "index_fill_": (x, lambda: (0, nt.tensor([1, 0]), 2.0)),
    "index_put_": (x, lambda: ((nt.tensor([1, 0]),), x())),
    "lerp_": (x, lambda: (x(), 0.5)),
    "masked_fill_": (x, lambda: (x() > 0.5, 1.0)),
    "masked_scatter_": (x, lambda: (x() > 0.5, x())),
    "resize_": (x, lambda: (3,)),
    "resize_as_": (x, lambda: (nt.ones(3),)),
    "scatter_": (x, lambda: (0, INDEX(), x())),
    "scatter_add_": (x, lambda: (0, INDEX(), x())),
    "scatter_reduce_": (x, lambda: (0, INDEX(), x(), "sum")),
    "squeeze_": (lambda: nt.ones(1, 2), tuple),
    "swapaxes_": (x, lambda: (0, 1)),
    "swapdims_": (x, lambda: (0, 1)),
    "transpose_": (x, lambda: (0, 1)),
    "unsqueeze_": (x, lambda: (0,)),
    "addmm_": (x, lambda: (x(), x())),
    "random_": (x, tuple),
    "exponential_": (x, tuple),
}
BINARY = "add sub mul div pow copy maximum minimum fmax fmin atan2 hypot logaddexp fmod remainder floor_divide".split()
BINARY += "clamp_min clamp_max eq ne lt le gt ge logical_and logical_or logical_xor xlogy copysign nextafter".split()
CALLS |= {f"{name}_": (x, lambda: (x(),)) for name in BINARY}
for word in ("and", "or", "xor", "left_shift", "right_shift"):
    CALLS[f"bitwise_{word}_"] = (INTEGERS, lambda: (INTEGERS(),))
CALLS["bitwise_not_"] = (INTEGERS, tuple)
NO_WRITE = {"requires_grad_", "detach_", "share_memory_"}
IN_PLACE = sorted(n for n in dir(nt.Tensor) if n.endswith("_") and not n.endswith("__") and not n.startswith("_"))


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_write_counts_once(name):
    make, arguments = CALLS.get(name, (x, tuple))
    t, rest = make(), arguments()
    before = t._version, [r._version for r in rest if isinstance(r, nt.Tensor)]
    assert getattr(t, name)(*rest) is t
    assert t._version - before[0] == (name not in NO_WRITE)
    assert [r._version for r in rest if isinstance(r, nt.Tensor)] == before[1]


WRITES = {
    "t += u": lambda t, u: t.__iadd__(u),
    "t *= 2": lambda t, u: t.__imul__(2),
    "t[0] = 1": lambda t, u: t.__setitem__(0, 1),
    "t[:, ::-1] = u": lambda t, u: t.__setitem__((slice(None), slice(None, None, -1)), u),
    "t[[0]] = 1": lambda t, u: t.__setitem__([0], 1.0),
    "t[t > 0.5] = 0": lambda t, u: t.__setitem__(t > 0.5, 0.0),
    "t[:0] = 1": lambda t, u: t.__setitem__(slice(0, 0), 1.0),
    "add(u, u, out=t)": lambda t, u: nt.add(u, u, out=t),
    "t.detach().add_(u)": lambda t, u: t.detach().add_(u),
    "t.t().mul_(u)": lambda t, u: t.t().mul_(u),
    "t.copy_(integers)": lambda t, u: t.copy_(INTEGERS()),
    "SGD step": lambda t, u: step(t),
}


def step(t):
    p = t.requires_grad_()
    p.sum().backward()
    nt.optim.SGD([p], lr=0.1).step()
    p.requires_grad_(False)


@pytest.mark.parametrize("write", WRITES)
def test_any_write_counts_once(write):
    t = x()
    WRITES[write](t, x())
    assert t._version == 1


SIGNS = ["+", "-", "*", "/", "**", "//", "%", "&", "|", "^", "<<", ">>"]


@pytest.mark.parametrize("sign", SIGNS)
def test_operators_write_in_place(sign):
    t = before = INTEGERS() if sign in "& | ^ << >> // %".split() else x()
    scope = {"t": t, "u": before.clone()}
    expected = eval(f"t {sign} u", scope).tolist()
    exec(f"t {sign}= u", scope)
    assert scope["t"] is before and before.tolist() == expected and before._version == 1
