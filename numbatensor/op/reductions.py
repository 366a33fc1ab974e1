"""Reductions: many elements made one by a formula that combines two."""

import importlib
import inspect

import numpy as np

from kernels_cpu import reduction as reductions
from numbatensor.core import reduce
from numbatensor.core.calls import TENSOR
from numbatensor.core.compiler import kernel, native_address
from numbatensor.core.promotion import DTYPES, INT64
from numbatensor.core.table import ON_DEVICES, RUN
from numbatensor.core.tensors import FLOAT32, FLOAT64
from numbatensor.op.base import ALL, DIMS, FLAG, NUMBA, Op, computed, kind_there, name_of
from numbatensor.op.formulas import REASSOCIATED, is_ours, itself, scalar
from numbatensor.samples import REDUCED


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
