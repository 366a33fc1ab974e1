"""Gradients held against central differences: the one side runs rules backward, the other only runs the function forward."""

import warnings

import numpy as np

from numbatensor import dtypes
from numbatensor.autograd.backward import as_tuple, grad
from numbatensor.autograd.modes import enable_grad
from numbatensor.exchange import from_array
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
    check = Check(func, inputs, eps, atol, rtol, nondet_tol, check_grad_dtypes)
    try:
        check.jacobians(fast_mode)
        check.zero_gradients(check_undefined_grad)
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
            wanted = [x for _, x in wanted_of(args[:count])]
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
    wanted = wanted_of(inputs)
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    for k, x in wanted:
        if x.dtype in (dtypes.float16, dtypes.bfloat16):
            raise ValueError(
                f"gradcheck: input #{k} is {x.dtype.name}, whose numbers lie too far apart for differences: use float64"
            )
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


def wanted_of(inputs):
    """The inputs, with their numbers, that require gradients."""
    return [(k, x) for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]


def differentiable(outputs):
    """The outputs that require gradients."""
    return tuple(y for y in as_tuple(outputs) if isinstance(y, Tensor) and y.requires_grad)


def random_like(y, rng, scattered):
    """A gradient for an output; its elements lie apart in memory where they are to be `scattered`."""
    made = rng.standard_normal(y.shape)
    if scattered and y.numel() > 1:
        made = np.stack([made, made], -1)[..., 0]
    return from_array(made.astype(y.dtype.numpy)).requires_grad_()


def zeros(t, shape=None):
    """An array of a tensor's dtype, and of its shape."""
    return np.zeros(t.shape if shape is None else shape, t.dtype.numpy)


