"""How a Python function becomes native code, and stays.

Numba's own disk cache tells functions apart by name, line and bytecode (not by constants, not by the helpers they call), and
costs about 3 ms a function to load. Here the object code itself is kept, one file a function, under a name that carries a
fingerprint of all that the function's code depends on; each is linked by an engine of its own, so equal symbols never meet.
Fingerprints take time, so functions of the core are first looked up by the hash of all the package's sources.
"""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import re
import sys
import tempfile
import threading
import types as python

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbatensor.core import private
from numbatensor.core.private import FastMathOptions, Flags, compile_extra, cpu, global_compiler_lock
from numbatensor.core.records import LAYOUT

i64, word, pointer = types.int64, ir.IntType(64), ir.IntType(8).as_pointer()
PREFIX = f"numbatensor_{LAYOUT}_"
USED = re.compile(rb"_ZN\d+" + PREFIX.encode() + rb"(\w+)Ev(?=\0)")  # in an object file's table of strings
ROOT = pathlib.Path(__file__).parents[2]
KERNELS = ("kernels_cpu", "kernels_cuda")
OURS = ("numbatensor", *KERNELS)
IMPORTS = re.compile(r"^from (kernels_(?:cpu|cuda)[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
held: list = []  # what published addresses point at; alive as long as the process
lock = threading.RLock()  # taken inside of numba's compiler lock
published: dict = {}
declared: dict = {}  # native functions by name: (function, whether it is a C function); compiled when first asked for
counts = {"compiled": 0, "loaded": 0}


def processor():
    """The processor that code is made for: this one, or what numba is told by its environment variables."""
    chosen = (numba.config.CPU_NAME, numba.config.CPU_FEATURES)  # type: ignore[attr-defined]
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()} {chosen}"


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def environment():
    """What all compiled code depends on: versions, processor, this file and the layout."""
    versions = (numba.__version__, llvmlite.__version__, np.__version__, platform.python_version(), LAYOUT, processor())
    return digest(
        versions,
        *[(ROOT / "numbatensor/core" / f"{name}.py").read_bytes() for name in ("compiler", "private", "records")],
    )


def stamp():
    """A hash of all sources that compiled code is made of: ours, and what users' code takes from us."""
    folders = ("kernels_cpu", "numbatensor/core", "numbatensor/op", "numbatensor/ops", "numbatensor/nopython")
    sources = sorted(path for folder in folders for path in (ROOT / folder).glob("*.py"))
    return digest(*[(path.relative_to(ROOT).as_posix(), path.read_bytes()) for path in sources])


class NotKept(Exception):
    """A function whose code depends on what has no text."""


def describe(value, seen):
    """What compiled code takes from a value that its source names, as text that is equal in every process."""
    value = private.function_of(value)
    if isinstance(value, python.FunctionType):
        if value.__module__ == __name__:  # this file's source is in `environment`
            return value.__name__
        if hasattr(value, "depends"):  # it says itself on what its code depends
            if value.depends is None:
                raise NotKept
            return value.depends
        if value in seen:
            return seen[value]
        seen[value] = value.__name__
        seen[value] = digest(describe_function(value, seen))
        return seen[value]
    if isinstance(value, python.ModuleType):
        return sources(value.__name__)
    if isinstance(value, (tuple, list)):
        return repr([describe(v, seen) for v in value])
    if isinstance(value, (int, float, str, bytes, type(None), np.generic, np.dtype, types.Type, ir.Type)):
        return repr(value)
    if isinstance(value, np.ndarray):  # a constant to numba
        return digest(value.dtype, value.shape, value.tobytes())
    if isinstance(value, (dict, set, frozenset)):
        return repr(sorted(describe(v, seen) for v in (value.items() if isinstance(value, dict) else value)))
    if hasattr(value, "function"):  # an op: its formula
        return describe(value.function, seen)
    return getattr(value, "__qualname__", type(value).__qualname__)


@functools.cache
def sources(name):
    """A hash of the source of a module of ours, and of the kernels' modules that it imports names from."""
    path = getattr(sys.modules.get(name), "__file__", None)
    if not path or name.split(".")[0] not in (*KERNELS, "numbatensor"):
        return name
    text = pathlib.Path(path).read_text(encoding="utf-8")
    imports = [
        (package, f"{package}.{n}") for package, names in IMPORTS.findall(text) for n in re.findall(r"\w+", names)
    ]
    return digest(name, text, [sources(n) for n in sorted({n for pair in imports for n in pair})])


