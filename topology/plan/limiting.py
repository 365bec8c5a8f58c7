"""Comparing limits with the tokens that the broker has of them.

How many there are stands in a message beside them: those that workers hold are in no count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from leveret.topology import names, registry
from leveret.topology.errors import AccessRefused, TopologyError
from leveret.topology.plan.difference import Difference, Kind, Seen
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

_DELAY = r"\d+(ms|s|m|h)"


def look_at_limits(configured: Settings, work_queues: Sequence[WorkQueue]) -> tuple[list[Difference], str]:
    """Return what differs of the tokens of these work queues and their tasks, and why they could not be seen.

    Those of keys are made when they are first needed. Raises `BrokerUnreachable`.
    """
    if not registry.tokens_of(work_queues):
        return [], ""
    from leveret.topology.tokens import count_tokens  # most programs have no limits

    found = []
    try:
        for tokens, is_there, count in count_tokens(configured, work_queues):
            if not is_there:
                found.append(Difference(Kind.ADDITIVE, "queue", tokens.queue, "missing"))
            elif count != tokens.count:
                has = "not known how many" if count is None else count
                found.append(Difference(Kind.IN_PLACE, "limit", tokens.queue, f"is {has}, wanted is {tokens.count}"))
    except (AccessRefused, TopologyError) as error:
        return [], f"limits cannot be seen: {error}"
    return found, ""


def left_over_limits(work_queues: Sequence[WorkQueue], seen: Seen) -> Iterator[Difference]:
    """Yield what is there of limits that these work queues and their tasks do not have any more."""
    wanted = set()
    for tokens in registry.tokens_of(work_queues):
        wanted |= {tokens.queue, names.token_count(tokens.queue)}
        if tokens.back_after_seconds:
            wanted.add(names.spent_tokens(tokens.limit, tokens.back_after_seconds))
    for work_queue in work_queues:
        for name in (work_queue.name, *(task.name for task in registry.of_queue(work_queue))):
            of_it = re.compile(
                rf"{re.escape(names.LIMIT_PREFIX + name)}\.((at-once|per\.{_DELAY})(\.count)?|spent\.{_DELAY})"
            )
            for queue, found in seen.queues.items():
                goes_by_itself = "x-expires" in (found.get("arguments") or {})
                if of_it.fullmatch(queue) and queue not in wanted and not goes_by_itself:
                    holds = f", holds {found['messages']} message(s)" if found.get("messages") else ""
                    why = f"of a limit that is no more{holds}"
                    yield Difference(Kind.LEFT_OVER, "queue", queue, why, work_queue.name)
            for exchange in seen.exchanges:
                if of_it.fullmatch(exchange) and exchange not in wanted and exchange not in seen.queues:
                    yield Difference(
                        Kind.LEFT_OVER, "exchange", exchange, "of a limit that is no more", work_queue.name
                    )
