"""The table of everything that is declared, for people and as rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leveret.topology import limits, names, queues, registry
from leveret.topology.ladder import ladder
from leveret.topology.objects import (
    AROUND_EXCHANGES,
    MIRROR_EXCHANGES,
    PRODUCERS_EXCHANGES,
    WORKERS_EXCHANGES,
    Exchange,
    Table,
    control_streams,
    objects_of,
    shared_exchanges,
)

_MIRRORS = frozenset(exchange.name for exchange in MIRROR_EXCHANGES)


def show(work_queues: Sequence[queues.WorkQueue], with_delays: bool = False) -> str:
    """Return everything that would be declared, short enough for one screen."""
    lines = [
        f"exchanges  {_typed(PRODUCERS_EXCHANGES)}",
        f"           {_typed(WORKERS_EXCHANGES)}: not for producers",
        f"           {_typed(AROUND_EXCHANGES)}: what is told and asked",
        f"           {', '.join(exchange.name for exchange in MIRROR_EXCHANGES)}: what was delayed",
        f"streams    {', '.join(queue.name for queue in control_streams().queues)}",
    ]
    if with_delays:
        table = ladder()
        lost, *steps = (queue.name for queue in table.queues)
        lines.append(f"delays     {steps[0]} to {steps[-1]}, {len(steps)} queues; what no queue takes lies in {lost}")
    for work_queue in work_queues:
        table = objects_of(work_queue)
        first, failed, *entrance = table.exchanges
        width = max(len(queue.name) for queue in table.queues)
        lines.append(f"{work_queue.name}: at most {work_queue.attempts} attempts")
        lines.append(f"  {failed.name} ({failed.type}), for any other key {first.name} ({first.type})")
        for exchange in entrance[1:]:
            line = f"  {exchange.name} ({exchange.type}) ← {_sources(table, exchange.name)}"
            lines.append(f"{line}, for any other {names.PRIORITY_HEADER} {entrance[0].name} ({entrance[0].type})")
        for queue in table.queues:
            line = f"  {queue.name:<{width}} ← {_sources(table, queue.name)}"
            if "x-message-ttl" in queue.arguments:
                delay = names.spell_delay(int(str(queue.arguments["x-message-ttl"])) / 1000)
                line += f"; after {delay} → {queue.arguments['x-dead-letter-routing-key']}"
            lines.append(line)
        lines += [f"  {limits.show(limit)}" for limit in registry.limits_of(work_queue)]
    return "\n".join(lines)


def _typed(exchanges: Sequence[Exchange]) -> str:
    return ", ".join(f"{exchange.name} ({exchange.type})" for exchange in exchanges)


def _sources(table: Table, queue: str) -> str:
    """Return what a queue or an exchange is bound to: exchanges, each with its keys."""
    keys: dict[str, list[str]] = {}
    for binding in (*table.bindings, *table.last_bindings):
        if binding.queue == queue and binding.exchange not in _MIRRORS:  # the same, of what was delayed
            wanted = [f"{name}={value}" for name, value in binding.arguments if name == names.PRIORITY_HEADER]
            keys.setdefault(binding.exchange, []).extend([binding.routing_key, *wanted])
    return ", ".join(" ".join([exchange, *_shortened(bound)]) for exchange, bound in keys.items())


def _shortened(keys: list[str]) -> list[str]:
    """Leave the middle out of a run of attempt keys, and what is empty."""
    attempts = [key for key in keys if "@" in key]
    if len(attempts) > 2:
        keys = [*(key for key in keys if key not in attempts), f"{attempts[0]}…{attempts[-1].rpartition('@')[2]}"]
    return [key for key in keys if key]


def rows(work_queues: Sequence[queues.WorkQueue], with_delays: bool = False) -> Iterator[dict[str, object]]:
    """Yield every exchange, queue and binding, with the arguments it is declared with."""
    delays = (ladder(),) if with_delays else ()
    for table in (shared_exchanges(), control_streams(), *delays, *map(objects_of, work_queues)):
        for exchange in (*table.exchanges, *table.last_exchanges):
            yield {
                "exchange": exchange.name,
                "type": exchange.type,
                "internal": exchange.internal,
                "arguments": dict(exchange.arguments),
            }
        for queue in table.queues:
            yield {"queue": queue.name, "arguments": queue.arguments}
        for binding in (*table.bindings, *table.last_bindings):
            row: dict[str, object] = {"bound": binding.queue, "to": binding.exchange, "key": binding.routing_key}
            yield {**row, "arguments": dict(binding.arguments)} if binding.arguments else row
    for tokens in registry.tokens_of(work_queues):
        yield {
            "tokens": tokens.count,
            "limit": tokens.limit,
            "lie_in": tokens.queue,
            "per_seconds": tokens.period_seconds,
        }
