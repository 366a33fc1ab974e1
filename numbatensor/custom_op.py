"""Custom ops: a user's compiled functions over arrays as an operation on Tensors, with its gradient."""

import functools
import importlib
import inspect
import sys

import numpy as np
from numba import njit
from numba.extending import is_jitted, typeof_impl

from numbatensor import dtypes, nopython
from numbatensor.autograd.function import differentiated_once
from numbatensor.autograd.modes import no_grad
from numbatensor.core import custom_gradients, custom_ops, entries, node_entries
from numbatensor.core.cells import finders
from numbatensor.core.graph import UNPACKED
from numbatensor.core.memory import bits_of_float
from numbatensor.core.modes import get_grad
from numbatensor.core.private import global_compiler_lock
from numbatensor.core.python import TensorBase, callback
from numbatensor.core.records import Custom, Node, Saved, view_record
from numbatensor.core.rules import CUSTOM
from numbatensor.core.tensors import FLOAT32
from numbatensor.hollow import hollow
from numbatensor.hooks import empty_slots, fill_slots, input_shape, unpacked
from numbatensor.making import as_operand, new
from numbatensor.messages import shape_at
from numbatensor.op import BY_ADDRESS
from numbatensor.python_rules import attributes_of

TWICE = "{name} cannot be differentiated twice, as its backward is a compiled function: make that a custom op, with a backward of its own"
KINDS = {bool: -1, int: -2, float: -3, type(None): -4}


def compiled(function):
    """A function that Numba compiles; what it has compiled already as it is."""
    if is_jitted(function):
        return function
    if not inspect.isfunction(function):
        raise TypeError(f"a custom op is made of functions, plain or compiled by @njit, not of {function!r}")
    return njit(nogil=True)(function)


def parameters_of(function, what):
    parameters = list(inspect.signature(function.py_func).parameters.values())
    for p in parameters:
        if p.kind is not p.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"{what} of a custom op takes plain parameters, not *{p.name}")
    return parameters


class Variant:
    """A custom op for arguments of given kinds: its row in native memory, and its code. It lives as long as the process."""

    rules: dict = {}

    def __init__(self, op, kinds):
        self.op, self.kinds, self.inputs = op, kinds, op.inputs
        self.name = op.__name__.removesuffix("_") if op.in_place else op.__name__
        self.rows = np.zeros(1, Custom)
        self.row, self.address = self.rows[0], self.rows.ctypes.data
        self.forward, self.results, self.several = nopython.loaded("custom_code").compile_forward(self)
        if op.derivative is None:
            self.given = []
        else:
            self.given = self.checked(op.given[len(self.results) :])
        forms = [0 if kind >= 0 else -kind for kind in kinds]
        saves = [name in self.given and kind >= 0 for name, kind in zip(op.inputs, kinds, strict=True)]
        floats = [kind & 255 >= FLOAT32 for kind in self.results]
        outs = ["out" in self.given or f"out{k}" in self.given for k in range(len(self.results))]
        self.plan = np.array([*forms, *saves, *floats, *outs], np.int64)
        row = self.row
        row["rule_kind"], row["forward"], row["plan"] = CUSTOM, self.forward, self.plan.ctypes.data
        row["parameters"], row["outputs"], row["several"] = len(kinds), len(self.results), self.several
        row["in_place"], row["differentiable"] = op.in_place, op.backward_function is not None
        row["nogil"] = bool(op.function.targetoptions.get("nogil"))
        BY_ADDRESS[self.address] = self

    def checked(self, names):
        """What the backward takes beside the gradients, if there is all that."""
        op, count, twice = self.op, len(self.results), isinstance(self.op.derivative, CustomOp)
        if len(op.given) < count:
            raise TypeError(f"the backward of {op.__name__} takes {len(op.given)} gradients first, of {count} results")
        known = {*op.inputs, "out", *([] if twice else ["needs"])}
        if self.several:
            known |= {f"out{k}" for k in range(count)}
            known -= {"out"} if twice else set()
        if op.in_place:
            known.remove(op.inputs[0])
        for name in names:
            if name not in known:
                raise TypeError(
                    f"the backward of {op.__name__} takes `{name}` after {count} gradient{'s' * (count > 1)}; what it can have there is "
                    f"{', '.join(sorted(known))}"
                )
        return names

    def node_name(self):
        """The name of the op's gradient."""
        return "".join(part.capitalize() for part in self.name.split("_")) + "Backward0"

    def text(self):
        """What `find_row` finds this by in another process, and what compiled code expects of it."""
        numbers = lambda kinds: ",".join(map(str, kinds))
        op = self.op
        return f"{op.__qualname__}|{op.__module__}|{numbers(self.kinds)}|{numbers(self.results)}|{int(self.several)}"

    def gradients(self, node, grads, wanted):
        """The gradients of the inputs, where Python runs the rule: recorded if the backward is a custom op."""
        op, record = self.op, view_record(node, Node)
        if isinstance(op.derivative, CustomOp):
            return self.recorded(node, record, grads)
        packed = record["slow"] & UNPACKED
        if packed:
            fill_slots(node)
        try:
            with no_grad():
                made = custom_gradients.custom_rule(node, grads, tuple(map(int, wanted)))
        finally:
            if packed:
                empty_slots(node)
        sources = [*grads, *[unpacked(node, k) for k in range(int(record["saved"]))]] if get_grad() else ()
        return differentiated_once(made, sources, TWICE.format(name=op.__name__))

    def recorded(self, node, record, grads):
        """The gradients by a backward that is a custom op."""
        op, known = self.op, attributes_of(record, self)
        for k in range(int(record["saved"])):
            which = int(view_record(int(record["saves"]) + k * Saved.itemsize, Saved)["which"])
            known[self.inputs[which - 1] if which > 0 else f"out{-which}"] = unpacked(node, k)
        if not self.several and "out0" in known:
            known["out"] = known.pop("out0")
        full = []
        for grad, (shape, dtype) in zip(grads, node_entries.node_box(node).outputs, strict=True):
            if grad is None and dtypes.as_dtype(np.dtype(dtype)).is_floating_point:
                grad = new(shape, np.dtype(dtype), zeros=True)
            full.append(grad)
        made = op.derivative(*full, *[known[name] for name in self.given])
        made = made if isinstance(made, tuple) else (made,)
        found = [None] * len(self.inputs)
        for i, grad in enumerate(made):
            shape = input_shape(node, i)
            if shape is not None:
                if list(grad.shape) != shape:
                    custom_error(custom_ops.GRAD_SHAPE, node, i, entries.address_of(grad))
                found[i] = grad.to(dtypes.ALL[self.kinds[i] & 255])
        return tuple(found)


