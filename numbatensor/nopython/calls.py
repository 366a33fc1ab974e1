"""How users' compiled code calls ours: by the address in a cell, so that nothing of ours is compiled or linked with it."""

from llvmlite import ir
from numba.core import cgutils, types

from numbatensor.core.cells import prefix, row_text
from numbatensor.core.compiler import PREFIX, c_symbol, i64, word
from numbatensor.core.private import RETCODE_USEREXC
from numbatensor.core.records import Arguments
from numbatensor.nopython.errors import Carried
from numbatensor.nopython.lowering import current, held


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
    cell = published(builder, prefix() + name)
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
        pass_on(context, builder, status)
    return value


def pass_on(context, builder, status):
    """Make a failure the caller's."""
    with cgutils.if_unlikely(builder, status.is_error):
        fail(context, builder)


def fail(context, builder):
    """Leave the function with the Python error that is set, or go on to the handler of a `try`.

    Numba's own way for such errors crashes in a handler. So the error is put away, and what Numba carries is one of its own kind,
    which gets the error back in Python.
    """
    put_away(context, builder)
    lowering, convention = current(), context.call_conv
    convention.set_static_user_exc(
        builder, Carried, (), loc=lowering and lowering.loc, func_name=lowering and lowering.func_ir.func_id.func_name
    )
    handled = convention.check_try_status(builder).in_try
    with builder.if_then(builder.not_(handled)):
        if lowering and lowering.generator_info is None:
            for kind, value in held(lowering):
                lowering.decref(kind, value)
        convention._return_errcode_raw(builder, RETCODE_USEREXC)


def refuse(context, builder, kind, text):
    """Leave the function with an error of a kind that is Numba's own to raise, at the line that is being compiled."""
    lowering = current()
    if lowering and lowering.generator_info is None and not hasattr(builder, "_in_try_block"):
        for held_kind, value in held(lowering):
            lowering.decref(held_kind, value)
    place = {"loc": lowering.loc, "func_name": lowering.func_ir.func_id.func_name} if lowering else {}
    context.call_conv.return_user_exc(builder, kind, (text,), **place)


def put_away(context, builder):
    """Put the error that is set away, on this thread; one that is put away already stays."""
    call_native(context, builder, published(builder, "put_away"), [word(0)])


def row_named(context, builder, kind, row, name):
    """The address of the row of a user's op, which is looked up when the code first runs: code outlives the process."""
    module = builder.module
    kept = cgutils.add_global_variable(module, word, module.get_unique_name("numbatensor_row"))
    kept.linkage, kept.initializer = "internal", word(0)
    with cgutils.if_unlikely(builder, builder.icmp_unsigned("==", builder.load(kept), word(0))):
        text = builder.ptrtoint(context.insert_const_string(module, row_text(kind, row, name)), word)
        builder.store(invoke_cell(context, builder, "compiled_row", [text]), kept)
    return builder.load(kept)


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


def site(context, builder):
    """The address of what names the line that is being compiled (see `core/sites.py`)."""
    lowering, module = current(), builder.module
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
