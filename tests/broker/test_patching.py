"""Task modules that change the standard library: their tasks get that, and the worker around them goes on as ever."""

from __future__ import annotations

import signal

import pytest

from leveret import Route
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers

pytestmark = pytest.mark.once  # it is between a worker and its children

TASKS = ["tests.broker.patching_jobs"]


@pytest.mark.parametrize("way", ["timeout", "gevent"])
def test_what_a_module_patches_stays_with_the_tasks(vhost: Vhost, workers: Workers, way: str) -> None:
    """Children wait for orders, are replaced when they die, and are killed at the limit; SIGTERM is answered."""
    if way == "gevent":
        pytest.importorskip("gevent")
    worker = workers.start("--processes", "2", tasks=TASKS, PATCHING=way)
    for task_id in ("dies", "dies-too"):
        vhost.publish_task(Route.direct(jobs.name), "jobs.die_once", task_id)
    for task_id in ("dies", "dies-too"):
        worker.await_event("retry", id=task_id)
        worker.await_event("done", id=task_id, attempt=2)
    vhost.publish_task(Route.direct(jobs.name), "jobs.wait", "waits", seconds=0.5)
    vhost.publish_task(Route.direct(jobs.name), "jobs.wait", "overruns", seconds=60)
    worker.await_event("done", id="waits")
    overrun = worker.await_event("retry", id="overruns")["error"]

    assert overrun.startswith("TimeLimitExceeded")
    worker.signal(signal.SIGTERM)
    worker.await_event("stopped")
    assert worker.wait() == 0, worker.text
    assert worker.text == ""
