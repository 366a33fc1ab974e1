"""Memory shared with other libraries: DLPack in both directions, and `__cuda_array_interface__`.

What others write is not counted. Of the CPU's memory that they share, what a graph saves is checksummed, as for NumPy's arrays; memory of
a device counts as written where it is handed out.
"""

import ctypes
import sys

import numpy as np

from numbatensor import dtypes
from numbatensor.core import capsules, entries
from numbatensor.core.handles import hold
from numbatensor.core.promotion import BFLOAT16_BITS, CODES
from numbatensor.core.records import RANK, Storage, view_record
from numbatensor.devices import number_of

CPU, CUDA, CUDA_HOST = 1, 2, 3  # DLPack's numbers
KINDS, BRAIN = {"i": 0, "u": 1, "f": 2, "b": 6}, 4  # of types, by NumPy's letters, and that of bfloat16
BRAIN_STRING = "<V2"  # what others call it, too, where NumPy's words are meant
READ_ONLY, COPIED = 1, 2
LEGACY = 1  # the default stream, as both protocols number it

python = ctypes.pythonapi
python.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
python.PyCapsule_GetPointer.restype = ctypes.c_void_p
python.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
taken = [b"used_dltensor", b"used_dltensor_versioned"]


class Array(ctypes.Structure):
    """DLPack's DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("kind", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    ]


class Managed(ctypes.Structure):
    """DLPack's DLManagedTensor."""

    _fields_ = [("array", Array), ("owner", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class Versioned(ctypes.Structure):
    """DLPack's DLManagedTensorVersioned."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("owner", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("array", Array),
    ]


def streams():
    """The module of streams, which is loaded where a device is in use."""
    return sys.modules["numbatensor.cuda.streams"]


def dlpack_device(tensor):
    """DLPack's numbers of where a tensor is."""
    return (CUDA, tensor.get_device()) if tensor.is_cuda else (CPU, 0)


def to_dlpack(tensor, stream=None, max_version=None, dl_device=None, copy=None):
    """A capsule of a tensor's memory: see `Tensor.__dlpack__`."""
    if tensor.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    here = dlpack_device(tensor)
    wanted = here if dl_device is None else tuple(map(int, dl_device))
    flags = 0
    if wanted != here:
        if wanted != (CPU, 0) or copy is False:
            raise BufferError(f"memory of {tensor.device} cannot be had as DLPack device {wanted} without a copy")
        tensor, flags = tensor.cpu(), COPIED
    elif copy:
        tensor, flags = tensor.clone(), COPIED
    if tensor.is_cuda:
        offer(tensor, stream)
    elif stream is not None and wanted == here:
        raise BufferError("stream must be None for a tensor of the CPU")
    if not flags & COPIED and tensor.is_cuda:
        entries.count_write(tensor)
    kind, number = dlpack_device(tensor)
    dtype = tensor.dtype
    letter = BRAIN if dtype is dtypes.bfloat16 else KINDS[dtype.numpy.kind]
    return capsules.to_capsule(
        tensor,
        int(max_version is not None and max_version[0] >= 1),
        kind | number << 32,
        letter | 8 * dtype.itemsize << 8 | 1 << 16,
        flags,
    )


def offer(tensor, stream):
    """Let the stream of a consumer wait for what is under way for a tensor. -1: it does not want to wait."""
    if stream == 0:
        raise BufferError("stream 0 is ambiguous: pass 1 for CUDA's default stream, or 2 for the thread's")
    if stream != -1:
        streams().order_after(tensor.get_device() + 1, LEGACY if stream is None else int(stream), theirs_waits=True)


class Foreign:
    """What another library has given: it is told when nothing of ours uses it any more."""

    def __init__(self, record, deleter):
        self.record, self.deleter = record, deleter

    def __del__(self):
        if self.deleter:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.deleter)(self.record)


def foreign(address, shape, strides, dtype, owner, device):
    """A tensor over memory that another library owns. `strides`: in bytes, None where it is contiguous."""
    if dtype not in CODES:
        raise TypeError(f"can't convert data of type {dtype} to a tensor")
    if len(shape) > RANK:
        raise RuntimeError(f"a tensor has at most {RANK} dimensions, not {len(shape)}")
    if strides is None:
        strides = [int(dtype.itemsize * np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape))]
    if address % dtype.itemsize or any(s % dtype.itemsize for s in strides):
        raise ValueError("the elements of the array are not aligned; copy it first")
    return entries.new_foreign(address, tuple(shape), tuple(strides), CODES[dtype], hold(owner), device)


def request(array, **options):
    """A capsule of an object; a library may know less of the protocol than we do."""
    while True:
        try:
            return array.__dlpack__(**options)
        except TypeError:
            if not options:
                raise
            options.popitem()


