"""The Tensor of Python: a thin box around one address, with the methods that are not declared ops."""

import builtins
import functools
import warnings
import weakref

import numpy as np

from numbatensor import dtypes, exchange, graph_nodes, printing
from numbatensor.core import aliases, entries, node_entries, python
from numbatensor.core.compiler import address
from numbatensor.core.graph import RETAINS
from numbatensor.core.handles import hold
from numbatensor.core.modes import INFERENCE, get_mode
from numbatensor.core.promotion import CODES, DTYPES
from numbatensor.core.python import TensorBase, native_function
from numbatensor.core.records import RANK, Output, Storage, view_record
from numbatensor.core.sites import writer
from numbatensor.devices import device as Device
from numbatensor.devices import device_of, number_of
from numbatensor.hollow import EmptyBox, hollow
from numbatensor.messages import long_name
from numbatensor.op import OPS
from numbatensor.ops import views


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


def array_over(tensor, alias):
    """A NumPy array over a tensor's memory. `alias`: whether it counts, since not only the library has it."""
    shape, memory, offset, strides = aliases.shown(tensor, alias)
    return np.ndarray(shape, DTYPES[tensor.dtype.code], memory, offset, strides)


def on_cpu(tensor):
    """The tensor itself, or an unrecorded copy of what is on a device."""
    return OPS["moved"](tensor.detach(), 0, number_of(tensor.device)) if tensor.is_cuda else tensor


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
    return tuple(map(builtins.int, sizes))


