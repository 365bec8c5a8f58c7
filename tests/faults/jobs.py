"""Tasks of the fault matrix. Each attempt that begins or finishes is on disk before anything else happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

from leveret import Reject, RetryLater, task
from tests.faults.logged import faults, logged


@task("faults.work", queue=faults)
def work(seconds: float) -> None:
    """Take so long."""
    with logged():
        time.sleep(seconds)


@task("faults.hold_gil", queue=faults)
def hold_gil(seconds: int) -> None:
    """Take so long in C, without letting go of the GIL."""
    with logged():
        ctypes.PyDLL(None).sleep(seconds)


@task("faults.slow_at_first", queue=faults)
def slow_at_first(seconds: float, marker: str) -> None:
    """Take so long, but only the first time."""
    with logged():
        if not Path(marker).exists():
            Path(marker).touch()
            time.sleep(seconds)


@task("faults.slow_at_first_limited", queue=faults, time_limit=5.0)
def slow_at_first_limited(seconds: float, marker: str) -> None:
    """Do as `slow_at_first` does, within a time limit of five seconds."""
    slow_at_first(seconds, marker)


@task("faults.limited", queue=faults, time_limit=1.0)
def limited(seconds: float) -> None:
    """Take so long, with a time limit of one second."""
    with logged():
        time.sleep(seconds)


@task("faults.fail", queue=faults)
def fail(times: int) -> None:
    """Raise in the first so many attempts."""
    with logged() as number:
        if number <= times:
            raise ValueError(f"attempt {number} of {times} that fail")


@task("faults.ask_later", queue=faults)
def ask_later(times: int, seconds: float, marker: str) -> None:
    """Ask the first so many times to be run so much later; whatever runs leaves a byte in a file."""
    with logged(), Path(marker).open("ab") as asked:
        if asked.tell() < times:
            asked.write(b".")
            raise RetryLater(seconds)


@task("faults.reject", queue=faults)
def reject(seconds: float) -> None:
    """Say after so long that trying again cannot help."""
    with logged():
        time.sleep(seconds)
        raise Reject("no use")


@task("faults.crash", queue=faults)
def crash() -> None:
    """Read address 0: a segmentation fault."""
    with logged():
        ctypes.string_at(0)


@task("faults.exit", queue=faults)
def exit_process() -> None:
    """End the process under the worker's feet."""
    with logged():
        os._exit(7)


@task("faults.eat_memory", queue=faults)
def eat_memory(group: str) -> None:
    """Need more memory than a control group has; without a group, be killed as the kernel kills for that."""
    with logged():
        if not group:
            os.kill(os.getpid(), signal.SIGKILL)
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
        hoard = bytearray()
        for _ in range(1024):
            hoard += b"x" * 2**20


@task("faults.loop", queue=faults, time_limit=0.5)
def loop() -> None:
    """Never end, with a time limit of half a second."""
    with logged():
        while True:
            pass


@task("faults.backtrack", queue=faults, time_limit=0.5)
def backtrack() -> None:
    """Match a regular expression for years in C, keeping the GIL, with a time limit of half a second."""
    with logged():
        re.match(r"(a+)+$", "a" * 60 + "b")


@task("faults.flood", queue=faults)
def flood(lines: int) -> None:
    """Write a lot to where the worker's log goes."""
    with logged():
        for number in range(lines):
            print(f"{number:>99}", file=sys.stderr)


@task("faults.leave_process", queue=faults)
def leave_process() -> None:
    """Start a process that would outlive everything, and return."""
    with logged():
        subprocess.Popen(["sleep", "3600"])


@task("faults.kill_worker", queue=faults)
def kill_worker() -> None:
    """Kill the worker's parent process, which is the parent of the process that forked this one."""
    with logged():
        stat = Path(f"/proc/{os.getppid()}/stat").read_text()
        os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
        time.sleep(60)


@task("faults.flood_parent", queue=faults)
def flood_parent(report: str, leaves: bool) -> None:
    """Write reports to the worker without an end; or have a process do so that outlives the task."""
    with logged():
        frame = struct.pack("!I", len(report)) + report.encode()
        to = _parent_socket()
        if not leaves or os.fork() == 0:
            if leaves:
                os.setsid()
            with contextlib.suppress(OSError):
                while True:
                    to.sendall(frame * 100)
            os._exit(0)
        raise ValueError("it has left a flood behind")


def _parent_socket() -> socket.socket:
    """Return the one socket that a child has."""
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
    raise AssertionError("there is no socket")
