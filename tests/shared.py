"""A session's folder: by its files the workers of pytest-xdist agree on who starts, uses and interrupts the broker."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.topology.local import node

FOLDER = pytest.StashKey[Path]()


@contextlib.contextmanager
def starting_a_node(folder: Path) -> Iterator[None]:
    """Look for the broker one after another. Who may start the node notes that before: a start may be interrupted."""
    with _locked(folder / "start", fcntl.LOCK_EX):
        if node.status() is None:
            _mark(folder).touch()
        yield


def stop_node(folder: Path) -> None:
    """Stop the private node if it runs because of this session."""
    if _mark(folder).exists():
        node.stop()


def end_processes_of(temporary: Path) -> None:
    """End what tests have left behind: after Ctrl-C the workers of pytest-xdist are killed amid their teardown.

    Nodes and workers that tests start know a folder below the session's temporary one from their environment.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or belongs to another user
            if f"={temporary}/".encode() in (process / "environ").read_bytes() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)


def beside_others(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Use the broker, as others may at the same time."""
    return _locked(folder / "use", fcntl.LOCK_SH)


def alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Use the broker while nobody else does. That moment may not come before the others have run out of tests."""
    return _locked(folder / "use", fcntl.LOCK_EX)


def _mark(folder: Path) -> Path:
    return folder / "node-started"


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield
