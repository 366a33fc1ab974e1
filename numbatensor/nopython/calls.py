"""How users' compiled code calls ours: by the address in a cell, so that nothing of ours is compiled or linked with it."""

import sys

from llvmlite import ir
from numba.core import cgutils, types

from numbatensor.core.compiler import PREFIX, c_symbol, i64, word
from numbatensor.core.private import RETCODE_USEREXC, BaseLower, numba_ir, variables_of
from numbatensor.core.records import Arguments
from numbatensor.nopython.errors import Carried


def published(builder, name):
    """The address of what is published under a name, as a constant."""
    module = builder.module
    known = module.globals.get(PREFIX + name) or ir.GlobalVariable(module, word, PREFIX + name)
    return known.ptrtoint(word) if isinstance(known, ir.Constant) else builder.ptrtoint(known, word)


def call_native(context, builder, function, args):
    """Status and result of a native function at an address."""
    signature = (i64,) * len(args)
    kind = context.call_conv.get_function_type(i64, signature)
    return context.call_conv.call_function(builder, builder.inttoptr(function, kind.as_pointer()), i64, signature, args)


def function_behind(context, builder, name):
    """The address that a cell holds, which is filled at its first use."""
    cell = published(builder, "cell_" + name)
    function = cgutils.alloca_once(builder, word)
    builder.store(builder.load(builder.inttoptr(cell, word.as_pointer())), function)
    with cgutils.if_unlikely(builder, builder.icmp_unsigned("==", builder.load(function), word(0))):
        _, found = call_native(context, builder, published(builder, "load_cell"), [cell])
        builder.store(found, function)
    return builder.load(function)


def invoke_cell(context, builder, name, args, pyapi=None):
    """The word that the native function behind a cell returns; its failure becomes the caller's.

    With `pyapi`, where there is no caller in compiled code, the result of a failure is 0.
    """
    status, value = call_native(context, builder, function_behind(context, builder, name), args)
    if pyapi is None:
        with cgutils.if_unlikely(builder, status.is_error):
            fail(context, builder)
    return value


def fail(context, builder):
    """Leave the function with the Python error that is set, or go on to the handler of a `try`.

    Numba's own way for such errors crashes in a handler. So the error is put away, and what Numba carries is one of its own kind,
    which gets the error back in Python.
    """
    call_native(context, builder, published(builder, "put_away"), [word(0)])
    lowering, convention = lowerer(), context.call_conv
    convention.set_static_user_exc(
        builder, Carried, (), loc=lowering and lowering.loc, func_name=lowering and lowering.func_ir.func_id.func_name
    )
    handled = convention.check_try_status(builder).in_try
    with builder.if_then(builder.not_(handled)):
        if lowering and lowering.generator_info is None:
            forget_locals(lowering)
        convention._return_errcode_raw(builder, RETCODE_USEREXC)


def forget_locals(lowering):
    """Let go of what the function's variables hold at the statement that is being compiled; an error that is Numba's leaks it."""
    builder, held = lowering.builder, set()  # `held`: what this block alone knows, which is in registers
    for statement in lowering.block_lowered.body:
        if statement is lowering.statement_lowered:
            break
        if isinstance(statement, numba_ir.Assign):
            held.add(statement.target.name)
        if isinstance(statement, numba_ir.Del):
            held.discard(statement.value)
    places, values = variables_of(lowering)
    for name, place in places.items():
        lowering.decref(lowering.typeof(name), builder.load(place))
    for name, value in values.items():
        if name in held:
            lowering.decref(lowering.typeof(name), value)


def argument_record(builder):
    """The address of the function's argument record: its calls take turns with it."""
    function = builder.function
    if not hasattr(function, "numbatensor_arguments"):
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(word, Arguments.itemsize // 8))
            function.numbatensor_arguments = builder.ptrtoint(room, word)
    return function.numbatensor_arguments


def room_for(builder, words):
    """The address of words on the stack."""
    return builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(word, max(words, 1))), word)


def put_word(builder, address, offset, value):
    builder.store(value, builder.inttoptr(builder.add(address, word(offset)), word.as_pointer()))


def lowerer():
    """What makes the code of the user's function, and knows the statement it is at: Numba tells it to nobody. None where there is none."""
    frame = sys._getframe(1)
    while frame:
        known = frame.f_locals
        if isinstance(known.get("self"), BaseLower) and "inst" in known and "block" in known:
            found = known["self"]
            found.block_lowered, found.statement_lowered = known["block"], known["inst"]
            return found
        frame = frame.f_back
    return None


def site(context, builder):
    """The address of what names the line that is being compiled (see `core/sites.py`)."""
    lowering, module = lowerer(), builder.module
    file, line = (str(lowering.loc.filename), int(lowering.loc.line)) if lowering else ("compiled code", 0)
    name = context.insert_const_string(module, file)
    made = cgutils.add_global_variable(module, ir.ArrayType(word, 3), module.get_unique_name("numbatensor_site"))
    made.linkage = "internal"
    made.initializer = ir.Constant(ir.ArrayType(word, 3), [word(0), word(line), word(0)])
    address = builder.ptrtoint(made, word)
    put_word(builder, address, 16, builder.ptrtoint(name, word))
    return address


def as_word(context, builder, kind, value):
    """A number as the argument record has it: its kind, and a word."""
    if isinstance(kind, types.Omitted):
        return constant(kind.value)
    if isinstance(kind, types.Literal):
        return constant(kind.literal_value)
    if isinstance(kind, types.NoneType):
        return 4, word(0)
    if isinstance(kind, types.Boolean):
        return 1, context.cast(builder, value, kind, i64)
    if isinstance(kind, types.Integer):
        return 2, context.cast(builder, value, kind, i64)
    return 3, builder.bitcast(context.cast(builder, value, kind, types.float64), word)


def constant(value):
    """The same of a number that is known when the code is made."""
    if value is None:
        return 4, word(0)
    if isinstance(value, float):
        return 3, ir.Constant(ir.DoubleType(), value).bitcast(word)
    return (1 if isinstance(value, bool) else 2), word(int(value))


def with_gil(builder):
    return builder.call(c_symbol(builder, ir.FunctionType(ir.IntType(32), []), "PyGILState_Ensure"), [])


def without_gil(builder, state):
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
    builder.call(c_symbol(builder, kind, "PyGILState_Release"), [state])
