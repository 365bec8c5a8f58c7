"""What a followed task logs and prints, on its way to the parent, which tells whoever follows it.

The first line goes at once, those after it together, at most a few times a second, and the last ones when the attempt
ends. No thread waits for the moment: it is looked for whenever something is written, so a child needs no timer for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from leveret.consumers.child.copies import copies
from leveret.consumers.child.outcome import cut
from leveret.consumers.child.protocol import LONGEST_LINE_BYTES, MOST_LOGGED_BYTES

_PAUSE_SECONDS = 0.2
_LONGEST_LEVEL = 16
_NO_MORE = f"this attempt has logged {MOST_LOGGED_BYTES // 1024} KiB; more of it stands in the worker's log alone"

Send = Callable[[list[str], int], None]
"""Is given lines, and how many more were left out since the last time."""


class Logged:
    """Hears what one attempt writes; threads of the attempt may write at once. Nothing is heard after `close`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lines: list[str] = []
        self._open: dict[str, str] = {}  # by stream: a line whose end was not printed yet
        self._bytes = self._dropped = 0
        self._due = 0.0
        self._is_over = False
        self._lock = threading.RLock()  # a signal handler may print while its thread does

    def on_log(self, at: float, level: str, text: str) -> None:
        """Hear a record of `logging`; `at` is in seconds of the epoch."""
        if copies.is_copy:  # its original has the socket
            return
        with self._lock:
            if not self._is_over:
                for line in text.split("\n"):
                    self._add(at, level, line)
                self._send_if_due()

    def on_print(self, stream: str, text: str) -> None:
        """Hear a piece of text that is written to a stream."""
        if copies.is_copy:
            return
        with self._lock:
            if self._is_over:
                return
            *whole, rest = (self._open.get(stream, "") + text).split("\n")
            self._open[stream] = _shown(rest)[: LONGEST_LINE_BYTES + 1]
            for line in whole:
                self._add(time.time(), stream, line)
            if whole:
                self._send_if_due()

    def close(self) -> None:
        """Send what is left, and hear nothing more."""
        with self._lock:
            for stream, line in self._open.items():
                if line:
                    self._add(time.time(), stream, line)
            self._is_over = True
            if self._lines or self._dropped:
                self._send_all()

    def _add(self, at: float, level: str, text: str) -> None:
        if self._bytes >= MOST_LOGGED_BYTES:
            self._dropped += 1
            return
        self._append(at, level, text)
        if self._bytes >= MOST_LOGGED_BYTES:
            self._append(at, "warning", _NO_MORE)

    def _append(self, at: float, level: str, text: str) -> None:
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        name = "".join(level.split())[:_LONGEST_LEVEL]  # a program may call its levels anything
        line = cut(f"{moment} {name} {_shown(text)}", LONGEST_LINE_BYTES)
        self._bytes += len(line.encode()) + 1
        self._lines.append(line)

    def _send_if_due(self) -> None:
        if self._lines and time.monotonic() >= self._due:
            self._send_all()

    def _send_all(self) -> None:
        lines, dropped = self._lines, self._dropped
        self._lines, self._dropped = [], 0
        self._due = time.monotonic() + _PAUSE_SECONDS
        self._send(lines, dropped)


def _shown(line: str) -> str:
    """Return what a terminal shows of a line in the end: a bar is written over again and again."""
    return line.rstrip("\r").rpartition("\r")[2]
