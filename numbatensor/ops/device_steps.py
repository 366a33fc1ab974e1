"""Adam whose count of steps is on the device, so that CUDA graphs can hold it: made of ops, several for each parameter."""

from numbatensor.core.device_entries import is_capturing
from numbatensor.op import from_array


def remembered(memory, key):
    """What an optimiser remembers of a parameter under a key; None on first use."""
    found = memory.get(key)
    if found is None and is_capturing():
        raise RuntimeError(
            "a CUDA graph cannot hold an optimiser's first step, which makes what it remembers: take one step before you capture it"
        )
    return found


def zeros_for(memory, key, p):
    """The same; zeros on first use."""
    if remembered(memory, key) is None:
        memory[key] = p.detach().mul(0.0)
    return memory[key]


def gradients(group):
    """Each parameter that has a gradient, and the gradient, outside of the graph."""
    for p in group["params"]:
        if p.grad is not None:
            grad = p.grad.detach()
            yield p, p.detach(), -grad if group["maximize"] else grad


def steps_of(memory, p):
    """How many steps a parameter has seen, this one included: a number on its device."""
    found = remembered(memory, "step")
    if found is None or not hasattr(found, "add_"):
        found = memory["step"] = from_array(float(found or 0)).to(p.device)
    return found.add_(1)


def adam(group, state):
    """Adam: ``p -= lr * mean / (1 - beta1**steps) / (sqrt(square / (1 - beta2**steps)) + eps)``."""
    rate, (first, second) = group["lr"], group["betas"]
    for p, x, grad in gradients(group):
        memory = state.setdefault(p, {})
        if group["weight_decay"] and group["decoupled_weight_decay"]:
            x.mul_(1.0 - rate * group["weight_decay"])
        elif group["weight_decay"]:
            grad = grad + x * group["weight_decay"]
        mean, square = (zeros_for(memory, key, p) for key in ("exp_avg", "exp_avg_sq"))
        steps = steps_of(memory, p)
        mean.mul_(first).add_(grad * (1.0 - first))
        square.mul_(second).add_(grad * grad * (1.0 - second))
        if group["amsgrad"]:
            largest = zeros_for(memory, "max_exp_avg_sq", p)
            square = largest.copy_(largest.maximum(square))
        spread = square.sqrt() / (1.0 - second**steps).sqrt() + group["eps"]
        x.sub_(mean / spread * (rate / (1.0 - first**steps)))
