"""The fixtures for pytest. It loads this in every run, so nothing else is loaded before a test asks for a fixture."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TYPE_CHECKING = False

if TYPE_CHECKING:
    from leveret.testing.broker import OwnBroker
    from leveret.testing.in_process import Inline


@pytest.fixture
def leveret_inline() -> Iterator[Inline]:
    """Queues and a worker in the process of the test: what it submits runs when it says `leveret_inline.run()`."""
    from leveret.testing.publishing import inline

    with inline() as here:
        yield here


@pytest.fixture
def leveret_broker(tmp_path: Path) -> Iterator[OwnBroker]:
    """A virtual host of the test's own on a real RabbitMQ, with the queues of the loaded modules declared in it.

    Where there is no RabbitMQ, or its user may make no virtual host, the test is skipped; it fails where CI is set.
    """
    from leveret.testing.broker import NoBroker, own_broker

    with contextlib.ExitStack() as stack:
        try:
            broker = stack.enter_context(own_broker(tmp_path))
        except NoBroker as error:
            (pytest.fail if "CI" in os.environ else pytest.skip)(f"leveret_broker: {error}")
        yield broker
