"""How one message is to travel: what `options(…)` of a task returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from leveret.producers import calls, default, later
from leveret.topology import registry
from leveret.topology.errors import MessageError
from leveret.topology.message import Follow, TaskMessage
from leveret.topology.names import Priority, Route

if TYPE_CHECKING:
    from leveret.producers.following.handle import Submitted

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Options(Generic[P, R]):
    """A task together with how its next message travels. Called with the arguments of the task's function.

    Messages of one `id` are one task, and every one of them runs: a web request that is sent twice with an id of its
    own runs the task twice, unless the task, or where it stores what it does, recognises the id.
    """

    task: registry.Defined
    id: str | None = None
    route: Route | None = None
    timeout: float | None = None
    """Seconds that a publish may wait for the broker's confirm; None for the setting."""
    follow: Follow | None = None
    """Whether what becomes of it is told; None for what its task says."""
    priority: Priority | None = None
    """Before or behind which others of its queue it is taken, where that has priorities; None is normal."""
    delay: float | None = None
    """Seconds from when it is made until it is to run."""
    at: datetime | None = None
    """When it is to run, in place of a delay."""
    unique: str | None = None
    """A key that no other task has that has not ended."""
    for_seconds: float | None = None
    """For how long no other has it, even if it has succeeded by then."""

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[R]:
        """Submit the task and return its id, once the broker confirmed it. Raises as `Publisher.publish` does.

        A unique task may be there already: then the id of that one is returned. Raises `NobodyAnswers` for one when no
        recorder runs.
        """
        message, publisher = self._message(*args, **kwargs), default.default_publisher()
        if self.unique is None:
            return publisher.publish(message, timeout=self.timeout)
        return publisher.publish_unique(message, self.unique, self.for_seconds, timeout=self.timeout)

    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[R]:
        """Do as `submit` does, awaitable on any loop."""
        message = self._message(*args, **kwargs)
        publisher = await default.default_publisher_async()
        if self.unique is None:
            return await publisher.publish_async(message, timeout=self.timeout)
        return await publisher.publish_unique_async(message, self.unique, self.for_seconds, timeout=self.timeout)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> TaskMessage:
        """Make the message without sending it, for `submit_many` or `publish`. Raises `MessageError`."""
        if self.timeout is not None:
            raise MessageError("a message keeps no timeout; give it to submit_many or publish, which sends the message")
        if self.unique is not None:
            raise MessageError(
                "a message keeps no key to be unique by, for that is reserved when it is submitted; submit each by "
                "options(unique=…).submit(…)"
            )
        return self._message(*args, **kwargs)

    def _message(self, *args: P.args, **kwargs: P.kwargs) -> TaskMessage:
        follow = self.follow
        if self.unique is not None and follow is None and not self.task.follow:
            follow = "record"  # which is how its end is known
        return calls.make_message(
            self.task,
            args,
            kwargs,
            id=self.id,
            route=self.route,
            follow=follow,
            priority=self.priority,
            due=later.due_of(self.delay, self.at),
        )
