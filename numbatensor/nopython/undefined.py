"""Variables without a value: Python raises, Numba goes on with a null. A Tensor that is null would crash, so this is looked at before."""

from numba.core import types

from numbatensor.core.compiler import word
from numbatensor.core.private import eh, numba_ir
from numbatensor.nopython.calls import refuse
from numbatensor.nopython.tensor_type import TensorType


def catches(func_ir):
    """Whether a function has a `try`: what is assigned in it may have failed."""
    values = [s.value for block in func_ir.blocks.values() for s in block.find_insts(numba_ir.Assign)]
    return any(isinstance(v, numba_ir.Global) and v.value is eh.exception_check for v in values)


def may_lack_a_value(func_ir):
    """The variables that are null on some way through a function, as Numba writes it down: directly, or as copies of others."""
    assigns = [s for block in func_ir.blocks.values() for s in block.find_insts(numba_ir.Assign)]
    if catches(func_ir):
        return {s.target.name for s in assigns}
    found: set = set()
    more = {s.target.name for s in assigns if isinstance(s.value, numba_ir.Expr) and s.value.op == "null"}
    while more - found:
        found |= more
        more = {s.target.name for s in assigns if isinstance(s.value, numba_ir.Var) and s.value.name in found}
    return found


def has_tensor(kind):
    return isinstance(kind, TensorType) or (isinstance(kind, types.BaseTuple) and any(map(has_tensor, kind)))


def first_record(builder, kind, value):
    """The pointer of the first tensor in a value."""
    if isinstance(kind, TensorType):
        return builder.extract_value(value, 0)
    k = next(k for k, inner in enumerate(kind) if has_tensor(inner))
    return first_record(builder, kind[k], builder.extract_value(value, k))


def used(statement):
    """The variables that a statement reads, but for copies, which may hand a null on."""
    if isinstance(statement, numba_ir.Assign):
        return statement.value.list_vars() if isinstance(statement.value, numba_ir.Expr) else []
    return statement.list_vars()


def check(lowering, statement, suspects):
    """Code that raises where a Tensor which a statement reads has no value."""
    builder = lowering.builder
    for name in {v.name for v in used(statement)} & suspects:
        kind = lowering.typeof(name)
        if has_tensor(kind) and (name in lowering.varmap or name in lowering._blk_local_varmap):
            record = builder.ptrtoint(first_record(builder, kind, lowering.loadvar(name)), word)
            with builder.if_then(builder.icmp_unsigned("==", record, word(0)), likely=False):
                text = f"cannot access local variable '{name.split('.')[0]}' where it is not associated with a value"
                refuse(lowering.context, builder, UnboundLocalError, text)
