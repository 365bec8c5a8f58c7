"""How many processes there are to be: more at once, fewer when it has been calm for a while."""

from __future__ import annotations

import pytest

from leveret.consumers.taking.elastic import CALM_SECONDS, STEP_SECONDS, Load, Sizer


def test_it_grows_at_once_and_not_beyond_the_most() -> None:
    """However many are wanted."""
    sizer = Sizer(1, 8)

    assert sizer.next(0.0, 3, 1) == 3
    assert sizer.next(0.1, 100, 3) == 8


def test_it_shrinks_one_at_a_time_and_not_below_the_fewest() -> None:
    """Once fewer have been enough for long, and then a step at a time."""
    sizer = Sizer(2, 4)
    now, size = 100.0, 4
    sizes = []
    while now < 100 + CALM_SECONDS + 10 * STEP_SECONDS:
        size = sizer.next(now, 0, size)
        sizes.append(size)
        now += STEP_SECONDS / 2

    assert sizes[: int(CALM_SECONDS)] == [4] * int(CALM_SECONDS)
    assert [one for one, before in zip(sizes[1:], sizes, strict=False) if one != before] == [3, 2]
    assert sizes[-1] == 2


def test_what_is_needed_in_between_begins_the_calm_anew() -> None:
    """So that a load which comes and goes does not start and end processes all the time."""
    sizer = Sizer(1, 4)
    assert sizer.next(0.0, 1, 4) == 4
    assert sizer.next(CALM_SECONDS - 0.1, 4, 4) == 4
    assert sizer.next(CALM_SECONDS, 1, 4) == 4
    assert sizer.next(2 * CALM_SECONDS - 0.1, 1, 4) == 4
    assert sizer.next(2 * CALM_SECONDS, 1, 4) == 3


def test_of_many_several_are_let_go_at_once() -> None:
    """Or it would take an hour."""
    sizer = Sizer(1, 1000)
    sizer.next(0.0, 1, 800)

    assert sizer.next(CALM_SECONDS, 1, 800) == 700


@pytest.mark.parametrize(
    ("load", "places", "processes"),
    [
        (Load(0, 0, 0.0), 1, 0),
        (Load(1, 1, 0.0), 1, 1),
        (Load(4, 1, 0.003), 1, 2),  # one is held by a long task, another is for the rest
        (Load(4, 4, 0.0), 1, 4),
        (Load(20, 0, 5.0), 1, 5),
        (Load(3, 0, 180.0), 1, 3),
        (Load(100, 50, 0.5), 25, 3),
    ],
)
def test_long_tasks_hold_a_process_and_short_ones_share_one(load: Load, places: int, processes: int) -> None:
    """What has run for long may do so for ever, whatever its like took."""
    assert load.processes(places) == processes
