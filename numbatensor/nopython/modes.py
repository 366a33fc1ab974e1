"""Recording or not in compiled code: ``with nt.no_grad():``, and `nt.is_grad_enabled`."""

from numba.core import types
from numba.core.typing.templates import infer_global

from numbatensor.autograd import modes
from numbatensor.core.compiler import word
from numbatensor.core.private import build_definitions, ir
from numbatensor.nopython.calls import as_word, invoke_cell
from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.ops import Function, declare, functions


def switch_type(args, kws):
    return types.boolean, args, None


@lambda code: declare("switch_grad", switch_type, code)
def switch(context, builder, sig, args):
    on = as_word(context, builder, sig.args[0], args[0])[1]
    before = invoke_cell(context, builder, "compiled_switch_grad", [on])
    return builder.icmp_signed("!=", before, word(0))


@lambda code: declare("is_grad_enabled", lambda args, kws: (types.boolean, args, None), code)
def is_grad_enabled(context, builder, sig, args):
    return builder.icmp_signed("!=", invoke_cell(context, builder, "compiled_is_recording", [word(0)]), word(0))


@lambda code: declare("mode", lambda args, kws: (types.none, args, None), code)
def mode(context, builder, sig, args):
    """``nt.no_grad()``, of which the block that it opens takes care."""
    return context.get_dummy_value()


for kind in (modes.no_grad, modes.enable_grad):
    infer_global(kind, Function("mode", functions["mode"]))
FUNCTIONS[modes.is_grad_enabled] = "is_grad_enabled"


class Switch:
    """What the code of a block calls at its start and end."""

    _numba_type_ = Function("switch_grad", switch_type)


def in_block(recording, func_ir, blocks, start, end, body, dispatcher_factory, extra):
    """Record, or not, between the start and the end of a `with` block."""
    scope, loc = blocks[start].scope, blocks[start].loc
    function, before, flag = (scope.redefine(name, loc) for name in ("$switch_grad", "$recorded", "$recording"))
    named = lambda: ir.Global("switch_grad", SWITCH, loc)
    entering = [
        ir.Assign(named(), function, loc),
        ir.Assign(ir.Const(recording, loc), flag, loc),
        ir.Assign(ir.Expr.call(function, [flag], (), loc), before, loc),
    ]
    again, restored = scope.redefine("$switch_grad", loc), scope.redefine("$recorded", loc)
    leaving = [
        ir.Assign(named(), again, loc),
        ir.Assign(ir.Expr.call(again, [before], (), loc), restored, loc),
    ]
    blocks[start].body = blocks[start].body[1:-1] + entering + [blocks[start].body[-1]]
    blocks[end].body = leaving + blocks[end].body
    func_ir._definitions = build_definitions(blocks)


SWITCH = Switch()
