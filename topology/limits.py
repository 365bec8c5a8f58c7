"""Limits across all workers, as an application gives them, and the tokens each of them consists of.

A task that is limited begins once its worker has a token of each of its limits. At most so many at once: the token is
given back when the task ends. At most so many per period: it comes back by itself when that has passed.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from leveret.topology import names
from leveret.topology.errors import MessageError, TaskModuleError

MOST_TOKENS = 10_000
"""Of one limit. More than that at once, or in a period, is hardly a limit."""
_SHORTEST_PERIOD_SECONDS, _LONGEST_PERIOD_SECONDS = 0.1, 4_000_000  # RabbitMQ keeps a TTL as milliseconds in 32 bits
_LONGEST_KEYED_PERIOD_SECONDS = 3600
KEYS_LIVE_SECONDS = 2 * 3600
"""So long the tokens of a key are kept that nobody needs: longer than a period, or a task, may be that has a key."""
LONGEST_KEYED_TASK_SECONDS = 3600.0
"""The most that the time limit of a task may be whose limit has a key and an `at_once`."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,119}")
_MARGIN, _MOST_MARGIN_SECONDS = 0.05, 0.05
"""A token comes back so much later than the period, for a task begins a moment after its token is spent."""

_known: dict[str, Limit] = {}


@dataclass(frozen=True)
class Rate:
    """At most `count` tasks begin in any `per_seconds`: a whole number of 1 to 10,000, in 0.1 to 4,000,000 seconds.

    Raises `TaskModuleError` for anything else.
    """

    count: int
    per_seconds: float = 1

    def __post_init__(self) -> None:
        _check_count(self.count, "Rate: count")
        seconds = self.per_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TaskModuleError(f"Rate: per_seconds is {seconds!r}, no number of seconds")
        if not _SHORTEST_PERIOD_SECONDS <= seconds <= _LONGEST_PERIOD_SECONDS:
            raise TaskModuleError(
                f"Rate: a period of {seconds!r} s is out of range ({_SHORTEST_PERIOD_SECONDS} to "
                f"{_LONGEST_PERIOD_SECONDS}); give count and per_seconds of another unit, as in Rate(20, per_seconds=1)"
            )


