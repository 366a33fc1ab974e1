"""Samples of an op's arguments, as declarations give them: descriptions, which become arrays when a test draws them.

A sample is a tuple of arguments. Among them stand for tensors: `reals`, `floats`, `whole` and `truths`, whose elements are drawn at
random, and lists, which are meant as they are; a tuple of these is a sequence of tensors. All else is an attribute.
"""

import numpy as np


class Elements:
    """A tensor of random elements. `draw`: from a generator and a shape to an array."""

    def __init__(self, draw, shape):
        self.draw, self.shape = draw, shape


def reals(low=-2.0, high=2.0, shape=(2, 3)):
    """Floats between two bounds: the domain in which a formula is real and smooth."""
    return Elements(lambda rng: rng.uniform(low, high, shape), shape)


def floats(*shape):
    """Floats of a shape."""
    return reals(shape=shape)


def whole(low, high, shape=(2, 3)):
    """Integers from a bound up to, without, another."""
    return Elements(lambda rng: rng.integers(low, high, shape), shape)


def truths(*shape):
    """Truth values, of both kinds where there is room."""
    return Elements(lambda rng: rng.permutation(np.arange(np.prod(shape, dtype=int)) % 2 == 0).reshape(shape), shape)


POSITIVE, WITHIN_ONE = reals(0.2, 3.0), reals(-0.9, 0.9)
QUOTIENTS = (reals(), reals(0.5, 2.0))
REDUCED = [
    (floats(2, 3, 2),),
    (floats(2, 3, 2), 1),
    (floats(2, 3, 2), (0, -1)),
    (floats(2, 3), -1, True),
    (floats(0, 3), 1),
]


def drawn(value, rng):
    """What a sample's argument stands for."""
    if isinstance(value, Elements):
        return value.draw(rng)
    if isinstance(value, list):
        return np.array(value) if value else np.zeros(0, np.int64)
    return tuple(drawn(v, rng) for v in value) if isinstance(value, tuple) else value


def draw(samples, seed=0):
    """The arguments of each sample, with arrays for tensors."""
    rng = np.random.default_rng(seed)
    return [tuple(drawn(value, rng) for value in sample) for sample in samples]
