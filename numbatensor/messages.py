"""Errors: what the core reports by number, in words."""

import numpy as np

from numbatensor.core import entries, node_entries, sites
from numbatensor.core.graph import (
    CHAINED,
    CUSTOM_VIEW,
    FUNCTION,
    INFERENCE_VIEW,
    KIND,
    MULTIPLE,
    NO_GRAD_VIEW,
    OP,
    OUTPUT,
)
from numbatensor.core.promotion import NAMES
from numbatensor.core.python import callback
from numbatensor.core.records import RANK, Arguments, Frame, Tensor, view_record
from numbatensor.core.tensors import FLOAT32
from numbatensor.hollow import EmptyBox
from numbatensor.op import BY_ADDRESS, BY_INDEX

LONG = {
    "bool": "Bool",
    "uint8": "Byte",
    "int8": "Char",
    "int16": "Short",
    "int32": "Int",
    "int64": "Long",
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
}


def long_name(code):
    """PyTorch's word for a dtype."""
    return LONG[NAMES[code]]


def shape_at(address, kind=Tensor):
    record = view_record(address, kind)
    return [int(n) for n in record["shape"][: record["ndim"]]]


def no_memory(nbytes, b, c):
    raise MemoryError(f"not enough memory: a tensor of {nbytes} bytes was asked for")


def shapes(op, arguments, k):
    a = view_record(arguments, Arguments)
    sizes = [shape_at(int(t)) for t in a["tensors"][: k + 1] if t]
    y, x = sizes[-1], list(np.broadcast_shapes(*sizes[:-1]))
    for d in range(1, min(len(x), len(y)) + 1):
        if x[-d] != y[-d] and 1 not in (x[-d], y[-d]):
            raise RuntimeError(
                f"The size of tensor a ({x[-d]}) must match the size of tensor b ({y[-d]}) at non-singleton dimension "
                f"{max(len(x), len(y)) - d}: {BY_ADDRESS[op].name} of shapes {x} and {y}"
            )
    raise RuntimeError(f"shapes {x} and {y} do not broadcast")


def unsupported(op, dtype, c):
    name = BY_ADDRESS[op].name if op in BY_ADDRESS else "this operation"
    raise NotImplementedError(f"\"{name}\" not implemented for '{long_name(dtype)}'")


def mixed_floats(op, arguments, c):
    tensors = view_record(arguments, Arguments)["tensors"][: int(BY_ADDRESS[op].row["tensors"])]
    codes = [view_record(int(t), Tensor)["dtype"] for t in tensors if t]
    names = sorted({NAMES[code] for code in codes if code >= FLOAT32})
    raise RuntimeError(
        f"{BY_ADDRESS[op].name}: tensors of {' and '.join(names)} do not go together; convert them to one dtype"
    )


def scattered(ndim, most, c):
    raise RuntimeError(
        f"indices along a dimension, on a device: {ndim} dimensions do not lie evenly in memory, of which {most} can be walked at once; "
        "make the tensor contiguous, or take fewer dimensions"
    )


def out_shape(op, out, frame):
    raise RuntimeError(f"output with shape {shape_at(out)} doesn't match the broadcast shape {shape_at(frame, Frame)}")


def out_dtype(result, target, c):
    raise RuntimeError(f"result type {long_name(result)} can't be cast to the desired output type {long_name(target)}")


def leaf_in_place(op, out, view):
    kind = "a view of a leaf Variable" if view else "a leaf Variable"
    raise RuntimeError(f"{kind} that requires grad is being used in an in-place operation.")


def overlap(op, out, x):
    if x == 0:
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
    raise RuntimeError(
        "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory "
        "location. Please clone() the tensor before performing the operation."
    )


def no_grad_fn(a, b, c):
    raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")


def freed(a, b, c):
    raise RuntimeError(
        "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
        "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify retain_graph=True if "
        "you need to backward through the graph a second time or if you need to access saved tensors after calling backward."
    )


MANY = (None, "Unbind", "Split", "SplitWithSizes")
OUT_OF_PLACE = (
    "This view is the output of a function that returns multiple views. Such functions do not allow the output views to be modified "
    "inplace. You should replace the inplace operation by an out-of-place one."
)
CLARIFY = (
    "Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the "
    "inplace either both inside the {} block (if you don't want the inplace to be tracked) or both outside (if you want the inplace to be "
    "tracked)."
)
MADE_IN = {
    NO_GRAD_VIEW: ("no_grad mode", "with grad mode enabled", "no_grad"),
    INFERENCE_VIEW: ("inference mode", "in normal mode", "inference_mode"),
}


CUSTOM = (
    "This view was created inside a custom Function (or because an input was returned as-is) and the autograd logic to handle "
    "view+inplace would override the custom backward associated with the custom Function, leading to incorrect gradients. This behavior "
    "is forbidden. You can fix this by cloning the output of the custom Function."
)


