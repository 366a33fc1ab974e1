"""Random tensors. Equal seeds and calls give equal numbers, on any number of threads."""

import functools

from numbatensor import dtypes
from numbatensor.core.modes import get_grad
from numbatensor.core.random import new_dropout_mask, new_random, new_trials, write_random
from numbatensor.core.sampling import (
    ENDLESS,
    INVALID,
    NOTHING,
    TOO_FEW,
    find_fault,
    write_multinomial,
    write_permutation,
)
from numbatensor.devices import number_of
from numbatensor.generator import (  # noqa: F401
    Generator,
    address_of,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from numbatensor.hollow import Hollow, anywhere, running
from numbatensor.making import as_sizes, new, placed
from numbatensor.messages import long_name
from numbatensor.ops import random as ops
from numbatensor.ops.rows import topk_indices
from numbatensor.random_in_place import (
    computed,
    floating,
    integer,
    integer_range,
    limits,
    overwrite,
    probabilities,
    spread,
)
from numbatensor.tensor import Tensor

MOST_THERE = 1 << 31  # numbers of a permutation on a device
ROOMS = 64  # most pieces of a multinomial; each has scratch of its own


def checked_out(out, shape, dtype, name):
    """`out`, if it can take a result."""
    if dtype is not None and dtypes.as_dtype(dtype) is not out.dtype:
        raise RuntimeError(
            f"dtype {long_name(dtypes.as_dtype(dtype).code)} does not match dtype of out parameter ({long_name(out.dtype.code)})"
        )
    if out.requires_grad and get_grad():
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the arguments "
            "requires grad."
        )
    if out.shape != tuple(shape):
        raise RuntimeError(f"{name}(): out has shape {list(out.shape)}, but the result's is {list(shape)}")
    return out


def drawn(op, shape, dtype, a, b, generator, requires_grad=False, out=None, device=None):
    """A tensor filled by a distribution: a new one, or `out`."""
    if out is not None:
        return overwrite(op, checked_out(out, as_sizes(shape), dtype, op.name), generator, a, b)
    if requires_grad and not dtype.is_floating_point:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    if anywhere and running.levels:
        again = functools.partial(drawn, op, dtype=dtype, a=a, b=b, generator=generator, requires_grad=requires_grad)
        return running.levels[-1].draw(again, as_sizes(shape))
    address = address_of(generator)
    if number_of(device):
        made = write_random(op.address, new(shape, dtype, device=device), address, a, b, None, None)
        return made.requires_grad_() if requires_grad else made
    made = new_random(op.address, shape, dtype.code, address, a, b)
    if made is None:
        shape = as_sizes(shape)
        if min(shape) < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
        made = new_random(op.address, shape, dtype.code, address, a, b)
    return made.requires_grad_() if requires_grad else made


def chosen(dtype, out, default):
    """The dtype that a call asks for."""
    return dtypes.as_dtype(dtype) if dtype else default if out is None else out.dtype


def real(op, sizes, size, generator, out, dtype, requires_grad, a=0.0, b=1.0, device=None):
    """Floating-point numbers of a distribution, of sizes given one by one, as one sequence, or by name."""
    if size is not None:
        sizes = (size,)
    elif not sizes:
        raise TypeError(f"{op.name}: the size is missing")
    d = chosen(dtype, out, dtypes.get_default_dtype())
    floating(op.name, d)
    shape = sizes[0] if isinstance(sizes[0], (tuple, list)) else sizes
    return drawn(op, tuple(shape), d, a, b, generator, requires_grad, out, device)


def rand(*sizes, size=None, generator=None, out=None, dtype=None, requires_grad=False, device=None):
    """Numbers from 0 up to, without, 1, each as likely."""
    return placed(real(ops.uniform, sizes, size, generator, out, dtype, requires_grad, device=device), device)


def randn(*sizes, size=None, generator=None, out=None, dtype=None, requires_grad=False, device=None):
    """Numbers of the normal distribution of mean 0 and variance 1."""
    return placed(real(ops.normal, sizes, size, generator, out, dtype, requires_grad, device=device), device)


