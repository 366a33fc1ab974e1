"""CUDA kernels in the block emulator, against the CPU's ops: every pointwise op and gradient rule, in each dtype that it accepts."""

import zlib

import numpy as np
import pytest
from numba import cuda, float32, int32, types, uint64

import numbatensor as nt
from kernels_cuda import mathematics, pointers, pointwise
from numbatensor import autograd
from numbatensor.cuda.emulator import KernelError, launch
from numbatensor.op import DTYPES, NUMBA, OPS, Pointwise, scalar
from numbatensor.samples import Elements

BLOCK = 32  # threads: fewer than on a device, so that few elements fill several blocks
NAMES = [name for name, op in OPS.items() if isinstance(op, Pointwise)]
SHAPES = [(67,), (3, 11), (2, 3, 5), (2, 3, 1, 4)]


def cases(op):
    """What the op has kernels for: (what, dtype, formula, kinds, the sample's places of the operands)."""
    for code, dtype in enumerate(DTYPES[: len(NUMBA)]):  # those of 16 bits: test_cuda_halves.py
        if op.row["dtypes"] >> code & 1:
            formula, kinds = op.parts(0, code, NUMBA)
            yield 0, code, scalar(formula, dtype, mathematics), kinds
            if np.dtype(dtype).kind == "f" and not op.row["result"]:
                for what in (1 + op.inputs.index(name) for name in op.rules):
                    rule, kinds = op.parts(what, code, NUMBA)
                    yield what, code, scalar(rule, dtype, mathematics), kinds