def describe_function(function, seen):
    """A function's code, constants and defaults, and all that it names outside of itself."""
    codes, constants, names = [function.__code__], [], []
    for code in codes:
        codes.extend(c for c in code.co_consts if isinstance(c, python.CodeType))
        constants.append([c for c in code.co_consts if not isinstance(c, python.CodeType)])
        names.extend(code.co_names)
    known = function.__globals__
    cells = [c.cell_contents for c in function.__closure__ or ()]
    factory = sources(function.__module__) if function.__module__.split(".")[0] in KERNELS else None
    return (
        factory,  # a kernel depends on more of its factory than its own code: on how its helpers are compiled
        [(c.co_code, c.co_names, c.co_varnames) for c in codes],
        constants,
        describe(function.__defaults__ or (), seen),
        describe(cells, seen),
        [(n, describe(known[n], seen)) for n in sorted(set(names)) if n in known],
    )


def cache_folder():
    """Where object code is kept, or None where no folder of the user's own can be written."""
    chosen = os.environ.get("NUMBATENSOR_CACHE_DIR")
    base = (
        pathlib.Path(chosen)
        if chosen
        else pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "numbatensor"
    )
    folder = base / environment()
    try:
        (folder / stamp()).mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid() or not os.access(folder, os.W_OK):
            return None
    except OSError:
        return None
    return folder


FOLDER = cache_folder() if private.CAN_KEEP else None
CORE = FOLDER and FOLDER / stamp()  # links to the core's object code of these very sources

# Numba registers this when it first compiles; code from the disk must find it before.
llvm.add_symbol("NRT_MemInfo_call_dtor", private.destroy)


def before_fork():
    """Wait until no other thread compiles: in the child, the locks that it holds would never be released."""
    global_compiler_lock.acquire()
    lock.acquire()


def after_fork():
    lock.release()
    global_compiler_lock.release()


os.register_at_fork(before=before_fork, after_in_parent=after_fork, after_in_child=after_fork)


def symbol_of(name):
    """The symbol under which compiled code finds what is published: of the form that Numba wants of its functions' symbols."""
    return f"_ZN{len(PREFIX) + len(name)}{PREFIX}{name}Ev"


def publish(name, address, owner=None):
    """Make an address known to compiled code, cached or not, by name, which no other has."""
    if published.get(name, address) != address:
        raise NameError(f"{name} is known to compiled code already, as something else")
    held.append(owner)
    published[name] = address
    llvm.add_symbol(symbol_of(name), address)


def address(name):
    """The address published under a name; a native function is compiled, or loaded, when it is first asked for."""
    found = published.get(name)
    if found is None:
        with global_compiler_lock, lock:
            if name in published:
                return published[name]
            if name not in declared:
                raise NameError(f"{name} is not known to compiled code yet: import its module first")
            load_group(name)
            if name not in published:
                function, c = declared[name]
                made = compile(function, name, c=c)
                publish(name, made.address, made)
            found = published[name]
    return found


def load_group(name):
    """Publish a native function and all that it leads to, as far as that is on the disk, in one engine: it costs a tenth of an engine each."""
    group, left = {}, [name]
    while left and CORE:
        name = left.pop()
        if name in group or name in published or name not in declared:
            continue
        found = contents(CORE / name)
        if found is None:
            if group:
                address(name)  # what others of the group call by name has to be there before they are linked
            continue
        group[name] = found[1]
        left.extend(used.decode() for used in USED.findall(found[1]))
    group = {name: code for name, code in group.items() if name not in published}
    if group:
        engine = link(group.values())
        for name in group:
            publish(name, engine.get_function_address(symbol_of(name)), engine)
        counts["loaded"] += len(group)


def native_address(function):
    """The address of a native function."""
    return address(function._name)


def address_of(builder, name):
    """The address published under a name, in the code being built."""
    address(name)
    module = builder.module
    known = module.globals.get(symbol_of(name)) or ir.GlobalVariable(module, ir.IntType(8), symbol_of(name))
    return builder.ptrtoint(known, word)


@intrinsic(prefer_literal=True)
def symbol(typingctx, name):
    """The address published under a name."""
    text = name.literal_value
    return i64(name), lambda context, builder, signature, args: address_of(builder, text)