def randint(
    *args, low=None, high=None, size=None, generator=None, out=None, dtype=None, requires_grad=False, device=None
):
    """Integers, each as likely: `randint(high, size)` from 0, or `randint(low, high, size)`, without `high`."""
    if size is None and args:
        *args, size = args
    if len(args) == 2 and low is None and high is None:
        low, high = args
    elif len(args) == 1 and high is None:
        (high,) = args
    elif len(args) == 1 and low is None:
        (low,) = args
    elif args:
        raise TypeError(
            f"randint() takes low, high and size; got {len(args) + 1} arguments by position, and others by name"
        )
    if high is None:
        raise TypeError("randint() missing 1 required argument: 'high'")
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"randint(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    d = chosen(dtype, out, dtypes.int64)
    low = 0 if low is None else integer(low, "low", "randint")
    low, count = integer_range(d, low, integer(high, "high", "randint"))
    return placed(drawn(ops.random, tuple(size), d, low, count, generator, requires_grad, out, device), device)


def randperm(n, *, generator=None, out=None, dtype=None, requires_grad=False, device=None):
    """The integers below n in random order, all orders as likely.

    They are dealt out to random buckets, which are shuffled (Rao, 1961; Sandelius, 1962; Fisher and Yates).
    """
    n = integer(n, "n", "randperm")
    d = chosen(dtype, out, dtypes.int64)
    if n - 1 > limits(d)[1]:
        raise RuntimeError(f"value cannot be converted to type {d.name} without overflow: randperm({n})")
    if anywhere and running.levels and out is None:
        return running.levels[-1].repeat(functools.partial(randperm, n, generator=generator, dtype=d))
    address = address_of(generator)
    if out is None:
        if n >= MOST_THERE and number_of(device):
            raise RuntimeError(f"randperm of {n} numbers: on a device there are at most {MOST_THERE - 1}")
        made = new((n,), dtypes.int64, device=device)
        write_permutation(ops.randperm.address, made, address)
        made = made.to(d)
        return placed(made.requires_grad_() if requires_grad else made, device)
    checked_out(out, (n,), dtype, "randperm")
    return out.copy_(randperm(n, generator=generator, dtype=d, device=out.device))


def normal(mean=0.0, std=1.0, size=None, *, generator=None, out=None, dtype=None, requires_grad=False, device=None):
    """Numbers of normal distributions: of one mean and standard deviation and a size, or of tensors of them, broadcast."""
    tensors = [t for t in (mean, std) if isinstance(t, Tensor)]
    if not tensors:
        if size is None:
            raise TypeError("normal() of two numbers needs a size")
        return real(ops.normal, (), size, generator, out, dtype, requires_grad, float(mean), spread(std))
    d = tensors[0].dtype
    floating("normal", d)
    if not isinstance(std, Tensor):
        spread(std)
    elif std.numel() and not isinstance(std, Hollow) and not (std >= 0).all():
        raise RuntimeError("normal expects all elements of std >= 0.0")
    centre, scale = (t.detach() if isinstance(t, Tensor) else t for t in (mean, std))
    shape = (centre + scale).shape if len(tensors) == 2 else tensors[0].shape
    if out is not None:
        checked_out(out, shape, None, "normal")
    made = (randn(shape, generator=generator, dtype=d) * scale + centre).to(d)
    if out is not None:
        return out.copy_(made)
    return ops.normal.record(made, {"mean": mean, "std": std}, {})


def bernoulli(input, p=None, *, generator=None, out=None):
    """1 with the probability that each element is, or with probability p for all, else 0. No gradient flows through it."""
    if anywhere and running.levels and out is None:
        again = lambda x: bernoulli(x, p, generator=generator)
        return running.levels[-1].redraw(again, input)
    if out is None and p is not None:
        return new(input.shape, input.dtype, device=input.device).bernoulli_(p, generator=generator)
    p = input if p is None else p
    if out is not None:
        return checked_out(out, input.shape, None, "bernoulli").bernoulli_(p, generator=generator)
    probabilities(p)
    made = new_trials(ops.bernoulli.address, computed(p.detach()).contiguous(), address_of(generator)).to(p.dtype)
    return ops.bernoulli.record(made, {"p": p}, {})


