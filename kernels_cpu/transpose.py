"""Transposition of small square blocks in registers."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

SIDE = 8  # rows and columns of a block


def transposed_block(bits):
    """An intrinsic ``block(out, out_step, x, x_step)``: ``out[j, i] = x[i, j]`` for 8 rows of 8 elements; steps are bytes between rows.

    log2(8) rounds: round s exchanges, between rows i and i + s, the elements whose column has that bit unset and set.
    """

    @intrinsic
    def block(typingctx, out, out_step, x, x_step):
        def codegen(context, builder, signature, args):
            target, target_step, source, source_step = args
            vector, word = ir.VectorType(ir.IntType(bits), SIDE), ir.IntType(64)

            def row(start, step, i):
                place = builder.add(start, builder.mul(step, word(i)))
                return builder.inttoptr(place, vector.as_pointer())

            rows = [builder.load(row(source, source_step, i), align=bits // 8) for i in range(SIDE)]
            lanes = range(SIDE)
            s = 1
            while s < SIDE:
                low = [j if j & s == 0 else SIDE + j - s for j in lanes]
                high = [j + s if j & s == 0 else SIDE + j for j in lanes]
                for i in lanes:
                    if i & s == 0:
                        a, b = rows[i], rows[i + s]
                        masks = [ir.Constant(ir.VectorType(ir.IntType(32), SIDE), m) for m in (low, high)]
                        rows[i], rows[i + s] = (builder.shuffle_vector(a, b, m) for m in masks)
                s *= 2
            for i, one in enumerate(rows):
                builder.store(one, row(target, target_step, i), align=bits // 8)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64, types.int64, types.int64), codegen

    return block


block4, block8 = transposed_block(32), transposed_block(64)
