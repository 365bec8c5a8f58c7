"""Which dead messages are meant: by task, kind, group, age, text and id."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.reason import Reason, reason_of


@dataclass(frozen=True)
class Wanted:
    """What a dead message has to be to be meant: all that is said here. Without anything every one is."""

    ids: Collection[str] = ()
    tasks: Collection[str] = ()
    """Names, or patterns with `*` and `?`; one of them has to fit."""
    kinds: Collection[str] = ()
    """Types of exceptions, or other reasons, as `top` shows them; patterns, too."""
    group: str = ""
    """A fingerprint."""
    older_seconds: float | None = None
    """It has died longer ago than that. What has no time of death is neither older nor newer than anything."""
    newer_seconds: float | None = None
    text: str = ""
    """Stands in the failure's message, its traceback or the body; in capital or small letters."""
    now: float = field(default_factory=time.time)

    def takes(self, dead: DeadMessage) -> bool:
        """Whether a message is meant."""
        if self.ids and str(dead.id) not in self.ids:
            return False
        return not self._needs_reason or self._takes_reason(dead, reason_of(dead))

    @property
    def is_everything(self) -> bool:
        """Whether nothing is said."""
        return not self.ids and not self._needs_reason

    @property
    def _needs_reason(self) -> bool:
        ages = self.older_seconds, self.newer_seconds
        return bool(self.tasks or self.kinds or self.group or self.text) or any(age is not None for age in ages)

    def _takes_reason(self, dead: DeadMessage, reason: Reason) -> bool:
        age = None if reason.at is None else self.now - reason.at
        return (
            _fits(reason.task, self.tasks)
            and _fits(reason.kind, self.kinds)
            and self.group in ("", reason.fingerprint)
            and (self.older_seconds is None or (age is not None and age > self.older_seconds))
            and (self.newer_seconds is None or (age is not None and age <= self.newer_seconds))
            and (not self.text or self._has_text(dead, reason))
        )

    def _has_text(self, dead: DeadMessage, reason: Reason) -> bool:
        wanted = self.text.casefold()
        places = (reason.message, reason.traceback, dead.body.decode(errors="replace"))
        return any(wanted in place.casefold() for place in places)


def _fits(name: str, patterns: Collection[str]) -> bool:
    return not patterns or any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
