"""Gradients held against central differences: the one side runs rules backward, the other only runs the function forward."""

import warnings

import numpy as np

from numbatensor import dtypes
from numbatensor.autograd import as_tuple, enable_grad, grad
from numbatensor.op import from_array
from numbatensor.tensor import Tensor

SEED = 0x9E3779B9  # of the random directions, which leave the default generator alone
FAST = """
The numbers above are products of the Jacobians with random directions (fast mode). The whole Jacobians are:

Numerical:
{}
Analytical:
{}

The max per-element difference (slow mode) is: {}.
"""


class GradcheckError(RuntimeError):
    """A gradient that does not agree with central differences, or a backward pass that breaks its contract."""


def gradcheck(
    func,
    inputs,
    *,
    eps=1e-6,
    atol=1e-5,
    rtol=1e-3,
    raise_exception=True,
    nondet_tol=0.0,
    check_undefined_grad=True,
    check_grad_dtypes=False,
    fast_mode=False,
):
    """Whether the gradients of a function agree with central differences.

    Parameters
    ----------
    func : callable
        Takes the inputs, gives a Tensor or a sequence of outputs; those that are no Tensors or need no gradient are let be.
    inputs : Tensor or sequence
        Checked are the Tensors that require gradients, which should be float64. Their elements are moved in place, and put back.
    eps : float
        How far an element is moved to either side.
    atol, rtol : float
        The gradients agree where ``|analytical - numerical| <= atol + rtol * |numerical|``.
    raise_exception : bool
        Raise `GradcheckError` where they do not; else the result is False.
    nondet_tol : float
        How much two backward passes from the same gradient may differ.
    check_undefined_grad : bool
        Check that outputs that get no gradient are treated as if it were zero.
    check_grad_dtypes : bool
        Check that gradients have their inputs' dtypes.
    fast_mode : bool
        Compare products of the Jacobians with random directions: two runs of `func` for each input, one backward pass for each
        output. Otherwise all elements: two runs for each element of the inputs, two passes for each element of the outputs.

    Returns
    -------
    bool
        True; False only without `raise_exception`.

    Raises
    ------
    ValueError
        No input requires a gradient.
    """
    inputs = as_tuple(inputs)
    refuse_unfit(inputs)
    try:
        compare(func, inputs, eps, atol, rtol, nondet_tol, check_grad_dtypes, fast_mode)
        check_zero_gradients(func, inputs, check_undefined_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func,
    inputs,
    grad_outputs=None,
    *,
    eps=1e-6,
    atol=1e-5,
    rtol=1e-3,
    gen_non_contig_grad_outputs=False,
    raise_exception=True,
    nondet_tol=0.0,
    check_undefined_grad=True,
    check_grad_dtypes=False,
    fast_mode=False,
):
    """Whether the gradients of a function's gradients agree with central differences.

    Parameters
    ----------
    func, inputs
        As those of `gradcheck`.
    grad_outputs : Tensor or sequence of Tensors, optional
        The gradients of the outputs; random ones by default.
    gen_non_contig_grad_outputs : bool
        Make the random ones not contiguous.
    eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, check_grad_dtypes, fast_mode
        As those of `gradcheck`, which is run on the gradients as a function of `inputs` and `grad_outputs`.

    Returns
    -------
    bool
        True; False only without `raise_exception`.
    """
    inputs = as_tuple(inputs)
    if grad_outputs is None:
        rng = np.random.default_rng(SEED)
        outputs = differentiable(func(*inputs))
        seeds = tuple(random_like(y, rng, gen_non_contig_grad_outputs) for y in outputs)
    else:
        seeds = as_tuple(grad_outputs)
    count = len(inputs)

    def gradients(*args):
        with enable_grad():
            outputs = differentiable(func(*args[:count]))
            wanted = [x for x in args[:count] if isinstance(x, Tensor) and x.requires_grad]
            found = grad(outputs, wanted, args[count:], create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradients,
        inputs + seeds,
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )


