"""New tensors: constants and ranges."""

import numpy as np

from numbatensor import dtypes, exchange
from numbatensor.exchange import from_array
from numbatensor.hollow import Hollow
from numbatensor.making import as_sizes, from_numpy, new, placed, tensor
from numbatensor.tensor import Tensor


def empty(*size, dtype=None, requires_grad=False, device=None):
    """An uninitialised tensor."""
    return new(size, dtype, requires_grad, device=device)


def zeros(*size, dtype=None, requires_grad=False, device=None):
    """A tensor of zeros."""
    return new(size, dtype, requires_grad, zeros=True, device=device)


def full(size, fill_value, *, dtype=None, requires_grad=False, device=None):
    """A tensor of one value."""
    shape = as_sizes(size if isinstance(size, (tuple, list)) else (size,))
    made = new(shape, dtype or dtypes.as_dtype(type(fill_value)), device=device)
    if made.is_cuda:
        made.detach().fill_(fill_value)
    elif made.dtype in (dtypes.float16, dtypes.bfloat16):
        made.bits()[...] = tensor(fill_value, made.dtype).bits()
    else:
        made.array()[...] = fill_value
    return made.requires_grad_() if requires_grad else made


def ones(*size, dtype=None, requires_grad=False, device=None):
    """A tensor of ones."""
    return full(
        as_sizes(size), 1, dtype=dtype or dtypes.get_default_dtype(), requires_grad=requires_grad, device=device
    )


def like(maker):
    """The form of a maker that takes its shape and dtype from a tensor."""

    def made_like(input, *args, dtype=None, requires_grad=False, device=None, **options):
        if isinstance(input, Hollow):
            return input.kept(made_like, *args, dtype=dtype, requires_grad=requires_grad, **options)
        return maker(
            tuple(input.shape),
            *args,
            dtype=dtype or input.dtype,
            requires_grad=requires_grad,
            device=input.device if device is None else device,
            **options,
        )

    return made_like


empty_like, zeros_like, ones_like, full_like = map(like, (empty, zeros, ones, full))


def as_tensor(data, dtype=None, device=None):
    """A tensor that shares memory with the data where that is possible."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    if hasattr(data, "__cuda_array_interface__"):
        return exchange.from_interface(data).to(dtype=dtype, device=device)
    if isinstance(data, np.ndarray) and data.flags.writeable:
        made = from_numpy(data)
        return made.to(dtype=dtype, device=device)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def arange(start, end=None, step=1, *, dtype=None, requires_grad=False, device=None):
    """Numbers from `start` up to, without, `end`."""
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(v, int) for v in (start, end, step))
    d = dtypes.as_dtype(dtype) if dtype else dtypes.int64 if whole else dtypes.get_default_dtype()
    made = from_array(np.arange(start, end, step).astype(d.numpy)).to(d)
    return placed(made.requires_grad_() if requires_grad else made, device)


def linspace(start, end, steps, *, dtype=None, requires_grad=False, device=None):
    """So many numbers at equal distances, both ends included."""
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    made = from_array(np.linspace(start, end, steps).astype(d.numpy)).to(d)
    return placed(made.requires_grad_() if requires_grad else made, device)


def eye(n, m=None, *, dtype=None, requires_grad=False, device=None):
    """A matrix with ones on its diagonal."""
    d = dtypes.as_dtype(dtype) if dtype else dtypes.get_default_dtype()
    made = from_array(np.eye(n, m, dtype=d.numpy)).to(d)
    return placed(made.requires_grad_() if requires_grad else made, device)


for name, maker in (("empty", empty), ("zeros", zeros), ("ones", ones)):
    setattr(
        Tensor,
        "new_" + name,
        lambda self, *size, dtype=None, device=None, f=maker, **o: f(
            *size, dtype=dtype or self.dtype, device=self.device if device is None else device, **o
        ),
    )
Tensor.new_full = lambda self, size, value, dtype=None, device=None, **o: full(
    size, value, dtype=dtype or self.dtype, device=self.device if device is None else device, **o
)
Tensor.new_tensor = lambda self, data, dtype=None, device=None, **o: tensor(
    data, dtype=dtype or self.dtype, device=self.device if device is None else device, **o
)
