"""A block emulator: runs a CUDA kernel in Python, thread by thread, and catches what a device would do wrong in silence.

It reports, with the thread, the block and the line: accesses out of bounds or misaligned, reads of shared and local memory before
it was written, races between two barriers, barriers that not all threads reach, shuffles from lanes that take no part. Values are NumPy's
floats and Python's integers: those are exact, and wrap where they are converted or stored; so what overflows 64 bits must be
converted before it is divided, shifted right or compared.

A barrier needs threads that can wait: greenlets, which only tests install. A kernel without one runs in a plain loop.
"""

import contextvars
import math
import random
import sys
import types as python

import numpy as np
from numba import types

from numbatensor.cuda.emulated_memory import KernelError, Memory, Narrow, Pointer, kind_of
from numbatensor.cuda.emulated_names import Converter, Cuda

OURS = (
    "cuda/emulator.py",
    "/emulated_memory.py",
    "/emulated_names.py",
    "kernels_cuda/pointers.py",
    "kernels_cuda/meanings.py",
)
ALL = 0xFFFFFFFF
BLOCKS, THREADS = (2**31 - 1, 65535, 65535), (1024, 1024, 64)  # most of a launch, and of a block, by dimension
SHARED = 48 << 10  # bytes of shared memory that a block has unless the host has asked for more


class Dim3:
    def __init__(self, x=1, y=1, z=1):
        self.x, self.y, self.z = int(x), int(y), int(z)

    def __iter__(self):
        return iter((self.x, self.y, self.z))

    def places(self):
        return [(x, y, z) for z in range(self.z) for y in range(self.y) for x in range(self.x)]


def dim3(size):
    return Dim3(*size) if isinstance(size, (tuple, list)) else Dim3(size)


class Block:
    """A block in flight: its shared memory, and whether it has fenced what it wrote."""

    def __init__(self, machine, index, shared_bytes):
        self.index, self.position, self.fenced, self.arrays = index, Dim3(*index), False, {}
        self.dynamic = Memory(machine, np.zeros(shared_bytes, np.uint8), "shared", "dynamic")


class Thread:
    """A thread, its clocks (barriers passed by the block, and by the warp), and what it waits for."""

    def __init__(self, block, number, index):
        self.block, self.shown, self.index = block, index, Dim3(*index)
        self.warp, self.lane = divmod(number, 32)
        self.epoch = self.warp_epoch = 0
        self.waits, self.answer, self.done, self.body = None, None, False, None


