"""Gradient rules read as programs: a rule is called once with symbols, and what it does with them is written down.

The program is run natively (`core/rules.py`). A rule that branches on values or shapes, or computes with attributes, cannot be
written down: it stays a Python function.
"""

import dis

import numpy as np

from numbatensor.core.calls import FLOAT, LIST, TENSOR
from numbatensor.core.memory import bits_of_float
from numbatensor.core.records import COUNT, POINTWISE, SIZE, Instruction
from numbatensor.core.rules import CONSTANT, GRAD, KEPT, MOST, RESULT, SAVED_VALUE


class Untraceable(Exception):
    """What a rule does cannot be written down."""


def method(name):
    def call(self, *args, **kwargs):
        return self.program.call(OPERATIONS[name], (self, *args), kwargs)

    return call


def reflected(name):
    return lambda self, other: self.program.call(OPERATIONS[name], (other, self), {})


def refuse(self, *args):
    raise Untraceable


OPERATIONS: dict = {}  # the ops by name, put here by `op/`
OPERATORS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "pow": "pow",
    "matmul": "matmul",
}


class Traced:
    """A value of a program that is being written: where it will come from."""

    def __init__(self, program, origin, value, kinds=TENSOR):
        self.program, self.origin, self.value, self.kinds = program, origin, value, kinds

    def __getattr__(self, name):
        if not self.kinds & TENSOR:
            raise Untraceable
        if name == "mT":
            return self.program.call(OPERATIONS["transpose"], (self, -2, -1), {})
        if name in OPERATIONS:
            return lambda *args, **kwargs: self.program.call(OPERATIONS[name], (self, *args), kwargs)
        raise Untraceable

    __bool__ = __iter__ = __len__ = __index__ = __getitem__ = __float__ = __int__ = refuse
    __hash__ = object.__hash__

    def __neg__(self):
        return self.program.call(OPERATIONS["neg"], (self,), {})


for word_, name_ in OPERATORS.items():
    setattr(Traced, f"__{word_}__", method(name_))
    setattr(Traced, f"__r{word_}__", reflected(name_))
for name_ in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Traced, f"__{name_}__", method(name_))


class Program:
    """Instructions, in order."""

    def __init__(self):
        self.instructions = []

    def source(self, value):
        """Where an argument comes from: origin, value, kind."""
        if isinstance(value, Traced):
            return value.origin, value.value, 0
        if value is None:
            return CONSTANT, 0, 4
        if isinstance(value, bool):
            return CONSTANT, int(value), 1
        if isinstance(value, int):
            return CONSTANT, value, 2
        if isinstance(value, float):
            return CONSTANT, bits_of_float(value), 3
        raise Untraceable

    def call(self, op, args, kwargs):
        """Write one instruction down; gives its result."""
        names = [*op.names, *op.inputs]
        values = list(args)
        if len(values) > len(op.parameters) or any(k not in names for k in kwargs):
            raise Untraceable
        for k, parameter in enumerate(op.parameters[len(values) :], len(values)):
            given = [kwargs[n] for n in (op.names[k], op.inputs[k]) if n in kwargs]
            if not given and parameter.default is parameter.empty:
                raise Untraceable
            values.append(given[0] if given else parameter.default)
        traced = [(k, v) for k, v in enumerate(values) if isinstance(v, Traced)]
        if not any(v.kinds & TENSOR for _, v in traced) or any(not op.row["accepts"][k] & v.kinds for k, v in traced):
            raise Untraceable
        self.instructions.append((op.address, [self.source(v) for v in values]))
        if len(self.instructions) > MOST:
            raise Untraceable
        return Traced(self, RESULT, len(self.instructions) - 1)

    def words(self):
        """The program in memory: the number of instructions, then each one."""
        made = np.zeros(len(self.instructions), Instruction)
        for one, (op, sources) in zip(made, self.instructions, strict=True):
            one["op"], one["count"] = op, len(sources)
            for k, source in enumerate(sources):
                one["sources"][k] = source
        return np.concatenate([[len(made)], made.view(np.int64).reshape(-1)]).astype(np.int64)


def asks_for_none(function):
    """Whether a function compares something with None, which a symbol cannot answer."""
    return any(one.opname == "IS_OP" or one.opname.endswith("_NONE") for one in dis.get_instructions(function))


def trace(op, i, rule, names):
    """The program of the rule of input i, which takes `names`, or None where it has to stay Python."""
    if asks_for_none(rule):
        return None
    program = Program()
    values = []
    for name in names:
        which = op.which(name)
        if which in (SIZE, COUNT):
            kinds = LIST if which == SIZE else FLOAT
            values.append(Traced(program, KEPT, len(op.parameters) + which - SIZE, kinds))
        elif which == 0 or op.row["kind"] == POINTWISE or op.row["accepts"][which - 1] & TENSOR:
            values.append(Traced(program, SAVED_VALUE, which))
        else:
            values.append(Traced(program, KEPT, which - 1, int(op.row["accepts"][which - 1])))
    try:
        made = rule(Traced(program, GRAD, 0), *values)
    except Untraceable:
        return None
    last = isinstance(made, Traced) and made.origin == RESULT and made.value == len(program.instructions) - 1
    return program.words() if last else None
