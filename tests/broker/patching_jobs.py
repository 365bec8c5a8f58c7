"""A task module that changes the standard library for its whole process, by the way that PATCHING names."""

from __future__ import annotations

import importlib
import os
import socket

from leveret import WorkQueue, current_attempt, task

if os.environ["PATCHING"] == "gevent":
    importlib.import_module("gevent.monkey").patch_all()
else:
    socket.setdefaulttimeout(0.2)

jobs = WorkQueue("jobs", retry_delays=(0.3, 0.6), fanout=True)


@task("jobs.die_once", queue=jobs)
def die_once() -> None:
    """End the process in the first attempt."""
    if current_attempt().number == 1:
        os._exit(7)


@task("jobs.wait", queue=jobs, time_limit=2)
def wait(seconds: float) -> str:
    """Wait in the way that the module has chosen."""
    import time

    time.sleep(seconds)
    return type(socket.socket()).__module__
