"""What is private to Numba and CPython and yet leaned on, named here alone, and checked when this is imported.

What must be there is an error that names it. What there is a slower way round is said once, and gone round:

- object code that cannot be had of a library (`CAN_KEEP`): nothing is kept on the disk, every process compiles for itself;
- a pool whose compiled loop cannot be reached (`address_of_loop`): kernels run on one thread;
- lowering that does not say where it is (`CAN_NOTE`): errors in users' compiled code name no line and leak what the function holds.
"""

import contextlib
import ctypes
import gc
import importlib
import operator
import sysconfig
import warnings

import numba
from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core import compiler, ir_utils, registry, typed_passes
from numba.core import ir as numba_ir
from numba.core.bytecode import ByteCodePy312
from numba.core.caching import CompileResultCacheImpl
from numba.core.callconv import RETCODE_USEREXC
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu_options import FastMathOptions
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.core.event import Listener, register
from numba.core.ir_utils import build_definitions
from numba.core.lowering import BaseLower, Lower
from numba.core.rewrites import Rewrite, register_rewrite
from numba.core.sigutils import normalize_signature
from numba.core.unsafe import eh
from numba.cpython.listobj import ListInstance
from numba.extending import _Intrinsic
from numba.np.ufunc.gufunc import GUFunc
from numba.parfors.parfor import Parfor