class Check:
    """A function, its inputs, and what counts as agreement. Jacobians have a row for each element of an input, a column for each of an
    output."""

    def __init__(self, func, inputs, eps, atol, rtol, nondet_tol, check_dtypes):
        self.func, self.inputs, self.wanted = func, inputs, wanted_of(inputs)
        self.eps, self.atol, self.rtol = eps, atol, rtol
        self.nondet_tol, self.check_dtypes = nondet_tol, check_dtypes

    def floats(self):
        """The outputs that are floats."""
        return [y for y in as_tuple(self.func(*self.inputs)) if isinstance(y, Tensor) and y.is_floating_point()]

    def difference(self, x, step):
        """How each output changes while x moves by `step` to either side, per `eps`."""
        elements = x.array()
        start, ends = elements.copy(), []
        try:
            for end in (start - step, start + step):
                elements[...] = end
                ends.append([y.array().copy() for y in self.floats()])
        finally:
            elements[...] = start
        return [(high - low) / (2 * self.eps) for low, high in zip(*ends, strict=True)]

    def numerical(self, x):
        """For each output its Jacobian, by moving each element of x."""
        rows = []
        for place in np.ndindex(*x.shape):
            step = zeros(x)
            step[place] = self.eps
            rows.append([change.reshape(-1) for change in self.difference(x, step)])
        if not rows:
            return [zeros(y, (0, y.numel())) for y in self.floats()]
        return [np.stack(jacobian) for jacobian in zip(*rows, strict=True)]

    def analytical(self, y):
        """For each input the Jacobian of an output, by a backward pass for each element of y."""
        columns = []
        for place in np.ndindex(*y.shape):
            seed = zeros(y)
            seed[place] = 1
            columns.append([g.reshape(-1) for g in self.backward(y, seed)])
        if not columns:
            return [zeros(x, (x.numel(), 0)) for _, x in self.wanted]
        return [np.stack(jacobian, 1) for jacobian in zip(*columns, strict=True)]

    def backward(self, y, seed):
        """The gradients of an output, as arrays; raises where two passes do not agree."""
        once, again = self.one_pass(y, seed), self.one_pass(y, seed)
        if not all(np.allclose(a, b, 0, self.nondet_tol, equal_nan=True) for a, b in zip(once, again, strict=True)):
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives different "
                "values, although analytical gradient matches numerical gradient. The tolerance for nondeterminism was "
                f"{self.nondet_tol}."
            )
        return once

    def one_pass(self, y, seed):
        inputs = [x for _, x in self.wanted]
        found = grad([y], inputs, [from_array(seed)], retain_graph=True, allow_unused=True)
        for x, g in zip(inputs, found, strict=True):
            if g is not None and g.shape != x.shape:
                raise GradcheckError(f"Analytical gradient has incorrect size: {list(g.shape)}, not {list(x.shape)}")
            if self.check_dtypes and g is not None and g.dtype is not x.dtype:
                raise GradcheckError(f"Gradient has dtype mismatch: {g.dtype.name}, not {x.dtype.name}")
        return [zeros(x) if g is None else g.array().copy() for x, g in zip(inputs, found, strict=True)]

    def jacobians(self, fast):
        """Raise where the Jacobians, or in fast mode their products with random directions, do not agree."""
        outputs = self.floats()
        checked = [(i, y) for i, y in enumerate(outputs) if y.requires_grad]
        if not checked:
            if any(jacobian.any() for _, x in self.wanted for jacobian in self.numerical(x)):
                raise GradcheckError("Numerical gradient for function expected to be zero")
        elif fast:
            self.directions(checked)
        else:
            numerical = [self.numerical(x) for _, x in self.wanted]
            for number, (i, y) in enumerate(checked):
                for (k, _), n, a in zip(self.wanted, numerical, self.analytical(y), strict=True):
                    if not np.allclose(a, n[i], self.rtol, self.atol):
                        raise GradcheckError(mismatch(number, k, from_array(n[i]), from_array(a)))

    def directions(self, checked):
        """Raise where ``u @ J @ v`` does not agree, u a random direction of an input and v one of an output."""
        rng = np.random.default_rng(SEED)
        u = [unit(rng.standard_normal(x.shape)) for _, x in self.wanted]
        changes = [
            self.difference(x, (self.eps * along).astype(x.dtype.numpy))
            for (_, x), along in zip(self.wanted, u, strict=True)
        ]
        for number, (i, y) in enumerate(checked):
            v = rng.random(y.shape).astype(y.dtype.numpy)
            for j, (g, along) in enumerate(zip(self.backward(y, v.copy()), u, strict=True)):
                n, a = float((changes[j][i] * v).sum()), float((g * along).sum())
                # each element of the Jacobian may be off by atol
                if not np.allclose(a, n, self.rtol, self.atol * np.abs(along).sum() * v.sum()):
                    k, x = self.wanted[j]
                    numerical, analytical = self.numerical(x)[i], self.analytical(y)[j]
                    worst = np.abs(analytical - numerical).max(initial=0)
                    whole = FAST.format(from_array(numerical), from_array(analytical), worst)
                    raise GradcheckError(mismatch(number, k, n, a) + whole)

    def zero_gradients(self, undefined):
        """Raise where zeros for all outputs, or nothing for one of several, give gradients that are not zero."""
        outputs, inputs = differentiable(self.func(*self.inputs)), [x for _, x in self.wanted]
        if outputs and self.any_gradient(outputs, inputs):
            raise GradcheckError("backward not multiplied by grad_output")
        for k in range(len(outputs) if undefined and len(outputs) > 1 else 0):
            try:
                wrong = self.any_gradient(outputs[:k] + outputs[k + 1 :], inputs)
            except RuntimeError as error:
                raise GradcheckError(
                    "Expected backward function to handle undefined output grads: the gradient of an output that is not used is None"
                ) from error
            if wrong:
                raise GradcheckError(
                    "Expected all input grads to be undefined or zero when all output grads are undefined or zero"
                )

    def any_gradient(self, outputs, inputs):
        """Whether zeros, as the gradients of outputs, give anything else."""
        found = grad(outputs, inputs, [from_array(zeros(y)) for y in outputs], retain_graph=True, allow_unused=True)
        return any(g is not None and g.array().any() for g in found)


def mismatch(output, input, numerical, analytical):
    return (
        f"Jacobian mismatch for output {output} with respect to input {input},\n"
        f"numerical:{numerical}\nanalytical:{analytical}\n"
    )


def unit(direction):
    """A vector of length one."""
    length = np.linalg.norm(direction)
    return direction / length if length else direction
