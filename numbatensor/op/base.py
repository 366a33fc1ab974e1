"""An op: a row of the dispatch table, and what fills it on first use."""

import importlib
import inspect
import sys

import numpy as np
from numba import types

from numbatensor.core import rules
from numbatensor.core.autocast import CUDA
from numbatensor.core.calls import ANY_NUMBER, BOOL, INT, LIST, NONE, REST, TENSOR
from numbatensor.core.compiler import held, publish
from numbatensor.core.memory import bits_of_float
from numbatensor.core.promotion import DTYPES, NAMES
from numbatensor.core.records import COUNT, SIZE, STRUCTURED
from numbatensor.core.records import Op as Row
from numbatensor.core.table import ON_CPU, ON_DEVICES, RESERVED, TABLE
from numbatensor.core.tensors import FLOAT16
from numbatensor.trace import OPERATIONS, Traced, trace

OPS: dict = OPERATIONS
BY_ADDRESS: dict = {}
BY_INDEX: dict = {}
NUMBA = [types.boolean, types.uint8, types.int8, types.int16, types.int32, types.int64, types.float32, types.float64]
ALL, NUMERIC, INTEGRAL, FLOATING = 0b11_11111111, 0b11_11111110, 0b00_00111111, 0b11_11000000
PUBLIC = {"x": "input", "y": "other"}  # the mathematics' names, and PyTorch's
ALIASES = {"dim": "axis", "keepdim": "keepdims"}  # NumPy's
# What annotates the parameters of a declaration: the kinds of objects that the argument can be.
OPTIONAL, NUMBER, DIMS, SIZES = TENSOR | NONE, ANY_NUMBER, LIST | INT | NONE, LIST | REST
FLAG, INDEX = BOOL, INT | NONE
EVERYWHERE = ON_CPU | ON_DEVICES
PSEUDO = ("out", "input_shape", "count")  # what a rule can ask for beside the op's arguments


def name_of(dtype):
    return NAMES[dtype]


def computed(dtype):
    """The NumPy dtype in which ops on a dtype compute."""
    return np.float32 if dtype >= FLOAT16 else DTYPES[dtype]


def kind_there(dtype):
    """The numba type of an element in the memory of a CUDA device."""
    halves = importlib.import_module("kernels_cuda.halves")
    return [*NUMBA, halves.float16, halves.bfloat16][dtype]


def default_of(parameter):
    """The kind and word of a default, as an argument record has them."""
    value = parameter.default
    if value is None or value is parameter.empty:
        return 4, 0
    if isinstance(value, bool):
        return 1, int(value)
    return (2, value) if isinstance(value, int) else (3, bits_of_float(value))


def free_row(name):
    """The number of a row of the table that no op has."""
    index = len(RESERVED) + sum(k >= len(RESERVED) for k in BY_INDEX)
    if index == len(TABLE):
        raise RuntimeError(f"{name}: there is no room for more than {index} ops; make them once, not in a loop")
    return index


known_needs: dict = {}


def needs_of(rule):
    """The names that a rule takes after the gradient."""
    if rule not in known_needs:
        known_needs[rule] = list(inspect.signature(rule).parameters)[1:]
    return known_needs[rule]


def same(grad):
    """The rule of an input that passes the gradient on as it is."""
    return grad


