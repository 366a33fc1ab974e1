"""Tensors as text, as PyTorch prints them."""

import numpy as np

from numbatensor import dtypes


def text(x):
    """``tensor([...], device=..., dtype=..., grad_fn=...)``"""
    array = x.array()
    kind = array.dtype.kind
    suffix = ""
    if x.dtype not in (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool):
        suffix += f", dtype={x.dtype}"
    elif array.size == 0 and x.dtype is not dtypes.get_default_dtype():
        suffix += f", dtype={x.dtype}"
    if x.grad_fn is not None:
        suffix += f", grad_fn=<{x.grad_fn.name()}>"
    elif x.requires_grad:
        suffix += ", requires_grad=True"
    name = "tensor("
    if array.size == 0:
        shown = "[]"
        if array.ndim != 1:
            suffix = f", size={tuple(array.shape)}" + suffix
    else:
        formatter = number_format(array) if kind == "f" else None
        body = array if array.ndim else array.reshape(1)
        options = {"threshold": 1000, "edgeitems": 3, "separator": ", ", "max_line_width": 80 - len(name)}
        if formatter:
            options["formatter"] = {"float_kind": formatter}
        shown = np.array2string(body, **options).replace("\n", "\n" + " " * len(name))
        if array.ndim == 0:
            shown = shown[1:-1].strip()
    place = f", device='{x.device}'" if x.is_cuda else ""
    return f"{name}{shown}{place}{suffix})"


def number_format(array):
    """How PyTorch shows the numbers of a tensor: whole, with four digits, or in powers of ten."""
    finite = np.abs(array[np.isfinite(array)].astype(np.float64))
    finite = finite[finite > 0]
    whole = finite.size == 0 or np.all(finite == np.floor(finite))
    high, low = (finite.max(), finite.min()) if finite.size else (0.0, 0.0)
    powers = finite.size and (high > 1e8 or (not whole and (high / low > 1000 or low < 1e-4)))
    if powers:
        plain = "{:.4e}".format
    elif whole:
        plain = "{:.0f}.".format
    else:
        plain = "{:.4f}".format

    def show(v):
        return plain(v) if np.isfinite(v) else "nan" if np.isnan(v) else "inf" if v > 0 else "-inf"

    width = max(len(show(v)) for v in (array.reshape(-1) if array.size <= 1000 else np.resize(array, 1000)))
    return lambda v: show(v).rjust(width)
