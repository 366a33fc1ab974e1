"""The distributions that fill a tensor: their kernels, and that no gradient flows through what they overwrite."""

import inspect

from numba import float32, float64

from kernels_cpu import random as kernels
from kernels_cpu import sampling
from numbatensor.core import entries
from numbatensor.core.compiler import kernel
from numbatensor.core.promotion import INT64
from numbatensor.op import ALL, EXACT, FLOATING, NUMBA, Recorded, is_ours, name_of


class Distribution(Recorded):
    """An op whose kernels turn Philox words into elements. `kernels`: makers by numba type; the first one fills."""

    def __init__(self, function, kernels, dtypes, cost, there):
        super().__init__(
            function.__name__,
            function.__doc__,
            inspect.signature(function).parameters,
            samples="random: tests/test_random.py holds its moments and distribution",
        )
        self.kernels = kernels
        self.there_kernels = there or {0: f"random:{self.name}", 1: "random:trials"}
        self.row["dtypes"], self.row["cost"] = dtypes, cost
        self.backward(**{name: zeros_like for name in self.inputs})

    def compile(self, what, dtype):
        """The address of a kernel for a dtype."""
        name = f"{self.name}.{what}.{name_of(dtype)}"
        made = kernel(lambda: self.kernels[what](NUMBA[dtype]), name, 2, EXACT, is_ours(self.function))
        return self.put_kernel(what, dtype, made)


def zeros_like(grad):
    """The gradient of what decides no output smoothly, or is overwritten."""
    return entries.new_zeros(
        entries.shape_tuple(grad), entries.get(grad, entries.DTYPE), entries.get(grad, entries.DEVICE)
    )


def distribution(*makers, dtypes=ALL, cost=2, there=None):
    return lambda function: Distribution(function, makers, dtypes, cost, there)


def trials(kind):
    return kernels.trials(kind, float32 if kind is float32 else float64)


@distribution(kernels.uniform, dtypes=FLOATING)
def uniform(x, low, high):
    """Numbers from `low` up to, without, `high`, each as likely."""


@distribution(kernels.normal, dtypes=FLOATING, cost=6)
def normal(x, mean, std):
    """Numbers of the normal distribution."""


@distribution(kernels.exponential, dtypes=FLOATING, cost=6)
def exponential(x, rate):
    """Numbers of the exponential distribution; never 0."""


@distribution(kernels.integers)
def random(x, low, count):
    """`count` successive integers from `low` on, each as likely."""


@distribution(kernels.bernoulli, trials, kernels.improper)
def bernoulli(x, p):
    """1 with probability p, else 0."""


@distribution(
    sampling.permutation,
    sampling.permutation_digits,
    sampling.permutation_buckets,
    dtypes=1 << INT64,
    there={0: "sampling:permutation", 1: "sampling:permutation_digits"},
)
def randperm(x):
    """The integers below a length, in random order."""


@distribution(
    None,
    sampling.positives,
    sampling.choices,
    sampling.race,
    dtypes=FLOATING,
    there=dict(enumerate(("sampling:positives", "sampling:choices", "sampling:race", "sampling:lookup"), 1)),
)
def multinomial(x):
    """Categories, drawn with given weights."""