class Op:
    """An operation: a row of the dispatch table and what fills it on first use."""

    kind = STRUCTURED
    shown = None  # the name of the op's gradient, where it does not follow from the op's
    batching = None  # the rule of `vmap`, where it does not follow from the op's kind
    # What runs the op on CUDA devices: native code, "same" where the CPU's is made of parts that know devices; None: the CPU, on copies.
    there: object = None
    there_kernels: dict = {}  # its kernels there, by number: "module:factory" of kernels_cuda
    halves = 0  # what its code does with float16 and bfloat16, as bits: see `core/table.py`

    def __init__(self, function, parameters=None, name=None, samples=None):
        self.samples = samples  # of its arguments (see samples.py); or, in words, why there are none
        self.function, self.rules, self.needs, self.explain = function, {}, {}, None
        self.public, self.keywords, self.constants, self.formulas = True, {}, (), {}
        self.name = self.__name__ = name or function.__name__
        self.__doc__, self.__module__ = function.__doc__, function.__module__
        self.parameters = list(inspect.signature(function).parameters.values()) if parameters is None else parameters
        self.inputs = [p.name for p in self.parameters]
        index = RESERVED.index(self.name) if self.name in RESERVED else free_row(self.name)
        self.row = TABLE[index]
        self.row["index"], self.row["kind"], self.row["dtypes"], self.row["cost"] = index, self.kind, ALL, 1
        self.row["halves"] = self.halves
        self.address = TABLE.ctypes.data + index * Row.itemsize
        BY_ADDRESS[self.address] = BY_INDEX[index] = self
        self.make_known()
        self.describe_parameters()

    def kernel_there(self, what, form, dtype):
        """A kernel for CUDA devices, and its argument types. `form`: which of its forms, for the factory."""
        module, _, name = self.there_kernels[what].partition(":")
        return getattr(importlib.import_module(f"kernels_cuda.{module}"), name)(kind_there(dtype), form)

    def load_there(self, load, what, form, dtype):
        """The handle of a kernel for CUDA devices. `load`: what the driver makes handles by."""
        kernel, arguments = self.kernel_there(what, form, dtype)
        return load(kernel, arguments, f"{self.name}.{what}.{name_of(dtype)}.{form}")

    def make_known(self):
        """Enter the op where it is found by name; `key` is what compiled code knows it by."""
        OPS[self.name], self.key = self, self.name
        if self.name not in RESERVED:
            publish("op_" + self.name, self.address)

    def accepts(self, k, parameter):
        """The kinds of objects that an argument can be."""
        return parameter.annotation

    def describe_parameters(self):
        """Tell the table how Python calls the op."""
        row = self.row
        row["operands"] = len(self.parameters)
        row["required"] = sum(p.default is p.empty for p in self.parameters)
        row["tensors"] = sum(bool(self.accepts(k, p) & TENSOR) for k, p in enumerate(self.parameters))
        self.names = [sys.intern(PUBLIC.get(p.name, p.name)) for p in self.parameters]
        self.aliases = [sys.intern(ALIASES.get(n, n)) for n in self.names]
        for k, parameter in enumerate(self.parameters):
            row["accepts"][k] = self.accepts(k, parameter)
            row["names"][k], row["aliases"][k] = id(self.names[k]), id(self.aliases[k])
            row["default_kinds"][k], row["default_numbers"][k] = default_of(parameter)

    def which(self, name):
        """The bit under which a rule's wish is noted in `saves`."""
        return (
            {"out": 0, "input_shape": SIZE, "count": COUNT}.get(name) if name in PSEUDO else 1 + self.inputs.index(name)
        )

    def backward(self, **given):
        """Declare the gradient of each input, as a function of Tensors.

        The names that a rule takes, after the gradient's, are what is saved for it: `out`, inputs, attributes, `input_shape` (of
        the first input) and `count` (how many of its elements make one of the output's).
        """
        for name, rule in given.items():
            i = self.inputs.index(name)
            self.rules[name] = rule
            self.needs[i] = list(inspect.signature(rule).parameters)[1:]
            self.row["saves"][i] = sum(1 << self.which(n) for n in self.needs[i])
            self.declare_rule(i, rule)
        return self

    def declare_rule(self, i, rule):
        """Fill the table's places for the rule of input i; `finish_rules` comes later, when all ops exist."""
        self.row["rule_kind"][i] = rules.IDENTITY if rule is same else rules.PYTHON

    def finish_rules(self):
        """Write the rules that are functions of Tensors down as programs, where that can be done."""
        for i in self.needs:
            if self.row["rule_kind"][i] == rules.PYTHON:
                program = self.traced(i, self.rules[self.inputs[i]])
                if program:
                    self.row["program"][i], self.row["rule_kind"][i] = program, rules.PROGRAM

    def traced(self, i, rule):
        """The address of a rule of input i as a program; 0 where it has to stay Python."""
        program = trace(self, i, rule, needs_of(rule))
        if program is None:
            return 0
        held.append(program)
        return program.ctypes.data

    def trace_again(self):
        """Write the rules down as they are read where their results are part of a graph."""
        for i in self.needs:
            name, kind = self.inputs[i], self.row["rule_kind"][i]
            if name in self.formulas or kind in (rules.KERNEL, rules.PROGRAM):
                self.row["again"][i] = self.traced(i, self.formulas.get(name, self.rules[name])) or -1

    def formula(self, **given):
        """Declare what is used in place of a rule where its result is part of a graph: the same, in ops that have gradients."""
        for name, rule in given.items():
            unknown = set(needs_of(rule)) - set(self.needs[self.inputs.index(name)])
            if unknown:
                raise TypeError(f"{self.name}: the formula of {name} needs {unknown}, which its rule does not save")
        self.formulas = given

    @property
    def tensor_names(self):
        """The inputs that can be tensors."""
        return self.inputs[: int(self.row["tensors"])]

    def constant(self, *names):
        """Declare inputs that no gradient flows to."""
        self.constants = names
        return self

    def spelled(self, **names):
        """Declare what PyTorch calls arguments, where it is not what the mathematics calls them."""
        for name, public in names.items():
            k = self.inputs.index(name)
            self.names[k] = self.aliases[k] = sys.intern(public)
            self.row["names"][k] = self.row["aliases"][k] = id(self.names[k])
        return self

    def under_autocast(self, cpu=0, cuda=0):
        """Declare in what the op runs while autocast is on: a policy of `core/autocast.py` for the CPU, and one for CUDA devices."""
        self.row["autocast"] = cpu | cuda << CUDA
        return self

    def internal(self):
        """Keep the op out of the public names."""
        self.public = False
        return self

    def keyword(self, **changes):
        """Declare keywords that PyTorch's function has beside: each a function of (op, arguments, value) to an op and arguments."""
        self.keywords.update(changes)
        return self

    def put_kernel(self, what, dtype, made):
        """Put the address of compiled code into the table as the op's kernel number `what`; gives it."""
        (self.row["rule"][what - 1] if what else self.row["kernel"])[dtype] = made
        return made

    def batched(self, rule):
        """Declare what `vmap` makes of the op: a function of the op, the vmap and the op's arguments (see `func/rules.py`)."""
        self.batching = rule
        return self

    def explained(self, function):
        """Declare the function that says, by raising, why arguments are refused. It takes the op's arguments."""
        self.explain = function
        return function

    def __call__(self, *args, **kwargs):
        for a in args:
            if isinstance(a, Traced):
                return a.program.call(self, args, kwargs)
        return self.fast(*args, **kwargs)

    def node_name(self):
        """The name of the op's gradient, such as ``MulBackward0``."""
        if self.shown:
            return self.shown
        return "".join(part.capitalize() for part in self.name.split("_")) + "Backward0"

    def __repr__(self):
        return f"<op {self.name}>"
