"""Methods that change a tensor's shape, strides or memory in place. Each counts as one write; no element is overwritten.

Where `resize_` needs more memory, and in `set_`, the tensor shows other memory from then on; its views keep the old.
"""

from numbatensor.core import entries
from numbatensor.core.geometry import check_change, take_geometry
from numbatensor.core.modes import INFERENCE, NO_GRAD, get_grad, set_mode
from numbatensor.core.records import Storage, view_record
from numbatensor.core.sites import writer
from numbatensor.making import as_sizes, new
from numbatensor.messages import long_name
from numbatensor.ops import views
from numbatensor.tensor import Tensor


def in_place(name, view):
    """The method that gives a tensor the geometry of a view of it."""
    word = writer(name)

    def method(self, *args, **kwargs):
        check_change(self)
        # what came from a recorded op keeps a history that fits its shape, under no_grad too
        before = set_mode(NO_GRAD | INFERENCE if self.requires_grad and not self.is_leaf else 0, 0)
        try:
            made = view(self, *args, **kwargs)
        finally:
            set_mode(NO_GRAD | INFERENCE, before)
        take_geometry(self, made, word)
        return self

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name.rstrip('_')}`, of the tensor itself: its memory is not touched."
    return method


for name_, view_ in {
    "transpose_": views.transpose,
    "swapaxes_": views.transpose,
    "swapdims_": views.transpose,
    "t_": views.t,
    "unsqueeze_": views.unsqueeze,
    "squeeze_": views.squeeze,
    "as_strided_": Tensor.as_strided,
}.items():
    setattr(Tensor, name_, in_place(name_, view_))


def storage_of(x):
    return view_record(entries.get(x, entries.STORAGE), Storage)


def show(x, y):
    """Make a tensor show another's memory; what has no other owner counts on from the tensor's version."""
    check_change(x)
    if storage_of(y)["version"] == 0:
        storage_of(y)["version"] = storage_of(x)["version"] + 1
    entries.adopt(x, y)
    return x


def resize_(self, *sizes):
    """Another shape, contiguous, over the same memory, or over more: then the new elements are not initialised."""
    shape = as_sizes(sizes)
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    if shape == tuple(self.shape):
        return self
    made = new(shape, self.dtype)
    room = int(storage_of(self)["nbytes"]) // self.itemsize - self.storage_offset()
    if made.numel() <= room:
        return resize_in_place(self, shape, made.stride())
    made.view(-1).narrow(0, 0, room).copy_(self.detach().as_strided((room,), (1,)))
    storage_of(made)["version"] = 0
    return show(self, made)


resize_in_place = in_place("resize_", Tensor.as_strided)


def resize_as_(self, other):
    """Another shape, that of a tensor."""
    return self.resize_(tuple(other.shape))


def set_(self, source=None, storage_offset=None, size=None, stride=None):
    """The memory, and the version counter, of another tensor, or a part of it; without one, no elements."""
    if source is None:
        return show(self, new((0,), self.dtype))
    if not isinstance(source, Tensor):
        raise TypeError(f"set_(): argument 'source' must be Tensor, not {type(source).__name__}")
    if source.dtype is not self.dtype:
        theirs, ours = (long_name(d.code).lower() for d in (source.dtype, self.dtype))
        raise RuntimeError(f"Could not set tensor of type {theirs} to a tensor of type {ours}")
    if get_grad() and (source.requires_grad or (self.requires_grad and not self.is_leaf)):
        raise RuntimeError("the derivative for 'set_' is not implemented: detach the tensors, or use no_grad")
    made = source.detach()
    if size is not None:
        made = made.as_strided(size, new(size, self.dtype).stride() if stride is None else stride, storage_offset or 0)
    check_change(self)
    entries.adopt(self, made.detach())
    return self


Tensor.resize_, Tensor.resize_as_, Tensor.set_ = resize_, resize_as_, set_