WRONG = "probability tensor contains either `inf`, `nan` or element < 0"
FAULTS = {
    INVALID: "encountering probability entry < 0",
    ENDLESS: "encountering probability entry = infinity or NaN",
    NOTHING: "sum of probabilities <= 0",
    TOO_FEW: "with replacement=False, not enough non-negative category to sample",
}


def multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Indices drawn with the weights in a vector, or in each row of a matrix, that need not sum to 1.

    With replacement, a random integer is looked up among the running sums of the weights, which are integers too: each is right to
    ``2**-62`` times the number of weights, of the largest. Without, each category has an exponential clock whose rate is its weight, and
    the first to ring are drawn (Efraimidis and Spirakis, 2006). Weights on a device are looked at before, for which the host waits.

    Raises
    ------
    RuntimeError
        If weights are negative, infinite or not numbers, or too few are above 0.
    """
    if anywhere and running.levels and out is None:
        return running.levels[-1].redraw(
            lambda x: multinomial(x, num_samples, replacement, generator=generator), input, each=True
        )
    n = integer(num_samples, "num_samples", "multinomial")
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not input.dtype.is_floating_point:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {long_name(input.dtype.code)}"
        )
    if n <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and n > input.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if out is not None and out.dtype is not dtypes.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {long_name(out.dtype.code)}")
    weights = computed(input.detach()).contiguous()
    shape = (*input.shape[:-1], n)
    if out is not None:
        checked_out(out, shape, None, "multinomial")
    address, row = address_of(generator), ops.multinomial.address
    rows = input.shape[0] if input.ndim == 2 else 1
    fault = NOTHING if input.shape[-1] == 0 else find_fault(row, weights, 1 if replacement else n)
    if fault:
        raise RuntimeError(
            f"invalid multinomial distribution ({FAULTS[fault]})" if fault > ENDLESS or replacement else WRONG
        )
    place = input.device
    if not rows:
        made = new(shape, dtypes.int64, device=place)
    elif replacement:
        made = new(shape, dtypes.int64, device=place)
        rooms = new((rows if number_of(place) else min(rows, ROOMS), input.shape[-1]), dtypes.int64, device=place)
        write_multinomial(row, made, weights, rooms, address)
    else:
        times = new(input.shape, dtypes.int64, device=place)
        write_multinomial(row, times, weights, None, address)
        made = topk_indices(times, n, -1, False, True)
    return made if out is None else out.copy_(made)


def like(maker):
    """The form of a maker that takes its shape and dtype from a tensor."""

    def made_like(input, *args, dtype=None, requires_grad=False, device=None, generator=None, **named):
        shape, dtype = tuple(input.shape), dtype or input.dtype
        device = input.device if device is None else device
        return maker(
            *args, size=shape, dtype=dtype, requires_grad=requires_grad, generator=generator, device=device, **named
        )

    made_like.__name__ = made_like.__qualname__ = maker.__name__ + "_like"
    made_like.__doc__ = maker.__doc__
    return made_like


rand_like, randn_like, randint_like = map(like, (rand, randn, randint))


def dropout_mask(input, p, generator=None):
    """``1 / (1 - p)`` where an element stays, 0 where it is dropped, in the shape and dtype of a tensor."""
    if anywhere and running.levels:
        again = functools.partial(dropout_mask, p=p, generator=generator)
        return running.levels[-1].redraw(again, input, values=False)
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return new_dropout_mask(ops.bernoulli.address, input, address_of(generator), 1.0 - p, scale)


Tensor.bernoulli, Tensor.multinomial = bernoulli, multinomial
