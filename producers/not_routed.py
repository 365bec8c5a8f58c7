"""What to do about a message that no queue took: declare the queue of a task that is loaded here, or say what to do."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterable, Sequence, Set
from typing import Any

from leveret.producers.calls import reached_queues
from leveret.topology import names, queues, registry
from leveret.topology.access.management import Management
from leveret.topology.errors import AccessRefused, BrokerError, MessageError, SettingsError
from leveret.topology.link import daemon_thread
from leveret.topology.names import DIRECT_EXCHANGE, MIRRORS, Route
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings, vhost_of

_TIMEOUT_SECONDS = 2.0
_MOST_WAYS = 10_000


class MissingQueues:
    """Declares the queues that messages should have reached, where this program knows them and its user may."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._refused: set[str] = set()  # by the broker, which would refuse again
        self._prepared: set[Route] = set()  # by which delayed messages may go
        self._lock = threading.Lock()

    def declare(self, route: Route) -> bool:
        """Declare what a message should have reached by this route; whether it is worth publishing it again.

        Raises what declaring fails with, but for a missing right, for which somebody else has to declare.
        """
        missing = [queue for queue in reached_queues(route) if queue.name not in self._refused]
        return bool(missing) and daemon_thread.call(self._declare, missing)

    def prepare(self, ways: Iterable[Route]) -> None:
        """See that delayed messages can go by these routes, before they go: nothing would come back.

        Raises `NotRouted` for a queue that is not there, `MessageError` for an exchange to which nothing can be
        delayed, and what declaring fails with.
        """
        if new := set(ways) - self._prepared:
            for way in new:
                if way.exchange not in MIRRORS:
                    raise MessageError(f"what goes to exchange {way.exchange!r} cannot be delayed; publish it without")
            daemon_thread.call(self._prepare, new)

    def _prepare(self, ways: Set[Route]) -> None:
        from leveret.topology.apply.later import prepare  # as below

        reached = {way: reached_queues(way) for way in ways}
        others = [way.routing_key for way in ways if way.exchange == DIRECT_EXCHANGE and not reached[way]]
        with self._lock:
            prepare(
                self._settings,
                list({queue.name: queue for found in reached.values() for queue in found}.values()),
                others,
            )
            if len(self._prepared) > _MOST_WAYS:
                self._prepared.clear()
            self._prepared |= ways

    def forget_prepared(self) -> None:
        """Look again the next time, for the broker has said that something is missing."""
        self._prepared.clear()

    def _declare(self, missing: Sequence[WorkQueue]) -> bool:
        from leveret.topology.apply.declare import declare  # which few producers ever need

        with self._lock:
            try:
                declare(self._settings, missing)
            except AccessRefused:
                self._refused.update(queue.name for queue in missing)
                return False
        return True


def advice(settings: Settings, task: str, route: Route) -> str:
    """Return what to do: the binding nearest to its key, the task nearest to its name, the command that declares."""
    if reached_queues(route):
        return (
            "its queue is known here, and this user may not declare it; let another declare it: leveret declare "
            f"-a {_module_of(task)}"
        )
    keys = _bound_keys(settings, route.exchange)
    if keys is None:  # the management API is not there or not for this user: only this program's queues are known
        keys = _keys_of_known_queues(route.exchange)
    near_task = registry.nearest(task) if registry.get(task) is None else None
    hint = f"did you mean task {near_task!r}? " if near_task else ""
    if not keys:
        return f"{hint}declare the queue that is to take it: leveret declare -a MODULE"
    near = difflib.get_close_matches(route.routing_key, keys, n=1, cutoff=0.0)[0]
    return f"{hint}the nearest binding is {near!r}; correct the key, or declare the queue: leveret declare -a MODULE"


def _module_of(task: str) -> str:
    known = registry.get(task)
    return str(known.function.__module__) if known else "MODULE"


def _bound_keys(settings: Settings, exchange: str) -> list[str] | None:
    """Return the routing keys bound to an exchange, or None where the management API cannot be asked."""
    try:
        bindings: Any = Management(settings, _TIMEOUT_SECONDS).call(
            "GET", "exchanges", vhost_of(settings.first_amqp_url), exchange, "bindings", "source"
        )
    except (BrokerError, SettingsError):
        return None
    if not isinstance(bindings, list):
        return None
    keys = {str(binding.get("routing_key", "")) for binding in bindings if isinstance(binding, dict)}
    return sorted(key for key in keys if "@" not in key)


def _keys_of_known_queues(exchange: str) -> list[str]:
    return sorted(
        key
        for queue in queues.known()
        for key in {
            names.DIRECT_EXCHANGE: (queue.name,),
            names.TOPIC_EXCHANGE: queue.topics,
            names.FANOUT_EXCHANGE: ("",) if queue.fanout else (),
        }.get(exchange, ())
    )
