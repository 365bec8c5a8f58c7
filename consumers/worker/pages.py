"""What a worker serves over HTTP, where it was asked to: its numbers, whether it lives, whether it is ready."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from leveret.consumers.measuring.depths import Depths, OpenChannel
from leveret.consumers.measuring.doors import Doors
from leveret.consumers.measuring.health import Health, Seen
from leveret.consumers.measuring.server import Page, Pages, page_of
from leveret.consumers.worker.worker import Worker
from leveret.topology.settings import Settings


def open_doors(configured: Settings) -> Doors:
    """Take the ports that the settings name. Raises `CannotListen`, or `SettingsError` for what is not installed."""
    if configured.metrics:
        import leveret.consumers.measuring.exposition  # noqa: F401 - needs an extra, which is said before all begins
    return Doors({"metrics": configured.metrics, "health": configured.health})


@contextlib.contextmanager
def serving(doors: Doors, worker: Worker) -> Iterator[None]:
    """Serve the pages of a worker meanwhile. To be called in its loop."""
    with contextlib.ExitStack() as ends:
        pages: dict[str, Pages] = {"health": _health_pages(worker, ends)}
        if worker.counting:
            pages["metrics"] = _metrics_pages(worker, ends)
        ends.enter_context(doors.serving(pages))
        yield


def _metrics_pages(worker: Worker, ends: contextlib.ExitStack) -> Pages:
    from leveret.consumers.measuring.exposition import metrics_page  # what they need is an extra
    from leveret.consumers.measuring.numbers import Numbers

    def connection() -> OpenChannel | None:
        consumer = worker.consumer
        return consumer.open_channel if consumer else None

    assert worker.counting
    depths = Depths(worker.queues, connection)
    ends.callback(depths.stop)
    numbers = Numbers(
        worker.counting,
        worker.pool,
        worker.told,
        worker.outbox,
        lambda: depths.messages,
        lambda: worker.consumer is not None,
    )
    return {"/metrics": metrics_page(numbers.collect)}


def _health_pages(worker: Worker, ends: contextlib.ExitStack) -> Pages:
    pool = worker.pool
    health = Health(lambda: Seen(worker.consumer is not None, pool.owing, len(pool.waiting), bool(pool.children)))
    ends.callback(health.stop)

    async def healthz() -> Page:
        stuck = health.stuck
        return page_of(503, f"stuck: {stuck}") if stuck else page_of(200, "alive")

    async def readyz() -> Page:
        if worker.is_stopping:
            return page_of(503, "not ready: stopping")
        if worker.consumer is None:
            return page_of(503, "not ready: not connected to the broker")
        return page_of(200, "ready")

    return {"/healthz": healthz, "/readyz": readyz}
