"""Memory as kernels see it in the emulator: every access is checked for bounds, alignment, first writes and races."""

import math
import operator

import numpy as np
from numba import types

from kernels_cuda.halves import Half, narrowed, widened
from kernels_cuda.pointers import WIDEST

POISON = 0xCB


class KernelError(RuntimeError):
    """A kernel did what a device would not forgive."""


class Narrow(int):
    """An integer that knows that it has fewer than 64 bits; arithmetic on it gives a plain one, as Numba's gives 64 bits."""

    width = 32


class Kind:
    """A numba type in a kernel's names: it converts as C does, and says what its bytes are."""

    def __init__(self, kind):
        self.kind = kind
        self.is_float, self.is_bool = isinstance(kind, types.Float), kind == types.boolean
        self.is_half = isinstance(kind, Half)
        self.dtype = np.dtype(np.uint16 if self.is_half else np.uint8 if self.is_bool else str(kind))
        self.size = self.dtype.itemsize

    def __call__(self, value):
        if self.is_half:
            return narrowed(self.kind, value)
        return bool(value) if self.is_bool else self.dtype.type(value)

    def __getattr__(self, name):
        return getattr(self.kind, name)

    def __eq__(self, other):
        return self.kind == getattr(other, "kind", other)

    def __hash__(self):
        return hash(self.kind)


class Whole(Kind):
    """A type of integers: what does not fit wraps."""

    def __init__(self, kind):
        super().__init__(kind)
        self.low = -(1 << kind.bitwidth - 1) if kind.signed else 0
        self.mask, self.made = (1 << kind.bitwidth) - 1, Narrow if kind.bitwidth == 32 else int

    def __call__(self, value):
        low = self.low
        if value.__class__ is self.made:  # most are: this is what the emulator does most often
            return value if low <= value <= low + self.mask else self.made((value - low & self.mask) + low)
        if isinstance(value, (float, np.floating)) and not np.isfinite(value):
            return 0
        return self.made((int(value) - low & self.mask) + low)


KINDS: dict = {}


def kind_of(kind):
    """The Kind of a numba type, or of what NumPy takes for a dtype."""
    if isinstance(kind, Kind):
        return kind
    if not isinstance(kind, types.Type):
        kind = types.boolean if np.dtype(kind) == bool else getattr(types, np.dtype(kind).name)
    if kind not in KINDS:
        KINDS[kind] = (Whole if isinstance(kind, types.Integer) and kind != types.boolean else Kind)(kind)
    return KINDS[kind]


class Word:
    """Who last wrote a piece of memory, and who has read it since."""

    __slots__ = ("writer", "written", "atomic", "readers", "reading", "foreign")

    def __init__(self):
        self.writer = self.written = self.foreign = None
        self.atomic, self.readers, self.reading = False, {}, None

    def copy(self):
        other = Word()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.readers = dict(self.readers)
        return other


def ordered(thread, clock, now):
    """Whether what a thread did at a time of its own is before what another does now."""
    if thread is now:
        return True
    if thread.block is not now.block:
        return thread.block.fenced
    return clock[0] < now.epoch or (thread.warp == now.warp and clock[1] < now.warp_epoch)


