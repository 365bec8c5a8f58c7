"""How many messages are held follows how long tasks take."""

from __future__ import annotations

import pytest

from leveret.consumers.taking.prefetch_levels import (
    first_prefetch,
    longest_wait_seconds,
    next_prefetch,
    next_shared_prefetch,
)


@pytest.mark.parametrize(
    ("current", "pace_seconds", "expected"),
    [
        (4, 0.000_02, 512),
        (4, 0.001, 64),
        (4, 0.005, 16),
        (4, 5.0, 4),
        (512, 0.000_4, 512),
        (512, 0.000_9, 512),
        (512, 0.001_1, 64),
        (512, 5.0, 4),
        (16, 0.015, 16),
        (16, 0.021, 4),
    ],
)
def test_prefetch_follows_the_pace(current: int, pace_seconds: float, expected: int) -> None:
    """Tiny tasks raise it at once; it falls only when tasks are clearly slower than its level is for."""

    assert next_prefetch(current, pace_seconds, 200, processes=2) == expected


def test_unknown_tasks_get_few() -> None:
    """A worker that knows nothing yet holds two messages for each process."""

    assert first_prefetch(3) == 6


@pytest.mark.parametrize("pace_seconds", [1e-6, 0.0005, 0.0007, 0.002, 0.01, 0.5])
def test_a_steady_pace_settles(pace_seconds: float) -> None:
    """At one pace the prefetch finds its level and stays there."""
    settled = next_prefetch(first_prefetch(4), pace_seconds, 200, 4)

    assert next_prefetch(settled, pace_seconds, 200, 4) == settled


@pytest.mark.parametrize(("body_bytes", "expected"), [(1_000, 512), (100_000, 64), (1_000_000, 16), (10_000_000, 4)])
def test_large_messages_are_held_in_smaller_numbers(body_bytes: int, expected: int) -> None:
    """However tiny the tasks, what is held of large messages fits into memory."""

    assert next_prefetch(4, 0.000_02, body_bytes, processes=2) == expected


@pytest.mark.parametrize(("pace_seconds", "expected"), [(10.0, 4), (70.0, 2), (1500.0, 2)])
def test_tasks_nearly_as_long_as_the_broker_waits_are_held_only_while_they_run(
    pace_seconds: float, expected: int
) -> None:
    """With 25 minutes of the 30 for the task, a message may wait some minutes for a process, no more."""

    assert next_prefetch(2, pace_seconds, 200, 2, longest_wait_seconds(1800, 1500)) == expected


@pytest.mark.parametrize(
    ("time_limit_seconds", "expected"), [(0, 1620), (1000, 720), (1500, 270), (1700, 225), (1800, 225), (9999, 225)]
)
def test_a_message_may_wait_for_what_the_time_limit_leaves(time_limit_seconds: float, expected: float) -> None:
    """Of the broker's 30 minutes; and an eighth of them in any case."""

    assert longest_wait_seconds(1800, time_limit_seconds) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("current", "pace_seconds", "places", "expected"),
    [
        (1000, 10.0, 1000, 1000),
        (1000, 0.5, 1000, 1250),
        (1000, 0.05, 1000, 2000),
        (2000, 0.15, 1000, 2000),
        (2000, 0.3, 1000, 1250),
        (20, 0.000_02, 20, 512),
        (20, 0.005, 20, 512),
        (20, 0.05, 20, 40),
        (20_000, 0.01, 60_000, 65_535),
    ],
)
def test_what_runs_side_by_side_is_held_for_its_places(
    current: int, pace_seconds: float, places: int, expected: int
) -> None:
    """Of slow tasks as many as can begin at once, of short ones more, so that places do not wait for the broker."""

    assert next_shared_prefetch(current, pace_seconds, 200, processes=2, places=places) == expected


def test_large_messages_side_by_side_fit_into_memory() -> None:
    """However many places there are."""

    assert next_shared_prefetch(4, 10.0, 1_000_000, processes=2, places=1000) == 33
