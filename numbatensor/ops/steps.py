"""The steps of optimisers: each one fused pass over a parameter."""

from kernels_cpu import optimizers as kernels
from numbatensor.core.compiler import kernel
from numbatensor.core.optimizers import adam_step, drop_gradients, sgd_step  # noqa: F401
from numbatensor.op import DTYPES, EXACT, NUMBA, Op, is_ours


class Step(Op):
    """An optimiser's step as a writer of parameters: a row of the dispatch table with its kernels.

    It runs over parameter groups and is not recorded; the row holds the kernels, and gives errors a name for who wrote.
    """

    def __init__(self, name, *factories, there):
        def function(params):
            """A step over parameter groups."""
            raise NotImplementedError(f"{name} runs over parameter groups")

        super().__init__(function, [], name, samples="runs over parameter groups: see tests/test_optim.py")
        self.factories, self.there_kernels = factories, there

    def compile(self, what, dtype):
        """The address of kernel `what` for a dtype."""
        factory, kind = self.factories[what], NUMBA[dtype]
        name = f"{self.name}.{factory.__name__}.{DTYPES[dtype].__name__}"
        return self.put_kernel(what, dtype, kernel(lambda: factory(kind), name, 2, EXACT, is_ours(self.function)))


SGD = Step("sgd_step", kernels.sgd, kernels.momentum, there={0: "optimizers:sgd", 1: "optimizers:momentum"})
ADAM = Step(
    "adam_step",
    kernels.adam,
    kernels.amsgrad,
    there={
        0: "optimizers:adam",
        1: "optimizers:amsgrad",
        2: "optimizers:adam_counted",
        3: "optimizers:amsgrad_counted",
        4: "optimizers:count",
    },
)


def sgd(group, state):
    """Stochastic gradient descent of all parameters of a group."""
    sgd_step(SGD.address, group, state)


def adam(group, state):
    """Adam of all parameters of a group; those of devices count their steps there, where the group is `capturable`."""
    adam_step(ADAM.address, group, state)
