"""The board: shared memory in which each child says what it has begun, so that the parent can time it.

A slot holds the number of the order, when it began and must end (CLOCK_MONOTONIC, the same in all processes), the
child's process and the task's name. The child writes, the parent reads; one writer a slot, so no locks. While the
rest is written the number is 0, for a child may be stopped amid a write, and a half-written deadline seems long past.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

_NUMBER = struct.Struct("@Q")
_REST = struct.Struct("@ddi128s")
_SIZE = _NUMBER.size + _REST.size


class Begun(NamedTuple):
    """What a child is running; nothing that is known when the number is 0."""

    number: int
    started: float
    deadline: float
    pid: int
    task: str


_NOTHING = Begun(0, 0.0, 0.0, 0, "")


class Board:
    """One slot for each child; must be made before the processes that share it are forked."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _SIZE)

    def write(self, index: int, number: int, started: float, deadline: float, task: str) -> None:
        """Say that this process began order `number`, which must end by `deadline`, in seconds of `time.monotonic`."""
        name, pid = task.encode(errors="replace")[:128], os.getpid()
        place = index * _SIZE
        _NUMBER.pack_into(self._memory, place, 0)
        _REST.pack_into(self._memory, place + _NUMBER.size, started, deadline, pid, name)
        _NUMBER.pack_into(self._memory, place, number)

    def read(self, index: int) -> Begun:
        """Return what the child of this slot began last; number 0 while it writes."""
        place = index * _SIZE
        (number,) = _NUMBER.unpack_from(self._memory, place)
        started, deadline, pid, task = _REST.unpack_from(self._memory, place + _NUMBER.size)
        if not number or (number,) != _NUMBER.unpack_from(self._memory, place):
            return _NOTHING
        return Begun(number, started, deadline, pid, task.rstrip(b"\0").decode(errors="replace"))
