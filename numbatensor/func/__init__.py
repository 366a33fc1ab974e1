"""Functions of functions: gradients, Jacobians, and batches of them. Loaded when first used."""

from numbatensor.func.gradients import grad, grad_and_value, jvp, value_and_grad, vjp
from numbatensor.func.jacobians import hessian, jacfwd, jacrev
from numbatensor.func.modules import functional_call, stack_module_state
from numbatensor.func.vmap import vmap

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "stack_module_state",
    "value_and_grad",
    "vjp",
    "vmap",
]
