"""``for row in t`` in compiled code, with what goes with it: unpacking, `enumerate`, `zip`, and ``in``; generators of Tensors."""

import operator

from numba.core import cgutils, types
from numba.core.imputils import RefType, impl_ret_new_ref, iternext_impl
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from numbatensor.core.compiler import word
from numbatensor.nopython import python_calls
from numbatensor.nopython.calls import invoke_cell, put_word, room_for, site
from numbatensor.nopython.indexing import INT
from numbatensor.nopython.tensor_type import TensorIterator, TensorType, load_field, record_of, tensor_of
from numbatensor.nopython.undefined import has_tensor


@register_model(TensorIterator)
class IteratorModel(models.StructModel):
    def __init__(self, manager, kind):
        members = [("place", types.EphemeralPointer(types.intp)), ("count", types.intp), ("tensor", kind.tensor)]
        super().__init__(manager, kind, members)


@lower_builtin("getiter", TensorType)
def begin(context, builder, sig, args):
    """An iterator over the slices of the first dimension, as many as there are now."""
    kind = sig.args[0]
    record = record_of(builder, args[0])
    if kind.ndim is None:
        with builder.if_then(builder.icmp_signed("==", load_field(builder, record, "ndim"), word(0)), likely=False):
            refuse = python_calls.code_of("Tensor.__iter__")
            refuse(context, builder, signature(types.none, kind), args)
    made = context.make_helper(builder, sig.return_type)
    made.place = cgutils.alloca_once_value(builder, word(0))
    made.count = load_field(builder, record, "shape")
    made.tensor = args[0]
    context.nrt.incref(builder, kind, args[0])
    return impl_ret_new_ref(context, builder, sig.return_type, made._getvalue())


@lower_builtin("iternext", TensorIterator)
@iternext_impl(RefType.NEW)
def step(context, builder, sig, args, result):
    """The next slice, a view."""
    kind = sig.args[0]
    found = context.make_helper(builder, kind, value=args[0])
    place = builder.load(found.place)
    more = builder.icmp_signed("<", place, found.count)
    result.set_valid(more)
    with builder.if_then(more):
        item = room_for(builder, 4)
        put_word(builder, item, 0, word(INT))
        put_word(builder, item, 8, place)
        words = [record_of(builder, found.tensor), item, word(1), word(kind.yield_type.kind), site(context, builder)]
        made = invoke_cell(context, builder, "compiled_index", words)
        result.yield_(tensor_of(context, builder, kind.yield_type, made))
        builder.store(builder.add(place, word(1)), found.place)


@infer_global(operator.contains)
class Contains(AbstractTemplate):
    """``x in t``: whether any element is equal to x."""

    key = operator.contains

    def generic(self, args, kws):
        if isinstance(args[0], TensorType):
            return signature(types.boolean, *args)


lower_builtin(operator.contains, TensorType, types.Any)(python_calls.code_of("Tensor.__contains__"))


def give(lowering, statement):
    """One more owner of a Tensor that a generator yields and goes on to use. One that it does not is given with the variable's own count;
    whoever takes it has it from then on."""
    name, place = statement.value.value.name, lowering.generator_info.yield_points[statement.value.index]
    if name in place.live_vars and has_tensor(lowering.gentype.yield_type):
        lowering.incref(lowering.typeof(name), lowering.loadvar(name))


def release_arguments(context, builder, kind, generator):
    """Let a generator that is at its end let go of its arguments, as Python's finalizer does: in compiled code Numba calls none."""
    place = cgutils.gep_inbounds(builder, generator, 0, 1)
    for argument, value in context.get_data_packer(kind.arg_types).load(builder, place):
        context.nrt.decref(builder, argument, value)
    builder.store(cgutils.get_null_value(place.type.pointee), place)


@iternext_impl(RefType.NEW)
def step_of_generator(context, builder, sig, args, result):
    """The next of what a generator gives. Numba does the same, but counts it once more, which leaks what the generator does not use again."""
    step = context.get_generator_impl(sig.args[0])
    status, value = step(context, builder, sig, args)
    context.add_linking_libs(getattr(step, "libs", ()))
    with builder.if_then(status.is_ok):
        result.set_valid(True)
        result.yield_(value)
    with builder.if_then(status.is_stop_iteration):
        result.set_exhausted()
        release_arguments(context, builder, *sig.args, *args)
    failed = builder.and_(status.is_error, builder.not_(status.is_stop_iteration))
    with builder.if_then(failed, likely=False):
        context.call_conv.return_status_propagate(builder, status)


def keep_count(context, kinds, known=set()):  # noqa: B006
    """Let compiled code iterate over generators of Tensors without a leak. `kinds`: of a function's variables."""
    found = {k for k in kinds if isinstance(k, types.Generator) and has_tensor(k.yield_type)} - known
    context.insert_func_defn([(step_of_generator, "iternext", (k,)) for k in found])
    known |= found