def kind_of(x):
    """What a Variant calls a Tensor's dtype and rank, or a number."""
    if isinstance(x, TensorBase):
        return entries.get(x, entries.DTYPE) | entries.get(x, entries.NDIM) + 1 << 8
    return KINDS[type(x)]


class CustomOp:
    """An operation made of functions over arrays that Numba compiles: see `custom_op`."""

    generate_vmap_rule = True  # `vmap` runs it entry by entry

    def __init__(self, forward, backward=None, in_place=False):
        self.function, self.in_place, self.variants = compiled(forward), in_place, {}
        functools.update_wrapper(self, self.function.py_func)
        parameters = parameters_of(self.function, "the forward")
        self.signature, self.inputs = inspect.Signature(parameters), [p.name for p in parameters]
        self.derivative, self.backward_function, self.given = None, None, []
        if in_place and not parameters:
            raise TypeError(f"{self.__name__} has no argument to write in place")
        if backward is not None:
            self.backward(backward)

    def backward(self, function):
        """Declare the gradient, as a function or another custom op; gives it back."""
        if self.variants:
            raise RuntimeError(f"{self.__name__} was used before its backward was declared")
        inner = function.function if isinstance(function, CustomOp) else compiled(function)
        given = [p.name for p in parameters_of(inner, "the backward")]
        self.derivative, self.backward_function, self.given = function, inner, given
        return function

    def variant(self, kinds):
        """The op for arguments of kinds, compiled if need be."""
        if kinds not in self.variants:
            with global_compiler_lock:
                if kinds not in self.variants:
                    self.variants[kinds] = Variant(self, kinds)
        return self.variants[kinds]

    def has_name(self):
        """Whether other processes find this by its module and name."""
        found = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is self

    def __call__(self, *args, **kwargs):
        if kwargs or len(args) != len(self.inputs):
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        inner = hollow(args)
        if inner is not None:
            return inner.custom(self, args)
        args = [a if type(a) in KINDS else as_operand(a) for a in args]
        if self.in_place and not isinstance(args[0], TensorBase):
            raise TypeError(f"{self.__name__} writes into a Tensor, not a {type(args[0]).__name__}")
        variant = self.variant(tuple(map(kind_of, args)))
        return custom_ops.custom_apply(variant.address, tuple(map(as_given, args)))

    apply = __call__  # what `vmap` calls

    def __reduce__(self):
        return self.__qualname__ if self.has_name() else (CustomOp, (self.function, self.derivative, self.in_place))

    def __repr__(self):
        return f"<custom op {self.__name__}>"


