"""``x.view(...)`` in compiled code: Numba lets only arrays have a method of that name, and looks at names after it has found the types."""

from numbatensor.core.private import Rewrite, numba_ir, register_rewrite
from numbatensor.nopython.attributes import OTHER_NAMES
from numbatensor.nopython.ops import Method

(OTHER_NAME,) = OTHER_NAMES


@register_rewrite("after-inference")
class OtherName(Rewrite):
    """Calls the method otherwise, where it is a Tensor's: what is called is known by its type by then."""

    def match(self, func_ir, block, typemap, calltypes):
        self.block = block
        self.found = [
            expr
            for expr in block.find_exprs(op="getattr")
            if expr.attr == "view" and isinstance(typemap.get(target_of(block, expr)), Method)
        ]
        return bool(self.found)

    def apply(self):
        for expr in self.found:
            expr.attr = OTHER_NAME
        return self.block


def target_of(block, expr):
    """The name of the variable that an expression is assigned to."""
    return next(s.target.name for s in block.find_insts(numba_ir.Assign) if s.value is expr)
