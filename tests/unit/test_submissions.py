"""What was submitted is told together, and never lost when who has submitted it closes."""

from __future__ import annotations

import asyncio
from typing import Any

from leveret.producers.submissions import Submissions
from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.link.outbox import Outgoing
from leveret.topology.message import Follow, TaskMessage
from leveret.topology.names import Route

ROUTE = Route.direct("mail")


class FakeOutbox:
    """Keeps what it is to send."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.has_sent = asyncio.Event()

    def send(self, outgoing: Outgoing, _on_published: object) -> None:
        self.sent.append(outgoing)
        self.has_sent.set()

    @property
    def told(self) -> list[list[str]]:
        """The ids in each message."""
        read = [events.read(one.body) for one in self.sent]
        assert {one.kind for one in read} <= {Kind.SUBMITTED}
        return [[event["id"] for event in one.events] for one in read]


def confirmed(*ids: str, follow: Follow = True) -> list[tuple[TaskMessage, Route]]:
    return [(TaskMessage.create("mail.send", id=one, follow=follow), ROUTE) for one in ids]


def test_what_comes_one_after_the_other_is_told_together() -> None:
    """Nothing of it at once: who has submitted goes on first."""

    async def submit() -> list[list[str]]:
        outbox: Any = FakeOutbox()
        submissions = Submissions(outbox)
        for one in ("a", "b", "c"):
            submissions.add(confirmed(one))
        assert not outbox.sent
        await outbox.has_sent.wait()
        return list(outbox.told)

    assert asyncio.run(submit()) == [["a", "b", "c"]]


def test_what_is_only_recorded_is_told_at_once() -> None:
    """Its process may be gone the next moment; what was held goes with it."""

    async def submit() -> list[list[str]]:
        outbox: Any = FakeOutbox()
        submissions = Submissions(outbox)
        submissions.add(confirmed("a"))
        submissions.add(confirmed("b", follow="record"))
        return list(outbox.told)

    assert asyncio.run(submit()) == [["a", "b"]]


def test_nothing_is_held_while_it_closes() -> None:
    """The outbox waits for what it has, and for nothing that comes after that."""

    async def submit() -> list[list[str]]:
        outbox: Any = FakeOutbox()
        submissions = Submissions(outbox)
        submissions.add(confirmed("a"))
        submissions.close()
        submissions.add(confirmed("b"))
        return list(outbox.told)

    assert asyncio.run(submit()) == [["a"], ["b"]]


def test_many_are_told_in_parts() -> None:
    """A message of events has a bound."""

    async def submit() -> list[list[str]]:
        outbox: Any = FakeOutbox()
        submissions = Submissions(outbox)
        submissions.add(confirmed(*map(str, range(1001))))
        submissions.close()
        return list(outbox.told)

    assert [len(part) for part in asyncio.run(submit())] == [500, 500, 1]
