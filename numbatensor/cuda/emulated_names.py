"""The names that a kernel uses, as the emulator means them: `cuda`, `math`, `libdevice`, Numba's types, device functions.

A function is made anew with names of its own; modules stay as they are, for whoever else uses them.
"""

import builtins
import math
import types as python

import numpy as np
from numba import types

from kernels_cuda.meanings import MEANINGS, floating
from numbatensor.cuda.emulated_memory import Array, Memory, Narrow, Pointer, kind_of

BARRIERS = {"syncthreads", "syncthreads_count", "syncthreads_and", "syncthreads_or", "syncwarp"}
BARRIERS |= {"shfl_sync", "shfl_up_sync", "shfl_down_sync", "shfl_xor_sync"}
BARRIERS |= {"all_sync", "any_sync", "eq_sync", "ballot_sync", "match_any_sync", "match_all_sync"}
WHOLE = {"floor": math.floor, "ceil": math.ceil, "trunc": math.trunc}  # of Python's `math`, these give integers


class Names:
    """A module whose names are converted when they are asked for."""

    def __init__(self, convert, module):
        self._convert, self._module = convert, module

    def __getattr__(self, name):
        value = self._convert(getattr(self._module, name))
        setattr(self, name, value)
        return value


def names_of(code):
    """All names that a function's code uses, inner functions included."""
    return set(code.co_names).union(*[names_of(c) for c in code.co_consts if isinstance(c, python.CodeType)])


class Converter:
    """Makes a kernel's values over into those of one emulated machine. `barriers`: functions in whose reach one stands."""

    def __init__(self, cuda):
        self.cuda, self.known, self.barriers = cuda, {}, set()

    def __call__(self, value):
        if isinstance(value, python.ModuleType):
            return self.module(value)
        value = getattr(value, "emulated", value)
        value = getattr(value, "py_func", value)
        if isinstance(value, python.FunctionType):
            root = value.__module__.split(".")[0] if value.__module__ else ""
            return value if root in ("numpy", "scipy") or value.__module__ == __name__ else self.function(value)
        if isinstance(value, types.Type) and isinstance(value, (types.Number, types.Boolean)):
            return kind_of(value)
        if type(value) in (tuple, list):
            return type(value)(map(self, value))
        return value

    def module(self, value):
        name = value.__name__
        if name in ("numba.cuda", "numba_cuda.numba.cuda"):
            return self.cuda
        if name == "math":
            return MATH
        if name.endswith("cuda.libdevice"):
            return self.cuda.libdevice
        if name.split(".")[0] == "numpy":
            return value
        if value not in self.known:
            self.known[value] = Names(self, value)
        return self.known[value]

    def function(self, f):
        if f in self.known:
            return self.known[f]
        cells = tuple(python.CellType() for _ in f.__closure__ or ())
        known: dict = {"__builtins__": builtins, "__name__": f.__module__, "float": kind_of(types.float64)}
        made = self.known[f] = python.FunctionType(f.__code__, known, f.__name__, None, cells)
        names = names_of(f.__code__)
        if names & BARRIERS:
            self.barriers.add(made)
        found = {n: f.__globals__[n] for n in names if n in f.__globals__}
        inner = []
        for name, value in found.items():
            known[name] = self(value)
            inner.append(known[name])
            if isinstance(known[name], Names):
                inner += [getattr(known[name], n) for n in names if hasattr(value, n)]
        for cell, source in zip(cells, f.__closure__ or (), strict=True):
            cell.cell_contents = self(source.cell_contents)
            inner += cell.cell_contents if isinstance(cell.cell_contents, (tuple, list)) else [cell.cell_contents]
        made.__defaults__ = f.__defaults__ and self(f.__defaults__)
        made.__kwdefaults__ = f.__kwdefaults__
        if self.barriers.intersection(i for i in inner if isinstance(i, python.FunctionType)):
            self.barriers.add(made)
        return made


def whole(function):
    def meaning(x):
        return function(x) if np.isfinite(x) else 0

    return meaning


MATH = python.SimpleNamespace(
    **MEANINGS,
    pi=math.pi,
    e=math.e,
    tau=math.tau,
    inf=math.inf,
    nan=math.nan,
    isnan=lambda x: bool(np.isnan(x)),
    isinf=lambda x: bool(np.isinf(x)),
    isfinite=lambda x: bool(np.isfinite(x)),
    degrees=floating(np.degrees),
    radians=floating(np.radians),
)
MATH.gamma, MATH.remainder = MATH.tgamma, floating(lambda x, y: x - y * np.rint(x / y))
for name, function in WHOLE.items():
    setattr(MATH, name, whole(function))


def bits(x):
    """An integer's bits, and how many there are."""
    width = getattr(x, "width", 64)
    return int(x) & ((1 << width) - 1), width


def seen_as(kind, other):
    """A number's bytes, as a number of another type."""
    other = kind_of(other)
    return lambda x: other(kind(x).view(other.dtype))


