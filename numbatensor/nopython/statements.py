"""What Numba's classes that make code do more of each statement: note it, and look for what Numba lets pass."""

from numbatensor.core.private import CAN_NOTE, Parfor, extend_lowering, numba_ir
from numbatensor.nopython.iteration import give, keep_count
from numbatensor.nopython.lists import keep_items
from numbatensor.nopython.lowering import at
from numbatensor.nopython.parallel import may_fail, run_parallel
from numbatensor.nopython.text import refuse_unwritten
from numbatensor.nopython.undefined import check, has_tensor, may_lack_a_value


def extended(base):
    """A lowering class that does it."""

    class Lowering(base):
        shared = frozenset()  # variables that hold no reference of their own
        suspects = None  # variables that may have no value, where there are Tensors
        tensors = False  # whether there are

        def lower_block(self, block):
            self.block = block
            if self.suspects is None:
                kinds = self.fndesc.typemap.values()
                self.tensors = any(map(has_tensor, kinds))
                self.suspects = may_lack_a_value(self.func_ir) if self.tensors else set()
                keep_count(self.context, kinds)
                keep_items(self.context, kinds)
            super().lower_block(block)

        def lower_inst(self, statement):
            with at(self, statement):
                if isinstance(statement, Parfor):
                    lower = super().lower_inst
                    return run_parallel(self, lambda: lower(statement)) if may_fail(self) else lower(statement)
                if isinstance(getattr(statement, "value", None), numba_ir.Yield):
                    give(self, statement)
                if self.suspects:
                    check(self, statement, self.suspects)
                if self.tensors:
                    refuse_unwritten(self, statement)
                super().lower_inst(statement)

    return Lowering


if CAN_NOTE:
    extend_lowering(extended)
