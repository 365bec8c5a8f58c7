"""Commands to all workers: what is written is read, what is forged is refused, and what is remembered is bounded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest
from pika.exceptions import ConnectionClosedByBroker, StreamLostError

from leveret.consumers.control import control as control_module
from leveret.consumers.control.control import Control
from leveret.topology import control
from leveret.topology.control import REDRIVEN_AT, Command, is_older, read_cancel, read_pause
from leveret.topology.errors import MessageError, UnreadableMessage
from leveret.topology.objects import CANCELS_LIVE_SECONDS
from leveret.topology.settings import Settings

SAID = Command(1_785_585_600.5, "ops@desk", "wrong\nlist ä")


def delivery_of(task_id: str, timestamp: int | None = None, redriven: object = None) -> Any:
    headers = None if redriven is None else {REDRIVEN_AT: redriven}
    return SimpleNamespace(id=task_id, properties=SimpleNamespace(timestamp=timestamp, headers=headers))


def test_what_is_written_is_read() -> None:
    """Many ids take several messages."""
    ids = [f"id-{number}" for number in range(control.MOST_IDS + 1)]
    first, second = map(read_cancel, control.write_cancels(ids, SAID))

    assert (first, second) == ((ids[:-1], SAID), (ids[-1:], SAID))
    assert list(control.write_cancels([], SAID)) == []
    for is_paused in (True, False):
        assert read_pause(control.write_pause("mail", is_paused, SAID)) == ("mail", is_paused, SAID)


def test_a_command_is_shown_in_one_printable_line() -> None:
    """Whoever said it may have put anything there."""
    assert str(SAID) == "by ops@desk: wrong\\nlist ä"
    assert str(SAID._replace(reason="")) == "by ops@desk"


CANCEL = {"version": 1, "cancel": ["one"], "at": 1, "by": "me", "reason": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"cancel": "one"},
        {"cancel": []},
        {"cancel": ["x"] * (control.MOST_IDS + 1)},
        {"cancel": [7]},
        {"cancel": ["a\x1bb"]},
        {"cancel": ["x" * 256]},
        {"at": None},
        {"at": True},
        {"at": float("inf")},
        {"at": "now"},
        {"by": 7},
        {"by": "x" * 256},
        {"reason": ["no"]},
        {"reason": "x" * 1001},
    ],
)
def test_a_forged_cancel_is_refused(change: dict[str, object]) -> None:
    """With what is wrong with it, in words that can be shown."""
    assert read_cancel(json.dumps(CANCEL).encode())[0] == ["one"]
    with pytest.raises(UnreadableMessage, match=r"^a cancel") as refused:
        read_cancel(json.dumps({**CANCEL, **change}).encode())

    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[" * 300 + b"]" * 300, b'{"version":1}', b"[1]", b" " * (1024 * 1024 + 1), b"9" * 5000]
)
def test_what_is_no_command_is_refused(body: bytes) -> None:
    """Whatever its size or depth."""
    for read in (read_cancel, read_pause):
        with pytest.raises(UnreadableMessage):
            read(body)


@pytest.mark.parametrize(
    "change", [{"resume": "mail"}, {"pause": ""}, {"pause": 7}, {"pause": "x" * 256}, {"at": None}, {"reason": 7}]
)
def test_a_forged_pause_is_refused(change: dict[str, object]) -> None:
    """One that says both, or neither, too."""
    with pytest.raises(UnreadableMessage, match=r"^a pause"):
        read_pause(json.dumps({"version": 1, "pause": "mail", "at": 1, **change}).encode())


def test_a_reason_is_short_text() -> None:
    """What UTF-8 cannot carry is replaced."""
    assert control.check_reason("\ud800!") == "?!"
    with pytest.raises(MessageError, match="over the limit of 1,000; shorten it"):
        control.check_reason("ä" * 501)


@pytest.mark.parametrize(
    ("timestamp", "redriven", "older"),
    [
        (None, None, True),
        (999, None, True),
        (1005, None, True),  # clocks differ
        (1006, None, False),
        (999, 1_000_000, True),
        (999, 1_000_001, False),
        ("never", "later", True),  # whoever sends such a thing has no wish
    ],
)
def test_what_came_later_is_a_new_wish(timestamp: Any, redriven: Any, older: bool) -> None:
    """By the time of the publisher, and of who redrove it."""
    assert is_older(delivery_of("x", timestamp, redriven).properties, Command(1000.0, "", "")) is older


class Heard(Control):
    """What a worker knows, without a broker."""

    def __init__(self) -> None:
        self.told: list[Collection[str]] = []
        self.paused: list[tuple[str, bool]] = []
        super().__init__(
            Settings(), False, self.told.append, lambda name, paused, _command: self.paused.append((name, paused))
        )

    def cancel(self, *ids: str, at: float | None = None) -> None:
        self._take_cancel(next(control.write_cancels(ids, SAID._replace(at=time.time() if at is None else at))))

    def pause(self, queue: str, is_paused: bool = True) -> None:
        self._take_pause(control.write_pause(queue, is_paused, SAID))


def test_what_was_cancelled_is_known_and_told_once_a_turn() -> None:
    """With who did it, in the delivery."""

    async def play() -> None:
        heard = Heard()
        heard.cancel("one", "two")
        heard.cancel("three")
        assert heard.told == []
        await asyncio.sleep(0)
        assert heard.told == [{"one", "two", "three"}]
        one = delivery_of("one")
        assert heard.is_cancelled(one)
        assert one.cancel.by == "ops@desk"
        assert not heard.is_cancelled(delivery_of("four"))
        assert not heard.is_cancelled(delivery_of("one", int(time.time()) + 60))

    asyncio.run(play())


def test_a_clock_that_is_ahead_cancels_nothing_of_later() -> None:
    """A cancel counts from when it was heard of at the latest."""

    async def play() -> None:
        heard = Heard()
        heard.cancel("one", at=time.time() + 3600)
        assert not heard.is_cancelled(delivery_of("one", int(time.time()) + 60))

    asyncio.run(play())


def test_cancels_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By age, and the oldest of too many."""
    monkeypatch.setattr(control_module, "MOST_CANCELS", 3)

    async def play() -> None:
        heard = Heard()
        heard.cancel("old", at=time.time() - CANCELS_LIVE_SECONDS - 1)
        assert not heard.cancels
        heard.cancel("one", "two", "three")
        heard.cancel("one")
        heard.cancel("four")
        assert list(heard.cancels) == ["three", "one", "four"]
        heard.cancels["one"] = SAID._replace(at=time.time() - CANCELS_LIVE_SECONDS - 1)
        assert not heard.is_cancelled(delivery_of("one"))

    asyncio.run(play())


