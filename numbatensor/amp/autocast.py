"""Autocast as a context manager and decorator, and what asks for it and sets it. What it does is in `core/autocast.py`."""

import functools
import warnings

import numpy as np

from numbatensor import dtypes
from numbatensor.autograd.modes import Mode
from numbatensor.core import modes
from numbatensor.core.autocast import FULL, cast_tensor, drop_casts
from numbatensor.core.modes import AUTOCAST, NO_CACHE, get_mode, set_mode
from numbatensor.tensor import Tensor

SWITCHES = {"cpu": modes.AUTOCAST_CPU, "cuda": modes.AUTOCAST_CUDA}
# The bit that chooses the other half type, and the half types without and with it.
CHOICES = {
    "cpu": (modes.CPU_FLOAT16, (dtypes.bfloat16, dtypes.float16)),
    "cuda": (modes.CUDA_BFLOAT16, (dtypes.float16, dtypes.bfloat16)),
}


def kind_of(device_type):
    """A kind of device that autocast knows: "cpu" or "cuda"."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in SWITCHES:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
    return device_type


def bits_of(kind, dtype):
    """The bits of a mode that choose a half type; None where it is no choice."""
    bit, (usual, other) = CHOICES[kind]
    return 0 if dtype is usual else bit if dtype is other else None


class autocast(Mode):
    """Ops inside run in 16 bits or in float32, as suits each: a context manager and a decorator; of this thread only.

    Products of matrices run in the half type; on CUDA devices exponentials, logarithms, sums, softmax and norms run in float32, as losses do
    everywhere; where the arguments of an op differ, the widest decides; other ops run in the dtype that they are given. Casts are recorded: the
    gradients of float32 parameters are float32. In place and with `out=`, ops run as they are called. So do compiled functions, whose
    dtypes were settled when they were compiled, and the ops of a backward pass, which run in the dtypes that the forward pass had.

    Parameters
    ----------
    device_type : str
        "cpu" or "cuda": whose tensors are cast.
    dtype : dtype, optional
        The half type: bfloat16 (the default on the CPU) or float16 (on CUDA devices).
    enabled : bool
        False: switch autocast off inside.
    cache_enabled : bool, optional
        Whether a leaf that needs a gradient is cast once, and the cast used again until the outermost autocast ends, or the leaf is written.
    """

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        super().__init__()
        kind = kind_of(device_type)
        chosen = get_autocast_dtype(kind) if dtype is None else dtypes.as_dtype(dtype)
        choice = bits_of(kind, chosen)
        if choice is None:
            if enabled:
                names = ", ".join(d.name for d in CHOICES[kind][1])
                warnings.warn(
                    f"In {kind.upper()} autocast, but the target dtype {chosen.name} is not supported: autocast is disabled. "
                    f"Supported are {names}.",
                    stacklevel=2,
                )
            enabled, choice = False, 0
        self.device_type, self.dtype, self.enabled = kind, chosen, bool(enabled)
        self.mask = SWITCHES[kind] | CHOICES[kind][0]
        self.bits = choice | (SWITCHES[kind] if enabled else 0)
        if cache_enabled is not None:
            self.mask |= NO_CACHE
            self.bits |= 0 if cache_enabled else NO_CACHE

    def again(self):
        made = Scope()
        made.mask, made.bits = self.mask, self.bits
        return made

    def __exit__(self, *error):
        super().__exit__(*error)
        if not get_mode() & AUTOCAST:
            drop_casts()


class Scope(autocast):
    """One run of a function that autocast decorates."""

    def __init__(self):
        Mode.__init__(self)


def is_autocast_enabled(device_type="cuda"):
    """Whether ops on such a device are cast now."""
    return bool(get_mode() & SWITCHES[kind_of(device_type)])


def set_autocast_enabled(device_type, enabled):
    """Switch autocast of a kind of device on or off, for this thread, until something else does."""
    bit = SWITCHES[kind_of(device_type)]
    set_mode(bit, bit if enabled else 0)
    if not get_mode() & AUTOCAST:
        drop_casts()


def is_autocast_available(device_type):
    """Whether autocast knows a kind of device."""
    return device_type in SWITCHES


def get_autocast_dtype(device_type):
    """The half type of a kind of device."""
    bit, (usual, other) = CHOICES[kind_of(device_type)]
    return other if get_mode() & bit else usual


def set_autocast_dtype(device_type, dtype):
    """Choose the half type of a kind of device, for this thread: float16 or bfloat16."""
    kind, d = kind_of(device_type), dtypes.as_dtype(dtype)
    choice = bits_of(kind, d)
    if choice is None:
        raise RuntimeError(f"autocast of {kind} cannot run in {d.name}")
    set_mode(CHOICES[kind][0], choice)


def clear_autocast_cache():
    """Let go of the casts of leaves that this thread keeps."""
    drop_casts()


def cast(value, to):
    """A value with the floating tensors in it cast, float64 aside; in dicts, lists and tuples too."""
    if isinstance(value, Tensor):
        return value.to(to) if value.is_floating_point() and value.dtype is not dtypes.float64 else value
    if isinstance(value, dict):
        return {k: cast(v, to) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, np.ndarray):
        return type(value)(cast(v, to) for v in value)
    return value


def custom_fwd(fwd=None, *, device_type, cast_inputs=None):
    """Decorate the `forward` of an `autograd.Function` that is used under autocast.

    Without `cast_inputs` it runs as its caller does, and the `backward` that `custom_bwd` decorates runs in the same way. With a dtype, it
    runs without autocast, on inputs of that dtype.
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)
    kind = kind_of(device_type)

    @functools.wraps(fwd)
    def decorated(ctx, *args, **kwargs):
        ctx._autocast_dtype = get_autocast_dtype(kind)
        ctx._autocast_enabled = is_autocast_enabled(kind)
        if cast_inputs is None or not ctx._autocast_enabled:
            return fwd(ctx, *args, **kwargs)
        ctx._autocast_enabled = False
        with autocast(kind, enabled=False):
            return fwd(ctx, *cast(args, cast_inputs), **cast(kwargs, cast_inputs))

    return decorated


def custom_bwd(bwd=None, *, device_type):
    """Decorate the `backward` of an `autograd.Function` whose `forward` is decorated by `custom_fwd`."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)
    kind = kind_of(device_type)

    @functools.wraps(bwd)
    def decorated(ctx, *args, **kwargs):
        with autocast(kind, ctx._autocast_dtype, ctx._autocast_enabled):
            return bwd(ctx, *args, **kwargs)

    return decorated


def in_float32(function):
    """Decorate a loss, which runs in float32 where autocast is on: its floating arguments are cast first."""

    @functools.wraps(function)
    def decorated(*args, **kwargs):
        if get_mode() & AUTOCAST:
            args = [cast_tensor(a, FULL) if isinstance(a, Tensor) else a for a in args]
            kwargs = {k: cast_tensor(a, FULL) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        return function(*args, **kwargs)

    return decorated
