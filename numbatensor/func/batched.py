"""A tensor that stands for one entry of a batch: what the function sees that `vmap` maps."""

from numbatensor.hollow import Hollow, running
from numbatensor.tensor import Size, Tensor, wrap_dim, written

CONTROL_FLOW = (
    "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that yet: "
    "choose between values by nt.where, or leave the vmap first."
)
ITEM = (
    "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, please try to "
    "rewrite what you're doing with other operations."
)
IN_PLACE = (
    "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args that has more "
    "elements than `self`. This happened due to `other` being vmapped over but `self` not being vmapped over in a vmap. Please try to "
    "use out-of-place operators instead of inplace arithmetic."
)
REQUIRES_GRAD = (
    "You are attempting to call Tensor.requires_grad_() (or perhaps using torch.autograd.functional.* APIs) inside of a function being "
    "transformed by a functorch transform. This is unsupported, please attempt to use the functorch transforms (e.g. grad, vjp, jacrev, "
    "jacfwd, hessian) or call requires_grad_() outside of a function being transformed instead."
)
BACKWARD = (
    "backward() called inside a functorch transform. This is not supported, please use nt.func.grad or nt.func.vjp instead or call "
    "backward() outside of functorch transforms."
)
DATA = "Cannot access data pointer of Tensor that doesn't have storage: it is one entry of a batch, inside vmap"


class Batched(Hollow, Tensor):
    """One entry of a batch: `value` holds all of them along its first dimension, `level` is the vmap that maps them.

    `value` may be Batched itself, by a vmap further out.
    """

    def __new__(cls, value, level):
        made = object.__new__(cls)
        made.value, made.level = value, level
        return made

    device = property(lambda self: self.value.device, doc="Where the elements are.")
    is_cuda = property(lambda self: self.value.is_cuda, doc="Whether the elements are on a CUDA device.")

    # ops

    def perform(self, op, values, in_place=False):
        """An op on tensors of which some are Batched."""
        level = innermost(values)
        rule = op.batching or next((KINDS[kind] for kind in type(op).__mro__ if kind in KINDS), KINDS[None])
        return rule(op, level, *values, in_place=True) if in_place else rule(op, level, *values)

    def join(self, op, tensors, dim):
        """Tensors joined by `cat` or `stack`."""
        return KINDS[type(op)](op, innermost(tensors), tensors, dim)

    def write(self, out, source, writer):
        """``out[...] = source``"""
        level = innermost([out, source])
        if not at(out, level):
            raise RuntimeError(IN_PLACE)
        if isinstance(source, Tensor) and source.ndim > out.ndim:
            raise RuntimeError(
                f"The expanded size of the tensor must match the existing size: {list(source.shape)} cannot be broadcast to "
                f"{list(out.shape)}"
            )
        written(out.value, aligned(source, level, out.ndim), writer)
        return out

    def kept(self, function, *args, **options):
        """A function that keeps shapes, applied to the whole batch."""
        return Batched(function(self.value, *args, **options), self.level)

    def custom(self, function, args):
        """A custom Function of tensors of which some are Batched."""
        return KINDS["custom"](function, innermost(args), args)

    # what a tensor is asked

    shape = property(lambda self: Size(self.value.shape[1:]), doc="The size of each dimension, without the batch's.")
    ndim = property(lambda self: self.value.ndim - 1, doc="The number of dimensions, without the batch's.")
    dtype = property(lambda self: self.value.dtype, doc="The type of the elements.")
    grad_fn = property(lambda self: self.value.grad_fn, doc="The node of the graph that the whole batch came from.")
    is_leaf = property(lambda self: self.value.is_leaf, doc="Whether no recorded op made the batch.")
    _version = property(lambda self: self.value._version, doc="How often the batch's storage was written in place.")
    _base = property(lambda self: None, doc="Entries of a batch show no base.")

    def _set_requires_grad(self, value):
        raise RuntimeError(REQUIRES_GRAD)

    requires_grad = property(
        lambda self: self.value.requires_grad, _set_requires_grad, doc="Whether operations are recorded."
    )
    grad = property(lambda self: None, doc="Entries of a batch have no gradient of their own: see `nt.func.grad`.")

    def is_inference(self):
        """Whether the batch was made under `inference_mode`."""
        return self.value.is_inference()

    def dim(self):
        """The number of dimensions, without the batch's."""
        return self.ndim

    def numel(self):
        """The number of elements of one entry."""
        return self.shape.numel()

    nelement = numel

    def stride(self, dim=None):
        """The steps between neighbours in each dimension, in elements."""
        steps = self.value.stride()[1:]
        return steps if dim is None else steps[wrap_dim(dim, self.ndim)]

    def storage_offset(self):
        """Elements between the start of the storage and the first entry's first element."""
        return self.value.storage_offset()

    def is_contiguous(self):
        """Whether the elements of an entry lie side by side in order."""
        step = 1
        for n, s in zip(reversed(self.shape), reversed(self.stride()), strict=True):
            if n != 1 and s != step:
                return self.numel() == 0
            step *= n
        return True

    def contiguous(self):
        """The tensor itself, or a contiguous copy."""
        return self if self.is_contiguous() else self.clone()

    def as_strided(self, size, stride, storage_offset=None):
        """Any shape and strides over the storage, at the same distance from each entry."""
        value = self.value
        return Batched(
            value.as_strided((value.shape[0], *size), (value.stride(0), *stride), storage_offset), self.level
        )

    # what needs the elements

    def item(self):
        raise RuntimeError(ITEM)

    __float__ = __int__ = __index__ = item

    def __bool__(self):
        raise RuntimeError(CONTROL_FLOW)

    def tolist(self):
        raise RuntimeError(DATA)

    numpy = array = data_ptr = tolist

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError(DATA)

    __hash__ = object.__hash__

    def __reduce_ex__(self, protocol):
        raise RuntimeError(DATA)

    def __copy__(self):
        return Batched(self.value, self.level)

    def __deepcopy__(self, memo):
        return self.clone()

    def __format__(self, spec):
        return object.__format__(self, spec)

    def __repr__(self):
        inner = repr(self.value).replace("\n", "\n    ")
        return f"BatchedTensor(lvl={self.level.number}, bdim=0, value=\n    {inner}\n)"

    # dtypes, the graph

    def to(self, *args, dtype=None):
        """The tensor in another dtype; itself where it has it."""
        args = [a.dtype if isinstance(a, Tensor) else a for a in args]
        made = self.value.to(*args, dtype=dtype)
        return self if made is self.value else Batched(made, self.level)

    def detach(self):
        """The same memory, without the history."""
        return Batched(self.value.detach(), self.level)

    data = property(detach, doc="The same memory without the history.")

    def detach_(self):
        """Forget the history."""
        self.value = self.value.detach()
        return self

    def requires_grad_(self, requires_grad=True):
        raise RuntimeError(REQUIRES_GRAD)

    retain_grad = requires_grad_

    def backward(self, *args, **kwargs):
        raise RuntimeError(BACKWARD)


