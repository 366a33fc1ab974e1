"""What holds for every test: no native object outlives it."""

import gc
import sys

import pytest

from numbatensor.memory import memory_stats

# The files that take longest begin first, so that no worker is left with one at the end. The first compiles the core's functions;
# the two after it need none of them, so that what a second worker begins with is not compiled twice.
LONGEST = [
    "ops",
    "cuda_compile",
    "emulator",
    "cuda_rows",
    "nopython_ops",
    "cuda_index",
    "pointwise",
    "cuda_ops",
    "cuda_kernels",
]
LONGEST += ["custom_op", "examples", "wheel", "cache", "nopython_programs", "stress", "rows", "vmap"]


def pytest_collection_modifyitems(items):
    place = {f"test_{name}": k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def live():
    gc.collect()
    stats = memory_stats()
    return {name: stats[name] for name in ("tensors", "storages", "nodes")}


@pytest.fixture(autouse=True)
def nothing_leaks(request):
    for name in (
        "last_exc",
        "last_value",
        "last_traceback",
    ):  # pytest keeps a failed test's frames here, until the next runs
        vars(sys).pop(name, None)
    before = live()
    gc.freeze()  # what is here already need not be searched again: 5 ms a test, not 400
    yield
    if hasattr(sys, "last_exc") or hasattr(sys, "last_value"):
        return  # the test failed, and its frames still hold what it made
    request.node.funcargs.clear()
    after = live()
    assert after == before, f"native objects leaked: {before} before, {after} after"
