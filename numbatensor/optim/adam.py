"""Adam, and its variant with decoupled weight decay."""

import numbatensor as nt
from numbatensor.optim.optimizer import Optimizer, check_alternatives, check_nonnegative


class Adam(Optimizer):
    """Steps along the mean of the gradients, divided by the root of their mean square (Kingma and Ba, 2015).

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters, or groups of them with settings of their own.
    lr : float
        The learning rate.
    betas : pair of float
        How much of the mean, and of the mean square, a step keeps.
    eps : float
        Added to the divisor.
    weight_decay : float
        How much of the parameter is added to its gradient.
    amsgrad : bool
        Whether to divide by the largest mean square so far (Reddi et al., 2018).
    maximize : bool
        Whether to go up the gradient.
    decoupled_weight_decay : bool
        Whether the decay shrinks the parameter itself, as in :class:`AdamW`.
    capturable : bool
        Whether the steps of parameters on CUDA devices are counted there, so that a CUDA graph can hold them.
    foreach, fused, differentiable : bool, optional
        Accepted for PyTorch's sake; every step is fused, and none is recorded.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        amsgrad=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
        fused=None,
        decoupled_weight_decay=False,
    ):
        check_nonnegative({"learning rate": lr, "epsilon value": eps, "weight_decay value": weight_decay})
        for k in range(2):
            if not 0.0 <= betas[k] < 1.0:
                raise ValueError(f"Invalid beta parameter at index {k}: {betas[k]}")
        check_alternatives(foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def move(self, group):
        """Change every parameter of a group that has a gradient, in one native call."""
        nt.ops.steps.adam(group, self.state)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter and leaves the gradient alone (Loshchilov and Hutter, 2019)."""

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
        foreach=None,
        capturable=False,
        differentiable=False,
        fused=None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
