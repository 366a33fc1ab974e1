"""CUDA graphs: what a function gives a device to do is recorded once, and done again as a whole, at the cost of one launch.

While a function is captured nothing is done: its kernels are recorded, and memory comes from what the graph keeps. Whatever would need
a result on the CPU is refused. A graph owns the memory that it reads and writes, as long as it lives.
"""

import contextlib
import ctypes
import sys
import threading

from numbatensor.core import entries, python
from numbatensor.core.device_entries import (
    choose_stream,
    chosen_stream,
    drop_storage,
    enter,
    give_memory,
    keep_storage,
    set_capture,
    take_memory,
    wrote_storage,
)
from numbatensor.core.handles import drop_handles, hold
from numbatensor.core.memory import state
from numbatensor.core.records import GRAPH, MEMORY, USERS, Storage, view_record
from numbatensor.cuda import runtime
from numbatensor.cuda.runtime import number
from numbatensor.cuda.streams import known_streams, made, wait_for_all

capturing = threading.local()  # `graph`: what this thread records
lock = threading.RLock()


class Arena:
    """The memory of a graph: blocks that the tensors of its function have in turn."""

    def __init__(self, device):
        self.device, self.spare, self.blocks = device, {}, []

    def take(self, nbytes):
        size = max(256, 1 << (nbytes - 1).bit_length())
        if self.spare.get(size):
            return Block(self, self.spare[size].pop(), size)
        data = take_memory(self.device, size, MEMORY)
        self.blocks.append((data, size))
        return Block(self, data, size)

    def __del__(self, ending=sys.is_finalizing):
        if ending():
            return
        # not by waiting: another graph may be under way to be captured, which that would end
        users = sum(1 << k for k in known_streams(self.device))
        for data, size in self.blocks:
            give_memory(self.device, data, size, MEMORY | users << USERS)
            users = 0


class Block:
    """Memory that one storage has."""

    __slots__ = ("arena", "data", "size")

    def __init__(self, arena, data, size):
        self.arena, self.data, self.size = arena, data, size

    def __del__(self):
        self.arena.spare.setdefault(self.size, []).append(self.data)


def refuse_other_devices(graph, device):
    """Fail where a graph is to hold work of a device that is not its own."""
    if device != graph.number:
        raise RuntimeError(f"a CUDA graph of cuda:{graph.number - 1} cannot hold work of cuda:{device - 1}")


@python.callback
def capture_memory(device, nbytes, place):
    """Memory for a new storage of what is captured: its address goes to `place`. Gives the handle that the storage owns."""
    drop_handles()
    graph = capturing.graph
    refuse_other_devices(graph, device)
    block = graph.arena.take(nbytes)
    ctypes.c_int64.from_address(place).value = block.data
    return hold(block)


@python.callback
def captured(storage, written):
    """The graph works with memory that was there before."""
    graph, found = capturing.graph, view_record(storage, Storage)
    refuse_other_devices(graph, int(found["device"]))
    if int(found["stream"]) % (1 << USERS) != GRAPH:
        if storage not in graph.storages:
            keep_storage(storage)
        graph.storages[storage] = graph.storages.get(storage, 0) | written
    return 0


def tensors_in(value):
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, python.TensorBase):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(one)


class Graph:
    """What a function gave a device to do. Calling it does that again, over the same memory, and gives what the function gave.

    Parameters
    ----------
    step : callable
        Takes nothing. What it reads must be tensors that stay: new data is copied into them. What depends on numbers of Python or on the
        values of tensors is as it was when it was captured.
    device : device, optional
        The current one, where it is not given.
    """

    def __init__(self, step, device=None):
        self.graph, self.storages, self.ran, self.forks = None, {}, 0, int(state[0]["forks"])
        self.number = number(device)
        self.arena = Arena(self.number)
        stream = made(self.number, GRAPH)
        made(self.number, MEMORY)
        if getattr(capturing, "graph", None) is not None:
            raise RuntimeError("a CUDA graph is being captured on this thread")
        with lock:
            wait_for_all(self.number)  # what the graph is to read is there
            enter(self.number)
            before, capturing.graph = choose_stream(self.number, GRAPH), self
            try:
                runtime.backend.begin_capture(stream)
                set_capture(1)
                self.result = step()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # the driver may have given up the capture already
                    self.graph = self.end(stream, before)
                raise
            self.graph = self.end(stream, before)
            wait_for_all(self.number)

    def end(self, stream, before):
        """The graph of what was recorded; the thread's work goes to stream `before` again."""
        set_capture(0)
        capturing.graph = None
        choose_stream(self.number, before)
        enter(self.number)
        return runtime.backend.end_capture(stream)

    def __call__(self):
        """Do it again."""
        runtime.backend.replay(self.graph, enter(self.number))
        self.ran |= 1 << chosen_stream(self.number)
        for storage, written in self.storages.items():
            if written:
                wrote_storage(storage)
        for tensor in tensors_in(self.result):
            entries.count_write(tensor.detach())
        return self.result

    replay = __call__

    def __del__(self, ending=sys.is_finalizing):
        if ending():
            return
        for storage in self.storages:
            drop_storage(storage, self.ran)
        if self.graph is not None and self.forks == int(state[0]["forks"]):
            runtime.backend.destroy_graph(self.graph)  # when it has run, if it runs now


graph = Graph
