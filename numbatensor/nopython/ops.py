"""Declared ops in compiled code, as functions, methods and operators: one way for all of them.

The arguments are written into a record on the stack, and the op is run by `core/compiled.py`: what Numba compiles of a call is a few
stores and a call by address.
"""

import inspect
from typing import Any

from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref, lower_constant
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, models, register_model

from numbatensor.core.calls import BOOL, FLOAT, INT, LIST, NONE, REST, TENSOR
from numbatensor.core.compiler import word
from numbatensor.core.records import RANK, Arguments
from numbatensor.nopython.calls import argument_record, as_word, invoke_cell, published, put_word, row_named, site
from numbatensor.nopython.op_fallback import with_python
from numbatensor.nopython.results import plain, result_of
from numbatensor.nopython.tensor_type import TensorType, record_of, tensor_of
from numbatensor.op import OPS

FIELD = {name: Arguments.fields[name][1] for name in Arguments.names}


class Named:
    """What functions and methods of the library have in common in compiled code: their typing, and the key of their code.

    `typer`: from the types of all arguments and of keywords to the result's type, the arguments' types and, where there are
    keywords, their signature.
    """

    this: Any = None

    def get_call_type(self, context, args, kws):
        bare = lambda k: k.type if isinstance(k, types.Optional) else k
        args = tuple(map(bare, args))
        before = (self.this,) if self.this else ()
        result, kinds, parameters = self.typer((*before, *args), {k: bare(v) for k, v in kws.items()})
        made = signature(result, *kinds[len(before) :], recvr=self.this)
        if parameters is not None:
            made = made.replace(pysig=inspect.Signature(parameters[len(before) :]))
        return made

    def get_call_signatures(self):
        return [], True

    def get_impl_key(self, sig):
        return f"numbatensor.{self.function}"


class Function(Named, types.Callable, types.Opaque):
    """A function of the library."""

    def __init__(self, name, typer):
        self.function, self.typer = name, typer
        super().__init__(f"numbatensor.{name}")

    @property
    def key(self):
        return self.function


class Method(Named, types.BoundFunction):  # type: ignore[misc]
    """A method of a Tensor of type `this`."""

    def __init__(self, name, typer, this):
        self.function, self.typer, self.this = name, typer, this
        types.Opaque.__init__(self, f"numbatensor.{name} of {this}")

    @property
    def key(self):
        return self.function, self.this

    def unify(self, context, other):
        if isinstance(other, Method) and other.function == self.function:
            this = context.unify_pairs(self.this, other.this)
            return this and self.copy(this)

    def copy(self, this):
        return Method(self.function, self.typer, this)


register_model(Function)(models.OpaqueModel)


@register_model(Method)
def model_of_method(manager, kind):
    """A method's value is its Tensor."""
    return manager[kind.this]


@lower_constant(Function)
def no_value(context, builder, kind, value):
    return context.get_dummy_value()


def accepted(op, k, kind):
    """Whether an argument can be of a type."""
    accepts, kind = int(op.row["accepts"][k]), plain(kind)
    if isinstance(kind, types.Omitted):
        return True
    if isinstance(kind, TensorType):
        return bool(accepts & TENSOR) and (op.inputs[k] not in getattr(op, "masks", ()) or kind.dtype == 0)
    if isinstance(kind, types.NoneType):
        return bool(accepts & NONE)
    if isinstance(kind, types.BaseTuple):
        whole = all(isinstance(plain(t), (types.Integer, types.Boolean)) for t in kind)
        return bool(accepts & LIST) and whole and len(kind) <= RANK
    if isinstance(kind, types.Boolean):
        return bool(accepts & (BOOL | INT | LIST))
    if isinstance(kind, types.Integer):
        return bool(accepts & (INT | LIST | BOOL))
    return isinstance(kind, types.Float) and bool(accepts & FLOAT)


def omitted(parameter):
    return types.Omitted(parameter.default)


def in_order(op, args, kws):
    """The types of all arguments in order, and what names them where there are keywords."""
    n, kws = len(op.parameters), dict(kws)
    rest = [k for k in range(n) if int(op.row["accepts"][k]) & REST]
    given = list(args)
    if len(given) > n and not (rest and rest[0] == n - 1):
        raise TypingError(f"{op.name}() takes {n} arguments but {len(given)} were given")
    if not kws:
        missing = op.parameters[len(given) :]
        for parameter in missing:
            if parameter.default is parameter.empty and not (rest and rest[0] == n - 1):
                raise TypingError(f'{op.name}() missing 1 required argument: "{parameter.name}"')
        return given, [omitted(p) for p in missing if p.default is not p.empty], None
    named = []
    for k, parameter in enumerate(op.parameters):
        names = [op.names[k], op.inputs[k], op.aliases[k]]
        found = next((name for name in names if name in kws), None)
        kind = parameter.POSITIONAL_OR_KEYWORD
        if k < len(args):
            named.append(inspect.Parameter(op.names[k], kind))
        elif found:
            given.append(kws.pop(found))
            named.append(inspect.Parameter(found, kind))
        elif parameter.default is parameter.empty:
            raise TypingError(f'{op.name}() missing 1 required argument: "{op.names[k]}"')
        else:
            given.append(omitted(parameter))
            named.append(inspect.Parameter(op.names[k], kind, default=parameter.default))
    if kws:
        raise TypingError(f"{op.name}() got an unexpected keyword argument '{next(iter(kws))}' (in compiled code)")
    return given, [], named


