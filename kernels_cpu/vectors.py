"""Vectors of a processor register, for code that is built instruction by instruction. All addresses and steps are in bytes."""

from types import SimpleNamespace

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

features = llvm.get_host_cpu_features()
REGISTER = 64 if features.get("avx512f") else 32 if features.get("avx") else 16  # bytes of a vector

word = ir.IntType(64)


def lanes(kind):
    """Elements of a vector; those narrower than 4 bytes get as many as those of 4, since few processors can mask them."""
    return REGISTER // max(np.dtype(str(kind)).itemsize, 4)


def vectors(builder, kind):
    """Instructions on vectors of one type of element, in the function that is being built.

    A function, not a class: what is nested in it counts for the fingerprint of the code that uses it.
    """
    count, item, real = lanes(kind), np.dtype(str(kind)).itemsize, isinstance(kind, types.Float)
    element = {4: ir.FloatType(), 8: ir.DoubleType()}[item] if real else ir.IntType(8 * item)
    vector, index = ir.VectorType(element, count), ir.VectorType(word, count)
    name = f"v{count}{'f' if real else 'i'}{8 * item}"
    align = ir.Constant(ir.IntType(32), item)
    zero = ir.Constant(vector, None)
    set.add(builder.function.attributes, '"prefer-vector-width"="512"')

    def call(function, result, *arguments, flags=()):
        signature = ir.FunctionType(result, [a.type for a in arguments])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, signature, function), arguments, fastmath=flags
        )

    def shuffle(x, y, places):
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), count), places))

    def splat(value, kind=vector):
        """A vector of one value."""
        nothing = ir.Constant(kind, ir.Undefined)
        return shuffle(builder.insert_element(nothing, value, ir.IntType(32)(0)), nothing, [0] * count)

    def first(n):
        """The mask of the first n lanes."""
        return builder.icmp_signed("<", ir.Constant(index, list(range(count))), splat(n, index))

    def one(address):
        """A pointer to one element."""
        return builder.inttoptr(address, element.as_pointer())

    def load(address, mask=None):
        place = builder.inttoptr(address, vector.as_pointer())
        if mask is not None:
            return call(f"llvm.masked.load.{name}.p0", vector, place, align, mask, zero)
        made = builder.load(place)
        made.align = item
        return made

    def store(value, address, mask=None):
        place = builder.inttoptr(address, vector.as_pointer())
        if mask is not None:
            call(f"llvm.masked.store.{name}.p0", ir.VoidType(), value, place, align, mask)
        else:
            builder.store(value, place).align = item

    def prefetch(address):
        """Bring what lies at an address into first-level cache, for reading; there need not be anything."""
        read, near, data = (ir.Constant(ir.IntType(32), n) for n in (0, 3, 1))
        call("llvm.prefetch.p0", ir.VoidType(), one(address), read, near, data)

    def multiply_add(x, y, z):
        """x * y + z, in one rounding where the processor has that."""
        if real:
            return call(f"llvm.fmuladd.{name}", vector, x, y, z)
        return builder.add(builder.mul(x, y), z)

    def total(x):
        """The sum of a vector's elements."""
        if real:
            return call(f"llvm.vector.reduce.fadd.{name}", element, element(0.0), x, flags=("reassoc",))
        return call(f"llvm.vector.reduce.add.{name}", element, x)

    return SimpleNamespace(
        count=count,
        item=item,
        size=count * item,
        zero=zero,
        nothing=ir.Constant(element, 0),
        plus=builder.fadd if real else builder.add,
        shuffle=shuffle,
        splat=splat,
        first=first,
        one=one,
        load=load,
        store=store,
        prefetch=prefetch,
        multiply_add=multiply_add,
        total=total,
    )


def loop(builder, count, carried, body):
    """Run ``values = body(index, values)`` at least once, and until the index reaches `count`; gives the last values."""
    before, block = builder.block, builder.append_basic_block("loop")
    builder.branch(block)
    builder.position_at_end(block)
    index = builder.phi(word)
    phis = [builder.phi(v.type) for v in carried]
    made = body(index, phis)
    following = builder.add(index, word(1))
    last = builder.block
    for phi, start, value in zip([index, *phis], [word(0), *carried], [following, *made], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, last)
    after = builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", following, count), block, after)
    builder.position_at_end(after)
    return made


def chosen(builder, condition, yes, no):
    """The values of `yes()` where a condition holds, else `no`."""
    before = builder.block
    then, after = builder.append_basic_block("then"), builder.append_basic_block("after")
    builder.cbranch(condition, then, after)
    builder.position_at_end(then)
    found = yes()
    last = builder.block
    builder.branch(after)
    builder.position_at_end(after)
    made = []
    for a, b in zip(found, no, strict=True):
        phi = builder.phi(b.type)
        phi.add_incoming(a, last)
        phi.add_incoming(b, before)
        made.append(phi)
    return made


def room(size):
    """An intrinsic: the address of some bytes on the stack, at a multiple of 64."""

    @intrinsic
    def place(typingctx):
        def codegen(context, builder, signature, args):
            with builder.goto_entry_block():  # numba's own way of making it would clear it
                made = builder.alloca(ir.ArrayType(ir.IntType(8), size + 64))
            return builder.and_(builder.add(builder.ptrtoint(made, word), word(63)), word(-64))

        return types.int64(), codegen

    return place


def mover(kind):
    """An intrinsic that copies one element: ``move(out, x)``."""

    @intrinsic
    def move(typingctx, out, x):
        def codegen(context, builder, signature, args):
            one = vectors(builder, kind).one
            builder.store(builder.load(one(args[1])), one(args[0]))
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), codegen

    return move
