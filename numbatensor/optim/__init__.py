"""Optimisers: how gradients change parameters."""

import math

import numbatensor as nt


class Optimizer:
    """Parameter groups, each with its settings, and the state of every parameter."""

    def __init__(self, params, defaults):
        params = list(params)
        if not params:
            raise ValueError("optimizer got an empty parameter list")
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state = {}
        for p in self.parameters():
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")

    def parameters(self):
        """All parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none=True):
        """Drop, or clear, all gradients."""
        for p in self.parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad.zero_()

    def step(self, closure=None):
        """Change every parameter that has a gradient; gives the closure's loss."""
        value = None
        if closure is not None:
            with nt.enable_grad():
                value = closure()
        with nt.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.update(
                            p, p.grad if not group["maximize"] else -p.grad, group, self.state.setdefault(p, {})
                        )
        return value

    def state_dict(self):
        """Settings and state, with parameters by number."""
        numbers = {p: k for k, p in enumerate(self.parameters())}
        groups = [{**g, "params": [numbers[p] for p in g["params"]]} for g in self.param_groups]
        return {"state": {numbers[p]: dict(s) for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Take over settings and state."""
        parameters = self.parameters()
        if [len(g["params"]) for g in state_dict["param_groups"]] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        for own, group in zip(self.param_groups, state_dict["param_groups"], strict=True):
            own.update({k: v for k, v in group.items() if k != "params"})
        self.state = {
            parameters[k]: {n: v.clone() if isinstance(v, nt.Tensor) else v for n, v in s.items()}
            for k, s in state_dict["state"].items()
        }


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964), Nesterov's variant and weight decay."""

    def __init__(
        self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, *, maximize=False
    ):
        if lr < 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def update(self, p, grad, group, state):
        if group["weight_decay"]:
            grad = grad + p * group["weight_decay"]
        if group["momentum"]:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = grad.clone()
            else:
                state["momentum_buffer"].mul_(group["momentum"]).add_(grad * (1.0 - group["dampening"]))
            grad = (
                grad + state["momentum_buffer"] * group["momentum"] if group["nesterov"] else state["momentum_buffer"]
            )
        p.sub_(grad * group["lr"])


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015); `amsgrad` after Reddi et al., 2018."""

    decoupled = False

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, *, maximize=False
    ):
        if lr < 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def update(self, p, grad, group, state):
        b1, b2 = group["betas"]
        if group["weight_decay"]:
            if self.decoupled:
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
            else:
                grad = grad + p * group["weight_decay"]
        if not state:
            state.update(step=0, exp_avg=nt.zeros_like(p), exp_avg_sq=nt.zeros_like(p))
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = nt.zeros_like(p)
        state["step"] += 1
        state["exp_avg"].lerp_(grad, 1.0 - b1)
        state["exp_avg_sq"].mul_(b2).addcmul_(grad, grad, 1.0 - b2)
        second = state["exp_avg_sq"]
        if group["amsgrad"]:
            state["max_exp_avg_sq"].copy_(nt.maximum(state["max_exp_avg_sq"], second))
            second = state["max_exp_avg_sq"]
        scale = second.sqrt().div_(math.sqrt(1.0 - b2 ** state["step"])).add_(group["eps"])
        p.addcdiv_(state["exp_avg"], scale, -group["lr"] / (1.0 - b1 ** state["step"]))


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient (Loshchilov and Hutter, 2019)."""

    decoupled = True

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
