"""The names both sides agree on: exchanges, and what is derived from a work queue's name.

Nothing here is typed twice: every retry tier, DLQ and attempt key comes from these functions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

DIRECT_EXCHANGE = "tasks.direct"
TOPIC_EXCHANGE = "tasks.topic"
FANOUT_EXCHANGE = "tasks.fanout"
AGAIN_EXCHANGE = "tasks.again"
"""By which a message comes back from a retry tier. Producers may not publish to it, so its keys can be believed."""
DEAD_EXCHANGE = "tasks.dead"
"""By which a dead message goes to its DLQ; the key is the work queue. Producers may not publish to it either."""

DELAY_PREFIX = "tasks.delay."
"""What the exchanges and queues of the ladder of delays begin with, by which delayed messages go."""
DELAY_OUT_EXCHANGE = "tasks.delay.out"
"""By which a delayed message leaves the ladder."""
LATER_TO = "later-to"
"""The header that says to which exchange a delayed message goes when it is due."""
LATER_HEADERS = "later-"
"""What the headers begin with by which the ladder routes."""
RETRIED_LATER, RETRIED_LATER_SINCE = "retried-later", "retried-later-since"
"""The headers that say how often a task has asked to be run later, and when first, in milliseconds of the epoch."""
LATER_LOST = "tasks.later.lost"
"""The exchange and the queue of delayed messages for which no queue was bound when they were due."""

EVENTS_EXCHANGE = "tasks.events"
"""Where workers and producers tell what happens to tasks. Anyone may listen who may read it."""
CONTROL_EXCHANGE = "tasks.control"
"""Where what concerns workers as a whole is published: cancels, pauses and questions, each by a key of its own."""
ASK_RECORD_KEY = "ask.record"
ASK_WORKERS_KEY = "ask.workers"
"""By which a recorder, and by which all workers are asked something."""
APPLY_LOCK_QUEUE = "tasks.apply"
"""The exclusive queue of the one who changes queues that exist."""
HELD_PREFIX = "tasks.held."
"""What begins with it is there while a queue is made anew. No queue of ours has a slash in its name, so a name with one
is that of an exchange."""
HELD_EXCHANGE = "held-exchange"
"""The header of a message in a holding queue that says by which exchange it came to its own."""
RECORD_QUEUE = "tasks.record"
"""From which recorders take events."""
QUESTIONS_QUEUE = "tasks.questions"
"""From which recorders take questions."""
CANCEL_KEY, PAUSE_KEY = "cancel", "pause"
"""The keys of cancels and pauses on that exchange."""
CANCELLED_QUEUE = "tasks.cancelled"
"""The stream in which the cancels lie, for workers that start later."""
PAUSED_QUEUE = "tasks.paused"
"""The stream in which it lies which queues are paused."""
SCHEDULES_QUEUE = "tasks.schedules"
"""Whoever takes from it fires the schedules; the message in it says what was fired last."""
SCHEDULES_SHOWN_QUEUE = "tasks.schedules.shown"
"""A copy of that message, to be looked at."""
SCHEDULES_BEGIN_KEY, SCHEDULES_STATE_KEY, SCHEDULES_PAUSE_KEY = "schedules.begin", "schedules.state", "schedules.pause"
"""The keys of the exchange of control that lead to the schedules' queue: an empty state, another state, a pause."""
WORKER_PREFIX = "tasks.worker."
"""What the queues begin with in which workers are asked."""
REPLY_PREFIX = "tasks.reply."
"""What the queues begin with in which a producer waits for results, and their keys on the exchange of events."""

LIMITS_EXCHANGE = "tasks.limits"
"""By which tokens of limits come to their queues; the key is the queue."""
LIMIT_PREFIX = "tasks.limit."
"""What the queues of tokens begin with, and what belongs to them."""
MIRRORS = {
    DIRECT_EXCHANGE: "tasks.later.direct",
    TOPIC_EXCHANGE: "tasks.later.topic",
    FANOUT_EXCHANGE: "tasks.later.fanout",
    AGAIN_EXCHANGE: "tasks.later.again",
}
"""The exchange that takes the place of each for what is due. What nobody is bound for there is lost to nobody: it goes
to another exchange, which those that producers publish to cannot have, for then nothing would be returned."""

LONGEST_NAME_BYTES = 255
"""AMQP keeps ids, names and routing keys as short strings."""

LONGEST_DELAY_SECONDS = 366 * 86_400
"""A year: so far ahead a message may be delayed."""