def from_dlpack(array, device=None, copy=None):
    """A tensor that shares the memory of another library's array (NumPy, PyTorch, CuPy, JAX), by the DLPack protocol.

    Parameters
    ----------
    array : object
        With `__dlpack__` and `__dlpack_device__`.
    device : device or str, optional
        Where the tensor shall be: a copy, where the array is somewhere else.
    copy : bool, optional
        True: give a copy. False: fail rather than copy.
    """
    kind, k = map(int, array.__dlpack_device__())
    if kind not in (CPU, CUDA, CUDA_HOST):
        raise BufferError(f"a tensor cannot share memory of DLPack device type {kind}")
    number, options = 0, {}
    if kind == CUDA:
        number = number_of(f"cuda:{k}")
        options["stream"] = streams().current_stream(f"cuda:{k}").cuda_stream
    options["max_version"] = (1, 0)
    capsule = request(array, **options)
    versioned = python.PyCapsule_IsValid(capsule, b"dltensor_versioned")
    name = b"dltensor_versioned" if versioned else b"dltensor"
    if not python.PyCapsule_IsValid(capsule, name):
        raise BufferError("the capsule of this array was used before")
    place = python.PyCapsule_GetPointer(capsule, name)
    record = (Versioned if versioned else Managed).from_address(place)
    if versioned and record.major > 1:
        raise BufferError(f"the array speaks DLPack {record.major}.{record.minor}, of which only 1 is known")
    x = record.array
    read_only = versioned and record.flags & READ_ONLY
    brain = (x.kind, x.bits) == (BRAIN, 16)
    if x.lanes != 1 or not (brain or x.kind in KINDS.values()):
        raise BufferError(f"a tensor has no dtype for DLPack's type {x.kind} of {x.bits} bits in {x.lanes} lanes")
    letter = {number: letter for letter, number in KINDS.items()}.get(x.kind)
    dtype = BFLOAT16_BITS if brain else np.dtype(bool) if letter == "b" else np.dtype(f"{letter}{x.bits // 8}")
    shape = x.shape[: x.ndim]
    strides = [s * dtype.itemsize for s in x.strides[: x.ndim]] if x.strides else None
    if read_only and not copy:
        raise BufferError("the array is read-only, and a tensor can be written; pass copy=True")
    python.PyCapsule_SetName(capsule, taken[versioned])
    made = foreign((x.data or 0) + x.offset, shape, strides, dtype, Foreign(place, record.deleter), number)
    return settled(made, device, copy)


def settled(made, device, copy):
    """A tensor on the device where it is wanted."""
    if device is not None and number_of(device) != made.get_device() + 1:
        if copy is False:
            raise BufferError(f"the array is on {made.device}: it cannot be had on {device} without a copy")
        return made.to(device)
    return made.clone() if copy else made


def interface(tensor):
    """The `__cuda_array_interface__` of a tensor of a device."""
    if tensor.requires_grad:
        raise RuntimeError(
            "Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't required, use var.detach() to get "
            "Variable that doesn't require grad."
        )
    entries.count_write(tensor)
    stream = streams().current_stream(tensor.device)
    return {
        "shape": tuple(tensor.shape),
        "strides": None if tensor.is_contiguous() else entries.stride_tuple(tensor),
        "typestr": BRAIN_STRING if tensor.dtype is dtypes.bfloat16 else tensor.dtype.numpy.str,
        "data": (tensor.data_ptr() if tensor.numel() else 0, False),
        "version": 3,
        "stream": stream.cuda_stream,
    }


def from_interface(array):
    """A tensor over the memory of an object that has `__cuda_array_interface__`."""
    found = array.__cuda_array_interface__
    address, read_only = found["data"]
    if read_only:
        raise ValueError("the array is read-only, and a tensor can be written; copy it first")
    if found.get("mask") is not None:
        raise ValueError("masked arrays are not supported")
    number_of("cuda")
    number = streams().device_of(address) if address else number_of("cuda")
    stream = found.get("stream")
    if stream is not None:
        streams().order_after(number, int(stream), theirs_waits=False)
    dtype = BFLOAT16_BITS if found["typestr"] == BRAIN_STRING else np.dtype(found["typestr"])
    return foreign(address, found["shape"], found.get("strides"), dtype, array, number)


def from_array(array):
    """A new tensor with the elements of an array; takes over a fresh array's memory."""
    array = np.asarray(array)
    array = array.astype(np.float64) if array.dtype == np.longdouble else array
    array = array if array.flags.writeable else array.copy()
    made = entries.new_foreign(array.ctypes.data, array.shape, array.strides, CODES[array.dtype], hold(array), 0)
    view_record(entries.get(made, entries.STORAGE), Storage)["aliases"] = 0
    return made
