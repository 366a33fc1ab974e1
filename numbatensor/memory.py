"""What native memory holds, for people."""

import gc

from numbatensor.core import entries
from numbatensor.core.handles import drop_handles
from numbatensor.core.memory import STORAGE_COUNT, state


def memory_stats():
    """Live tensors, storages and graph nodes, and bytes: live, pooled for reuse, and the most that were ever live."""
    drop_handles()
    s = {name: int(state[0][name]) for name in state.dtype.names[:-1]}
    counts = {"tensors": s["tensors"] % STORAGE_COUNT, "storages": s["tensors"] // STORAGE_COUNT}
    counts["nodes"] = s["sequence"] - s["freed_nodes"]
    return counts | {name: s[name] for name in ("bytes", "pooled", "peak")}


def empty_cache():
    """Give the memory that is pooled for reuse back to the system."""
    entries.release_pool()


def memory_summary():
    """The same as text, after a garbage collection."""
    gc.collect()
    return "\n".join(f"{name:10} {value:>16,}" for name, value in memory_stats().items())
