"""What native memory holds, for people."""

import gc
import sys

import numpy as np

from numbatensor.core import entries
from numbatensor.core.handles import drop_handles
from numbatensor.core.memory import state


def memory_stats():
    """Live tensors, storages and graph nodes, and bytes: live, pooled for reuse, and the most that were ever live."""
    drop_handles()
    found = np.zeros(4, np.int64)
    entries.count_memory(found.ctypes.data)
    counts = dict(zip(("tensors", "storages", "nodes", "bytes"), found.tolist(), strict=True))
    return counts | {name: int(state[0][name]) for name in ("pooled", "peak")}


def empty_cache():
    """Give the memory that is pooled for reuse back to the system."""
    entries.release_pool()
    if devices := sys.modules.get("numbatensor.cuda.statistics"):
        devices.empty_cache()


def memory_summary():
    """The same as text, after a garbage collection."""
    gc.collect()
    lines = [f"{name:10} {value:>16,}" for name, value in memory_stats().items()]
    if devices := sys.modules.get("numbatensor.cuda.statistics"):
        lines += devices.memory_lines()
    return "\n".join(lines)