@dataclass(frozen=True)
class Limit:
    """A limit for `@task(limit=…)`: at most `at_once` run at the same time, `rate` says how many begin in a period.

    With a `key`, such as "{customer}", each value of that argument has the limit for itself. Tasks whose limits have
    the same `name` share it; without one, it is the task's. Raises `TaskModuleError` when a value is unusable.
    """

    at_once: int | None = None
    rate: Rate | None = None
    key: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.at_once is None and self.rate is None:
            raise TaskModuleError("a Limit limits something: give at_once=…, rate=Rate(…), or both")
        if self.at_once is not None:
            _check_count(self.at_once, "Limit: at_once")
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise TaskModuleError(f"Limit: rate is {self.rate!r}, no Rate; write rate=Rate(20, per_seconds=1)")
        if not isinstance(self.name, str) or (self.name and not _NAME.fullmatch(self.name)):
            raise TaskModuleError(
                f"{self.name!r} cannot name a limit: use up to 120 letters, digits and . _ : - "
                "(where it is that of the task, give the limit another: Limit(…, name='mail'))"
            )
        if self.key != "" and not self.fields:
            raise TaskModuleError(
                f"Limit: the key {self.key!r} names no argument, so that it would be one limit for all; leave it out, "
                "or write key='{customer}'"
            )
        if self.key and self.rate and self.rate.per_seconds > _LONGEST_KEYED_PERIOD_SECONDS:
            raise TaskModuleError(
                f"Limit: a rate for each key has a period of at most {_LONGEST_KEYED_PERIOD_SECONDS} s, not "
                f"{self.rate.per_seconds} s: what nobody needs of a key is forgotten"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """The arguments that the key names. Raises `TaskModuleError` for what is no template of names."""
        try:
            parts = list(string.Formatter().parse(self.key))
        except (TypeError, ValueError) as error:
            raise TaskModuleError(f"Limit: the key {self.key!r} is no template: {error}; write '{{name}}'") from error
        found = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
        for name, spec, conversion in found:
            if not name.isidentifier() or spec or conversion:
                raise TaskModuleError(
                    f"Limit: the key {self.key!r} is no template of arguments' names; write '{{customer}}', or "
                    "'{customer}-{region}'"
                )
        return tuple(name for name, _, _ in found)

    def key_of(self, arguments: Mapping[str, Any]) -> str:
        """Return the key of a call, by its arguments. Raises `MessageError` where one is no text and no number."""
        values = {}
        for name in self.fields:
            value = arguments.get(name)
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise MessageError(
                    f"argument {name!r} is {type(value).__name__}, and the key {self.key!r} of its limit takes text "
                    "or a number"
                )
            values[name] = value
        return self.key.format(**values)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a limit, which lie in a queue: at most so many at once, or with a `period`, in so many seconds."""

    queue: str
    limit: str
    """The limit's name, for people."""
    count: int
    period_seconds: float | None = None
    has_key: bool = False

    @property
    def rank(self) -> tuple[bool, bool, str]:
        """The order in which a task takes tokens of several limits, the same everywhere, so that nobody waits in a
        circle. Who waits for a key keeps nothing from those with other keys.
        """
        return (not self.has_key, self.period_seconds is not None, self.queue)

    @property
    def back_after_seconds(self) -> float | None:
        """How long a token is away that was spent; None of those that are given back."""
        if self.period_seconds is None:
            return None
        return self.period_seconds + min(_MARGIN * self.period_seconds, _MOST_MARGIN_SECONDS)


def tokens_of(limit: Limit, key: str = "") -> list[Tokens]:
    """Return the tokens that a task with this limit takes; of a limit with a key, those of one key."""
    found = []
    has_key = bool(limit.key)
    if limit.at_once is not None:
        base = names.at_once_tokens(limit.name, limit.at_once if has_key else None)
        found.append(
            Tokens(names.tokens_of_key(base, key) if has_key else base, limit.name, limit.at_once, None, has_key)
        )
    if rate := limit.rate:
        base = names.rate_tokens(limit.name, rate.per_seconds, rate.count if has_key else None)
        queue = names.tokens_of_key(base, key) if has_key else base
        found.append(Tokens(queue, limit.name, rate.count, float(rate.per_seconds), has_key))
    return found


def show(limit: Limit) -> str:
    """Return what a limit says, for people."""
    said = [] if limit.at_once is None else [f"{limit.at_once} at once"]
    if limit.rate:
        said.append(f"{limit.rate.count} per {names.spell_delay(limit.rate.per_seconds)}")
    return f"limit {limit.name}: {', '.join(said)}{f' for each {limit.key}' if limit.key else ''}"


def enter(limit: Limit, whose: str) -> None:
    """Enter a limit by its name. Raises `TaskModuleError` when another one of that name says something else."""
    other = _known.setdefault(limit.name, limit)
    if (other.at_once, other.rate, bool(other.key)) != (limit.at_once, limit.rate, bool(limit.key)):
        raise TaskModuleError(
            f"{whose}: there is another limit {limit.name!r}, which says something else: {other}; give this one a name "
            "of its own, or the same numbers"
        )


def check_fields(limit: Limit, parameters: Collection[str], whose: str) -> None:
    """Raise `TaskModuleError` where the key names what is no argument."""
    for name in limit.fields:
        if name not in parameters:
            raise TaskModuleError(
                f"{whose}: the key {limit.key!r} of its limit names {name!r}, which is none of its arguments "
                f"({', '.join(parameters) or 'there are none'})"
            )


def forget() -> None:
    """Empty the list of limits, for tests that define their own."""
    _known.clear()


def _check_count(count: object, what: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TaskModuleError(f"{what} is {count!r}, no whole number")
    if not 1 <= count <= MOST_TOKENS:
        raise TaskModuleError(f"{what} is {count}, out of range (1 to {MOST_TOKENS}); to stop a queue, pause it")