def drawn(op, sample, code, shape, rng):
    """Arguments of a sample's kind: arrays of a shape and dtype in place of tensors."""
    made = []
    for name, value in zip(op.inputs, sample, strict=False):
        if isinstance(value, Elements):
            count = -(-int(np.prod(shape)) // int(np.prod(value.shape))) + 1
            array = np.concatenate([np.ravel(value.draw(rng)) for _ in range(count)])[: int(np.prod(shape))].reshape(
                shape
            )
            if name in op.masks or np.dtype(DTYPES[code]) == bool:
                array = array > 0
            elif np.dtype(DTYPES[code]).kind in "iu":
                array = np.rint(array * 3)
                array = np.abs(array) if DTYPES[code] == np.uint8 or (op.name == "pow" and name == "y") else array
            made.append(array.astype(bool if name in op.masks else DTYPES[code]))
        else:
            made.append(value)
    return made + [p.default for p in op.parameters[len(sample) :]]


def references(op, arguments, code):
    """What the CPU computes: the result, the gradient that flows in, and by input the gradient that flows out."""
    tensors = [nt.tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
    wanted = [
        n
        for n, t in zip(op.inputs, tensors, strict=True)
        if n in op.rules and isinstance(t, nt.Tensor) and t.is_floating_point()
    ]
    for name in wanted:
        tensors[op.inputs.index(name)].requires_grad_()
    out = op(*tensors)
    if not wanted or op.row["result"]:
        return out.detach().numpy().copy(), None, {}
    grad = np.linspace(0.5, 1.5, out.numel()).reshape(out.shape).astype(DTYPES[code])
    inputs = [tensors[op.inputs.index(name)] for name in wanted]
    grads = autograd.grad(out, inputs, nt.tensor(grad), allow_unused=True)
    return (
        out.detach().numpy().copy(),
        grad,
        {n: g.numpy().copy() for n, g in zip(wanted, grads, strict=True) if g is not None},
    )


def operands_of(op, what, arguments, out, grad):
    """The operands of a kernel."""
    if what == 0:
        return arguments
    known = dict(zip(op.inputs, arguments, strict=True), out=out)
    return [grad] + [known[n] for n in op.needs[what - 1]]


def flat(operands):
    """Each operand as a pointer and a number: one of them is null."""
    return [v for x in operands for v in ((x, 0) if isinstance(x, np.ndarray) else (0, x))]


def run(kernel, kinds, out, operands, order, dims=0):
    """Run a kernel over arrays, whose strides the strided form reads."""
    arrays = [x if isinstance(x, np.ndarray) else None for x in operands]
    arguments = [out, *flat(operands), out.size]
    if dims:
        strides = [s for a in [out, *arrays] for s in ((0,) * dims if a is None else a.strides)]
        arguments += [*out.shape, *strides]
    per_block = BLOCK * (pointwise.PER_THREAD if dims else 2 * pointwise.vector_size(kinds))
    launch(kernel[0], max(1, -(-out.size // per_block)), BLOCK, arguments, kernel[1], order=order)


def spread(array, k):
    """An array's elements with other strides: transposed, backwards, every second."""
    if k % 3 == 0:
        return np.asfortranarray(array)
    if k % 3 == 1:
        return array[::-1].copy()[::-1]
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def agree(got, expected, told):
    if got.dtype.kind == "f":
        precision = 2e-5 if got.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(got, expected, rtol=precision, atol=precision / 10, err_msg=told)
    else:
        np.testing.assert_array_equal(got, expected, err_msg=told)


@pytest.mark.parametrize("name", NAMES)
def test_pointwise(name):
    op, rng = OPS[name], np.random.default_rng(zlib.crc32(name.encode()))
    for what, code, formula, kinds in cases(op):
        sample = op.samples[what % len(op.samples)] if what else op.samples[code % len(op.samples)]
        for dims in (0, 1 + (code + what) % 4):
            shape = SHAPES[dims - 1] if dims else (31 if what else 67 + 4 * code,)
            arguments = drawn(op, sample, code, shape, rng)
            out, grad, grads = references(op, arguments, code)
            if what and op.inputs[what - 1] not in grads:
                continue  # a number in this sample
            expected = grads[op.inputs[what - 1]] if what else out
            operands = operands_of(op, what, arguments, out, grad)
            got = np.full_like(expected, 77)
            if dims:
                operands = [spread(x, k) if isinstance(x, np.ndarray) else x for k, x in enumerate(operands)]
                got = spread(got, code)
            kernel = pointwise.elementwise(formula, kinds, dims)
            run(kernel, kinds, got, operands, "reverse" if (code + what) % 2 else "forward", dims)
            agree(got, expected, f"{name} {what} {DTYPES[code]} {dims}")


@pytest.mark.parametrize("dims", [0, 1, 2, 3, 4])
def test_sizes_numbers_and_writes_in_place(dims):
    """Sizes around those of vectors and blocks; each operand as a number; the output as an operand; three orders."""
    op, rng = OPS["lerp"], np.random.default_rng(0)
    kinds = [NUMBA[6]] * 4
    kernel = pointwise.elementwise(scalar(op.function, np.float32, mathematics), kinds, dims)
    for size in (0, 1, 31, 257, 1026):
        shape = (
            (size,)
            if dims < 2
            else (1,) * (dims - 2) + (2, size // 2)
            if size % 2 == 0
            else (1,) * (dims - 1) + (size,)
        )
        for order, fixed in (("forward", None), ("reverse", 0), (3, 1), ("forward", 2)):
            values = [rng.random(shape, np.float32) for _ in range(3)]
            if fixed is not None:
                values[fixed] = np.float32(0.25)
            x, y, weight = values
            expected = x + weight * (y - x)
            out = np.zeros(shape, np.float32)
            run(kernel, kinds, out, values, order, dims)
            np.testing.assert_allclose(out, expected, rtol=1e-5)
            if fixed is None:
                run(kernel, kinds, x, values, order, dims)
                np.testing.assert_array_equal(x, out)


def test_operands_are_broadcast_by_strides_of_zero():
    op = OPS["where"]
    kinds = [NUMBA[5], NUMBA[0], NUMBA[5], NUMBA[5]]
    kernel = pointwise.elementwise(scalar(op.function, np.int64, mathematics), kinds, 2)
    condition, x = np.array([True, False, True]), np.arange(4)[:, None]
    out = np.zeros((4, 3), np.int64)
    run(kernel, kinds, out, [np.broadcast_to(condition, (4, 3)), np.broadcast_to(x, (4, 3)), -1], "reverse", 2)
    np.testing.assert_array_equal(out, np.where(condition, x, -1))


def test_the_vector_form_wants_alignment():
    kinds = [NUMBA[6]] * 2
    kernel = pointwise.elementwise(scalar(OPS["neg"].function, np.float32, mathematics), kinds)
    with pytest.raises(KernelError, match="misaligned: reads 16 bytes"):
        run(kernel, kinds, np.zeros(16, np.float32), [np.zeros(17, np.float32)[1:]], "forward")


def test_integers_wrap():
    for name, expected in (("mul", -128), ("add", -128), ("bitwise_not", -65)):
        op, kinds = OPS[name], [NUMBA[2]] * (1 + len(OPS[name].inputs))
        kernel = pointwise.elementwise(scalar(op.function, np.int8, mathematics), kinds)
        out, x = np.zeros(3, np.int8), np.full(3, 64, np.int8)
        run(kernel, kinds, out, [x, np.full(3, 2 if name == "mul" else 64, np.int8)][: len(op.inputs)], "forward")
        assert (out == expected).all()


def test_pointers():
    load, store = pointers.vectors(4)
    read = pointers.pointer_to(float32)

    @cuda.jit
    def kernel(out, x, addresses, flags, counts):
        i = cuda.threadIdx.x
        a, b, c, d = load(x, i * 4)
        store(out, i * 4, (d, c, b, a))
        y = pointers.moved(read(addresses, 0), 4)
        if i == 0 and pointers.is_null(read(addresses, 1)):
            out[0] = y[0]
        pointers.put(flags, i, i % 2 == 0)
        pointers.atomic_add(counts, 0, i)
        pointers.atomic_max(counts, 1, i)
        pointers.atomic_swap(counts, 2, 0, i + 5)
        pointers.atomic_exchange(counts, 3, pointers.fresh(counts, 3) + 1)

    class Memory:
        data = np.arange(8, dtype=np.float32).view(np.uint8)

        def find(self, address):
            return self.data, address - 64

    kinds = tuple(map(types.CPointer, (float32, float32, uint64, types.boolean, int32)))
    x, out, flags, counts = (
        np.arange(16, dtype=np.float32),
        np.zeros(16, np.float32),
        np.zeros(4, bool),
        np.zeros(4, np.int32),
    )
    launch(kernel, 1, 4, (out, x, np.array([64, 0], np.uint64), flags, counts), kinds, memory=Memory())
    assert out[0] == 1
    np.testing.assert_array_equal(out[1:], x.reshape(4, 4)[:, ::-1].ravel()[1:])
    np.testing.assert_array_equal(flags, [True, False, True, False])
    np.testing.assert_array_equal(counts, [6, 3, 5, 4])