def as_given(x):
    """A Tensor, or the word of a number."""
    if isinstance(x, TensorBase):
        return x
    if isinstance(x, float):
        return bits_of_float(x)
    if x is not None and abs(x) >= 1 << 63:
        raise OverflowError(f"{x} does not fit into 64 bits")
    return int(x or 0)


def custom_op(forward=None, backward=None, *, in_place=False):
    """An operation on Tensors made of functions over NumPy arrays that Numba compiles; a decorator.

    Parameters
    ----------
    forward : callable
        Gets contiguous arrays for Tensors, which it must not write, numbers for Tensors of no dimensions, and numbers, bools and None as they
        are; returns a new array, a number, or a tuple of such. A function that `@njit` has compiled is taken as it is; another one is
        compiled to run without the GIL. With `in_place`, it writes the array of its first argument and returns nothing.
    backward : callable or custom op, optional
        Gets the gradient of each result (None of integers), and then by name what it takes, which is what is saved: arguments of `forward`,
        ``out``, its result (where that is a tuple ``out0``, ``out1`` too), and ``needs``, a tuple that says of each argument whether its
        gradient is wanted. Returns an array or None for each argument; what is left out at the end is None. A custom op with a backward
        of its own can be differentiated again. It may also be declared later: ``@op.backward``.
    in_place : bool
        Whether the op overwrites its first argument, and returns it.

    Returns
    -------
    CustomOp
        Callable with Tensors, in Python and in functions that Numba compiles.

    Examples
    --------
    >>> @nt.custom_op
    ... def cube(x):
    ...     out = np.empty_like(x)
    ...     for i in range(x.size):
    ...         out[i] = x[i] ** 3
    ...     return out
    ...
    >>> @cube.backward
    ... def _(grad, x):
    ...     return 3.0 * x**2 * grad
    """
    if forward is None:
        return functools.partial(custom_op, backward=backward, in_place=in_place)
    return CustomOp(forward, backward, in_place)


@typeof_impl.register(CustomOp)
def type_of_custom_op(value, context):
    nopython.all_of_it()
    return nopython.loaded("custom_ops").CustomOpType(value)


def find_row(text):
    """The row that a text of `Variant.text` names, or 0; the types that it expects must be those of this process."""
    name, module, kinds, *_ = text.split("|")
    op = importlib.import_module(module)
    for part in name.split("."):
        op = getattr(op, part, None)
    variant = isinstance(op, CustomOp) and op.variant(tuple(map(int, filter(None, kinds.split(",")))))
    return variant.address if variant and variant.text() == text else 0


finders["custom op"] = find_row


# what native code asks of Python


@callback
def compile_backward(row):
    """Compile the backward of a variant."""
    variant = BY_ADDRESS[row]
    with global_compiler_lock:
        if not variant.row["backward"]:
            variant.row["backward"] = nopython.loaded("custom_code").compile_backward(variant)
    return 0


@callback
def custom_error(what, a, b, c):
    """Raise an error of a custom op."""
    if what == custom_ops.GRAD_SHAPE:
        variant = BY_ADDRESS[int(view_record(a, Node)["op"])]
        raise RuntimeError(
            f"the backward of {variant.op.__name__} returned a gradient of shape {shape_at(c)} for `{variant.inputs[b]}`, whose shape is "
            f"{input_shape(a, b)}"
        )
    name = BY_ADDRESS[a].op.__name__
    if what == custom_ops.NO_BACKWARD:
        raise RuntimeError(
            f"{name} has no backward, and one of its arguments requires grad: declare one by @{name}.backward, or call it with detached "
            "Tensors or under nt.no_grad()"
        )
    output = f"output {b}" if BY_ADDRESS[a].several else "a result"
    raise RuntimeError(f"{name} returned {output} that shows the memory of an argument: return a copy of it")
