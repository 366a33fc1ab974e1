"""What all optimisers share: parameter groups with their settings, the state of every parameter, and how both are kept."""

import collections
import copy
import warnings

from numba.extending import typeof_impl

import numbatensor as nt


def check_nonnegative(settings):
    """Raise ValueError for the first setting that is negative, or NaN."""
    for name, value in settings.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {name}: {value}")


def check_alternatives(foreach, fused, differentiable):
    """Raise for combinations of PyTorch's implementations that PyTorch refuses, and for recorded steps."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if differentiable:
        raise NotImplementedError(
            "differentiable=True: a step is not recorded; update the parameters by functions instead"
        )


def type_name(x):
    return type(x).__name__ if type(x).__module__ == "builtins" else f"{type(x).__module__}.{type(x).__name__}"


class Optimizer:
    """Parameter groups, each with its settings, and the state of every parameter.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor) or of dict
        Parameters, or groups: dicts with the parameters under "params" and settings of their own.
    defaults : dict
        The settings of groups that name none.
    """

    def __init__(self, params, defaults):
        if isinstance(params, nt.Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + type_name(params)
            )
        self.defaults, self.state, self.param_groups = defaults, collections.defaultdict(dict), []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group):
        """Optimise more parameters, with settings of their own."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params = [params] if isinstance(params, nt.Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        if names:
            if len(names) < len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            params = [p[1] for p in params]
        for p in params:
            if not isinstance(p, nt.Tensor):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is " + type_name(p))
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        if len(set(map(id, params))) < len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters", stacklevel=3)
        if any("param_names" in group for group in self.param_groups) != bool(names) and self.param_groups:
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group with"
                + ("" if names else "out")
                + " names to the optimizer"
            )
        if not {id(p) for g in self.param_groups for p in g["params"]}.isdisjoint(map(id, params)):
            raise ValueError("some parameters appear in more than one parameter group")
        named = {"param_names": names} if names else {}
        self.param_groups.append({**self.defaults, **param_group, "params": params, **named})

    def zero_grad(self, set_to_none=True):
        """Drop, or clear, all gradients."""
        for group in self.param_groups:
            params = group["params"]
            if set_to_none:
                k = nt.ops.steps.drop_gradients(params, 0)
                while k >= 0:
                    params[k].grad = None
                    k = nt.ops.steps.drop_gradients(params, k + 1)
            else:
                for p in params:
                    if p.grad is not None:
                        p.grad = p.grad.detach()
                        p.grad.zero_()

    def step(self, closure=None):
        """Move every parameter that has a gradient; gives the loss that the closure, if any, works out first."""
        loss = None if closure is None else self.evaluate(closure)
        for group in self.param_groups:
            self.move(group)
        return loss

    def move(self, group):
        """Change every parameter of a group that has a gradient."""
        raise NotImplementedError(f"{type(self).__name__} is missing the required step function")

    def evaluate(self, closure):
        """The closure's loss, with gradients recorded."""
        with nt.enable_grad():
            return closure()

    def state_dict(self):
        """Settings and state, with numbers for the parameters; the state's tensors themselves, not copies."""
        params = [p for group in self.param_groups for p in group["params"]]
        numbers = {id(p): k for k, p in reversed(list(enumerate(params)))}
        return {
            "state": {numbers.get(id(p), p): values for p, values in self.state.items()},
            "param_groups": [
                {**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict):
        """Take over settings and a copy of the state, its float tensors in the dtype of their parameter."""
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if [len(g["params"]) for g in groups] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        parameters = {
            k: p
            for own, group in zip(self.param_groups, groups, strict=True)
            for k, p in zip(group["params"], own["params"], strict=True)
        }
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update(copy.deepcopy({name: value for name, value in group.items() if name != "params"}))
        self.state = collections.defaultdict(dict)
        for k, values in state_dict["state"].items():
            p = parameters.get(k, k)
            self.state[p] = {name: owned(value, p) for name, value in values.items()}

    def __repr__(self):
        lines = []
        for k, group in enumerate(self.param_groups):
            lines += [f"Parameter Group {k}", *[f"    {n}: {group[n]}" for n in sorted(group) if n != "params"]]
        return "\n".join([f"{type(self).__name__} (", *lines, ")"])


def owned(value, parameter):
    """A copy of a value of the state, in the dtype of its parameter."""
    if not isinstance(value, nt.Tensor):
        return copy.deepcopy(value)
    fits = isinstance(parameter, nt.Tensor) and value.is_floating_point()
    return (value.detach().to(parameter.dtype) if fits else value.detach()).clone()


@typeof_impl.register(Optimizer)
def refuse_in_compiled_code(value, context):
    """Say what compiled code takes in the place of an optimizer; as a constant it has no type, and Numba tells the line."""
    if context.purpose.name != "argument":
        return None
    raise TypeError(
        f"{type(value).__name__} cannot be an argument of compiled code, which has no type for optimizers: call step() outside, or "
        "update the parameters there, under `with nt.no_grad():` (see docs/numba.md)"
    )