def refuse_unfit(inputs):
    """Raise where inputs cannot be checked, warn where the check will hardly succeed."""
    wanted = [(k, x) for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    for k, x in wanted:
        if x.dtype is not dtypes.float64:
            warnings.warn(
                f"Input #{k} requires gradient and is not a double precision floating point or complex. This check will likely "
                "fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=3,
            )
        if x.numel() and any(n > 1 and step == 0 for n, step in zip(x.shape, x.stride(), strict=True)):
            raise RuntimeError(
                f"The {k}th input has a dimension with stride 0. gradcheck only supports inputs that are non-overlapping to be able "
                "to compute the numerical gradients correctly. You should call .contiguous on the input before passing it to "
                "gradcheck."
            )


def differentiable(outputs):
    """The outputs that require gradients."""
    return tuple(y for y in as_tuple(outputs) if isinstance(y, Tensor) and y.requires_grad)


def random_like(y, rng, scattered):
    """A gradient for an output; its elements lie apart in memory where they are to be `scattered`."""
    made = rng.standard_normal(y.shape)
    if scattered and y.numel() > 1:
        made = np.stack([made, made], -1)[..., 0]
    return from_array(made.astype(y.dtype.numpy)).requires_grad_()


def forward(func, inputs):
    """Copies of the elements of the outputs that are floats."""
    return [y.array().copy() for y in as_tuple(func(*inputs)) if isinstance(y, Tensor) and y.is_floating_point()]


def difference(func, inputs, x, step, eps):
    """How each output changes while x moves by `step` to either side, per `eps`."""
    elements = x.array()
    start = elements.copy()
    try:
        elements[...] = start - step
        low = forward(func, inputs)
        elements[...] = start + step
        high = forward(func, inputs)
    finally:
        elements[...] = start
    return [(b - a) / (2 * eps) for a, b in zip(low, high, strict=True)]


def numerical_jacobians(func, inputs, x, eps):
    """For each output its Jacobian: a row for each element of x, a column for each of the output's."""
    rows = []
    for place in np.ndindex(*x.shape):
        step = np.zeros(x.shape, x.dtype.numpy)
        step[place] = eps
        rows.append([change.reshape(-1) for change in difference(func, inputs, x, step, eps)])
    if not rows:
        return [np.zeros((0, y.size)) for y in forward(func, inputs)]
    return [np.stack(columns) for columns in zip(*rows, strict=True)]


def backward_twice(y, wanted, seed, nondet_tol, check_dtypes):
    """The gradients of one output, as arrays; raises where two passes do not agree."""
    passes = []
    for _ in range(2):
        found = grad([y], wanted, [from_array(seed)], retain_graph=True, allow_unused=True)
        for x, g in zip(wanted, found, strict=True):
            if g is not None and g.shape != x.shape:
                raise GradcheckError(f"Analytical gradient has incorrect size: {list(g.shape)}, not {list(x.shape)}")
            if check_dtypes and g is not None and g.dtype is not x.dtype:
                raise GradcheckError(f"Gradient has dtype mismatch: {g.dtype.name}, not {x.dtype.name}")
        passes.append(
            [
                np.zeros(x.shape, x.dtype.numpy) if g is None else g.detach().array().copy()
                for x, g in zip(wanted, found, strict=True)
            ]
        )
    if not all(np.allclose(a, b, 0, nondet_tol, equal_nan=True) for a, b in zip(*passes, strict=True)):
        raise GradcheckError(
            "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives different "
            f"values, although analytical gradient matches numerical gradient. The tolerance for nondeterminism was {nondet_tol}."
        )
    return passes[0]


def analytical_jacobians(y, wanted, nondet_tol, check_dtypes):
    """For each input the Jacobian of an output, a backward pass for each element."""
    columns = [[] for _ in wanted]
    for place in np.ndindex(*y.shape):
        seed = np.zeros(y.shape, y.dtype.numpy)
        seed[place] = 1
        for column, g in zip(columns, backward_twice(y, wanted, seed, nondet_tol, check_dtypes), strict=True):
            column.append(g.reshape(-1))
    return [
        np.stack(column, 1) if column else np.zeros((x.numel(), 0)) for x, column in zip(wanted, columns, strict=True)
    ]


def compare(func, inputs, eps, atol, rtol, nondet_tol, check_dtypes, fast):
    """Raise where a Jacobian, or its product with random directions, differs from the numerical one."""
    wanted = [k for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    made = as_tuple(func(*inputs))
    floats = [y for y in made if isinstance(y, Tensor) and y.is_floating_point()]
    checked = [k for k, y in enumerate(floats) if y.requires_grad]
    if not checked:
        if any(j.any() for k in wanted for j in numerical_jacobians(func, inputs, inputs[k], eps)):
            raise GradcheckError("Numerical gradient for function expected to be zero")
        return
    whole = lambda: (
        [numerical_jacobians(func, inputs, inputs[k], eps) for k in wanted],
        {i: analytical_jacobians(floats[i], [inputs[k] for k in wanted], nondet_tol, check_dtypes) for i in checked},
    )
    if fast:
        compare_directions(func, inputs, wanted, floats, checked, eps, atol, rtol, nondet_tol, check_dtypes, whole)
        return
    numerical, analytical = whole()
    for number, i in enumerate(checked):
        for j, k in enumerate(wanted):
            if not np.allclose(analytical[i][j], numerical[j][i], rtol, atol):
                raise GradcheckError(mismatch(number, k, from_array(numerical[j][i]), from_array(analytical[i][j])))


def mismatch(output, input, numerical, analytical):
    return (
        f"Jacobian mismatch for output {output} with respect to input {input},\n"
        f"numerical:{numerical}\nanalytical:{analytical}\n"
    )


def compare_directions(func, inputs, wanted, floats, checked, eps, atol, rtol, nondet_tol, check_dtypes, whole):
    """Raise where ``v @ J @ u`` differs, u a random direction of an input and v one of an output."""
    rng = np.random.default_rng(SEED)
    u = [unit(rng.standard_normal(inputs[k].shape)) for k in wanted]
    v = [rng.random(y.shape) for y in floats]
    changes = [
        difference(func, inputs, inputs[k], (step * eps).astype(inputs[k].dtype.numpy), eps)
        for k, step in zip(wanted, u, strict=True)
    ]
    for number, i in enumerate(checked):
        seed = v[i].astype(floats[i].dtype.numpy)
        found = backward_twice(floats[i], [inputs[k] for k in wanted], seed, nondet_tol, check_dtypes)
        for j, k in enumerate(wanted):
            numerical, analytical = float((changes[j][i] * v[i]).sum()), float((found[j] * u[j]).sum())
            # each element of the Jacobian may be off by atol
            if not np.allclose(analytical, numerical, rtol, atol * np.abs(u[j]).sum() * v[i].sum()):
                n, a = whole()
                n, a = n[j][i], a[i][j]
                worst = np.abs(a - n).max(initial=0)
                raise GradcheckError(
                    mismatch(number, k, numerical, analytical) + FAST.format(from_array(n), from_array(a), worst)
                )


def unit(direction):
    """A vector of length one."""
    length = np.linalg.norm(direction)
    return direction / length if length else direction


def check_zero_gradients(func, inputs, undefined):
    """Raise where zeros for all outputs, or nothing for one of several, give gradients that are not zero."""
    outputs = differentiable(func(*inputs))
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    without = [outputs[:k] + outputs[k + 1 :] for k in range(len(outputs))] if undefined and len(outputs) > 1 else []
    for given in ([outputs] if outputs else []) + without:
        zeros = [from_array(np.zeros(y.shape, y.dtype.numpy)) for y in given]
        try:
            found = grad(given, wanted, zeros, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if given is outputs:
                raise
            raise GradcheckError(
                "Expected backward function to handle undefined output grads: it gets None for an output that is not used"
            ) from error
        if any(g is not None and g.detach().array().any() for g in found):
            raise GradcheckError(
                "backward not multiplied by grad_output"
                if given is outputs
                else "Expected all input grads to be undefined or zero when all output grads are undefined or zero"
            )
