"""Streams of work on a device, and events that mark how far one has come.

A thread's work on a device goes to one stream: the default one, which other libraries use too, or what it chose. Streams are kept for
good and handed out again, so memory that was used on one can always wait for it; `Tensor.record_stream` says so by hand, and every op
says so of its tensors.
"""

import contextlib
import sys
import threading

from numbatensor.core.device_entries import choose_stream, chosen_stream, enter, record_use
from numbatensor.core.devices import driver
from numbatensor.core.memory import state
from numbatensor.core.records import MEMORY
from numbatensor.cuda import runtime
from numbatensor.cuda.runtime import number

URGENT = 32  # streams from this number on go before others, where the device has to choose
turns: dict = {}  # how many streams were asked for, by device and urgency
lock = threading.Lock()


@contextlib.contextmanager
def entered(device):
    """The context of a device, made this thread's for what Python asks the driver."""
    enter(device)
    yield runtime.backend


def made(device, k, urgent=False):
    """The handle of a device's stream k, which is made where it is new."""
    table = driver[0]
    with lock, entered(device) as backend:
        if table["streams"][device, k] == 0:
            table["events"][device, k] = backend.new_event(device - 1, False)
            table["streams"][device, k] = backend.new_stream(device - 1, -1 if urgent else 0)
    return int(table["streams"][device, k])


def known_streams(device):
    """The numbers of the streams of a device that have been made, but for those that graphs are made with."""
    return [k for k in range(MEMORY) if driver[0]["streams"][device, k]]


def wait_for_all(device):
    """Wait for all streams of a device."""
    for k in [*known_streams(device), MEMORY]:
        if driver[0]["streams"][device, k]:
            before = choose_stream(device, k)
            try:
                runtime.wait_for(device)
            finally:
                choose_stream(device, before)


class Stream:
    """A queue of work of a device: what is in one is done in order, and beside what is in others.

    There are some 30 of them for each device, which are handed out in turn.

    Parameters
    ----------
    device : device, optional
        The current one, where it is not given.
    priority : int
        Below 0: this stream's work goes first.
    """

    __slots__ = ("index", "number")

    def __init__(self, device=None, priority=0):
        urgent = priority < 0
        self.number = number(device)
        first, last = (URGENT, MEMORY) if urgent else (1, URGENT)
        with lock:
            turn = turns[self.number, urgent] = turns.get((self.number, urgent), -1) + 1
        self.index = first + turn % (last - first)
        made(self.number, self.index, urgent)

    @classmethod
    def known(cls, device, index):
        """The stream of a device that has a number."""
        found = object.__new__(cls)
        found.number, found.index = device, index
        return found

    device = property(
        lambda self: runtime.names.device("cuda", self.number - 1), doc="The device whose stream this is."
    )
    cuda_stream = property(
        lambda self: int(driver[0]["streams"][self.number, self.index]), doc="The driver's handle, for other libraries."
    )

    def query(self):
        """Whether all work is done."""
        with entered(self.number) as backend:
            return backend.stream_done(self.cuda_stream)

    def synchronize(self):
        """Wait until all work is done."""
        with stream(self):
            runtime.wait_for(self.number)

    def record_event(self, event=None):
        """Mark how far the stream has come, by an event."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        """Let what is added from now on wait for an event."""
        event.wait(self)

    def wait_stream(self, other):
        """Let what is added from now on wait for what another stream has been given."""
        self.wait_event(other.record_event())

    def record(self, tensor):
        """Keep a tensor's memory from being used anew until the stream, which works with it unknown to the library, has passed."""
        if tensor.get_device() + 1 != self.number:
            raise ValueError(f"the tensor is on {tensor.device}, and the stream is one of {self.device}")
        record_use(tensor, self.index)

    def __eq__(self, other):
        return isinstance(other, Stream) and (self.number, self.index) == (other.number, other.index)

    def __hash__(self):
        return hash((self.number, self.index))

    def __cuda_stream__(self):
        return 0, self.cuda_stream

    def __repr__(self):
        return f"Stream(device='{self.device}', cuda_stream={self.cuda_stream:#x})"


class Event:
    """A mark in a stream's work.

    Parameters
    ----------
    enable_timing : bool
        Whether :meth:`elapsed_time` is wanted.
    """

    def __init__(self, enable_timing=False):
        self.timing, self.handle, self.number = enable_timing, None, 0

    def record(self, stream=None):
        """Mark how far a stream, by default the current one, has come."""
        stream = stream or current_stream()
        with entered(stream.number) as backend:
            if self.handle is not None and self.number != stream.number:
                raise RuntimeError(f"the event is one of cuda:{self.number - 1}, and the stream one of {stream.device}")
            if self.handle is None:
                self.handle, self.number = backend.new_event(stream.number - 1, self.timing), stream.number
                self.forks = int(state[0]["forks"])
            backend.record(self.handle, stream.cuda_stream)

    def wait(self, stream=None):
        """Let what is added to a stream, by default the current one, wait for the mark."""
        stream = stream or current_stream()
        if self.handle is not None:
            with entered(stream.number) as backend:
                backend.wait(stream.cuda_stream, self.handle)

    def query(self):
        """Whether the stream has come to the mark."""
        if self.handle is None:
            return True
        with entered(self.number) as backend:
            return backend.event_done(self.handle)

    def synchronize(self):
        """Wait until the stream has come to the mark."""
        if self.handle is not None:
            with entered(self.number) as backend:
                backend.event_synchronize(self.handle)

    def elapsed_time(self, end):
        """Milliseconds between this mark and another."""
        if not (self.timing and end.timing):
            raise ValueError("both events must be made with enable_timing=True")
        if self.handle is None or end.handle is None:
            raise ValueError("both events must be recorded before the time between them is asked for")
        with entered(self.number) as backend:
            return backend.elapsed(self.handle, end.handle)

    def __del__(self, ending=sys.is_finalizing):
        if self.handle is not None and not ending() and self.forks == int(state[0]["forks"]):
            runtime.backend.destroy_event(self.handle)


def default_stream(device=None):
    """The stream that work goes to where none is chosen; other libraries' default too."""
    return Stream.known(number(device), 0)


def current_stream(device=None):
    """The stream that this thread's work on a device goes to."""
    k = number(device)
    return Stream.known(k, chosen_stream(k))


@contextlib.contextmanager
def stream(chosen):
    """Give a stream this thread's work, on its device, which is the current one meanwhile. None: change nothing.

    Streams do not wait for each other: what one made, another may use after `wait_stream`. A backward pass works on the stream that is
    current where it is called.
    """
    if chosen is None:
        yield
        return
    with runtime.device(chosen.number - 1):
        before = choose_stream(chosen.number, chosen.index)
        try:
            yield
        finally:
            choose_stream(chosen.number, before)


def set_stream(chosen):
    """Give a stream this thread's work from now on."""
    if chosen is not None:
        runtime.set_device(chosen.number - 1)
        choose_stream(chosen.number, chosen.index)


def order_after(device, theirs, theirs_waits):
    """Between a stream of another library's, by its handle, and ours: one waits for what the other has been given."""
    with entered(device) as backend:
        ours = current_stream(f"cuda:{device - 1}").cuda_stream
        if ours != theirs:
            event = backend.new_event(device - 1, False)
            first, second = (ours, theirs) if theirs_waits else (theirs, ours)
            backend.record(event, first)
            backend.wait(second, event)
            backend.destroy_event(event)


def device_of(address):
    """The core's number of the device whose memory an address is in."""
    return runtime.open_device(runtime.backend.device_of(address))
