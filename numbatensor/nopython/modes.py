"""Modes in compiled code: ``with nt.no_grad():`` and its like, `nt.set_grad_enabled`, and what tells which mode it is.

A mode is a number there: its bits, and for one that begins when it is named the modes before in the upper half.
"""

from numba.core import types
from numba.core.errors import TypingError
from numba.core.typing.templates import infer_global
from numba.extending import models, register_model

from numbatensor.autograd import modes
from numbatensor.core.compiler import word
from numbatensor.core.modes import INFERENCE
from numbatensor.core.private import build_definitions, numba_ir
from numbatensor.nopython.calls import as_word, invoke_cell
from numbatensor.nopython.functions import FUNCTIONS
from numbatensor.nopython.ops import Function, declare, functions
from numbatensor.nopython.python_calls import named
from numbatensor.nopython.results import plain


class ModeType(types.Type):
    """A mode of Python's class `mode`."""

    def __init__(self, mode):
        self.mode = mode
        super().__init__(f"numbatensor.{mode.__name__}")


@register_model(ModeType)
class ModeModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, word)


def lasts(mode):
    return issubclass(mode, modes.Lasting)


def typer_of(mode):
    """The typing of a call of a mode's class."""

    def typer(args, kws):
        given = [*args, *kws.values()]
        if mode in (modes.no_grad, modes.enable_grad):
            if given:
                raise TypingError(f"{mode.__name__}() takes no arguments in compiled code")
        elif len(given) > 1 or set(kws) - {"mode"} or (lasts(mode) and not given):
            raise TypingError(f"{mode.__name__}() takes one argument in compiled code: whether it is on")
        if given and not isinstance(plain(given[0]), (types.Boolean, types.Integer)):
            raise TypingError(f"{mode.__name__}(): the argument must be a bool, not {given[0]}")
        return ModeType(mode), tuple(given), [named("mode")] if kws else None

    return typer


def set_mode(context, builder, mode, bits):
    """Set this thread's bits of a mode; the modes before."""
    return invoke_cell(context, builder, "compiled_set_mode", [word(mode.mask), bits])


def code_of(mode):
    """The bits are those of the mode's class, or the class's mask where its argument turns it on, and off else."""

    def code(context, builder, sig, args):
        if issubclass(mode, modes.Bare):
            return word(mode.bits)
        bits = word(mode.mask)
        if args:
            number = as_word(context, builder, sig.args[0], args[0])[1]
            on = builder.icmp_signed("==" if lasts(mode) else "!=", number, word(0))
            bits = builder.select(on, bits, word(0))
        if not lasts(mode):
            return bits
        before = set_mode(context, builder, mode, bits)
        return builder.or_(bits, builder.shl(before, word(32)))

    return code


@lambda code: declare("enter_mode", lambda args, kws: (types.int64, args, None), code)
def enter(context, builder, sig, args):
    """Begin a block in a mode; the modes before."""
    if lasts(sig.args[0].mode):
        return builder.lshr(args[0], word(32))
    return set_mode(context, builder, sig.args[0].mode, args[0])


@lambda code: declare("leave_mode", lambda args, kws: (types.none, args, None), code)
def leave(context, builder, sig, args):
    """End the block: give the mode's bits what they were."""
    set_mode(context, builder, sig.args[0].mode, args[1])
    return context.get_dummy_value()


def asks(bits, answer):
    """A function that looks at this thread's modes."""

    def code(context, builder, sig, args):
        found = invoke_cell(context, builder, "compiled_set_mode", [word(0), word(0)])
        return builder.icmp_signed(answer, builder.and_(found, word(bits)), word(0))

    return code


for mode in (modes.no_grad, modes.enable_grad, modes.set_grad_enabled, modes.inference_mode, modes.strict_versions):
    declare(f"mode.{mode.__name__}", typer_of(mode), code_of(mode))
    infer_global(mode, Function(f"mode.{mode.__name__}", functions[f"mode.{mode.__name__}"]))
for name, bits, answer in (
    ("is_grad_enabled", modes.no_grad.mask, "=="),
    ("is_inference_mode_enabled", INFERENCE, "!="),
):
    declare(name, lambda args, kws: (types.boolean, args, None), asks(bits, answer))
    FUNCTIONS[getattr(modes, name)] = name


class Named:
    """What the code of a block names at its start and end."""

    def __init__(self, name):
        self._numba_type_ = Function(name, functions[name])


ENTER, LEAVE = Named("enter_mode"), Named("leave_mode")


class Block:
    """What Numba asks of a block before it keeps a function in its cache: as of code of its own, which this block has none of."""

    can_cache = True

    def __init__(self, line):
        self.line, self.overloads = line, {}

    def get_source_location(self):
        return self.line


def reached(blocks, first, stop):
    """The blocks of code that are reached from the first one and not only through another."""
    found, ahead = set(), [first]
    while ahead:
        label = ahead.pop()
        if label not in found and label != stop:
            found.add(label)
            ahead += blocks[label].terminator.get_targets()
    return found


def check_end(blocks, start, end, loc):
    """Refuse a `with` block that is left other than by its end, or that is gone on with after it: Numba does not see every way out."""
    inside = reached(blocks, start, end)
    shared = getattr(blocks[end].body[0], "value", None)  # by two blocks: the end of the other is made already
    returns = any(isinstance(blocks[label].terminator, numba_ir.Return) for label in inside)
    shared = isinstance(shared, numba_ir.Global) and shared.value is LEAVE
    if returns or shared or inside & reached(blocks, end, start):
        raise TypingError(
            "break, continue and return cannot leave the block of a mode: Numba does not see each end of a `with` block. Note in a "
            "variable what to do, and do it after the block",
            loc=loc,
        )


def in_block(func_ir, blocks, start, end, body, dispatcher_factory, extra):
    """Begin the mode that a `with` block names at its start, and end it at its end."""
    scope, loc = blocks[start].scope, blocks[start].loc
    mode = next(s.contextmanager for s in blocks[start].body if isinstance(s, numba_ir.EnterWith))
    if extra is None:
        raise TypingError("a mode that a block opens has to be called in its line: with nt.no_grad():", loc=loc)
    check_end(blocks, start, end, loc)
    new = lambda name: scope.redefine(name, loc)
    function, before, again, done = map(new, ("$enter_mode", "$before", "$leave_mode", "$done"))
    blocks[start].body = [
        numba_ir.Assign(numba_ir.Global("enter_mode", ENTER, loc), function, loc),
        numba_ir.Assign(numba_ir.Expr.call(function, [mode], (), loc), before, loc),
        blocks[start].body[-1],
    ]
    blocks[end].body = [
        numba_ir.Assign(numba_ir.Global("leave_mode", LEAVE, loc), again, loc),
        numba_ir.Assign(numba_ir.Expr.call(again, [mode, before], (), loc), done, loc),
        *blocks[end].body,
    ]
    func_ir._definitions = build_definitions(blocks)
    return Block(loc.line)
