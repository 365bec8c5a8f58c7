"""Shared memory in which each child says what it has begun, so that the parent can time it without asking.

A slot holds the number of the order, the moment by which the attempt must end (CLOCK_MONOTONIC, the same in all
processes) and the task's name. The child writes, the parent reads; one writer a slot, so no locks.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

_SLOT = struct.Struct("@Qdd128s")


class Begun(NamedTuple):
    """What a child is running."""

    number: int
    started: float
    deadline: float
    task: str


class Slots:
    """One slot for each child; must be made before the processes that share it are forked."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _SLOT.size)

    def write(self, index: int, number: int, started: float, deadline: float, task: str) -> None:
        """Say that order `number` was begun and must end by `deadline`, in seconds of `time.monotonic`."""
        name = task.encode(errors="replace")[:128]
        _SLOT.pack_into(self._memory, index * _SLOT.size, number, started, deadline, name)

    def read(self, index: int) -> Begun:
        """Return what the child of this slot began last."""
        number, started, deadline, task = _SLOT.unpack_from(self._memory, index * _SLOT.size)
        return Begun(number, started, deadline, task.rstrip(b"\0").decode(errors="replace"))
