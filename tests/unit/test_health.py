"""What a worker's health is, by looks that follow each other, and by a loop that does not turn."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence

import pytest

from leveret.consumers.measuring import health
from leveret.consumers.measuring.health import CHILD_SECONDS, LINK_SECONDS, Health, Judge, Seen
from leveret.consumers.running.crew import Owing

LONG = CHILD_SECONDS + 1


def seen(*owing: Owing, is_linked: bool = True, waiting: int = 0, has_children: bool = True) -> Seen:
    return Seen(is_linked, owing, waiting, has_children)


def child(ended: int = 0, deadline: float = 0.0, slot: int = 0, process: int = 7) -> Owing:
    return Owing(slot, process, 2, ended, deadline)


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([seen(), seen()], ""),
        ([seen(waiting=9), seen(waiting=9)], ""),
        ([seen(child()), seen(child())], "child process 7 has begun none of the 2 task(s) it has, for 31 s"),
        ([seen(child()), seen(child(ended=1))], ""),
        ([seen(child()), seen(child(process=8))], ""),
        ([seen(child()), seen(), seen(child())], ""),
        ([seen(child(deadline=math.inf)), seen(child(deadline=math.inf))], ""),
        ([seen(child(deadline=10_000)), seen(child(deadline=10_000))], ""),
        (
            [seen(child(deadline=0.5)), seen(child(deadline=0.5))],
            "child process 7 goes on past its time limit with one of the 2 task(s) it has, for 31 s",
        ),
        ([seen(child(deadline=LONG - 1)), seen(child(deadline=LONG - 1))], ""),
        (
            [seen(child(deadline=math.inf), child(slot=1, process=9))] * 2,
            "child process 9 has begun none of the 2 task(s) it has, for 31 s",
        ),
        (
            [seen(waiting=3, has_children=False)] * 2,
            "no child process is there for 31 s, and 3 task(s) wait for one",
        ),
        ([seen(has_children=False)] * 2, ""),
        ([seen(is_linked=False)] * 2, ""),
    ],
)
def test_judged(looks: Sequence[Seen], said: str) -> None:
    """A child has to move that has something and runs nothing within its limit; looks are far apart here."""
    judge = Judge(1.0)
    verdicts = [judge.judge(look, 1.0 + number * LONG) for number, look in enumerate(looks)]

    assert verdicts[-1] == said
    assert set(verdicts[:-1]) == {""}


def test_past_its_limit_is_counted_from_when_that_was_seen() -> None:
    """A task that has run long within its limit has the whole patience once that is over."""
    judge = Judge(0.0)
    for now in range(0, 1000, 10):
        assert judge.judge(seen(child(deadline=990.0)), float(now)) == ""

    assert judge.judge(seen(child(deadline=990.0)), 990.0 + CHILD_SECONDS - 1) == ""
    assert judge.judge(seen(child(deadline=990.0)), 990.0 + LONG) != ""


def test_no_connection_for_long() -> None:
    """A link that was lost is not missed at once, and forgotten when it is there again."""
    judge = Judge(0.0)

    assert judge.judge(seen(is_linked=False), LINK_SECONDS - 1) == ""
    assert judge.judge(seen(is_linked=False), LINK_SECONDS + 1) == "no connection to the broker for 301 s"
    assert judge.judge(seen(), LINK_SECONDS + 2) == ""
    assert judge.judge(seen(is_linked=False), LINK_SECONDS + 3) == ""


def test_a_loop_that_does_not_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread sees that the loop is held, and that it turns again."""
    monkeypatch.setattr(health, "LOOP_SECONDS", 0.1)
    monkeypatch.setattr(health, "_BEAT_SECONDS", 0.01)
    go, made, found = threading.Event(), threading.Event(), []

    async def work() -> None:
        watched = Health(seen)
        found.append(watched)
        made.set()
        go.wait()
        while watched.stuck:
            await asyncio.sleep(0.01)
        watched.stop()

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    made.wait()
    while not (said := found[0].stuck):
        pass
    go.set()
    thread.join()

    assert said.startswith("the main loop has not turned for ")
    assert not thread.is_alive()
