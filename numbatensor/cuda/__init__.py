"""CUDA devices.

Importing this needs neither a GPU nor a driver; :func:`is_available` says whether there is one, and :func:`why_not` what is missing.
"""

from numbatensor.cuda import cub, cublas
from numbatensor.cuda.graphs import Graph, graph
from numbatensor.cuda.runtime import (
    current_device,
    device,
    device_count,
    emulate,
    is_available,
    set_device,
    synchronize,
    why_not,
)
from numbatensor.cuda.statistics import (
    empty_cache,
    get_device_capability,
    get_device_name,
    get_device_properties,
    max_memory_allocated,
    memory_allocated,
    memory_reserved,
    memory_summary,
    reset_peak_memory_stats,
)
from numbatensor.cuda.streams import Event, Stream, current_stream, default_stream, set_stream, stream

assert cub and cublas  # the core asks them by name
__all__ = [
    "Event",
    "Graph",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "emulate",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "graph",
    "is_available",
    "max_memory_allocated",
    "memory_allocated",
    "memory_reserved",
    "memory_summary",
    "reset_peak_memory_stats",
    "set_device",
    "set_stream",
    "stream",
    "synchronize",
    "why_not",
]
