"""Ops that Python runs and records."""

from numbatensor.core import entries, node_entries, rules
from numbatensor.core import python as native
from numbatensor.core.handles import hold
from numbatensor.core.modes import get_grad as recording
from numbatensor.core.records import INPUTS
from numbatensor.core.tensors import FLOAT32
from numbatensor.hollow import Hollow
from numbatensor.op.base import Op, needs_of


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
