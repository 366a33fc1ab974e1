"""The Tensor of Python: a thin box around one address, with the methods that are not declared ops."""

import builtins

import numpy as np

from numbatensor import dtypes, graph_nodes
from numbatensor.core import entries, python
from numbatensor.core.dispatch import CODES
from numbatensor.core.handles import hold
from numbatensor.core.modes import get_grad
from numbatensor.core.python import TensorBase, native_function
from numbatensor.core.records import RANK, Node, Storage, view_record
from numbatensor.messages import strided
from numbatensor.op import OPS, Pointwise, record
from numbatensor.ops import reductions, structured, views
from numbatensor.ops.views import viewed_strides


class Size(tuple):
    """The shape of a tensor."""

    def numel(self):
        """The number of elements."""
        return int(np.prod(self, dtype=np.int64))

    def __repr__(self):
        return f"numbatensor.Size({list(self)})"


def as_operand(x):
    """A Tensor or Python number for an argument of an op."""
    if isinstance(x, (TensorBase, builtins.bool, builtins.int, builtins.float)) and not isinstance(x, np.generic):
        return x
    if isinstance(x, np.ndarray):
        return from_numpy(x)
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"expected a Tensor or a number, not {type(x).__name__}")


def wrap_dim(dim, ndim):
    """A dimension counted from the front."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def as_sizes(sizes):
    """Sizes given one by one or as one sequence."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    return tuple(builtins.int(n) for n in sizes)


