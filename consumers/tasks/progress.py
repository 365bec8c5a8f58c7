"""How far a task has come, told by the task itself: `progress(done, total)`, or `track(items)` around its loop.

It only informs, so nothing that is told can fail a task but a value that is no number. Where no worker runs a task it
does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from time import monotonic
from typing import SupportsFloat, TypeVar

from leveret.consumers.tasks.attempt import Attempt, attempt_here
from leveret.topology.printable import printable

T = TypeVar("T")
Teller = Callable[[Attempt, float, float | None, str], None]

LONGEST_NOTE_BYTES = 120
_LARGEST_KEPT_CHARACTERS = 4 * LONGEST_NOTE_BYTES  # of a note that may be a megabyte
_TRACK_SECONDS = 0.1

_teller: Teller | None = None


def progress(done: SupportsFloat, total: SupportsFloat | None = None, note: str = "") -> None:
    """Tell how far the task that this code runs in has come: `done` of `total`, with a few words.

    It costs some microseconds; who follows the task is told a few times a second. A `done` that is negative, infinite
    or NaN is told as 0; a `total` that is so, or smaller than `done`, as unknown. The note is made printable, and cut
    to 120 bytes. In threads and processes that the task started it does nothing, unless a thread runs in its context,
    as with `asyncio.to_thread` or `contextvars.copy_context().run`. Raises `TypeError` for numbers that are none, and
    for a note that is no text.
    """
    so_far = _possible(done) or 0.0
    whole = None if total is None else _possible(total)
    shown = _fitting(note)
    if _teller and (attempt := attempt_here()):
        _teller(attempt, so_far, whole if whole and whole >= so_far else None, shown)


def track(items: Iterable[T], total: SupportsFloat | None = None, note: str = "") -> Iterator[T]:
    """Yield the items, and tell the progress of who iterates: `for line in track(lines)`.

    An item is done when the next one is asked for. `total` is `len(items)` where there is that. Told are the beginning,
    the end, and some ten times a second how many are done. Raises `TypeError` for what cannot be iterated, and as
    `progress` does.
    """
    remaining = iter(items)
    if total is None and isinstance(items, Sized):
        total = len(items)
    progress(0, total, note)
    return _tracked(remaining, total, note) if _teller and attempt_here() else remaining


def _tracked(items: Iterator[T], total: SupportsFloat | None, note: str) -> Iterator[T]:
    done = 0
    told = monotonic()
    for item in items:
        yield item
        done += 1
        if (now := monotonic()) - told >= _TRACK_SECONDS:
            told = now
            progress(done, total, note)
    progress(done, total, note)


def tell_by(teller: Teller | None) -> Teller | None:
    """Have progress told by this function from now on, in this whole process; returns the former one."""
    global _teller
    former, _teller = _teller, teller
    return former


def _possible(value: SupportsFloat) -> float | None:
    """Return a number of things as a float, None for one that is no such number. Raises `TypeError` for no number."""
    if not hasattr(value, "__float__"):
        raise TypeError(f"progress is told in numbers, not {value!r:.60}")
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an int that no float holds; a Decimal's signalling NaN
        return None
    return number if 0.0 <= number < math.inf else None


def _fitting(note: str) -> str:
    """Return a note that is printable and not too long. Raises `TypeError` for what is no text."""
    if not note:
        return ""
    if not isinstance(note, str):
        raise TypeError(f"the note of a progress is text, not {note!r:.60}")
    shown = printable(note[:_LARGEST_KEPT_CHARACTERS])
    raw = shown.encode(errors="replace")
    if len(raw) <= LONGEST_NOTE_BYTES:
        return shown if raw.isascii() else raw.decode()
    ellipsis = "…".encode()
    return (raw[: LONGEST_NOTE_BYTES - len(ellipsis)] + ellipsis).decode(errors="ignore")
