"""When a schedule fires: the moments of a crontab in a time zone, or of an interval.

Moments are milliseconds of the epoch, and are the same for every process that has the same schedule.
"""

from __future__ import annotations

import hashlib
import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches

from leveret.topology.errors import SettingsError

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPELLED = re.compile(r"(?:\d{1,9}(?:ms|s|m|h|d))+")
_LONGEST_MILLISECONDS = 366 * 86_400_000
_SHORTEST_MILLISECONDS = 1_000
_AROUND_CHANGE = timedelta(hours=3)
"""No zone's clocks are changed by more, and so long before and after that a crontab is read from before it."""


def read_duration(value: object, what: str) -> int:
    """Return milliseconds of a duration: seconds, a timedelta, or a text as `90s`, `10m`, `1h30m`, `1d`.

    Raises `SettingsError` for anything else.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LONGEST_MILLISECONDS:
        return round(value * 1000)
    if isinstance(value, str) and _SPELLED.fullmatch(value):
        return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([a-z]+)", value))
    raise SettingsError(f"{what} is {value!r:.60}; write seconds, or a text as '90s', '10m', '1h30m' or '1d'")


def read_zone(name: object) -> tzinfo:
    """Return a time zone by its IANA name. Raises `SettingsError` with the nearest name there is."""
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)  # type: ignore[arg-type]
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):  # OSError: it is a folder of zones
        near = get_close_matches(str(name), zoneinfo.available_timezones(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "write it as 'Europe/Berlin'"
        raise SettingsError(f"there is no time zone {name!r:.60}; {hint}") from None


def to_moment(at: datetime) -> int:
    """Return a time as a moment."""
    return round(at.timestamp() * 1000)


class Times:
    """The moments of one schedule. Raises `SettingsError` for a schedule that has none."""

    def __init__(
        self,
        cron: str | None,
        every: object,
        zone: tzinfo,
        start: datetime | None,
        end: datetime | None,
    ) -> None:
        self.zone = zone
        self._cron = cron
        self._start = None if start is None else to_moment(start)
        self._end = None if end is None else to_moment(end)
        if self._start is not None and self._end is not None and self._start >= self._end:
            raise SettingsError(f"its end, {end}, is not after its start, {start}")
        self.interval = 0
        """Milliseconds between two; 0 for a crontab."""
        if (cron is None) == (every is None):
            raise SettingsError('it needs either cron or every, as in cron = "0 7 * * 1-5" or every = "10m"')
        if cron is None:
            self.interval = read_duration(every, "every")
            if not _SHORTEST_MILLISECONDS <= self.interval <= _LONGEST_MILLISECONDS:
                raise SettingsError(f"every is {every!r:.60}; it must be from 1s to 366d")
        else:
            self._check_cron(cron)
        said = f"{cron} {self.interval} {zone} {self._start} {self._end}"
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:12]
        """A text that is another one for other times."""

    def after(self, moment: int) -> Iterator[int]:
        """Yield what comes after a moment, up to the end."""
        if self._start is not None:
            moment = max(moment, self._start - 1)
        for planned in self._ticks(moment) if self.interval else self._cron_after(moment):
            if self._end is not None and planned > self._end:
                return
            yield planned

    def between(self, after: int, until: int) -> Iterator[int]:
        """Yield what comes after one moment and not after another, the last first."""
        if self._start is not None:
            after = max(after, self._start - 1)
        if self._end is not None:
            until = min(until, self._end)
        if self.interval:
            anchor = self._start or 0
            planned = anchor + (until - anchor) // self.interval * self.interval
            while planned > after:
                yield planned
                planned -= self.interval
            return
        last = None
        for planned in self._cron_before(until):
            if planned <= after:
                return
            if planned <= until and planned != last:
                last = planned
                yield planned

    def _ticks(self, moment: int) -> Iterator[int]:
        anchor = self._start or 0
        planned = anchor + ((moment - anchor) // self.interval + 1) * self.interval
        while True:
            yield planned
            planned += self.interval

    def _cron_after(self, moment: int) -> Iterator[int]:
        from cronsim import CronSim

        # within a repeated hour what comes next depends on what was before it
        at = datetime.fromtimestamp(moment / 1000, self.zone)
        if at.utcoffset() != (at.astimezone(UTC) - _AROUND_CHANGE).astimezone(self.zone).utcoffset():
            at = (at.astimezone(UTC) - _AROUND_CHANGE).astimezone(self.zone)
        assert self._cron is not None
        for one in CronSim(self._cron, at):
            if (planned := to_moment(one)) > moment:
                yield planned

    def _cron_before(self, moment: int) -> Iterator[int]:
        from cronsim import CronSim

        assert self._cron is not None
        at = datetime.fromtimestamp(moment / 1000, self.zone)
        if at.utcoffset() != (at.astimezone(UTC) + _AROUND_CHANGE).astimezone(self.zone).utcoffset():
            at = (at.astimezone(UTC) + _AROUND_CHANGE).astimezone(self.zone)
        after = at.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)  # what it begins with it leaves out
        yield from map(to_moment, CronSim(self._cron, after.astimezone(self.zone), reverse=True))

    def _check_cron(self, cron: object) -> None:
        from cronsim import CronSim, CronSimError

        if not isinstance(cron, str):
            raise SettingsError(f'cron is {cron!r:.60}, no text as "0 7 * * 1-5"')
        try:
            first = next(CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC)), None)
        except (CronSimError, ValueError, OverflowError) as error:
            raise SettingsError(
                f"cron is {cron!r:.80}, which is no crontab that ever fires ({error}); its five fields are minute, "
                'hour, day of month, month and day of week, as in "0 7 * * 1-5"'
            ) from error
        if first is None:
            raise SettingsError(f"cron is {cron!r:.80}, and no day ever fits that; correct day, month or day of week")