class Machine:
    """What one launch runs on."""

    def __init__(self, grid, block, shared_bytes, memory):
        self.grid_size, self.block_size, self.shared_bytes, self.memory = dim3(grid), dim3(block), shared_bytes, memory
        self.current = self.main = None
        for name, size, most in (("grid", self.grid_size, BLOCKS), ("block", self.block_size, THREADS)):
            if not all(1 <= n <= limit for n, limit in zip(size, most, strict=True)):
                raise KernelError(f"a {name} of {tuple(size)}: each dimension has between 1 and {most}")
        if math.prod(self.block_size) > THREADS[0]:
            raise KernelError(f"a block of {tuple(self.block_size)}: it has at most {THREADS[0]} threads")
        self.allocations: dict = {}
        self.convert = Converter(Cuda(self))

    # memory

    def allocation(self, data, name=""):
        """The notes on an array of bytes, whichever pointers lead to it."""
        key = data.__array_interface__["data"][0], len(data)
        if key not in self.allocations:
            self.allocations[key] = Memory(self, data, "global", name)
        return self.allocations[key]

    def pointer(self, address, kind):
        """A pointer from an address, which `memory` knows, or from an array."""
        if isinstance(address, np.ndarray):
            return self.pointer_to(address, kind)
        if address == 0:
            return Pointer(self, None, 0, 0, 0, kind)
        if self.memory is None:
            raise TypeError("an address needs a memory that knows it: launch(..., memory=...)")
        data, offset = self.memory.find(int(address))
        return Pointer(self, self.allocation(data), offset, 0, len(data), kind)

    def bytes_at(self, base, low, high):
        """The bytes of an array, whatever its shape."""
        if low == high:
            return np.zeros(0, np.uint8)
        described = dict(data=(low, False), shape=(high - low,), typestr="|u1", version=3)
        return np.asarray(python.SimpleNamespace(__array_interface__=described, owner=base))

    def pointer_to(self, array, kind):
        """A pointer to an array's first element, with the bounds of the array, in the allocation of its base."""
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        low, high = np.lib.array_utils.byte_bounds(base)
        data = self.bytes_at(base, low, high)
        first, last = np.lib.array_utils.byte_bounds(array) if array.size else (low, low)
        start = array.__array_interface__["data"][0] - low if array.size else 0
        return Pointer(self, self.allocation(data), start, first - low, last - low, kind)

    def shared_array(self, size, alignment):
        """The block's array that is declared where the kernel now stands: at a multiple of its alignment, and of no more."""
        frame = sys._getframe(2)
        arrays, key = self.current.block.arrays, (id(frame.f_code), frame.f_lasti)
        if key not in arrays:
            room = np.zeros(size + 2 * alignment, np.uint8)
            skipped = (alignment - room.ctypes.data) % (2 * alignment)
            arrays[key] = Memory(self, room[skipped : skipped + size], "shared")
            total = self.shared_bytes + sum(len(a.data) for a in arrays.values())
            if total > SHARED:
                raise KernelError(self.where(f"{total} bytes of shared memory, of which a block has {SHARED}"))
        return arrays[key]

    def arguments(self, kinds, values):
        """The kernel's arguments; `values` lists them flat, as a launch of the driver's does."""
        left = iter(values)
        made = [self.argument(kind, left) for kind in kinds]
        if next(left, self) is not self:
            raise TypeError(f"{len(values)} arguments are more than the kernel's types {kinds} take")
        return made

    def argument(self, kind, left):
        if isinstance(kind, types.BaseTuple):
            return tuple(self.argument(k, left) for k in kind.types)
        value = next(left)
        if isinstance(kind, types.CPointer):
            return self.pointer(value, kind.dtype)
        return value if kind is None else kind_of(kind)(value)

    # reports

    def where(self, text):
        """A report with the thread, the block and the kernel's line."""
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename.replace("\\", "/").endswith(OURS):
            frame = frame.f_back
        code = frame.f_code
        return f"{text}; {self.who()}, {code.co_name} at {code.co_filename}:{frame.f_lineno}"

    def who(self):
        return f"thread {self.current.shown} of block {self.current.block.index}"

    # threads

    def run(self, function, arguments, order):
        places, turns = self.grid_size.places(), turns_of(order)
        waiting = function in self.convert.barriers
        for k in turns(len(places)):
            block = Block(self, places[k], self.shared_bytes)
            threads = [Thread(block, n, index) for n, index in enumerate(self.block_size.places())]
            run = [threads[n] for n in turns(len(threads))]
            (self.run_waiting if waiting else self.run_plain)(function, arguments, threads, run)

    def run_plain(self, function, arguments, threads, run):
        def body():
            for self.current in run:
                function(*arguments)

        self.step(body)

    def take_turns(self, ready, arguments):
        """Let threads run to their next barriers, or ends."""
        for self.current in ready:
            thread = self.current
            if thread.waits:
                thread.body.switch()
            else:
                thread.body.switch(*arguments)
            thread.done = thread.body.dead

    def step(self, body):
        try:
            return body()
        except KernelError:
            raise
        except Exception as error:
            error.add_note(f"in {self.who()}")
            raise

    def run_waiting(self, function, arguments, threads, run):
        import greenlet

        self.main = greenlet.getcurrent()
        for thread in threads:
            thread.body = greenlet.greenlet(function)
            thread.body.gr_context = contextvars.copy_context()
        ready = list(run)
        while ready:
            self.step(lambda: self.take_turns(ready, arguments))
            ready = self.released(threads, run)
        left = [t for t in threads if not t.done]
        if left:
            self.current = left[0]
            for_what = sorted({f"{t.waits[0]} at line {t.waits[3]}" for t in left})
            gone = [t.shown for t in threads if t.done]
            never = f"; threads {gone[:4]}{'...' * (len(gone) > 4)} have ended" if gone else ""
            raise KernelError(
                f"divergent barrier: {len(left)} of {len(threads)} threads wait for {' and '.join(for_what)}{never}; "
                f"{self.who()}, {left[0].waits[4]} at {left[0].waits[5]}:{left[0].waits[3]}"
            )

    def wait(self, name, mask, values):
        """Called by a thread: wait until those that the barrier is for have come."""
        frame, thread = sys._getframe(2), self.current
        code = frame.f_code
        place = (id(code), frame.f_lasti)  # the hash of code is slow
        thread.waits = (name, mask, values, frame.f_lineno, code.co_name, code.co_filename, place)
        if mask is not None and not (int(mask) & ALL) >> thread.lane & 1:
            raise KernelError(self.where(f"{name} with mask {int(mask):#x}, in which lane {thread.lane} itself is not"))
        self.main.switch()
        answer = thread.answer
        if isinstance(answer, KernelError):
            raise KernelError(self.where(str(answer)))
        return answer

    def released(self, threads, run):
        """The threads whose barriers are complete, in turn."""
        left = [t for t in threads if not t.done]
        if (
            len(left) == len(threads)
            and len({(t.waits[0], t.waits[6]) for t in left}) == 1
            and left[0].waits[1] is None
        ):
            whole_block(left)
            return list(run)
        ready = set()
        for thread in left:
            name, mask, _, _, _, _, place = thread.waits
            if mask is None or thread in ready:
                continue
            warp = [t for t in left if t.warp == thread.warp]
            named = [t for t in warp if (int(mask) & ALL) >> t.lane & 1]
            met = lambda t: t.waits[0] == name and t.waits[1] is not None and int(t.waits[1]) & ALL == int(mask) & ALL
            if all(met(t) and t.waits[6] == place for t in named):
                whole_warp(name, named)
                ready.update(named)
        return [t for t in run if t in ready]

    def active_mask(self):
        """Lanes of the warp that have not ended: the emulator lets all of them take part."""
        return Narrow((1 << min(32, np.prod(list(self.block_size)) - 32 * self.current.warp)) - 1)


