"""Asking a worker's pages, and what promtool says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest

from tests.broker.support import Worker

_PATIENCE_SECONDS = 10.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Answer:
    """What a page is, at this moment."""

    status: int
    text: str

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of one name, by the values of their labels, whose names are sorted."""
        matches = filter(None, map(_SAMPLE.match, self.text.splitlines()))
        return {
            tuple(value for _, value in _LABEL.findall(one[2] or "")): float(one[3])
            for one in matches
            if one[1] == name
        }


def port_of(worker: Worker, what: str) -> int:
    """The port that was free when the worker began to serve."""
    port: int = worker.await_event("pages are served")[f"{what}_port"]
    return port


def ask(port: int, path: str) -> Answer:
    """Ask for a page, without a proxy of the environment."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE_SECONDS) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def promtool(*words: str, stdin: str = "") -> str:
    """What promtool has to say; it ends with 0 where nothing is wrong."""
    found = shutil.which("promtool")
    if not found:
        pytest.skip("no promtool; it is in Debian's package prometheus")
    ended = subprocess.run([found, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return f"{ended.stdout}{ended.stderr}" if ended.returncode else ""