def typer_of(op, in_place=False):
    """The typing of a call of an op."""

    def typer(args, kws):
        given, defaults, named = in_order(op, args, kws)
        n = len(op.parameters)
        for k, kind in enumerate(given):
            if not accepted(op, min(k, n - 1), kind):
                name = op.names[min(k, n - 1)]
                raise TypingError(f"{op.name}(): argument '{name}' must not be {kind} in compiled code")
        if not any(isinstance(k, TensorType) for k in given):
            raise TypingError(f"{op.name}(): at least one argument must be a Tensor, not {', '.join(map(str, given))}")
        if in_place and not isinstance(given[0], TensorType):
            raise TypingError(f"{op.name}_() changes a Tensor, not {given[0]}")
        result = result_of(op, [*given, *defaults])
        return given[0] if in_place else result, tuple(given), named

    return typer


def fill(context, builder, op, kinds, values):
    """Write arguments into the record of the function that is being compiled; gives its address."""
    arguments, n, taken = argument_record(builder), len(op.parameters), 0
    put = lambda name, k, value: put_word(builder, arguments, FIELD[name] + 8 * k, value)

    def put_list(k, kinds, values):
        nonlocal taken
        for name, value in (("tensors", 0), ("kinds", 5), ("numbers", taken), ("lengths", len(kinds))):
            put(name, k, word(value))
        for i, (kind, value) in enumerate(zip(kinds, values, strict=True)):
            put("lists", taken + i, as_word(context, builder, kind, value)[1])
        taken += len(kinds)

    for k, parameter in enumerate(op.parameters):
        accepts = int(op.row["accepts"][k])
        is_rest = accepts & REST and k == n - 1
        if is_rest and (len(kinds) == k or isinstance(plain(kinds[k]), types.Integer)):
            put_list(k, kinds[k:], values[k:])
            continue
        kind, value = (kinds[k], values[k]) if k < len(kinds) else (omitted(parameter), None)
        if isinstance(kind, TensorType):
            put("tensors", k, record_of(builder, value))
            put("kinds", k, word(0))
        elif isinstance(kind, types.BaseTuple):
            put_list(k, list(kind), [builder.extract_value(value, i) for i in range(len(kind))])
        else:
            form, number = as_word(context, builder, kind, value)
            if form == 2 and not accepts & INT and accepts & LIST:
                put_list(k, [kind], [value])
                continue
            if form == 2 and not accepts & INT:
                form, number = 1, builder.zext(builder.icmp_signed("!=", number, word(0)), word)
            put("tensors", k, word(0))
            put("kinds", k, word(form))
            put("numbers", k, number)
    put("count", 0, word(n))
    put("room", 0, word(taken))
    return arguments


def row_of(context, builder, op):
    """The address of an op's row."""
    if OPS.get(op.name) is op:
        return published(builder, "op_" + op.name)
    return row_named(context, builder, "pointwise", op.address, op.key)


def run(context, builder, op, result, kinds, values):
    """The code of a call: the new tensor."""
    arguments = fill(context, builder, op, kinds, values)
    row = row_of(context, builder, op)
    made = invoke_cell(
        context, builder, "compiled_perform", [row, arguments, word(result.kind), site(context, builder)]
    )
    return tensor_of(context, builder, result, made)


def run_in_place(context, builder, op, kinds, values):
    arguments = fill(context, builder, op, kinds, values)
    row = row_of(context, builder, op)
    invoke_cell(context, builder, "compiled_in_place", [row, arguments, site(context, builder)])


def code_of(op):
    def code(context, builder, sig, args):
        made = run(context, builder, op, sig.return_type, sig.args, args)
        return impl_ret_new_ref(context, builder, sig.return_type, made)

    return code


def code_in_place(op):
    def code(context, builder, sig, args):
        run_in_place(context, builder, op, sig.args, args)
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return code


functions: dict = {}  # by name: the typing of an op's call
codes: dict = {}  # and its code


def declare(name, typer, code):
    """Make a function known to Numba by name; gives its typing."""
    functions[name], codes[name] = typer, code
    lower_builtin(f"numbatensor.{name}", types.VarArg(types.Any))(code)
    return typer


for op_ in list(OPS.values()):
    if op_.parameters:
        declare(op_.name, *with_python(op_, op_.name, typer_of, code_of(op_)))
        declare(op_.name + "_", *with_python(op_, op_.name + "_", typer_of, code_in_place(op_)))
