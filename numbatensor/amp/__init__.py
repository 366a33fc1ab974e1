"""Mixed precision: ops that run in 16 bits where that is safe, and gradients that are scaled so that they do not vanish there.

>>> import numbatensor as nt
>>> model, x = nt.nn.Linear(4, 2), nt.ones(3, 4)
>>> with nt.autocast("cpu"):
...     model(x).dtype
numbatensor.bfloat16
"""

from numbatensor.amp.autocast import (
    autocast,
    clear_autocast_cache,
    custom_bwd,
    custom_fwd,
    get_autocast_dtype,
    in_float32,
    is_autocast_available,
    is_autocast_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from numbatensor.amp.grad_scaler import GradScaler

__all__ = [
    "GradScaler",
    "autocast",
    "clear_autocast_cache",
    "custom_bwd",
    "custom_fwd",
    "get_autocast_dtype",
    "in_float32",
    "is_autocast_available",
    "is_autocast_enabled",
    "set_autocast_dtype",
    "set_autocast_enabled",
]