def turns_of(order):
    """How n things take turns: "forward", "reverse", or shuffled by a seed."""
    if order == "forward":
        return range
    if order == "reverse":
        return lambda n: range(n - 1, -1, -1)
    rng = random.Random(order)
    return lambda n: rng.sample(range(n), n)


def whole_block(threads):
    """Answer a barrier of the block."""
    name, values = threads[0].waits[0], [t.waits[2] for t in threads]
    meanings = {"syncthreads_count": lambda: sum(map(bool, values)), "syncthreads_and": lambda: int(all(values))}
    meanings["syncthreads_or"] = lambda: int(any(values))
    answer = meanings.get(name, lambda: None)()
    for thread in threads:
        thread.answer, thread.epoch = answer, thread.epoch + 1


SOURCES = {
    "shfl_sync": lambda lane, source: source % 32,
    "shfl_up_sync": lambda lane, delta: lane - delta,
    "shfl_down_sync": lambda lane, delta: lane + delta,
    "shfl_xor_sync": lambda lane, mask: lane ^ mask,
}


def whole_warp(name, threads):
    """Answer a barrier, shuffle or vote of a warp."""
    given = {t.lane: t.waits[2] for t in threads}
    if name == "syncwarp":
        time = 1 + max(t.warp_epoch for t in threads)
        for thread in threads:
            thread.answer, thread.warp_epoch = None, time
        return
    if name in SOURCES:
        for thread in threads:
            value, other = given[thread.lane]
            source = SOURCES[name](thread.lane, int(other))
            if not 0 <= source < 32:
                thread.answer = value
            elif source in given:
                thread.answer = given[source][0]
            else:
                thread.answer = KernelError(f"{name} reads lane {source}, which takes no part")
        return
    votes = {lane: v[0] for lane, v in given.items()}
    mask_of = lambda lanes: Narrow(sum(1 << lane for lane in lanes))
    equal = len(set(votes.values())) == 1
    for thread in threads:
        mine = mask_of(k for k, v in votes.items() if v == votes[thread.lane])
        thread.answer = {
            "all_sync": all(votes.values()),
            "any_sync": any(votes.values()),
            "eq_sync": equal,
            "ballot_sync": mask_of(k for k, v in votes.items() if v),
            "match_any_sync": mine,
            "match_all_sync": (mine if equal else Narrow(0), equal),
        }[name]


def inferred(value):
    """The numba type of an argument: of an array a pointer to its elements; of other numbers none, they stay as they are."""
    return types.CPointer(kind_of(value.dtype).kind) if isinstance(value, np.ndarray) else None


def launch(kernel, grid, block, arguments, types=None, shared_bytes=0, order="forward", memory=None):
    """Run a kernel for all threads of a grid.

    Parameters
    ----------
    kernel : callable
        What `cuda.jit` decorates, or a plain function.
    grid, block : int or tuple
    arguments : sequence
        Flat, as in a launch of the driver's. For a pointer: a NumPy array, or an address.
    types : sequence of numba types, optional
        The kernel's argument types; tuples take as many arguments as they have members. Without them, arrays are pointers to
        their elements, and numbers stay what they are.
    shared_bytes : int
        Dynamic shared memory.
    order : str or int
        In which threads, and blocks, take turns: "forward", "reverse", or a seed.
    memory : object, optional
        Knows addresses: ``memory.find(address)`` gives the bytes of the allocation, as an array, and the offset in it. 0 is null.
    """
    machine = Machine(grid, block, shared_bytes, memory)
    function = machine.convert(kernel)
    values = machine.arguments(types or [inferred(a) for a in arguments], arguments)
    with np.errstate(all="ignore"):
        machine.run(function, values, order)
