"""The driver of NVIDIA's GPUs: what the core calls by address, and what Python asks for beside it, through `cuda.bindings`.

Nothing is done until :class:`Cuda` is made: it loads the driver and asks for devices. A device's context is the one that other
libraries use (the primary one), and its default stream is theirs too, so that work of ours and of theirs keeps its order.
"""

import ctypes
import importlib.metadata
import importlib.util
import types as python

from numbatensor.cuda import compiler

OLDEST = 12000  # of the driver, as it numbers itself: kernels that belong to no context came with 12.0
FUNCTIONS = {
    "launch": "cuLaunchKernel",
    "allocate": "cuMemAllocFromPoolAsync",
    "free": "cuMemFreeAsync",
    "copy": "cuMemcpyAsync",
    "fill": "cuMemsetD8Async",
    "synchronize": "cuStreamSynchronize",
    "set_context": "cuCtxSetCurrent",
    "get_context": "cuCtxGetCurrent",
    "trim": "cuMemPoolTrimTo",
    "record": "cuEventRecord",
    "wait": "cuStreamWaitEvent",
}
DEFAULT_STREAM = 1  # CU_STREAM_LEGACY
NOT_READY = 600


class Cuda:
    """The driver: see `open_backend` in `runtime.py` for what one has."""

    def __init__(self):
        needed = max(OLDEST, 1000 * compiler.major())
        self.driver = importlib.import_module("cuda.bindings.driver")
        try:
            self.ask("cuInit", 0)
        except RuntimeError as error:
            raise RuntimeError(f"there is no CUDA driver that works on this machine: {error}") from None
        version = self.ask("cuDriverGetVersion")
        if version < needed:
            raise RuntimeError(
                f"the CUDA driver is too old: it is of CUDA {version // 1000}.{version % 1000 // 10}, and {needed // 1000}.0 is needed"
            )
        self.devices = [self.ask("cuDeviceGet", k) for k in range(self.ask("cuDeviceGetCount"))]
        if not self.devices:
            raise RuntimeError("there is no CUDA device")
        self.units = [self.attribute("MULTIPROCESSOR_COUNT", k) for k in range(len(self.devices))]
        self.functions = {}
        for name, symbol in FUNCTIONS.items():
            address, _ = self.ask("cuGetProcAddress", symbol.encode(), OLDEST, 0)
            if not address:
                raise RuntimeError(f"the CUDA driver has no {symbol}")
            self.functions[name] = int(address)
        self.contexts, self.pools, self.kernels = {}, {}, []
        self.arch, self.exact = choose_arch([self.capability(k) for k in range(len(self.devices))], known_archs())

    def ask(self, name, *args):
        """Call a function of the driver; what it gives, its failure as an error."""
        code, *found = getattr(self.driver, name)(*args)
        if code:
            raise RuntimeError(f"{name}: {self.message(int(code))}")
        return found[0] if len(found) == 1 else found or None

    def message(self, code):
        """The driver's name for an error, and what it says of it."""
        try:
            code = self.driver.CUresult(code)
        except ValueError:  # newer than the bindings
            return f"error {code}"
        name, text = (getattr(self.driver, f)(code)[1] for f in ("cuGetErrorName", "cuGetErrorString"))
        return f"{name.decode()} ({int(code)}): {text.decode()}" if name and text else f"error {int(code)}"

    def failure(self):
        """What went wrong, if that is a Python exception."""
        return None

    # devices

    def attribute(self, name, k):
        return self.ask(
            "cuDeviceGetAttribute",
            getattr(self.driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"),
            self.devices[k],
        )

    def capability(self, k):
        """(9, 0) for sm_90"""
        return tuple(self.attribute(f"COMPUTE_CAPABILITY_{part}", k) for part in ("MAJOR", "MINOR"))

    def properties(self, k):
        """What a device is."""
        major, minor = self.capability(k)
        name = self.ask("cuDeviceGetName", 256, self.devices[k]).split(b"\0")[0].decode()
        return python.SimpleNamespace(
            name=name,
            major=major,
            minor=minor,
            total_memory=int(self.ask("cuDeviceTotalMem", self.devices[k])),
            multi_processor_count=self.units[k],
        )

    def context(self, k):
        """The handle of a device's context, which is this thread's now."""
        if k not in self.contexts:
            self.contexts[k] = self.ask("cuDevicePrimaryCtxRetain", self.devices[k])
            for kernel in self.kernels:
                self.raise_limit(kernel, k)
        self.ask("cuCtxSetCurrent", self.contexts[k])
        return int(self.contexts[k])

    def pool(self, k):
        """The handle of a pool of a device's memory, which keeps what it has once got; the other devices can reach it."""
        if k not in self.pools:
            driver = self.driver
            place = driver.CUmemLocation()
            place.type, place.id = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, k
            wanted = driver.CUmemPoolProps()
            wanted.allocType, wanted.location = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED, place
            made = self.ask("cuMemPoolCreate", wanted)
            self.ask(
                "cuMemPoolSetAttribute",
                made,
                driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                driver.cuuint64_t(2**64 - 1),
            )
            for other in range(len(self.devices)):
                if other != k and self.ask("cuDeviceCanAccessPeer", self.devices[other], self.devices[k]):
                    access = driver.CUmemAccessDesc()
                    far = driver.CUmemLocation()
                    far.type, far.id = place.type, other
                    access.location = far
                    access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                    self.ask("cuMemPoolSetAccess", made, [access], 1)
            self.pools[k] = made
        return int(self.pools[k])

    def reserved(self, k):
        """Bytes that the pool of a device has got from it."""
        if k not in self.pools:
            return 0
        current = self.driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT
        return int(self.ask("cuMemPoolGetAttribute", self.pools[k], current))

    def trim(self, k):
        """Give memory of the pool that nothing uses, which streams have come to know, back to the device."""
        if k in self.pools:
            self.ask("cuMemPoolTrimTo", self.pools[k], 0)

    # kernels

    def load(self, kernel, kinds, name):
        """The handle of a kernel, which belongs to no context: the driver brings it to a device when it is first launched there."""
        if self.exact:
            code, entry = compiler.cubin(kernel, kinds, self.arch)
        else:
            text, entry = compiler.ptx(kernel, kinds, self.arch)  # the driver compiles it for each device
            code = text.encode() + b"\0"
        library = self.ask("cuLibraryLoadData", code, [], [], 0, [], [], 0)
        made = self.ask("cuLibraryGetKernel", library, entry.encode())
        self.kernels.append(made)
        for k in list(self.contexts):  # another thread may open a device meanwhile
            self.raise_limit(made, k)
        return int(made)

    def raise_limit(self, kernel, k):
        """Let launches of a kernel ask for as much shared memory as the device has."""
        static, dynamic = (
            getattr(self.driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
            for name in ("SHARED_SIZE_BYTES", "MAX_DYNAMIC_SHARED_SIZE_BYTES")
        )
        used = self.ask("cuKernelGetAttribute", static, kernel, self.devices[k])
        most = self.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", k)
        self.ask("cuKernelSetAttribute", dynamic, most - used, kernel, self.devices[k])

    def product_library(self):
        """cuBLASLt, as pip or the system has it."""
        finder = importlib.import_module("cuda.pathfinder")
        try:
            return ctypes.CDLL(finder.load_nvidia_dynamic_lib("cublasLt").abs_path)
        except finder.DynamicLibNotFoundError:
            raise OSError("cuBLASLt is not installed: pip install nvidia-cublas") from None

    def sort_library(self):
        """CUB's module of Python, and its version."""
        if importlib.util.find_spec("cuda.compute") is None:
            raise ImportError('CUB is not installed: pip install "cuda-cccl[minimal-cu13]"')
        return importlib.import_module("cuda.compute"), importlib.metadata.version("cuda-cccl")

    # streams and events; the context of their device is this thread's

    def stream(self, k):
        """The handle of a device's default stream."""
        return DEFAULT_STREAM

    def new_stream(self, k, priority):
        """The handle of a new stream, which does not wait for the default one. `priority`: the lower, the sooner."""
        return int(self.ask("cuStreamCreateWithPriority", 1, priority))  # CU_STREAM_NON_BLOCKING

    def stream_done(self, stream):
        """Whether a stream has no work left."""
        return self.ready("cuStreamQuery", self.driver.CUstream(stream))

    def new_event(self, k, timing):
        return int(self.ask("cuEventCreate", 0 if timing else 2))  # CU_EVENT_DISABLE_TIMING

    def ready(self, name, handle):
        (code,) = getattr(self.driver, name)(handle)
        if int(code) not in (0, NOT_READY):
            raise RuntimeError(f"{name}: {self.message(int(code))}")
        return int(code) == 0

    def event_done(self, event):
        """Whether a stream has come to where it recorded an event."""
        return self.ready("cuEventQuery", self.driver.CUevent(event))

    def record(self, event, stream):
        self.ask("cuEventRecord", self.driver.CUevent(event), self.driver.CUstream(stream))

    def wait(self, stream, event):
        """Let a stream wait for an event."""
        self.ask("cuStreamWaitEvent", self.driver.CUstream(stream), self.driver.CUevent(event), 0)

    def event_synchronize(self, event):
        self.ask("cuEventSynchronize", self.driver.CUevent(event))

    def elapsed(self, start, end):
        """Milliseconds between two events."""
        return float(self.ask("cuEventElapsedTime", *map(self.driver.CUevent, (start, end))))

    # what ends is let go of whatever the driver says: it may be that of a device that has failed

    def destroy_event(self, event):
        self.driver.cuEventDestroy(self.driver.CUevent(event))

    def device_of(self, address):
        """The number of the device whose memory an address is in."""
        ordinal = self.driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(self.ask("cuPointerGetAttribute", ordinal, address))

    # graphs

    def begin_capture(self, stream):
        """Record what a stream is given, and do not do it. Other threads, and other streams, go on as ever."""
        self.ask("cuStreamBeginCapture", self.driver.CUstream(stream), self.driver.CUstreamCaptureMode(2))  # relaxed

    def end_capture(self, stream):
        """The graph of what was recorded, ready to be run."""
        graph = self.ask("cuStreamEndCapture", self.driver.CUstream(stream))
        try:
            return self.ask("cuGraphInstantiate", graph, 0)
        finally:
            self.ask("cuGraphDestroy", graph)

    def replay(self, graph, stream):
        self.ask("cuGraphLaunch", graph, self.driver.CUstream(stream))

    def destroy_graph(self, graph):
        self.driver.cuGraphExecDestroy(graph)


def known_archs():
    """The architectures that the compiler knows, as numbers such as 90."""
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    return nvrtc.nvrtcGetSupportedArchs()[1]


def choose_arch(capabilities, known):
    """What kernels are compiled for, and whether as machine code: else as PTX, which the driver compiles for each device.

    Machine code runs on devices of its own major version, from its minor version on.
    """
    wanted = min(10 * major + minor for major, minor in capabilities)
    fitting = [a for a in known if a <= wanted]
    if not fitting:
        raise RuntimeError(
            f"the CUDA device is too old: kernels are compiled for sm_{min(known)} and newer, not sm_{wanted}"
        )
    arch = max(fitting)
    return f"sm_{arch}", all(major == arch // 10 for major, _ in capabilities)
