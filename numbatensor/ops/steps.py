"""The steps of optimisers: each one fused pass over a parameter."""

from kernels_cpu import optimizers as kernels
from numbatensor.core.compiler import compile
from numbatensor.core.optimizers import adam_step, drop_gradients, sgd_step  # noqa: F401
from numbatensor.op import DTYPES, EXACT, NUMBA, Op
from numbatensor.ops import device_steps


class Step(Op):
    """An optimiser's step as a writer of parameters: a row of the dispatch table with its kernels.

    It runs over parameter groups and is not recorded; the row holds the kernels, and gives errors a name for who wrote.
    """

    def __init__(self, name, *factories):
        def function(params):
            """A step over parameter groups."""
            raise NotImplementedError(f"{name} runs over parameter groups")

        super().__init__(function, [], name, samples="runs over parameter groups: see tests/test_optim.py")
        self.factories = factories

    def compile(self, what, dtype):
        """The address of kernel `what` for a dtype."""
        factory, kind = self.factories[what], NUMBA[dtype]
        name = f"{self.name}.{factory.__name__}.{DTYPES[dtype].__name__}"
        return self.put_kernel(what, dtype, compile(factory(kind), name, arguments=2, fastmath=EXACT))


SGD = Step("sgd_step", kernels.sgd, kernels.momentum)
ADAM = Step("adam_step", kernels.adam, kernels.amsgrad)


def step(native, row, there, group, state):
    """A step by the native code, or, of parameters of devices, by ops."""
    if native(row, group, state):
        here = [p for p in group["params"] if not p.is_cuda]
        native(row, {**group, "params": here}, state)
        there({**group, "params": [p for p in group["params"] if p.is_cuda]}, state)


def sgd(group, state):
    """Stochastic gradient descent of all parameters of a group."""
    step(sgd_step, SGD.address, device_steps.sgd, group, state)


def adam(group, state):
    """Adam of all parameters of a group."""
    step(adam_step, ADAM.address, device_steps.adam, group, state)
