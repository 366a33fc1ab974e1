"""Stochastic gradient descent."""

import numbatensor as nt
from numbatensor.optim.optimizer import Optimizer, check_alternatives, check_nonnegative


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak, 1964), Nesterov's variant and weight decay.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters, or groups of them with settings of their own.
    lr : float
        The learning rate.
    momentum, dampening : float
        The moving direction is ``momentum * direction + (1 - dampening) * gradient``, and the gradient at first.
    weight_decay : float
        How much of the parameter is added to its gradient.
    nesterov : bool
        Whether to look ahead by the momentum once more.
    maximize : bool
        Whether to go up the gradient.
    foreach, fused, differentiable : bool, optional
        Accepted for PyTorch's sake; every step is fused, and none is recorded.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0,
        dampening=0,
        weight_decay=0,
        nesterov=False,
        *,
        maximize=False,
        foreach=None,
        differentiable=False,
        fused=None,
    ):
        check_nonnegative({"learning rate": lr, "momentum value": momentum, "weight_decay value": weight_decay})
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_alternatives(foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def move(self, group):
        """Change every parameter of a group that has a gradient, in one native call."""
        nt.ops.steps.sgd(group, self.state)
