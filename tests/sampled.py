"""Ops, called with the samples that stand in their declarations."""

import zlib

import numpy as np

import numbatensor as nt
from numbatensor.op import OPS, Joined, Structured
from numbatensor.samples import draw

WRITES = 2  # the trait of structured ops that write into their first argument


class Case:
    """One sample of one op: a function of tensors, and the arrays that they are made of."""

    def __init__(self, name, number):
        self.op, self.id = OPS[name], f"{name}-{number}"
        self.arguments = draw(self.op.samples, zlib.crc32(name.encode()))[number]
        self.arrays, self.wanted = [], []
        for k, value in enumerate(self.arguments):
            for array in [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, np.ndarray)]:
                ruled = isinstance(self.op, Joined) or self.op.inputs[k] in self.op.rules
                self.arrays.append(array)
                self.wanted.append(ruled and array.dtype.kind == "f")

    def __call__(self, *tensors):
        """The op, of tensors in the places of the arrays."""
        left = iter(tensors)
        take = lambda value: next(left) if isinstance(value, np.ndarray) else value
        values = [
            tuple(take(v) for v in value) if isinstance(value, tuple) else take(value) for value in self.arguments
        ]
        if isinstance(self.op, Structured) and self.op.row["trait"] == WRITES:
            return self.op.slow.fast_in_place(values[0].clone(), *values[1:])
        return self.op(*values)

    def tensors(self, dtype=None, turned=False):
        """Tensors that require gradients where the op has a rule; in another dtype, or with other strides."""
        made = []
        for array, wanted in zip(self.arrays, self.wanted, strict=True):
            array = array.astype(dtype) if dtype and array.dtype.kind == "f" else array
            t = nt.from_numpy(np.asfortranarray(array[::-1])[::-1]) if turned and array.ndim else nt.tensor(array)
            made.append(t.requires_grad_(wanted))
        return made


CASES = [Case(name, k) for name, op in OPS.items() if not isinstance(op.samples, str) for k in range(len(op.samples))]