def reader(code, field):
    """A function of a tensor that reads a field of its record."""

    def declined(*args):
        raise TypeError(f"expected one Tensor, not {', '.join(type(a).__name__ for a in args)}")

    return native_function(address(code), declined, field)


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
    ndim = property(reader("get_field", entries.NDIM), doc="The number of dimensions.")
    dtype = property(lambda self: dtypes.ALL[entries.get(self, entries.DTYPE)], doc="The type of the elements.")
    itemsize = property(lambda self: self.dtype.itemsize, doc="Bytes of an element.")
    device = property(device_of, doc="Where the elements are.")
    _device_name = property(lambda self: str(self.device), doc="The device, as text.")
    is_cuda = property(reader("get_flag", entries.DEVICE), doc="Whether the elements are on a CUDA device.")
    is_leaf = property(
        lambda self: not self.requires_grad or self.grad_fn is None, doc="Whether no recorded op made this tensor."
    )
    grad_fn = property(graph_nodes.node_of, doc="The node of the graph that this tensor came from; None for a leaf.")
    _version = property(reader("get_field", entries.VERSION), doc="How often the storage was written in place.")
    _base = property(
        lambda self: entries.box_of(entries.get(self, entries.BASE)), doc="The tensor that this is a view of."
    )
    T = property(lambda self: views.reverse_dimensions(self), doc="The tensor with its dimensions reversed.")
    mT = property(lambda self: views.transpose(self, -2, -1), doc="The tensor with its last two dimensions swapped.")

    def size(self, dim=None):
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[wrap_dim(dim, self.ndim)]

    def stride(self, dim=None):
        """The steps between neighbours in each dimension, in elements."""
        steps = tuple(s // self.itemsize for s in entries.stride_tuple(self))
        return steps if dim is None else steps[wrap_dim(dim, self.ndim)]

    dim = reader("get_field", entries.NDIM)
    numel = nelement = reader("get_field", entries.NUMEL)
    data_ptr = reader("get_field", entries.DATA)
    is_contiguous = reader("get_flag", entries.CONTIGUOUS)

    def storage_offset(self):
        """Elements between the start of the storage and the first element."""
        start = int(view_record(entries.get(self, entries.STORAGE), Storage)["data"])
        return (self.data_ptr() - start) // self.itemsize

    def is_floating_point(self):
        """Whether the elements are floats."""
        return self.dtype.is_floating_point

    is_inference = reader("get_flag", entries.INFERENCE)

    def _set_requires_grad(self, value):
        if value and self.is_inference() and not get_mode() & INFERENCE:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        if value and not self.dtype.is_floating_point:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if not value and not self.is_leaf:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        entries.set_requires_grad(self, builtins.int(value))

    requires_grad = property(
        reader("get_flag", entries.REQUIRES_GRAD),
        _set_requires_grad,
        doc="Whether operations on this tensor are recorded.",
    )

    def requires_grad_(self, requires_grad=True):
        """Record operations on this leaf, or stop recording them."""
        self.requires_grad = requires_grad
        return self

    def _boxed_grad(self):
        """The gradient that backward passes have accumulated; None before the first. The tensor keeps its box alive."""
        held = view_record(node_entries.grad_holder(self), Output)["grad"] if entries.get(self, entries.NODE) else 0
        if not held:
            self.__dict__.pop("_grad", None)
            if not self.is_leaf:
                warnings.warn(
                    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be "
                    "populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, "
                    "use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the "
                    "leaf Tensor instead.",
                    stacklevel=2,
                )
            return None
        made = entries.box_of(int(held))
        self.__dict__["_grad"] = made
        made.__dict__["_of"] = weakref.ref(self)
        return made

    def _set_grad(self, value):
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
            node_entries.set_kept_grad(node_entries.grad_holder(self), value)

    grad = property(
        native_function(address("get_grad_box"), _boxed_grad),
        _set_grad,
        doc="The gradient that backward passes have accumulated; None before the first.",
    )

    def _set_data(self, value):
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if self.requires_grad and not value.dtype.is_floating_point:
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        if self._base is not None or not self.is_leaf:
            raise RuntimeError("data can be set of leaves only, which are no views")
        owner = self.__dict__.get("_of", lambda: None)()
        kept = owner is not None and owner.grad is self
        entries.adopt(self, entries.detach(value))
        if kept:  # the tensor whose `.grad` this is goes on having it
            node_entries.set_kept_grad(node_entries.grad_holder(owner), self)

    data = property(
        lambda self: entries.detach(self),
        _set_data,
        doc="The same memory without the history; writes through it are counted. Setting it makes a leaf show other memory.",
    )

    def retain_grad(self):
        """Keep the gradient of a tensor that is not a leaf."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if not self.is_leaf:
            node_entries.slow_down(node_entries.leaf_node(self), RETAINS)
            view_record(node_entries.grad_holder(self), Output)["retains"] = 1

    retains_grad = property(
        lambda self: not self.is_leaf and builtins.bool(view_record(node_entries.grad_holder(self), Output)["retains"]),
        doc="Whether the gradient of a tensor that is not a leaf is kept.",
    )

    def detach(self):
        """The same memory and version counter, without the history."""
        return entries.detach(self)

    def detach_(self):
        """Forget the history."""
        if self._base is not None:
            raise RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for training, and "
                "gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence detach_() cannot be called on "
                "these gradients. To fix this error, please refer to the Optimizer.zero_grad() function in torch/optim/optimizer.py as "
                "the solution."
            )
        entries.drop_node(self)
        return self

    # memory shared with NumPy

    def array(self):
        """A NumPy array over the memory, for the library's own use: it is not counted as an alias.

        Of a device's memory, a copy; of bfloat16, which NumPy does not have, one in float32.
        """
        here = on_cpu(self)
        return array_over(here.detach().float() if self.dtype is dtypes.bfloat16 else here, 0)

    def bits(self):
        """The same of float16 and bfloat16 as they are in memory: unsigned integers."""
        return array_over(on_cpu(self), 0).view(np.uint16)

    def numpy(self):
        """A NumPy array that shares the memory.

        Writes to it are not counted. But what a graph saves of the memory while the array lives, or a view of it, is checksummed,
        and compared before it is used.
        """
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.is_cuda:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        if self.dtype is dtypes.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16: NumPy does not have it. Use Tensor.float() first.")
        return array_over(self, 1)

    def __array__(self, dtype=None, copy=None):
        made = self.numpy()
        if dtype is not None and np.dtype(dtype) != made.dtype:
            if copy is False:
                raise ValueError("a copy is needed to convert the dtype")
            return made.astype(dtype)
        return made.copy() if copy else made

    @property
    def __cuda_array_interface__(self):
        """How libraries of kernels see a tensor of a device; it counts as written when this is asked for."""
        if self.is_cuda:
            return exchange.interface(self)
        raise AttributeError(
            f"Can't get __cuda_array_interface__ on non-CUDA tensor type: numbatensor.{long_name(self.dtype.code)}Tensor. A kernel of "
            "@cuda.jit needs memory of the GPU, and this Tensor is on the CPU."
        )

    def __dlpack_device__(self):
        """DLPack's numbers of where the tensor is."""
        return exchange.dlpack_device(self)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        """A capsule of the memory, for another library.

        Parameters
        ----------
        stream : int, optional
            The stream of the device on which the consumer will use it, which waits for what is under way; -1: it does not.
        max_version : (int, int), optional
            The version of DLPack that the consumer knows.
        dl_device : (int, int), optional
            Where the consumer wants it: a copy for the CPU, (1, 0), of what a device has.
        copy : bool, optional
            True: give a copy. False: fail rather than copy.
        """
        return exchange.to_dlpack(self, stream, max_version, dl_device, copy)

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

    def __format__(self, spec):
        if self.ndim == 0:
            return format(self.item(), spec)
        return object.__format__(self, spec)

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
        return rebuild, (self.detach().array().copy(), self.requires_grad, self.dtype)

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
        return printing.text(self)

    # dtypes

    def to(self, *args, dtype=None, device=None, copy=False):
        """The tensor in another dtype, on another device, or as another tensor is; itself where it has both.

        Parameters
        ----------
        *args : dtype, device or Tensor
        dtype : dtype, optional
        device : device or str or int, optional
        copy : bool
            Give a new tensor in any case.
        """
        for a in args:
            if isinstance(a, TensorBase):
                dtype, device = a.dtype, a.device
            elif isinstance(a, Device) or (isinstance(a, str) and a.partition(":")[0] in ("cpu", "cuda")):
                device = a
            elif isinstance(a, builtins.int) and not isinstance(a, builtins.bool):
                device = a
            else:
                dtype = a
        made = self
        if dtype is not None and dtypes.as_dtype(dtype) is not self.dtype:
            made = entries.to_dtype(self, dtypes.as_dtype(dtype).code)
        if device is not None:
            source, target = number_of(self.device), number_of(device)
            if source != target:
                made = OPS["moved"](made, target, source)
        return made.clone() if copy and made is self else made

    def cpu(self):
        """The tensor on the CPU; itself where it is there."""
        return self.to("cpu")

    def cuda(self, device=None):
        """The tensor on a CUDA device; itself where it is there."""
        return self.to("cuda" if device is None else device)

    def get_device(self):
        """The number of the CUDA device, -1 on the CPU."""
        return entries.get(self, entries.DEVICE) - 1

    def record_stream(self, stream):
        """Keep the memory from being used anew until a stream of the device, which works with it unknown to the library, has passed."""
        stream.record(self)

    def type_as(self, other):
        """The tensor in the dtype of another."""
        return self.to(other.dtype)

    # views and reductions that declared ops do not offer in PyTorch's form

    def movedim(self, source, destination):
        """The tensor with dimensions moved to other places."""
        source = [source] if isinstance(source, builtins.int) else source
        destination = [destination] if isinstance(destination, builtins.int) else destination
        return self.permute(*moved(self.ndim, source, destination))

    def expand_as(self, other):
        """The tensor broadcast to the shape of another."""
        return self.expand(other.shape)

    def view_as(self, other):
        """The same memory in the shape of another tensor."""
        return self.view(other.shape)

    def reshape_as(self, other):
        """The same elements in the shape of another tensor."""
        return self.reshape(other.shape)

    def broadcast_to(self, size):
        """The tensor broadcast to a shape."""
        return self.expand(size)

    def flatten(self, start_dim=0, end_dim=-1):
        """Dimensions from `start_dim` to `end_dim` joined into one."""
        if self.ndim == 0:
            return self.reshape(1)
        a, b = wrap_dim(start_dim, self.ndim), wrap_dim(end_dim, self.ndim)
        if a > b:
            raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
        return self.reshape(*self.shape[:a], Size(self.shape[a : b + 1]).numel(), *self.shape[b + 1 :])

    def unflatten(self, dim, sizes):
        """A dimension split into several."""
        dim = wrap_dim(dim, self.ndim)
        n = self.shape[dim]
        known = Size(s for s in sizes if s != -1).numel()
        full = [n // known if s == -1 and known else s for s in sizes]
        if Size(full).numel() != n:
            raise RuntimeError(
                f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({n}) in the input tensor"
            )
        return self.reshape(*self.shape[:dim], *full, *self.shape[dim + 1 :])

    def contiguous(self):
        """The tensor itself, or a contiguous copy."""
        return self if self.is_contiguous() else self.clone()

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
        steps = tuple(s * self.itemsize for s in stride)
        return views.as_strided(
            self, tuple(self.shape), entries.stride_tuple(self), tuple(size), steps, offset * self.itemsize
        )

    # in-place

    def copy_(self, source):
        """Overwrite the elements with those of another tensor, converted and broadcast."""
        return written(self, as_operand(source), COPY)

    def fill_(self, value):
        """Overwrite all elements with one value."""
        if isinstance(value, TensorBase) and value.ndim:
            raise RuntimeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
            )
        return written(self, as_operand(value), FILL)

    def zero_(self):
        """Overwrite all elements with zero."""
        return written(self, 0, ZERO)


COPY, FILL, ZERO = map(writer, ("copy_", "fill_", "zero_"))


def written(out, source, writer):
    """out[...] = source, recorded as a copy, counted as a write of a writer."""
    if isinstance(source, builtins.int) and abs(source) >= 1 << 63:
        raise RuntimeError(f"value {source} cannot be converted to type {out.dtype.name} without overflow")
    try:
        return entries.write_into(out, source, writer)
    except EmptyBox:
        inner = hollow((out, source))
        if inner is None:
            raise
        return inner.write(out, source, writer)


def moved(ndim, source, destination):
    source, destination = ([wrap_dim(d, ndim) for d in dims] for dims in (source, destination))
    order = [d for d in range(ndim) if d not in [s % ndim for s in source]]
    for d, s in sorted(zip([d % ndim for d in destination], [s % ndim for s in source], strict=True)):
        order.insert(d, s)
    return order


# creation


def new(shape, dtype, requires_grad=False, zeros=False, device=None):
    """A tensor of a shape, uninitialised or zero."""
    d = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    shape = as_sizes(shape)
    if shape and builtins.min(shape) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {builtins.min(shape)}: {list(shape)}")
    made = (entries.new_zeros if zeros else entries.new_empty)(shape, d.code, number_of(device))
    if requires_grad:
        made.requires_grad_()
    return made


def placed(made, device):
    """A new leaf on a device."""
    if device is None or number_of(device) == number_of(made.device):
        return made
    return made.detach().to(device).requires_grad_(made.requires_grad)


def as_array(data, dtype):
    """Data as an array of one of our dtypes, and the dtype that a tensor of it has."""
    chosen = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, TensorBase):
        array, chosen = data.array(), chosen or data.dtype
    elif isinstance(data, (list, tuple)) and data and builtins.any(isinstance(d, TensorBase) for d in data):
        array = np.stack([d.array() if isinstance(d, TensorBase) else np.asarray(d) for d in data])
        if builtins.all(isinstance(d, TensorBase) for d in data):
            chosen = chosen or functools.reduce(dtypes.promote_types, (d.dtype for d in data))
    else:
        array = np.asarray(data)
        if not isinstance(data, (np.ndarray, np.generic)) and (array.dtype == np.float64 or array.size == 0):
            chosen = chosen or dtypes.get_default_dtype()
    if chosen is None and array.dtype.name == "bfloat16":
        chosen = dtypes.bfloat16
    if chosen is not None:
        with np.errstate(over="ignore"):  # beyond the numbers of float16 lie infinities
            array = array.astype(chosen.numpy)
    if array.dtype not in CODES:
        raise TypeError(f"can't convert data of type {array.dtype} to a tensor")
    return array, chosen or dtypes.as_dtype(array.dtype)