TYPE, PAYLOAD = 8, 16  # offsets in every Python object: its type; what a type of fixed size adds
VITAL = {
    "numba.core.compiler": [
        "compile_extra",
        "Flags.nrt",
        "Flags.no_cpython_wrapper",
        "Flags.forceinline",
        "Flags.fastmath",
    ],
    "numba.core.base": [
        "BaseContext.call_internal_no_propagate",
        "BaseContext.add_linking_libs",
        "BaseContext.mangler",
    ],
    "numba.core.registry": ["cpu_target.typing_context.refresh", "cpu_target.target_context.refresh"],
    "numba.core.callconv": [
        "CPUCallConv.get_function_type",
        "CPUCallConv.call_function",
        "CPUCallConv.return_status_propagate",
        "CPUCallConv.return_exc",
        "CPUCallConv.raise_error",
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
        "JITCodeLibrary._finalize_final_module",
        "JITCodeLibrary._ensure_finalized",
        "JITCPUCodegen._library_class",
    ],
    "numba.core.cpu": [
        "CPUContext.create_cpython_wrapper",
        "CPUContext.create_cfunc_wrapper",
        "CPUContext.get_executable",
    ],
    "numba._dynfunc": ["make_function"],
    "numba.core.caching": ["CompileResultCacheImpl.rebuild"],
    "numba.core.ir_utils": ["remove_dead_block"],
    "numba.core.runtime._nrt_python": ["c_helpers"],
    "numba.core.rewrites": ["Rewrite.match", "Rewrite.apply"],
}
PASSING_ON = {
    "numba.np.ufunc.dufunc",
    "numba.np.ufunc.gufunc",
}  # modules whose functions call ours with the user's arguments
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
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise ImportError(
            "numbatensor relies on the global interpreter lock and on objects as builds with it lay them out, and this is a "
            "free-threaded build of Python, which lays them out otherwise even with -X gil=1: use a build with the lock"
        )
    missing = [f"{module}.{path}" for module, paths in VITAL.items() for path in paths if lacks(module, path)]
    x = 1.5
    words = (ctypes.c_int64 * 2).from_address(id(x))
    if words[1] != id(float) or object.__basicsize__ != PAYLOAD:
        missing.append("CPython's objects with their type in the second word, and two words in all")
    if missing:
        raise ImportError(
            f"numbatensor leans on what Numba {numba.__version__} or this Python does not have: {', '.join(missing)}. "
            "It is tested with Numba 0.68 and CPython 3.11 to 3.14"
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

LOWERED = ("varmap", "loc"), ("_blk_local_varmap",)  # what `BaseLower` and `Lower` keep, where code is made
PASSES = ("NativeLowering", "NativeParforLowering")


def can_note():
    """Whether the classes that make code can be extended, and hold what is read of them."""
    known = zip(LOWERED, (BaseLower.__init__, Lower._find_singly_assigned_variable), strict=True)
    holds = all(set(names) <= set(function.__code__.co_names) for names, function in known)
    passes = [getattr(typed_passes, name, None) for name in PASSES]
    return holds and all(isinstance(getattr(p, "lowering_class", None), property) for p in passes)


try:
    CAN_NOTE = can_note()
except AttributeError:
    CAN_NOTE = False
if not CAN_NOTE:
    warnings.warn(
        f"numbatensor: Numba {numba.__version__} does not say where in a function it is: errors in compiled code name no line",
        stacklevel=2,
    )


def extend_lowering(extend):
    """Let Numba make code by classes that are made of its own, by a function from class to class."""
    for name in PASSES:
        chosen = getattr(typed_passes, name)
        made = extend(chosen.lowering_class.fget(None))
        chosen.lowering_class = property(lambda self, made=made: made)


def whole_block(code, entry):
    """An entry of a table of exceptions; that of a `with` block holds the jump back of a loop at its end too.

    On Python 3.12 Numba makes the words that lengthen the jump of a long loop NOPs.
    """
    if code.table[code.table[entry.target].next].opname != "WITH_EXCEPT_START":
        return entry
    after = [(k, one.opname) for k, one in code.table.items() if k >= entry.end and one.opname not in ("CACHE", "NOP")]
    return entry._replace(end=after[1][0]) if after[0][1].startswith("JUMP_BACKWARD") else entry


def keep_loops_in_blocks():
    """Let Numba see the end of a `with` block after a `while` loop that ends it.

    Python 3.12 and 3.13 leave the loop's jump back out of the block's range, as it cannot fail, and Numba would leave the block there.
    """
    made = ByteCodePy312.__init__

    def init(self, func_id):
        made(self, func_id)
        self.exception_entries = tuple(whole_block(self, entry) for entry in self.exception_entries)

    ByteCodePy312.__init__ = init


def keep_writes():
    """Keep Numba from dropping writes in place to what a loop, or a call, has given.

    Where a list comprehension has made it look for dead code, it takes ``for p in params: p -= 1`` for dead, and ``p[0] = 1`` too: what p
    names is not looked at afterwards. For types of Numba's own that is left so where the types are known; before, it cannot be told.
    """
    usual = ir_utils.remove_dead_block

    def remove(block, lives, call_table, arg_aliases, alias_map, alias_set, func_ir, typemap):
        written = set()
        for statement in block.body:
            if isinstance(statement, (numba_ir.SetItem, numba_ir.StaticSetItem)):
                written.add(statement.target.name)
            elif isinstance(statement, numba_ir.Assign) and getattr(statement.value, "op", "") == "inplace_binop":
                written.add(statement.value.lhs.name)
        if typemap is not None:
            written = {name for name in written if type(typemap.get(name)).__module__.startswith("numbatensor.")}
        return usual(block, lives, call_table, arg_aliases | written, alias_map, alias_set, func_ir, typemap)

    ir_utils.remove_dead_block = remove


class Linked(JITCodeLibrary):
    """Code that other code is linked with. No machine code is made of it before the address of one of its functions is asked for."""

    made = False

    def _finalize_final_module(self):
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        if not self.made:
            self.made = True
            super()._finalize_final_module()
        return super().get_pointer_to_function(name)


@contextlib.contextmanager
def replaced(owner, **attributes):
    """An object with other attributes, for a while."""
    before = {
        name: vars(owner)[name] for name in attributes if name in vars(owner)
    }  # one replacement may begin inside of another
    vars(owner).update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            delattr(owner, name)
        vars(owner).update(before)


REFUSES = ctypes.cast(ctypes.pythonapi.PyErr_NoMemory, ctypes.c_void_p).value


@contextlib.contextmanager
def called(context, function, symbol, ours):
    """While a function is compiled, give its code a symbol (None: Numba's own): what finds it by name can then be linked with it.

    What it calls of our packages is linked into it, and makes up most of what is compiled: of that neither machine code is made, nor what
    Python and C could call. Python can no longer call it then.
    """
    kind = type(context)
    full = f"{function.__module__}.{function.__qualname__}"

    def mangler(name, types, *, abi_tags=(), uid=None):
        return symbol if symbol and name == full else kind.mangler(context, name, types, abi_tags=abi_tags, uid=uid)

    def inner(library, fndesc):
        return isinstance(library, Linked) and fndesc.modname.split(".")[0] in ours

    def wrapper(make):
        def wrapped(library, fndesc, *args, **kwargs):
            return None if inner(library, fndesc) else make(context, library, fndesc, *args, **kwargs)

        return wrapped

    def executable(library, fndesc, env):
        if inner(library, fndesc):  # Numba tells functions apart by this
            return _dynfunc.make_function(fndesc.lookup_module(), fndesc.qualname, "", REFUSES, env, (library,))
        return kind.get_executable(context, library, fndesc, env)

    wrappers = {n: wrapper(getattr(kind, n)) for n in ("create_cpython_wrapper", "create_cfunc_wrapper")}
    with (
        replaced(context, mangler=mangler, get_executable=executable, **wrappers),
        replaced(context.codegen(), _library_class=Linked),
    ):
        yield


def new_library(context, name):
    """A library of which machine code is made, and object code can be had."""
    made = JITCodeLibrary(context.codegen(), name)
    if CAN_KEEP:
        made.enable_object_caching()
    return made


def guard_cached(fits):
    """Let Numba load no cached code of users whose object code does not fit: it would link with what is not there, and that aborts."""
    rebuild = CompileResultCacheImpl.rebuild

    def guarded(self, target_context, payload):
        parts = [part for part in payload[0][2] if isinstance(part, bytes)]
        return rebuild(self, target_context, payload) if all(map(fits, parts)) else None

    CompileResultCacheImpl.rebuild = guarded


def hear_failures(told):
    """Replace the errors of user's functions that fail to compile by what a function gives, from the Python function, the types of
    its arguments, and the error."""

    class Failures(Listener):
        def on_start(self, event):
            pass

        def on_end(self, event):
            failure = getattr(event, "_exc_details", None)  # `is_failed` says the contrary, in Numba 0.68
            made = failure and told(event.data["dispatcher"].py_func, event.data["args"], failure[1])
            if made:
                failure[1].__traceback__ = None
                raise made from None

    register("numba:compile", Failures())


def object_code(library):
    """The object code of a compiled library."""
    return library._get_compiled_object()


def names_outside(library):
    """What a compiled library finds by name where it is linked: LLVM's own functions are none of these."""
    module = library._final_module
    found = [one.name for one in (*module.functions, *module.global_variables) if one.is_declaration]
    return [name for name in found if not name.startswith("llvm.")]


def options_of(value):
    """How Numba was told to compile a function, as text; None of what is no compiled function."""
    return repr(sorted(value.targetoptions.items())) if isinstance(value, Dispatcher) else None


def function_of(value):
    """The Python function in a dispatcher or an intrinsic; anything else as it is."""
    if isinstance(value, Dispatcher):
        return value.py_func
    if isinstance(value, _Intrinsic):
        return value._defn
    if str(type(value).__module__).startswith("numba.cuda."):  # numba-cuda has classes of its own
        return getattr(value, "py_func", getattr(value, "_defn", value))
    return value


def calls_of_gufuncs(takes):
    """Let a function answer calls of `@guvectorize` functions, or give NotImplemented: those without signatures look at arguments' types
    before NumPy does."""
    usual = GUFunc.__call__

    def call(self, *args, **kwargs):
        found = takes(self, args, kwargs) if self.is_dynamic else NotImplemented
        return usual(self, *args, **kwargs) if found is NotImplemented else found

    GUFunc.__call__ = call


def forget_failures():
    """Take the frames from the errors of failed compilations, which Numba keeps for ever: with them, all that callers' variables hold."""
    for one in gc.get_objects():
        if issubclass(type(one), NumbaError):
            one.__traceback__ = None


def address_of_loop(result):
    """The address of a compiled function; 0 where Numba does not give it."""
    try:
        return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    except AttributeError:
        return 0


__all__ = [
    "ListInstance",
    "CAN_KEEP",
    "CAN_NOTE",
    "PASSING_ON",
    "RETCODE_USEREXC",
    "Dispatcher",
    "Rewrite",
    "FastMathOptions",
    "Flags",
    "Parfor",
    "build_definitions",
    "called",
    "compile_extra",
    "cpu",
    "eh",
    "extend_lowering",
    "global_compiler_lock",
    "guard_cached",
    "hear_failures",
    "names_outside",
    "new_library",
    "normalize_signature",
    "numba_ir",
    "object_code",
    "options_of",
    "register_rewrite",
]
