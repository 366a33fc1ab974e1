"""The kinds of op, and how one declaration becomes a row of the dispatch table."""

import ctypes
import dis
import importlib
import inspect
import math
import sys
import types as python

import numpy as np
from numba import types

from kernels_cpu import exact, mathematics
from kernels_cpu import pointwise as skeleton
from kernels_cpu import reduction as reductions
from numbatensor.core import entries, joining, node_entries, reduce, rules, views
from numbatensor.core import python as native
from numbatensor.core.autocast import CUDA
from numbatensor.core.calls import ANY_NUMBER, BOOL, INT, LIST, NONE, REST, TENSOR
from numbatensor.core.compiler import compile, held, kernel, native_address, publish
from numbatensor.core.handles import hold
from numbatensor.core.memory import bits_of_float
from numbatensor.core.modes import get_grad as recording
from numbatensor.core.promotion import CODES, DTYPES, INT64, NAMES
from numbatensor.core.records import COUNT, INPUTS, POINTWISE, SIZE, STRUCTURED, VIEW, view_record
from numbatensor.core.records import Arguments as ArgumentsRecord
from numbatensor.core.records import Op as Row
from numbatensor.core.records import Storage as StorageRecord
from numbatensor.core.table import CONVERSIONS, FIXED, ON_CPU, ON_DEVICES, RESERVED, RUN, TABLE
from numbatensor.core.tensors import FLOAT16, FLOAT32, FLOAT64
from numbatensor.hollow import EmptyBox, Hollow, hollow
from numbatensor.samples import REDUCED, reals, truths, whole
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


