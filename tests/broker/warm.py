"""A Python that has loaded leveret and forks for each command, worker or program: one costs milliseconds to start.

It is for who wants to see what a command says, what a worker does, and how it ends. Where starting is what is tested,
start a Python.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from leveret.consumers.child.process import die_with_parent
from leveret.topology.settings import CHECKOUT

_LOADED = [
    "leveret.__main__",
    *(f"leveret.command.{verb}" for verb in ("run", "submit", "declare", "redrive", "users", "completion")),
    *(f"leveret.command.{verb}" for verb in ("recorder", "schedule", "status", "listing", "logs", "events", "info")),
    "leveret.topology.apply.declare",
    "leveret.producers.publisher",
    "leveret.producers.not_routed",
    "leveret.consumers.running.shared_crew",
    "leveret.consumers.recorder.recorder",
]
_LONGEST_JOB_BYTES = 4 * 1024 * 1024


class Forked:
    """A process that the warm Python has forked, with what a `subprocess.Popen` has of it."""

    def __init__(self, warm: Warm, pid: int, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._warm = warm
        self._ending = threading.Lock()
        self._descriptor = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._descriptor)

    def poll(self) -> int | None:
        """Return how it ended; None when it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return how it ended. Raises `subprocess.TimeoutExpired`."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        if not poller.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        with self._ending:
            if self.returncode is None:
                self.returncode = self._warm.status_of(self.pid)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Warm:
    """Runs `leveret …` and `python …`, each in a process of its own that ends with this one at the latest."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.broker.warm", str(theirs.fileno())],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._answers = self._socket.makefile()

    def start(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
    ) -> Forked:
        """Start in this folder and environment, with these streams, or `subprocess.PIPE` for what is to be read."""
        job = {"words": words, "folder": str(folder), "environment": dict(environment)}
        streams, read = [stdin, stdout, stderr], dict[int, IO[str]]()
        with contextlib.ExitStack() as theirs:
            for number in (1, 2):
                if streams[number] == subprocess.PIPE:
                    reading, streams[number] = os.pipe()
                    theirs.callback(os.close, streams[number])
                    read[number] = os.fdopen(reading, encoding="utf-8")
            return Forked(self, self._ask(job, streams), read.get(1), read.get(2))

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        stdin: str | None = None,
        patience_seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run to its end, in this folder and environment; without a text for it, stdin is empty.

        After so many seconds it is killed, which its status tells.
        """
        with contextlib.ExitStack() as stack:
            given, *said = (stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(3))
            given.write(stdin or "")
            given.seek(0)
            process = self.start(words, folder, environment, *(file.fileno() for file in (given, *said)))
            try:
                process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            for file in said:
                file.seek(0)
            status = process.wait()
            return subprocess.CompletedProcess(list(words), status, *(file.read() for file in said))

    def status_of(self, pid: int) -> int:
        """Wait for the end of what was started here and return its status, once."""
        return self._ask({"ended": pid})

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self._server.wait()

    def _ask(self, job: Mapping[str, object], streams: Sequence[int] = ()) -> int:
        text = json.dumps(job).encode() + b"\n"
        with self._asking:
            sent = self._socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))])
            self._socket.sendall(text[sent:])
            return int(self._answers.readline())


def _serve(asked: socket.socket) -> int:
    """Fork for each job that comes, and tell which process it is; or how one ended. In the fork: run the job."""
    for module in _LOADED:
        importlib.import_module(module)
    gc.freeze()  # else each process that ends looks at all of it once more
    while asking := _receive(asked):
        job, streams = asking
        if ended := job.get("ended"):
            answer = os.waitstatus_to_exitcode(os.waitpid(ended, 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                asked.close()
                _leave(_run(job, streams))
            for stream in streams:
                os.close(stream)
        asked.sendall(f"{answer}\n".encode())
    return 0


def _receive(asked: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next job and its standard streams; None when nobody asks any more."""
    text, streams, _, _ = socket.recv_fds(asked, _LONGEST_JOB_BYTES, 3)
    while text and not text.endswith(b"\n"):
        text += asked.recv(_LONGEST_JOB_BYTES)
    return (json.loads(text), streams) if text else None


def _run(job: dict[str, Any], streams: list[int]) -> int:
    """Do in this process what the job says, and return its exit status. What it raises ends the process as ever."""
    from leveret.__main__ import main

    die_with_parent()
    words = job["words"]
    for number, (stream, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(stream, number)
        os.close(stream)
        _open_stream(number, name)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[0:1] = [job["folder"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if words[0] == "leveret":
        sys.path.pop(0)  # a command is not run from the current folder
        return main(words[1:])
    try:
        if words[1] == "-m":
            sys.argv = words[2:]
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:]
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        return end.code or 0
    return 0


def _leave(status: int) -> NoReturn:
    """End as Python does, but for taking apart all that was loaded, which takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _open_stream(number: int, name: str) -> None:
    """Make it anew, as Python does when it starts: what may be done with it depends on what it is."""
    is_error = name == "stderr"
    stream = open(  # noqa: SIM115 - it stays open as long as the process
        number,
        "w" if number else "r",
        buffering=1 if is_error or os.isatty(number) else -1,
        errors="backslashreplace" if is_error else None,
        closefd=False,
    )
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
