"""cuBLASLt, NVIDIA's library of products of matrices: found when a device first multiplies, and asked once for each kind of product.

The core calls it by address (`core/device_libraries.py`). Here are plans made: descriptors of a product and of its matrices, and the algorithm that
the library's heuristic puts first. A plan is made once and kept for as long as the process lives, so that a problem always has
the same algorithm, and results are the same from run to run.
"""

import contextlib
import ctypes
import threading
import types

import numpy as np

from numbatensor.core import device_libraries, python
from numbatensor.core.device_libraries import BIAS_POINTER, NONE, PLAIN, library
from numbatensor.core.records import Prepared, Problem
from numbatensor.cuda import runtime
from numbatensor.op import BY_ADDRESS

R_32F, R_64F, R_16F, R_16BF = 0, 1, 2, 14  # cudaDataType
COMPUTE_32F, COMPUTE_64F, FAST_TF32 = 68, 70, 77  # cublasComputeType_t
ANY_REDUCTION, IN_COMPUTE_TYPE = 7, 2  # how parts of a sum may be added: the latter rounds to 16 bits only at the end
# For each dtype, by its code: the type of elements, the one that is computed with, that one where TF32 is allowed, the type of alpha and beta, and
# how parts of sums are added.
KINDS = {
    6: (R_32F, COMPUTE_32F, FAST_TF32, R_32F, ANY_REDUCTION),
    7: (R_64F, COMPUTE_64F, COMPUTE_64F, R_64F, ANY_REDUCTION),
    8: (R_16F, COMPUTE_32F, COMPUTE_32F, R_32F, IN_COMPUTE_TYPE),
    9: (R_16BF, COMPUTE_32F, COMPUTE_32F, R_32F, IN_COMPUTE_TYPE),
}
TURN_A, TURN_B, EPILOGUE = 3, 4, 7  # attributes of a product
BATCHES, BATCH_STEP = 5, 6  # of a matrix
WORKSPACE, REDUCTION, ALIGN_A, ALIGN_B, ALIGN_C, ALIGN_D = 1, 3, 5, 6, 7, 8  # of what is asked of the heuristic
NOT_SUPPORTED = device_libraries.NOT_SUPPORTED
LARGE_WORKSPACE, WORKSPACE_BYTES = 32 << 20, 8 << 20  # as NVIDIA recommends from sm_90 on, and before
MOST = 1 << 15  # plans that are kept

i32, u32, i64, u64, word = ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p
ATTRIBUTE = [word, i32, word, ctypes.c_size_t]
FUNCTIONS = {
    "Create": [word],
    "MatmulDescCreate": [word, i32, i32],
    "MatmulDescDestroy": [word],
    "MatmulDescSetAttribute": ATTRIBUTE,
    "MatrixLayoutCreate": [word, i32, u64, u64, i64],
    "MatrixLayoutDestroy": [word],
    "MatrixLayoutSetAttribute": ATTRIBUTE,
    "MatmulPreferenceCreate": [word],
    "MatmulPreferenceDestroy": [word],
    "MatmulPreferenceSetAttribute": ATTRIBUTE,
    "MatmulAlgoGetHeuristic": [word] * 7 + [i32, word, word],
    "Matmul": [word] * 14 + [ctypes.c_size_t, word],
}


