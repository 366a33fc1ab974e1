"""Sources of random numbers: a seed, and how many counters have been used."""

import os

import numpy as np

from numbatensor import dtypes
from numbatensor.core.compiler import publish
from numbatensor.making import tensor
from numbatensor.tensor import Tensor

DEFAULT_SEED = 67280421310721  # PyTorch's
WORDS = 2**64


class Generator:
    """A source of random numbers (Philox4x32-10, Salmon et al. 2011), which hang on the seed and the order of the draws alone.

    Threads may share one: each draw gets counters that no other draw gets.
    """

    def __init__(self, device="cpu"):
        if str(device) != "cpu":
            raise RuntimeError(f"there are generators of the device cpu, not of {device}")
        self.words = np.zeros(2, np.uint64)  # the seed, and the first counter that is not used: `core.random`
        self.address = self.words.ctypes.data
        self.device = "cpu"
        self.manual_seed(DEFAULT_SEED)

    def manual_seed(self, seed):
        """Start anew from a seed of 64 bits; negative ones count from 2**64 down."""
        if not isinstance(seed, int):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        if not -(WORDS // 2) <= seed < WORDS:
            raise ValueError("Overflow when unpacking long long")
        self.words[:] = seed % WORDS, 0
        return self

    def seed(self):
        """Start anew from a seed that the system chooses, and give it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.initial_seed()

    def initial_seed(self):
        """The seed that the numbers started from."""
        return int(self.words[0])

    def get_state(self):
        """Seed and used counters, as 16 bytes."""
        return tensor(self.words.view(np.uint8))

    def set_state(self, state):
        """Go on as from when `get_state` gave this state."""
        if not isinstance(state, Tensor):
            raise TypeError(f"expected a ByteTensor, but got {type(state).__name__}")
        if state.dtype is not dtypes.uint8:
            raise TypeError("RNG state must be a ByteTensor")
        if state.shape != (16,):
            raise RuntimeError(f"RNG state is wrong size: expected 16 bytes but found {list(state.shape)}")
        self.words.view(np.uint8)[:] = state.array()
        return self

    def __reduce__(self):
        return restored, (self.get_state(),)

    def __repr__(self):
        return f"<numbatensor.Generator of seed {self.initial_seed()}, {int(self.words[1])} counters used>"


def restored(state):
    """A generator from its pickled state."""
    return Generator().set_state(state)


default_generator = Generator()
default_generator.seed()
publish("default_generator", default_generator.address, default_generator)


def manual_seed(seed):
    """Seed the generator that random functions use by default."""
    return default_generator.manual_seed(int(seed))


def seed():
    """Seed the default generator by the system's choice, and give the seed."""
    return default_generator.seed()


def initial_seed():
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state():
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(new_state):
    """Let the default generator go on from a state."""
    default_generator.set_state(new_state)


def address_of(generator):
    """Where a generator's words are; the default one's for None."""
    if generator is None:
        return default_generator.address
    if not isinstance(generator, Generator):
        raise TypeError(f"expected a Generator for 'generator', but got {type(generator).__name__}")
    return generator.address
