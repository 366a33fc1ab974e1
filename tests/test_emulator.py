"""The block emulator: what it computes, and that it catches what a device does wrong in silence."""

import math

import numpy as np
import pytest
from numba import cuda, float32, int32, int64, types, uint8, uint32

from kernels_cuda import matmul
from numbatensor.cuda.emulator import KernelError, launch

THREADS = 64
ORDERS = ["forward", "reverse", 7]
every_order = pytest.mark.parametrize("order", ORDERS)


@cuda.jit(device=True)
def warp_sum(x):
    for delta in (16, 8, 4, 2, 1):
        x += cuda.shfl_down_sync(0xFFFFFFFF, x, delta)
    return x


@cuda.jit
def block_sum(out, x, n):
    """Each block's sum."""
    parts = cuda.shared.array(2, float32)
    i, total = cuda.grid(1), float32(0)
    while i < n:
        total += x[i]
        i += cuda.gridsize(1)
    total = warp_sum(total)
    if cuda.laneid == 0:
        parts[cuda.threadIdx.x // 32] = total
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = parts[0] + parts[1]


@every_order
def test_sum_of_blocks(order):
    x, out = np.arange(1000, dtype=np.float32), np.zeros(3, np.float32)
    launch(block_sum, 3, THREADS, (out, x, 1000), order=order)
    assert out.sum() == x.sum() and out.min() > 0


def test_modules_are_left_alone():
    before = dict(block_sum.py_func.__globals__)
    test_sum_of_blocks("forward")
    assert block_sum.py_func.__globals__ == before and cuda.__name__ == "numba.cuda"


@every_order
def test_transpose_through_shared_memory(order):
    def transpose(out, x, rows, columns):
        tile = cuda.shared.array((8, 9), float32)
        i, j = cuda.blockIdx.y * 8 + cuda.threadIdx.y, cuda.blockIdx.x * 8 + cuda.threadIdx.x
        if i < rows and j < columns:
            tile[cuda.threadIdx.y, cuda.threadIdx.x] = x[i * columns + j]
        cuda.syncthreads()
        i, j = cuda.blockIdx.x * 8 + cuda.threadIdx.y, cuda.blockIdx.y * 8 + cuda.threadIdx.x
        if i < columns and j < rows:
            out[i * rows + j] = tile[cuda.threadIdx.x, cuda.threadIdx.y]

    x = np.random.default_rng(0).random((19, 10), np.float32)
    out = np.zeros((10, 19), np.float32)
    launch(transpose, (2, 3), (8, 8), (out, x, 19, 10), order=order)
    np.testing.assert_array_equal(out, x.T)


@every_order
def test_votes_and_shuffles(order):
    def kernel(out):
        lane, whole = cuda.laneid, 0xFFFFFFFF
        out[lane] = cuda.shfl_xor_sync(whole, lane, 1)
        out[32 + lane] = cuda.shfl_up_sync(whole, lane, 2)
        out[64 + lane] = cuda.shfl_sync(whole, lane, 5)
        out[96 + lane] = cuda.popc(cuda.ballot_sync(whole, lane % 3 == 0))
        out[128 + lane] = cuda.all_sync(whole, lane < 32) + 2 * cuda.any_sync(whole, lane > 31)
        out[160 + lane] = cuda.popc(cuda.match_any_sync(whole, lane // 8))
        if lane < 16:
            out[192 + lane] = cuda.shfl_down_sync(0xFFFF, lane, 0)
        out[224 + lane] = cuda.syncthreads_count(lane < 3) + 100 * cuda.syncthreads_or(lane == 40)

    out = np.full(256, -1, np.int64)
    launch(kernel, 1, 32, (out,), order=order)
    lanes, out = np.arange(32), out.reshape(8, 32)
    expected = [
        lanes ^ 1,
        np.where(lanes < 2, lanes, lanes - 2),
        lanes * 0 + 5,
        lanes * 0 + 11,
        lanes * 0 + 1,
        lanes * 0 + 8,
    ]
    np.testing.assert_array_equal(out[:6], expected)
    np.testing.assert_array_equal(out[6], np.where(lanes < 16, lanes, -1))
    np.testing.assert_array_equal(out[7], lanes * 0 + 3)


def test_atomics():
    def kernel(counts, extremes, x):
        v = x[cuda.grid(1)]
        cuda.atomic.add(counts, v % 4, 1)
        cuda.atomic.max(extremes, 0, v)
        cuda.atomic.min(extremes, 1, v)
        cuda.atomic.cas(extremes, 2, 0, v)

    x = np.random.default_rng(0).integers(1, 100, 128)
    counts, extremes = np.zeros(4, np.int32), np.array([0, 1000, 0])
    launch(kernel, 2, THREADS, (counts, extremes, x))
    np.testing.assert_array_equal(counts, np.bincount(x % 4))
    assert list(extremes) == [x.max(), x.min(), x[0]]


def test_numbers_are_the_devices():
    def kernel(floats, integers, x):
        floats[0] = math.log(x - x - float32(1))
        floats[1] = float32(1) / (x - x)
        floats[2] = float32(16777216) + float32(1)
        integers[0] = uint32(-1)
        integers[1] = int32(2147483647 + 1)
        integers[2] = uint8(300)
        integers[3] = uint32(3) - 5
        integers[4] = cuda.clz(uint32(1)) * 100 + cuda.clz(int64(1))
        integers[5] = 2**63
        integers[6] = cuda.brev(uint32(1)) + cuda.ffs(uint32(8))

    floats, integers = np.zeros(3, np.float32), np.zeros(7, np.int64)
    launch(kernel, 1, 1, (floats, integers, np.float32(3)))
    assert np.isnan(floats[0]) and floats[1] == np.inf and floats[2] == 16777216
    assert list(integers) == [2**32 - 1, -(2**31), 44, -2, 3163, -(2**63), 2**31 + 4]


def test_types_of_arguments():
    def kernel(out, pair, flag):
        p, v = pair
        out[0] = p[1] + v if flag else p[0]

    kinds = (types.CPointer(types.float64), types.Tuple((types.CPointer(types.int32), types.float32)), types.boolean)
    out = np.zeros(1)
    launch(kernel, 1, 1, (out, np.array([4, 5], np.int32), 0.1, True), kinds)
    assert out[0] == 5 + np.float64(np.float32(0.1))  # int32 and float32 make a float64
    with pytest.raises(TypeError, match="more than"):
        launch(kernel, 1, 1, (out, np.array([4, 5], np.int32), 0.1, True, 1), kinds)


class OneAllocation:
    def __init__(self, data):
        self.data = data

    def find(self, address):
        return self.data, address - 0x1000


def test_addresses():
    def kernel(out, x):
        out[cuda.threadIdx.x] = x[cuda.threadIdx.x] + 1

    memory, kinds = OneAllocation(np.zeros(64, np.uint8)), (types.CPointer(types.float32),) * 2
    launch(kernel, 1, 8, (0x1020, 0x1000), kinds, memory=memory)
    assert (memory.data[32:].view(np.float32) == 1).all()
    with pytest.raises(KernelError, match="out of bounds"):
        launch(kernel, 1, 8, (0x1024, 0x1000), kinds, memory=memory)
    with pytest.raises(KernelError, match="null pointer"):
        launch(kernel, 1, 8, (0x1020, 0), kinds, memory=memory)
    with pytest.raises(KernelError, match="misaligned"):
        launch(kernel, 1, 4, (0x1021, 0x1000), kinds, memory=memory)


# what it catches


def caught(kernel, *arguments, block=THREADS, grid=1, **options):
    """The reports in every order."""
    reports = []
    for order in ORDERS:
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        with pytest.raises(KernelError) as error:
            launch(kernel, grid, block, copies, order=order, **options)
        reports.append(str(error.value))
    return reports


def test_out_of_bounds():
    def writes(out, x):
        i = cuda.grid(1)
        out[i] = x[i]

    def below(out):
        out[cuda.threadIdx.x - 1] = 0

    def shared(out):
        part = cuda.shared.array((2, 4), int32)
        part[0, 4 + cuda.threadIdx.x - cuda.threadIdx.x] = 1

    line = writes.__code__.co_firstlineno + 2
    for report in caught(writes, np.zeros(60), np.zeros(64)):
        assert "out of bounds: writes 8 bytes" in report and f"writes at {__file__}:{line}" in report
    assert "thread (60, 0, 0) of block (0, 0, 0)" in caught(writes, np.zeros(60), np.zeros(64))[0]
    assert all("reads 8 bytes" in r for r in caught(writes, np.zeros(64), np.zeros(60)))
    assert all("writes 8 bytes at -8 of" in r for r in caught(below, np.zeros(64)))
    assert all("index (0, 4)" in r for r in caught(shared, np.zeros(1), block=1))


def test_bounds_are_those_of_a_view():
    def kernel(x):
        x[cuda.threadIdx.x] = 1

    whole = np.zeros(8)
    with pytest.raises(KernelError, match="out of bounds"):
        launch(kernel, 1, 5, (whole[2:6],))
    assert whole[:2].sum() == 0 and whole[6:].sum() == 0


def test_race_in_shared_memory():
    def kernel(out):
        part = cuda.shared.array(THREADS, int32)
        i = cuda.threadIdx.x
        part[i] = i
        out[i] = part[(i + 1) % THREADS]

    def mended(out):
        part = cuda.shared.array(THREADS, int32)
        i = cuda.threadIdx.x
        part[i] = i
        cuda.syncthreads()
        out[i] = part[(i + 1) % THREADS]

    def overtaken(out):  # the next round's writes may overtake this round's reads
        part = cuda.shared.array(THREADS, int32)
        i = cuda.threadIdx.x
        for k in range(2):
            part[i] = i + k
            cuda.syncthreads()
            out[i] = part[THREADS - 1 - i]

    out = np.zeros(THREADS)
    assert all("before it was written" in r or "race" in r for r in caught(kernel, out))
    assert all("race: " in r for r in caught(overtaken, out))
    launch(mended, 1, THREADS, (out,))


def test_race_in_global_memory():
    def kernel(out):
        out[cuda.threadIdx.x // 2] = cuda.threadIdx.x

    def across(out):
        if cuda.threadIdx.x == 0:
            out[0] = out[0] + 1

    def mixed(out):
        cuda.atomic.add(out, 0, 1)
        out[1 + cuda.threadIdx.x] = out[0]

    assert all("race: writes" in r for r in caught(kernel, np.zeros(THREADS)))
    assert all("of block" in r for r in caught(across, np.zeros(1), grid=2))
    assert all("race" in r for r in caught(mixed, np.zeros(THREADS + 1)))


def test_last_block_finishes():
    """Two stages in one launch: what was fenced may be read by the block that comes last."""

    def kernel(out, parts, count):
        last = cuda.shared.array(1, int32)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.x] = cuda.blockIdx.x + 1
            cuda.threadfence()
            last[0] = cuda.atomic.add(count, 0, 1) == cuda.gridDim.x - 1
        cuda.syncthreads()
        if last[0] and cuda.threadIdx.x == 0:
            out[0] = parts[0] + parts[1] + parts[2]

    for order in ORDERS:
        out = np.zeros(1)
        launch(kernel, 3, 32, (out, np.zeros(3), np.zeros(1, np.uint32)), order=order)
        assert out[0] == 6


def test_warps_may_do_with_syncwarp():
    def kernel(out):
        part = cuda.shared.array(THREADS, int32)
        i = cuda.threadIdx.x
        part[i] = i
        cuda.syncwarp()
        out[i] = part[i ^ 1]

    def beyond(out):
        part = cuda.shared.array(THREADS, int32)
        i = cuda.threadIdx.x
        part[i] = i
        cuda.syncwarp()
        out[i] = part[i ^ 32]

    launch(kernel, 1, THREADS, (np.zeros(THREADS),))
    reports = caught(beyond, np.zeros(THREADS))
    assert all("race" in r or "before it was written" in r for r in reports)


def test_divergent_barriers():
    def some(out):
        if cuda.threadIdx.x < 40:
            cuda.syncthreads()
        out[cuda.threadIdx.x] = 1

    def two(out):
        if cuda.threadIdx.x < 40:
            cuda.syncthreads()
        else:
            cuda.syncthreads()

    def half(out):
        if cuda.laneid < 16:
            cuda.syncwarp()
        else:
            cuda.syncthreads()

    for kernel in (some, two, half):
        assert all("divergent barrier" in r for r in caught(kernel, np.zeros(THREADS)))
    assert "threads [(40, 0, 0)" in caught(some, np.zeros(THREADS))[0]


def test_shuffles_from_lanes_that_take_no_part():
    def kernel(out):
        if cuda.laneid < 16:
            out[cuda.laneid] = cuda.shfl_down_sync(0xFFFF, cuda.laneid, 4)

    def unnamed(out):
        out[cuda.laneid] = cuda.shfl_sync(0xFFFF, cuda.laneid, 0)

    assert "reads lane 16" in caught(kernel, np.zeros(32), block=32)[0]
    assert "lane 16 itself is not" in caught(unnamed, np.zeros(32), block=32)[0]


def test_reads_before_the_first_write():
    def shared(out):
        part = cuda.shared.array(THREADS, float32)
        if cuda.threadIdx.x > 0:
            part[cuda.threadIdx.x] = 1
        cuda.syncthreads()
        out[cuda.threadIdx.x] = part[cuda.threadIdx.x]

    def dynamic(out):
        out[cuda.threadIdx.x] = cuda.shared.array(0, float32)[cuda.threadIdx.x]

    def local(out):
        out[0] = cuda.local.array(3, float32)[2]

    assert all("byte 0 of shared memory of 256 bytes before" in r for r in caught(shared, np.zeros(THREADS)))
    assert all("before it was written" in r for r in caught(dynamic, np.zeros(THREADS), shared_bytes=4 * THREADS))
    assert all("local memory" in r for r in caught(local, np.zeros(1), block=1))


def test_errors_name_the_thread():
    def kernel(out):
        out[0] = 1 // (cuda.threadIdx.x - 3)

    with pytest.raises(ZeroDivisionError) as error:
        launch(kernel, 1, 4, (np.zeros(1),), order="reverse")
    assert error.value.__notes__ == ["in thread (3, 0, 0) of block (0, 0, 0)"]


def test_limits_of_launches():
    """What the driver refuses, or what it would let a block begin with, is an error here as well."""
    kernel = cuda.jit(lambda out: None)
    for grid, block in ((0, 1), ((1, 65536), 1), (2**31, 1), (1, 0), (1, 1025), (1, (32, 33)), (1, (1, 1, 65))):
        with pytest.raises(KernelError, match="a (grid|block) of"):
            launch(kernel, grid, block, [np.zeros(1)])

    @cuda.jit
    def large(out):
        room = cuda.shared.array(12 << 10, float32)
        other = cuda.shared.array(2, float32)
        room[0] = other[0] = out[0]

    with pytest.raises(KernelError, match="49160 bytes of shared memory, of which a block has 49152"):
        launch(large, 1, 1, [np.zeros(1, np.float32)])


def test_shared_arrays_are_aligned_as_declared():
    """Vectors are loaded from shared memory only where an array is declared with their alignment."""
    load, _ = matmul.shared_vectors(4)

    @cuda.jit
    def kernel(out, aligned):
        if aligned:
            room = cuda.shared.array(8, float32, 16)
        else:
            room = cuda.shared.array(8, float32)
        for k in range(8):
            room[k] = float32(k)
        out[0] = load(room, 4)[3]

    out = np.zeros(1, np.float32)
    launch(kernel, 1, 1, [out, True])
    assert out[0] == 7
    with pytest.raises(KernelError, match="misaligned"):
        launch(kernel, 1, 1, [out, False])


def test_products_that_are_rounded_by_themselves():
    @cuda.jit
    def kernel(out, x, y):
        out[0], out[1] = cuda.libdevice.fmul_rn(x[0], y[0]) + y[0], cuda.libdevice.dmul_rn(x[0], y[0]) + y[0]

    out, x, y = np.zeros(2), np.float32([0.3]), np.float32([0.7])
    launch(kernel, 1, 1, [out, x, y])
    assert out.tolist() == [x[0] * y[0] + y[0], float(x[0]) * float(y[0]) + y[0]]
