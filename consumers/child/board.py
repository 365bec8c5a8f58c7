"""The board: shared memory in which each child says what it has begun, so that the parent can time it.

Each child has a slot, and in it a place for each order that it may run at once: one, where it runs one after the
other. A place holds the number of the order, when it began and must end (CLOCK_MONOTONIC, the same in all processes),
the child's process and the task's name. The child writes, the parent reads; one writer a slot, so no locks. While the
rest is written the number is 0, for a child may be stopped amid a write, and a half-written deadline seems long past.

Behind all slots each place has room for its progress: the number of the order it is about, done, total and a note, in
one write between two equal counts, for several threads of a task may write. Memory that nobody writes costs nothing.
There the parent writes, too, for each child the number of the order that is cancelled. And there stand the results that
a child which runs one order after the other has not reported yet, for its parent to find if it never does.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import struct
from typing import NamedTuple

_NUMBER = struct.Struct("@Q")
_REST = struct.Struct("@ddi128s")
_SIZE = _NUMBER.size + _REST.size
_PROGRESS = struct.Struct("@QQdd120sQ")
_COUNT_BEHIND = _PROGRESS.size - _NUMBER.size

_KEPT = struct.Struct("@QI")  # the number of an order, and how many bytes of its result follow
_KEPT_BYTES = 32 * 1024  # of a slot, with their count in front

CANCELLED = -1.0
"""The deadline of an attempt that was told to end, for it has passed its own."""


class Begun(NamedTuple):
    """What a child is running; nothing that is known when the number is 0."""

    number: int
    started: float
    deadline: float
    pid: int
    task: str
    slot: int = -1
    """With the place, where it stands, by which its progress can be read."""
    place: int = 0


class Progress(NamedTuple):
    """How far a task has come, by its own word."""

    done: float
    total: float | None
    note: str


_NOTHING = Begun(0, 0.0, 0.0, 0, "")


class Board:
    """One slot for each child; must be made before the processes that share it are forked."""

    def __init__(self, count: int, places: int = 1) -> None:
        self._places = places
        self._process = 0  # this one, once it has entered
        self._progress_at = count * places * _SIZE
        self._cancels_at = self._progress_at + count * places * _PROGRESS.size
        self._kept_at = self._cancels_at + count * _NUMBER.size
        self._memory = mmap.mmap(-1, self._kept_at + count * _KEPT_BYTES)
        self._writes = itertools.count(1)

    def write(self, index: int, number: int, started: float, deadline: float, task: str, place: int = 0) -> None:
        """Say that this process began order `number`, which must end by `deadline`, in seconds of `time.monotonic`."""
        name, pid = task.encode(errors="replace")[:128], self._process or os.getpid()
        start = (index * self._places + place) * _SIZE
        _NUMBER.pack_into(self._memory, start, 0)
        _REST.pack_into(self._memory, start + _NUMBER.size, started, deadline, pid, name)
        _NUMBER.pack_into(self._memory, start, number)

    def read(self, index: int, place: int = 0) -> Begun:
        """Return what the child of this slot began last in this place; number 0 while it writes."""
        start = (index * self._places + place) * _SIZE
        (number,) = _NUMBER.unpack_from(self._memory, start)
        started, deadline, pid, task = _REST.unpack_from(self._memory, start + _NUMBER.size)
        if not number or (number,) != _NUMBER.unpack_from(self._memory, start):
            return _NOTHING
        return Begun(number, started, deadline, pid, task.rstrip(b"\0").decode(errors="replace"), index, place)

    def number_in(self, index: int, place: int = 0) -> int:
        """Return the number of the order that stands in a place; for the child that writes it."""
        number: int = _NUMBER.unpack_from(self._memory, (index * self._places + place) * _SIZE)[0]
        return number

    def write_progress(self, index: int, number: int, progress: Progress, place: int = 0) -> None:
        """Say how far order `number`, which stands in this place, has come; a note is cut to 120 bytes."""
        done, total, note = progress
        start = self._progress_at + (index * self._places + place) * _PROGRESS.size
        count, known = next(self._writes), math.nan if total is None else total
        _PROGRESS.pack_into(self._memory, start, count, number, done, known, note.encode(errors="replace"), count)

    def read_progress(self, begun: Begun) -> Progress | None:
        """Return how far an order has come; None where it has told nothing, or tells at this moment."""
        if not begun.number:
            return None
        start = self._progress_at + (begun.slot * self._places + begun.place) * _PROGRESS.size
        (written,) = _NUMBER.unpack_from(self._memory, start + _COUNT_BEHIND)  # against the order of writing
        _, number, done, total, note, _ = _PROGRESS.unpack_from(self._memory, start)
        # Zeros belong to no write: struct zeroes all that it is about to write.
        if not written or number != begun.number or (written,) != _NUMBER.unpack_from(self._memory, start):
            return None
        return Progress(done, None if math.isnan(total) else total, note.rstrip(b"\0").decode(errors="replace"))

    def cancel(self, index: int, number: int) -> None:
        """Say that the child of this slot is to end this order."""
        _NUMBER.pack_into(self._memory, self._cancels_at + index * _NUMBER.size, number)

    def cancelled(self, index: int) -> int:
        """Return the order that the child of this slot is to end, if it is the one that it began last; else 0."""
        (number,) = _NUMBER.unpack_from(self._memory, self._cancels_at + index * _NUMBER.size)
        (begun,) = _NUMBER.unpack_from(self._memory, index * self._places * _SIZE)
        return int(number) if number == begun else 0

    def keep(self, index: int, number: int, result: str) -> bool:
        """Keep the result of an order that ended, before the next begins; returns whether there is room for it."""
        count = self._kept_at + index * _KEPT_BYTES
        (used,) = _NUMBER.unpack_from(self._memory, count)
        text = result.encode()
        start = count + _NUMBER.size + used
        end = start + _KEPT.size + len(text)
        if end > count + _KEPT_BYTES:
            return False
        _KEPT.pack_into(self._memory, start, number, len(text))
        self._memory[start + _KEPT.size : end] = text
        _NUMBER.pack_into(self._memory, count, used + _KEPT.size + len(text))
        return True

    def forget_kept(self, index: int) -> None:
        """Keep the results no longer, for they were reported."""
        _NUMBER.pack_into(self._memory, self._kept_at + index * _KEPT_BYTES, 0)

    def kept(self, index: int) -> dict[int, str]:
        """Return the results that are kept, by the numbers of their orders.

        Read reports after that: what ended and is not among those either had none. A child gone wild may keep anything.
        """
        count = self._kept_at + index * _KEPT_BYTES
        (used,) = _NUMBER.unpack_from(self._memory, count)
        if not used:
            return {}
        kept: dict[int, str] = {}
        at = count + _NUMBER.size
        end = min(at + used, count + _KEPT_BYTES)
        while at + _KEPT.size <= end:
            number, size = _KEPT.unpack_from(self._memory, at)
            at += _KEPT.size
            kept[number] = self._memory[at : min(at + size, end)].decode(errors="replace")
            at += size
        return kept

    def clear(self, index: int) -> None:
        """Make the slot ready for a child that is about to be forked."""
        self.forget_kept(index)
        self.cancel(index, 0)
        self._set_process(index, 0)

    def enter(self, index: int) -> None:
        """Say that this process is there, and reads orders from now on."""
        self._process = os.getpid()  # asked once, for it is a system call
        self._set_process(index, self._process)

    def process_of(self, index: int) -> int:
        """Return the process that has entered this slot; 0 while there is none."""
        pid: int = _REST.unpack_from(self._memory, index * self._places * _SIZE + _NUMBER.size)[2]
        return pid

    def _set_process(self, index: int, pid: int) -> None:
        start = index * self._places * _SIZE
        _NUMBER.pack_into(self._memory, start, 0)
        _REST.pack_into(self._memory, start + _NUMBER.size, 0.0, math.inf, pid, b"")
