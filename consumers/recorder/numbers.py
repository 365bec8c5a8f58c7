"""The numbers of a recorder, for Prometheus. docs/metrics.md has them all."""

from __future__ import annotations

import time

from prometheus_client.metrics_core import Metric

from leveret.consumers.measuring.exposition import counter, gauge
from leveret.consumers.recorder.recorder import Recorder


def collect(recorder: Recorder) -> list[Metric]:
    """Return what a recorder has done since it was started, and where it is."""
    counts, intake = recorder.counts, recorder.intake
    since = recorder.writing_since
    metrics: list[Metric] = []
    for name, says, count in (
        ("recorder_events", "Events that were written into the record.", counts.events),
        ("recorder_refused_events", "Events that were not believed.", counts.refused),
        ("recorder_unreadable_messages", "Messages of events that nobody can read.", counts.unreadable),
        ("recorder_write_failures", "Tries to write that failed, for the record could not be used.", counts.failures),
    ):
        counted = counter(name, says)
        counted.add_metric([], count)
        metrics.append(counted)
    for name, says, value in (
        ("recorder_connected", "Whether this recorder is connected and takes events.", float(intake is not None)),
        (
            "recorder_writing_seconds",
            "How long the batch at hand has been on its way into the record.",
            time.monotonic() - since if since else 0.0,
        ),
        (
            "recorder_waiting_messages",
            "Messages of events that wait on the broker, by its own count some seconds ago.",
            float(intake.waiting) if intake else None,
        ),
    ):
        if value is not None:
            level = gauge(name, says)
            level.add_metric([], value)
            metrics.append(level)
    return metrics
