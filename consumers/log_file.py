"""Log files: one for each process, which holds what the process writes to stderr. What cannot be written is counted.

A file that was moved or removed, as log rotation does, is followed by a new one of the same name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from leveret.topology.errors import SettingsError


class LogFile:
    """The file of whatever process writes: each that is forked gets its own when it writes first."""

    def __init__(self, directory: Path, news_line: Callable[[str], bytes]) -> None:
        """Open that of this process; `news_line` makes a line of the log. Raises `SettingsError`."""
        self._directory = directory.absolute()  # a task may change the working directory
        self._news_line = news_line
        self._pid = self._worker = os.getpid()
        self._path = self._own_path()
        self._descriptor = -1
        self._status: os.stat_result | None = None
        self._lost_bytes = 0
        self._is_told = self._is_amid_line = False
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise SettingsError(
                f"no log can be written into {str(directory)!r}: {error.strerror or error}; name a directory in which "
                "this user may write"
            ) from error

    def write(self, lines: memoryview) -> bytes:
        """Append whole lines; returns a line for stderr when there is news of it. Raises nothing."""
        if (pid := os.getpid()) != self._pid:
            self._let_go()
            self._pid = pid
            self._path = self._own_path()
        left = lines
        try:
            if not self._is_there():
                self._let_go()
                self._open()
            if self._is_amid_line:
                os.write(self._descriptor, b"\n")
                self._is_amid_line = False
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._lost_bytes += len(left)
            self._is_amid_line = self._is_amid_line or 0 < len(left) < len(lines)
            if self._is_told:
                return b""
            self._is_told = True
            why = error.strerror or str(error)
            return self._news_line(f"{self._path} cannot be written: {why}; what it lacks stands on stderr alone")
        if not self._is_told:
            return b""
        lost, self._lost_bytes, self._is_told = self._lost_bytes, 0, False
        return self._news_line(f"{self._path} can be written again; it lacks {lost} bytes")

    def _own_path(self) -> Path:
        role = "worker" if self._pid == self._worker else "child"
        return self._directory / f"{role}-{self._pid}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:  # it was moved, or a task has closed descriptors that are not its own
            return False

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._status = os.fstat(self._descriptor)

    def _let_go(self) -> None:
        """Close the file, unless something else has its number by now."""
        with contextlib.suppress(OSError):  # it is closed
            if self._status and os.path.samestat(os.fstat(self._descriptor), self._status):
                os.close(self._descriptor)
        self._descriptor, self._status = -1, None
