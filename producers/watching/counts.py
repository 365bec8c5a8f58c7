"""How many messages are ready in queues, over AMQP alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leveret.topology.errors import AccessRefused, TopologyError
from leveret.topology.link.asking import Asking, open_channel


class Counts(dict[str, int]):
    """Ready messages by queue. What is not in it is not there, or in `refused`: this account may not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.consumers: dict[str, int] = {}
        self.refused: set[str] = set()

    def of(self, names: Iterable[str]) -> int | None:
        """Return how many are ready in these together; None where one may not be seen."""
        names = list(names)
        return None if self.refused.intersection(names) else sum(self.get(name, 0) for name in names)


async def ready_messages(connection: Any, names: Iterable[str]) -> Counts:
    """Count what is ready. Raises `BrokerUnreachable` when the connection ends, or the broker does not answer."""
    counts = Counts()
    channel: Any = None
    for name in names:
        if channel is None:
            channel = await open_channel(connection)
        try:
            counts[name], counts.consumers[name] = await _count(channel, name)
        except TopologyError:  # the broker closes the channel of who asks for a queue that is not there
            channel = None
        except AccessRefused:
            counts.refused.add(name)
            channel = None
    if channel is not None and channel.is_open:
        channel.close()
    return counts


async def _count(channel: Any, name: str) -> tuple[int, int]:
    asking = Asking(channel, f"queue {name!r}")
    answer = await asking.ask(lambda answer: channel.queue_declare(name, passive=True, callback=answer))
    return int(answer.method.message_count), int(answer.method.consumer_count)
