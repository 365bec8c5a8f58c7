"""A Python that has loaded leveret and forks for each command or program: an example costs milliseconds to start."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from leveret.topology.settings import CHECKOUT

_LOADED = [
    "leveret.__main__",
    *(f"leveret.command.{verb}" for verb in ("run", "submit", "declare", "redrive", "users", "completion")),
    "leveret.topology.apply.declare",
    "leveret.producers.publisher",
    "leveret.producers.not_routed",
]


class Warm:
    """Runs `leveret …` and `python FILE`, one at a time, each in a process of its own."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.doc_warm"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run to its end, in this folder and environment."""
        assert self._server.stdin
        assert self._server.stdout
        streams = [folder.parent / f"{folder.name}.{stream}" for stream in ("out", "err")]
        job = {"words": words, "folder": str(folder), "environment": environment, "streams": list(map(str, streams))}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        said, complained = (stream.read_text(encoding="utf-8") for stream in streams)
        return subprocess.CompletedProcess(list(words), status, said, complained)

    def close(self) -> None:
        self._server.communicate()


def _serve() -> int:
    """Fork for each job that comes, and say with which status it ended. In the fork: run it, and return the status."""
    for module in _LOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


def _run(job: dict[str, object]) -> int:
    from leveret.__main__ import main

    words, streams = job["words"], job["streams"]
    assert isinstance(words, list)
    assert isinstance(streams, list)
    for number, path in enumerate([os.devnull, *streams]):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
        os.dup2(os.open(path, flags), number)
    os.chdir(str(job["folder"]))
    os.environ.clear()
    os.environ.update(job["environment"])  # type: ignore[call-overload]
    if words[0] == "leveret":
        return main(words[1:])
    sys.argv, sys.path[0] = words[1:], str(job["folder"])
    runpy.run_path(words[1], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
