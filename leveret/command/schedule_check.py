"""What each schedule will do, before it does."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from leveret.command.ending import EXIT_ERROR, tell, tell_json
from leveret.producers.scheduling import definition
from leveret.producers.scheduling.definition import Schedule
from leveret.producers.scheduling.explaining import remarks
from leveret.producers.scheduling.from_file import merge, read_schedules
from leveret.topology import events

_SHOWN = 3


def check(as_json: bool) -> int:
    """Tell of each schedule when it fires, and what is odd about that; 1 when one cannot be, or never fires."""
    of_file, errors = read_schedules()
    schedules = merge(definition.known(), of_file)
    now = datetime.fromtimestamp(events.now(), UTC)
    is_good = bool(schedules) and not errors
    for name in sorted(schedules):
        schedule = schedules[name]
        coming = list(islice(schedule.upcoming(now), _SHOWN))
        is_good = is_good and bool(coming)
        if as_json:
            tell_json(
                {"name": name, "next": [f"{one.isoformat()}" for one in coming], "remarks": remarks(schedule, now)}
            )
        else:
            tell(*_lines(schedule, coming, remarks(schedule, now)))
    for error in errors:
        tell_json({"error": str(error)}) if as_json else tell(f"FAIL  {error}")
    if not (schedules or errors):
        tell_json({"error": "there are no schedules"}) if as_json else tell("FAIL  there are no schedules")
    return 0 if is_good else EXIT_ERROR


def _lines(schedule: Schedule, coming: list[datetime], said: list[str]) -> list[str]:
    if not coming:
        return [f"FAIL  {schedule.name}: it never fires again, for it has ended at {schedule.end}; take it out"]
    shown = ", ".join(f"{one:%Y-%m-%d %H:%M:%S %z}" for one in coming)
    return [f"ok    {schedule.name}: {shown}", *(f"      {remark}" for remark in said)]
