"""Standard streams of a worker's processes: what a task prints never fails it, and leaves no line open.

What cannot be written, because a disk is full or a reader has left, is counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

OpenLines = dict["Output", str]
_open_lines: ContextVar[OpenLines | None] = ContextVar("open_lines", default=None)


class Listener(Protocol):
    """Hears what is logged and printed in a context, before it is written."""

    def on_log(self, at: float, level: str, text: str) -> None:
        """Hear a record of `logging`; `at` is in seconds of the epoch."""

    def on_print(self, stream: str, text: str) -> None:
        """Hear a piece of text that is written to `stdout` or `stderr`."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listen(listener: Listener) -> None:
    """Have what is logged and printed in this context heard."""
    _listener.set(listener)


def listener_here() -> Listener | None:
    """Return who hears what is logged and printed here, if anybody does."""
    return _listener.get()


Copy = Callable[[memoryview], bytes]
"""Is given whole lines that go to stderr; returns a line that is to follow them there, or nothing."""


class _Stderr:
    copy: Copy | None = None


def copy_stderr(copy: Copy | None) -> None:
    """Have what this process and those it forks write to stderr copied, the log included."""
    _Stderr.copy = copy


def keep_open_lines(lines: OpenLines) -> None:
    """Keep what is printed in this context here until its line is complete, for others print beside it."""
    _open_lines.set(lines)


def end_lines(lines: OpenLines) -> None:
    """Write the lines that were left open."""
    for stream in list(lines):
        with contextlib.suppress(ValueError):  # it was closed meanwhile, and nobody is left to be told
            stream.write(f"{lines.pop(stream)}\n")


class Output(io.TextIOWrapper):
    """A stream to one of this process's descriptors. Closing it leaves the descriptor open."""

    def __init__(self, descriptor: int, name: str, encoding: str, is_buffered: bool = True) -> None:
        self._again = (descriptor, name, encoding, is_buffered)
        self.raw = _Raw(descriptor, name)
        self._heard_as = name[1:-1] if name.startswith("<") else ""  # the log tells who listens by itself
        self.mode = "w"  # type: ignore[misc]  # as the interpreter's own streams have it
        super().__init__(
            io.BufferedWriter(self.raw) if is_buffered else self.raw,  # as python -u does
            encoding=encoding,
            errors="backslashreplace",
            newline="\n",
            line_buffering=True,  # the process may be killed any time
            write_through=not is_buffered,
        )

    def again(self) -> Output:
        """Return a fresh one, for one that was closed, and end the line that it left open."""
        fresh = Output(*self._again)
        if self.raw.open_line:
            fresh.raw.write(self.raw.open_line + b"\n")
        return fresh

    @property
    def is_spent(self) -> bool:
        """Whether it was closed, or what it writes to was detached from it."""
        try:
            return self.closed
        except ValueError:
            return True

    def write(self, text: str, /) -> int:
        """Write; what the encoding has no character for is escaped."""
        self.raw.is_touched = True
        if (listener := _listener.get()) is not None and self._heard_as:
            listener.on_print(self._heard_as, str.__str__(text))
        if (open_lines := _open_lines.get()) is None:
            return super().write(text)
        text_so_far = open_lines.pop(self, "") + text
        end = text_so_far.rfind("\n") + 1
        if end < len(text_so_far):
            open_lines[self] = text_so_far[end:]
        if end:
            super().write(text_so_far[:end])
        return len(text)

    def close(self) -> None:
        """Close the stream alone."""
        self.raw.is_touched = True
        super().close()

    def detach(self) -> Any:
        """Part with what the stream writes to, and return it."""
        self.raw.is_touched = True
        return super().detach()

    def settle(self) -> str:
        """Write what is left, with an end for a line of the log's place; return news of writing, once.

        Raises `ValueError` when the stream was closed.
        """
        self.flush()
        raw, news = self.raw, ""
        if raw.open_line:
            raw.write(b"\n")
        if raw.failure and not raw.is_told:
            raw.is_told = True
            news = f"{raw.name} cannot be written: {raw.failure}; what is meant for it is lost until it can"
        elif raw.lost_bytes and not raw.failure:
            news = f"{raw.name} can be written again; {raw.lost_bytes} bytes were lost"
            raw.lost_bytes, raw.is_told = 0, False
        raw.is_touched = False
        return news


class _Raw(io.FileIO):
    """Writes all or counts what is lost, and never raises `OSError`."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = name
        self.lost_bytes = 0
        self.failure = ""
        """Why the last write failed, if it did."""
        self.is_told = False
        self.open_line = b""
        """What is kept until its line is complete, where the log goes too, whose lines would come amid it."""
        self.is_touched = False
        """Whether anything was done with the stream since it was settled."""
        self._pid = os.getpid()
        self._meets_the_log = os.path.sameopenfile(descriptor, 2)
        self._is_stderr = self._meets_the_log and name != "<stdout>"

    def write(self, data: Any, /) -> int:
        self.is_touched = True
        left = memoryview(data).cast("B")
        size = len(left)
        if self._meets_the_log:
            left = self._complete_lines(left)
        if _Stderr.copy and self._is_stderr and left and (news := _Stderr.copy(left)):
            left = memoryview(bytes(left) + news)
        is_empty = not left
        try:
            while left:
                if (written := super().write(left)) is None:  # somebody else made it non-blocking, and it is full
                    poller = select.poll()
                    poller.register(self.fileno(), select.POLLOUT)
                    poller.poll()
                else:
                    left = left[written:]
        except OSError as error:
            self.lost_bytes += len(left)
            self.failure = error.strerror or str(error)
            return size
        if not is_empty:
            self.failure = ""
        return size

    def _complete_lines(self, data: memoryview) -> memoryview:
        if os.getpid() != self._pid:  # a copy of the process: the original writes what was kept
            self._pid, self.open_line = os.getpid(), b""
        text = self.open_line + data
        end = text.rfind(b"\n") + 1
        self.open_line = text[end:]
        return memoryview(text)[:end]


def take_over() -> list[str]:
    """Make `sys.stdout` and `sys.stderr` such streams, where they are the ordinary ones, and settle both.

    Returns what is to be told of it.
    """
    news = []
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not isinstance(stream, Output) and leads_to(stream, descriptor):
            stream.flush()
            stream = Output(descriptor, f"<{name}>", stream.encoding, not stream.write_through)
            setattr(sys, name, stream)
        if isinstance(stream, Output):
            news.append(stream.settle())
    return [one for one in news if one]


def leads_to(stream: object, descriptor: int) -> bool:
    """Say whether something is an ordinary stream to this descriptor."""
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor
    except (OSError, ValueError):  # it has none, or was closed
        return False
