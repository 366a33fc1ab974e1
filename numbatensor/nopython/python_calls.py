"""Functions of the library that have no compiled body: compiled code calls them as Python does, under the GIL."""

import inspect

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref

from numbatensor.core.compiler import c_symbol, word
from numbatensor.nopython.calls import fail, invoke_cell, put_away, site, with_gil, without_gil
from numbatensor.nopython.tensor_type import NUMBA, TensorType, own, record_of

ANY, ALONE = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


def named(name, default=inspect.Parameter.empty):
    return inspect.Parameter(name, ANY, default=default)


def parameters_of(function):
    """The parameters that compiled code may give: not those that stand for any keyword."""
    return [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]


class Keywords(tuple):
    """The names of the last arguments of a call, as the default of one argument more: where the code is made, only that tells them."""

    known: dict = {}

    @classmethod
    def of(cls, names):
        return cls.known.setdefault(tuple(names), cls(names))


OTHER_FORMS = (types.Array, types.List, types.ListType)  # of arguments that native functions do not take


def keywords_of(kinds):
    """The names of the last arguments of a call that Python runs."""
    last = kinds[-1] if kinds else None
    return last.value if isinstance(last, types.Omitted) and isinstance(last.value, Keywords) else None


def call_of(result, args, kws):
    """What a typing gives for a call that Python runs."""
    if not kws:
        return result, tuple(args), None
    names = Keywords.of(kws)
    parameters = [named(f"argument{k}") for k in range(len(args))] + [named(name) for name in kws]
    return result, (*args, *kws.values(), types.Omitted(names)), [*parameters, named("keywords_given", names)]


def as_tensor(name, kind):
    """The type of the tensor that Python makes of an array; else the type itself."""
    if not isinstance(kind, types.Array):
        return kind
    if kind.dtype not in NUMBA:
        raise TypingError(f"{name}(): there is no dtype for an array of {kind.dtype}")
    return TensorType(NUMBA.index(kind.dtype), kind.ndim)


def typer_of(name, parameters, rule):
    """The typing of calls of a Python function; `rule`: from its parameters' types, by name, to the result's.

    What is given as `out` is the result.
    """
    known = inspect.Signature(parameters)

    def typer(args, kws):
        try:
            bound = known.bind(*args, **kws)
        except TypeError as error:
            raise TypingError(f"{name}(): {error} (in compiled code)") from None
        given = {p.name: () if p.kind is p.VAR_POSITIONAL else types.Omitted(p.default) for p in parameters}
        given.update(bound.arguments)
        result = rule(**given)
        out = given.get("out")
        return call_of(out if isinstance(out, TensorType) else result, args, kws)

    return typer


def python_value(context, builder, api, kind, value):
    """An argument as a new Python object."""
    if isinstance(kind, types.Literal):
        return api.unserialize(api.serialize_object(kind.literal_value))
    if isinstance(kind, types.NoneType):
        return api.make_none()
    if isinstance(kind, types.EllipsisType):
        return api.unserialize(api.serialize_object(...))
    if isinstance(kind, types.SliceType):
        return slice_object(context, builder, api, context.make_helper(builder, kind, value))
    if isinstance(kind, types.BaseTuple) and not isinstance(kind, types.BaseNamedTuple):
        inner = [builder.extract_value(value, k) for k in range(len(kind))]
        return packed(api, [python_value(context, builder, api, k, v) for k, v in zip(kind, inner, strict=True)])
    if isinstance(kind, types.List):  # a copy: the list of Python's that it may have come from is not up to date
        found = context.make_helper(builder, kind, value)
        found.parent = cgutils.get_null_value(found.parent.type)
        value = found._getvalue()
    keep(context, builder, kind, value)
    return api.from_native_value(kind, value, context.get_env_manager(builder))


def packed(api, objects):
    """A tuple that takes over the references to what is in it."""
    made = api.tuple_pack(objects)
    for obj in objects:
        api.decref(obj)
    return made


def slice_object(context, builder, api, found):
    """A slice; an end that Numba has put at the limit of its integers is none."""
    new = c_symbol(builder, ir.FunctionType(api.pyobj, [api.pyobj] * 3), "PySlice_New")
    limits = [context.get_constant(types.intp, n) for n in (types.intp.maxval, types.intp.minval)]
    parts = []
    for number in (found.start, found.stop, found.step):
        unset = builder.or_(*[builder.icmp_signed("==", number, n) for n in limits])
        made = cgutils.alloca_once(builder, api.pyobj)
        with builder.if_else(unset) as (then, otherwise):
            with then:
                builder.store(api.make_none(), made)
            with otherwise:
                builder.store(api.long_from_ssize_t(number), made)
        parts.append(builder.load(made))
    result = builder.call(new, parts)
    for part in parts:
        api.decref(part)
    return result


