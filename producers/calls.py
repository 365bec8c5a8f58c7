"""From a call to a message: which task, by which route, and whether the tasks loaded here show that it cannot work.

`submit`, `options` and the command all come through here. A message that is made by hand and published is not checked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from leveret.topology import queues, registry
from leveret.topology.errors import MessageError
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, Follow, TaskMessage, check_name, decode
from leveret.topology.message.keys import check_key, check_key_seconds
from leveret.topology.names import (
    DIRECT_EXCHANGE,
    FANOUT_EXCHANGE,
    LEVELS,
    PRIORITY_HEADER,
    TOPIC_EXCHANGE,
    Priority,
    Route,
)
from leveret.topology.queues import WorkQueue

_EXCHANGES = {"direct": DIRECT_EXCHANGE, "topic": TOPIC_EXCHANGE, "fanout": FANOUT_EXCHANGE}


def make_message(
    task: str | registry.Defined,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    route: Route | None = None,
    follow: Follow | None = None,
    priority: Priority | None = None,
    headers: Mapping[str, str | int] | None = None,
    due: float | None = None,
) -> TaskMessage:
    """Make the message of a call. It is followed if its task is, unless `follow` says otherwise.

    Raises `MessageError` when it cannot be sent, or when the task is loaded here and cannot be called like this, or
    when the queue it would reach has its tasks loaded here and none has this name, or has no priorities and it has one.
    """
    if isinstance(task, str):
        known, name = registry.get(task), task
    else:
        known, name = task, getattr(task, "name", "")
        if not isinstance(name, str) or not hasattr(task, "check"):
            raise MessageError(f"{task!r} is no task; name one, or give a function that @task has made one")
    if follow is None:
        follow = known.follow if known else False
    if priority is not None:
        check_priority(priority, name, route)
        headers = {**(headers or {}), PRIORITY_HEADER: priority}
    message = TaskMessage.create(name, args, kwargs, id=id, route=route, follow=follow, headers=headers, due=due)
    if known and known.is_typed:
        call = decode(message.body, CONTENT_TYPE, CONTENT_ENCODING, len(message.body))  # what a worker will read
        known.check(call.args, call.kwargs)
    elif known:
        known.check(list(args), dict(kwargs or {}))
    elif registry.has_any():
        _refuse_unknown(name, route)
    return message


def maker(task: str | registry.Defined, route: Route | None) -> Callable[[Any], TaskMessage]:
    """Return what makes the message of each of many calls, given as mappings; see `make_message`."""
    if isinstance(task, str) and not registry.has_any():
        create = functools.partial(TaskMessage.create, task, (), route=route)
    else:
        create = functools.partial(make_message, task, (), route=route)

    def make(call: Any) -> TaskMessage:
        if type(call) is not dict and not isinstance(call, Mapping):
            raise MessageError(f"{call!r:.60} is no mapping of keyword arguments, as in {{'to': …}}")
        return create(call)

    return make


def route_of(
    task: str, queue: str | None = None, exchange: str | None = None, routing_key: str | None = None
) -> Route | None:
    """Return the route that is asked for; None for the usual one, the topic exchange with the task's name as key.

    Raises `MessageError` for what contradicts itself or cannot be sent.
    """
    check_way(queue, exchange, routing_key)
    if queue is not None:
        return Route.direct(check_name(queue, "queue"))
    if exchange is None and routing_key is None:
        return None
    key = task if routing_key is None else check_name(routing_key, "routing key")
    return Route(_EXCHANGES[exchange or "topic"], key)


def check_way(
    queue: str | None, exchange: str | None, routing_key: str | None, called: Callable[[str], str] = str
) -> None:
    """Raise `MessageError` when these contradict each other; `called` tells how each is called where it was given."""
    if queue is not None:
        if exchange not in (None, "direct") or routing_key is not None:
            raise MessageError(
                f"{called('queue')} is a way of the direct exchange, and its routing key; give nothing beside it"
            )
    elif exchange is not None and exchange not in _EXCHANGES:
        raise MessageError(f"there is no exchange {exchange!r} for tasks; there are: {', '.join(_EXCHANGES)}")
    elif exchange == "direct" and routing_key is None:
        raise MessageError(f"the direct exchange needs a queue: give {called('queue')}, or {called('routing_key')}")


def check_follow(follow: object) -> Follow | None:
    """Return it. Raises `MessageError` for what is none of True, False and "record"."""
    if follow is None or follow is True or follow is False:
        return follow
    if isinstance(follow, str) and follow == "record":
        return "record"
    raise MessageError(f"follow is {follow!r}; it is True, False or 'record'")


def check_unique(unique: object, for_seconds: object, follow: Follow | None) -> None:
    """Raise `MessageError` for a key that cannot be one, for impossible seconds, and for what contradicts it."""
    if unique is None:
        if for_seconds is not None:
            raise MessageError("for_seconds says for how long a key is reserved; give the key: unique=…")
        return
    check_key(unique)
    check_key_seconds(for_seconds)
    if follow is False:
        raise MessageError(
            "a unique task is followed, for its end frees its key; leave follow=False out, or make its message with "
            "follow='record'"
        )


def check_priority(priority: object, task: str, route: Route | None) -> Priority | None:
    """Return it. Raises `MessageError` for what is no level, or where the queue is known here and has no priorities."""
    if priority is None:
        return None
    if priority not in LEVELS:
        raise MessageError(f"priority is {priority!r}; it is one of {', '.join(LEVELS)}")
    reached = reached_queues(route or Route.topic(task))
    if reached and not any(queue.priorities for queue in reached):
        names = ", ".join(repr(queue.name) for queue in reached)
        raise MessageError(
            f"task {task!r} cannot have priority {priority!r}: queue {names} has no priorities; give it some with "
            "WorkQueue(…, priorities=True), or leave the priority out"
        )
    return cast(Priority, priority)


def reached_queues(route: Route) -> list[WorkQueue]:
    """Return those of this program's work queues that a message would reach by this route."""
    if route.exchange == DIRECT_EXCHANGE:
        return [queue for queue in queues.known() if queue.name == route.routing_key]
    if route.exchange == TOPIC_EXCHANGE:
        return [queue for queue in queues.known() if queue.takes_topic(route.routing_key)]
    return [queue for queue in queues.known() if queue.fanout and route.exchange == FANOUT_EXCHANGE]


def check_timeout(timeout: float | None) -> float | None:
    """Return the timeout. Raises `MessageError` unless it is a number of seconds, or None."""
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 < timeout < math.inf):
        raise MessageError(f"a timeout of {timeout!r} is not possible; give seconds, more than 0")
    return timeout


def _refuse_unknown(task: str, route: Route | None) -> None:
    way = route or Route.topic(task)
    if way.exchange == FANOUT_EXCHANGE:  # other programs subscribe there, too
        return
    for queue in reached_queues(way):
        if known := registry.of_queue(queue):
            modules = ", ".join(sorted({one.function.__module__ for one in known}))
            near = registry.nearest(task)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(sorted(one.name for one in known))}"
            raise MessageError(f"no task {task!r} for queue {queue.name!r} in {modules}; {hint}")
