"""What the processes of one test session share: a folder, and the private node that was started for them."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from leveret.topology import limits, queues, registry
from tests import shared
from tests.side_by_side import Scheduling

hypothesis.settings.register_profile(
    "a busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("a busy machine")


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder; a worker of pytest-xdist is told which one its session has."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell ignores it for what a script starts with "&"
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(config, "workerinput", {}).get("shared")
    if not given:
        shared.keep_in_memory()
    config.stash[shared.FOLDER] = Path(given or tempfile.mkdtemp(prefix="leveret-tests-"))


@pytest.fixture(autouse=True)
def what_is_defined() -> Iterator[None]:
    """Tasks and queues that a test defines or forgets are no matter of the others in its process."""
    known: tuple[dict[str, Any], ...] = (registry._tasks, queues._known, limits._known)
    before = [dict(one) for one in known]
    yield
    for one, was in zip(known, before, strict=True):
        one.clear()
        one.update(was)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell it, before the worker starts."""
    node.workerinput["shared"] = str(node.config.stash[shared.FOLDER])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Spread the tests one by one, but for those that are quicker together."""
    return Scheduling(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the node here, where no worker runs any more, however the workers ended."""
    if hasattr(config, "workerinput"):
        return
    folder = config.stash[shared.FOLDER]
    shared.stop_node(folder)
    shutil.rmtree(folder)
    shared.end_processes_of(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