_READABLE_KEY = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
PRIORITY_HEADER = "priority"
"""The header by which a message enters one of the levels of a queue that has them."""
Priority = Literal["high", "normal", "low"]
HIGH, NORMAL, LOW = LEVELS = ("high", "normal", "low")
"""What the header may say, the first of them the most urgent. Anything else is normal."""

_WITH_LEVELS = "levels."
_ATTEMPT_KEY = re.compile(r"(?P<queue>.+)@(?P<attempt>[1-9][0-9]{0,5})")


def following(reply_to: object) -> str:
    """Return the key by which who follows a task is told of it, as its message says; empty when nobody follows it.

    What else clients put into AMQP's `reply_to` is their own affair.
    """
    if isinstance(reply_to, str) and (reply_to == RECORD_QUEUE or reply_to.startswith(REPLY_PREFIX)):
        return reply_to
    return ""


class Route(NamedTuple):
    """Where a message is published: an exchange and the routing key it gets there."""

    exchange: str
    routing_key: str

    @classmethod
    def direct(cls, queue: str) -> Route:
        """Into exactly this queue."""
        return cls(DIRECT_EXCHANGE, queue)

    @classmethod
    def topic(cls, routing_key: str) -> Route:
        """To every queue with a matching topic; the task's name is the usual key."""
        return cls(TOPIC_EXCHANGE, routing_key)

    @classmethod
    def fanout(cls, routing_key: str = "") -> Route:
        """One copy to every queue that opted in; the key is only kept for the record."""
        return cls(FANOUT_EXCHANGE, routing_key)

    @classmethod
    def again(cls, queue: str, attempt: int) -> Route:
        """Into exactly this queue, as attempt 2, 3, … of a message."""
        return cls(AGAIN_EXCHANGE, attempt_key(queue, attempt))

    @classmethod
    def dead(cls, queue: str) -> Route:
        """Into the DLQ of this work queue."""
        return cls(DEAD_EXCHANGE, queue)


def attempt_key(queue: str, attempt: int) -> str:
    """Return the routing key by which attempt 2, 3, … of a message comes back to its queue."""
    return f"{queue}@{attempt}"


def attempt_of(queue: str, routing_key: str) -> int:
    """Read the attempt, counted from 1, off the key a message was last routed by."""
    if "@" not in routing_key:
        return 1
    match = _ATTEMPT_KEY.fullmatch(routing_key)
    return int(match["attempt"]) if match and match["queue"] == queue else 1


def work_queue_of(name: str) -> str:
    """Return the work queue that a name is about: `mail` for `mail.dlq` and for `mail.retry.1.after.5s`, too."""
    return re.sub(r"\.(dlq|retry\.stranded|retry\.\d+\.(after\.)?\w+)$", "", name)


def without_level(name: str) -> str:
    """Return the work queue that this may hold a level of, `mail` for `mail.high`; empty for any other name."""
    queue, _, level = name.rpartition(".")
    return queue if level in (HIGH, LOW) else ""


def dlq_name(queue: str) -> str:
    """Return the name of the dead-letter queue of a work queue."""
    return f"{queue}.dlq"


def failed_exchange(queue: str) -> str:
    """Return the name of the dead-letter exchange of a work queue."""
    return f"{queue}.failed"


def level_queue(queue: str, level: str) -> str:
    """Return the name of the queue that holds a level of a work queue: the normal one has the work queue's own."""
    return queue if level == NORMAL else f"{queue}.{level}"


def level_queues(queue: str) -> dict[str, str]:
    """Return the names of the queues that hold the levels of a work queue, by level."""
    return {level: level_queue(queue, level) for level in LEVELS}


def entrance_exchange(queue: str) -> str:
    """Return the name of the exchange that puts a message into its level of a work queue."""
    return f"{queue}.in"


def normal_exchange(queue: str) -> str:
    """Return the name of the exchange that takes what belongs to no other level of a work queue."""
    return f"{queue}.in.normal"


def changing_exchange(queue: str) -> str:
    """Return the name of the exchange that is there while queues of a work queue are made anew.

    Where it is, nobody else declares what the work queue consists of. It is bound to itself, so that it is in use.
    """
    return f"{HELD_PREFIX}{queue}"


def holding_queue(name: str) -> str:
    """Return the name of the queue that takes what goes to this one while it is made anew."""
    return f"{HELD_PREFIX}{name}"


def holding_exchange(name: str) -> str:
    """Return the name of the exchange by which a message goes to the holding queue of this queue."""
    return f"{HELD_PREFIX}{name}/all"


