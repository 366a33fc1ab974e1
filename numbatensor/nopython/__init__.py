"""Tensors inside users' `@njit` functions.

What Numba asks of a library is loaded when it first meets something of ours: a Tensor among arguments, or a name such as ``nt.tanh``
in a function that is being compiled. This file is what `import numbatensor` needs: the hooks that notice.
"""

import importlib
import sys
from types import FunctionType

from numba.extending import typeof_impl

from numbatensor import dtypes
from numbatensor.autograd.modes import enable_grad, inference_mode, no_grad, set_grad_enabled, strict_versions
from numbatensor.core import cells, compiled, entries
from numbatensor.core.compiler import address
from numbatensor.core.private import cpu, keep_loops_in_blocks, keep_writes
from numbatensor.core.python import NativeFunction, callback, native_function
from numbatensor.hollow import Hollow
from numbatensor.linear_algebra import matmul
from numbatensor.tensor import Tensor

MODULES = {
    "functional",
    "linear_algebra",
    "joining",
    "indexing",
    "creation",
    "random",
    "generator",
    "autograd.modes",
    "autograd.backward",
    "core.threads",
    "memory",
    "nn.functional",
    "making",
    "tensor",
}
PLACES = {f"numbatensor.{name}" for name in MODULES}  # where functions are that compiled code may name


def loaded(name):
    """A module of this package, loaded when first asked for."""
    return importlib.import_module(f"numbatensor.nopython.{name}")


def all_of_it():
    """What Numba is to know of us, where it asks while it compiles: then it has to look for what is new."""
    name = "numbatensor.nopython.registration"
    known = name in sys.modules
    found = loaded("registration")
    if not known:
        cpu.typing_context.refresh()
        cpu.target_context.refresh()
    return found


@typeof_impl.register(NativeFunction)
def type_of_op(value, context):
    return all_of_it().type_of_op(value)


@typeof_impl.register(FunctionType)
def type_of_function(value, context):
    return all_of_it().type_of_function(value) if value.__module__ in PLACES else None


@typeof_impl.register(dtypes.dtype)
def type_of_dtype(value, context):
    return all_of_it().DtypeType(value.code)


known: dict = {}  # types by dtype and rank


def type_of_tensor(self):
    """What Numba takes a tensor for: its dtype and rank."""
    if isinstance(self, Hollow):
        raise TypeError("a tensor that func.vmap looks into cannot be an argument of compiled code: call it outside")
    key = entries.get(self, entries.DTYPE), entries.get(self, entries.NDIM)
    if key not in known:
        known[key] = loaded("registration").TensorType(*key)
        cells.numba_types[key] = id(known[key])
    return known[key]


Tensor._numba_type_ = property(native_function(address("get_numba_type"), type_of_tensor))


def in_block(*parts):
    """What Numba makes of ``with nt.no_grad():`` in compiled code."""
    all_of_it()
    return loaded("modes").in_block(*parts)


keep_loops_in_blocks()
keep_writes()
for mode in (no_grad, enable_grad, set_grad_enabled, inference_mode, strict_versions):
    setattr(mode, "mutate_with_body", staticmethod(in_block))  # noqa: B010


def shown(kind):
    rank = f", {(kind >> 8) - 1}-D" if kind >> 8 else ""
    return f"{dtypes.ALL[kind & 255].name}{rank}"


ERRORS = {
    compiled.BAD_KIND: lambda found, kind: TypeError(
        f"compiled code expects a Tensor of {shown(kind)} and got {shown(found)}"
    ),
    compiled.NO_ITEM: lambda n, _: RuntimeError(f"a Tensor with {n} elements cannot be converted to Scalar"),
    compiled.BAD_INDEX: lambda dim, n: (
        IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
        if n
        else ValueError("slice step cannot be zero")
    ),
    compiled.TOO_MANY: lambda n, _: IndexError(f"too many indices for tensor of dimension {n}"),
    compiled.NEGATIVE_SIZE: lambda n, _: RuntimeError(f"Trying to create tensor with negative dimension {n}"),
    compiled.NOT_FLOAT: lambda *_: RuntimeError("only Tensors of floating point dtype can require gradients"),
    compiled.NO_LEAF: lambda *_: RuntimeError(
        "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that "
        "doesn't require differentiation use var_no_grad = var.detach()."
    ),
    compiled.NUMPY_GRAD: lambda *_: RuntimeError(
        "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
    ),
    compiled.NO_INFERENCE: lambda *_: RuntimeError(
        "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed."
    ),
    compiled.NO_LENGTH: lambda *_: TypeError("len() of a 0-d tensor"),
}


@callback
def mistyped(what, a, b):
    """Raise an error of compiled code that is no op's."""
    if what == compiled.NO_PRODUCT:
        matmul(entries.box_of(a), entries.box_of(b))
    raise ERRORS[what](a, b)
