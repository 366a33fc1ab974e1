"""Ops with code of their own: views, structured ops, and those that join many tensors."""

import inspect

from numbatensor.core import joining, rules, views
from numbatensor.core.calls import LIST, TENSOR
from numbatensor.core.compiler import compile, kernel, native_address
from numbatensor.core.records import SIZE, VIEW
from numbatensor.core.table import RUN
from numbatensor.hollow import EmptyBox, hollow
from numbatensor.op.base import ALL, EVERYWHERE, NUMBA, Op, name_of
from numbatensor.op.formulas import is_ours


def parameters_of(function):
    return list(inspect.signature(function).parameters.values())


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