def invoke(context, builder, function, args, result=i64):
    """Call compiled code at an address; its failure becomes the caller's."""
    signature = (i64,) * len(args)
    kind = context.call_conv.get_function_type(result, signature)
    status, value = context.call_conv.call_function(
        builder, builder.inttoptr(function, kind.as_pointer()), result, signature, args
    )
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return value


@intrinsic
def call(typingctx, function, *args):
    """The int64 returned by compiled code at an address; its failure becomes the caller's."""

    def codegen(context, builder, signature, values):
        return invoke(context, builder, values[0], cgutils.unpack_tuple(builder, values[1]))

    return i64(i64, types.UniTuple(i64, len(args))), codegen


@intrinsic
def attempt(typingctx, function, *args):
    """The int64 returned by compiled code at an address, or -1 if it failed; the Python exception stays set."""

    def codegen(context, builder, signature, values):
        kind = (i64,) * len(args)
        target = builder.inttoptr(values[0], context.call_conv.get_function_type(i64, kind).as_pointer())
        status, value = context.call_conv.call_function(
            builder, target, i64, kind, cgutils.unpack_tuple(builder, values[1])
        )
        return builder.select(status.is_error, ir.Constant(word, -1), value)

    return i64(i64, types.UniTuple(i64, len(args))), codegen


@intrinsic
def fail(typingctx):
    """Fail with the exception that is set in Python."""

    def codegen(context, builder, signature, args):
        context.call_conv.return_exc(builder)
        builder.position_at_end(builder.append_basic_block("unreachable"))
        return context.get_dummy_value()

    return types.none(), codegen


def flags(fastmath):
    chosen = Flags()
    chosen.nrt = False
    chosen.no_cpython_wrapper = True
    chosen.no_cfunc_wrapper = True
    chosen.error_model = "numpy"
    if fastmath:
        chosen.fastmath = FastMathOptions(set(fastmath))
        chosen.forceinline = True  # a call left in a kernel's loop keeps LLVM from vectorising it
    return chosen


def c_wrapper(library, result, name):
    """A library with a C function of words around a compiled function; it returns 0 where that fails."""
    context = cpu.target_context
    outer = private.new_library(context, name)
    module = outer.create_ir_module(name)
    kinds = result.fndesc.argtypes
    inner = context.declare_function(module, result.fndesc)
    function = ir.Function(module, ir.FunctionType(word, [word] * len(kinds)), name)
    builder = ir.IRBuilder(function.append_basic_block())
    status, value = context.call_conv.call_function(builder, inner, i64, kinds, function.args)
    builder.ret(builder.select(status.is_error, ir.Constant(word, 0), value))
    outer.add_ir_module(module)
    outer.add_linking_library(library)
    outer.finalize()
    return outer


class Compiled:
    """Native code: its address, and what keeps it in memory."""

    def __init__(self, address, owner, library=None):
        self.address, self.owner, self.library = address, owner, library


def link(codes):
    """An engine with object code, whose parts may call each other."""
    target = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    for code in codes:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def contents(path):
    """The symbol and the code in a file of the cache. None where there is no sound file."""
    try:
        symbol_name, code = path.read_bytes().split(b"\0", 1)
    except (OSError, ValueError):
        return None
    checksum, code = code[:32], code[32:]
    return (symbol_name.decode(), code) if hashlib.sha256(code).digest() == checksum else None


def read(path):
    """Load object code; what it calls by name is loaded first. None where there is no sound file."""
    found = contents(path)
    if found is None:
        return None
    symbol_name, code = found
    for name in {used.decode() for used in USED.findall(code)}:
        if name in declared and symbol_of(name) != symbol_name:
            address(name)
    engine = link([code])
    return Compiled(engine.get_function_address(symbol_name), engine)


