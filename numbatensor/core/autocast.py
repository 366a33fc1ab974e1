"""Autocast: ops that run in float16 or bfloat16, or in float32, whatever their arguments are, while a thread's mode says so.

Only what Python calls is cast: a pass of the engine runs in the dtypes that the forward pass had, and compiled code in those it was typed
for. Floats take part that are on a device whose autocast is on, float64 aside. Casts are recorded as `to` is. Leaves that are
cast to a half type are kept until autocast ends, so that a weight which is used twice is cast once; a write to the leaf makes its cast stale.
"""

import numpy as np
from numba import njit

from numbatensor.core.arguments import hold_nothing, let_go, put_in_place
from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.conversions import convert
from numbatensor.core.dispatch import perform
from numbatensor.core.graph import LEAF
from numbatensor.core.memory import decref, free, incref, load, local, memset, realloc
from numbatensor.core.modes import (
    AUTOCAST,
    AUTOCAST_CPU,
    AUTOCAST_CUDA,
    CPU_FLOAT16,
    CUDA_BFLOAT16,
    NO_CACHE,
    UNRECORDED,
)
from numbatensor.core.python import argument, as_long, box, entry, none, unboxed
from numbatensor.core.records import (
    arguments_at,
    at,
    local_at,
    new_frame,
    node_at,
    op_at,
    storage_at,
    tensor_at,
    words,
)
from numbatensor.core.tensors import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

LOWER, FULL, WIDEST = 1, 2, 3  # policies: the half type of autocast, float32, the widest dtype among the arguments
CUDA = 4  # bits that the policy for CUDA devices stands from that for the CPU

# What a thread keeps: entries, and room for more. Of an entry: the leaf, its version when it was cast, and the cast; both are owned.
Casts = np.dtype(words("count", "room"))
Cast = np.dtype(words("leaf", "version", "cast"))
casts_at, cast_at = at(Casts), at(Cast)
HEAD, CAST = Casts.itemsize, Cast.itemsize


@njit
def half_type(mode, device):
    """The half type that ops of a device run in."""
    if device:
        return BFLOAT16 if mode & CUDA_BFLOAT16 else FLOAT16
    return FLOAT16 if mode & CPU_FLOAT16 else BFLOAT16


@njit
def is_on(mode, x):
    """Whether autocast is on for the device of a tensor."""
    return mode & (AUTOCAST_CUDA if x.device else AUTOCAST_CPU) != 0


@njit
def takes_part(mode, x):
    """Whether autocast may cast a tensor."""
    return is_on(mode, x) and x.dtype >= FLOAT32 and x.dtype != FLOAT64


@njit
def wanted(policy, mode, x):
    """The dtype in which a tensor is an op's argument, by a policy that does not look at the others."""
    return half_type(mode, x.device) if policy == LOWER else FLOAT32


@njit
def policy_of(op, mode, x):
    """What becomes of an op whose first tensor is x; 0: nothing."""
    return op_at(op).autocast >> (CUDA if x.device else 0) & 15 if is_on(mode, x) else 0


@njit
def kept(mode, x, dtype):
    """Whether the cast of a tensor is worth keeping: it is a leaf that learns, and the cast leads to it."""
    if x.node and node_at(x.node).kind != LEAF:
        return False
    return (
        dtype >= FLOAT16
        and x.dtype == FLOAT32
        and x.requires_grad
        and x.base == 0
        and mode & (NO_CACHE | UNRECORDED) == 0
    )


@njit
def find(casts, t):
    """The address of a leaf's entry, or 0."""
    for k in range(casts_at(casts).count if casts else 0):
        entry = casts + HEAD + k * CAST
        if cast_at(entry).leaf == t:
            return entry
    return 0


