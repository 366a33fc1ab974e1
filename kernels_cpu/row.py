"""What kernels along one dimension share: their arguments, stack arrays, and maxima and sums that become vectors.

A row kernel is ``kernel(addresses, rows, n)``: `rows` contiguous rows of n elements. A column kernel is
``kernel(addresses, n, width)``: `width` neighbouring columns, at most WIDTH, each n elements long. `addresses` holds
the pointers of OPERANDS operands, the output first; then for each the bytes from one row to the next (0: all rows
share it); then numbers that the op brings. What is written lies apart from what is read, or meets it element by
element.

These kernels are compiled without `reassoc`: it would turn ``(x - max) - log(sum)`` into ``x - (max + log(sum))``,
which loses the digits that the first form keeps. The additions whose order is free say so themselves (`plus`).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

OPERANDS = 8
STEPS, NUMBERS = 8 * OPERANDS, 16 * OPERANDS  # bytes from the pointers to the steps and to the numbers
BLOCK = 2048  # elements that are worked on while they are in first-level cache
ROWS = 256  # most rows of one block
WIDTH = 256  # most columns of one call
LEVEL = 32  # rows whose elements a column's sum takes in its own type before it goes on in float64
inf = np.inf


@intrinsic
def word(typingctx, address):
    """The int64 at an address."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.load(
        builder.inttoptr(args[0], ir.IntType(64).as_pointer())
    )


@intrinsic
def real(typingctx, address):
    """The float64 at an address."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.load(
        builder.inttoptr(args[0], ir.DoubleType().as_pointer())
    )


def operand(kind):
    """An intrinsic that gives the pointer of row i of operand k."""
    target = types.CPointer(kind)

    @intrinsic
    def row(typingctx, addresses, k, i):
        def codegen(context, builder, signature, args):
            place = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            start = builder.load(builder.gep(place, [args[1]]))
            step = builder.load(builder.gep(place, [builder.add(args[1], ir.Constant(ir.IntType(64), OPERANDS))]))
            return builder.inttoptr(builder.add(start, builder.mul(args[2], step)), context.get_value_type(target))

        return target(types.int64, types.int64, types.int64), codegen

    return row


def plain(kind):
    """A bool's type as a number's: it is stored as 0 or 1."""
    return types.uint8 if isinstance(kind, types.Boolean) else kind


def stack(kind, count):
    """An intrinsic that gives an uninitialised array on the kernel's stack."""

    @intrinsic
    def array(typingctx):
        def codegen(context, builder, signature, args):
            room = cgutils.alloca_once(builder, ir.ArrayType(context.get_data_type(kind), count))
            return builder.bitcast(room, context.get_value_type(signature.return_type))

        return types.CPointer(kind)(), codegen

    return array


@intrinsic
def after(typingctx, x, count):
    """The pointer `count` elements behind another."""
    return x(x, types.int64), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


def constant(value, kind):
    """A number in a kernel's type, so that float32 does not become float64."""
    return np.dtype(str(kind)).type(value)


@intrinsic
def plus(typingctx, x, y):
    """``x + y``, of a sum that may be taken in any order."""
    return x(x, x), lambda context, builder, signature, args: builder.fadd(*args, flags=("reassoc", "nsz"))


def extreme(sign):
    """An intrinsic: the larger or smaller of two numbers; which of the two is left open where one is NaN.

    That freedom is what lets LLVM turn it into vectors: its own functions, which mind NaN, take a third more time in a
    softmax of rows of 100, and twice the time to compile.
    """

    @intrinsic
    def pick(typingctx, x, y):
        def codegen(context, builder, signature, args):
            if isinstance(x, types.Integer):
                compare = builder.icmp_signed if x.signed else builder.icmp_unsigned
                return builder.select(compare(sign, *args), *args)
            chosen = builder.select(builder.fcmp_ordered(sign, *args, flags=("nnan", "nsz")), *args)
            chosen.flags = ("nnan", "nsz")
            return chosen

        return x(x, x), codegen

    return pick


larger, smaller = extreme(">"), extreme("<")


def total(kind, term):
    """A function: the sum of ``term(x[i], y[i], c)`` over n elements, by many lanes, then in float64 over blocks.

    A lane adds 32 to 128 of a block's numbers: the error is about that of pairwise summation.
    """
    zero, f = constant(0, kind), register_jitable(term)

    @register_jitable
    def add(x, y, c, n):
        found = 0.0
        for start in range(0, n, BLOCK):
            part = zero
            for i in range(start, min(start + BLOCK, n)):
                part = plus(part, f(x[i], y[i], c))
            found += part
        return found

    return add


def kernels(rows, columns, *formula):
    """The factories of a formula's two kernels: functions of a numba type."""

    def for_rows(kind):
        return rows(kind, *formula)

    def for_columns(kind):
        return columns(kind, *formula)

    return for_rows, for_columns