class Libdevice:
    """libdevice's functions by their names; a name that ends in f is of float32."""

    def __init__(self):
        self.float_as_int, self.float_as_uint = seen_as(np.float32, types.int32), seen_as(np.float32, types.uint32)
        self.double_as_longlong = seen_as(np.float64, types.int64)
        self.int_as_float = self.uint_as_float = lambda x: np.uint32(int(x) & 0xFFFFFFFF).view(np.float32)
        self.longlong_as_double = lambda x: np.uint64(int(x) & (1 << 64) - 1).view(np.float64)
        self.mulhi, self.umulhi = lambda x, y: Narrow(int(x) * int(y) >> 32), lambda x, y: Narrow((x * y) >> 32)
        self.mul64hi = self.umul64hi = lambda x, y: (int(x) * int(y)) >> 64
        self.frcp_rn, self.drcp_rn = lambda x: np.float32(1) / np.float32(x), lambda x: np.float64(1) / np.float64(x)
        self.fmul_rn, self.dmul_rn = (
            lambda x, y: np.float32(x) * np.float32(y),
            lambda x, y: np.float64(x) * np.float64(y),
        )
        self.fdividef = lambda x, y: np.float32(x) / np.float32(y)

    def __getattr__(self, name):
        plain = name.removeprefix("fast_").removesuffix("_rn")
        kind = np.float64 if plain in MEANINGS else np.float32
        plain = {"fsqrt": "sqrt", "frsqrt": "rsqrt", "dsqrt": "sqrt", "fma": "fma"}.get(plain, plain)
        meaning = MEANINGS.get(plain) or MEANINGS.get(plain.removesuffix("f"))
        if meaning is None:
            raise AttributeError(
                f"the emulator does not know libdevice.{name}: give it a meaning in kernels_cuda/meanings.py"
            )
        value = lambda *args: kind(meaning(*map(kind, args)))
        setattr(self, name, value)
        return value


class Atomics:
    """Atomic operations on an element of an array or pointer; each gives the old value."""

    def __init__(self):
        change = lambda function: lambda array, i, value: array.atomic(i, lambda old: function(old, value))
        self.add, self.sub = change(lambda old, v: old + v), change(lambda old, v: old - v)
        self.max = change(lambda old, v: v if v > old or old != old else old)
        self.min = change(lambda old, v: v if v < old or old != old else old)
        self.nanmax = change(lambda old, v: old if v != v or old > v else v)
        self.nanmin = change(lambda old, v: old if v != v or old < v else v)
        self.exch = change(lambda old, v: v)
        self.and_, self.or_, self.xor = (
            change(lambda o, v: o & v),
            change(lambda o, v: o | v),
            change(lambda o, v: o ^ v),
        )
        self.inc = change(lambda old, v: 0 if old >= v else old + 1)
        self.dec = change(lambda old, v: v if old == 0 or old > v else old - 1)

    @staticmethod
    def cas(array, i, expected, value):
        return array.atomic(i, lambda old: value if old == expected else old)

    @classmethod
    def compare_and_swap(cls, array, expected, value):
        return cls.cas(array, 0, expected, value)


class Room:
    """`cuda.shared` or `cuda.local`."""

    def __init__(self, machine, space):
        self.machine, self.space = machine, space

    def array(self, shape, dtype, alignment=None):
        kind, shape = kind_of(dtype), tuple(map(int, shape)) if isinstance(shape, (tuple, list)) else (int(shape),)
        machine, count = self.machine, math.prod(shape)
        if self.space == "local":
            memory = Memory(machine, np.zeros(count * kind.size, np.uint8), "local")
        elif count == 0:
            memory = machine.current.block.dynamic
            shape = (len(memory.data) // kind.size,)
        else:
            memory = machine.shared_array(count * kind.size, alignment or kind.size)
        return Array(Pointer(machine, memory, 0, 0, len(memory.data), kind), shape)


class Cuda:
    """`numba.cuda` in a kernel."""

    warpsize, libdevice, atomic = 32, Libdevice(), Atomics()

    def __init__(self, machine):
        self.machine, self.shared, self.local = machine, Room(machine, "shared"), Room(machine, "local")
        self.const = python.SimpleNamespace(array_like=lambda a: a)
        wait = machine.wait
        for name in ("syncthreads", "syncthreads_count", "syncthreads_and", "syncthreads_or"):
            setattr(self, name, lambda value=None, name=name: wait(name, None, value))
        self.syncwarp = lambda mask=0xFFFFFFFF: wait("syncwarp", mask, None)
        for name in BARRIERS:
            if name.endswith("_sync"):
                setattr(self, name, lambda mask, *values, name=name: wait(name, mask, values))

    threadIdx = property(lambda self: self.machine.current.index)
    blockIdx = property(lambda self: self.machine.current.block.position)
    blockDim = property(lambda self: self.machine.block_size)
    gridDim = property(lambda self: self.machine.grid_size)
    laneid = property(lambda self: self.machine.current.lane)

    def grid(self, n):
        t, b, size = self.threadIdx, self.blockIdx, self.blockDim
        places = (b.x * size.x + t.x, b.y * size.y + t.y, b.z * size.z + t.z)[:n]
        return places[0] if n == 1 else places

    def gridsize(self, n):
        g, b = self.gridDim, self.blockDim
        sizes = (g.x * b.x, g.y * b.y, g.z * b.z)[:n]
        return sizes[0] if n == 1 else sizes

    def threadfence(self):
        self.machine.current.block.fenced = True

    threadfence_system = threadfence

    def threadfence_block(self):
        pass

    def nanosleep(self, time):
        pass

    def activemask(self):
        return self.machine.active_mask()

    def lanemask_lt(self):
        return Narrow((1 << self.laneid) - 1)

    def popc(self, x):
        return bits(x)[0].bit_count()

    def clz(self, x):
        value, width = bits(x)
        return width - value.bit_length()

    def ffs(self, x):
        value, _ = bits(x)
        return (value & -value).bit_length()

    def brev(self, x):
        value, width = bits(x)
        return type(x)(int(f"{value:0{width}b}"[::-1], 2))

    def fma(self, x, y, z):
        return MEANINGS["fma"](x, y, z)

    def cbrt(self, x):
        return MEANINGS["cbrt"](x)

    def selp(self, condition, x, y):
        return x if condition else y

    def ldca(self, array, i):
        return array[i]

    ldcg = ldcs = ldlu = ldcv = ldca

    def stcg(self, array, i, value):
        array[i] = value

    stcs = stwb = stwt = stcg
