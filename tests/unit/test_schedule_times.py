"""When schedules fire: crontabs in time zones whose clocks are changed, intervals, jitter, and what was missed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret import Schedule, SettingsError, TaskMessage
from leveret.producers.scheduling import definition
from leveret.producers.scheduling.explaining import remarks
from leveret.producers.scheduling.times import Times, to_moment

MESSAGE = TaskMessage.create("mail.digest")
CRONTABS = ("30 2 * * *", "*/20 * * * *", "0 * * * *", "15 1,2,3 * * 0", "0 0 29 2 *", "*/20 2 * * *", "0 30 1 * * *")
HOUR = 3_600_000
IN_2026, IN_2027, IN_2028 = (datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2027, 2028))


@pytest.fixture(autouse=True)
def no_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test defines its own, and the others are there again afterwards."""
    monkeypatch.setattr(definition, "_known", {})


def upcoming(after: str, count: int = 3, **times: object) -> list[str]:
    """When it fires after a time, as day, time and offset."""
    definition.forget()
    schedule = Schedule("digest", MESSAGE, **times)  # type: ignore[arg-type]
    return [f"{one:%m-%d %H:%M %z}" for one in islice(schedule.upcoming(datetime.fromisoformat(after)), count)]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00-04:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
        ("30 1 * * *", "America/New_York", "2026-11-01T01:40-04:00", ["11-02 01:30 -0500", "11-03 01:30 -0500"]),
        ("30 1 * * *", "America/New_York", "2026-11-01T01:10-05:00", ["11-02 01:30 -0500", "11-03 01:30 -0500"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:00+02:00", ["10-25 02:30 +0200", "10-25 02:00 +0100"]),
        ("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00+01:00", ["03-28 03:00 +0200", "03-29 02:30 +0200"]),
        ("0 7 * * 1-5", "Europe/Berlin", "2027-03-26T12:00+01:00", ["03-29 07:00 +0200", "03-30 07:00 +0200"]),
        ("0 0 29 2 *", "UTC", "2027-01-01T00:00+00:00", ["02-29 00:00 +0000", "02-29 00:00 +0000"]),
        ("0 0 L * *", "UTC", "2027-01-01T00:00+00:00", ["01-31 00:00 +0000", "02-28 00:00 +0000"]),
    ],
)
def test_a_crontab_in_its_zone(cron: str, zone: str, after: str, expected: list[str]) -> None:
    """Twice the same time fires once, a time that does not exist fires after the gap, as cron does it."""

    assert upcoming(after, 2, cron=cron, timezone=zone) == expected


def test_an_interval_is_counted_from_the_same_moment_by_everybody() -> None:
    """From the epoch, or from its start."""
    after = "2027-01-01T00:05+00:00"
    start = datetime(2027, 1, 1, 0, 3, tzinfo=UTC)

    assert upcoming(after, 2, every="10m") == ["01-01 00:10 +0000", "01-01 00:20 +0000"]
    assert upcoming(after, 2, every=600) == upcoming(after, 2, every=timedelta(minutes=10))
    assert upcoming(after, 2, every="1h30m", start=start) == ["01-01 01:33 +0000", "01-01 03:03 +0000"]
    assert upcoming("2026-01-01T00:00+00:00", 1, every="10m", start=start) == ["01-01 00:03 +0000"]
    assert upcoming(after, 9, every="10m", end=start + timedelta(minutes=20)) == [
        "01-01 00:10 +0000",
        "01-01 00:20 +0000",
    ]


