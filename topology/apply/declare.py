"""Declare the topology on the broker.

Declaring is idempotent. A queue that exists with other arguments is an error that says what to do; a changed
retry plan is not: new tiers are declared, and messages in the old ones still come back by themselves. Nor is it one
that a queue gets priorities, or has them no longer: what leads to it is bound anew, in an order in which no message is
lost or comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import kombu
from amqp import exceptions as amqp_errors
from amqp import spec

from leveret.topology import names, queues, registry, settings
from leveret.topology.apply.connecting import declaring
from leveret.topology.errors import AccessRefused, TopologyError, TopologyMismatch
from leveret.topology.ladder import ladder
from leveret.topology.link.default_broker import resolve
from leveret.topology.objects import (
    CONTROL,
    Binding,
    Exchange,
    Queue,
    Table,
    control_streams,
    objects_of,
    shared_exchanges,
)
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, vhost_of

_TRIES = 10
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>\w+) '(?P<name>[^']+)' in vhost .*?: "
    r"received (?:the value )?(?P<wanted>.+?) but current is (?:the value )?(?P<current>.+)"
)


class _InternalExchange(kombu.Exchange):  # type: ignore[misc]  # kombu has no types
    """An exchange that only the broker publishes to. kombu and py-amqp leave AMQP's `internal` bit off."""

    def declare(self, nowait: bool = False, passive: bool | None = None, channel: Any = None) -> None:
        """Declare the exchange with its `internal` bit set; the arguments are kombu's."""
        (channel or self.channel).send_method(
            spec.Exchange.Declare,
            "BssbbbbbF",
            (0, self.name, self.type, bool(passive), True, False, True, nowait, self.arguments or {}),
            wait=None if nowait else spec.Exchange.DeclareOk,
        )


def declare(configured: Settings | None = None, work_queues: Iterable[queues.WorkQueue] | None = None) -> list[str]:
    """Declare the shared exchanges and everything the work queues consist of, with the tokens of their limits.

    By default that is all of this program.

    Returns what somebody has to see to: where a queue has lost its priorities, what still waits in its levels; and
    which queues `leveret apply` makes anew, for those are left to it.
    Without settings those of the environment hold. Raises `TopologyMismatch` when an object exists with other
    arguments, `AccessRefused` without the right to configure, `BrokerUnreachable` when nothing answers,
    `TopologyError` for anything else that goes wrong.
    """
    settings_used = configured or resolve(settings.load())
    found = queues.known() if work_queues is None else tuple(work_queues)
    to_see_to = _declare(settings_used, [shared_exchanges(), *map(objects_of, found)])
    if any(map(registry.limits_of, found)):
        from leveret.topology.tokens import declare_tokens  # most programs have no limits

        declare_tokens(settings_used, found)
    return to_see_to


def declare_streams(configured: Settings) -> None:
    """Declare what keeps cancels and pauses for workers that start later; raises as `declare` does.

    Workers do without where it is missing, so that is apart from what they need.
    """
    _declare(configured, [Table((CONTROL,)), control_streams()])


def declare_ladder(configured: Settings) -> None:
    """Declare what delayed messages go through; raises as `declare` does.

    That takes a second or two the first time, so only who delays has it.
    """
    _declare(configured, [shared_exchanges(), ladder()])


def _declare(settings_used: Settings, tables: Sequence[Table]) -> list[str]:
    notes: list[str] = []
    for tries_left in reversed(range(_TRIES)):
        try:
            with declaring(settings_used) as connection:
                for table in tables:
                    notes += _declare_table(connection, table, vhost_of(settings_used.first_amqp_url))
            break
        except amqp_errors.NotFound as error:  # somebody else replaces an exchange this moment
            if not tries_left:
                raise _failed(error) from error
        except (amqp_errors.AMQPError, OSError) as error:
            raise _failed(error) from error
    return notes


def _declare_table(connection: Any, table: Table, vhost: str) -> list[str]:
    replaced = ""
    notes: list[str] = []
    if table.changing and _is_being_changed(connection, table.changing):
        work_queue = table.changing.removeprefix(names.HELD_PREFIX)
        return [
            f"queues of {work_queue!r} are being made anew, so nothing of it was declared; "
            "if no leveret apply is at work, run it again, and it ends what it began"
        ]
    for exchange in map(_kombu_exchange, table.exchanges):
        try:
            _apply(connection, vhost, lambda channel, e=exchange: e.declare(channel=channel))
        except TopologyMismatch as error:
            replaced = _former_retry_plan(error)
            if not replaced:
                raise
            if table.levels and names.spells_levels(replaced, exchange.name.removesuffix(".failed")):
                notes = _leave_levels(connection, vhost, table)
            _apply(connection, vhost, lambda channel, e=exchange: _replace(channel, e))
    by_name = {queue.name: _kombu_queue(queue) for queue in table.queues}
    for queue in by_name.values():
        _apply(connection, vhost, lambda channel, q=queue: q.queue_declare(channel=channel))
    _bind(connection, vhost, table.bindings)
    _unbind(connection, vhost, table.former_bindings)
    _bind(connection, vhost, table.last_bindings)
    if replaced:
        _apply(connection, vhost, lambda channel: channel.exchange_delete(replaced))
    for last in map(_kombu_exchange, table.last_exchanges):
        _apply(connection, vhost, lambda channel, e=last: e.declare(channel=channel))
    return notes


