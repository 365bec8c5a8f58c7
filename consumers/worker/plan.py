"""What a worker was asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from leveret.consumers.running.crew import Recycling
from leveret.topology.queues import WorkQueue


@dataclass(frozen=True)
class Plan:
    """What a worker was asked to do."""

    queues: Sequence[WorkQueue]
    processes: int
    """Of each kind of tasks there are; the most, where `least_processes` says that their number follows the work."""
    prefetch: int | None = None
    """Unacknowledged messages to hold for each queue; None follows how long tasks take."""
    until_empty: bool = False
    """Whether to end when nothing is left to do."""
    may_declare: bool = True
    concurrency: int = 100
    """How many tasks that are `async def` a child runs side by side."""
    threads: int = 1
    """How many of those that allow it a child runs in threads side by side."""
    least_processes: int | None = None
    """The fewest processes of each kind; None for always `processes`."""
    recycling: Recycling = field(default_factory=Recycling)
    """When a child is replaced."""