@given(
    st.sampled_from(CRONTABS),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)),
    st.integers(0, 72 * HOUR),
)
def test_looking_back_finds_what_was_to_come(cron: str, zone: str, at: datetime, length: int) -> None:
    """Forwards and backwards it is the same moments, each once, wherever one begins: so none is missed or doubled."""
    times = Times(cron, None, ZoneInfo(zone), None, None)
    begin = to_moment(at.replace(tzinfo=UTC))
    forwards: list[int] = []
    for planned in times.after(begin):
        if planned > begin + length:
            break
        forwards.append(planned)

    assert list(times.between(begin, begin + length))[::-1] == forwards == sorted(set(forwards))
    for middle in (begin + length // 3, *forwards[:2]):
        rest: Iterator[int] = times.after(middle)
        assert next(rest) == next((one for one in forwards if one > middle), next(times.after(begin + length)))


@pytest.mark.parametrize(
    ("missed", "down_seconds", "fires", "left_out"),
    [
        ("once", 5, 5, 0),
        ("skip", 59, 59, 0),
        ("skip", 100, 61, 39),
        ("once", 100, 61, 39),
        ("all", 100, 100, 0),
        ("all", 5000, 1000, 1),
    ],
)
def test_what_was_missed(missed: definition.Missed, down_seconds: int, fires: int, left_out: int) -> None:
    """What is late by less than a minute always fires; what is later as the schedule says, and never without end."""
    schedule = Schedule("tick", MESSAGE, every="1s", missed=missed)
    begin = 1_800_000_000_000
    due = schedule.due(begin, begin + down_seconds * 1000)

    assert (len(due.planned), due.left_out) == (fires, left_out)
    assert due.until == begin + down_seconds * 1000
    assert due.planned == sorted(due.planned)


@pytest.mark.parametrize(("missed", "fires"), [("skip", 0), ("once", 1), ("all", 3)])
def test_a_daily_schedule_after_three_days(missed: definition.Missed, fires: int) -> None:
    """Made up for once means the last time that was missed."""
    schedule = Schedule("digest", MESSAGE, cron="0 7 * * *", missed=missed)
    begin, now = (to_moment(datetime(2027, 1, day, 12, tzinfo=UTC)) for day in (1, 4))
    due = schedule.due(begin, now)

    assert len(due.planned) == fires
    assert due.until == to_moment(datetime(2027, 1, 4, 7, tzinfo=UTC))
    assert all(one == due.until for one in due.planned[-1:])


def test_jitter_is_the_same_for_everybody_and_keeps_the_order() -> None:
    """It derives from the name and the time; nothing is fired before it is due."""
    schedule = Schedule("a", MESSAGE, every="10s", jitter="10s")
    other = Schedule("b", MESSAGE, every="10s", jitter="10s")
    begin = 1_800_000_000_000
    planned = [begin + 10_000 * number for number in range(1, 200)]
    late = [schedule.due_at(one) - one for one in planned]

    assert late == [schedule.due_at(one) - one for one in planned] != [other.due_at(one) - one for one in planned]
    assert 0 <= min(late) < 1000
    assert 9000 < max(late) <= 10_000
    done, now = begin, begin
    fired: list[int] = []
    while (due_at := schedule.next_after(done)) is not None and len(fired) < 50:
        now = max(now, due_at)
        due = schedule.due(done, now)
        assert due.planned
        assert all(schedule.due_at(one) <= now for one in due.planned)
        fired += due.planned
        done = due.until
    assert fired == planned[: len(fired)]


@pytest.mark.parametrize(
    ("times", "refusal"),
    [
        ({}, "it needs either cron or every"),
        ({"cron": "0 7 * * *", "every": "10m"}, "it needs either cron or every"),
        ({"cron": "0 0 30 2 *"}, "no crontab that ever fires"),
        ({"cron": "0 0 29 2 0#5", "start": IN_2027, "end": IN_2028}, "never fires between"),
        ({"cron": "61 * * * *"}, "no crontab that ever fires .Bad minute.; its five fields"),
        ({"cron": "@daily"}, "its five fields"),
        ({"cron": 5}, "no text"),
        ({"every": 0}, "from 1s to 366d"),
        ({"every": "0s"}, "from 1s to 366d"),
        ({"every": "400d"}, "from 1s to 366d"),
        ({"every": "soon"}, "write seconds, or a text as '90s'"),
        ({"every": float("nan")}, "write seconds"),
        ({"every": True}, "write seconds"),
        ({"cron": "0 7 * * *", "timezone": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
        ({"cron": "0 7 * * *", "timezone": "/etc/passwd"}, "there is no time zone"),
        ({"cron": "0 7 * * *", "timezone": "Europe"}, "there is no time zone"),
        ({"cron": "0 7 * * *", "timezone": None}, "there is no time zone"),
        ({"every": "1h", "start": datetime(2027, 1, 1)}, "start is 2027-01-01 00:00:00, without a time zone"),
        ({"every": "1h", "end": "tomorrow"}, "end is 'tomorrow', no time"),
        ({"every": "1h", "start": IN_2027, "end": IN_2026}, "not after"),
        ({"every": "1h", "jitter": "2h"}, "longer than from one fire to the next"),
        ({"every": "1h", "missed": "some"}, "one of skip, once, all"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(times: dict[str, object], refusal: str) -> None:
    """When it is defined, by the name of the schedule, with what to write."""
    with pytest.raises(SettingsError, match=refusal) as refused:
        Schedule("digest", MESSAGE, **times)  # type: ignore[arg-type]

    assert str(refused.value).startswith("schedule 'digest': ")


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 101, "\x1b[31m", ".a", 5])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    """It stands in routing keys, logs and tables."""
    with pytest.raises(SettingsError, match="cannot name a schedule"):
        Schedule(name, MESSAGE, every="1h")


def test_a_name_is_there_once() -> None:
    """The same again is what a module does that is imported by two names; another one is refused."""
    Schedule("digest", MESSAGE, every="1h")
    Schedule("digest", TaskMessage.create("mail.digest"), every="60m")
    with pytest.raises(SettingsError, match="'digest' is defined twice"):
        Schedule("digest", MESSAGE, every="2h")
    with pytest.raises(SettingsError, match=r"no message; write send\.message"):
        Schedule("other", "mail.digest", every="2h")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="has a delay or a time of its own"):
        Schedule("other", TaskMessage.create("mail.digest", due=2e9), every="2h")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"cron": "0 0 29 2 *"}, ["it fires on 29 February only, next in 2028"]),
        ({"cron": "0 0 31 * *"}, ["months without a day 31 are left out; L is the last day of each month"]),
        ({"cron": "0 0 1 * 1"}, ["it fires on days that fit the day of month or the day of week"]),
        ({"cron": "0 7 * * *"}, []),
        ({"every": "10m"}, []),
        ({"cron": "0 0 * * *", "start": datetime(2029, 1, 1, tzinfo=UTC)}, ["it does not fire before 2029-01-01"]),
        (
            {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
            [
                "on 2027-03-28 the clocks go forward and there is no 02:30: it fires at 03:00 instead",
                "on 2027-10-31 the clocks go back and 02:30 comes twice: it fires once, at 02:30 +0200",
            ],
        ),
        (
            {"cron": "*/30 * * * *", "timezone": "Europe/Berlin"},
            [
                "on 2027-03-28 the clocks go forward and there is no 02:00, 02:30: it is left out",
                "on 2027-10-31 the clocks go back and 02:00, 02:30 comes twice: it fires both times",
            ],
        ),
        ({"cron": "0 7 * * *", "timezone": "Europe/Berlin"}, []),
    ],
)
def test_what_its_line_does_not_show(times: dict[str, object], expected: list[str]) -> None:
    """Days that months lack, and nights on which the clocks are changed."""
    schedule = Schedule("digest", MESSAGE, **times)  # type: ignore[arg-type]
    said = remarks(schedule, datetime(2027, 1, 1, tzinfo=UTC))

    assert len(said) == len(expected)
    assert all(one.startswith(start) for one, start in zip(said, expected, strict=True))
