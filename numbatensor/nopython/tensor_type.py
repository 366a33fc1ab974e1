"""The Numba type of a Tensor: dtype and, where it is known, rank. Its value is the address of the record, which Numba counts."""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import lower_cast, lower_constant
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import NativeValue, box, lower_builtin, models, register_model, unbox

from numbatensor import dtypes
from numbatensor.core.compiler import c_symbol, word
from numbatensor.core.promotion import DTYPES
from numbatensor.core.python import PAYLOAD, TYPE
from numbatensor.core.records import Local, Tensor
from numbatensor.nopython.calls import invoke_cell, published, refuse
from numbatensor.nopython.halves import BFLOAT16, FLOAT16, Half

NAMES = [d.name for d in dtypes.ALL]
NUMBA: list = [
    types.boolean,
    types.uint8,
    types.int8,
    types.int16,
    types.int32,
    types.int64,
    types.float32,
    types.float64,
]
NUMBA += [FLOAT16, BFLOAT16]
assert len(NUMBA) == len(DTYPES)


class TensorType(types.IterableType):
    """A Tensor of a dtype, by its code, and a rank, or None."""

    mutable = True  # ``x += y`` changes x

    def __init__(self, dtype, ndim=None):
        self.dtype, self.ndim = dtype, ndim
        super().__init__(f"Tensor({NAMES[dtype]}, {'any rank' if ndim is None else f'{ndim}-D'})")

    @property
    def key(self):
        return self.dtype, self.ndim

    @property
    def kind(self):
        """Dtype and rank as one number (see `core/compiled.py`)."""
        return self.dtype | (0 if self.ndim is None else self.ndim + 1 << 8)

    @property
    def iterator_type(self):
        if self.ndim == 0:
            raise TypingError("iteration over a 0-d tensor")
        return TensorIterator(self)

    def can_convert_to(self, context, other):
        if isinstance(other, TensorType) and other.dtype == self.dtype and other.ndim is None:
            return Conversion.safe

    def unify(self, context, other):
        """Ranks that differ become an unknown one: ``x = x.sum(0)`` in a loop."""
        if isinstance(other, TensorType) and other.dtype == self.dtype:
            return TensorType(self.dtype)


class TensorIterator(types.SimpleIteratorType):
    """What goes over the slices of a Tensor's first dimension."""

    def __init__(self, tensor):
        self.tensor = tensor
        super().__init__(
            f"iterator of {tensor}", TensorType(tensor.dtype, None if tensor.ndim is None else tensor.ndim - 1)
        )


class DtypeType(types.Dummy):
    """One of our dtypes, which has no value beside its type."""

    is_dtype = True

    def __init__(self, code):
        self.code = code
        super().__init__(f"numbatensor.{NAMES[code]}")

    @property
    def key(self):
        return self.code


@register_model(TensorType)
class TensorModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("record", types.MemInfoPointer(types.int64))])


register_model(DtypeType)(models.OpaqueModel)


def record_of(builder, value):
    """The address of a tensor's record."""
    return builder.ptrtoint(builder.extract_value(value, 0), word)


def tensor_of(context, builder, kind, record):
    """The value of a tensor from the address of its record."""
    pointer = builder.inttoptr(record, cgutils.voidptr_t)
    model = context.get_value_type(kind)
    return builder.insert_value(ir.Constant(model, ir.Undefined), builder.bitcast(pointer, model.elements[0]), 0)


def array_type(x, ndim, layout, what, **options):
    """The type of an array of a tensor's elements."""
    if isinstance(NUMBA[x], Half):
        raise TypingError(f"{what}: compiled code has no arrays of {NAMES[x]}; convert with .to(nt.float32) first")
    return types.Array(NUMBA[x], ndim, layout, **options)


def load_word(builder, address, offset=0):
    place = builder.add(address, word(offset)) if offset else address
    return builder.load(builder.inttoptr(place, word.as_pointer()))


def own(builder, record):
    """One more owner of a tensor, in a way that Numba does not see: it drops a count that it finds to be given back in the same
    function, as if nobody but the function's own code could give one back."""
    builder.atomic_rmw("add", builder.inttoptr(record, word.as_pointer()), word(1), "monotonic")


def load_field(builder, record, name, k=0):
    """A field of a tensor's record."""
    return load_word(builder, record, Tensor.fields[name][1] + 8 * k)


def array_over(context, builder, kind, record, sizes, steps, owner):
    """The value of an array over a tensor's memory; `owner`: the counted block that it rests on, whose reference it takes."""
    made = context.make_array(kind)(context, builder)
    made.data = builder.inttoptr(load_field(builder, record, "data"), context.get_data_type(kind.dtype).as_pointer())
    made.shape = cgutils.pack_array(builder, sizes, word)
    made.strides = cgutils.pack_array(builder, steps, word)
    made.itemsize = word(dtypes.ALL[NUMBA.index(kind.dtype)].itemsize)
    made.nitems = load_field(builder, record, "numel")
    made.meminfo = builder.inttoptr(owner, cgutils.voidptr_t)
    made.parent = cgutils.get_null_value(made.parent.type)
    return made._getvalue()


