"""Pointwise ops: a formula on numbers, applied to every element."""

import importlib

import numpy as np
from numba import types

from numbatensor.core import rules
from numbatensor.core.calls import ANY_NUMBER, TENSOR
from numbatensor.core.promotion import CODES, DTYPES
from numbatensor.core.records import POINTWISE
from numbatensor.core.table import FIXED
from numbatensor.op.base import ALL, FLOATING, NUMBA, Op, computed, kind_there, name_of, same
from numbatensor.op.formulas import elementwise, scalar
from numbatensor.samples import reals, truths, whole


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