def restricted(op, out, c):
    """A view that must not be written in place."""
    word = int(view_record(out, Tensor)["restriction"])
    kind, many, index = word & KIND, word >> FUNCTION & 3, word >> OP & 0xFFFFFF
    name = MANY[many] or (BY_INDEX[index - 1].node_name().removesuffix("Backward0") if index else "")
    if kind == MULTIPLE:
        raise RuntimeError(f"Output {word >> OUTPUT} of {name} is a view and is being modified inplace. {OUT_OF_PLACE}")
    if kind == CUSTOM_VIEW:
        raise RuntimeError(f"A view is being modified inplace. {CUSTOM}")
    mode, where, block = MADE_IN[kind]
    subject = f"Output 0 of {name} is a view of a view which" if word & CHAINED else "A view"
    raise RuntimeError(
        f"{subject} was created in {mode} and is being modified inplace {where}. {CLARIFY.format(block)}"
    )


def ambiguous(op, view, c):
    """A view made without recording, whose base is recorded and was written."""
    kind = int(view_record(view, Tensor)["restriction"]) & KIND
    if kind == CUSTOM_VIEW:
        raise RuntimeError(f"The base of a view, or another view of it, has been modified inplace. {CUSTOM}")
    mode, where, block = MADE_IN[kind]
    raise RuntimeError(
        f"A view was created in {mode} and its base or another view of its base has been modified inplace {where}. "
        f"{CLARIFY.format(block)}"
    )


def inference_write(op, out, c):
    raise RuntimeError(
        "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal tensor before "
        "doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."
    )


def inference_version(a, b, c):
    raise RuntimeError("Inference tensors do not track version counter.")


def inference_save(a, b, c):
    raise RuntimeError(
        "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by "
        "autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` "
        "instead of `torch.inference_mode()`."
    )


def too_many_dimensions(ndim, b, c):
    raise RuntimeError(f"a tensor has at most {RANK} dimensions, not {ndim}")


def empty_box(a, b, c):
    raise EmptyBox(
        "this Tensor holds nothing itself: it was made by object.__new__ (use nt.tensor), or is one entry of a batch inside vmap, which "
        "this function does not know"
    )


def out_grad(op, b, c):
    raise RuntimeError(
        f"{BY_ADDRESS[op].name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
        "arguments requires grad."
    )


def copy_shape(out, source, c):
    raise RuntimeError(
        f"The expanded size of the tensor must match the existing size: {shape_at(source)} cannot be broadcast to {shape_at(out)}"
    )


def zero_division(op, b, c):
    raise RuntimeError(f"ZeroDivisionError: {BY_ADDRESS[op].name} of integers by zero")


def negative_power(op, b, c):
    raise RuntimeError("Integers to negative integer powers are not allowed.")


def many_rows(op, rows, n):
    raise RuntimeError(
        f"{BY_ADDRESS[op].name}(): {rows} rows of {n} elements, of which a device's kernels take at most {(1 << 31) - 1}"
    )


REPORTS = (
    no_memory,
    shapes,
    unsupported,
    out_shape,
    out_dtype,
    leaf_in_place,
    overlap,
    no_grad_fn,
    freed,
    restricted,
    too_many_dimensions,
    empty_box,
    out_grad,
    copy_shape,
    zero_division,
    negative_power,
    inference_write,
    inference_save,
    ambiguous,
    inference_version,
    mixed_floats,
    scattered,
    many_rows,
)


@callback
def complain(number, a, b, c):
    """Raise the error of a number."""
    REPORTS[number](a, b, c)
    return 0


@callback
def has_zero(tensor):
    """Whether an element of a tensor is zero."""
    return int(not entries.box_of(tensor).array().all())


def writer_name(word):
    """Who wrote a storage, as code to look for."""
    op = BY_ADDRESS.get(word & ~1)
    if op:
        return f"`{op.name}(..., out=)`" if word & 1 else f"`{op.name}_`"
    return f"`{sites.writers[word]}`" if word in sites.writers else "a write"


def saver(node, n, which):
    """Who saved a value: its name, its name in the graph, and what it calls the value."""
    op, state = BY_ADDRESS[int(n["op"])], node_entries.state_of(node)
    if hasattr(state, "name"):  # a custom function
        what = (
            f"its output {-which}"
            if which <= 0
            else f"its argument {which - 1}"
            if which <= n["inputs"]
            else "a tensor"
        )
        return state.name.removesuffix("Backward"), state.name, what
    what = f"`{op.inputs[which - 1]}`" if which > 0 else f"its output {-which}" if n["outputs"] > 1 else "its output"
    return op.name, op.node_name().removesuffix("Backward0"), what