@njit
def new_entry(here):
    """The address of one more entry of a thread, or 0 where there is no memory."""
    l = local_at(here)
    if l.casts == 0 or casts_at(l.casts).count == casts_at(l.casts).room:
        room = 2 * casts_at(l.casts).room if l.casts else 16
        grown = realloc(l.casts, HEAD + room * CAST)
        if grown == 0:
            return 0
        if l.casts == 0:
            memset(grown, 0, HEAD)
        l.casts, casts_at(grown).room = grown, room
    c = casts_at(l.casts)
    c.count += 1
    return l.casts + HEAD + (c.count - 1) * CAST


@native
def cast(t, dtype, mode):
    """A tensor in a dtype, recorded; a new reference."""
    x = tensor_at(t)
    if not kept(mode, x, dtype):
        return convert(t, dtype)
    here, version = local(), storage_at(x.storage).version
    known = find(local_at(here).casts, t)
    if known and cast_at(known).version == version and tensor_at(cast_at(known).cast).dtype == dtype:
        incref(cast_at(known).cast)
        return cast_at(known).cast
    made = convert(t, dtype)
    if tensor_at(made).node == 0:
        return made
    old = 0
    if known:
        old = cast_at(known).cast
    else:
        known = new_entry(here)
        if known == 0:
            return made
        incref(t)
    c = cast_at(known)
    c.leaf, c.version, c.cast = t, version, made
    incref(made)
    decref(old)
    return made


@njit
def widest(op, a, mode):
    """The widest dtype of the floats that take part; where they are of both half types, float32."""
    found = 0
    for k in range(op_at(op).tensors):
        if a.tensors[k] and takes_part(mode, tensor_at(a.tensors[k])):
            dtype = tensor_at(a.tensors[k]).dtype
            found = dtype if found == 0 or found == dtype else FLOAT32
    return found


@native
def perform_cast(op, arguments, policy):
    """Perform an op on its arguments as a policy casts them; a new reference to the result."""
    o, a, mode, held = op_at(op), arguments_at(arguments), local_at(local()).mode, new_frame()
    hold_nothing(held)
    failed, made, common = False, -1, widest(op, a, mode) if policy == WIDEST else 0
    for k in range(o.tensors):
        if a.tensors[k] and takes_part(mode, tensor_at(a.tensors[k])) and not failed:
            x = tensor_at(a.tensors[k])
            dtype = common if common else wanted(policy, mode, x)
            if x.dtype != dtype:
                t = attempt(symbol("cast"), a.tensors[k], dtype, mode)
                failed = t == -1
                if not failed:
                    put_in_place(a, k, t, held)
    if not failed:
        made = attempt(symbol("perform"), op, arguments)
    let_go(held)
    if made == -1:
        fail()
    return made


@njit
def perform_for_python(op, arguments):
    """Perform an op that Python calls; a new reference to the result."""
    if load(symbol("modes_used")) & AUTOCAST and op_at(op).autocast:
        mode, a = local_at(local()).mode, arguments_at(arguments)
        for k in range(op_at(op).tensors if mode & AUTOCAST else 0):
            if a.tensors[k]:
                policy = policy_of(op, mode, tensor_at(a.tensors[k]))
                return perform_cast(op, arguments, policy) if policy else perform(op, arguments)
    return perform(op, arguments)


@entry
def cast_tensor(self, args, count):
    """(x, policy) -> x as an op of a policy would have it now"""
    t, mode = unboxed(argument(args, 0)), local_at(local()).mode
    x = tensor_at(t)
    if not takes_part(mode, x):
        incref(t)
        return box(t)
    return box(cast(t, wanted(as_long(argument(args, 1)), mode, x), mode))


@entry
def drop_casts(self, args, count):
    """(): let go of the casts that this thread keeps"""
    here = local_at(local())
    casts = here.casts
    here.casts = 0
    for k in range(casts_at(casts).count if casts else 0):
        c = cast_at(casts + HEAD + k * CAST)
        decref(c.cast)
        decref(c.leaf)
    free(casts)
    return none()


assert cast and perform  # reached through their symbols
