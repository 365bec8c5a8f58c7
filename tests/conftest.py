"""What the processes of one test session share: a folder, and the private node that was started for them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import shared


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder; a worker of pytest-xdist is told which one its session has."""
    given = getattr(config, "workerinput", {}).get("shared")
    config.stash[shared.FOLDER] = Path(given or tempfile.mkdtemp(prefix="leveret-tests-"))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that need a broker alone in one process, which starts one node for them."""
    for item in items:
        if item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.xdist_group("alone"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell it, before the worker starts."""
    node.workerinput["shared"] = str(node.config.stash[shared.FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the node here, where no worker runs any more, however the workers ended."""
    if hasattr(config, "workerinput"):
        return
    folder = config.stash[shared.FOLDER]
    shared.stop_node(folder)
    shutil.rmtree(folder)
