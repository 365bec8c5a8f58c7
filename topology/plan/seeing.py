"""Looking at what a virtual host has: all of it by the management API, or what AMQP tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from leveret.topology.access.management import Management
from leveret.topology.errors import AccessRefused, BrokerError, BrokerUnreachable, TopologyError
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.objects import Table
from leveret.topology.plan.difference import Difference, Kind, Seen
from leveret.topology.settings import Settings, vhost_of

_ALWAYS_THERE = "amq.direct"


def look(settings: Settings) -> Seen:
    """Return what the virtual host has.

    Raises `AccessRefused` where this user may not see it, and what else `Management.call` does.
    """
    api, vhost = Management(settings), vhost_of(settings.first_amqp_url)
    refusal: AccessRefused | None = None
    try:
        exchanges, queues, bindings = (
            api.call("GET", part, vhost) or [] for part in ("exchanges", "queues", "bindings")
        )
    except AccessRefused as error:
        exchanges, refusal = [], error
    found = {one["name"]: one for one in exchanges}
    if _ALWAYS_THERE not in found:  # who has only the tag `management` is shown an empty list
        raise AccessRefused(
            f"the management API shows user {api.user!r} nothing of virtual host {vhost!r}; give it the tag that lets "
            f"it see all (rabbitmqctl set_user_tags {api.user} monitoring), or name one who has it in MANAGEMENT_URL"
        ) from refusal
    return Seen(found, {one["name"]: one for one in queues}, [one for one in bindings if one["source"]])


def look_by_amqp(settings: Settings, tables: Sequence[tuple[str, Table]]) -> list[Difference]:
    """Return what differs as far as AMQP tells: what is missing, and which queues have other arguments.

    Nothing is made. Raises `BrokerUnreachable` or `AccessRefused`.
    """
    return asyncio.run(_look_by_amqp(settings, tables))


async def _look_by_amqp(settings: Settings, tables: Sequence[tuple[str, Table]]) -> list[Difference]:
    connection = await connect(settings, "leveret plan", lambda *_: None)
    found: list[Difference] = []
    try:
        for work_queue, table in tables:
            for exchange in (*table.exchanges, *table.last_exchanges):
                _, why = await _try(connection, "exchange_declare", exchange=exchange.name, passive=True)
                if why:
                    found.append(Difference(Kind.ADDITIVE, "exchange", exchange.name, "missing", work_queue))
            for queue in table.queues:
                _, why = await _try(connection, "queue_declare", queue=queue.name, passive=True)
                if why:
                    found.append(Difference(Kind.ADDITIVE, "queue", queue.name, "missing", work_queue))
                    continue
                is_same, why = await _try(
                    connection, "queue_declare", queue=queue.name, durable=True, arguments=queue.arguments
                )
                if not is_same:
                    kind = Kind.RECREATE if work_queue else Kind.CANNOT
                    found.append(Difference(kind, "queue", queue.name, _of_the_broker(why), work_queue))
    finally:
        await close(connection)
    return found


async def _try(connection: FastConnection, operation: str, **options: object) -> tuple[bool, str]:
    """Have something declared, on a channel of its own, for a refusal closes it; returns whether, and why not."""
    channel = await open_channel(connection)
    what = str(options.get("queue") or options.get("exchange"))
    try:
        await Asking(channel, what).ask(lambda done: getattr(channel, operation)(**options, callback=done))
    except (TopologyError, BrokerUnreachable) as error:
        if connection.is_closed:
            raise
        return False, str(error)
    channel.close()
    return True, ""


def _of_the_broker(text: str) -> str:
    return text.partition("PRECONDITION_FAILED - ")[2] or text


def why_unseen(error: BrokerError) -> str:
    """Say what nobody can see without the management API."""
    return f"bindings, policies and what is left over cannot be seen: {error}"
