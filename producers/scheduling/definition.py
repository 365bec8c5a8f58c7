"""A schedule: a message that is submitted again and again, and when. It is a value, like a work queue."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from leveret.producers.scheduling.times import Times, read_duration, read_zone, to_moment
from leveret.topology import events
from leveret.topology.errors import SettingsError
from leveret.topology.message import TaskMessage, new_id

if TYPE_CHECKING:
    from leveret.producers.following.handle import Submitted

Missed = Literal["skip", "once", "all"]
Duration = float | str | timedelta
_MISSED = ("skip", "once", "all")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
GRACE_MILLISECONDS = 60_000
"""What is later than this was missed. It is longer than another scheduler takes to go on when one is stopped or cut
off, so while one of several works none is missed."""
MOST_MADE_UP = 1_000
"""Fires of one schedule that are made up for at once."""

_known: dict[str, Schedule] = {}


class Due(NamedTuple):
    """What of a schedule is to be fired now."""

    planned: list[int]
    until: int
    """Up to where it is done with then."""
    left_out: int
    """How many were missed and are not made up for."""
    missed: int


@dataclass(frozen=True)
class Schedule:
    """Submits a message whenever it is time, while `leveret schedule` runs.

    `cron` is a crontab of five fields, or six with the second first, in the IANA time zone `timezone`; or `every` is
    how long from one to the next: seconds, a timedelta, or a text as `"10m"`, counted from `start`, or from the epoch.
    `missed` says what becomes of the times at which no scheduler was there: `skip` them, make up for them `once`, or
    for `all`, up to the last 1,000. Each comes later by up to `jitter`, always the same for the same time.

    Raises `SettingsError` for what never fires or cannot be, and when another schedule has the name.
    """

    name: str
    message: TaskMessage
    _: KW_ONLY
    cron: str | None = None
    every: Duration | None = None
    timezone: str = "UTC"
    missed: Missed = "once"
    jitter: Duration = 0
    start: datetime | None = None
    end: datetime | None = None

    stands_in: ClassVar[str] = "a module"
    enters: ClassVar[bool] = True
    """Whether it becomes one of those of this program."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"{self.name!r:.120} cannot name a schedule: it takes 1 to 100 letters, digits and . _ : -, and begins "
                "with a letter, a digit or _"
            )
        try:
            self._check()
        except SettingsError as error:
            raise SettingsError(f"schedule {self.name!r}: {error}") from error
        if self.enters:
            other = _known.setdefault(self.name, self)
            if not other.is_like(self):
                raise SettingsError(f"schedule {self.name!r} is defined twice, and differently; rename one of them")

    def fire(self) -> Submitted[Any]:
        """Submit its message here and now, with an id of its own. Raises as `Publisher.publish` does."""
        from leveret.producers.default import default_publisher  # a worker that has schedules does without it

        return default_publisher().publish(dataclasses.replace(self.message, id=new_id()))

    def upcoming(self, after: datetime | None = None) -> Iterator[datetime]:
        """Yield when it fires after a time, by default after now; without its jitter."""
        if after is not None and after.tzinfo is None:
            raise SettingsError(f"{after} has no time zone; give it one: {after}+00:00")
        begin = round(events.now() * 1000) if after is None else to_moment(after)
        for planned in self._times.after(begin):
            yield datetime.fromtimestamp(planned / 1000, self._times.zone)

    @property
    def fingerprint(self) -> str:
        """A text that is another one when it fires at other times."""
        return self._times.fingerprint

    @property
    def every_seconds(self) -> float:
        """How long it is from one to the next; 0 for a crontab."""
        return self._times.interval / 1000

    def is_like(self, other: Schedule) -> bool:
        """Whether another one fires the same at the same times."""
        return self._plain() == other._plain()

    def due_at(self, planned: int) -> int:
        """Return when what is planned for a moment is fired: later by its jitter, the same for whoever fires it."""
        if not self._jitter:
            return planned
        dice = hashlib.sha256(f"{self.name} {planned}".encode()).digest()
        return planned + int.from_bytes(dice[:8]) * self._jitter // 2**64

    def next_after(self, until: int) -> int | None:
        """Return the moment of the next fire, its jitter included, when all up to a moment is done; None without."""
        planned = next(self._times.after(until), None)
        return None if planned is None else self.due_at(planned)

    def due(self, until: int, now: int) -> Due:
        """Return what is to be fired now, when all up to a moment is done."""
        newest_first = list(islice(self._times.between(until, now), MOST_MADE_UP + 1))
        planned = newest_first[::-1]
        for number, one in enumerate(planned):
            if self.due_at(one) > now:
                del planned[number:]  # they come in their order, and with them the last
                break
        fresh = [one for one in planned if now - self.due_at(one) <= GRACE_MILLISECONDS]
        late = planned[: len(planned) - len(fresh)]
        chosen = fresh
        if self.missed == "all":
            chosen = planned[-MOST_MADE_UP:]
        elif self.missed == "once" and late and not fresh:
            chosen = late[-1:]
        return Due(chosen, planned[-1] if planned else until, len(planned) - len(chosen), len(late))

    def _check(self) -> None:
        if not isinstance(self.message, TaskMessage):
            raise SettingsError(f"{self.message!r:.60} is no message; write send.message(to=…)")
        if self.message.due is not None:
            raise SettingsError(
                "its message has a delay or a time of its own, which would be over after the first fire; leave it out "
                "of the options, for the schedule says when"
            )
        if self.missed not in _MISSED:
            raise SettingsError(f"missed is {self.missed!r:.60}; it must be one of {', '.join(_MISSED)}")
        for what, at in (("start", self.start), ("end", self.end)):
            if at is not None and not isinstance(at, datetime):
                raise SettingsError(f"{what} is {at!r:.60}, no time; write 2027-01-31T09:00:00+01:00")
            if at is not None and at.tzinfo is None:
                raise SettingsError(f"{what} is {at}, without a time zone; write {at.isoformat()}+00:00")
        times = Times(self.cron, self.every, read_zone(self.timezone), self.start, self.end)
        jitter = read_duration(self.jitter, "jitter")
        if times.interval and jitter > times.interval:
            raise SettingsError(f"jitter is {self.jitter!r:.60}, longer than from one fire to the next")
        if next(times.after(to_moment(self.start or datetime(2000, 1, 1, tzinfo=UTC)) - 1), None) is None:
            raise SettingsError("it never fires between its start and its end; correct one of them")
        object.__setattr__(self, "_times", times)
        object.__setattr__(self, "_jitter", jitter)

    _times: ClassVar[Times]
    _jitter: ClassVar[int]
    """Both are of one schedule; as fields they would be arguments."""

    def _plain(self) -> tuple[object, ...]:
        message = self.message
        said = (self.name, message.task, message.body, message.route, message.follow, message.headers)
        return (*said, self._times.fingerprint, self.missed, self._jitter)


def known() -> tuple[Schedule, ...]:
    """Return the schedules of this program's modules, by name."""
    return tuple(_known[name] for name in sorted(_known))


def forget() -> None:
    """Empty the list of known schedules, for tests that define their own."""
    _known.clear()