def _is_being_changed(connection: Any, exchange: str) -> bool:
    """Ask by deleting it if it is unused, which it never is where it is: to ask for it would, where it is not there,
    be an error in the broker's log at each start of a worker.
    """
    try:
        with connection.channel() as channel:
            channel.exchange_delete(exchange, if_unused=True)
    except amqp_errors.PreconditionFailed:
        return True
    except amqp_errors.AccessRefused:  # whoever may not do that has rights of before
        return False
    return False


def _bind(connection: Any, vhost: str, bindings: Sequence[Binding]) -> None:
    """Bind without waiting for each answer; the answer to the last one brings a refusal of any."""

    def bind(channel: Any) -> None:
        for number, (name, exchange, key, arguments, is_exchange) in enumerate(bindings, start=1):
            operation = channel.exchange_bind if is_exchange else channel.queue_bind
            operation(name, exchange, key, nowait=number < len(bindings), arguments=dict(arguments))

    _apply(connection, vhost, bind)


def _unbind(connection: Any, vhost: str, bindings: Iterable[Binding]) -> None:
    """Unbind what may be bound, of queues and exchanges that may be there."""

    def unbind(channel: Any) -> None:
        for name, exchange, key, arguments, is_exchange in bindings:
            operation = channel.exchange_unbind if is_exchange else channel.queue_unbind
            operation(name, exchange, key, arguments=dict(arguments))

    _apply(connection, vhost, unbind)


def _leave_levels(connection: Any, vhost: str, table: Table) -> list[str]:
    """Lead what went to the levels of a queue to the queue itself; returns what to say of those in which some wait.

    A queue takes a message once, by however many ways it comes. So first all goes by the entrance into the queue, then
    straight there as well, and then only straight.
    """
    of_levels = [binding for binding in table.levels if not binding.is_exchange]
    through = [binding for binding in table.levels if binding.is_exchange]
    ways = {(binding.exchange, binding.routing_key) for binding in through}
    _unbind(connection, vhost, of_levels)
    _bind(connection, vhost, [one for one in table.bindings if (one.exchange, one.routing_key) in ways])
    _unbind(connection, vhost, through)
    waiting = {level: _count_waiting(connection, level) for level, *_ in of_levels}
    return [
        f"{count} message(s) wait in {level}, of a queue that has no priorities any more; no worker takes them but one "
        "whose module still has them: leveret run --no-declare --until-empty -a THAT_MODULE"
        for level, count in waiting.items()
        if count
    ]


def _count_waiting(connection: Any, queue: str) -> int:
    try:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
    except amqp_errors.NotFound:  # somebody has deleted it
        connection.close()
        connection.connect()
        return 0


def _kombu_exchange(exchange: Exchange) -> Any:
    kind = _InternalExchange if exchange.internal else kombu.Exchange
    return kind(exchange.name, exchange.type, durable=True, arguments=dict(exchange.arguments))


def _kombu_queue(queue: Queue) -> Any:
    return kombu.Queue(queue.name, durable=True, queue_arguments=queue.arguments)


def _former_retry_plan(error: TopologyMismatch) -> str:
    """Return the alternate exchange of the former retry plan, if a changed plan is what the error is about."""
    match = _INEQUIVALENT.search(str(error.__cause__))
    if not match or match["argument"] != "alternate-exchange":
        return ""
    former = match["current"].split("'")[1] if "'" in match["current"] else ""
    queue = match["name"].removesuffix(".failed")
    return former if former.startswith(names.failed_exchange(queue) + ".first.") else ""


def _replace(channel: Any, exchange: Any) -> None:
    """Delete the exchange with its bindings to the former tiers and declare it anew.

    Without this a failed message would go to the old tier and to the new one. Messages nacked in between stay
    in their queue: at-least-once dead-lettering tries again (within 180 s) once the exchange is back.
    """
    channel.exchange_delete(exchange.name)
    exchange.declare(channel=channel)


def _failed(error: Exception) -> TopologyError:
    said = printable(error) or type(error).__name__
    return TopologyError(f"the broker could not declare the topology: {said}; try again")


def _apply(connection: Any, vhost: str, operation: Any) -> None:
    """Run one operation on a channel of its own, for an error closes the channel, and translate the error."""
    channel = connection.default_channel
    try:
        operation(channel)
    except amqp_errors.PreconditionFailed as error:
        connection.close()
        connection.connect()
        raise _mismatch(error) from error
    except (amqp_errors.AccessRefused, amqp_errors.NotAllowed) as error:
        raise AccessRefused(
            f"the broker refused to declare: {printable(error.reply_text)}; give this user the configure right in "
            f"virtual host {vhost!r}, or have another account run leveret declare (a worker then starts with "
            "--no-declare)"
        ) from error


def _mismatch(error: amqp_errors.PreconditionFailed) -> TopologyMismatch:
    said = printable(error.reply_text)
    match = _INEQUIVALENT.search(said)
    if not match:
        return TopologyMismatch(f"the broker refused a declaration: {said}")
    kind, name = match["kind"], match["name"]
    return TopologyMismatch(
        f"{kind} {name!r} exists with another {match['argument']}: it is {match['current']}, wanted is "
        f"{match['wanted']}. Arguments cannot change in place: see what differs with leveret plan, and have the "
        "queue made anew, with what is in it, by leveret apply (both with -a MODULE), or use another name"
        if kind == "queue"
        else f"{kind} {name!r} exists with another {match['argument']}: it is {match['current']}, wanted is "
        f"{match['wanted']}. See with leveret plan -a MODULE what to do"
    )