def write(path, symbol_name, code):
    """Keep object code; another process may do the same at the same time, so the name appears last."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(symbol_name.encode() + b"\0" + hashlib.sha256(code).digest() + code)
        os.replace(file.name, path)
    except OSError:
        pass


def compile(function, name, arguments=None, c=False, fastmath=None, depends=None, quick=None):
    """Native code of a function over int64 words, from the disk if an earlier process has compiled it.

    Parameters
    ----------
    function : callable
        Takes `arguments` int64 words and returns one.
    name : str
        Stable: with the fingerprint it names the object code on the disk.
    c : bool
        Whether the address is a C function (0 for failure) rather than one in numba's calling convention.
    fastmath : set of str, optional
        LLVM's relaxations, such as ``{"contract"}``.
    depends : str, optional
        What code of a user's depends on; "" where that cannot be told, so that it is not kept. Without it, the function is looked into.
    quick : path, optional
        A second name for the file.
    """
    with global_compiler_lock, lock:
        native = name in declared  # and the symbol of what it is compiled to follows from its name
        quick = CORE / name if CORE and native else quick
        found = path = None
        if FOLDER and depends != "":
            described = depends or describe(function, {})
            path = FOLDER / f"{name}-{digest(described, c, sorted(fastmath or ()))}.o"
            found = read(path)
            if found and quick:
                link_file(path, quick)
        if found:
            counts["loaded"] += 1
            held.append(found)
            return found
        counts["compiled"] += 1
        target = cpu
        target.typing_context.refresh()
        target.target_context.refresh()
        count = function.__code__.co_argcount if arguments is None else arguments
        library = private.new_library(target.target_context, name)
        with private.called(target.target_context, function, symbol_of(name) if native and not c else None, OURS):
            result = compile_extra(
                target.typing_context,
                target.target_context,
                function,
                (i64,) * count,
                i64,
                flags(fastmath),
                {},
                library=library,
            )
        symbol_name = result.fndesc.llvm_func_name
        if c:
            symbol_name = symbol_of(name)
            library = c_wrapper(library, result, symbol_name)
        made = Compiled(library.get_pointer_to_function(symbol_name), library, library)
        if path and (depends is None or stands_alone(library)):
            write(path, symbol_name, private.object_code(library))
            if quick:
                link_file(path, quick)
        held.append(made)
        return made


def kernel(make, name, arguments, fastmath, ours):
    """The address of a kernel. `make` gives its function, if it is to be compiled. `ours`: its name says which it is, and our sources what."""
    with global_compiler_lock, lock:
        quick = CORE / name if CORE and ours else None
        found = read(quick) if quick else None
        if found:
            counts["loaded"] += 1
            held.append(found)
            return found.address
        return compile(make(), name, arguments, fastmath=fastmath, quick=quick).address


def stands_alone(library):
    """Whether all that code finds by name is there in a process that has compiled nothing: the C library, and what is published."""
    process = ctypes.CDLL(None)
    return all(PREFIX in name or hasattr(process, name) for name in private.names_outside(library))


def link_file(path, name):
    """Give a file a second name."""
    try:
        os.link(path, name)
    except OSError:
        pass


def native(function):
    """Declare a core function over words, called by compiled code through its symbol; compiled or loaded when first used."""
    count, name = function.__code__.co_argcount, function.__name__
    if name in declared:
        raise NameError(f"two native functions are called {name}: they would share a symbol")
    declared[name] = (function, False)

    def caller(typingctx, *args):
        def codegen(context, builder, signature, values):
            return invoke(context, builder, address_of(builder, name), cgutils.unpack_tuple(builder, values[0]))

        return i64(types.UniTuple(i64, count)), codegen

    caller.__name__ = name
    return intrinsic(caller)


def c_function(function):
    """Declare a C function over words; gives its name."""
    declared[function.__name__] = (function, True)
    return function.__name__


def c_symbol(builder, kind, name):
    """A C function in the code being built, under the type that is wanted here: numba may have declared it with another."""
    known = builder.module.globals.get(name)
    if known is None:
        known = ir.Function(builder.module, kind, name)
    return known if known.function_type == kind else builder.bitcast(known, kind.as_pointer())


def external(name, count, result=i64, small=False):
    """A C function over words, by name, as an intrinsic. `small`: it returns an int."""

    def caller(typingctx, *args):
        def codegen(context, builder, signature, values):
            returned = ir.VoidType() if result == types.none else ir.IntType(32) if small else word
            kind = ir.FunctionType(returned, [word] * count)
            function = c_symbol(builder, kind, name)
            value = builder.call(function, cgutils.unpack_tuple(builder, values[0]))
            if result == types.none:
                return context.get_dummy_value()
            return builder.sext(value, word) if small else value

        return result(types.UniTuple(i64, count)), codegen

    caller.__name__ = name
    return intrinsic(caller)
