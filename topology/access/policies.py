"""What an operator's policies take away from the queues of a work queue, as far as the management API says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from leveret.topology.access.management import Management
from leveret.topology.names import dlq_name
from leveret.topology.objects import objects_of
from leveret.topology.queues import WorkQueue

TAKING_UNREJECTED = ("message-ttl", "delivery-limit")
"""By these a message leaves its work queue, or a tier, without being rejected; the broker then keeps it in a tier."""
_MAX_LENGTHS = ("max-length", "max-length-bytes")


class Look(NamedTuple):
    """What was seen at the queues of a work queue."""

    warnings: list[str]
    stranded: dict[str, int]
    """By tier, messages that are on their way out of it or cannot leave; RabbitMQ counts them every few seconds."""


def look_at(api: Management, vhost: str, queue: WorkQueue) -> Look:
    """Look at the policies of a work queue's queues and at what is in its tiers. Raises as `Management.call` does."""
    warnings: list[str] = []
    stranded: dict[str, int] = {}
    for one in objects_of(queue).queues:
        described = api.call("GET", "queues", vhost, one.name)
        warnings.extend(_warnings(one.name, queue.name, effective_policy(described)))
        if described and described.get("messages_dlx") and "x-dead-letter-routing-key" in one.arguments:
            stranded[one.name] = int(described["messages_dlx"])
    return Look(warnings, stranded)


def effective_policy(described: Any) -> dict[str, Any]:
    """Return what all policies together say of a queue, as the management API describes it."""
    policy = described.get("effective_policy_definition") if isinstance(described, dict) else None
    return policy if isinstance(policy, dict) else {}  # without any it is an empty list


def _warnings(name: str, queue: str, policy: dict[str, Any]) -> Iterator[str]:
    is_dlq = name == dlq_name(queue)
    for rule in TAKING_UNREJECTED:
        if rule in policy:
            what = "takes dead messages away" if is_dlq else f"strands messages of {queue!r} in a retry tier, unrun"
            yield _warning(name, rule, policy, what)
    if "expires" in policy:
        yield _warning(name, "expires", policy, "deletes the queue, with what is in it, when nobody uses it")
    if is_dlq and policy.get("overflow", "drop-head") == "drop-head":  # the other queues refuse instead, by arguments
        for rule in _MAX_LENGTHS:
            if rule in policy:
                yield _warning(name, rule, policy, "drops the oldest dead messages when it is full")


def _warning(name: str, rule: str, policy: dict[str, Any], what: str) -> str:
    return f"a policy with {rule}={policy[rule]} on queue {name!r} {what}; take it away (rabbitmqctl clear_policy)"
