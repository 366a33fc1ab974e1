"""The kinds of op, and how one declaration becomes a row of the dispatch table, a function and a method."""

import dis
import inspect
import math
import types as python

import numpy as np
from numba import types
from numba.extending import register_jitable

from kernels_cpu import mathematics
from kernels_cpu import pointwise as skeleton
from kernels_cpu import reduction as reductions
from numbatensor.core import dispatch, engine, entries
from numbatensor.core import python as native
from numbatensor.core.compiler import compile, publish
from numbatensor.core.dispatch import CODES, DTYPES, RESERVED, TABLE
from numbatensor.core.handles import hold, table
from numbatensor.core.modes import get_grad as recording
from numbatensor.core.records import INPUTS, view_record
from numbatensor.core.records import Edge as EdgeRecord
from numbatensor.core.records import Node as NodeRecord
from numbatensor.core.records import Op as Row
from numbatensor.core.records import Saved as SavedRecord
from numbatensor.core.records import Storage as StorageRecord

OPS: dict = {}
BY_ADDRESS: dict = {}
NUMBA = [types.boolean, types.uint8, types.int8, types.int16, types.int32, types.int64, types.float32, types.float64]
ALL, NUMERIC, INTEGRAL, FLOATING = 0b11111111, 0b11111110, 0b00111111, 0b11000000
PUBLIC = {"x": "input", "y": "other"}  # the mathematics' names, and PyTorch's