def new_like(name):
    """``x.new_zeros(...)`` and the like: a batch of new tensors, that can be written to entry by entry."""
    maker = getattr(Tensor, name)

    def method(self, *size, **options):
        made = maker(self, *size, **options)
        return Batched(made.expand(self.level.size, *made.shape).clone(), self.level)

    method.__name__, method.__doc__ = name, maker.__doc__
    return method


for name in ("new_empty", "new_zeros", "new_ones", "new_full"):
    setattr(Batched, name, new_like(name))


def in_place_view(name):
    """``x.unsqueeze_(...)`` and the like: the entry shows another view of the batch."""
    view = getattr(Tensor, name.rstrip("_"))

    def method(self, *args, **kwargs):
        self.value = view(self, *args, **kwargs).value
        return self

    method.__name__, method.__doc__ = name, view.__doc__
    return method


for name in ("transpose_", "swapaxes_", "swapdims_", "t_", "unsqueeze_", "squeeze_"):
    setattr(Batched, name, in_place_view(name))


def at(x, level):
    """Whether a vmap maps a value."""
    return isinstance(x, Batched) and x.level is level


def innermost(values):
    """The innermost vmap that maps any of some values."""
    level = None
    for v in values:
        if isinstance(v, Batched) and (level is None or v.level.number > level.number):
            level = v.level
    if level not in running.levels:
        raise RuntimeError(
            f"a tensor is used that stands for an entry of a batch (level {level.number}), but that vmap has ended: return what is "
            "needed from the function that is mapped"
        )
    return level


def aligned(x, level, ndim):
    """What a vmap maps, with dimensions of size 1 behind the batch's, so that an entry has so many; other values as they are."""
    if not at(x, level):
        return x
    value, missing = x.value, ndim - x.ndim
    return value.reshape(value.shape[0], *[1] * missing, *value.shape[1:]) if missing > 0 else value


def full(x, level):
    """All entries of a tensor along a first dimension; what is not mapped is the same in all."""
    return x.value if at(x, level) else x.expand(level.size, *x.shape)


def lifted(x, levels):
    """A tensor that is Batched in each of some levels, outermost first."""
    if not levels:
        return x
    *outer, level = levels
    if at(x, level):
        return Batched(lifted(x.value, outer), level)
    x = lifted(x, outer)
    return Batched(full(x, level), level)


def unwrapped(x):
    """The tensor inside of all batches: their dimensions come first, outermost first."""
    while isinstance(x, Batched):
        x = x.value
    return x


def wrapped(x, levels):
    """The inverse of `unwrapped`, of a tensor that is Batched in each of some levels."""
    for level in levels:
        x = Batched(x, level)
    return x


KINDS: dict = {}  # the rules by kind of op, None for all others; `rules.py` and `custom.py` put them here
