"""What Python asks of devices beside ops: streams, and the memory of graphs."""

from numbatensor.core.compiler import attempt, fail, symbol
from numbatensor.core.devices import (
    OTHER_STREAM,
    allocate_there,
    free_there,
    note_user,
    refuse_capture,
    stream_of,
    synchronize,
)
from numbatensor.core.memory import decref, incref, local
from numbatensor.core.python import argument, as_long, entry, from_long, none, unboxed
from numbatensor.core.records import STREAMS, local_at, storage_at, tensor_at


@entry
def wait_for(self, args, count):
    """(device): wait until this thread's stream of a device has no work left"""
    synchronize(as_long(argument(args, 0)))
    return none()


@entry
def choose_stream(self, args, count):
    """(device, k) -> the number of the stream that this thread's work on a device went to; from now on it goes to stream k"""
    m, device, k = local_at(local()), as_long(argument(args, 0)), as_long(argument(args, 1))
    before = m.streams[device]
    if k != before:
        refuse_capture(OTHER_STREAM, 0)
    m.streams[device] = k
    return from_long(before)


@entry
def chosen_stream(self, args, count):
    """(device) -> the number of the stream that this thread's work goes to"""
    return from_long(local_at(local()).streams[as_long(argument(args, 0))])


@entry
def enter(self, args, count):
    """(device) -> handle of the stream that this thread's work goes to; the device's context is this thread's now"""
    return from_long(stream_of(as_long(argument(args, 0))))


@entry
def record_use(self, args, count):
    """(x, k): stream k of x's device works with its memory"""
    note_user(tensor_at(unboxed(argument(args, 0))).storage, as_long(argument(args, 1)))
    return none()


@entry
def set_capture(self, args, count):
    """(flag): whether this thread's work on devices is recorded"""
    local_at(local()).capture = as_long(argument(args, 0))
    return none()


@entry
def take_memory(self, args, count):
    """(device, nbytes, k) -> address of memory, in the order of stream k"""
    m, device = local_at(local()), as_long(argument(args, 0))
    before = m.streams[device]
    m.streams[device] = as_long(argument(args, 2))
    data = attempt(symbol("allocate_there"), device, as_long(argument(args, 1)))
    m.streams[device] = before
    if data == -1:
        fail()
    return from_long(data)


@entry
def give_memory(self, args, count):
    """(device, address, nbytes, k): give it back"""
    device, data = as_long(argument(args, 0)), as_long(argument(args, 1))
    free_there(device, data, as_long(argument(args, 2)), as_long(argument(args, 3)))
    return none()


@entry
def keep_storage(self, args, count):
    """(storage): one more owner of it"""
    incref(as_long(argument(args, 0)))
    return none()


@entry
def drop_storage(self, args, count):
    """(storage, streams): one owner less, which has worked with it on streams, given as bits"""
    storage, streams = as_long(argument(args, 0)), as_long(argument(args, 1))
    for k in range(STREAMS):
        if streams >> k & 1:
            note_user(storage, k)
    decref(storage)
    return none()


@entry
def wrote_storage(self, args, count):
    """(storage): count a write"""
    storage_at(as_long(argument(args, 0))).version += 1
    return none()


assert allocate_there  # reached through its symbol