def globals_read(code):
    """The global names that a function reads: `math` in ``math.tanh``, not `tanh`."""
    return sorted({one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"})


def scalar(function, dtype):
    """A declared formula with its literals in `dtype` and `math` replaced by functions that vectorise.

    ``1.0 - out * out`` would otherwise compute float32 in float64.
    """
    code = function.__code__
    kind = np.dtype(dtype).type
    if np.dtype(dtype).kind == "f":
        code = code.replace(co_consts=tuple(kind(c) if type(c) in (int, float) else c for c in code.co_consts))
    known = dict(function.__globals__)
    for name in globals_read(code):
        if known.get(name) is math:
            known[name] = mathematics
        elif isinstance(known.get(name), Op):
            known[name] = scalar_op(known[name], dtype)
    return python.FunctionType(code, known, function.__name__, function.__defaults__, function.__closure__)


def scalar_op(op, dtype):
    """An op as a function of numbers: rules may call ops."""
    return register_jitable(scalar(op.function, dtype))


class Op:
    """An operation: a row of the dispatch table and what fills it on first use."""

    def __init__(self, function, name=None):
        self.function, self.rules, self.needs = function, {}, {}
        self.name = self.__name__ = name or function.__name__
        self.__doc__, self.__module__ = function.__doc__, function.__module__
        self.parameters = list(inspect.signature(function).parameters.values())
        self.inputs = [p.name for p in self.parameters]
        index = (
            RESERVED.index(self.name) if self.name in RESERVED else len(RESERVED) + sum(n not in RESERVED for n in OPS)
        )
        self.row = TABLE[index]
        self.row["index"] = index
        self.address = TABLE.ctypes.data + index * Row.itemsize
        OPS[self.name] = BY_ADDRESS[self.address] = self
        if self.name not in RESERVED:
            publish("op_" + self.name, self.address)

    def backward(self, **rules):
        """Declare the gradient of each input. The names that a rule takes, after the gradient's, are what is saved for it."""
        self.rules = rules
        for k in range(INPUTS):
            self.row["rule_kind"][k] = engine.PYTHON
        return self

    def which(self, name):
        return 0 if name == "out" else 1 + self.inputs.index(name)

    def node_name(self):
        return "".join(part.capitalize() for part in self.name.split("_")) + "Backward0"

    def __repr__(self):
        return f"<op {self.name}>"


class Pointwise(Op):
    """A scalar formula, applied to every element of its operands, broadcast."""

    def __init__(self, function, tensors, result, promotes, dtypes, masks, cost):
        super().__init__(function)
        row = self.row
        row["operands"] = len(self.inputs)
        row["tensors"] = tensors or len(self.inputs)
        row["result"] = 0 if result is None else 1 + CODES[np.dtype(result)]
        row["promotes"], row["dtypes"], row["cost"] = promotes, dtypes, cost
        self.masks = masks
        row["masks"] = sum(1 << self.inputs.index(m) for m in masks)

    def backward(self, **rules):
        """Declare the gradient of each input, as a formula on numbers that also reads as one on Tensors."""
        self.rules = rules
        for name, rule in rules.items():
            i = self.inputs.index(name)
            self.needs[i] = needs = list(inspect.signature(rule).parameters)[1:]
            if needs != sorted(needs, key=self.which):
                raise TypeError(
                    f"{self.name}: the rule of {name} takes its saved values as `out`, then the inputs in order"
                )
            self.row["saves"][i] = sum(1 << self.which(n) for n in needs)
            self.row["rule_kind"][i] = engine.IDENTITY if rule is same else engine.KERNEL
        return self

    def kind(self, k, dtype):
        return types.boolean if self.row["masks"] >> k & 1 else NUMBA[dtype]

    def compile(self, what, dtype):
        """The address of the kernel (0) or of the rule of an input (1 + i) for a dtype."""
        name = np.dtype(DTYPES[dtype]).name
        if what == 0:
            out = NUMBA[self.row["result"] - 1] if self.row["result"] else NUMBA[dtype]
            kinds = [out] + [self.kind(k, dtype) for k in range(len(self.inputs))]
            made = elementwise(f"{self.name}.{name}", self.function, kinds, DTYPES[dtype])
            self.row["kernel"][dtype] = made
        else:
            i = what - 1
            rule, needs = self.rules[self.inputs[i]], self.needs[i]
            kinds = [NUMBA[dtype], NUMBA[dtype]] + [
                NUMBA[dtype] if n == "out" else self.kind(self.inputs.index(n), dtype) for n in needs
            ]
            made = elementwise(f"{self.name}.{self.inputs[i]}.{name}", rule, kinds, DTYPES[dtype])
            self.row["rule"][i][dtype] = made
        return made


def elementwise(name, function, kinds, dtype):
    kernel = skeleton.elementwise(scalar(function, dtype), kinds)
    made = compile(kernel, name, arguments=2, fastmath=frozenset({"contract"}))
    return made.address


def same(grad):
    """The rule of an input that passes the gradient on as it is."""
    return grad


def pointwise(function=None, *, tensors=None, result=None, promotes=False, dtypes=ALL, masks=(), cost=1):
    """Declare a pointwise op by its formula on numbers."""
    if function is None:
        return lambda f: pointwise(
            f, tensors=tensors, result=result, promotes=promotes, dtypes=dtypes, masks=masks, cost=cost
        )
    return Pointwise(function, tensors, result, promotes, dtypes, masks, cost)


class Reduction(Op):
    """Many elements combined into one: an identity, and a formula that combines an accumulator with an element."""

    def __init__(self, function, identity, accumulator, dtypes):
        super().__init__(function)
        self.identity = identity
        self.row["operands"] = self.row["tensors"] = 1
        self.row["dtypes"], self.row["cost"] = dtypes, 1
        for code in range(len(DTYPES)):
            self.row["accumulator"][code] = accumulator(code)
        self.inputs = ["x"]

    def start(self, dtype):
        kind = np.dtype(DTYPES[dtype])
        return kind.type(self.identity(kind) if callable(self.identity) else self.identity)

    def compile(self, what, dtype):
        wide = int(self.row["accumulator"][dtype])
        name = f"{self.name}.{('rows', 'columns', 'merge_rows', 'start', 'merge_columns')[what - 1]}.{np.dtype(DTYPES[dtype]).name}"
        f = scalar(self.function, DTYPES[wide])
        math_flags = frozenset({"contract", "reassoc", "nsz"})
        if what in (1, 3):
            source = wide if what == 3 else dtype
            kernel = reductions.rows(f, self.start(wide), NUMBA[wide], NUMBA[source])
        elif what in (2, 5):
            source = wide if what == 5 else dtype
            kernel = reductions.columns(f, NUMBA[wide], NUMBA[source])
        else:
            kernel = reductions.fill(self.start(wide), NUMBA[wide])
        made = compile(kernel, name, arguments=2, fastmath=math_flags).address
        self.row["rule"][what - 1][dtype] = made
        return made


def widened(code):
    """The accumulator of sums: int64 for integers, float64 for floats."""
    return dispatch.INT64 if code < dispatch.FLOAT32 else dispatch.FLOAT32 + 1


def unchanged(code):
    return code


def reduction(identity, accumulator=unchanged, dtypes=ALL):
    return lambda function: Reduction(function, identity, accumulator, dtypes)


@native.callback
def resolve(op, what, dtype):
    """Compile, or load, what a slot of the table is missing."""
    if op == 0:
        target, source = what, dtype
        names = [np.dtype(DTYPES[k]).name for k in (target, source)]
        made = elementwise(f"to.{names[0]}.{names[1]}", identity, [NUMBA[target], NUMBA[source]], DTYPES[source])
        dispatch.CONVERSIONS[target, source] = made
        return made
    return BY_ADDRESS[op].compile(what, dtype)


def identity(x):
    return x


def record(op, out, inputs, attributes, in_place=False):
    """Give `out` a node whose rules are Python functions of Tensors. `inputs`: tensors by name; others are attributes.

    A rule takes the gradient and, by name, what it needs: ``out``, an input, or an attribute.
    """
    wanted = [
        n
        for n, t in inputs.items()
        if isinstance(t, native.TensorBase) and n in op.rules and entries.get(t, entries.REQUIRES_GRAD)
    ]
    if not wanted or not recording() or entries.get(out, entries.DTYPE) < dispatch.FLOAT32:
        return out
    names = [*inputs]
    needs = {need for n in wanted for need in inspect_needs(op.rules[n])}
    saved = [("out", out)] if "out" in needs else []
    saved += [(n, inputs[n]) for n in names if n in needs and isinstance(inputs[n], native.TensorBase)]
    kept = {n: v for n, v in {**inputs, **attributes}.items() if n in needs and not isinstance(v, native.TensorBase)}
    whiches = tuple(0 if n == "out" else 1 + names.index(n) for n, _ in saved)
    handle = hold((names, wanted, [n for n, _ in saved], kept))
    entries.record_python(
        op.address,
        out,
        tuple(inputs[n] if n in wanted else None for n in names),
        tuple(t for _, t in saved),
        whiches,
        handle,
        int(in_place),
    )
    return out


needs_of: dict = {}


def inspect_needs(rule):
    """The names that a rule takes after the gradient."""
    if rule not in needs_of:
        needs_of[rule] = list(inspect.signature(rule).parameters)[1:]
    return needs_of[rule]


@native.callback
def run_rule(node, call):
    """Run a node's rules as functions of Tensors, and deliver what they give."""
    record_ = view_record(node, NodeRecord)
    op = BY_ADDRESS[int(record_["op"])]
    grad = entries.visit_grad(node, 0)
    saved = {}
    if record_["handle"]:
        names, wanted, kinds, kept = table[int(record_["handle"])]
        for k, name in enumerate(kinds):
            saved[name] = entries.unpack_saved(node, k)
        known = {**kept, **saved}
    else:
        names, known = op.inputs, {}
        for k in range(int(record_["saved"])):
            which = int(view_record(int(record_["saves"]) + k * SavedRecord.itemsize, SavedRecord)["which"])
            known["out" if which == 0 else op.inputs[which - 1]] = entries.unpack_saved(node, k)
        wanted = [n for i, n in enumerate(names[: int(record_["inputs"])]) if edge(record_, i)]
    for i, name in enumerate(names):
        if name in wanted and edge(record_, i):
            rule = op.rules[name]
            made = rule(grad, *[known[n] for n in inspect_needs(rule)])
            if made is not None:
                entries.give_gradient(call, node, i, made)
    return 0


def edge(record_, i):
    return int(view_record(int(record_["edges"]) + i * EdgeRecord.itemsize, EdgeRecord)["node"])


class Structured(Op):
    """An op computed on whole arrays: its function takes and gives NumPy arrays that share the tensors' memory."""

    def __init__(self, function, tensors):
        super().__init__(function)
        self.tensors = tensors
        self.signature = inspect.signature(function)

    def __call__(self, *args, **kwargs):
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        arrays = {n: v.array() if isinstance(v, native.TensorBase) else v for n, v in values.items()}
        out = from_array(self.function(**arrays))
        inputs = {n: values.pop(n) for n in self.tensors}
        return record(self, out, inputs, {"size": entries.shape_tuple(inputs[self.tensors[0]]), **values})


def structured(*tensors):
    """Declare an op on arrays; `tensors` names the arguments that are tensors."""
    return lambda function: Structured(function, tensors)


def from_array(array):
    """A new tensor with the elements of an array; takes over a fresh array's memory."""
    array = np.asarray(array)
    array = array.astype(np.float64) if array.dtype == np.longdouble else array
    handle = hold(array if array.flags.writeable else array.copy())
    array = table[handle]
    made = entries.new_foreign(array.ctypes.data, array.shape, array.strides, CODES[array.dtype], handle)
    view_record(entries.get(made, entries.STORAGE), StorageRecord)["aliases"] = 0
    return made


class View(Op):
    """New geometry over the same memory: its function maps a shape and strides (in elements) to a shape, strides and offset."""

    def __init__(self, function):
        super().__init__(function)
        self.inputs = ["x"]
        self.backward(
            x=lambda grad, size, arguments: OPS["placed"](grad, positions(size, *self.on_packed(size, arguments)), size)
        )

    def on_packed(self, size, arguments):
        return self.function(size, packed(size), *arguments)

    def __call__(self, x, *arguments):
        size, item = entries.shape_tuple(x), x.itemsize
        strides = tuple(s // item for s in entries.stride_tuple(x))
        shape, steps, offset = self.function(size, strides, *arguments)
        data = entries.get(x, entries.DATA) + offset * item
        out = entries.new_view(x, tuple(shape), tuple(s * item for s in steps), data)
        if not recording():
            if entries.get(x, entries.REQUIRES_GRAD):
                entries.set_restriction(out, 2)
        else:
            record(self, out, {"x": x}, {"size": size, "arguments": arguments})
        restriction = entries.get(x, entries.RESTRICTION)
        if restriction:
            entries.set_restriction(out, restriction)
        return out


def view(function):
    return View(function)


def packed(shape):
    """Strides, in elements, of a contiguous tensor."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def positions(size, shape, strides, offset):
    """Flat positions, in a contiguous tensor of a size, of the elements that a geometry names."""
    found = np.full(shape, offset, np.int64)
    for d, (n, step) in enumerate(zip(shape, strides, strict=True)):
        found += (np.arange(n) * step).reshape([-1 if k == d else 1 for k in range(len(shape))])
    return found