def tensor(data, dtype=None, device=None, requires_grad=False):
    """A new tensor with a copy of the data: numbers, nested sequences, arrays, tensors.

    Python floats become the default dtype (float32), integers int64; arrays keep theirs.
    """
    if hasattr(data, "__cuda_array_interface__") and not isinstance(data, TensorBase):
        made = exchange.from_interface(data).clone().to(dtype=dtype, device=device)
        return made.requires_grad_() if requires_grad else made
    array, d = as_array(data, dtype)
    if requires_grad and not d.is_floating_point:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    made = entries.new_empty(array.shape, dtypes.as_dtype(array.dtype).code, 0)
    made.array()[...] = array
    made = made.to(d)
    if device is not None:
        made = made.to(device)
    if requires_grad:
        made.requires_grad_()
    return made


def rebuild(array, requires_grad, dtype):
    """A tensor from its pickled parts."""
    return tensor(array, dtype, requires_grad=requires_grad)


def from_numpy(array):
    """A tensor that shares the memory of an array, negative strides included."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    try:
        code = dtypes.code_of(array.dtype)
    except KeyError:
        raise TypeError(f"can't convert np.ndarray of type {array.dtype}") from None
    if array.ndim > RANK:
        raise RuntimeError(f"a tensor has at most {RANK} dimensions, not {array.ndim}")
    if not array.flags.writeable:
        raise ValueError("from_numpy: the array is read-only, and a tensor can be written; copy it, or use nt.tensor")
    if builtins.any(s % array.itemsize for s in array.strides) or array.ctypes.data % array.itemsize:
        raise ValueError("from_numpy: the elements of the array are not aligned; copy it, or use nt.tensor")
    return entries.new_foreign(array.ctypes.data, array.shape, array.strides, code, hold(array), 0)


# ops as functions and methods

functions: dict = {}  # by name; `publish.py` puts them here


python.tensor_class[1] = id(Tensor)
