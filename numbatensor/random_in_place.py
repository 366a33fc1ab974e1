"""Tensors overwritten with random numbers: `uniform_` and its like, and what their parameters must be."""

import functools
import operator
import warnings

import numpy as np

from numbatensor import dtypes
from numbatensor.core import entries
from numbatensor.core.random import any_improper, write_random
from numbatensor.generator import address_of
from numbatensor.hollow import Hollow, anywhere, running
from numbatensor.messages import long_name
from numbatensor.ops import random as ops
from numbatensor.tensor import Tensor

C_NAMES = {
    "bool": "bool",
    "uint8": "unsigned char",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "float16": "at::Half",
    "bfloat16": "at::BFloat16",
}


def overwrite(op, x, generator, a, b, p=None):
    """Fill x, any strides, from a generator: counted as one write, recorded as one that lets no gradient through."""
    if anywhere and running.levels:
        again = functools.partial(overwrite, op, generator=generator, a=a, b=b)
        return running.levels[-1].overwrite(again, x, p=p)
    return write_random(op.address, x, address_of(generator), a, b, None if p is None else packed(p, x), p)


def computed(p):
    """A tensor in the dtype in which it is computed with."""
    return p.float() if p.itemsize == 2 else p


def packed(p, x):
    """Probabilities as the kernel of x reads them: of its shape, contiguous, and not its own memory."""
    p = (
        p.detach()
        .to(x.device)
        .expand(x.shape)
        .to(dtypes.float32 if x.dtype.itemsize <= 4 and x.dtype.is_floating_point else dtypes.float64)
    )
    apart = entries.get(p, entries.STORAGE) != entries.get(x, entries.STORAGE)
    return p if p.is_contiguous() and apart else p.clone()


def floating(name, dtype):
    """Refuse a dtype that is not floating-point."""
    if not dtype.is_floating_point:
        raise NotImplementedError(f"\"{name}\" not implemented for '{long_name(dtype.code)}'")


def limits(dtype):
    """Smallest and largest integer of a dtype; of a float, up to where it has all of them."""
    if dtype.is_floating_point:
        most = 1 << dtypes.finfo(dtype).digits
        return -most, most
    if dtype is dtypes.bool:
        return 0, 1
    return int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)


def integer(value, name, function):
    """An int of 64 bits."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{function}(): argument '{name}' must be int, not {type(value).__name__}") from None
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("Overflow when unpacking long long")
    return value


def integer_range(dtype, low, high):
    """Check that `low` up to, without, `high` are numbers of a dtype; their start and count as words."""
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    least, most = limits(dtype)
    for name, value in (("from", low), ("to - 1", high - 1)):
        if not least <= value <= most:
            if dtype.is_floating_point:
                digits = dtypes.finfo(dtype).digits
                warnings.warn(
                    f"{name} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision limitations {C_NAMES[dtype.name]} can "
                    "support discrete uniform distribution only within this range.",
                    stacklevel=4,
                )
            else:
                raise RuntimeError(f"{name} is out of bounds for {C_NAMES[dtype.name]}")
    return low, signed(high - low)


def signed(count):
    """A count of up to 2**64 numbers as a word; 2**64 is 0."""
    return (count + (1 << 63)) % (1 << 64) - (1 << 63)


def random_(self, *bounds, generator=None, to=None, **named):
    """Overwrite with integers, each as likely: `random_(to)` from 0, `random_(from, to)`, without `to`; `random_()` with all from 0 on.

    Floats get integers up to 2**24 (2**53 in float64). `to=None` after a `from`: up to the largest.
    """
    bounds = [*bounds]
    if "from" in named:
        bounds.insert(0, named.pop("from"))
        bounds += [to] if len(bounds) < 2 else []
    elif to is not None:
        bounds.append(to)
    if named or len(bounds) > 2:
        raise TypeError(f"random_() takes from and to; got {[*bounds, *named]}")
    most = limits(self.dtype)[1]
    if not bounds:
        low, count = 0, signed(most + 1)
    elif len(bounds) == 2 and bounds[1] is None:
        low = integer(bounds[0], "from", "random_")
        low, count = integer_range(self.dtype, low, most + 1)
    else:
        low, high = [0, *bounds][-2:]
        low, count = integer_range(self.dtype, integer(low, "from", "random_"), integer(high, "to", "random_"))
    return overwrite(ops.random, self, generator, low, count)


def uniform_(self, start=0.0, to=1.0, *, generator=None, **named):
    """Overwrite with numbers from `start` (PyTorch's `from`) up to, without, `to`, each as likely."""
    start = named.pop("from", start)
    if named:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{[*named][0]}'")
    floating("uniform_", self.dtype)
    most, low, high = dtypes.finfo(self.dtype).max, float(start), float(to)
    for name, value in (("from", low), ("to", high)):
        if not -most <= value <= most:
            raise RuntimeError(f"{name} is out of bounds for {C_NAMES[self.dtype.name]}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > most:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{long_name(self.dtype.code)}>::max(), but found to={high:g} and "
            f"from={low:g} which result in to-from to exceed the limit"
        )
    return overwrite(ops.uniform, self, generator, low, high)


def spread(std):
    """A standard deviation, checked."""
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    return float(std)


def normal_(self, mean=0.0, std=1.0, *, generator=None):
    """Overwrite with numbers of the normal distribution."""
    floating("normal_", self.dtype)
    return overwrite(ops.normal, self, generator, float(mean), spread(std))


def exponential_(self, lambd=1.0, *, generator=None):
    """Overwrite with numbers of the exponential distribution of rate `lambd`."""
    if not self.dtype.is_floating_point:
        raise RuntimeError(
            "Exponential distribution is a continuous probability distribution. dtype must be a floating point but you specified "
            f"{long_name(self.dtype.code)}"
        )
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    return overwrite(ops.exponential, self, generator, float(lambd), 0.0)


def probability(p):
    """A probability, checked."""
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    return float(p)


def probabilities(p):
    """A tensor of probabilities, checked."""
    floating("bernoulli", p.dtype)
    if not isinstance(p, Hollow) and any_improper(ops.bernoulli.address, computed(p.detach().cpu()).contiguous()):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
    return p


def bernoulli_(self, p=0.5, *, generator=None):
    """Overwrite with 1 with probability p, a number or a tensor that broadcasts, else 0."""
    if isinstance(p, Tensor):
        return overwrite(ops.bernoulli, self, generator, 0.0, 1.0, probabilities(p))
    return overwrite(ops.bernoulli, self, generator, threshold(probability(p)), 1.0)


def threshold(p):
    """A probability in units of 2**-32, as the kernel wants it."""
    return float(round(p * 2**32))


for method in (random_, uniform_, normal_, exponential_, bernoulli_):
    setattr(Tensor, method.__name__, method)
