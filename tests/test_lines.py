"""Errors of overwritten values name both lines: where the value was saved, and where it was written, and by what."""

import inspect
import re

import numpy as np
import pytest

import numbatensor as nt


def line():
    """The number of the caller's line."""
    return inspect.currentframe().f_back.f_lineno


def raised(y):
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as error:
        y.sum().backward()
    return str(error.value)


def lines_of(text):
    return [int(n) for n in re.findall(rf"{re.escape(__file__)}:(\d+)", text)]


def parts():
    w = nt.ones(2, 3, requires_grad=True)
    return w, nt.ones(2, 3)


def numpy_write(x):
    array = x.numpy()
    array[0, 0] = 7.0


# what writes, and the name that the error gives it
WRITES = {
    "x.add_(1.0)": "`add_`",
    "x += 1.0": "`add_`",
    "x[0] = 1.0": "`__setitem__`",
    "x[:, 1:] = 1.0": "`__setitem__`",
    "x[[0]] = 1.0": "`index_put_`",
    "x[x > 0] = 1.0": "`index_put_`",
    "x.copy_(nt.zeros(2, 3))": "`copy_`",
    "x.fill_(2.0)": "`fill_`",
    "x.zero_()": "`zero_`",
    "nt.mul(x, 2.0, out=x)": "`mul_`",
    "nt.add(w.detach(), 2.0, out=x)": "`add(..., out=)`",
    "nt.cumsum(x, 0, out=x) if False else x.cumsum_(0)": "`cumsum_`",
    "x.normal_()": "`normal_`",
    "x.uniform_()": "`uniform_`",
    "x.bernoulli_(0.5)": "`bernoulli_`",
    "x.detach().mul_(2.0)": "`mul_`",
    "x.data.mul_(2.0)": "`mul_`",
    "x.t().sub_(2.0)": "`sub_`",
    "x.clamp_(0.0, 0.5)": "`clamp_`",
    "x.masked_fill_(x > 0, 3.0)": "`masked_fill_`",
    "x.tril_()": "`tril_`",
    "x.index_add_(0, nt.tensor([0]), nt.ones(1, 3))": "`index_add_`",
    "x.eq_(1.0)": "`eq_`",
}


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("mode", [nt.enable_grad, nt.no_grad])
def test_writes_from_python(statement, mode):
    w, x = parts()
    code = compile("\n" * 999 + statement, "<there>", "exec")
    y = w * x; saved = line()  # fmt: skip # noqa: E702
    with mode():
        exec(code, {"x": x, "w": w, "nt": nt})
    text = raised(y)
    assert lines_of(text) == [saved] and f"{WRITES[statement]} at <there>:1000 has overwritten it since" in text
    assert "mul saved `y` (float32 [2, 3])" in text


def test_the_saved_output():
    w, _ = parts()
    y = w.exp(); saved = line()  # fmt: skip # noqa: E702
    y.mul_(2.0); written = line()  # fmt: skip # noqa: E702
    text = raised(y)
    assert lines_of(text) == [saved, written] and "exp saved its output" in text and "`mul_`" in text


OPTIMIZERS = {
    "SGD": lambda p: nt.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: nt.optim.Adam(p, lr=0.1),
    "AdamW": lambda p: nt.optim.AdamW(p, lr=0.1),
    "RMSprop": lambda p: nt.optim.RMSprop(p, lr=0.1),
}


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if hasattr(nt.optim, n)])
def test_steps_of_optimizers(name):
    p, q = (nt.ones(3, requires_grad=True) for _ in range(2))
    optimizer = OPTIMIZERS[name]([q, p])
    (p.sum() + q.sum()).backward()
    y = p * p; saved = line()  # fmt: skip # noqa: E702
    optimizer.step(); written = line()  # fmt: skip # noqa: E702
    text = raised(y)
    assert lines_of(text) == [saved, written]


def test_numpy_aliases():
    w, x = parts()
    array = x.numpy()
    y = w * x; saved = line()  # fmt: skip # noqa: E702
    array[0, 0] = 7.0
    text = raised(y)
    assert lines_of(text) == [saved] and "memory that a NumPy array shares" in text and "mul saved it" in text


def test_numpy_arrays_that_a_tensor_was_made_of():
    w, _ = parts()
    array = np.ones((2, 3), np.float32)
    y = w * nt.from_numpy(array); saved = line()  # fmt: skip # noqa: E702
    np.add(array, 1.0, out=array)
    assert lines_of(raised(y)) == [saved]


def test_an_accumulated_gradient():
    x = nt.ones(3, requires_grad=True)
    x.sum().backward()
    w = nt.ones(3, requires_grad=True)
    y = w * x.grad; saved = line()  # fmt: skip # noqa: E702
    x.sum().backward(); written = line()  # fmt: skip # noqa: E702
    assert lines_of(raised(y)) == [saved, written]


def test_lines_in_functions_that_are_gone():
    w, x = parts()
    scope = {"w": w, "x": x}
    exec(compile("\n\ndef f(): return w * x\ny = f()\nx.add_(1.0)", "<gone>", "exec"), scope)
    del scope["f"]
    text = raised(scope["y"])
    assert "at <gone>:3" in text and "`add_` at <gone>:5" in text


def test_source_lines_can_be_turned_off():
    assert nt.autograd.set_source_lines(False) is True
    try:
        w, x = parts()
        y = w * x
        x.add_(1.0)
        text = raised(y)
    finally:
        assert nt.autograd.set_source_lines(True) is False
    assert not lines_of(text) and text.count("a line that was not noted") == 2
