"""What native memory holds, for people."""

import gc

from numbatensor.core import entries
from numbatensor.core.handles import drop_handles
from numbatensor.core.memory import state

COUNTS = ("tensors", "storages", "nodes", "bytes", "pooled", "peak")


def memory_stats():
    """Live tensors, storages and graph nodes, and bytes: live, pooled for reuse, and the most that were ever live."""
    drop_handles()
    return {name: int(state[0][name]) for name in COUNTS}


def empty_cache():
    """Give the memory that is pooled for reuse back to the system."""
    entries.release_pool()


def memory_summary():
    """The same as text, after a garbage collection."""
    gc.collect()
    return "\n".join(f"{name:10} {value:>16,}" for name, value in memory_stats().items())
