"""The skeleton of every pointwise kernel: ``out[i] = function(x[i], y[i], ...)``."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from kernels_cpu.pointers import on_stack, operands, wide

BLOCK = 512  # elements that are computed before those that need it are computed again


def loop(f, pointers, get, put):
    """The plain kernel: one loop."""

    def kernel(addresses, n):
        wide()
        p = pointers(addresses)
        for i in range(n):
            put(p, i, f(*get(p, i)))
        return 0

    return kernel


def elementwise(function, kinds, fixed=0, exact=None):
    """A kernel ``(pointers, n)`` that applies a scalar function. `kinds`: numba types, the output's first.

    `fixed`: the number of an operand that is one value for all i, or 0. `exact`: the same function, in code that is slow and always
    right; it is asked where the function answers NaN, which may mean that it cannot tell. (A branch in the loop would keep
    LLVM from vectorising it.)
    """
    if exact and not isinstance(kinds[0], types.Float):  # the result cannot be NaN
        function, exact = exact, None
    f = register_jitable(function)
    pointers, get, put = operands(kinds, fixed)
    if exact is None:
        return loop(f, pointers, get, put)
    g = register_jitable(exact)
    block = block_of(kinds[0])

    def mended_kernel(addresses, n):
        wide()
        p, out = pointers(addresses), block()
        for start in range(0, n, BLOCK):
            m, unknown = min(BLOCK, n - start), False
            for i in range(m):
                out[i] = f(*get(p, start + i))
                unknown |= out[i] != out[i]
            if unknown:
                for i in range(m):
                    if out[i] != out[i] and known(get(p, start + i)):
                        out[i] = g(*get(p, start + i))
            for i in range(m):  # inputs are read before: the output may be one of them
                put(p, start + i, out[i])
        return 0

    return mended_kernel


def several(function, kinds, outputs, exact=None):
    """A kernel of a scalar function that gives a tuple: one loop, several `outputs`, which share memory with nothing.

    `exact`: as above; it is asked for all of them where one is NaN.
    """
    f = register_jitable(function)
    pointers, get, put = operands(kinds, 0, outputs)
    if exact is None:
        return loop(f, pointers, get, put)
    g = register_jitable(exact)

    def mended_kernel(addresses, n):
        wide()
        p = pointers(addresses)
        for start in range(0, n, BLOCK):
            stop, unknown = min(start + BLOCK, n), False
            for i in range(start, stop):
                found = f(*get(p, i))
                put(p, i, found)
                unknown |= any_nan(found)
            if unknown:
                for i in range(start, stop):
                    if known(get(p, i)) and any_nan(f(*get(p, i))):
                        put(p, i, g(*get(p, i)))
        return 0

    return mended_kernel


def block_of(kind):
    """An intrinsic that gives a block on the stack."""

    @intrinsic
    def block(typingctx):
        def codegen(context, builder, signature, args):
            room = on_stack(builder, ir.ArrayType(context.get_value_type(kind), BLOCK))
            return builder.bitcast(room, context.get_value_type(kind).as_pointer())

        return types.CPointer(kind)(), codegen

    return block


@intrinsic
def any_nan(typingctx, values):
    """Whether any of several floats is NaN."""

    def codegen(context, builder, signature, args):
        found = ir.Constant(ir.IntType(1), 0)
        for value in cgutils.unpack_tuple(builder, args[0]):
            found = builder.or_(found, builder.fcmp_unordered("uno", value, value))
        return found

    return types.boolean(values), codegen


@intrinsic
def known(typingctx, values):
    """Whether any of several values is a number: what is made of NaN alone is NaN."""

    def codegen(context, builder, signature, args):
        found = ir.Constant(ir.IntType(1), 0)
        for value, kind in zip(cgutils.unpack_tuple(builder, args[0]), values, strict=True):
            is_float = isinstance(kind, types.Float)
            found = builder.or_(
                found, builder.fcmp_ordered("ord", value, value) if is_float else ir.Constant(ir.IntType(1), 1)
            )
        return found

    return types.boolean(values), codegen
