"""What Numba's classes that make code do more of each statement: note it, and look for what Numba lets pass."""

from numbatensor.core.private import CAN_NOTE, Parfor, extend_lowering
from numbatensor.nopython.lowering import at
from numbatensor.nopython.parallel import may_fail, run_parallel
from numbatensor.nopython.undefined import check, has_tensor, may_lack_a_value


def extended(base):
    """A lowering class that does it."""

    class Lowering(base):
        shared = frozenset()  # variables that hold no reference of their own
        suspects = None  # variables that may have no value, where there are Tensors

        def lower_block(self, block):
            self.block = block
            if self.suspects is None:
                tensors = any(map(has_tensor, self.fndesc.typemap.values()))
                self.suspects = may_lack_a_value(self.func_ir) if tensors else set()
            super().lower_block(block)

        def lower_inst(self, statement):
            with at(self, statement):
                if isinstance(statement, Parfor):
                    lower = super().lower_inst
                    return run_parallel(self, lambda: lower(statement)) if may_fail(self) else lower(statement)
                if self.suspects:
                    check(self, statement, self.suspects)
                super().lower_inst(statement)

    return Lowering


if CAN_NOTE:
    extend_lowering(extended)