class Tensor(TensorBase):
    """A multi-dimensional array that can record what is done to it, and give gradients."""

    __array_priority__ = 1000

    def __new__(cls, data=(), requires_grad=False):
        made = tensor(data, requires_grad=requires_grad)
        return made if cls is Tensor else made.as_subclass(cls)

    def as_subclass(self, cls):
        """This tensor as an instance of a subclass of Tensor."""
        if not issubclass(cls, Tensor):
            raise TypeError(f"{cls.__name__} is not a subclass of Tensor")
        self.__class__ = cls
        return self

    shape = property(lambda self: Size(entries.shape_tuple(self)), doc="The size of each dimension.")
    ndim = property(lambda self: entries.get(self, entries.NDIM), doc="The number of dimensions.")
    dtype = property(lambda self: dtypes.ALL[entries.get(self, entries.DTYPE)], doc="The type of the elements.")
    itemsize = property(lambda self: self.dtype.itemsize, doc="Bytes of an element.")
    device = property(lambda self: "cpu", doc="Where the elements are.")
    is_leaf = property(
        lambda self: not self.requires_grad or self.grad_fn is None, doc="Whether no recorded op made this tensor."
    )
    grad_fn = property(graph_nodes.node_of, doc="The node of the graph that this tensor came from; None for a leaf.")
    _version = property(
        lambda self: entries.get(self, entries.VERSION), doc="How often the storage was written in place."
    )
    _base = property(
        lambda self: entries.box_of(entries.get(self, entries.BASE)), doc="The tensor that this is a view of."
    )
    T = property(lambda self: self.permute(*reversed(range(self.ndim))), doc="The tensor with its dimensions reversed.")
    mT = property(lambda self: self.transpose(-2, -1), doc="The tensor with its last two dimensions swapped.")

    def size(self, dim=None):
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[wrap_dim(dim, self.ndim)]

    def stride(self, dim=None):
        """The steps between neighbours in each dimension, in elements."""
        steps = tuple(s // self.itemsize for s in entries.stride_tuple(self))
        return steps if dim is None else steps[wrap_dim(dim, self.ndim)]

    def dim(self):
        """The number of dimensions."""
        return self.ndim

    def numel(self):
        """The number of elements."""
        return entries.get(self, entries.NUMEL)

    nelement = numel

    def data_ptr(self):
        """The address of the first element."""
        return entries.get(self, entries.DATA)

    def storage_offset(self):
        """Elements between the start of the storage and the first element."""
        start = int(view_record(entries.get(self, entries.STORAGE), Storage)["data"])
        return (self.data_ptr() - start) // self.itemsize

    def is_contiguous(self):
        """Whether the elements lie in row-major order without gaps."""
        return builtins.bool(entries.get(self, entries.CONTIGUOUS))

    def is_floating_point(self):
        """Whether the elements are floats."""
        return self.dtype.is_floating_point

    @property
    def requires_grad(self):
        """Whether operations on this tensor are recorded."""
        return builtins.bool(entries.get(self, entries.REQUIRES_GRAD))

    @requires_grad.setter
    def requires_grad(self, value):
        if value and not self.dtype.is_floating_point:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if not value and not self.is_leaf:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        entries.set_requires_grad(self, builtins.int(value))

    def requires_grad_(self, requires_grad=True):
        """Record operations on this leaf, or stop recording them."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self):
        """The gradient that backward passes have accumulated; None before the first."""
        address = entries.get(self, entries.NODE)
        held = view_record(address, Node)["grad"] if address else 0
        if not held:
            self.__dict__.pop("_grad", None)
            return None
        made = entries.box_of(int(held))
        self.__dict__["_grad"] = made
        return made

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
            if value.shape != self.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size '{list(self.shape)}'. "
                    "Please ensure that the gradient and the tensor are the same size"
                )
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{value.dtype.name}' to a tensor with dtype "
                    f"'{self.dtype.name}'"
                )
        self.__dict__.pop("_grad", None)
        if value is not None or entries.get(self, entries.NODE):
            entries.set_node_grad(entries.grad_holder(self), value)

    def retain_grad(self):
        """Keep the gradient of a tensor that is not a leaf."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if not self.is_leaf:
            view_record(entries.leaf_node(self), Node)["retains"] = 1

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Add the gradients of this tensor to the `.grad` of the leaves that it depends on."""
        from numbatensor import autograd

        autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def detach(self):
        """The same memory and version counter, without the history."""
        made = entries.new_view(self, self.shape, entries.stride_tuple(self), self.data_ptr())
        return made

    def detach_(self):
        """Forget the history."""
        if self._base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        entries.drop_node(self)
        return self

    # memory shared with NumPy

    def array(self):
        """A NumPy array over the memory, for the library's own use: it is not counted as an alias."""
        return strided(self.data_ptr(), entries.shape_tuple(self), entries.stride_tuple(self), self.dtype.numpy, self)

    def numpy(self):
        """A NumPy array that shares the memory.

        Writes to it are not counted, but a graph that has saved the memory compares checksums before it uses it.
        """
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        view_record(entries.get(self, entries.STORAGE), Storage)["aliases"] += 1
        return self.array()

    def __array__(self, dtype=None, copy=None):
        made = self.numpy()
        if dtype is not None and np.dtype(dtype) != made.dtype:
            if copy is False:
                raise ValueError("a copy is needed to convert the dtype")
            return made.astype(dtype)
        return made.copy() if copy else made

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        name = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or kwargs or name is None:
            return NotImplemented
        return globals_of_ops[name](*[as_operand(x) for x in inputs])

    def tolist(self):
        """The elements as nested lists of Python numbers."""
        return self.array().tolist()

    def item(self):
        """The one element as a Python number."""
        if self.numel() != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        return self.array().item()

    def __bool__(self):
        if self.numel() != 1:
            raise RuntimeError(
                "Boolean value of Tensor with no values is ambiguous"
                if self.numel() == 0
                else "Boolean value of Tensor with more than one value is ambiguous"
            )
        return builtins.bool(self.item())

    def __float__(self):
        return builtins.float(self.item())

    def __int__(self):
        return builtins.int(self.item())

    def __index__(self):
        if self.dtype.is_floating_point:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return builtins.int(self.item())

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter([self.select(0, k) for k in range(self.shape[0])])

    def __contains__(self, x):
        return builtins.bool((self == x).any())

    __hash__ = object.__hash__

    def __reduce_ex__(self, protocol):
        return rebuild, (self.detach().array().copy(), self.requires_grad)

    def __copy__(self):
        return self.detach().requires_grad_(self.requires_grad) if self.is_leaf else self.clone()

    def __deepcopy__(self, memo):
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment."
            )
        if id(self) not in memo:
            made = type(self)(self.detach()) if type(self) is not Tensor else tensor(self.detach())
            memo[id(self)] = made.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __repr__(self):
        from numbatensor import printing

        return printing.text(self)

    # dtypes

    def to(self, *args, dtype=None):
        """The tensor in another dtype; itself where it has it."""
        for a in args:
            if isinstance(a, TensorBase):
                dtype = a.dtype
            elif a != "cpu":
                dtype = a
        target = self.dtype if dtype is None else dtypes.as_dtype(dtype)
        return self if target is self.dtype else entries.to_dtype(self, target.code)

    def type_as(self, other):
        """The tensor in the dtype of another."""
        return self.to(other.dtype)

    # views

    def transpose(self, dim0, dim1):
        """The tensor with two dimensions swapped, sharing memory."""
        return (
            views.transpose(self, wrap_dim(dim0, self.ndim), wrap_dim(dim1, self.ndim))
            if self.ndim
            else views.permute(self, ())
        )

    swapaxes = swapdims = transpose

    def t(self):
        """The transpose of a matrix; vectors and scalars as they are."""
        if self.ndim > 2:
            raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {self.ndim}D")
        return self.transpose(0, 1) if self.ndim == 2 else self.permute(*range(self.ndim))

    def permute(self, *dims):
        """The tensor with its dimensions in another order, sharing memory."""
        dims = [wrap_dim(d, self.ndim) for d in as_sizes(dims)]
        if sorted(dims) != list(range(self.ndim)):
            raise RuntimeError(f"permute(): {tuple(dims)} is not an order of {self.ndim} dimensions")
        return views.permute(self, tuple(dims))

    def movedim(self, source, destination):
        """The tensor with dimensions moved to other places."""
        source = [source] if isinstance(source, builtins.int) else source
        destination = [destination] if isinstance(destination, builtins.int) else destination
        return self.permute(*moved(self.ndim, source, destination))

    def unsqueeze(self, dim):
        """The tensor with a dimension of size 1 put in."""
        return views.unsqueeze(self, wrap_dim(dim, self.ndim + 1))

    def squeeze(self, dim=None):
        """The tensor without dimensions of size 1: all of them, or those that are named."""
        dims = range(self.ndim) if dim is None else [dim] if isinstance(dim, builtins.int) else dim
        return views.squeeze(self, tuple(wrap_dim(d, self.ndim) for d in dims))

    def expand(self, *sizes):
        """The tensor broadcast to a shape without a copy; -1 keeps a size."""
        sizes = as_sizes(sizes)
        lead = len(sizes) - self.ndim
        if lead < 0:
            raise RuntimeError(f"expand: {len(sizes)} sizes for a tensor of {self.ndim} dimensions")
        full = tuple(self.shape[k - lead] if n == -1 and k >= lead else n for k, n in enumerate(sizes))
        for n, m in zip(self.shape, full[lead:], strict=True):
            if n not in (1, m):
                raise RuntimeError(
                    f"The expanded size of the tensor ({m}) must match the existing size ({n}): "
                    f"{list(self.shape)} to {list(sizes)}"
                )
        return views.expand(self, full)

    def expand_as(self, other):
        """The tensor broadcast to the shape of another."""
        return self.expand(other.shape)

    def broadcast_to(self, shape):
        """The tensor broadcast to a shape."""
        return self.expand(shape)

    def select(self, dim, index):
        """One slice of a dimension."""
        dim = wrap_dim(dim, self.ndim)
        n = self.shape[dim] if self.ndim else 0
        if not -n <= index < n:
            raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {n}")
        return views.select(self, dim, index % n)

    def narrow(self, dim, start, length):
        """`length` slices of a dimension from `start` on."""
        dim = wrap_dim(dim, self.ndim)
        start = start % self.shape[dim] if start < 0 else start
        if length < 0 or start + length > self.shape[dim]:
            raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({self.shape[dim]}).")
        return views.slice(self, dim, start, 1, length)

    def diagonal(self, offset=0, dim1=0, dim2=1):
        """The diagonal of two dimensions, sharing memory."""
        return views.diagonal(self, offset, wrap_dim(dim1, self.ndim), wrap_dim(dim2, self.ndim))

    def unfold(self, dimension, size, step):
        """Windows of a dimension, sharing memory."""
        return views.unfold(self, wrap_dim(dimension, self.ndim), size, step)

    def view(self, *shape):
        """The same memory in another shape."""
        if len(shape) == 1 and isinstance(shape[0], dtypes.dtype):
            raise RuntimeError("view(dtype) is not supported; use to(dtype)")
        shape = filled(as_sizes(shape), self)
        if viewed_strides(self.shape, self.stride(), shape) is None:
            raise RuntimeError(
                "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
                "contiguous subspaces). Use .reshape(...) instead."
            )
        return views.reshape(self, shape)

    def reshape(self, *shape):
        """The same elements in another shape; the same memory where that is possible."""
        shape = filled(as_sizes(shape), self)
        if viewed_strides(self.shape, self.stride(), shape) is None:
            return views.reshape(self.clone(), shape)
        return views.reshape(self, shape)

    def flatten(self, start_dim=0, end_dim=-1):
        """Dimensions from `start_dim` to `end_dim` joined into one."""
        if self.ndim == 0:
            return self.reshape(1)
        a, b = wrap_dim(start_dim, self.ndim), wrap_dim(end_dim, self.ndim)
        return self.reshape(*self.shape[:a], Size(self.shape[a : b + 1]).numel(), *self.shape[b + 1 :])

    def unflatten(self, dim, sizes):
        """A dimension split into several."""
        dim = wrap_dim(dim, self.ndim)
        n = self.shape[dim]
        known = Size(s for s in sizes if s != -1).numel()
        return self.reshape(*self.shape[:dim], *[n // known if s == -1 else s for s in sizes], *self.shape[dim + 1 :])

    def contiguous(self):
        """The tensor itself, or a contiguous copy."""
        return self if self.is_contiguous() else self.clone()

    def clone(self):
        """A copy, recorded."""
        return structured.clone(self)

    def sum_to_size(self, *size):
        """The tensor summed over what was broadcast from a shape."""
        size = as_sizes(size)
        lead = self.ndim - len(size)
        dims = [*range(lead), *[k for k in range(lead, self.ndim) if size[k - lead] == 1 != self.shape[k]]]
        made = self.sum(dims, keepdim=True) if dims else self
        return made.reshape(size) if lead else made

    def as_strided(self, size, stride, storage_offset=None):
        """Any shape and strides over the storage."""
        offset = 0 if storage_offset is None else storage_offset - self.storage_offset()
        return views.as_strided(self, tuple(size), tuple(stride), offset)

    # reductions

    def sum(self, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
        """Sum of the elements, of all dimensions or of some."""
        return reduced(reductions.sum, self, dim, keepdim, dtype, axis, keepdims)

    def prod(self, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
        """Product of the elements, of all dimensions or of some."""
        return reduced(reductions.prod, self, dim, keepdim, dtype, axis, keepdims)

    def prod_dims(self, dim):
        return reduced(reductions.prod, self, dim, True, None, None, None)

    def amax(self, dim=None, keepdim=False, *, axis=None, keepdims=None):
        """Largest element, of all dimensions or of some."""
        return reduced(reductions.amax, self, dim, keepdim, None, axis, keepdims, "amax")

    def amin(self, dim=None, keepdim=False, *, axis=None, keepdims=None):
        """Smallest element, of all dimensions or of some."""
        return reduced(reductions.amin, self, dim, keepdim, None, axis, keepdims, "amin")

    def all(self, dim=None, keepdim=False, *, axis=None, keepdims=None):
        """Whether all elements are true."""
        return reduced(reductions.all, self.to(dtypes.bool), dim, keepdim, None, axis, keepdims)

    def any(self, dim=None, keepdim=False, *, axis=None, keepdims=None):
        """Whether any element is true."""
        return reduced(reductions.any, self.to(dtypes.bool), dim, keepdim, None, axis, keepdims)

    def mean(self, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
        """Mean of the elements, of all dimensions or of some."""
        x = self if dtype is None else self.to(dtype)
        if not x.dtype.is_floating_point:
            raise RuntimeError(
                "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: "
                f"{x.dtype.name}"
            )
        total = x.sum(dim, keepdim, axis=axis, keepdims=keepdims)
        return total / builtins.float(x.numel() / max(total.numel(), 1)) if total.numel() else total

    # in-place

    def copy_(self, source):
        """Overwrite the elements with those of another tensor, converted and broadcast."""
        return written(self, as_operand(source))

    def fill_(self, value):
        """Overwrite all elements with one value."""
        return written(self, value)

    def zero_(self):
        """Overwrite all elements with zero."""
        return written(self, 0)

    def masked_fill(self, mask, value):
        """A copy with `value` where the mask is true."""
        return where(mask, value, self)


def written(out, source):
    """out[...] = source, recorded as a copy, counted as a write."""
    source = source if isinstance(source, TensorBase) else tensor(source, dtype=out.dtype)
    wanted = get_grad() and (source.requires_grad or out.requires_grad)
    op = OPS["copy"]
    entries.check_writable(op.address, out, builtins.int(wanted))
    source_fit = source.expand(out.shape) if source.shape != out.shape else source
    entries.copy_data(out, source_fit.clone() if source_fit._base is not None else source_fit)
    entries.bump_version(out, op.address)
    if wanted and out.dtype.is_floating_point:
        entries.record_python(
            op.address,
            out,
            (source_fit if source.requires_grad else None,),
            (),
            (),
            hold((["source"], ["source"], [], {})),
            1,
        )
    return out


def filled(shape, x):
    """A shape whose -1 is worked out, checked against the number of elements."""
    known = Size(n for n in shape if n != -1).numel()
    numel = x.numel()
    if -1 in shape and known:
        shape = tuple(numel // known if n == -1 else n for n in shape)
    if Size(shape).numel() != numel or -1 in shape:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape


def reduced(op, x, dim, keepdim, dtype, axis, keepdims, name=None):
    """Run a reduction over dimensions given in PyTorch's or NumPy's words."""
    dim = axis if dim is None else dim
    keepdim = keepdim if keepdims is None else keepdims
    if dtype is not None:
        x = x.to(dtype)
    dims = range(x.ndim) if dim is None or dim == () else [dim] if isinstance(dim, builtins.int) else dim
    dims = tuple(wrap_dim(d, x.ndim) for d in dims) if x.ndim else ()
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"dim {dims[0]} appears multiple times in the list of dims")
    if name and x.numel() == 0 and builtins.any(x.shape[d] == 0 for d in dims):
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the "
            "'dim' argument."
        )
    code = x.dtype.code
    result = int64_code if code < int64_code and op.name in ("sum", "prod") else code
    mask = builtins.sum(1 << d for d in dims)
    out = entries.run_reduction(op.address, x, mask, builtins.int(keepdim), result)
    return record(op, out, {"x": x}, {"size": x.shape, "dim": dims, "keepdim": keepdim})


int64_code = CODES[np.dtype(np.int64)]


def moved(ndim, source, destination):
    order = [d for d in range(ndim) if d not in [s % ndim for s in source]]
    for d, s in sorted(zip([d % ndim for d in destination], [s % ndim for s in source], strict=True)):
        order.insert(d, s)
    return order


# creation


def new(shape, dtype, requires_grad=False, zeros=False):
    """A tensor of a shape, uninitialised or zero."""
    d = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    shape = as_sizes(shape)
    if builtins.any(n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    made = (entries.new_zeros if zeros else entries.new_empty)(shape, d.code)
    if requires_grad:
        made.requires_grad_()
    return made


def as_array(data, dtype):
    """Data as an array of one of our dtypes."""
    if isinstance(data, TensorBase):
        array = data.array()
    elif isinstance(data, (list, tuple)) and data and builtins.any(isinstance(d, TensorBase) for d in data):
        array = np.stack([d.array() if isinstance(d, TensorBase) else np.asarray(d) for d in data])
    else:
        array = np.asarray(data)
        if not isinstance(data, (np.ndarray, np.generic)) and array.dtype == np.float64:
            array = array.astype(dtypes.get_default_dtype().numpy)
    if dtype is not None:
        array = array.astype(dtypes.as_dtype(dtype).numpy)
    elif array.size == 0 and not isinstance(data, (np.ndarray, TensorBase)):
        array = array.astype(dtypes.get_default_dtype().numpy)
    if array.dtype not in CODES:
        raise TypeError(f"can't convert data of type {array.dtype} to a tensor")
    return array


def tensor(data, dtype=None, device=None, requires_grad=False):
    """A new tensor with a copy of the data: numbers, nested sequences, arrays, tensors.

    Python floats become the default dtype (float32), integers int64; arrays keep theirs.
    """
    array = as_array(data, dtype)
    d = dtypes.as_dtype(array.dtype)
    if requires_grad and not d.is_floating_point:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    made = entries.new_empty(array.shape, d.code)
    made.array()[...] = array
    if requires_grad:
        made.requires_grad_()
    return made


def rebuild(array, requires_grad):
    """A tensor from its pickled parts."""
    return tensor(array, requires_grad=requires_grad)


def from_numpy(array):
    """A tensor that shares the memory of an array, negative strides included."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    if array.dtype not in CODES:
        raise TypeError(f"can't convert np.ndarray of type {array.dtype}")
    if array.ndim > RANK:
        raise RuntimeError(f"a tensor has at most {RANK} dimensions, not {array.ndim}")
    if not array.flags.writeable:
        raise ValueError("from_numpy: the array is read-only, and a tensor can be written; copy it, or use nt.tensor")
    return entries.new_foreign(array.ctypes.data, array.shape, array.strides, CODES[array.dtype], hold(array))


def where(condition, input, other):
    """Of each pair the first element where the condition holds, else the second."""
    return globals_of_ops["where"](condition, input, other)


# ops as functions and methods

UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "true_divide": "div",
    "divide": "div",
    "negative": "neg",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "tanh": "tanh",
    "sin": "sin",
    "cos": "cos",
    "power": "pow",
    "absolute": "abs",
    "matmul": "matmul",
    "equal": "eq",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
}
globals_of_ops: dict = {}


def publish_pointwise(op):
    """The function, method and in-place method of a pointwise op."""
    names = ["input" if n == "x" else "other" if n == "y" else n for n in op.inputs]
    fast, fast_in_place, fast_out = [
        native_function(entries_address, lambda *args: declined(op, args), op.address)
        for entries_address in (entries.call_pointwise.address, entries.call_in_place.address, entries.call_out.address)
    ]

    def ordered(args, kwargs):
        """The operands in their order, by position, name or default."""
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            given[{"x1": "input", "x2": "other"}.get(name, name)] = value
        for name, parameter in zip(names, op.parameters, strict=True):
            if name not in given:
                if parameter.default is parameter.empty:
                    raise TypeError(f"{op.name}() missing argument '{name}'")
                given[name] = parameter.default
        if len(given) != len(names) or len(args) > len(names):
            raise TypeError(f"{op.name}() takes the arguments {', '.join(names)}; got {', '.join(given)}")
        return [as_operand(given[name]) for name in names]

    def slow(*args, out=None, **kwargs):
        values = ordered(args, kwargs)
        if not builtins.any(isinstance(v, TensorBase) for v in values[: op.row["tensors"]]):
            values[0] = tensor(values[0])
        if out is None:
            return fast(*values)
        if builtins.any(isinstance(v, TensorBase) and v.requires_grad for v in values) and get_grad():
            raise RuntimeError(
                f"{op.name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
                "arguments requires grad."
            )
        return fast_out(*values, out)

    def slow_in_place(*args, **kwargs):
        return fast_in_place(*ordered(args, kwargs))

    for f, name in ((slow, op.name), (slow_in_place, op.name + "_")):
        f.__name__ = f.__qualname__ = name
        f.__doc__ = op.__doc__
    globals_of_ops[op.name] = native_function(entries.call_pointwise.address, slow, op.address)
    method_in_place = native_function(entries.call_in_place.address, slow_in_place, op.address)
    if op.name not in ("to", "where", "where_positive", "pow_slope", "pow_log"):
        setattr(Tensor, op.name, globals_of_ops[op.name])
        if op.row["result"] == 0:
            setattr(Tensor, op.name + "_", method_in_place)


def declined(op, args):
    raise TypeError(f"{op.name}: unsupported operand types: {', '.join(type(a).__name__ for a in args)}")


for op_ in list(OPS.values()):
    if isinstance(op_, Pointwise):
        publish_pointwise(op_)

OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow"}


def reflected(f):
    return lambda self, other: f(other, self)


for word_, name_ in OPERATORS.items():
    setattr(Tensor, f"__{word_}__", globals_of_ops[name_])
    setattr(Tensor, f"__r{word_}__", reflected(globals_of_ops[name_]))
    setattr(Tensor, f"__i{word_}__", getattr(Tensor, name_ + "_"))
for name_ in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "abs"):
    setattr(Tensor, f"__{name_}__", globals_of_ops[name_])
Tensor.__pos__ = lambda self: self


def matmul(input, other):
    """Matrix product of two tensors, of all ranks, with broadcast batch dimensions."""
    x, y = as_operand(input), as_operand(other)
    if x.dtype is not y.dtype:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {x.dtype.name} != {y.dtype.name}")
    if x.ndim == 0 or y.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {x.ndim}D and {y.ndim}D")
    k = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != k:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, x.shape))} and {'x'.join(map(str, y.shape))})"
        )
    return structured.matmul(x, y)


Tensor.matmul = Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = reflected(matmul)
python.tensor_class[1] = id(Tensor)