def keep(context, builder, kind, value):
    """One more owner of what Python is given: tensors, alone or in tuples, in our own way (see `own`)."""
    if isinstance(kind, TensorType):
        own(builder, record_of(builder, value))
    elif isinstance(kind, types.BaseTuple):
        for k, inner in enumerate(kind):
            keep(context, builder, inner, builder.extract_value(value, k))
    elif isinstance(kind, types.Optional):
        found = context.make_helper(builder, kind, value)
        with builder.if_then(found.valid):
            keep(context, builder, kind.type, found.data)
    else:
        context.nrt.incref(builder, kind, value)


def code_of(path, module="numbatensor"):
    """The code of a call of a Python function, which is looked up by its module and name."""

    def code(context, builder, sig, args):
        api = context.get_python_api(builder)
        state = with_gil(builder)
        found = api.import_module(context.insert_const_string(builder.module, module))
        for name in path.split("."):
            inner = api.object_getattr_string(found, name)
            api.decref(found)
            found = inner
        names = keywords_of(sig.args) or ()
        in_order, by_name = [], {}
        count = len(args) - bool(names)
        for k, (kind, value) in enumerate(zip(sig.args[:count], args[:count], strict=True)):
            made = python_value(context, builder, api, kind, value)
            if k < count - len(names):
                in_order.append(made)
            else:
                by_name[names[k - count]] = made
        given = packed(api, in_order)
        keywords = api.dict_new(len(by_name)) if by_name else None
        for name, value in by_name.items():
            api.dict_setitem_string(keywords, name, value)
        invoke_cell(context, builder, "compiled_enter", [site(context, builder)])
        result = api.call(found, given, keywords)
        invoke_cell(context, builder, "compiled_enter", [word(0)])
        for obj in (found, given, *by_name.values(), *([keywords] if by_name else [])):
            api.decref(obj)
        kind = sig.return_type
        value = cgutils.alloca_once_value(builder, cgutils.get_null_value(context.get_value_type(kind)))
        failed = cgutils.alloca_once_value(builder, cgutils.true_bit)
        with builder.if_then(cgutils.is_not_null(builder, result), likely=True):
            store_native(context, builder, api, kind, result, value, failed)
            api.decref(result)
        with builder.if_then(builder.load(failed), likely=False):
            put_away(context, builder)  # while the GIL is held: a thread of no Python's keeps nothing after it
        without_gil(builder, state)
        with builder.if_then(builder.load(failed), likely=False):
            fail(context, builder)
        return impl_ret_new_ref(context, builder, kind, builder.load(value))

    return code


def store_native(context, builder, api, kind, result, value, failed):
    """Turn what Python gave into a value of compiled code, at `value`; else `failed` stays."""
    if not isinstance(kind, types.List):
        native = api.to_native_value(kind, result)
        builder.store(native.is_error, failed)
        with builder.if_then(builder.not_(native.is_error), likely=True):
            builder.store(native.value, value)
        return
    # A list of Numba's that was a list of Python's writes its changes back into that: this one forgets it.
    listed = builder.call(c_symbol(builder, ir.FunctionType(api.pyobj, [api.pyobj]), "PySequence_List"), [result])
    with builder.if_then(cgutils.is_not_null(builder, listed), likely=True):
        native = api.to_native_value(kind, listed)
        builder.store(native.is_error, failed)
        native.cleanup()
        with builder.if_then(builder.not_(native.is_error), likely=True):
            made = context.make_helper(builder, kind, native.value)
            made.parent = cgutils.get_null_value(made.parent.type)
            builder.store(made._getvalue(), value)
        api.decref(listed)


def either(native, python):
    """The typing and the code of calls that Python runs where arguments have other forms; `native`, `python`: a typing and a code."""

    def typer(args, kws):
        others = any(isinstance(kind, OTHER_FORMS) for kind in (*args, *kws.values()))
        return (python if others else native)[0](args, kws)

    def code(context, builder, sig, args):
        others = keywords_of(sig.args) or any(isinstance(kind, OTHER_FORMS) for kind in sig.args)
        return (python if others else native)[1](context, builder, sig, args)

    return typer, code
