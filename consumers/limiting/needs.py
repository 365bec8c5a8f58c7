"""Which tokens a delivery needs, by its queue and its task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leveret.consumers.settling.delivery import Delivery
from leveret.topology import registry
from leveret.topology.errors import MessageError, SettingsError
from leveret.topology.limits import Tokens, tokens_of
from leveret.topology.message import decode
from leveret.topology.queues import WorkQueue


class Needs:
    """Knows the limits of these queues and their tasks."""

    def __init__(self, queues: Iterable[WorkQueue]) -> None:
        self._of_queue: dict[str, Sequence[Tokens]] = {}
        self._to_read: set[str] = set()
        """Queues of whose messages the task has to be known."""
        for queue in queues:
            self._of_queue[queue.name] = _in_order(tokens_of(queue.limit) if queue.limit else ())
            if any(task.limit for task in registry.of_queue(queue)):
                self._to_read.add(queue.name)

    def of(self, delivery: Delivery) -> Sequence[Tokens]:
        """Return the tokens that a delivery needs, in the order in which they are to be taken.

        Raises `MessageError` for arguments that make no key. What else is wrong with a message its child says.
        """
        name = delivery.queue.name
        of_queue = self._of_queue[name]
        if name not in self._to_read:
            return of_queue
        properties, body = delivery.properties, delivery.body
        try:
            call = decode(body, properties.content_type, properties.content_encoding, len(body))
        except MessageError:
            return of_queue
        delivery.task = call.task
        task = registry.get(call.task)
        if task is None or task.limit is None:
            return of_queue
        key = ""
        if task.limit.key:
            try:
                key = task.limit_key(call.args, call.kwargs)
            except TypeError:  # they are not those of the function
                return of_queue
        return _in_order([*of_queue, *tokens_of(task.limit, key)])


def check_time_limits(queues: Sequence[WorkQueue], consumer_timeout_seconds: float) -> None:
    """Raise `SettingsError` for a task whose token the broker would give away while it runs."""
    for queue in queues:
        for task in registry.of_queue(queue):
            limits = [limit for limit in (queue.limit, task.limit) if limit and limit.at_once]
            if limits and task.time_limit >= consumer_timeout_seconds:
                raise SettingsError(
                    f"task {task.name} may run for {task.time_limit:g} s, but the broker gives the token of its limit "
                    f"{limits[0].name!r} to another after {consumer_timeout_seconds:g} s; lower its time_limit, or "
                    "raise the broker's consumer_timeout and CONSUMER_TIMEOUT_SECONDS"
                )


def _in_order(tokens: Iterable[Tokens]) -> Sequence[Tokens]:
    return sorted(dict.fromkeys(tokens), key=lambda one: one.rank)
