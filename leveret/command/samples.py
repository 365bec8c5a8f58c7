"""Where the samples are, for commands that were told of no task module."""

from __future__ import annotations

SAMPLES = "leveret.consumers.samples"
"""The tasks."""
SAMPLE_QUEUES = "leveret.producers.examples.samples"
"""Their queues alone."""
QUEUE_NAMES = ("words", "treasure")
TASK_NAMES = ("words.count", "treasure.search")
"""The first is what `leveret submit --samples` submits."""
