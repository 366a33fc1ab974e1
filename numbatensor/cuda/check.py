"""Compile the CUDA kernels for several architectures, without a GPU, and check what the assembler made of them (`make cuda-check`).

No spills, no float64 in kernels of float32 (libdevice's sine, cosine and tangent of large numbers aside), no 64-bit divisions for
indices, and accesses of 128 bits where contiguous operands promise them.
"""

import argparse
import concurrent.futures
import itertools
import os

import numpy as np
from numba import types

import numbatensor.ops  # noqa: F401  (declares the ops)
from kernels_cuda import (
    arranging,
    index,
    masks,
    matmul,
    nll,
    optimizers,
    pointwise,
    random,
    sampling,
    sort,
    transpose,
)
from kernels_cuda.halves import bfloat16, float16
from kernels_cuda.pointers import itemsize
from kernels_cuda.row import BY_PASSES, LONG, MIXED, THREADS
from numbatensor.core.tensors import FLOAT16, FLOAT32
from numbatensor.cuda import compiler
from numbatensor.cuda.kernels import KINDS
from numbatensor.op import DTYPES, ON_DEVICES, OPS, Pointwise, Reduction, name_of

ARCHES = ["sm_80", "sm_90", "sm_100"]
FORMS = {"vector": 0, "strided": 2}
REGISTERS = 1 << 16  # of a multiprocessor: a block that needs more is not launched
REDUCING = {"sin", "cos", "tan"}  # libdevice reduces large arguments in float64


def pointwise_cases():
    """(name, what, dtype, form) of every pointwise kernel: `what` is 0, or one more than the number of the input whose rule it is."""
    for name, op in OPS.items():
        if isinstance(op, Pointwise):
            for code, form in itertools.product(range(len(DTYPES)), FORMS):
                if op.row["dtypes"] >> code & 1:
                    yield name, 0, code, form
                    if code >= FLOAT32 and not op.row["result"]:
                        yield from ((name, 1 + op.inputs.index(i), code, form) for i in op.rules)


def pointwise_kernel(name, what, code, form):
    """The kernel, its argument types, and the types of its operands."""
    op = OPS[name]
    return *op.kernel_there(what, FORMS[form], code), op.parts(what, code, KINDS)[1]


GROUPS = {"aligned": 1, "single": 0}
ROW_OPS = [
    "softmax",
    "log_softmax",
    "logsumexp",
    "softmax_slope",
    "log_softmax_slope",
    "cumsum",
    "cumprod",
    "argmax",
    "argmin",
]
ROW_OPS += ["layer_norm", "layer_norm_slope", "layer_norm_slope_of_weight"]
MOST_IN_REGISTERS = 6  # what a form has beside its alignment: 32 elements a thread


def row_cases():
    """(name, what, dtype, form) of kernels that combine elements: reductions, and ops along one dimension."""
    for name, op in OPS.items():
        for code in range(len(KINDS)):
            if op.row["dtypes"] >> code & 1 and (code < FLOAT16 or op.halves & ON_DEVICES):
                if isinstance(op, Reduction):
                    yield from ((name, what, code, form) for what in range(3) for form in GROUPS)
                elif name in ROW_OPS:
                    mixed = "layer_norm:mixed" in op.there_kernels[-1] and code < FLOAT16  # for halves alone
                    kernels = range(MIXED if mixed else len(op.there_kernels))
                    yield from ((name, what, code, form) for what in kernels for form in GROUPS)


def row_kernel(name, what, code, form):
    """The kernel and its argument types; rows in registers with as many elements as there is room for."""
    op, bits = OPS[name], GROUPS[form]
    if not isinstance(op, Reduction) and len(op.there_kernels) > 2 and what % MIXED < 2:
        bits += MOST_IN_REGISTERS
    return op.kernel_there(what, bits, code)


