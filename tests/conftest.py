"""What holds for every test: no native object outlives it."""

import gc

import pytest

from numbatensor.memory import memory_stats


def live():
    gc.collect()
    stats = memory_stats()
    return {name: stats[name] for name in ("tensors", "storages", "nodes")}


@pytest.fixture(autouse=True)
def nothing_leaks(request):
    before = live()
    yield
    request.node.funcargs.clear()
    after = live()
    assert after == before, f"native objects leaked: {before} before, {after} after"
