"""gradcheck and gradgradcheck: what they find, and what they say."""

import sys
import warnings

import numpy as np
import pytest

import numbatensor as nt

gradcheck, gradgradcheck = nt.autograd.gradcheck, nt.autograd.gradgradcheck
GradcheckError = nt.autograd.GradcheckError


def reals(*shape, library=nt, dtype=np.float64):
    """Numbers that need gradients, the same in every library."""
    return library.tensor(np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape).astype(dtype)).requires_grad_()


def half_told(x):
    """A square, half of whose gradient is lost."""
    return x * x.detach()


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_right_gradients(check, fast_mode):
    assert check(nt.sin, reals(2, 3), fast_mode=fast_mode)
    assert check(lambda x, y: (x @ y, x.exp()), [reals(2, 3), reals(3, 2)], fast_mode=fast_mode)
    assert check(lambda x: x.t()[1:].mul(2.0).sum(), (reals(2, 3),), fast_mode=fast_mode)


@pytest.mark.parametrize("fast_mode", [False, True])
def test_wrong_gradients(fast_mode):
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(half_told, reals(2), fast_mode=fast_mode)
    assert gradcheck(half_told, reals(2), raise_exception=False, fast_mode=fast_mode) is False
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 1 with respect to input 1"):
        gradcheck(lambda x, y: (x * y, x * half_told(y)), (reals(2), reals(2)), fast_mode=fast_mode)


def test_wrong_gradients_of_gradients():
    """The first derivative of the cube of x is right, what it is made of does not depend on x."""

    def cube(x):
        return x * (3.0 * x * x).detach() - (2.0 * x * x * x).detach()

    assert gradcheck(cube, reals(2))
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradgradcheck(cube, reals(2))


def test_a_function_without_slope():
    assert gradcheck(lambda x: x.detach().floor(), reals(3) + 0.25)
    with pytest.raises(GradcheckError, match="Numerical gradient for function expected to be zero"):
        gradcheck(lambda x: x.detach(), reals(2))


def test_what_is_no_tensor_passes():
    assert gradcheck(lambda x, n, y: (x * n + y, 5, x > 1.0, None), (reals(2), 3, reals(2).detach()))
    assert gradgradcheck(lambda x, n: (x * x * n, 5, x > 1.0), (reals(2), 3))


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(nt.sin, reals(2).detach(), raise_exception=False)
    with pytest.raises(RuntimeError, match="The 1th input has a dimension with stride 0"):
        gradcheck(nt.add, (reals(3), nt.ones(1, dtype=nt.float64).expand(3).requires_grad_()))
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double precision"):
        assert gradcheck(nt.sin, reals(2, dtype=np.float32), eps=1e-2, atol=1e-2, rtol=1e-2)


def test_inputs_stay_as_they_were():
    x = reals(2, 3)
    before, version = x.detach().clone(), x._version
    y = x * x
    assert gradcheck(lambda *_: x.exp(), x) and gradgradcheck(
        lambda t: t.t().exp(), x
    )  # the function may know x itself
    assert nt.equal(x, before) and x._version == version and x.grad is None
    y.sum().backward()
    with pytest.raises(ZeroDivisionError):
        gradcheck(lambda t: 1 / 0, x)
    assert nt.equal(x, before)


def test_the_default_generator_is_left_alone():
    state = nt.get_rng_state()
    gradcheck(nt.sin, reals(2), fast_mode=True)
    gradgradcheck(nt.sin, reals(2), gen_non_contig_grad_outputs=True)
    assert nt.equal(nt.get_rng_state(), state)


def test_given_gradients_of_outputs():
    assert gradgradcheck(lambda x: (x.exp(), x.sum()), reals(2), (reals(2), reals()))
    assert gradgradcheck(nt.exp, reals(2), reals(2))


def test_no_elements():
    assert gradcheck(nt.sin, reals(0)) and gradgradcheck(lambda x: x.sum(0), reals(0, 3))


@pytest.fixture
def passes(monkeypatch):
    """Lets a test change what backward passes give to gradcheck."""

    def change(made_of):
        module = sys.modules["numbatensor.autograd.gradcheck"]
        true = module.grad
        monkeypatch.setattr(module, "grad", lambda *args, **given: made_of(args, true(*args, **given)))

    return change


def test_backward_passes_that_differ(passes):
    noise = iter(range(1000))
    passes(lambda args, found: tuple(g * (1.0 + next(noise) * 1e-12) for g in found))
    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(nt.sin, reals(2))
    assert gradcheck(nt.sin, reals(2), nondet_tol=1e-6)


def test_gradients_of_another_shape_or_dtype(passes):
    passes(lambda args, found: tuple(g.to(nt.float32) for g in found))
    assert gradcheck(nt.exp, reals(2))
    with pytest.raises(GradcheckError, match="Gradient has dtype mismatch"):
        gradcheck(nt.exp, reals(2), check_grad_dtypes=True)
    passes(lambda args, found: tuple(g.reshape(2, 1) for g in found))
    with pytest.raises(GradcheckError, match="incorrect size"):
        gradcheck(nt.exp, reals(2))


def test_outputs_without_a_gradient(passes):
    passes(lambda args, found: tuple(g + 1.0 for g in found) if len(args[0]) == 1 and not args[2][0].any() else found)
    pair = lambda x: (x.exp(), x.sin())
    with pytest.raises(GradcheckError, match="Expected all input grads to be undefined or zero"):
        gradcheck(pair, reals(2))
    assert gradcheck(pair, reals(2), check_undefined_grad=False)
    with pytest.raises(GradcheckError, match="backward not multiplied by grad_output"):
        gradcheck(nt.exp, reals(2))


@pytest.mark.peer
@pytest.mark.parametrize("given", [{}, {"raise_exception": False}, {"fast_mode": True}])
def test_texts_as_pytorch(given):
    torch = pytest.importorskip("torch")
    programs = [
        lambda L, check: check(half_told, reals(2, 2, library=L), **given),
        lambda L, check: check(
            lambda x, y: (x.exp(), half_told(y)), (reals(2, library=L), reals(3, library=L)), **given
        ),
        lambda L, check: check(lambda x: x.detach(), reals(2, library=L), **given),
        lambda L, check: check(L.sin, reals(2, library=L).detach(), **given),
        lambda L, check: check(L.sin, L.ones(1).double().expand(3).requires_grad_(), **given),
        lambda L, check: check(lambda x: x * 3.0, reals(2, library=L, dtype=np.float32), **given),
    ]
    for program in programs:
        ours, theirs = (said(L, program, L.autograd.gradcheck) for L in (nt, torch))
        assert ours == theirs


def said(L, program, check):
    """What a check gives, raises and warns, without what fast mode draws at random."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made = program(L, check)
        except Exception as error:
            text = str(error).replace("torch.", "numbatensor.")
            made = (
                type(error).__name__,
                text.split("numerical:")[0] if "computed" in text or "fast mode" in text else text,
            )
    return made, [str(w.message) for w in caught]
