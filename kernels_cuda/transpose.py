"""Copies whose source and target are contiguous along different dimensions: by tiles in shared memory.

Read along one dimension and written along another, a copy without tiles moves a whole sector of memory, 32 bytes, for each element on
one of its sides. Here a warp reads 32 elements that lie next to each other, and writes 32 that do: each side is moved once.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.pointers import get, moved, put

SIDE = 32  # elements of a tile's side
ROWS = 8  # of a tile that a block of 256 threads works on at a time; each thread has SIDE / ROWS elements in flight
EACH = SIDE // ROWS
SHAPE = (SIDE, SIDE + 1)


def transpose(kind, form=0):
    """``out[b, i, j] = x[b, i, j]``, where x is contiguous along i and out along j; steps are in bytes.

    `form`: there is one.

    Arguments: out, x, height (of i), width (of j), the steps of out along i and b, those of x along j and b. Launch: a block of 256 threads for each tile, by as many
    as there are matrices. A column of the tile is one word longer than it needs to be: else its elements would lie in one bank.
    """

    @cuda.jit
    def kernel(out, x, height, width, out_step, out_batch, x_step, x_batch):
        tile = cuda.shared.array(SHAPE, kind)
        lane, line = uint32(cuda.threadIdx.x & 31), uint32(cuda.threadIdx.x >> 5)
        across = uint32(uint32(width + SIDE - 1) // SIDE)
        block = uint32(cuda.blockIdx.x)
        above = uint32(block // across)
        left = uint32(uint32(block - above * across) * SIDE)
        above = uint32(above * SIDE)
        b = int64(cuda.blockIdx.y)
        i = uint32(above + lane)
        if i < height:
            for k in range(EACH):
                j = uint32(left + line + k * ROWS)
                if j < width:
                    tile[uint32(line + k * ROWS), lane] = get(moved(x, b * x_batch + int64(j) * x_step), i)
        cuda.syncthreads()
        j = uint32(left + lane)
        if j < width:
            for k in range(EACH):
                i = uint32(above + line + k * ROWS)
                if i < height:
                    put(moved(out, b * out_batch + int64(i) * out_step), j, tile[lane, uint32(line + k * ROWS)])

    pointer = types.CPointer(kind)
    return kernel, (pointer, pointer, types.uint32, types.uint32) + (types.int64,) * 4
