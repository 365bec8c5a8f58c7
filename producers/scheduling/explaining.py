"""What a schedule will do that its line does not show: days that months lack, clocks that are changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

from leveret.producers.scheduling.definition import Schedule
from leveret.producers.scheduling.times import read_zone, to_moment

_LOOKED_AT_DAYS = 400
_FAR_DAYS = 366


def remarks(schedule: Schedule, now: datetime) -> list[str]:
    """Return what somebody should know who reads the schedule, seen from a time."""
    if not schedule.cron:
        return []
    coming = list(islice(schedule.upcoming(now), 5))
    said: list[str] = []
    *_, day, _, weekday = schedule.cron.split()
    if coming and all((one.month, one.day) == (2, 29) for one in coming):
        said.append(f"it fires on 29 February only, next in {coming[0].year}")
    elif day.isdigit() and int(day) > 28:
        said.append(f"months without a day {day} are left out; L is the last day of each month")
    if not day.startswith("*") and not weekday.startswith("*"):
        said.append(
            "it fires on days that fit the day of month or the day of week, as cron does; no day has to fit both"
        )
    if coming and coming[0] - now > timedelta(days=_FAR_DAYS) and not said:
        said.append(f"it does not fire before {coming[0]:%Y-%m-%d}")
    for change in _changes(schedule, now):
        said.extend(_at_change(schedule, change))
    return said


def _changes(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """Yield when the clocks of its zone are changed, by UTC, in the next year or so."""
    zone = read_zone(schedule.timezone)
    at = now.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(_LOOKED_AT_DAYS):
        low, high = at, at + timedelta(days=1)
        at = high
        if low.astimezone(zone).utcoffset() == high.astimezone(zone).utcoffset():
            continue
        while high - low > timedelta(minutes=1):
            middle = low + ((high - low) / 2 // timedelta(minutes=1)) * timedelta(minutes=1)
            is_before = middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset()
            low, high = (middle, high) if is_before else (low, middle)
        yield high


def _at_change(schedule: Schedule, change: datetime) -> Iterator[str]:
    zone = read_zone(schedule.timezone)
    moment = timedelta(seconds=1)
    before, after = ((change - moment).astimezone(zone).utcoffset(), change.astimezone(zone).utcoffset())
    assert before is not None
    assert after is not None
    size = abs(after - before)
    first = (change + min(before, after)).replace(tzinfo=None)  # of the local times that are missing, or come twice
    odd = _by_the_line(schedule, first, first + size)
    if not odd:
        return
    shown, day = ", ".join(f"{one:%H:%M}" for one in odd[:3]) + ("…" if len(odd) > 3 else ""), f"{first:%Y-%m-%d}"
    if after > before:
        usual = set(_by_the_line(schedule, first + size, first + 2 * size))
        extra = [one for one in _fired(schedule, change, change + size) if one.replace(tzinfo=None) not in usual]
        instead = f"it fires at {extra[0]:%H:%M} instead" if extra else "it is left out"
        yield f"on {day} the clocks go forward and there is no {shown}: {instead}"
    else:
        fired = _fired(schedule, change - size, change + size)
        how = "it fires both times" if len(fired) > len(odd) else f"it fires once, at {fired[0]:%H:%M %z}"
        yield f"on {day} the clocks go back and {shown} comes twice: {how}"


def _by_the_line(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    """Return what fits the crontab from one local time up to another, as if clocks were never changed."""
    from cronsim import CronSim

    assert schedule.cron is not None
    return list(takewhile(lambda one: one < end, CronSim(schedule.cron, begin - timedelta(seconds=1))))


def _fired(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    until = to_moment(end)
    return list(takewhile(lambda one: to_moment(one) < until, schedule.upcoming(begin - timedelta(seconds=1))))