class Heuristic(ctypes.Structure):
    """What the heuristic gives."""

    _fields_ = [
        ("algorithm", u64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", i32),
        ("waves", ctypes.c_float),
        ("reserved", i32 * 4),
    ]


class CublasLt:
    """The library's functions, by their names without `cublasLt`. `workspace`: the most bytes that an algorithm may want."""

    def __init__(self, found, workspace):
        self.functions, self.workspace = {}, workspace
        for name, kinds in FUNCTIONS.items():
            function = self.functions[name] = getattr(found, f"cublasLt{name}")
            function.argtypes, function.restype = kinds, i32
        self.name_of, self.version = found.cublasLtGetStatusName, found.cublasLtGetVersion
        self.name_of.restype, self.version.restype = ctypes.c_char_p, ctypes.c_size_t

    def address(self, name):
        return ctypes.cast(self.functions[name], ctypes.c_void_p).value

    def ask(self, name, *args):
        """Call a function; its failure becomes an error."""
        status = self.functions[name](*args)
        if status:
            raise RuntimeError(f"cublasLt{name}: {self.message(status)}")

    def message(self, status):
        return f"{self.name_of(status).decode()} ({status})"

    def create(self, stack, kind, *args):
        """A new descriptor, which a stack destroys."""
        made = ctypes.c_void_p()
        self.ask(f"{kind}Create", ctypes.byref(made), *args)
        stack.callback(self.ask, f"{kind}Destroy", made)
        return made.value

    def set(self, kind, made, attribute, value):
        """Set an attribute, to a C value."""
        self.ask(f"{kind}SetAttribute", made, attribute, ctypes.byref(value), ctypes.sizeof(value))

    def layout(self, stack, p, rows, columns, step, batch):
        """A matrix of our rows and columns, which are its columns and rows."""
        made = self.create(stack, "MatrixLayout", KINDS[p.dtype][0], columns, rows, step)
        if p.batches > 1:
            self.set("MatrixLayout", made, BATCHES, i32(p.batches))
            self.set("MatrixLayout", made, BATCH_STEP, i64(batch))
        return made

    def product(self, stack, p):
        """What is done with the matrices."""
        _, exact, fast, scale, _ = KINDS[p.dtype]
        made = self.create(stack, "MatmulDesc", fast if p.tf32 else exact, scale)
        for attribute, value in ((TURN_A, p.y_turned), (TURN_B, p.x_turned), (EPILOGUE, p.epilogue)):
            self.set("MatmulDesc", made, attribute, i32(value))
        if p.epilogue != PLAIN:  # the heuristic looks at the alignment of the address, and at nothing else
            self.set("MatmulDesc", made, BIAS_POINTER, u64(p.bias_align))
        return made

    def choose(self, handle, p, parts):
        """The algorithm that the heuristic puts first; None where there is none."""
        with contextlib.ExitStack() as stack:
            wanted = self.create(stack, "MatmulPreference")
            self.set("MatmulPreference", wanted, WORKSPACE, u64(self.workspace))
            self.set("MatmulPreference", wanted, REDUCTION, u32(KINDS[p.dtype][4]))
            for attribute, align in ((ALIGN_A, p.y_align), (ALIGN_B, p.x_align), (ALIGN_C, p.old_align)):
                self.set("MatmulPreference", wanted, attribute, u32(align))
            self.set("MatmulPreference", wanted, ALIGN_D, u32(p.out_align))
            found, count = Heuristic(), i32()
            status = self.functions["MatmulAlgoGetHeuristic"](
                handle, *parts, wanted, 1, ctypes.byref(found), ctypes.byref(count)
            )
        if status not in (0, NOT_SUPPORTED):
            raise RuntimeError(f"cublasLtMatmulAlgoGetHeuristic: {self.message(status)}")
        return None if status or count.value == 0 or found.state else found

    def prepare(self, handle, plan):
        """Fill in a plan, whose problem is there. Gives a stack that destroys what the plan holds."""
        p = types.SimpleNamespace(**dict(zip(Problem.names, plan.item(), strict=False)))
        with contextlib.ExitStack() as stack:
            if p.dtype in KINDS:
                x_shape = (p.k, p.m) if p.x_turned else (p.m, p.k)
                y_shape = (p.n, p.k) if p.y_turned else (p.k, p.n)
                parts = (
                    self.product(stack, p),
                    self.layout(stack, p, *y_shape, p.y_step, p.y_batch),
                    self.layout(stack, p, *x_shape, p.x_step, p.x_batch),
                    self.layout(stack, p, p.m, p.n, p.old_step, p.m * p.n),
                    self.layout(stack, p, p.m, p.n, p.n, p.m * p.n),
                )
                found = self.choose(handle, p, parts)
                if found:
                    for name, part in zip(("product", "y", "x", "old", "out"), parts, strict=True):
                        plan[name] = part
                    plan["workspace"], plan["algorithm"], plan["usable"] = found.workspace, found.algorithm, 1
                    return stack.pop_all()
        return contextlib.ExitStack()


lock = threading.RLock()
opened: dict = {}  # by device: why it has no library, or the library
plans: dict = {}  # by problem: the plan
fleeting: dict = {}  # by address: plans that are not kept, with what destroys what they hold


def open_library(device):
    """The library's handle for a device; NONE where there is none."""
    with lock:
        if library[0]["handles"][device]:
            return int(library[0]["handles"][device])
        made = ctypes.c_void_p(NONE)
        try:
            recent = runtime.backend.capability(device - 1) >= (9, 0)
            found = CublasLt(runtime.backend.product_library(), LARGE_WORKSPACE if recent else WORKSPACE_BYTES)
            found.ask("Create", ctypes.byref(made))
            library[0]["multiply"], library[0]["set_attribute"] = map(
                found.address, ("Matmul", "MatmulDescSetAttribute")
            )
            opened[device] = found
        except (OSError, AttributeError, ImportError, RuntimeError) as error:
            opened[device], made.value = str(error), NONE
        library[0]["handles"][device] = made.value
        return made.value


def why_not(device=None):
    """Why a device has no library, in one line; None where it has."""
    return runtime.why_not_there(device, lambda k: opened[k] if open_library(k) == NONE else None)


def prepare(place, slot):
    """The address of the plan for a problem."""
    with lock:
        key = ctypes.string_at(place, Problem.itemsize)
        if key in plans:
            return plans[key].ctypes.data
        made, table = np.zeros(1, Prepared), library[0]
        made.view(np.uint8)[: len(key)] = np.frombuffer(key, np.uint8)
        plan, address = made[0], made.ctypes.data
        device = int(plan["device"])
        held = opened[device].prepare(int(table["handles"][device]), plan)
        if len(plans) >= MOST:
            plan["fleeting"] = 1
            fleeting[address] = made, held
        else:
            held.pop_all()
            plans[key], plan["next"] = made, table["plans"][slot]
            table["plans"][slot] = address
        return address


@python.callback
def ask_library(what, a, b, op):
    """What the core asks for: see `core/device_libraries.py`."""
    if what == device_libraries.OPEN:
        return open_library(a)
    if what == device_libraries.FORGET:
        fleeting.pop(a)[1].close()
        return 0
    if what == device_libraries.PREPARE:
        try:
            return prepare(a, b)
        except RuntimeError as error:
            raise RuntimeError(f"cuBLASLt failed to prepare {BY_ADDRESS[op].name}: {error}") from None
    failed = next(found for found in opened.values() if isinstance(found, CublasLt))
    raise RuntimeError(f"cuBLASLt failed to compute {BY_ADDRESS[b].name}: cublasLtMatmul: {failed.message(a)}")
