"""Files of tensors, read without running any code: NumPy's zip of arrays, with a table of contents in JSON."""

import json

import numpy as np

from numbatensor.dtypes import bfloat16
from numbatensor.making import tensor
from numbatensor.tensor import Tensor

CONTENTS = "contents"


def pack(value, arrays):
    """A value as JSON, its tensors as numbered arrays."""
    if isinstance(value, Tensor):
        x = value.detach()
        arrays.append(x.bits() if x.dtype is bfloat16 else x.array())
        return {"tensor": len(arrays) - 1, "requires_grad": value.requires_grad, "dtype": value.dtype.name}
    if isinstance(value, dict):
        return {"dict": [[pack(k, arrays), pack(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__ if type(value) in (list, tuple) else "list": [pack(v, arrays) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(
        f"save: tensors, numbers, strings, None, lists, tuples and dicts of these can be saved, not {type(value).__name__}"
    )


def unpack(value, arrays):
    (kind, content), *_ = value.items()
    if kind == "tensor":
        array = arrays[f"array{content}"]
        if value["dtype"] == bfloat16.name:  # its bits, as numbers of 16
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return tensor(array, value["dtype"], requires_grad=value["requires_grad"])
    if kind == "dict":
        return {unpack(k, arrays): unpack(v, arrays) for k, v in content}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(unpack(v, arrays) for v in content)
    return content


def save(obj, f):
    """Write tensors, and lists, tuples and dicts of them, to a path or file."""
    arrays = []
    contents = json.dumps(pack(obj, arrays))
    named = {f"array{k}": a for k, a in enumerate(arrays)}
    if hasattr(f, "write"):
        np.savez(f, **{CONTENTS: np.array(contents)}, **named)
    else:
        with open(f, "wb") as file:
            np.savez(file, **{CONTENTS: np.array(contents)}, **named)


def load(f):
    """Read what `save` wrote. No code from the file is run.

    Raises
    ------
    ValueError
        If the file is not of this kind.
    """
    with np.load(f, allow_pickle=False) as arrays:
        if CONTENTS not in arrays:
            raise ValueError(f"{f} was not written by numbatensor.save")
        return unpack(json.loads(str(arrays[CONTENTS])), arrays)