def too_many_registers(found, threads):
    """What is wrong where a block of so many threads has no room: registers are given out by eights."""
    needed = -(-found["registers"] // 8) * 8 * threads
    return [f"{found['registers']} registers for each of {threads} threads"] if needed > REGISTERS else []


def row_faults(case, found):
    name, what, code, form = case
    wrong = [f"{found['spilled']} bytes are spilled"] if found["spilled"] else []
    if DTYPES[code] != np.float64 and found["float64"]:
        wrong.append(f"{found['float64']} instructions of float64")
    if found["wide divisions"]:
        wrong.append(f"{found['wide divisions']} divisions of 64 bits")
    long = not isinstance(OPS[name], Reduction) and len(OPS[name].there_kernels) > 2 and what % MIXED == BY_PASSES
    wrong += too_many_registers(found, LONG if long else THREADS)
    single = (name in ("argmax", "argmin") and code >= FLOAT16) or (
        name == "layer_norm_slope_of_weight" and what == 3
    )  # these load elements
    if form == "aligned" and code >= FLOAT32 and not single and max(found["loads"]) != 128:
        if not (
            isinstance(OPS[name], Reduction) and what == 2
        ):  # a column's accumulators may be wider than its elements
            wrong.append(f"loads of {max(found['loads'])} bits")
    return wrong


F32, I32, I64 = types.float32, types.int32, types.int64
# Kernels of other ops: the factory, its type and form, and the widest access that contiguous operands promise (0: none is promised).
OTHERS: list = [(matmul.product, F32, form, 128) for form in (0, 3, 4, 7)]
OTHERS += [(matmul.product, types.float64, 0, 128), (matmul.product, I64, 3, 128), (matmul.product, types.int8, 4, 0)]
OTHERS += [(matmul.product, float16, 0, 0), (matmul.product, bfloat16, 7, 0)]
OTHERS += [(matmul.product, kind, form, 64) for kind in (float16, bfloat16) for form in (3, 4)]
OTHERS += [(index.offsets, I64, 2, 0), (index.take, I32, 2, 0), (index.replace, I64, 1, 0), (index.add_at, F32, 2, 0)]
OTHERS += [(sort.sort_tiles, F32, 5, 0), (sort.sort_tiles, I64, 5, 0), (sort.merge_runs, I64, 0, 0)]
OTHERS += [(sort.ranks, F32, 0, 0), (sort.ranks, types.boolean, 0, 0), (sort.ranks, types.float64, 0, 0)]
OTHERS += [(masks.count, F32, 0, 0), (masks.scan, I64, 0, 0), (masks.where, F32, 0, 0), (masks.unravel, I64, 0, 0)]
OTHERS += [(nll.check, I64, 0, 0), (nll.weights, F32, 0, 0), (nll.nll_loss_grad, F32, 0, 0)]
OTHERS += [(nll.nll_loss, F32, reduction, 0) for reduction in range(3)]
OTHERS += [(f, F32, 0, 0) for f in (random.uniform, random.normal, random.exponential, random.bernoulli, random.trials)]
OTHERS += [(f, F32, 0, 0) for f in (optimizers.sgd, optimizers.momentum, optimizers.adam, optimizers.amsgrad)]
OTHERS += [(f, F32, 0, 0) for f in (optimizers.adam_counted, optimizers.amsgrad_counted, optimizers.count)]
OTHERS += [(f, I64, 0, 0) for f in (sampling.permutation, sampling.permutation_digits, sampling.lookup)]
OTHERS += [(f, F32, 0, 0) for f in (sampling.positives, sampling.choices)] + [(sampling.race, types.float64, 0, 0)]
OTHERS += [(f, kind, 0, 0) for f in (optimizers.adam, optimizers.sgd) for kind in (float16, bfloat16)]
OTHERS += [(random.random, I64, 0, 0), (arranging.triangle, F32, 1, 0)]
OTHERS += [(transpose.transpose, kind, 0, 8 * itemsize(kind)) for kind in (types.int16, I32, I64)]


def checked_other(factory, kind, form, bits, arch):
    """The report on a kernel of OTHERS, with what is wrong."""
    found = compiler.report(*factory(kind, form), arch)
    wrong = [f"{found['spilled']} bytes are spilled"] if found["spilled"] else []
    if found["float64"] and kind != types.float64:
        wrong.append(f"{found['float64']} instructions of float64")
    if found["wide divisions"]:
        wrong.append(f"{found['wide divisions']} divisions of 64 bits")
    if bits and max(found["loads"]) != bits:
        wrong.append(f"accesses of {max(found['loads'])} bits")
    wrong += too_many_registers(found, sort.TILES[form] // 2 if factory is sort.sort_tiles else THREADS)
    return (factory.__name__, str(kind), str(form)), arch, found, wrong


def faults(case, kinds, found):
    """What is wrong with a kernel."""
    name, what, code, form = case
    wrong = [f"{found['spilled']} bytes are spilled"] if found["spilled"] else []
    if kinds[0] == types.float32 or (code == DTYPES.index(np.float32)):
        reduces = REDUCING & ({name} | set(OPS[name].function.__code__.co_names) | names_read(case))
        if found["float64"] and not reduces:
            wrong.append(f"{found['float64']} instructions of float64")
        if found["wide divisions"]:
            wrong.append(f"{found['wide divisions']} divisions of 64 bits")
    if form == "vector":
        # a constant, such as isnan of integers, reads nothing
        touched = kinds if found["loads"] else kinds[:1]
        bits = 8 * itemsize(max(touched, key=itemsize)) * pointwise.vector_size(kinds)
        widest = max(found["loads"] + found["stores"], default=0)
        if widest != bits:
            wrong.append(f"accesses of {widest} bits")
    return wrong


def names_read(case):
    name, what, _, _ = case
    return set(OPS[name].rules[OPS[name].inputs[what - 1]].__code__.co_names) if what else set()


def checked(case, arch):
    """The report on one kernel, with what is wrong."""
    if not isinstance(OPS[case[0]], Pointwise):
        found = compiler.report(*row_kernel(*case), arch)
        return case, arch, found, row_faults(case, found)
    kernel, arguments, kinds = pointwise_kernel(*case)
    found = compiler.report(kernel, arguments, arch)
    return case, arch, found, faults(case, kinds, found)


def row(case, arch, found, wrong):
    if len(case) == 3:
        shown, dtype, form = case
    else:
        name, what, code, form = case
        dtype = name_of(code)
        shown = f"{name}.{OPS[name].inputs[what - 1]}" if what else name
        if not isinstance(OPS[name], Pointwise):
            shown = f"{name}.{what}"
    widths = lambda key: "/".join(map(str, found[key])) or "-"
    return (
        f"{shown:28} {dtype:8} {form:8} {arch:7} {found['registers']:4} {found['shared']:6} "
        f"{widths('loads'):>12} {widths('stores'):>12}  {'; '.join(wrong) or 'ok'}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="*", default=ARCHES)
    parser.add_argument("--dtype", nargs="*", default=[name_of(k) for k in range(len(DTYPES))])
    parser.add_argument("--op", nargs="*", help="only these")
    chosen = parser.parse_args()
    cases = [*pointwise_cases(), *row_cases()]
    cases = [c for c in cases if name_of(c[2]) in chosen.dtype and (not chosen.op or c[0] in chosen.op)]
    jobs = [(case, arch) for case in cases for arch in chosen.arch]
    print(f"{'kernel':28} {'dtype':8} {'form':8} {'arch':7} regs shared {'load bits':>12} {'store bits':>12}")
    bad = 0
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(checked, *zip(*jobs, strict=True), chunksize=8) if jobs else ():
            print(row(*result), flush=True)
            bad += bool(result[3])
        others = [(*o, arch) for o in OTHERS for arch in chosen.arch if not chosen.op or o[0].__name__ in chosen.op]
        for result in pool.map(checked_other, *zip(*others, strict=True)) if others else ():
            print(row(*result), flush=True)
            bad += bool(result[3])
    print(
        f"{len(jobs) + len(others)} kernels of {len(cases)} pointwise cases and {len(others) // len(chosen.arch)} others, {bad} with faults"
    )
    return bad > 0


if __name__ == "__main__":
    raise SystemExit(main())
