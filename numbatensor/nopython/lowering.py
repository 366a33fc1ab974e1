"""Which statement of which function code is being made for: Numba tells it to nobody, so its lowering classes are made to note it.

Where that cannot be done (`CAN_NOTE` in `core/private.py`), errors name no line of compiled code, and what a function's variables hold
when an op fails in it is leaked.
"""

import contextlib
import threading

from numbatensor.core.private import numba_ir

now = threading.local()


def current():
    """What makes the code that is being made on this thread, at its `statement` in its `block`; None where that is not known."""
    return getattr(now, "lowering", None)


@contextlib.contextmanager
def at(lowering, statement):
    """Note a statement while its code is made."""
    outer, before = current(), getattr(lowering, "statement", None)
    lowering.statement, now.lowering = statement, lowering
    try:
        yield
    finally:
        lowering.statement, now.lowering = before, outer


def held(lowering):
    """Types and values of the variables that hold something where code is being made."""
    known = set()  # what this block alone knows, which is in registers
    for statement in lowering.block.body:
        if statement is lowering.statement:
            break
        if isinstance(statement, numba_ir.Assign):
            known.add(statement.target.name)
        if isinstance(statement, numba_ir.Del):
            known.discard(statement.value)
    for name, place in lowering.varmap.items():
        if name not in lowering.shared:
            yield lowering.typeof(name), lowering.builder.load(place)
    for name, value in lowering._blk_local_varmap.items():
        if name in known:
            yield lowering.typeof(name), value
