"""Exchanges, queues and bindings as RabbitMQ's own definitions, to be imported where nobody may declare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leveret.topology import queues as work_queues
from leveret.topology.ladder import ladder
from leveret.topology.objects import Table, control_streams, objects_of, shared_exchanges
from leveret.topology.queues import WorkQueue


def definitions_of(
    queues: Sequence[WorkQueue] | None = None, vhost: str = "/", with_delays: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Return what `leveret declare` makes of these work queues, by default all known, as RabbitMQ's definitions.

    The virtual host has to be there when they are imported. They have no users, and no tokens of limits: those are
    messages, which `leveret declare` makes.
    """
    delays = (ladder(),) if with_delays else ()
    of_queues = map(objects_of, work_queues.known() if queues is None else queues)
    made: dict[str, list[dict[str, Any]]] = {"exchanges": [], "queues": [], "bindings": []}
    for table in (shared_exchanges(), control_streams(), *delays, *of_queues):
        _add(made, table, vhost)
    return made


def _add(made: dict[str, list[dict[str, Any]]], table: Table, vhost: str) -> None:
    lasting = {"vhost": vhost, "durable": True, "auto_delete": False}
    known = {exchange["name"] for exchange in made["exchanges"]}  # the ladder and others share some
    for exchange in (one for one in (*table.exchanges, *table.last_exchanges) if one.name not in known):
        made["exchanges"].append(
            {
                "name": exchange.name,
                "type": exchange.type,
                "internal": exchange.internal,
                **lasting,
                "arguments": dict(exchange.arguments),
            }
        )
    for queue in table.queues:
        made["queues"].append({"name": queue.name, **lasting, "arguments": dict(queue.arguments)})
    for binding in (*table.bindings, *table.last_bindings):
        made["bindings"].append(
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.queue,
                "destination_type": "exchange" if binding.is_exchange else "queue",
                "routing_key": binding.routing_key,
                "arguments": dict(binding.arguments),
            }
        )
