"""Numba as the compiler of CUDA kernels, and nothing else of it: from a kernel function to machine code, which is kept on the disk.

Numba makes PTX, nvJitLink makes a cubin of it; both run without a GPU. All that knows numba-cuda is in this module.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import re
import threading
import types as python

from numba import types
from numba.core.errors import NumbaError

from numbatensor.core import compiler
from numbatensor.core.private import global_compiler_lock

INSTALL = 'pip install "numbatensor[cuda]"'
PACKAGES = ("numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvrtc")
counts = {"compiled": 0, "loaded": 0}
target = threading.local()  # `arch`: what the thread compiles for


class Refused(NumbaError):
    """A kernel that numba-cuda cannot compile. The errors that it raises are none of Numba's classes."""


class CompilerMissing(RuntimeError):
    """What compiles CUDA kernels is not installed."""


@functools.cache
def toolchain():
    """The versions of what compiles."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            raise CompilerMissing(
                f"CUDA kernels are compiled by {package}, which is not installed: {INSTALL}"
            ) from None
    return versions


def major():
    """The major version of CUDA of what compiles: drivers load no code of a newer one."""
    return int(dict(toolchain())["nvidia-nvjitlink"].partition(".")[0])


@functools.cache
def parts():
    """numba-cuda, and nvJitLink.

    numba-cuda asks the driver which device it compiles device functions for: a thread that compiles here answers instead.
    """
    toolchain()
    try:
        cuda = importlib.import_module("numba.cuda")
        dispatcher = importlib.import_module("numba.cuda.dispatcher")
        nvjitlink = importlib.import_module("cuda.bindings.nvjitlink")
        nvjitlink.version()
        importlib.import_module("cuda.bindings.nvvm").version()
        importlib.import_module(
            "cuda.bindings.nvrtc"
        ).nvrtcVersion()  # numba-cuda asks it which architectures there are
    except Exception as error:
        raise CompilerMissing(f"CUDA kernels cannot be compiled: {str(error).splitlines()[0]} ({INSTALL})") from error
    current = dispatcher.get_current_device

    def get_current_device():
        arch = getattr(target, "arch", None)
        return python.SimpleNamespace(compute_capability=capability(arch)) if arch else current()

    dispatcher.get_current_device = get_current_device
    return cuda, nvjitlink


def extension():
    """What tells numba-cuda of types: its module of templates, and what finds the type of a value."""
    parts()
    found = (importlib.import_module(f"numba.cuda.typing.{name}") for name in ("templates", "typeof"))
    templates, typeof = found
    return templates, typeof.typeof_impl


def capability(arch):
    """("sm_90") -> (9, 0)"""
    return divmod(int(arch.removeprefix("sm_")), 10)


def ptx(kernel, argument_types, arch, fastmath=False):
    """A kernel's PTX, in which it bears its own name."""
    cuda, _ = parts()
    function, target.arch = compiler.private.function_of(kernel), arch
    errors = importlib.import_module("numba.cuda.core.errors")
    try:
        signature, cc = types.void(*argument_types), capability(arch)
        text, _ = cuda.compile(function, signature, cc=cc, device=False, fastmath=fastmath, abi="numba")
    except errors.NumbaError as error:
        raise Refused(str(error)) from error.with_traceback(None)
    finally:
        target.arch = None
    entry = re.search(r"\.entry\s+([\w$]+)", text).group(1)
    return re.sub(rf"{re.escape(entry)}(?![\w$])", function.__name__, text), function.__name__


def linked(text, arch, max_registers=None):
    """The cubin of PTX, and the assembler's report."""
    _, nvjitlink = parts()
    options = [f"-arch={arch}", "-O3", "-verbose"] + ([f"-maxrregcount={max_registers}"] if max_registers else [])
    handle, code = nvjitlink.create(len(options), options), text.encode()
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, code, len(code), "kernel")
        nvjitlink.complete(handle)
        image = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, image)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        raise RuntimeError(f"nvJitLink refuses the kernel for {arch}: {log.decode(errors='replace')}") from error
    finally:
        nvjitlink.destroy(handle)
    return bytes(image), log.decode(errors="replace")


def cubin(kernel, argument_types, arch, fastmath=False, max_registers=None):
    """Machine code of a kernel, from the disk if an earlier process has compiled it; gives it and the entry's name.

    Parameters
    ----------
    kernel : callable
        What `cuda.jit` decorates, or its function.
    argument_types : sequence of numba types
        A tuple among them is as many arguments of the launch as it has members.
    arch : str
        Such as "sm_90".
    """
    with global_compiler_lock, compiler.lock:
        path = described = None
        with contextlib.suppress(compiler.NotKept):
            described = compiler.FOLDER and compiler.describe(kernel, {})
        if described:
            source = compiler.sources(__name__)
            key = compiler.digest(
                described, tuple(map(repr, argument_types)), arch, fastmath, max_registers, toolchain(), source
            )
            path = compiler.FOLDER / f"{compiler.private.function_of(kernel).__name__}-{arch}-{key}.cubin"
            found = compiler.contents(path)
            if found:
                counts["loaded"] += 1
                return found[1], found[0]
        counts["compiled"] += 1
        text, name = ptx(kernel, argument_types, arch, fastmath)
        code, _ = linked(text, arch, max_registers)
        if path:
            compiler.write(path, name, code)
        return code, name


ACCESS = re.compile(r"\b(ld|st)\.(?:volatile\.)?global(?:\.nc)?(?:\.L\S+)?(?:\.(v\d))?\.[a-z](\d+)")


def report(kernel, argument_types, arch, fastmath=False, max_registers=None):
    """What the compiler made of a kernel: registers, spilled bytes, shared memory, widths of accesses in bits, suspicious instructions."""
    with global_compiler_lock, compiler.lock:
        text, _ = ptx(kernel, argument_types, arch, fastmath)
        code, log = linked(text, arch, max_registers)
    numbers = lambda pattern: [int(n) for n in re.findall(pattern, log)]
    widths: dict = {"ld": set(), "st": set()}
    for direction, vector, width in ACCESS.findall(text):
        widths[direction].add(int(width) * int(vector[1:] or 1))
    return {
        "registers": max(numbers(r"[Uu]sed (\d+) registers")),
        "spilled": sum(numbers(r"(\d+) bytes spill (?:stores|loads)")),
        "shared": max(numbers(r"(\d+) bytes smem") or [0]),
        "loads": sorted(widths["ld"]),
        "stores": sorted(widths["st"]),
        "float64": len(re.findall(r"^\s*(?:@\S+\s+)?(?!mov)\w[\w.]*\.f64\b", text, re.MULTILINE)),
        "wide divisions": len(re.findall(r"\b(?:div|rem)\.[us]64\b", text)),
        "bytes": len(code),
    }
