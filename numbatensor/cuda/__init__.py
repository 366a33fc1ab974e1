"""CUDA devices.

Importing this needs neither a GPU nor a driver; :func:`is_available` says whether there is one, and :func:`why_not` what is missing.
"""

from numbatensor.cuda.runtime import (
    current_device,
    device_count,
    emulate,
    is_available,
    memory_allocated,
    synchronize,
    why_not,
)

__all__ = ["current_device", "device_count", "emulate", "is_available", "memory_allocated", "synchronize", "why_not"]
