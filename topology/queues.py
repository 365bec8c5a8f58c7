"""Work queues: what an application says about a queue, and which queues this program has.

A work queue is a value. Creating one also enters it in `known()`, so that a program that imports a module
with queues can declare, consume and explain them by name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from leveret.topology import limits
from leveret.topology.errors import TaskModuleError
from leveret.topology.limits import Limit, Rate
from leveret.topology.names import (
    HIGH,
    LONGEST_NAME_BYTES,
    LOW,
    entrance_exchange,
    first_failure_exchange,
    level_queue,
    level_queues,
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,119}")
_LONGEST_DELAY_SECONDS = 4_000_000  # RabbitMQ keeps a queue's TTL as milliseconds in 32 bits
_MOST_HASHES = 2  # RabbitMQ 4.3.5 takes no more in one binding key

_known: dict[str, WorkQueue] = {}


@dataclass(frozen=True)
class WorkQueue:
    """A durable quorum queue with its own retry tiers and dead-letter queue.

    `topics` are binding keys on the topic exchange (`mail.#`; by default the queue's name and all below it).
    `retry_delays` are the seconds before attempt 2, 3, …; empty means that the first failure is final.
    `fanout` opts in to the fanout exchange. Of its tasks `at_once` run at the same time, at all workers together, and
    `rate` says how many begin in a period: `rate=Rate(20, per_seconds=1)`. With `priorities=True` its messages may be
    of high, normal or low priority: each level has a queue of its own, beside `mail` the queues `mail.high` and
    `mail.low`.

    Raises `TaskModuleError` when a value is unusable, or when the program already has another queue of this name, or
    one that is named as a level of it.
    """

    name: str
    topics: Sequence[str] = ()
    retry_delays: Sequence[float] = (5, 30, 120, 600)
    fanout: bool = False
    at_once: int | None = None
    rate: Rate | None = None
    priorities: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or _is_reserved(self.name):
            raise TaskModuleError(
                f"{self.name!r} cannot name a work queue: use up to 120 letters, digits and . _ : - "
                "(not amq.…, tasks.…, ….dlq, ….failed, ….retry or ….retry.…, which have a meaning of their own)"
            )
        if not all(isinstance(value, (tuple, list)) for value in (self.topics, self.retry_delays)):
            raise TaskModuleError(
                f"queue {self.name!r}: topics and retry_delays are tuples, as in retry_delays=(5, 30)"
            )
        object.__setattr__(self, "topics", tuple(self.topics) or (f"{self.name}.#",))
        object.__setattr__(self, "retry_delays", tuple(self.retry_delays))
        _check_topics(self)
        if not isinstance(self.priorities, bool):
            raise TaskModuleError(f"queue {self.name!r}: priorities is {self.priorities!r}; it is True or False")
        _check_delays(self)
        _check_levels(self)
        limit = self.limit
        other = _known.setdefault(self.name, self)
        if other != self:
            raise TaskModuleError(
                f"queue {self.name!r} is defined twice, and differently: {other} and {self}; keep one and import it"
            )
        if limit:
            limits.enter(limit, f"queue {self.name!r}")

    @property
    def limit(self) -> Limit | None:
        """What at_once and rate say. Raises `TaskModuleError` when one is unusable."""
        if self.at_once is None and self.rate is None:
            return None
        try:
            return Limit(self.at_once, self.rate, name=self.name)
        except TaskModuleError as error:
            raise TaskModuleError(f"queue {self.name!r}: {error}") from error

    @property
    def attempts(self) -> int:
        """How often a message is tried at most."""
        return len(self.retry_delays) + 1

    @property
    def waits_in(self) -> tuple[str, ...]:
        """The names of the broker's queues in which its messages wait for their turn, the most urgent first."""
        return tuple(level_queues(self.name).values()) if self.priorities else (self.name,)

    def takes_topic(self, routing_key: str) -> bool:
        """Whether one of the topics matches this key, by the broker's rules for topic exchanges."""
        return any(topic_matches(topic, routing_key) for topic in self.topics)


def known() -> tuple[WorkQueue, ...]:
    """Return the work queues of this program, by name."""
    return tuple(_known[name] for name in sorted(_known))


def find(name: str) -> WorkQueue:
    """Return the known work queue of this name. Raises `TaskModuleError` naming the ones there are."""
    if queue := _known.get(name) or with_level(name):
        return queue
    near = difflib.get_close_matches(name, _known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(_known)) or 'none'}"
    raise TaskModuleError(
        f"no loaded module defines a queue {name!r}; {hint} (--tasks MODULE loads the module that defines it)"
    )


def with_level(name: str) -> WorkQueue | None:
    """Return the known work queue of which this is another name: `mail` of `mail.high`, where it has priorities."""
    queue = None if name in _known else _known.get(name.rpartition(".")[0])
    return queue if queue and queue.priorities and name in _names_of_levels(queue.name) else None


def forget() -> None:
    """Empty the list of known queues, for tests that define their own."""
    _known.clear()
    limits.forget()


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic exchange routes this key by this binding key: `*` is one word, `#` any number."""
    return _words_match(pattern.split(".") if pattern else [], routing_key.split(".") if routing_key else [])


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_words_match(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])


def _is_reserved(name: str) -> bool:
    """Whether the name is one of ours, or that of something derived from it would be: `mail.retry.dlq` for `mail`."""
    return name.startswith(("amq.", "tasks.")) or name.endswith((".dlq", ".failed", ".retry")) or ".retry." in name


def _names_of_levels(queue: str) -> tuple[str, ...]:
    return (level_queue(queue, HIGH), level_queue(queue, LOW), entrance_exchange(queue))


def _check_levels(queue: WorkQueue) -> None:
    """Raise `TaskModuleError` where one of two queues is named as what the levels of the other consist of."""
    clashing = next((_known[name] for name in _names_of_levels(queue.name) if name in _known), None)
    pair = (queue, clashing) if queue.priorities and clashing else (with_level(queue.name), queue)
    owner, other = pair
    if owner and other:
        raise TaskModuleError(
            f"queue {other.name!r} cannot be beside queue {owner.name!r}, which has priorities: "
            f"{', '.join(_names_of_levels(owner.name))} are what it consists of; rename one of both"
        )


def _check_topics(queue: WorkQueue) -> None:
    for topic in queue.topics:
        if not _is_binding_key(topic):
            raise TaskModuleError(
                f"queue {queue.name!r}: {topic!r} is no binding key; write words joined by dots, as in 'mail.#'"
            )


def _is_binding_key(topic: object) -> bool:
    if not isinstance(topic, str) or not topic or not topic.isprintable():
        return False
    return len(topic.encode()) <= LONGEST_NAME_BYTES and topic.count("#") <= _MOST_HASHES


def _check_delays(queue: WorkQueue) -> None:
    for delay in queue.retry_delays:
        if isinstance(delay, bool) or not isinstance(delay, (int, float)):
            raise TaskModuleError(f"queue {queue.name!r}: retry delay {delay!r} is no number of seconds")
        if not 0.001 <= delay <= _LONGEST_DELAY_SECONDS:
            raise TaskModuleError(
                f"queue {queue.name!r}: a retry delay of {delay} s is out of range (0.001 to {_LONGEST_DELAY_SECONDS})"
            )
    if len(first_failure_exchange(queue.name, queue.retry_delays, queue.priorities)) > LONGEST_NAME_BYTES:
        raise TaskModuleError(f"queue {queue.name!r}: too many retry delays for one queue")
