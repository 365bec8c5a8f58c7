"""Processes of a worker: each worker leads a session, by which all of its processes are found, weighed and killed."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

POLL_SECONDS = 0.005
_STOP_SECONDS = 0.5
_TAIL_BYTES = 2000
_PROC = Path("/proc")

T = TypeVar("T")


class Failed(Exception):
    """A measurement that could not be taken; the text goes into the report."""


def wait_until(look: Callable[[], T | None], timeout_seconds: float, what: str) -> T:
    """Look until there is something, and return it. Raises `Failed` when it does not come in time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise Failed(f"waited {timeout_seconds:g} s in vain for {what}")
        time.sleep(POLL_SECONDS)


class Process:
    """A command that runs in a session of its own, with its output in a log file."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, given: bytes = b""
    ) -> None:
        self._log = folder / f"process-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError), self._process.stdin:
            self._process.stdin.write(given)
        self.pid = self._process.pid
        _running.add(self)

    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise `Failed`, with the end of its log, when it has ended."""
        if self.has_ended():
            raise Failed(f"the worker ended with status {self._process.returncode}: {self.log_end()}")

    def log_end(self) -> str:
        """Return the last words of the log."""
        lines = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it wrote nothing"

    def stop(self) -> None:
        """Tell it to stop; kill what is left of its session after a moment."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill all processes of its session."""
        for pid in _session(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not _PROC.exists():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        _running.discard(self)

    def seconds_to_stop(self, timeout_seconds: float) -> float:
        """Tell it to stop, and return how long it took until none of its processes was left."""
        began = time.monotonic()
        self._process.terminate()

        def all_ended() -> bool:
            return self.has_ended() and not any(map(_runs, _session(self.pid)))

        wait_until(all_ended, timeout_seconds, "the worker to stop")
        return time.monotonic() - began

    def pss_mib(self) -> float:
        """Return the proportional set size of all of its processes, in MiB."""
        return sum(map(pss_mib_of, self._members()))

    def cpu_seconds(self) -> float:
        """Return the processor time all of its processes have used."""
        return sum(map(cpu_seconds_of, self._members()))

    def _members(self) -> list[int]:
        if not _PROC.exists():
            raise Failed("memory and processor time are read from /proc, which this system does not have")
        return _session(self.pid)


_running: set[Process] = set()


@atexit.register
def stop_all() -> None:
    """Stop every process that still runs."""
    for process in list(_running):
        process.stop()


def _session(leader: int) -> list[int]:
    """Return the processes of a session: children may have groups and new parents, but stay in it."""
    return [int(entry.name) for entry in _PROC.glob("[0-9]*") if _field(int(entry.name), 3) == leader]


def _field(pid: int, number: int) -> int:
    """Return a number of /proc/PID/stat, counted after the name and the state, 0 for a process that is gone."""
    try:
        return int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[number])
    except (OSError, IndexError):
        return 0


def _runs(pid: int) -> bool:
    """Whether it has not ended; what nobody waits for stays a zombie."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds_of(pid: int) -> float:
    """Return the processor time a process has used, 0 for one that is gone."""
    return (_field(pid, 11) + _field(pid, 12)) / os.sysconf("SC_CLK_TCK")


def pss_mib_of(pid: int) -> float:
    """Return the proportional set size of a process, in MiB, 0 for one that is gone."""
    try:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0) / 1024
