"""What is private to Numba and CPython and yet leaned on, named here alone, and checked when this is imported.

What must be there is an error that names it. What there is a slower way round is said once, and gone round:

- object code that cannot be had of a library (`CAN_KEEP`): nothing is kept on the disk, every process compiles for itself;
- a pool whose compiled loop cannot be reached (`address_of_loop`): kernels run on one thread.
"""

import ctypes
import importlib
import operator
import warnings

import numba
from numba.core import compiler, registry
from numba.core import ir as numba_ir
from numba.core.callconv import RETCODE_USEREXC
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu_options import FastMathOptions
from numba.core.dispatcher import Dispatcher
from numba.core.ir_utils import build_definitions
from numba.core.lowering import BaseLower
from numba.core.sigutils import normalize_signature
from numba.extending import _Intrinsic

TYPE, PAYLOAD = 8, 16  # offsets in every Python object: its type; what a type of fixed size adds
VITAL = {
    "numba.core.compiler": [
        "compile_extra",
        "Flags.nrt",
        "Flags.no_cpython_wrapper",
        "Flags.forceinline",
        "Flags.fastmath",
    ],
    "numba.core.base": ["BaseContext.call_internal_no_propagate", "BaseContext.add_linking_libs"],
    "numba.core.registry": ["cpu_target.typing_context.refresh", "cpu_target.target_context.refresh"],
    "numba.core.callconv": [
        "CPUCallConv.get_function_type",
        "CPUCallConv.call_function",
        "CPUCallConv.return_status_propagate",
        "CPUCallConv.return_exc",
        "CPUCallConv.set_static_user_exc",
        "CPUCallConv.check_try_status",
        "CPUCallConv._return_errcode_raw",
        "CPUCallConv.raise_error",
    ],
    "numba.core.codegen": [
        "JITCodeLibrary.get_pointer_to_function",
        "JITCodeLibrary.create_ir_module",
        "JITCodeLibrary.add_ir_module",
        "JITCodeLibrary.add_linking_library",
        "JITCodeLibrary.finalize",
    ],
    "numba.core.runtime._nrt_python": ["c_helpers"],
}
KEEPING = ("enable_object_caching", "_get_compiled_object")


def lacks(module, path):
    """Whether a module does not have what is named."""
    try:
        operator.attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError):
        return True
    return False


def check():
    """Fail where something vital is missing."""
    missing = [f"{module}.{path}" for module, paths in VITAL.items() for path in paths if lacks(module, path)]
    x = 1.5
    words = (ctypes.c_int64 * 2).from_address(id(x))
    if words[1] != id(float) or object.__basicsize__ != PAYLOAD:
        missing.append("CPython's objects with their type in the second word, and two words in all")
    if missing:
        raise ImportError(
            f"numbatensor leans on what Numba {numba.__version__} or this Python does not have: {', '.join(missing)}. "
            "It is tested with Numba 0.68 and CPython 3.11 to 3.13"
        )


check()
destroy = importlib.import_module("numba.core.runtime._nrt_python").c_helpers["MemInfo_call_dtor"]
cpu = registry.cpu_target
compile_extra, Flags = compiler.compile_extra, compiler.Flags
CAN_KEEP = all(hasattr(JITCodeLibrary, name) for name in KEEPING)
if not CAN_KEEP:
    warnings.warn(
        f"numbatensor: Numba {numba.__version__} does not give its object code, so nothing is kept on the disk: every process compiles "
        "what it uses",
        stacklevel=2,
    )


def keep(library):
    """Ask a library, before it is compiled, for object code that can be kept."""
    if CAN_KEEP:
        library.enable_object_caching()


def object_code(library):
    """The object code of a compiled library."""
    return library._get_compiled_object()


def function_of(value):
    """The Python function in a dispatcher or an intrinsic; anything else as it is."""
    if isinstance(value, Dispatcher):
        return value.py_func
    return value._defn if isinstance(value, _Intrinsic) else value


def address_of_loop(result):
    """The address of a compiled function; 0 where Numba does not give it."""
    try:
        return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    except AttributeError:
        return 0


__all__ = [
    "CAN_KEEP",
    "RETCODE_USEREXC",
    "BaseLower",
    "FastMathOptions",
    "Flags",
    "build_definitions",
    "compile_extra",
    "cpu",
    "global_compiler_lock",
    "keep",
    "normalize_signature",
    "numba_ir",
    "object_code",
]
