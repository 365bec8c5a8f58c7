"""What has to be on the broker before a message is delayed: the ladder, and the bindings by which it comes out of it.

A delayed message cannot come back as one that no queue takes: the ladder has taken it. So this is looked at before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from amqp import exceptions as amqp_errors

from leveret.topology.apply.connecting import declaring
from leveret.topology.apply.declare import declare, declare_ladder
from leveret.topology.errors import AccessRefused, NotRouted
from leveret.topology.ladder import WHOLE
from leveret.topology.names import DIRECT_EXCHANGE, MIRRORS, entrance_exchange
from leveret.topology.objects import Binding, objects_of
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

_MIRRORS = frozenset(MIRRORS.values())


def prepare(settings: Settings, queues: Sequence[WorkQueue], others: Iterable[str] = ()) -> None:
    """See that the ladder is there, and that these queues are bound for what leaves it.

    Of `others` only the names are known. Raises `AccessRefused` where the ladder is missing and this user may not
    declare it, `NotRouted` for one of `others` that is not there, and what declaring raises. Where this user may not
    bind a queue it is left as it is: another may have bound it.
    """
    with declaring(settings) as connection:
        if not _succeeds(connection, lambda channel: channel.exchange_declare(WHOLE, "fanout", passive=True)):
            _declare_ladder(settings)
        missing = [
            queue
            for queue in queues
            if not _bind(connection, [one for one in objects_of(queue).bindings if one.exchange in _MIRRORS])
        ]
        for name in others:
            if not _bind(connection, [_way_to(connection, name)]):
                raise NotRouted(f"there is no queue {name!r} on the broker; correct its name, or declare it")
    if missing:
        with contextlib.suppress(AccessRefused):
            declare(settings, missing)


def _declare_ladder(settings: Settings) -> None:
    try:
        declare_ladder(settings)
    except AccessRefused as error:
        raise AccessRefused(
            f"what delayed messages go through is not on the broker, and this user may not declare it ({error}); have "
            "it declared: leveret declare --delays"
        ) from error


def _way_to(connection: Any, name: str) -> Binding:
    """Return the binding of a queue of which only the name is known.

    What has an entrance puts each message into its level; straight to the queue it would come as well.
    """
    entrance = entrance_exchange(name)
    has_levels = _succeeds(connection, lambda channel: channel.exchange_declare(entrance, "headers", passive=True))
    return Binding(entrance if has_levels else name, MIRRORS[DIRECT_EXCHANGE], name, is_exchange=has_levels)


def _bind(connection: Any, bindings: Sequence[Binding]) -> bool:
    """Bind, where this user may; whether the queue is there."""

    def bind(channel: Any) -> None:
        for name, exchange, key, _, is_exchange in bindings:
            (channel.exchange_bind if is_exchange else channel.queue_bind)(name, exchange, key)

    try:
        return _succeeds(connection, bind)
    except amqp_errors.AccessRefused:
        return True


def _succeeds(connection: Any, operation: Callable[[Any], object]) -> bool:
    """Whether what the operation is about is on the broker; each on a channel of its own, for a refusal closes it."""
    try:
        with connection.channel() as channel:
            operation(channel)
    except amqp_errors.NotFound:
        return False
    return True