def globals_read(code):
    """The global names that a function reads: `math` in ``math.tanh``, not `tanh`."""
    return sorted({one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"})


def scalar(function, dtype, functions=mathematics):
    """A declared formula with its literals in `dtype`, and `math`, or `mathematics`, replaced by another module's functions.

    ``1.0 - out * out`` would otherwise compute float32 in float64. The module says what it has under other names (`REPLACED`), and how a
    formula that a formula calls is compiled (`device`).
    """
    code = function.__code__
    kind = np.dtype(dtype).type
    if np.dtype(dtype).kind == "f":
        code = code.replace(co_consts=tuple(kind(c) if type(c) in (int, float) else c for c in code.co_consts))
    known = dict(function.__globals__)
    for name in globals_read(code):
        if known.get(name) is math or known.get(name) is mathematics:
            known[name] = functions
        elif isinstance(known.get(name), Op):
            known[name] = functions.device(scalar(known[name].function, dtype, functions))
        elif name in functions.REPLACED:
            known[name] = getattr(functions, name, known[name])
    return python.FunctionType(code, known, function.__name__, function.__defaults__, function.__closure__)


def is_bounded(function):
    """Whether a formula uses functions that answer NaN beyond a bound."""
    inner = [function.__globals__.get(name) for name in globals_read(function.__code__)]
    return any(name in mathematics.BOUNDED for name in function.__code__.co_names) or any(
        isinstance(op, Op) and is_bounded(op.function) for op in inner
    )


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


class Pointwise(Op):
    """A scalar formula, applied to every element of its operands, broadcast."""

    kind = POINTWISE
    there = "same"  # a kernel of the same formula

    def __init__(self, function, tensors, result, promotes, dtypes, masks, cost, trait, samples):
        self.tensors, self.masks = tensors, masks
        super().__init__(function)
        row = self.row
        row["result"] = 0 if result is None else 1 + CODES[np.dtype(result)]
        row["promotes"], row["dtypes"], row["cost"] = promotes, dtypes, cost
        row["masks"] = sum(1 << self.inputs.index(m) for m in masks)
        row["trait"] = trait
        if samples is None:
            samples = reals() if dtypes & FLOATING and not result else whole(0, 4)
        if not isinstance(samples, list):
            domains = samples if isinstance(samples, tuple) else [samples] * int(row["tensors"])
            samples = [tuple(truths(*d.shape) if n in masks else d for n, d in zip(self.inputs, domains, strict=False))]
        self.samples = samples

    def accepts(self, k, parameter):
        return ANY_NUMBER | (TENSOR if self.tensors is None or k < self.tensors else 0)

    def declare_rule(self, i, rule):
        """A rule of a pointwise op is a formula on numbers, compiled into one kernel, that also reads as one on Tensors."""
        needs = self.needs[i]
        if needs != sorted(needs, key=self.which):
            raise TypeError(f"{self.name}: a rule takes its saved values as `out`, then the inputs in order")
        self.row["rule_kind"][i] = rules.IDENTITY if rule is same else rules.KERNEL

    def parts(self, what, dtype, known):
        """The formula of the op (0), or of the rule of an input (1 + i), and the numba types of its result and operands.

        `known`: the types by dtype. Operands are of `dtype`, but for masks.
        """
        if what == 0:
            formula, names, result = self.function, self.inputs, self.row["result"]
        else:
            formula, names, result = self.rules[self.inputs[what - 1]], ["grad", *self.needs[what - 1]], 0
        kinds = [known[result - 1 if result else dtype]]
        return formula, kinds + [types.boolean if n in self.masks else known[dtype] for n in names]

    def kernel_there(self, what, form, dtype):
        skeleton, functions = (importlib.import_module(f"kernels_cuda.{name}") for name in ("pointwise", "mathematics"))
        formula, kinds = self.parts(what, dtype, [kind_there(k) for k in range(len(DTYPES))])
        return skeleton.elementwise(scalar(formula, computed(dtype), functions), kinds, form)

    def compile(self, what, dtype):
        """The address of the kernel (0), of its variant with operand k fixed (FIXED - k), or of the rule of an input (1 + i)."""
        formula, kinds = self.parts(max(what, 0), dtype, NUMBA)
        if what <= 0:
            fixed = FIXED - what if what else 0
            made = elementwise(f"{self.name}.{name_of(dtype)}", formula, kinds, DTYPES[dtype], fixed)
            (self.row["fixed_kernel"][fixed] if fixed else self.row["kernel"])[dtype] = made
        else:
            made = elementwise(f"{self.name}.{self.inputs[what - 1]}.{name_of(dtype)}", formula, kinds, DTYPES[dtype])
            self.row["rule"][what - 1][dtype] = made
        return made


def elementwise(name, function, kinds, dtype, fixed=0):
    def make():
        unbounded = scalar(function, dtype, exact) if np.dtype(dtype).kind == "f" and is_bounded(function) else None
        return skeleton.elementwise(scalar(function, dtype), kinds, fixed, unbounded)

    return kernel(make, f"{name}.{fixed}", 2, {"contract"}, is_ours(function))


def is_ours(function):
    """Whether a formula stands in our sources."""
    return function.__module__ == __name__ or function.__module__.startswith("numbatensor.ops.")


def same(grad):
    """The rule of an input that passes the gradient on as it is."""
    return grad


def pointwise(
    function=None,
    *,
    tensors=None,
    result=None,
    promotes=False,
    dtypes=ALL,
    masks=(),
    cost=1,
    trait=0,
    samples=None,
):
    """Declare a pointwise op by its formula on numbers. `trait`: see `core/table.py`.

    `samples`: the domain where the formula is real and smooth, if that is not all numbers; one for each operand, where they differ; or
    a list of samples.
    """
    declared = lambda f: Pointwise(f, tensors, result, promotes, dtypes, masks, cost, trait, samples)
    return declared if function is None else declared(function)


def parameters_of(function):
    return list(inspect.signature(function).parameters.values())


def widened(code):
    """The accumulator of sums: int64 for integers, float64 for floats."""
    return INT64 if code < FLOAT32 else FLOAT32 + 1


def summed(code):
    """The dtype of a sum: int64 for integers."""
    return INT64 if code < FLOAT32 else code


def unchanged(code):
    return code


def boolean(code):
    return 0


def itself(x):
    return x


def accumulated(acc, count, second):
    return acc


class Reduction(Op):
    """Many elements made one: ``finish(combine over i of term(x[i]))``.

    The declared function is the combination. `term` takes an element (and, of a centred reduction, the mean), `finish` the
    accumulator, the number of elements and one more parameter.
    """

    halves = ON_DEVICES

    def __init__(
        self,
        function,
        identity,
        term=itself,
        finish=accumulated,
        partial=None,
        accumulator=unchanged,
        outcome=unchanged,
        dtypes=ALL,
        needs_element=False,
        run=reduce.reduction,
        there="device_reduce:reduction_there",
        more=(),
        samples=REDUCED,
    ):
        parameter = inspect.Parameter
        named = [("x", TENSOR, parameter.empty), ("dim", DIMS, None), ("keepdim", FLAG, False), *more]
        kind = parameter.POSITIONAL_OR_KEYWORD
        super().__init__(function, [parameter(n, kind, default=d, annotation=a) for n, a, d in named])
        self.samples = samples
        self.identity, self.term, self.finish, self.run, self.there = identity, term, finish, run, there
        self.row["dtypes"], self.row["trait"] = dtypes, needs_element
        for code in range(len(DTYPES)):
            self.row["accumulator"][code] = accumulator(code)
            self.row["partial"][code] = (partial or accumulator)(code)
            self.row["outcome"][code] = outcome(code)

    def start(self, dtype):
        kind = np.dtype(DTYPES[dtype])
        return self.identity(kind) if callable(self.identity) else self.identity

    def compile(self, what, dtype):
        if what == RUN:
            self.row["run"] = native_address(self.run)
            return self.row["run"]
        k = what - 1
        name = f"{self.name}.{('rows', 'columns', 'merge', 'start', 'fold', 'finish')[k]}.{name_of(dtype)}"
        words = 3 if k in (reduce.ROWS, reduce.COLUMNS) else 2
        made = kernel(lambda: self.part(k, dtype), name, words, REASSOCIATED, is_ours(self.function))
        self.row["rule"][k][dtype] = made
        return made

    def part(self, k, dtype):
        """The function of kernel k."""
        codes = [int(self.row[field][dtype]) for field in ("accumulator", "partial")]
        accumulator, partial = (NUMBA[c] for c in codes)
        combine, term = (scalar(f, DTYPES[codes[1]]) for f in (self.function, self.term))
        wide = scalar(self.function, DTYPES[codes[0]])
        start = self.start(codes[0])
        centred = len(inspect.signature(self.term).parameters) > 1
        kinds = (accumulator, partial, NUMBA[dtype])
        if k == reduce.ROWS:
            return reductions.rows(term, combine, start, kinds, centred)
        if k == reduce.COLUMNS:
            return reductions.columns(term, combine, start, kinds, centred)
        if k == reduce.MERGE:
            return reductions.merge(wide, start, accumulator)
        if k == reduce.START:
            return reductions.fill(start, accumulator)
        if k == reduce.FOLD:
            return reductions.fold(wide, accumulator, partial)
        return reductions.finish(self.finish, accumulator, NUMBA[int(self.row["outcome"][dtype])])

    def kernel_there(self, what, form, dtype):
        """See `kernels_cuda/reduction.py`. For accumulators see `accumulator_there` of `core/reduce.py`."""
        module, functions = (importlib.import_module(f"kernels_cuda.{name}") for name in ("reduction", "mathematics"))
        code = int(self.row["accumulator"][dtype])
        code = FLOAT32 if code >= FLOAT32 and dtype != FLOAT64 else code
        combine, finish = (scalar(f, DTYPES[code], functions) for f in (self.function, self.finish))
        term, centred = scalar(self.term, computed(dtype), functions), len(inspect.signature(self.term).parameters) > 1
        kinds = [kind_there(c) for c in (code, dtype, int(self.row["outcome"][dtype]))]
        return module.reduction(what, form, term, combine, finish, self.start(code), kinds, centred)


def reduction(identity, **declared):
    """Declare a reduction by the formula that combines two values, and what else :class:`Reduction` takes.

    `more`: further parameters (name, kind, default).
    """
    return lambda function: Reduction(function, identity, **declared)


class View(Op):
    """New geometry over the same memory (see `core/views.py`)."""

    kind, halves = VIEW, EVERYWHERE

    def __init__(self, function, overlaps, run, samples):
        named = parameters_of(function)
        super().__init__(function, named if run else named[1:], samples=samples)
        self.run = run
        self.row["trait"] = overlaps
        self.rules[self.inputs[0]] = None  # native code undoes the view
        self.row["rule_kind"][0] = rules.UNDO_VIEW
        self.row["saves"][0] = (1 << SIZE) | sum(2 << k for k in range(1, len(self.inputs)))

    def accepts(self, k, parameter):
        return TENSOR if k == 0 else parameter.annotation

    def compile(self, what, dtype):
        if self.run:
            self.row["run"] = native_address(self.run)
        else:
            getters = [
                views.list_argument if p.annotation & LIST else views.number_argument for p in self.parameters[1:]
            ]
            code = views.view_runner(self.function, getters)
            self.row["run"] = compile(code, f"view.{self.name}", arguments=3).address
        return self.row["run"]


def view(*, samples, overlaps=False, run=None):
    """Declare a view by its function of geometry, or by native code (`run`)."""
    return lambda function: View(function, overlaps, run, samples)


class Structured(Op):
    """An op with code of its own: a native function, and the kernels that it uses."""

    def __init__(self, function, run, kernels, dtypes, writes, samples, there, there_kernels, halves):
        self.halves = halves
        super().__init__(function, samples=samples)
        self.run, self.kernels = run, kernels
        self.there, self.there_kernels = there, there_kernels
        self.row["dtypes"], self.row["trait"] = dtypes, int(writes)

    def compile(self, what, dtype):
        if what == RUN:
            if self.run is None:
                raise NotImplementedError(f"{self.name} is only ever recorded, never run")
            self.row["run"] = native_address(self.run)
            return self.row["run"]
        factory, count, flags = self.kernels[what]
        name = f"{self.name}.{factory.__name__}.{name_of(dtype)}.{what}"
        make = lambda: factory(NUMBA[dtype])
        return self.put_kernel(what, dtype, kernel(make, name, count, flags, is_ours(self.function)))


EXACT, REASSOCIATED = frozenset({"contract"}), frozenset({"contract", "reassoc", "nsz"})  # LLVM's freedoms


def structured(*, samples, run=None, kernels=(), dtypes=ALL, writes=0, there=None, there_kernels=(), halves=0):
    """Declare an op that `run`, a native function, computes; without it, one that is only ever recorded.

    `kernels`: for each kernel its factory, how many words it takes, and LLVM's freedoms. `writes`: it can write in place into its
    first argument, if that is contiguous (1), or it always does (2). `there`, `there_kernels`: the same for CUDA devices; `halves`: what its code
    does with float16 and bfloat16 (see `core/table.py`).
    """
    return lambda function: Structured(function, run, kernels, dtypes, writes, samples, there, there_kernels, halves)


class Joined(Op):
    """Any number of tensors made one; the gradient of each is a part of the whole's."""

    halves = EVERYWHERE

    def __init__(self, name, doc, run, new, samples):
        def function():
            raise NotImplementedError(f"{name} takes a sequence of tensors")

        function.__doc__ = doc
        super().__init__(function, [], name, samples)
        self.run, self.there = run, "same"
        self.row["trait"], self.row["rule_kind"][0] = new, rules.SPLIT
        self.public = False

    def compile(self, what, dtype):
        self.row["run"] = native_address(self.run)
        return self.row["run"]

    def __call__(self, tensors, dim, out=None):
        tensors = tuple(tensors)
        try:
            return joining.join_tensors(self.address, tensors, dim, out)
        except EmptyBox:
            inner = hollow(tensors)
            if inner is None or out is not None:
                raise
            return inner.join(self, tensors, dim)


def decoded(op, arguments):
    """The Python values in an argument record; tensors as Tensors."""
    a, values = view_record(arguments, ArgumentsRecord), []
    for k in range(len(op.parameters)):
        kind, number = int(a["kinds"][k]), int(a["numbers"][k])
        if a["tensors"][k]:
            values.append(entries.box_of(int(a["tensors"][k])))
        elif kind == 5:
            values.append(tuple(int(n) for n in a["lists"][number : number + int(a["lengths"][k])]))
        else:
            values.append(plain(kind, number))
    return values


def plain(kind, number):
    """The Python value of a number by its kind."""
    return None if kind in (0, 4) else bool(number) if kind == 1 else number if kind == 2 else float_of_bits(number)


def float_of_bits(number):
    return float(np.int64(number).view(np.float64))


@native.callback
def refused(op, arguments):
    """Raise the error of arguments that an op cannot take."""
    declared = BY_ADDRESS[op]
    if isinstance(declared, Joined):
        parts, count, dim = (int(n) for n in view_record(arguments, ArgumentsRecord)["numbers"][:3])
        found = (ctypes.c_int64 * count).from_address(parts)
        declared.explain([entries.box_of(t) for t in found], dim)
    values = decoded(declared, arguments)
    if declared.explain:
        declared.explain(*values)
    shown = ", ".join(
        f"{n}={list(v.shape) if isinstance(v, native.TensorBase) else v}"
        for n, v in zip(declared.names, values, strict=True)
    )
    raise RuntimeError(f"{declared.name}: these arguments do not fit together: {shown}")


@native.callback
def resolve(op, what, dtype):
    """Compile, or load, what a slot of the table is missing."""
    if op == 0:
        target, source = what, dtype
        name = f"to.{name_of(target)}.{name_of(source)}"
        made = elementwise(name, itself, [NUMBA[target], NUMBA[source]], DTYPES[source])
        CONVERSIONS[target, source] = made
        return made
    return int(BY_ADDRESS[op].compile(what, dtype))


@native.callback
def trace_again(op):
    """Write an op's rules down for results that are part of a graph."""
    BY_ADDRESS[op].trace_again()
    return 0


def from_array(array):
    """A new tensor with the elements of an array; takes over a fresh array's memory."""
    array = np.asarray(array)
    array = array.astype(np.float64) if array.dtype == np.longdouble else array
    array = array if array.flags.writeable else array.copy()
    made = entries.new_foreign(array.ctypes.data, array.shape, array.strides, CODES[array.dtype], hold(array), 0)
    view_record(entries.get(made, entries.STORAGE), StorageRecord)["aliases"] = 0
    return made


class Recorded(Op):
    """An op that Python runs and records itself: any number of inputs, attributes of any kind."""

    def __init__(self, name, doc, inputs=(), samples=None):
        def function():
            raise NotImplementedError(f"{name} is recorded, never run by the table")

        function.__doc__ = doc
        super().__init__(function, [], name, samples)
        self.inputs = list(inputs)

    def backward(self, **given):
        """Declare the gradient of each input: a rule takes the gradient and, by name, `out`, inputs and attributes."""
        self.rules = given
        for k in range(INPUTS):
            self.row["rule_kind"][k] = rules.PYTHON
        return self

    def record(self, out, inputs, attributes, in_place=False):
        """Give `out` a node. `inputs`: tensors, or numbers, by name."""
        if isinstance(out, Hollow):
            return out
        wanted = [
            n for n, t in inputs.items() if isinstance(t, native.TensorBase) and n in self.rules and t.requires_grad
        ]
        if not wanted or not recording() or entries.get(out, entries.DTYPE) < FLOAT32:
            return out
        names = [*inputs]
        needs = {need for n in wanted for need in needs_of(self.rules[n])}
        saved = [("out", out)] if "out" in needs else []
        saved += [(n, inputs[n]) for n in names if n in needs and isinstance(inputs[n], native.TensorBase)]
        kept = {
            n: v for n, v in {**inputs, **attributes}.items() if n in needs and not isinstance(v, native.TensorBase)
        }
        whiches = tuple(0 if n == "out" else 1 + names.index(n) for n, _ in saved)
        handle = hold((names, [n for n, _ in saved], kept))
        node_entries.record_python(
            self.address,
            out,
            tuple(inputs[n] if n in wanted else None for n in names),
            tuple(t for _, t in saved),
            whiches,
            handle,
            int(in_place),
        )
        return out


known_needs: dict = {}


def needs_of(rule):
    """The names that a rule takes after the gradient."""
    if rule not in known_needs:
        known_needs[rule] = list(inspect.signature(rule).parameters)[1:]
    return known_needs[rule]