def switch_exchange(name: str) -> str:
    """Return the name of the exchange that leads to this queue while that is bound to it, else to the holding one."""
    return f"{HELD_PREFIX}{name}/in"


def levels_pattern(queue: str) -> str:
    """Return a regular expression of the further queues that hold levels of a work queue."""
    return rf"{re.escape(queue)}\.({HIGH}|{LOW})"


def entrance_pattern(queue: str) -> str:
    """Return a regular expression of the exchanges that put messages into the levels of a work queue."""
    return rf"{re.escape(queue)}\.in(\.normal)?"


def first_failure_exchange(queue: str, retry_delays: Sequence[float], has_levels: bool = False) -> str:
    """Return the name of the exchange of first failures.

    It spells the whole retry plan, and whether there are levels, because it is the alternate exchange of the
    dead-letter exchange: with other ones the broker answers 406, which is how a change is noticed without reading
    bindings.
    """
    plan = "after." + "-".join(spell_delay(delay) for delay in retry_delays) if retry_delays else "never"
    return f"{queue}.failed.first.{_WITH_LEVELS if has_levels else ''}{plan}"


def spells_levels(first_failure: str, queue: str) -> bool:
    """Whether the exchange of first failures is that of a work queue with levels."""
    return first_failure.startswith(f"{queue}.failed.first.{_WITH_LEVELS}")


def retry_queue(queue: str, tier: int, delay_seconds: float) -> str:
    """Return the name of a retry tier; tiers count from 1, and the delay is in the name for it is fixed.

    (Up to version 0.1 the name had no `after`, and what such a tier holds comes back by `tasks.direct`.)
    """
    return f"{queue}.retry.{tier}.after.{spell_delay(delay_seconds)}"


def stranded_queue(queue: str) -> str:
    """Return the name of the queue that takes what cannot leave the retry tiers of a work queue."""
    return f"{queue}.retry.stranded"


def waiting_pattern(queue: str) -> str:
    """Return a regular expression of the work queue and its retry tiers, under whatever retry plan."""
    return rf"{re.escape(queue)}(\.retry\..+)?"


def is_level_queue(name: str, queue: str) -> bool:
    """Whether this is the queue of a level of the work queue, its own included."""
    return name in (queue, f"{queue}.{HIGH}", f"{queue}.{LOW}")


def is_retry_queue(name: str, queue: str) -> bool:
    """Whether this is a retry tier of the work queue, under whatever retry plan."""
    return name.startswith(f"{queue}.retry.")


def family_pattern(queue: str) -> str:
    """Return a regular expression of everything that a work queue consists of, under whatever retry plan."""
    return rf"{re.escape(queue)}(\.(dlq|failed|failed\.first\..+|retry\..+))?"


def at_once_tokens(limit: str, of_each_key: int | None = None) -> str:
    """Return the name of the queue of tokens for so many at once; of a limit with keys, what those of a key begin with.

    There the number is in the name, for nobody could tell which keys there are when it changes.
    """
    number = "" if of_each_key is None else f"{of_each_key}."
    return f"{LIMIT_PREFIX}{limit}.{number}at-once"


def rate_tokens(limit: str, per_seconds: float, of_each_key: int | None = None) -> str:
    """Return the name of the queue of tokens for so many per period, as `at_once_tokens` does."""
    number = "" if of_each_key is None else f"{of_each_key}."
    return f"{LIMIT_PREFIX}{limit}.{number}per.{spell_delay(per_seconds)}"


def tokens_of_key(tokens: str, key: str) -> str:
    """Return the name of the queue of tokens of one key: readable where that can be, and never long."""
    if _READABLE_KEY.fullmatch(key):
        return f"{tokens}/{key}"
    return f"{tokens}/~{hashlib.blake2b(key.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def token_count(tokens: str) -> str:
    """Return the name of the queue in which it stands how many tokens there are."""
    return f"{tokens}.count"


def token_lock(tokens: str) -> str:
    """Return the name of the queue that whoever makes tokens has for himself meanwhile."""
    return f"{LIMIT_PREFIX}lock/{tokens.removeprefix(LIMIT_PREFIX)}"


def spent_tokens(limit: str, back_after_seconds: float) -> str:
    """Return the name of the queue, and of its exchange, in which tokens wait until they come back."""
    return f"{LIMIT_PREFIX}{limit}.spent.{spell_delay(back_after_seconds)}"


def spell_delay(seconds: float) -> str:
    """Spell a delay the way queue names do: 300ms, 5s, 2m, 1h."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
