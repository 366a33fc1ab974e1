"""New tensors: constants, ranges, random numbers."""

import os

import numpy as np

from numbatensor import dtypes
from numbatensor.op import from_array
from numbatensor.tensor import Tensor, as_sizes, from_numpy, new, tensor


def empty(*size, dtype=None, requires_grad=False, device=None):
    """An uninitialised tensor."""
    return new(as_sizes(size), dtype, requires_grad)


def zeros(*size, dtype=None, requires_grad=False, device=None):
    """A tensor of zeros."""
    return new(as_sizes(size), dtype, requires_grad, zeros=True)


def full(size, fill_value, *, dtype=None, requires_grad=False, device=None):
    """A tensor of one value."""
    made = new(
        as_sizes(size if isinstance(size, (tuple, list)) else (size,)), dtype or dtypes.as_dtype(type(fill_value))
    )
    made.array()[...] = fill_value
    return made.requires_grad_() if requires_grad else made


def ones(*size, dtype=None, requires_grad=False, device=None):
    """A tensor of ones."""
    return full(as_sizes(size), 1, dtype=dtype or dtypes.get_default_dtype(), requires_grad=requires_grad)


def like(maker):
    """The form of a maker that takes its shape and dtype from a tensor."""

    def made_like(input, *args, dtype=None, requires_grad=False, **options):
        return maker(tuple(input.shape), *args, dtype=dtype or input.dtype, requires_grad=requires_grad, **options)

    return made_like


empty_like, zeros_like, ones_like, full_like = map(like, (empty, zeros, ones, full))


def as_tensor(data, dtype=None, device=None):
    """A tensor that shares memory with the data where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and data.flags.writeable:
        made = from_numpy(data)
        return made if dtype is None else made.to(dtype)
    return tensor(data, dtype=dtype)


asarray = as_tensor


def arange(start, end=None, step=1, *, dtype=None, requires_grad=False, device=None):
    """Numbers from `start` up to, without, `end`."""
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    whole = all(isinstance(v, int) for v in (start, end, step))
    d = dtypes.as_dtype(dtype) if dtype else dtypes.int64 if whole else dtypes.get_default_dtype()
    made = from_array(np.arange(start, end, step).astype(d.numpy))
    return made.requires_grad_() if requires_grad else made


def linspace(start, end, steps, *, dtype=None, requires_grad=False, device=None):
    """So many numbers at equal distances, both ends included."""
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    made = from_array(np.linspace(start, end, steps).astype(d.numpy))
    return made.requires_grad_() if requires_grad else made


def eye(n, m=None, *, dtype=None, requires_grad=False, device=None):
    """A matrix with ones on its diagonal."""
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    made = from_array(np.eye(n, m, dtype=d.numpy))
    return made.requires_grad_() if requires_grad else made


class Generator:
    """A source of random numbers, counter-based (Philox 4x64, Salmon et al. 2011), so that they hang on the seed alone."""

    def __init__(self, device="cpu"):
        self.manual_seed(0)

    def manual_seed(self, seed):
        """Start anew from a seed."""
        self.seed = seed
        self.numpy = np.random.Generator(np.random.Philox(seed % 2**64))
        return self

    def initial_seed(self):
        """The seed that the numbers started from."""
        return self.seed

    def get_state(self):
        """What `set_state` takes to go on from here."""
        return self.numpy.bit_generator.state

    def set_state(self, state):
        """Go on from a state."""
        self.numpy.bit_generator.state = state
        return self


default_generator = Generator()
default_generator.manual_seed(int.from_bytes(os.urandom(7), "little"))


def manual_seed(seed):
    """Seed the generator that random functions use by default."""
    return default_generator.manual_seed(seed)


def source(generator):
    return (generator or default_generator).numpy


def finished(array, dtype, requires_grad):
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    made = from_array(np.asarray(array).astype(d.numpy))
    return made.requires_grad_() if requires_grad else made


def rand(*size, generator=None, dtype=None, requires_grad=False, device=None):
    """Uniform numbers from 0 to 1, without 1."""
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    return finished(source(generator).random(as_sizes(size), d.numpy), d, requires_grad)


def randn(*size, generator=None, dtype=None, requires_grad=False, device=None):
    """Normal numbers of mean 0 and variance 1."""
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    return finished(source(generator).standard_normal(as_sizes(size), d.numpy), d, requires_grad)


def randint(low, high=None, size=None, *, generator=None, dtype=None, requires_grad=False, device=None):
    """Integers from `low` up to, without, `high`."""
    if size is None:
        low, high, size = 0, low, high
    return finished(source(generator).integers(low, high, tuple(size)), dtype or dtypes.int64, requires_grad)


def randperm(n, *, generator=None, dtype=None, device=None):
    """The integers below n, in random order."""
    return finished(source(generator).permutation(n), dtype or dtypes.int64, False)


def normal(mean=0.0, std=1.0, size=None, *, generator=None):
    """Normal numbers of given means and standard deviations."""
    if size is not None:
        return randn(size, generator=generator) * std + mean
    shape = np.broadcast_shapes(*[t.shape for t in (mean, std) if isinstance(t, Tensor)])
    return randn(shape, generator=generator) * std + mean


def bernoulli(input, *, generator=None):
    """1 with the probability that each element gives, else 0."""
    return finished(source(generator).random(tuple(input.shape)) < input.array(), input.dtype, False)


def multinomial(input, num_samples, replacement=False, *, generator=None):
    """Indices drawn with the weights in each row."""
    weights = input.array().astype(np.float64)
    rows = np.atleast_2d(weights)
    if (rows < 0).any() or not np.isfinite(rows).all() or (rows.sum(1) <= 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    drawn = np.stack([source(generator).choice(len(w), num_samples, replacement, w / w.sum()) for w in rows])
    return from_array(drawn if weights.ndim > 1 else drawn[0])


rand_like, randn_like = map(like, (rand, randn))


def uniform_(self, a=0.0, b=1.0, *, generator=None):
    """Overwrite the elements with uniform numbers from a to b."""
    return self.copy_(rand(tuple(self.shape), generator=generator, dtype=self.dtype) * (b - a) + a)


def normal_(self, mean=0.0, std=1.0, *, generator=None):
    """Overwrite the elements with normal numbers."""
    return self.copy_(randn(tuple(self.shape), generator=generator, dtype=self.dtype) * std + mean)


def bernoulli_(self, p=0.5, *, generator=None):
    """Overwrite the elements with 1 with probability p, else 0."""
    return self.copy_(finished(source(generator).random(tuple(self.shape)) < p, self.dtype, False))


Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_, Tensor.bernoulli, Tensor.multinomial = (
    uniform_,
    normal_,
    bernoulli_,
    bernoulli,
    multinomial,
)
for name, maker in (("empty", empty), ("zeros", zeros), ("ones", ones)):
    setattr(
        Tensor, "new_" + name, lambda self, *size, dtype=None, f=maker, **o: f(*size, dtype=dtype or self.dtype, **o)
    )
Tensor.new_full = lambda self, size, value, dtype=None, **o: full(size, value, dtype=dtype or self.dtype, **o)
Tensor.new_tensor = lambda self, data, dtype=None, **o: tensor(data, dtype=dtype or self.dtype, **o)
