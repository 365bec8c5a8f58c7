"""What only RabbitMQ's management API can tell of queues. Its numbers are some seconds old."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from leveret.topology.access.management import Management
from leveret.topology.errors import LeveretError
from leveret.topology.names import ASK_WORKERS_KEY, CONTROL_EXCHANGE
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, vhost_of

_TIMEOUT_SECONDS = 2.0


class Rate(NamedTuple):
    """Of a queue: messages that come in a second, that were delivered and not acknowledged, and who consumes."""

    in_per_second: float
    unacknowledged: int
    consumers: int


class Rates:
    """Asks the management API. Once it has not answered, it is not asked again, and `missing` says why."""

    def __init__(self, configured: Settings) -> None:
        self._api = Management(configured, _TIMEOUT_SECONDS)
        self._vhost = vhost_of(configured.first_amqp_url)
        self.missing = ""

    def workers_bound(self) -> int | None:
        """Return how many queues of workers a question will reach; None where that cannot be known."""
        bindings = self._get("exchanges", self._vhost, CONTROL_EXCHANGE, "bindings", "source")
        if not isinstance(bindings, list):
            return None
        return len([one for one in bindings if isinstance(one, dict) and one.get("routing_key") == ASK_WORKERS_KEY])

    def of(self, queues: Iterable[str]) -> dict[str, Rate]:
        """Return what it says of these queues, of those it knows."""
        found = {}
        for name in queues:
            described = self._get("queues", self._vhost, name)
            if isinstance(described, dict):
                found[name] = _rate(described)
        return found

    def _get(self, *path: str) -> Any:
        if self.missing:
            return None
        try:
            return self._api.call("GET", *path)
        except LeveretError as error:
            self.missing = printable(error)
            return None


def _rate(described: dict[str, Any]) -> Rate:
    stats = described.get("message_stats")
    details = stats.get("publish_details") if isinstance(stats, dict) else None
    rate = details.get("rate") if isinstance(details, dict) else None
    return Rate(
        float(rate) if isinstance(rate, (int, float)) else 0.0,
        _whole(described.get("messages_unacknowledged")),
        _whole(described.get("consumers")),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
