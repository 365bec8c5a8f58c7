"""What the management API tells, as facts. What it does not answer, or lets this user not see, is told of too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

from leveret.producers.doctor.facts import (
    ADMINISTRATOR,
    CLOCK,
    FLAGS,
    MONITORING,
    NODES,
    OBJECTS,
    RIGHTS,
    ManagementFacts,
    NodeFacts,
    QueueFacts,
)
from leveret.topology.access.management import Management
from leveret.topology.access.policies import effective_policy
from leveret.topology.access.rights import Rights
from leveret.topology.errors import AccessRefused, LeveretError
from leveret.topology.link import daemon_thread
from leveret.topology.objects import Binding
from leveret.topology.printable import printable
from leveret.topology.settings import Settings

_TIMEOUT_SECONDS = 4.0
_IN_ALL_SECONDS = 5.0
"""For an API that sends a little again and again, which no timeout of a socket ends."""
_SEES_ALL = {MONITORING, ADMINISTRATOR}

T = TypeVar("T")


class _Answers(NamedTuple):
    given: dict[str, Any]
    unanswered: dict[str, str]
    refused: dict[str, str]


async def ask_management(configured: Settings, user: str, vhost: str) -> ManagementFacts:
    """Ask all at once; whatever goes wrong is told of in the facts."""
    paths: dict[str, tuple[tuple[str, ...], ...]] = {
        CLOCK: (("whoami",),),
        RIGHTS: (("permissions", vhost, user),),
        FLAGS: (("feature-flags",),),
        NODES: (("nodes",),),
        OBJECTS: (("queues", vhost), ("exchanges", vhost), ("bindings", vhost)),
    }
    asked = await asyncio.gather(*(_ask(configured, what, some) for what, some in paths.items()))
    answers = _Answers({}, {}, {})
    for what, answer in zip(paths, asked, strict=True):
        if isinstance(answer, AccessRefused):
            answers.refused[what] = ADMINISTRATOR if what in (RIGHTS, FLAGS) else MONITORING
        elif isinstance(answer, str):
            answers.unanswered[what] = answer
        elif isinstance(answer, list):
            answers.given[what] = answer
    return facts_of(Management(configured).user, answers.given, answers.unanswered, answers.refused)


async def _ask(configured: Settings, what: str, paths: tuple[tuple[str, ...], ...]) -> list[Any] | AccessRefused | str:
    """Return the answers; or that this user may not see that, or why there is none."""
    api = Management(configured, _TIMEOUT_SECONDS)

    def ask() -> list[Any]:
        began = time.time()
        answers = [api.call("GET", *path) for path in paths]
        return [*answers, clock_off(api.date, began, time.time())] if what == CLOCK else answers

    try:
        async with asyncio.timeout(_IN_ALL_SECONDS):
            return await daemon_thread.start(ask)
    except AccessRefused as error:
        return error
    except TimeoutError:
        return f"the management API has not answered within {_IN_ALL_SECONDS:g} s; look at the broker's load"
    except LeveretError as error:
        return printable(error)


def facts_of(
    user: str, given: Mapping[str, Any], unanswered: Mapping[str, str], refused: Mapping[str, str]
) -> ManagementFacts:
    """Read the answers. What does not look as the API describes it counts as not answered."""
    unanswered, refused = dict(unanswered), dict(refused)

    def read(what: str, reader: Callable[[list[Any]], T]) -> T | None:
        if what not in given:
            return None
        try:
            return reader(given[what])
        except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
            unanswered[what] = f"the management API answers what RabbitMQ does not ({type(error).__name__})"
            return None

    tags = read(CLOCK, lambda answers: _tags(answers[0]["tags"])) or set()
    off = read(CLOCK, lambda answers: answers[1])
    objects = None
    if OBJECTS in given and not tags & _SEES_ALL:  # a lower tag gets lists that lack what it may not see
        refused.setdefault(OBJECTS, MONITORING)
    else:
        objects = read(OBJECTS, _objects)
    queues, exchanges, bindings = objects or (None, None, None)
    return ManagementFacts(
        user,
        queues,
        exchanges,
        bindings,
        read(NODES, lambda answers: [_node(one) for one in answers[0]]),
        read(FLAGS, _flags),
        read(RIGHTS, _rights),
        off,
        unanswered,
        refused,
    )


def clock_off(date: str, began: float, ended: float) -> float | None:
    """Return how far a clock that said this is ahead of ours at least, from when it was asked and had answered.

    HTTP's dates have whole seconds.
    """
    try:
        said = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    return min(0.0, said + 1 - began) or max(0.0, said - ended)


def _tags(said: str | list[str]) -> set[str]:
    """RabbitMQ before 3.9 writes them in one text."""
    return set(said.split(",")) if isinstance(said, str) else set(said)


def _rights(answers: list[Any]) -> Rights | None:
    """Of a user whom another system than RabbitMQ knows, it has none."""
    return Rights(*(str(answers[0][kind]) for kind in Rights._fields)) if answers[0] else None


def _flags(answers: list[Any]) -> dict[str, str]:
    return {str(one["name"]): str(one["state"]) for one in answers[0] if one.get("stability") != "experimental"}


def _objects(answers: list[Any]) -> tuple[dict[str, QueueFacts], dict[str, str], frozenset[Binding]]:
    queues, exchanges, bindings = answers
    return (
        {one["name"]: _queue(one) for one in queues},
        {one["name"]: _alternate(one) for one in exchanges},
        frozenset(_binding(one) for one in bindings),
    )


def _queue(one: Mapping[str, Any]) -> QueueFacts:
    arguments = one.get("arguments") or {}
    stats = one.get("message_stats") or {}
    return QueueFacts(
        one["name"],
        str(one.get("type") or arguments.get("x-queue-type") or "classic"),
        arguments,
        effective_policy(one),
        tuple((kind, str(one[kind])) for kind in ("policy", "operator_policy") if one.get(kind)),
        _number(one.get("messages")),
        _number(one.get("consumers")),
        _number(one.get("messages_dlx")),
        float((stats.get("publish_details") or {}).get("rate") or 0.0),
        tuple(one.get("members") or ()),
        tuple(one.get("online") or ()),
        str(one.get("state") or "running"),
    )


def _alternate(one: Mapping[str, Any]) -> str:
    return str(
        (one.get("arguments") or {}).get("alternate-exchange") or effective_policy(one).get("alternate-exchange") or ""
    )


def _binding(one: Mapping[str, Any]) -> Binding:
    arguments = tuple((str(name), str(value)) for name, value in (one.get("arguments") or {}).items())
    return Binding(
        one["destination"],
        one["source"],
        one["routing_key"],
        tuple(sorted(arguments)),
        one["destination_type"] == "exchange",
    )


def _node(one: Mapping[str, Any]) -> NodeFacts:
    """A node that does not run has little more than a name."""
    return NodeFacts(
        str(one["name"]),
        bool(one.get("running")),
        bool(one.get("mem_alarm")),
        bool(one.get("disk_free_alarm")),
        _number(one.get("mem_used")),
        _number(one.get("mem_limit")),
        _number(one.get("disk_free")),
        _number(one.get("disk_free_limit")),
        tuple(one.get("partitions") or ()),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
