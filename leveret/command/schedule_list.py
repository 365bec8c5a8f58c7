"""The schedules as a table: when each fires next, and how its last fire ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from leveret.command.ending import tell, tell_json
from leveret.command.screen import PLAIN_WIDTH, width
from leveret.command.table import Column, spell, table
from leveret.command.verb import note
from leveret.producers.following.record import statuses
from leveret.producers.scheduling.definition import Schedule
from leveret.producers.scheduling.looking import look
from leveret.topology import events
from leveret.topology.errors import AccessRefused, NobodyAnswers
from leveret.topology.schedules import State as Place
from leveret.topology.schedules import fire_id
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status

_NEXT = 5
_QUIET_MILLISECONDS = 300_000
"""A scheduler says at least every two minutes how far it is."""
_WEEK_SECONDS = 6 * 86_400
_COLUMNS = (Column("NAME"), Column("TASK", may_cut=True), Column("WHEN", may_cut=True), Column("NEXT"), Column("LAST"))


def show(schedules: Mapping[str, Schedule], configured: Settings, as_json: bool, quiet: bool) -> int:
    """Print the schedules; what the broker and the record know of them, where they can be asked."""
    now = events.now()
    try:
        place = look(configured)
    except AccessRefused as error:
        note(f"leveret schedule: what is paused, and the last fires, are not known: {error}", quiet)
        place = None
    else:
        _say_who_fires(place, now, quiet)
    ended = _statuses(schedules, place, configured, quiet)
    if as_json:
        for name in sorted(schedules):
            tell_json(_row(schedules[name], place, ended.get(name)))
        return 0
    rows = [_cells(schedules[name], place, ended.get(name), now) for name in sorted(schedules)]
    title, *lines = table(_COLUMNS, rows, max(width(), PLAIN_WIDTH))
    tell(title)
    for name, line in zip(sorted(schedules), lines, strict=True):
        following = list(islice(schedules[name].upcoming(datetime.fromtimestamp(now, UTC)), 1, _NEXT))
        tell(
            line,
            *([f"  then {', '.join(_short(one, now, schedules[name]) for one in following)}"] if following else []),
        )
    return 0


def _say_who_fires(place: Place | None, now: float, quiet: bool) -> None:
    if place is None:
        note("no scheduler has ever run here; start one: leveret schedule", quiet)
    elif now * 1000 - place.at > _QUIET_MILLISECONDS:
        note(
            f"the last scheduler, {place.by}, has said nothing for {spell(now - place.at / 1000)}; does one run? "
            "start one: leveret schedule",
            quiet,
        )


def _statuses(
    schedules: Mapping[str, Schedule], place: Place | None, configured: Settings, quiet: bool
) -> dict[str, Status]:
    """Return what the record knows of the last fire of each."""
    done = {} if place is None else place.done
    last = {
        name: fire_id(name, one.planned)
        for name, one in done.items()
        if name in schedules and schedules[name].message.follow and one.planned is not None
    }
    try:
        return dict(zip(last, statuses(*last.values(), configured=configured), strict=True))
    except NobodyAnswers as error:
        note(f"how the last fires ended is not known: {error}", quiet)
        return {}


def _row(schedule: Schedule, place: Place | None, status: Status | None) -> dict[str, Any]:
    done = place.done.get(schedule.name) if place else None
    paused = place.paused(schedule.name) if place else None
    last = None
    if done and done.planned is not None and done.at is not None:
        last = {
            "planned": done.planned / 1000,
            "at": done.at / 1000,
            "id": fire_id(schedule.name, done.planned),
            "state": str(status.state) if status else None,
        }
    return {
        "name": schedule.name,
        "task": schedule.message.task,
        "cron": schedule.cron,
        "every": None if schedule.every is None else schedule.every_seconds,
        "timezone": schedule.timezone,
        "missed": schedule.missed,
        "next": [one.isoformat() for one in islice(schedule.upcoming(), _NEXT)],
        "paused": paused._asdict() if paused else None,
        "last": last,
    }


def _cells(schedule: Schedule, place: Place | None, status: Status | None, now: float) -> list[str]:
    zone = "" if schedule.cron is None or schedule.timezone == "UTC" else f" {schedule.timezone}"
    when = f"every {_spelled(schedule.every_seconds)}" if schedule.cron is None else f"{schedule.cron}{zone}"
    paused = place.paused(schedule.name) if place else None
    coming = next(schedule.upcoming(datetime.fromtimestamp(now, UTC)), None)
    if paused:
        following = f"paused {paused}"
    elif coming is None:
        following = "never again"
    else:
        following = f"{_short(coming, now, schedule)} in {spell(coming.timestamp() - now)}"
    done = place.done.get(schedule.name) if place else None
    last = "-"
    if done and done.at is not None:
        last = f"{spell(now - done.at / 1000)} ago{_outcome(status)}"
    return [schedule.name, schedule.message.task, when, following, last]


def _outcome(status: Status | None) -> str:
    if status is None or status.state is State.UNKNOWN:
        return ""
    if status.state is State.SUCCEEDED:
        return f" ok {spell(status.seconds)}"
    attempts = f" {status.attempt}/{status.of}" if status.of else ""
    return f" {status.state}{attempts}{' !' if status.state is State.FAILED else ''}"


def _spelled(seconds: float) -> str:
    return (
        f"{seconds:g}s"
        if seconds < 60 or seconds % 60
        else f"{seconds / 60:g}m"
        if seconds % 3600
        else f"{seconds / 3600:g}h"
    )


def _short(at: datetime, now: float, schedule: Schedule) -> str:
    clock = f"{at:%H:%M:%S}" if at.second or schedule.every_seconds % 60 else f"{at:%H:%M}"
    return f"{at:%a} {clock}" if at.timestamp() - now < _WEEK_SECONDS else f"{at:%Y-%m-%d} {clock}"
