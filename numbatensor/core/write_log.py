"""The log of a storage's writes, by which a saved value is told to be overwritten, or not.

While something of a storage is saved, each write is noted in the storage's log, with its region, op and line; a storage of which
nothing is saved keeps no log, and pays one comparison a write. The number of living saves stands above the owners in the storage's
reference count, so that saving costs nothing either.

An entry of the log: the version that the write made, op row, code object, instruction, region, and the entry's length in words, last,
so that it can be read from the newest entry back.
"""

import numpy as np
from numba import njit

from numbatensor.core.compiler import native
from numbatensor.core.memory import (
    atomic_add,
    destroy,
    exchange,
    free,
    load,
    malloc,
    memcpy,
    realloc,
    store,
    take,
)
from numbatensor.core.python import argument, as_long, entry, from_long
from numbatensor.core.records import Storage, at, saved_at, storage_at, tensor_at, words
from numbatensor.core.regions import describe, meet, new_region

SAVE = (1 << 32) + 1  # of a reference count: one owner that is a save
FIRST, MOST = 64, 1 << 18  # words of a log at first, and at most (2 MiB: 26,000 writes of contiguous memory)
VERSION = Storage.fields["version"][1]
LOG_LOCK = Storage.fields["log_lock"][1]

# A log: all writes that made a version above `since`, up to `last`, are in it. `used` of its `room` words are taken.
Log = np.dtype(words("room", "used", "since", "last"))
LOG = Log.itemsize
log_at = at(Log)


@njit
def hold_saved(storage):
    """One more save of a storage."""
    atomic_add(storage, SAVE)


@njit
def release_saved_storage(storage):
    """One save of a storage less; the log ends with the last."""
    s = storage_at(storage)
    if s.log and s.refcount >> 32 == 1:
        take(storage + LOG_LOCK)
        if s.log:
            log_at(s.log).last = -1
        exchange(storage + LOG_LOCK, 0)
    if atomic_add(storage, -SAVE) == SAVE:
        destroy(storage)


@njit
def shorten(log):
    """Drop the older half of a log."""
    g = log_at(log)
    start, oldest = g.used, g.last
    while True:
        length = load(log + LOG + 8 * (start - 1))
        if g.used - start + length > g.room // 2:
            break
        start -= length
        oldest = load(log + LOG + 8 * start)
    memcpy(log + LOG, log + LOG + 8 * start, 8 * (g.used - start))
    g.used, g.since = g.used - start, oldest - 1


@native
def note_write(out, geometry_only):
    """Count a write of a storage, and put it into the storage's log."""
    x = tensor_at(out)
    storage = x.storage
    s, region = storage_at(storage), new_region()
    count = 0
    if geometry_only:
        store(region, 0)
        store(region + 8, 0)
        store(region + 16, 0)
        count = 3
    else:
        count = describe(region, x)
    length = count + 5
    take(storage + LOG_LOCK)
    version = atomic_add(storage + VERSION, 1) + 1
    if s.log and log_at(s.log).last != version - 1:  # nothing was saved in between
        free(s.log)
        s.log = 0
    if s.log == 0:
        s.log = malloc(LOG + 8 * FIRST)
        if s.log:
            g = log_at(s.log)
            g.room, g.used, g.since = FIRST, 0, version - 1
    elif log_at(s.log).used + length > log_at(s.log).room:
        if log_at(s.log).room < MOST:
            larger = realloc(s.log, LOG + 16 * log_at(s.log).room)
            if larger == 0:
                free(s.log)
            else:
                log_at(larger).room *= 2
            s.log = larger
        else:
            shorten(s.log)
    if s.log:
        g = log_at(s.log)
        entry = s.log + LOG + 8 * g.used
        store(entry, version)
        store(entry + 8, s.writer)
        store(entry + 16, s.code)
        store(entry + 24, s.at)
        memcpy(entry + 32, region, 8 * count)
        store(entry + 8 * (length - 1), length)
        g.used += length
        g.last = version
    exchange(storage + LOG_LOCK, 0)
    return 0


@native
def overwritten(saved, found):
    """Look for a write since a value was saved: 1 one touched it, 2 there may be one, as the log does not reach back, 0 there is none.

    Where there is one, its version, op row, code object and instruction are put into the words from `found` on.
    """
    v = saved_at(saved)
    s, region = storage_at(v.storage), new_region()
    describe(region, v)
    take(v.storage + LOG_LOCK)
    result = 2
    if s.log and log_at(s.log).last == s.version:
        log = s.log
        g = log_at(log)
        end, result = g.used, 0
        while end:
            end -= load(log + LOG + 8 * (end - 1))
            entry = log + LOG + 8 * end
            if load(entry) <= v.version:
                break
            if meet(region, entry + 32):
                memcpy(found, entry, 32)
                result = 1
                break
        if result == 0 and v.version < g.since:
            result = 2
    exchange(v.storage + LOG_LOCK, 0)
    if result != 1:
        store(found, s.version)
        store(found + 8, s.writer)
        store(found + 16, s.code)
        store(found + 24, s.at)
    return result


@entry
def is_overwritten(self, args, count):
    """(address of a saved value) -> whether a write has touched it since it was saved, or may have"""
    saved, found = as_long(argument(args, 0)), new_region()
    v = saved_at(saved)
    if v.storage == 0 or storage_at(v.storage).version == v.version:
        return from_long(0)
    return from_long(1 if overwritten(saved, found) else 0)