def test_the_last_word_on_a_queue_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not too many are remembered."""
    monkeypatch.setattr(control_module, "_MOST_PAUSES", 2)
    heard = Heard()
    heard.pause("mail")
    heard.pause("mail", False)
    heard.pause("mail", False)
    assert heard.pauses == {}
    for queue in ("mail", "pdf", "mail", "shop"):
        heard.pause(queue)

    assert list(heard.pauses) == ["mail", "shop"]
    assert heard.paused[:3] == [("mail", True), ("mail", False), ("mail", False)]


@pytest.mark.parametrize(
    ("reason", "apart"),
    [
        (ConnectionClosedByBroker(541, "INTERNAL_ERROR"), True),
        (ConnectionClosedByBroker(320, "CONNECTION_FORCED - the node stops"), False),
        (StreamLostError("reset"), False),
    ],
)
def test_after_an_internal_error_the_streams_are_read_apart(reason: BaseException, apart: bool) -> None:
    """For that is how RabbitMQ 4.3 ends the connection of who reads a stream that it breaks at."""

    async def lose() -> bool:
        told: list[Callable[[object, BaseException], None]] = []
        heard = Heard()
        await heard.read(SimpleNamespace(is_open=False, add_on_close_callback=told.append))
        for one in told:
            one(None, reason)
        return heard.is_apart

    assert asyncio.run(lose()) == apart
