"""A driver that has no device: memory is the host's, and kernels run in the block emulator.

The memory is mapped twice: at the addresses that the core knows it may not be touched, so that code of the CPU which reads or writes
a device's memory fails here as it would with a GPU; the emulator works at the other addresses. All is done at once: there is one
order, and nothing is left to wait for. What the driver would refuse is refused: work without a device's context, an event recorded on
another device's stream, waiting for a stream whose work is captured.
"""

import bisect
import ctypes
import itertools
import mmap
import os
import threading
import types as python

import numpy as np
from numba import types

from numbatensor.core.devices import OUT_OF_MEMORY
from numbatensor.cuda import emulator
from numbatensor.cuda.driver import DEFAULT_STREAM

ROOM = 1 << 34  # bytes of addresses; pages come when they are written
GAP = 256  # bytes after each block that belong to none
FREED = 0xDD  # what freed memory is filled with
INVALID, NO_CONTEXT, BAD_HANDLE, LAUNCH_FAILED = 1, 201, 400, 719  # the driver's numbers of errors
CAPTURED = 900

library = ctypes.CDLL(None, use_errno=True)
library.mmap.restype = ctypes.c_void_p
library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
WORDS = [ctypes.c_int64] * 12


def flat(kinds):
    """The types of a kernel's arguments as a launch gives them: tuples by their members."""
    for kind in kinds:
        if isinstance(kind, types.BaseTuple):
            yield from flat(kind.types)
        else:
            yield kind


def read(kind, address):
    """An argument of a kernel, from where the launch points."""
    if isinstance(kind, types.CPointer):
        return ctypes.c_int64.from_address(address).value
    dtype = np.dtype(str(kind)) if kind != types.boolean else np.dtype(np.uint8)
    return np.frombuffer((ctypes.c_char * dtype.itemsize).from_address(address), dtype)[0].item()


class Refused(Exception):
    """The driver would refuse it, with an error's number."""

    def __init__(self, code):
        self.code = code


def check(holds, code):
    if not holds:
        raise Refused(code)


