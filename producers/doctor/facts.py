"""What the checks look at: everything that was gathered, as values. None is what could not be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from leveret.producers.watching.counts import Counts
from leveret.topology.access.rights import Rights
from leveret.topology.names import failed_exchange
from leveret.topology.objects import Binding
from leveret.topology.queues import WorkQueue
from leveret.topology.workers import QueueAtWorker, WorkerInfo

RIGHTS, FLAGS, NODES, OBJECTS, CLOCK = "permissions", "feature flags", "alarms, memory and disk", "queues", "clock"
"""What is asked of the management API, as a finding calls it that misses one."""
MONITORING, ADMINISTRATOR = "monitoring", "administrator"
"""The tags of users who may see all of a virtual host, and all there is."""


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue as the management API describes it; its numbers are some seconds old."""

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    """What all policies together say of it."""
    policies: tuple[tuple[str, str], ...] = ()
    """The `policy` and the `operator_policy` that match it, as (kind, name)."""
    messages: int = 0
    consumers: int = 0
    messages_dlx: int = 0
    """Dead letters that have not yet arrived where they go."""
    in_per_second: float = 0.0
    members: tuple[str, ...] = ()
    online: tuple[str, ...] = ()
    state: str = "running"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node of the broker."""

    name: str
    is_running: bool = True
    memory_alarm: bool = False
    disk_alarm: bool = False
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    disk_free_bytes: int = 0
    disk_limit_bytes: int = 0
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagementFacts:
    """What the management API has told."""

    user: str
    queues: Mapping[str, QueueFacts] | None = None
    exchanges: Mapping[str, str] | None = None
    """Each with its alternate exchange, or an empty name."""
    bindings: frozenset[Binding] | None = None
    nodes: Sequence[NodeFacts] | None = None
    flags: Mapping[str, str] | None = None
    """The state of each feature flag that is not experimental."""
    rights: Rights | None = None
    clock_off_seconds: float | None = None
    """How far the broker's clock is ahead of this machine's, at least; behind it below 0."""
    unanswered: Mapping[str, str] = field(default_factory=dict)
    """What it did not answer, each with why."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """What this user may not see, each with the tag it would need."""

    @property
    def work_queues(self) -> set[str]:
        """The names of the work queues that are on the broker: what others name alike fails into another exchange."""
        return {
            name
            for name, queue in (self.queues or {}).items()
            if queue.arguments.get("x-dead-letter-exchange") == failed_exchange(name)
        }


class TimeLimit(NamedTuple):
    """How many seconds a task may run."""

    task: str
    queue: str
    seconds: float


class Waiting(NamedTuple):
    """What waits in a queue, and how many consume from it."""

    ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was gathered."""

    broker: str
    """Its address and virtual host, without a password."""
    user: str
    vhost: str
    at: float
    """Seconds of the epoch."""
    consumer_timeout_seconds: float
    known: Sequence[WorkQueue] = ()
    """The work queues of the loaded task modules that are looked at."""
    names: Sequence[str] = ()
    """All work queues that are looked at."""
    time_limits: Sequence[TimeLimit] = ()
    cannot_connect: str = ""
    version: tuple[int, ...] = ()
    connect_seconds: float = 0.0
    certificate_ends: float | None = None
    """When the certificate of a broker with TLS is over, in seconds of the epoch."""
    counts: Counts | None = None
    counted: frozenset[str] = frozenset()
    """The queues that were asked for over AMQP."""
    cannot_count: str = ""
    workers: Sequence[WorkerInfo] | None = None
    cannot_ask: str = ""
    unreadable: int = 0
    """Answers that no worker gives."""
    is_blocked: bool = False
    """Whether the broker has told a connection that it takes no messages, as it does in an alarm."""
    management: ManagementFacts = field(default_factory=lambda: ManagementFacts(""))

    def waiting(self, name: str) -> Waiting | None:
        """Return what waits in a queue, and who consumes; None where there is none, or it cannot be seen."""
        if self.counts is not None and name in self.counts:
            return Waiting(self.counts[name], self.counts.consumers.get(name, 0))
        described = (self.management.queues or {}).get(name)
        return Waiting(described.messages, described.consumers) if described else None

    def is_missing(self, name: str) -> bool:
        """Whether there is certainly no such queue."""
        if self.counts is not None and name in self.counted:
            return name not in self.counts and name not in self.counts.refused
        return self.management.queues is not None and name not in self.management.queues

    def is_refused(self, name: str) -> bool:
        """Whether this user may not see a queue over AMQP."""
        return self.counts is not None and name in self.counts.refused

    @property
    def tells_all(self) -> bool:
        """Whether it is known which queues all workers take: each has answered, and none has more than it tells of."""
        cut = any(info.queue_count > len(info.queues) for info in self.workers or ())
        return self.workers is not None and not self.unreadable and not cut

    def at_workers(self, queue: str) -> list[tuple[WorkerInfo, QueueAtWorker]]:
        """Return the workers that take a queue, each with what it tells of it."""
        return [(info, at) for info in self.workers or () for at in info.queues if at.name == queue]

    def known_queue(self, name: str) -> WorkQueue | None:
        """Return the work queue of a task module that has this name."""
        return next((queue for queue in self.known if queue.name == name), None)
