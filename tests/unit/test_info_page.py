"""The page of `leveret info`: within 80 columns, nothing raw from others in it, and it says what needs a look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leveret.command.info_page import page, row
from leveret.command.table import spell
from leveret.producers.watching.counts import Counts
from leveret.producers.watching.look import Look, queue_look, warnings_of, what_runs
from leveret.producers.watching.rates import Rate
from leveret.topology import workers
from leveret.topology.sizing import processes_for
from tests.unit.test_worker_info import queue_told, running_told, told


def counted(**counts: int) -> Counts:
    made = Counts()
    made.update({name.replace("_", "."): count for name, count in counts.items()})
    return made


def look_at(*answers: dict[str, Any], counts: Counts, rate: Rate | None = None) -> Look:
    """A look at the queue `shop`, which has no retry tiers but in what workers tell."""
    infos = [workers.read(answer) for answer in answers]
    seen = [(info, at) for info in infos for at in info.queues]
    queue = queue_look("shop", [5.0], counts, rate, seen)
    running = what_runs(infos)
    warnings = warnings_of([queue], running, {})
    return Look(1785585700.0, "rabbit:5672/shop", "4.3.6", infos, [queue], running, len(running), warnings, [])


def test_all_of_it_fits_into_eighty_columns() -> None:
    """Also with names as long as they may be; of an id the whole is shown."""
    task_id = "0198f2c4-1111-7222-8333-444455556666"
    shown = look_at(
        told(
            worker="w" * 255,
            queues=[queue_told()],
            running=[running_told(id=task_id, task="t" * 255, seconds=1400.0)],
        ),
        counts=counted(shop=812, shop_dlq=30),
    )
    lines = page(shown, 80)

    assert max(map(len, lines)) <= 80
    assert any(line.startswith("!") and "23m20s" in line and line.endswith("…") for line in lines)


def test_a_running_task_is_shown_with_its_whole_id() -> None:
    """It is what `leveret cancel` takes."""
    task_id = "0198f2c4-1111-7222-8333-444455556666"
    lines = page(look_at(told(running=[running_told(id=task_id)]), counts=counted(shop=0)), 80)

    assert any(line.endswith(task_id) for line in lines)


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        ({"done": 3.0, "total": 4.0, "note": ""}, "75%"),
        ({"done": 9.0, "total": 4.0, "note": ""}, "100%"),
        ({"done": 1234.0, "total": None, "note": ""}, "1234"),
        ({"done": 1e300, "total": 0.0, "note": ""}, "1e+300"),
    ],
)
def test_how_far_a_task_has_come_is_shown(progress: dict[str, Any], shown: str) -> None:
    """As a part of the whole, where that is known."""
    look = look_at(told(running=[running_told(progress=progress), running_told()]), counts=counted(shop=0))
    with_it, without = page(look, 80)[-2:]

    assert f" {shown} web-3" in with_it
    assert f" {' ' * len(shown)} web-3" in without


def test_nothing_raw_of_others_is_shown() -> None:
    """Control characters in whatever a forged answer says are escaped."""
    evil = "\x1b[31m\n\u202e"
    shown = look_at(
        told(
            worker=evil,
            host=evil,
            queues=[queue_told(paused={"by": evil, "at": 1.0, "reason": evil})],
            running=[running_told(id=evil, task=evil, seconds=1e10, limit=1.0)],
        ),
        counts=counted(shop=1),
    )

    assert all(line.isprintable() for line in page(shown, 80))
    assert json.loads(json.dumps(row(shown)))["workers"][0]["worker"] == evil


def test_a_queue_that_no_worker_takes_needs_a_look() -> None:
    """When something is in it; it will never be empty."""
    shown = look_at(counts=counted(shop=812, shop_dlq=3))
    (warning,) = shown.warnings
    lines = page(shown, 80)

    assert (warning.kind, warning.about) == ("no_worker", "shop")
    assert lines[2].split() == ["shop", "812", "-", "0", "0", "3", "-", "0.0", "never", "!"]
    assert lines[-1] == "! shop: no worker takes it; leveret run shop"
    assert look_at(counts=counted(shop=0)).warnings == []


def test_a_queue_with_priorities_shows_its_levels() -> None:
    """Below it, each with what is ready there; the queue has the sum. One that is missing is told of."""
    counts = counted(shop_high=2, shop=30, shop_low=400, shop_dlq=1)
    queue = queue_look("shop", [5.0], counts, None, [], has_levels=True)
    shown = Look(1785585700.0, "rabbit:5672/shop", "4.3.6", [], [queue], [], 0, warnings_of([queue], [], {}), [])
    del counts["shop.low"]
    without = queue_look("shop", [5.0], counts, None, [], has_levels=True)

    assert [line.split()[:2] for line in page(shown, 80)[2:6]] == [
        ["shop", "432"],
        ["high", "2"],
        ["normal", "30"],
        ["low", "400"],
    ]
    assert row(shown)["queues"][0]["ready_by_level"] == {"high": 2, "normal": 30, "low": 400}
    assert (queue.is_there, without.is_there) == (True, False)
    assert look_at(counts=counted(shop=1)).queues[0].ready_by_level is None


def test_how_long_a_backlog_will_take_is_told_by_the_rates() -> None:
    """What comes meanwhile counts; where as much comes as goes there is no end."""
    counts = counted(shop=238)
    steady, growing = Rate(1.0, 0, 1), Rate(2.0, 0, 1)

    assert look_at(told(), counts=counts, rate=steady).queues[0].empty_in_seconds == 240
    assert look_at(told(), counts=counts).queues[0].empty_in_seconds == 120
    assert look_at(told(), counts=counts, rate=growing).queues[0].empty_in_seconds is None


def test_what_is_not_there_and_what_is_paused_needs_a_look() -> None:
    """By whom it is paused, and why."""
    paused = queue_told(paused={"by": "ops@desk", "at": 1785585600.0, "reason": "the shop is closed"})
    kinds = [(one.kind, one.text) for one in look_at(told(queues=[paused]), counts=Counts()).warnings]

    assert kinds == [
        ("missing", "is not on the broker; leveret declare -a MODULE"),
        ("paused", "paused by ops@desk: the shop is closed"),
    ]


def test_a_paused_queue_wants_processes_for_what_runs_alone_and_will_not_be_empty() -> None:
    """However much waits."""
    paused = {"by": "ops@desk", "at": 1785585600.0, "reason": ""}
    counts = counted(shop=238)
    (going,) = look_at(told(), counts=counts).queues
    (still,) = look_at(told(queues=[queue_told(paused=paused)]), counts=counts).queues

    assert (going.empty_in_seconds, going.desired_processes) == (120, 121)
    assert (still.empty_in_seconds, still.desired_processes) == (None, 1)


def test_what_may_not_be_seen_is_not_called_missing() -> None:
    """An account without the right sees what its workers tell."""
    counts = Counts()
    counts.refused.add("shop")
    shown = look_at(told(), counts=counts)

    assert shown.warnings == []
    assert page(shown, 80)[2].split()[:2] == ["shop", "-"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.0s"),
        (9.94, "9.9s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (127, "2m07s"),
        (11_520, "3h12m"),
        (352_800, "4d02h"),
    ],
)
def test_a_duration_is_spelled_as_people_say_it(seconds: float | None, text: str) -> None:
    """In two units at most."""
    assert spell(seconds) == text


@pytest.mark.parametrize(
    ("tasks", "seconds_each", "places", "processes"),
    [
        (0, 1.0, 1, 0),
        (1, 0.001, 1, 1),
        (1000, 0.001, 1, 1),
        (5000, 0.001, 1, 5),
        (3, 60.0, 1, 3),  # more would have nothing to do
        (150, 10.0, 100, 2),
        (150, 0.01, 100, 1),
    ],
)
def test_as_many_processes_as_can_be_busy_and_end_it_soon(
    tasks: int, seconds_each: float, places: int, processes: int
) -> None:
    """Within a second, where tasks are shorter than that."""
    assert processes_for(tasks, seconds_each, places) == processes
