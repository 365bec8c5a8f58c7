"""A session's folder: by its files the workers of pytest-xdist agree on who starts, uses and interrupts the broker."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret import BrokerUnreachable
from leveret.topology.local import finding, node

FOLDER = pytest.StashKey[Path]()
_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 4 * 1024**3


def keep_in_memory() -> None:
    """Have this process, and those it starts, keep temporary files in memory, where there is plenty of it.

    A node writes each message to its disk before it confirms it, which took a seventh of all processor time. The fault
    matrix, which is about what is on disk, does not use this.
    """
    if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES:
        os.environ["TMPDIR"], tempfile.tempdir = str(_MEMORY), None


def find_broker(folder: Path) -> finding.Broker:
    """Return the broker that is named or runs here; else a node of this session's own, which all its processes use.

    Where no rabbitmq-server is installed it is as with every command that starts one. Raises as `finding.find` does.
    """
    with _locked(folder / "start", fcntl.LOCK_EX):
        own = node_folder(folder)
        if (running := node.status(own)) is None:
            try:
                return finding.find()
            except BrokerUnreachable:
                if os.environ.get("AMQP_URL"):
                    raise
            if node.find_server() is None:
                _mark(folder).touch()  # before that, for a start may be interrupted
                return finding.find(start=True)
            running = node.start(own)
        return finding.Broker(running.amqp_url, running.management_url, f"a node of the tests' own in {own}")


def node_folder(folder: Path) -> Path:
    """Return where a node of the session's own lives."""
    return folder / ".rabbitmq"


def folder_of(broker: finding.Broker, folder: Path) -> Path | None:
    """Return where the broker that was found lives, if it is a private node: this session's or that of the checkout."""
    nodes = map(node.status, (node_folder(folder), None))
    return next((one.folder for one in nodes if one and one.amqp_url == broker.amqp_url), None)


def stop_node(folder: Path) -> None:
    """Stop the node that runs because of this session, if one does."""
    node.stop(node_folder(folder))
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
