"""Numbers as the text that Prometheus reads, by its own library, which is an extra: `leveret[metrics]`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from leveret.consumers.measuring.server import Page, page_of
from leveret.topology.errors import SettingsError

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
except ImportError as error:
    raise SettingsError(f"metrics need what is not installed: {error}; pip install 'leveret[metrics]'") from error

_PATIENCE_SECONDS = 5.0

Collect = Callable[[], list[Metric]]


class _Collected(NamedTuple):
    metrics: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


def counter(name: str, says: str, *labels: str) -> CounterMetricFamily:
    """Return a counter without samples; its name ends in _total by itself."""
    return CounterMetricFamily(f"leveret_{name}", says, labels=labels)


def gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    """Return a gauge without samples."""
    return GaugeMetricFamily(f"leveret_{name}", says, labels=labels)


def histogram(name: str, says: str, *labels: str) -> HistogramMetricFamily:
    """Return a histogram without samples."""
    return HistogramMetricFamily(f"leveret_{name}", says, labels=labels)


def buckets(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Return the counts of each bucket as Prometheus has them: each holds all that is below its bound."""
    total, found = 0, []
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        total += count
        found.append((f"{bound:g}".replace("inf", "+Inf"), float(total)))
    return found


def metrics_page(collect: Collect) -> Callable[[], Awaitable[Page]]:
    """Return what makes the page. The numbers are collected in the running loop, whose they are; no other waits."""
    loop = asyncio.get_running_loop()
    own = CollectorRegistry()
    ProcessCollector(registry=own)

    async def page() -> Page:
        collected: concurrent.futures.Future[list[Metric]] = concurrent.futures.Future()

        def run() -> None:
            if collected.set_running_or_notify_cancel():
                try:
                    collected.set_result(collect())
                except Exception as error:  # noqa: BLE001 - who asks is told
                    collected.set_exception(error)

        try:
            loop.call_soon_threadsafe(run)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                metrics = await asyncio.wrap_future(collected)
        except (TimeoutError, RuntimeError):  # RuntimeError: it has ended
            return page_of(503, f"the main loop has not answered for {_PATIENCE_SECONDS:g} s")
        registry: Any = _Collected([*metrics, *own.collect()])
        return Page(200, generate_latest(registry), CONTENT_TYPE_LATEST)

    return page
