"""A task of the fault matrix that does not end when it is cancelled."""

from __future__ import annotations

import contextlib
import time

from leveret import task
from tests.faults import jobs
from tests.faults.logged import faults, logged

OTHERS = jobs
"""Loaded beside it."""


@task("faults.stubborn", queue=faults, time_limit=60.0)
def stubborn() -> None:
    """Go on whatever is raised."""
    with logged():
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)
