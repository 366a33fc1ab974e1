"""Methods and attributes of Tensors that Python's code runs."""

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import lower_setattr, lower_setattr_generic
from numba.core.typing.templates import signature

from numbatensor import methods
from numbatensor.nopython import function_results as results
from numbatensor.nopython import missing, python_calls
from numbatensor.nopython.attributes import ATTRIBUTES, attribute
from numbatensor.nopython.functions import run_by_python
from numbatensor.nopython.results import length
from numbatensor.nopython.tensor_type import TensorType
from numbatensor.op import OPS
from numbatensor.tensor import Tensor


def itself(self, **others):
    return self


def of_rank_of(self, other):
    return TensorType(self.dtype, other.ndim)


def flattened(self, start_dim, end_dim):
    whole = all(isinstance(dim, types.Omitted) for dim in (start_dim, end_dim))
    return TensorType(self.dtype, 1 if whole else None)


def unflattened(self, dim, sizes):
    return TensorType(self.dtype, results.shifted(self.ndim, results.shifted(length([sizes]), -1)))


def shaped(name):
    """The rule of a method whose argument of that name is the shape of the result."""
    return lambda self, **given: TensorType(
        self.dtype, length(given[name] if isinstance(given[name], tuple) else [given[name]])
    )


def kept_rank(name, rule):
    """The rule of a method that changes a tensor's shape in place: its rank is part of its type, and has to stay."""

    def checked(self, **given):
        made = rule(self, **given)
        if made.ndim is None or made.ndim != self.ndim:
            raise TypingError(
                f"{name}(): the rank is part of the type of {self} in compiled code, and cannot change: use {name.rstrip('_')}()"
            )
        return self

    return checked


def new(self, size, dtype=None, **_):
    sizes = size if isinstance(size, tuple) else [size]
    return TensorType(results.chosen(dtype, self.dtype), length(sizes))


def new_copy(self, data, dtype=None, **_):
    return TensorType(results.chosen(dtype, self.dtype), results.data_type("new_tensor", data)[1])


METHODS = {  # the types of their results
    "contiguous": itself,
    "cpu": itself,
    "cuda": itself,
    "get_device": lambda self: types.intp,
    "expand_as": of_rank_of,
    "view_as": of_rank_of,
    "reshape_as": of_rank_of,
    "flatten": flattened,
    "unflatten": unflattened,
    "movedim": itself,
    "broadcast_to": shaped("size"),
    "as_strided": shaped("size"),
    "sum_to_size": shaped("size"),
    "retain_grad": results.nothing,
    "storage_offset": lambda self: types.intp,
    "detach_": itself,
    "where": lambda self, condition, other: results.result_of(OPS["where"], [condition, self, other]),
    "index_put_": itself,
    "new_empty": new,
    "new_zeros": new,
    "new_ones": new,
    "new_full": new,
    "new_tensor": new_copy,
    "transpose_": itself,
    "swapaxes_": itself,
    "swapdims_": itself,
    "t_": itself,
    "as_strided_": kept_rank("as_strided_", shaped("size")),
    "is_inference": lambda self: types.boolean,
    **{name: itself for name in "bernoulli_ exponential_ normal_ random_ uniform_".split()},
}
self_ = python_calls.named("self")
GEOMETRY = {"transpose_": "transpose", "swapaxes_": "transpose", "swapdims_": "transpose", "t_": "t"}
PARAMETERS: dict = {"is_inference": [self_]}  # of methods whose own signature does not tell
for name, op in GEOMETRY.items():
    PARAMETERS[name] = [self_, *[p.replace(kind=python_calls.ANY) for p in OPS[op].parameters[1:]]]
PARAMETERS["as_strided_"] = python_calls.parameters_of(Tensor.as_strided)
for name, rule in METHODS.items():
    function = getattr(Tensor, name)
    run_by_python(function, f"Tensor.{name}", rule, parameters=PARAMETERS.get(name))

# In-place forms of functions, and of ops that give truth values.
for module, names in methods.IN_PLACE.items():
    for name in names.split():
        parameters = [self_, *python_calls.parameters_of(getattr(module, name))[1:]]
        run_by_python(getattr(Tensor, name + "_"), f"Tensor.{name}_", itself, parameters=parameters)
for name in "eq ne lt le gt ge logical_and logical_or logical_xor logical_not".split():
    parameters = [self_] if name == "logical_not" else [self_, python_calls.named("other")]
    run_by_python(getattr(Tensor, name + "_"), f"Tensor.{name}_", itself, parameters=parameters)


def read_by_python(name, kind, path=None):
    """Declare an attribute that Python's property gives; `path`: of another property, which gives it in a form that there is here."""
    read = python_calls.code_of(f"Tensor.{path or name}.fget")
    rule = (lambda x: kind) if isinstance(kind, types.Type) else kind

    @attribute(name, rule)
    def code(context, builder, source, value, record):
        return read(context, builder, signature(rule(source), source), [value])


read_by_python("data", lambda x: x)
read_by_python("device", results.TEXT, "_device_name")
read_by_python("is_cuda", types.boolean)
read_by_python("retains_grad", types.boolean)


def written_by_python(name):
    """Let compiled code set an attribute, which is done by Python's property."""
    write = python_calls.code_of(f"Tensor.{name}.fset")

    @lower_setattr(TensorType, name)
    def code(context, builder, sig, args):
        write(context, builder, signature(types.none, *sig.args), args)


for name in ("grad", "requires_grad"):
    assert name in ATTRIBUTES  # the type that it takes is the type that it has
    written_by_python(name)


@lower_setattr_generic(TensorType)
def refuse(context, builder, sig, args, name):
    why = missing.SETTING.get(name, "it follows from what the Tensor is")
    raise TypingError(f"Tensor.{name} cannot be set in compiled code: {why}")
