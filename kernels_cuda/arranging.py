"""Triangles of matrices: elements of one side of a diagonal, zeros on the other.

A thread writes one element, and reads it where it is not zero. Launch: ``rows * width / 256`` blocks.
"""

from numba import cuda, int64, types, uint32

from kernels_cuda.pointers import get, put


def triangle(kind, upper):
    """``out[i, j] = x[i, j]`` where j <= i + diagonal (or, `upper`, where j >= i + diagonal), else 0.

    Arguments: out, x (both contiguous), n elements, height and width of a matrix, the number of the first row in its matrix, diagonal.
    """

    @cuda.jit
    def kernel(out, x, n, height, width, first, diagonal):
        e = uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))
        if e < n:
            row = uint32(e // width)
            edge = int64(uint32(uint32(row + first) % height)) + diagonal
            column = int64(uint32(e - row * width))
            if (column >= edge) if upper else (column <= edge):
                put(out, e, get(x, e))
            else:
                put(out, e, kind(0))

    pointer = types.CPointer(kind)
    return kernel, (pointer, pointer) + (types.uint32,) * 4 + (types.int64,)
