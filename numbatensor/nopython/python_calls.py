"""Functions of the library that have no compiled body: compiled code calls them as Python does, under the GIL."""

import inspect

from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref

from numbatensor.nopython.calls import fail, put_away, with_gil, without_gil
from numbatensor.nopython.tensor_type import TensorType, own, record_of


def typer_of(function, rule):
    """The typing of calls of a Python function; `rule`: from its parameters' types, by name, to the result's."""
    parameters = list(inspect.signature(function).parameters.values())
    takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def typer(args, kws):
        try:
            bound = inspect.signature(function).bind(*args, **kws)
        except TypeError as error:
            raise TypingError(f"{function.__name__}(): {error}") from None
        given = dict(bound.arguments)
        for p in parameters:
            if p.kind is p.VAR_POSITIONAL:
                given.setdefault(p.name, ())
            elif p.name not in given:
                given[p.name] = types.Omitted(p.default)
        if takes_all:
            if kws and set(kws) - {"dtype"}:
                raise TypingError(f"{function.__name__}(): compiled code takes no keyword but dtype= here")
            named = None
            if kws:
                kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                named = [inspect.Parameter(f"size{k}", kind) for k in range(len(args))]
                named.append(inspect.Parameter("dtype", kind))
            return rule(**given), (*args, *kws.values()), named
        kinds = [given[p.name] for p in parameters]
        if not kws:
            return rule(**given), tuple(kinds[: len(args)]), None
        return rule(**given), tuple(kinds), parameters

    return typer


def python_value(context, builder, api, kind, value):
    """An argument as a new Python object."""
    if isinstance(kind, types.Literal):
        return api.unserialize(api.serialize_object(kind.literal_value))
    if isinstance(kind, types.NoneType):
        return api.make_none()
    keep(context, builder, kind, value)
    return api.from_native_value(kind, value, context.get_env_manager(builder))


def keep(context, builder, kind, value):
    """One more owner of what Python is given: tensors, alone or in tuples, in our own way (see `own`)."""
    if isinstance(kind, TensorType):
        own(builder, record_of(builder, value))
    elif isinstance(kind, types.BaseTuple):
        for k, inner in enumerate(kind):
            keep(context, builder, inner, builder.extract_value(value, k))
    else:
        context.nrt.incref(builder, kind, value)


def code_of(function):
    """The code of a call of a Python function, which is looked up by its module and name."""
    parameters = list(inspect.signature(function).parameters.values())
    takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def code(context, builder, sig, args):
        api = context.get_python_api(builder)
        state = with_gil(builder)
        found = api.import_module(context.insert_const_string(builder.module, function.__module__))
        for name in function.__qualname__.split("."):
            inner = api.object_getattr_string(found, name)
            api.decref(found)
            found = inner
        in_order, named = [], {}
        for k, (kind, value) in enumerate(zip(sig.args, args, strict=True)):
            if isinstance(kind, types.Omitted):
                continue
            made = python_value(context, builder, api, kind, value)
            if takes_all:
                by_name = getattr(kind, "is_dtype", False) and k == len(args) - 1
                name = "dtype" if by_name else None
            else:
                p = parameters[k]
                name = None if len(in_order) == k and p.kind is not p.KEYWORD_ONLY else p.name
            if name:
                named[name] = made
            else:
                in_order.append(made)
        given = api.tuple_pack(in_order)
        keywords = api.dict_new(len(named)) if named else None
        for name, value in named.items():
            api.dict_setitem_string(keywords, name, value)
        result = api.call(found, given, keywords)
        for obj in (found, given, *in_order, *named.values(), *([keywords] if named else [])):
            api.decref(obj)
        kind = sig.return_type
        value = cgutils.alloca_once_value(builder, cgutils.get_null_value(context.get_value_type(kind)))
        failed = cgutils.alloca_once_value(builder, cgutils.true_bit)
        with builder.if_then(cgutils.is_not_null(builder, result), likely=True):
            native = api.to_native_value(kind, result)
            api.decref(result)
            builder.store(native.is_error, failed)
            with builder.if_then(builder.not_(native.is_error), likely=True):
                builder.store(native.value, value)
        with builder.if_then(builder.load(failed), likely=False):
            put_away(context, builder)  # while the GIL is held: a thread of no Python's keeps nothing after it
        without_gil(builder, state)
        with builder.if_then(builder.load(failed), likely=False):
            fail(context, builder)
        return impl_ret_new_ref(context, builder, kind, builder.load(value))

    return code
