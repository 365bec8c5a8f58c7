"""What a test looks at: the messages that were submitted, the attempts that ran, and the dead messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leveret.consumers.child.board import Progress
from leveret.consumers.child.outcome import Failure
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.verdict import Verdict
from leveret.topology.message import Call, decode


@dataclass(frozen=True)
class Message:
    """A message in a work queue, or on its way back to it. `task`, `args` and `kwargs` are read off its body."""

    delivery: Delivery
    due: float
    """When it can run, in seconds of the test's clock."""

    @property
    def id(self) -> str:
        """The id of the task."""
        return self.delivery.id

    @property
    def queue(self) -> str:
        """The name of the work queue."""
        return self.delivery.queue.name

    @property
    def attempt(self) -> int:
        """Which attempt it will be, counted from 1."""
        return self.delivery.attempt

    @property
    def body(self) -> bytes:
        """The body as it travels."""
        return self.delivery.body

    @property
    def task(self) -> str:
        """The name of the task. Raises `UnreadableMessage` where the body has none; so do `args` and `kwargs`."""
        return self._call.task

    @property
    def args(self) -> list[Any]:
        """The arguments by position, as JSON has them."""
        return self._call.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments by name, as JSON has them."""
        return self._call.kwargs

    @property
    def _call(self) -> Call:
        properties = self.delivery.properties
        return decode(self.body, properties.content_type, properties.content_encoding, len(self.body))


@dataclass(frozen=True)
class Ran:
    """An attempt that ran, and how it ended."""

    id: str
    task: str
    queue: str
    attempt: int
    """Which it was, counted from 1."""
    of: int
    at: float
    """When, in seconds of the test's clock."""
    seconds: float
    """How long it really took."""
    verdict: Verdict
    failure: Failure | None
    """type, message, traceback and fingerprint, as a worker tells them."""
    error: BaseException | None
    """What the task raised."""
    result: Any
    """What a followed task returned, read as `Submitted.result` reads it; None where nobody follows it."""
    progress: Progress | None
    """What it told last of its progress."""


@dataclass(frozen=True)
class Dead:
    """A message in a dead-letter queue, as a worker puts it there."""

    id: str
    task: str
    queue: str
    """The work queue; the message would lie in `<queue>.dlq`."""
    attempts: int
    failure: Failure
    error: BaseException | None
    headers: dict[str, Any]
    body: bytes

    @property
    def reason(self) -> str:
        """Type and message of what it died of."""
        return f"{self.failure.type}: {self.failure.message}"
