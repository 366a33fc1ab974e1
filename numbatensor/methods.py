"""The functions that are methods of Tensor too, and their in-place forms."""

from numbatensor import dtypes, functional, indexing, joining, linear_algebra, publish
from numbatensor.core.modes import get_grad as is_grad_enabled
from numbatensor.core.sites import writer
from numbatensor.messages import long_name
from numbatensor.tensor import Tensor, functions, written

assert publish  # comes first: these methods take the places of some of its
METHODS = {
    functional: """softmax log_softmax logsumexp cumsum cumprod max min argmax argmin var std norm clamp isclose allclose equal
        round nan_to_num logit masked_fill flip roll repeat tile tril triu""",
    joining: "split chunk unbind",
    indexing: """gather scatter scatter_add index_select index_add take_along_dim masked_select nonzero argsort sort topk""",
    linear_algebra: "matmul mm mv bmm dot outer addmm",
}
IN_PLACE = {
    functional: "cumsum cumprod clamp round nan_to_num logit masked_fill tril triu",
    indexing: "scatter scatter_add index_add",
    linear_algebra: "addmm",
}


def in_place(function):
    """The `_` variant of a function: its result is copied into the first argument."""

    word = writer(function.__name__ + "_")

    def method(self, *args, **kwargs):
        source = (
            self.clone() if self.requires_grad and is_grad_enabled() else self
        )  # it may be saved, and is overwritten
        made = function(source, *args, **kwargs)
        if made.dtype.is_floating_point and not self.dtype.is_floating_point:
            raise RuntimeError(
                f"result type {long_name(made.dtype.code)} can't be cast to the desired output type {long_name(self.dtype.code)}"
            )
        return written(self, made, word)

    method.__name__ = method.__qualname__ = function.__name__ + "_"
    method.__doc__ = f"`{function.__name__}`, written into the tensor."
    return method


for module, names in METHODS.items():
    for name in names.split():
        setattr(Tensor, name, getattr(module, name))
for module, names in IN_PLACE.items():
    for name in names.split():
        setattr(Tensor, name + "_", in_place(getattr(module, name)))

Tensor.__getitem__, Tensor.__setitem__ = indexing.getitem, indexing.setitem
Tensor.index_put_ = indexing.index_put_
Tensor.__matmul__ = linear_algebra.matmul
Tensor.__rmatmul__ = lambda self, other: linear_algebra.matmul(other, self)
Tensor.where = lambda self, condition, other: functional.where(condition, self, other)
Tensor.clip, Tensor.clip_ = functional.clamp, Tensor.clamp_


def invert(self):
    """``~x``: the other truth value, or all bits turned."""
    return functions["logical_not" if self.dtype is dtypes.bool else "bitwise_not"](self)


Tensor.__invert__ = invert


def converter(d):
    """The method that converts to a dtype."""

    def convert(self):
        return self.to(d)

    convert.__doc__ = f"The tensor as {d.name}."
    return convert


for name in ("float", "double", "half", "bfloat16", "int", "long", "short", "bool"):
    setattr(Tensor, name, converter(getattr(dtypes, name)))