@lower_cast(TensorType, TensorType)
def fit(context, builder, source, target, value):
    """A Tensor where one of another type is wanted, as in a field of a class: its rank may be told or forgotten."""
    if target.dtype != source.dtype or (target.ndim != source.ndim and None not in (target.ndim, source.ndim)):
        raise TypingError(f"a {source} has no place where a {target} is wanted")
    if target.ndim is not None and source.ndim is None:
        invoke_cell(context, builder, "compiled_check", [record_of(builder, value), word(target.kind)])
    return value


@lower_cast(types.Optional, TensorType)
def present(context, builder, source, target, value):
    """A Tensor that may be None, as `x.grad`, where a Tensor is wanted."""
    found = context.make_helper(builder, source, value)
    with builder.if_then(builder.not_(found.valid), likely=False):
        refuse(context, builder, TypeError, f"expected {target}, got None: test for None before this line")
    return context.cast(builder, found.data, source.type, target)


@lower_constant(TensorType)
def no_constant(context, builder, kind, value):
    raise TypingError(
        "a Tensor cannot be a constant of compiled code: make the global, or what a closure holds, an argument"
    )


@lower_constant(DtypeType)
def no_value(context, builder, kind, value):
    return context.get_dummy_value()


@lower_cast(DtypeType, DtypeType)
def same_dtype(context, builder, source, target, value):
    return value


def record_in(builder, obj):
    """The record in a Python object; 0 where that is no Tensor, as a block of `objmode` may give whatever it likes."""
    obj, classes = builder.ptrtoint(obj, word), published(builder, "tensor_class")
    found, kind = cgutils.alloca_once_value(builder, word(0)), load_word(builder, obj, TYPE)
    known = cgutils.alloca_once_value(builder, builder.icmp_unsigned("==", kind, load_word(builder, classes, 8)))
    with builder.if_then(builder.not_(builder.load(known)), likely=False):
        asks = c_symbol(builder, ir.FunctionType(ir.IntType(32), [word, word]), "PyType_IsSubtype")
        answer = builder.call(asks, [kind, load_word(builder, classes)])
        builder.store(builder.icmp_signed("!=", answer, answer.type(0)), known)
    with builder.if_then(builder.load(known), likely=True):
        builder.store(load_word(builder, obj, PAYLOAD), found)
    return builder.load(found)


@unbox(TensorType)
def unbox_tensor(kind, obj, c):
    """The record in a box, with a reference of its own; its dtype and rank are looked at again, as lists are typed by an item."""
    builder = c.builder
    record = record_in(builder, obj)
    fits = builder.icmp_unsigned("!=", record, word(0))
    found = cgutils.alloca_once_value(builder, cgutils.false_bit)
    with builder.if_then(fits, likely=True):
        right = builder.icmp_signed("==", load_field(builder, record, "dtype"), word(kind.dtype))
        if kind.ndim is not None:
            right = builder.and_(right, builder.icmp_signed("==", load_field(builder, record, "ndim"), word(kind.ndim)))
        builder.store(right, found)
    right = builder.load(found)
    value = tensor_of(c.context, builder, kind, record)
    with builder.if_else(right, likely=True) as (then, otherwise):
        with then:
            own(builder, record)
        with otherwise:
            c.pyapi.err_format("PyExc_TypeError", f"compiled code expects a {kind} here and got something else")
    before = thread_modes(builder)

    def leave():
        with builder.if_then(builder.icmp_unsigned("!=", thread_modes(builder), before), likely=False):
            invoke_cell(c.context, builder, "compiled_restore_modes", [before], c.pyapi)

    return NativeValue(value, is_error=builder.not_(right), cleanup=leave)


def thread_modes(builder):
    """The word of this thread's modes: an error may leave compiled code from inside of ``with nt.no_grad():``."""
    read = c_symbol(builder, ir.FunctionType(word, [word]), "pthread_getspecific")
    mine = builder.call(read, [load_word(builder, published(builder, "local_key"))])
    none = builder.ptrtoint(cgutils.alloca_once_value(builder, word(0)), word)  # of a thread that has not called us yet
    place = builder.add(mine, word(Local.fields["mode"][1]))
    return load_word(builder, builder.select(builder.icmp_unsigned("==", mine, word(0)), none, place))


@box(TensorType)
def box_tensor(kind, value, c):
    """The box of a tensor, whose reference it takes."""
    made = invoke_cell(c.context, c.builder, "box", [record_of(c.builder, value)], c.pyapi)
    return c.builder.inttoptr(made, c.pyapi.pyobj)


@unbox(DtypeType)
def unbox_dtype(kind, obj, c):
    return NativeValue(c.context.get_dummy_value())


@box(DtypeType)
def box_dtype(kind, value, c):
    module = c.pyapi.import_module(c.context.insert_const_string(c.builder.module, "numbatensor"))
    made = c.pyapi.object_getattr_string(module, NAMES[kind.code])
    c.pyapi.decref(module)
    return made


for key, agree in ((operator.eq, True), (operator.ne, False), (operator.is_, True), (operator.is_not, False)):

    @infer_global(key)
    class Compared(AbstractTemplate):
        """Whether two dtypes are one: known when the code is made."""

        def generic(self, args, kws):
            if len(args) == 2 and all(isinstance(a, DtypeType) for a in args):
                return signature(types.boolean, *args)

    setattr(Compared, "key", key)  # noqa: B010

    @lower_builtin(key, DtypeType, DtypeType)
    def compare(context, builder, sig, args, agree=agree):
        return ir.Constant(ir.IntType(1), (sig.args[0] == sig.args[1]) == agree)