class Standin:
    """The driver, its memory and its kernels."""

    def __init__(self, devices, order):
        self.units, self.order, self.error = [4] * devices, order, None
        file = os.memfd_create("numbatensor-device")
        os.ftruncate(file, ROOM)
        self.map = mmap.mmap(file, ROOM)
        self.view = np.frombuffer(self.map, np.uint8)
        self.shadow = self.view.ctypes.data
        self.base = library.mmap(None, ROOM, 0, mmap.MAP_SHARED, file, 0)
        os.close(file)
        if self.base in (None, 2**64 - 1):
            raise OSError(ctypes.get_errno(), "no addresses for the memory of an emulated device")
        self.top, self.starts, self.blocks, self.spare = self.base, [], {}, {}
        self.kernels, self.limit, self.handles, self.recorded = [], None, itertools.count(100), {}
        self.here, self.owners, self.spoilt = (
            threading.local(),
            {},
            set(),
        )  # contexts of threads; devices of handles and memory
        self.refused = []  # what the driver would have refused: a function's name, and the number of the error
        made = {
            "launch": (11, self.launch),
            "allocate": (4, self.allocate),
            "free": (2, self.free),
            "copy": (4, self.copy),
            "fill": (4, self.fill),
            "synchronize": (1, self.synchronize),
            "set_context": (1, self.set_context),
            "get_context": (1, self.get_context),
            "trim": (2, self.nothing),
            "record": (2, self.mark),
            "wait": (3, self.wait_for),
        }
        self.held = {
            name: ctypes.CFUNCTYPE(ctypes.c_int, *WORDS[:n])(self.guarded(method)) for name, (n, method) in made.items()
        }
        self.functions = {name: ctypes.cast(f, ctypes.c_void_p).value for name, f in self.held.items()}

    def guarded(self, method):
        def call(*args):
            try:
                return method(*args) or 0
            except Refused as error:
                self.refused.append((method.__name__, error.code))
                return error.code
            except BaseException as error:
                self.error = error
                return LAUNCH_FAILED

        return call

    def context(self, k):
        self.here.context = k + 1
        return k + 1

    def pool(self, k):
        return k + 1

    def stream(self, k):
        return DEFAULT_STREAM

    def set_context(self, context):
        self.here.context = context

    def get_context(self, place):
        ctypes.c_int64.from_address(place).value = getattr(self.here, "context", 0)

    def place_of(self, stream):
        """The device, by its context, whose stream this is: the default one is of the device whose context is the thread's."""
        context = self.owners.get(stream) or getattr(self.here, "context", 0)
        check(context, NO_CONTEXT)
        return context

    def properties(self, k):
        return python.SimpleNamespace(
            name="block emulator", major=9, minor=0, total_memory=ROOM, multi_processor_count=self.units[k]
        )

    capability = lambda self, k: (9, 0)
    message = lambda self, code: f"error {code} of the stand-in driver"

    def product_library(self):
        raise OSError("the block emulator has no cuBLASLt")

    def sort_library(self):
        raise OSError("the block emulator has no CUB")

    def reserved(self, k):
        return self.top - self.base

    def device_of(self, address):
        return 0

    # streams and events: all is done at once

    def new_handle(self, k, *args):
        made = next(self.handles)
        self.owners[made] = k + 1
        return made

    def synchronize(self, stream):
        self.place_of(stream)
        self.leave_alone(stream)

    def leave_alone(self, stream):
        """What waits for a stream, or asks how far it is, must not come while its work is captured: it ends the capture."""
        if stream in self.recorded:
            self.spoilt.add(stream)
        check(stream not in self.recorded, CAPTURED)

    def mark(self, event, stream):
        check(self.owners[event] == self.place_of(stream), BAD_HANDLE)
        self.leave_alone(stream)

    def wait_for(self, stream, event, flags):
        check(event in self.owners, BAD_HANDLE)
        self.place_of(stream)

    def done(self, *handles):
        return True

    new_stream = new_event = new_handle
    stream_done = event_done = done
    elapsed = lambda self, start, end: 0.0
    record = wait = event_synchronize = destroy_event = trim = lambda self, *handles: None

    def load(self, kernel, kinds, name):
        """The handle of a kernel."""
        self.kernels.append((kernel, kinds, list(flat(kinds)), name))
        return len(self.kernels)

    # memory

    def allocate(self, place, nbytes, pool, stream):
        check(nbytes > 0 and self.place_of(stream) == pool, INVALID)
        size = -(-nbytes // GAP) * GAP
        if self.limit is not None and sum(self.blocks.values()) + nbytes > self.limit:
            return OUT_OF_MEMORY
        if self.spare.get(size):
            start = self.spare[size].pop()
        elif self.top + size + GAP > self.base + ROOM:
            return OUT_OF_MEMORY
        else:
            start, self.top = self.top, self.top + size + GAP
        self.blocks[start], self.owners[start] = nbytes, pool
        bisect.insort(self.starts, start)
        self.bytes(start, nbytes)[:] = FREED
        ctypes.c_int64.from_address(place).value = start

    def free(self, address, stream):
        check(address in self.blocks and self.place_of(stream) == self.owners[address], INVALID)
        nbytes = self.blocks.pop(address)
        self.starts.remove(address)
        self.bytes(address, nbytes)[:] = FREED
        self.spare.setdefault(-(-nbytes // GAP) * GAP, []).append(address)

    def bytes(self, start, nbytes):
        return self.view[start - self.base : start - self.base + nbytes]

    def find(self, address):
        """The bytes of the block that an address lies in, and the offset in it; for the emulator."""
        k = bisect.bisect_right(self.starts, address) - 1
        if k < 0 or address > self.starts[k] + self.blocks[self.starts[k]]:
            raise emulator.KernelError(f"address {address:#x} is in no block of the device's memory")
        start = self.starts[k]
        return self.bytes(start, self.blocks[start]), address - start

    def seen(self, address, nbytes):
        """The address at which bytes can be touched."""
        if not self.base <= address < self.base + ROOM:
            return address
        data, offset = self.find(address)
        if offset + nbytes > len(data):
            raise emulator.KernelError(f"a copy of {nbytes} bytes at {offset} of a block of {len(data)}")
        return data.ctypes.data + offset

    def copy(self, target, source, nbytes, stream):
        self.do(stream, lambda: ctypes.memmove(self.seen(target, nbytes), self.seen(source, nbytes), nbytes) and None)

    def fill(self, target, value, nbytes, stream):
        self.do(stream, lambda: ctypes.memset(self.seen(target, nbytes), value, nbytes) and None)

    def nothing(self, *args):
        return 0

    # work

    def launch(self, kernel, x, y, z, threads, ty, tz, shared, stream, addresses, extra):
        function, kinds, parts, name = self.kernels[kernel - 1]
        check(0 < x < 1 << 31 and 0 < y < 1 << 16 and z == 1 and 0 < threads <= 1024 and ty == tz == 1, INVALID)
        check(ctypes.c_int64.from_address(addresses - 8).value == len(parts), INVALID)  # `Launch.count`
        places = (ctypes.c_int64 * len(parts)).from_address(addresses)
        values = [read(kind, place) for kind, place in zip(parts, places, strict=True)]
        run = lambda: emulator.launch(function, (x, y, z), (threads, ty, tz), values, kinds, shared, self.order, self)
        self.do(stream, run)

    def do(self, stream, work):
        """Do work of a stream, or record it."""
        self.place_of(stream)
        if stream in self.recorded:
            self.recorded[stream].append(work)
        else:
            work()

    # graphs: lists of work

    def begin_capture(self, stream):
        self.recorded[stream] = []

    def end_capture(self, stream):
        work = self.recorded.pop(stream)
        if stream in self.spoilt:
            self.spoilt.remove(stream)
            raise RuntimeError("the capture was ended by a call that is not permitted while a stream is captured")
        return work

    def replay(self, graph, stream):
        for work in graph:
            work()

    def destroy_graph(self, graph):
        graph.clear()

    def failure(self):
        """What went wrong, and what is known of it no longer."""
        error, self.error = self.error, None
        return error