class Memory:
    """An allocation: its bytes, and the notes on who has touched them.

    `space`: "global", "shared" or "local". What is not global is poisoned, and may not be read before it was written.
    """

    def __init__(self, machine, data, space, name=""):
        self.machine, self.data, self.space, self.name = machine, data, space, name
        self.fresh = None if space == "global" else bytearray(len(data))
        self.address = data.__array_interface__["data"][0]
        self.words: dict = {}
        self.unit = 16
        if space != "global":
            data[:] = POISON

    def words_of(self, offset, size):
        if size < self.unit:  # what is noted of a large piece holds for its parts
            ratio = self.unit // size
            self.words = {k * ratio + j: w.copy() for k, w in self.words.items() for j in range(ratio)}
            self.unit = size
        words = self.words
        for k in range(offset // self.unit, (offset + size - 1) // self.unit + 1):
            if k not in words:
                words[k] = Word()
            yield words[k]

    def clash(self, now, thread, offset, did, does):
        raise KernelError(
            self.machine.where(
                f"race: {does} byte {offset} of {self}, which thread {thread.shown} of block {thread.block.index} {did} "
                "with no barrier between"
            )
        )

    def read(self, offset, size, atomic=False):
        if self.fresh is not None and 0 in self.fresh[offset : offset + size]:
            raise KernelError(self.machine.where(f"reads byte {offset} of {self} before it was written"))
        if self.space == "local":
            return
        now = self.machine.current
        for word in self.words_of(offset, size):
            if word.writer is not None and not (atomic and word.atomic) and not ordered(word.writer, word.written, now):
                self.clash(now, word.writer, offset, "wrote", "reads")
            if atomic:
                continue
            place = (now.block, now.epoch)
            if word.reading != place:
                if word.readers and word.reading[0] is not now.block:
                    word.foreign = next(iter(word.readers))
                word.readers, word.reading = {}, place
            word.readers[now] = now.warp_epoch

    def write(self, offset, size, atomic=False):
        if self.fresh is not None:
            self.fresh[offset : offset + size] = b"\1" * size
        if self.space == "local":
            return
        now = self.machine.current
        for word in self.words_of(offset, size):
            if word.writer is not None and not (atomic and word.atomic) and not ordered(word.writer, word.written, now):
                self.clash(now, word.writer, offset, "wrote", "writes")
            for thread, clock in word.readers.items():
                if not ordered(thread, (word.reading[1], clock), now):
                    self.clash(now, thread, offset, "read", "writes")
            if word.foreign is not None and not ordered(word.foreign, None, now):
                self.clash(now, word.foreign, offset, "read", "writes")
            word.writer, word.written, word.atomic = now, (now.epoch, now.warp_epoch), atomic
            word.readers, word.reading, word.foreign = {}, None, None

    def __str__(self):
        return f"{self.space} memory{self.name and f' ({self.name})'} of {len(self.data)} bytes"


class Pointer:
    """A typed pointer into an allocation, with the bounds of what it may reach. `memory` is None for null."""

    __slots__ = ("machine", "memory", "start", "low", "high", "kind", "view")

    def __init__(self, machine, memory, start, low, high, kind):
        self.machine, self.memory, self.start, self.low, self.high = machine, memory, start, low, high
        self.kind, self.view = kind_of(kind), None

    @property
    def is_null(self):
        return self.memory is None

    def moved(self, count):
        """The pointer, so many bytes on."""
        return Pointer(self.machine, self.memory, self.start + int(count), self.low, self.high, self.kind)

    def to(self, kind):
        """The pointer, to another type."""
        return Pointer(self.machine, self.memory, self.start, self.low, self.high, kind)

    def place(self, i, does, count=1, alignment=None):
        """The offset of element i, and its number in `view`, after all checks."""
        size = self.kind.size
        if self.memory is None:
            raise KernelError(self.machine.where(f"{does} element {i} of a null pointer"))
        offset, total = self.start + operator.index(i) * size, size * count
        if offset < self.low or offset + total > self.high:
            raise KernelError(
                self.machine.where(
                    f"out of bounds: {does} {total} bytes at {offset - self.low} of {self.high - self.low} in {self.memory}"
                )
            )
        if (self.memory.address + offset) % (alignment or size):
            raise KernelError(
                self.machine.where(
                    f"misaligned: {does} {total} bytes at {offset} of {self.memory}, not at a multiple of it"
                )
            )
        if self.view is None:
            data, phase = self.memory.data, self.start % size
            self.view = data[phase : phase + (len(data) - phase) // size * size].view(self.kind.dtype)
        return offset, offset // size

    def value(self, k):
        if self.kind.is_half:
            return widened(self.kind.kind, self.view.item(k))
        return self.view[k] if self.kind.is_float else self.kind(self.view.item(k))

    def __getitem__(self, i):
        offset, k = self.place(i, "reads")
        self.memory.read(offset, self.kind.size)
        return self.value(k)

    def __setitem__(self, i, value):
        offset, k = self.place(i, "writes")
        self.memory.write(offset, self.kind.size)
        self.view[k] = self.kind(value)

    def fresh(self, i):
        """An element, read in one step: it does not race with atomic writes."""
        offset, k = self.place(i, "reads")
        self.memory.read(offset, self.kind.size, atomic=True)
        return self.value(k)

    def load(self, i, count):
        """Several elements in one access, aligned to its size; or in several of 16 bytes."""
        per = WIDEST // self.kind.size
        if count > per:
            return sum((self.load(k, per) for k in range(i, i + count, per)), ())
        offset, k = self.place(i, "reads", count, count * self.kind.size)
        self.memory.read(offset, self.kind.size * count)
        return tuple(self.value(k + j) for j in range(count))

    def store(self, i, values):
        offset, k = self.place(i, "writes", len(values), len(values) * self.kind.size)
        self.memory.write(offset, self.kind.size * len(values))
        for j, value in enumerate(values):
            self.view[k + j] = self.kind(value)

    def atomic(self, i, function):
        """Replace an element by a function of it, as one step; gives the old one."""
        offset, k = self.place(i, "changes")
        self.memory.read(offset, self.kind.size, atomic=True)
        self.memory.write(offset, self.kind.size, atomic=True)
        old = self.value(k)
        self.view[k] = self.kind(function(old))
        return old


class Array:
    """An array in shared or local memory."""

    def __init__(self, pointer, shape, first=0):
        self.pointer, self.shape, self.first, self.ndim = pointer, shape, first, len(shape)
        self.size = math.prod(shape)

    def __len__(self):
        return self.shape[0]

    def index(self, i):
        """The number of an element, and the dimensions that its index leaves."""
        i, k = i if isinstance(i, tuple) else (i,), 0
        for n, size in zip(i, self.shape, strict=False):
            if not 0 <= operator.index(n) < size:
                machine = self.pointer.machine
                raise KernelError(
                    machine.where(
                        f"out of bounds: index {tuple(map(int, i))} of {self.pointer.memory} of shape {self.shape}"
                    )
                )
            k = k * size + n
        left = self.shape[len(i) :]
        return self.first + k * math.prod(left), left

    def __getitem__(self, i):
        k, left = self.index(i)
        return Array(self.pointer, left, k) if left else self.pointer[k]

    def __setitem__(self, i, value):
        self.pointer[self.index(i)[0]] = value

    def atomic(self, i, function):
        return self.pointer.atomic(self.index(i)[0], function)
