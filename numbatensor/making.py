"""Tensors made of numbers, sequences, arrays and other tensors."""

import functools

import numpy as np

from numbatensor import dtypes, exchange
from numbatensor.core import entries
from numbatensor.core.handles import hold
from numbatensor.core.promotion import CODES
from numbatensor.core.python import TensorBase
from numbatensor.core.records import RANK
from numbatensor.devices import number_of


def as_operand(x):
    """A Tensor or Python number for an argument of an op."""
    if isinstance(x, (TensorBase, bool, int, float)) and not isinstance(x, np.generic):
        return x
    if isinstance(x, np.ndarray):
        return from_numpy(x)
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"expected a Tensor or a number, not {type(x).__name__}")


def as_sizes(sizes):
    """Sizes given one by one or as one sequence."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    return tuple(map(int, sizes))


def new(shape, dtype, requires_grad=False, zeros=False, device=None):
    """A tensor of a shape, uninitialised or zero."""
    d = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    shape = as_sizes(shape)
    if shape and min(shape) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
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
    elif isinstance(data, (list, tuple)) and data and any(isinstance(d, TensorBase) for d in data):
        array = np.stack([d.array() if isinstance(d, TensorBase) else np.asarray(d) for d in data])
        if all(isinstance(d, TensorBase) for d in data):
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
    if any(s % array.itemsize for s in array.strides) or array.ctypes.data % array.itemsize:
        raise ValueError("from_numpy: the elements of the array are not aligned; copy it, or use nt.tensor")
    return entries.new_foreign(array.ctypes.data, array.shape, array.strides, code, hold(array), 0)
