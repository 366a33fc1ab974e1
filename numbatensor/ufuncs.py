"""What NumPy's functions of elements do with Tensors, and those that users make with `@vectorize` and `@guvectorize`."""

import numpy as np

from numbatensor.core import entries
from numbatensor.core.modes import get_grad
from numbatensor.core.private import GUFunc, calls_of_gufuncs
from numbatensor.core.python import TensorBase
from numbatensor.core.records import Storage, view_record
from numbatensor.core.sites import writer
from numbatensor.hollow import hollow
from numbatensor.making import as_operand, from_numpy, tensor
from numbatensor.tensor import Tensor

OPS = {  # those that are ops of ours, with gradients, by the name of the method
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.true_divide: "div",
    np.negative: "neg",
    np.exp: "exp",
    np.log: "log",
    np.sqrt: "sqrt",
    np.tanh: "tanh",
    np.sin: "sin",
    np.cos: "cos",
    np.power: "pow",
    np.absolute: "abs",
    np.matmul: "matmul",
    np.equal: "eq",
    np.not_equal: "ne",
    np.less: "lt",
    np.less_equal: "le",
    np.greater: "gt",
    np.greater_equal: "ge",
}
WRITER = writer("out= of a NumPy function")


def array_of(x):
    return x.array() if isinstance(x, TensorBase) else x


def taken_over(made):
    """A new array or number as a Tensor."""
    if not isinstance(made, np.ndarray):
        return tensor(made)
    t = from_numpy(made)
    view_record(entries.get(t, entries.STORAGE), Storage)["aliases"] = 0  # nobody else has the array
    return t


def inputs_of(ufunc):
    """How many arguments are read."""
    return len(ufunc.expected_ndims()[0]) if isinstance(ufunc, GUFunc) else ufunc.nin


def apply(self, ufunc, method, *inputs, **kwargs):
    """A function of elements: an op of ours where it is one, else itself over the memory of Tensors that need no gradient."""
    if method == "__call__" and not kwargs and ufunc in OPS:
        return getattr(Tensor, OPS[ufunc])(*[as_operand(x) for x in inputs])
    n = inputs_of(ufunc) if method == "__call__" else len(inputs)
    outs = kwargs.pop("out", inputs[n:])  # Numba's functions take it by position too, and not as a tuple
    outs = outs if isinstance(outs, tuple) else (outs,)
    inputs = inputs[:n]
    ours = {np.ndarray.__array_ufunc__, Tensor.__array_ufunc__, None}
    if any(getattr(type(x), "__array_ufunc__", None) not in ours for x in (*inputs, *outs)):
        return NotImplemented
    if hollow((*inputs, *outs)) is not None:
        raise RuntimeError(
            f"vmap: {ufunc.__name__} is a NumPy function, which cannot look into a batch: use an op, or nt.custom_op"
        )
    if get_grad() and any(isinstance(x, TensorBase) and x.requires_grad for x in (*inputs, *outs)):
        raise RuntimeError(
            f"{ufunc.__name__} has no gradient, and a Tensor that it is called with requires grad: detach it first, call it under "
            "nt.no_grad(), or make an op of it with nt.custom_op"
        )
    for x in inputs[:1] if method == "at" else outs:
        if isinstance(x, TensorBase):
            entries.begin_write(x, WRITER)
    arrays = [*map(array_of, inputs)]
    if isinstance(ufunc, GUFunc) and ufunc.is_dynamic:  # these know no tuples
        arrays += map(array_of, outs)
    elif outs:
        kwargs["out"] = tuple(map(array_of, outs))
    made = getattr(ufunc, method)(*arrays, **{k: array_of(v) for k, v in kwargs.items()})
    if method == "at":
        return None
    several = isinstance(made, tuple)
    made = made if several else (made,)
    outs = outs or (None,) * len(made)
    found = tuple(taken_over(m) if out is None else out for m, out in zip(made, outs, strict=True))
    return found if several else found[0]


def call_of_gufunc(gufunc, args, kwargs):
    """A call of a `@guvectorize` function without signatures, if there are Tensors among the arguments."""
    found = (x for x in (*args, *kwargs.values()) if isinstance(x, TensorBase))
    first = next(found, None)
    return NotImplemented if first is None else apply(first, gufunc, "__call__", *args, **kwargs)


calls_of_gufuncs(call_of_gufunc)
Tensor.__array_ufunc__ = apply  # type: ignore[method-assign, assignment]
