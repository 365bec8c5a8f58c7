"""A Python that has loaded leveret and forks for each command or program: one costs milliseconds to start.

It is for who wants to see what a command says and how it ends. Where starting is what is tested, start a Python.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leveret.topology.settings import CHECKOUT

_LOADED = [
    "leveret.__main__",
    *(f"leveret.command.{verb}" for verb in ("run", "submit", "declare", "redrive", "users", "completion")),
    "leveret.topology.apply.declare",
    "leveret.producers.publisher",
    "leveret.producers.not_routed",
]


class Warm:
    """Runs `leveret …` and `python …`, one at a time, each in a process of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="leveret-warm-")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.warm"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

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
        assert self._server.stdin
        assert self._server.stdout
        given, *said = streams = [Path(self._folder.name) / name for name in ("in", "out", "err")]
        given.write_text(stdin or "", encoding="utf-8")
        job = {
            "words": words,
            "folder": str(folder),
            "environment": environment,
            "streams": list(map(str, streams)),
            "patience_seconds": patience_seconds,
        }
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(list(words), status, *(path.read_text(encoding="utf-8") for path in said))

    def close(self) -> None:
        self._server.communicate()
        self._folder.cleanup()


def _serve() -> int:
    """Fork for each job that comes, and say with which status it ended. In the fork: run it, and return the status."""
    for module in _LOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            return _run(job)
        print(_end_of(child, job["patience_seconds"]), flush=True)
    return 0


def _end_of(child: int, patience_seconds: float) -> int:
    """Wait for the end of a process, kill it when that does not come, and return its status."""
    late = signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, patience_seconds)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, late)
    return os.waitstatus_to_exitcode(status)


def _run(job: dict[str, Any]) -> int:
    from leveret.__main__ import main

    words = job["words"]
    for number, path in enumerate(job["streams"]):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY), number)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[0:1] = [job["folder"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if words[0] == "leveret":
        sys.path.pop(0)  # a command is not run from the current folder
        return main(words[1:])
    if words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
