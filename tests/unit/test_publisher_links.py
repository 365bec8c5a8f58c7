"""A publisher and links that are of no use: a broker without confirms, one that hangs up, one that blocks for good."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pika import frame, spec

from leveret import BrokerUnreachable, ConfirmTimeout, Publisher, Settings, SettingsError, TaskMessage
from leveret.topology.link.connection import Pauses
from tests.unit.played import CHANNELS, HANG_UP, Answers, Played

CONFIRMING = {**CHANNELS, spec.Confirm.Select: lambda number: frame.Method(number, spec.Confirm.SelectOk()).marshal()}
BLOCKED = frame.Method(0, spec.Connection.Blocked("low on memory")).marshal()


@pytest.fixture
def play() -> Iterator[Any]:
    """Make brokers that answer so."""
    played: list[Played] = []

    def make(answers: Answers) -> Played:
        played.append(Played(answers))
        return played[-1]

    yield make
    for broker in played:
        broker.close()


@pytest.mark.parametrize("able", [{}, {"publisher_confirms": True}, {"basic.nack": True}])
def test_a_broker_without_confirms_is_refused(able: dict[str, bool], play: Any) -> None:
    """At once, and nothing is sent that might be stored or not."""
    start = frame.Method(0, spec.Connection.Start(0, 9, {"capabilities": able})).marshal()
    broker = play({**CONFIRMING, frame.ProtocolHeader: start})

    with (
        Publisher(Settings(broker.url), timeout=30) as publisher,
        pytest.raises(SettingsError, match=r"127\.0\.0\.1.* has no publisher confirms.*was not sent; not tried again"),
    ):
        publisher.submit("a.b")

    assert spec.Basic.Publish not in broker.heard


@pytest.mark.parametrize(
    "ending",
    [
        lambda number: frame.Method(number, spec.Channel.Close(541, "INTERNAL_ERROR", 0, 0)).marshal(),
        lambda _number: frame.Method(0, spec.Connection.Close(320, "FORCED - leaving", 0, 0)).marshal(),
    ],
    ids=["channel", "connection"],
)
def test_a_channel_that_is_closed_together_with_its_opening(ending: Callable[[int], bytes], play: Any) -> None:
    """Another one is opened, and what waits is published on that."""
    opened: list[int] = []

    def open_channel(number: int) -> bytes:
        opened.append(number)
        answer: bytes = frame.Method(number, spec.Channel.OpenOk()).marshal()
        return answer + (ending(number) if len(opened) == 1 else b"")

    confirm = frame.Method(1, spec.Basic.Ack(1)).marshal()
    broker = play({**CONFIRMING, spec.Channel.Open: open_channel, spec.Basic.Publish: confirm})

    with Publisher(Settings(broker.url), timeout=30) as publisher:
        publisher.submit("a.b")

    assert len(opened) == 2


def test_what_was_not_sent_is_told_as_that(play: Any) -> None:
    """Nobody has to wonder whether it is stored: the broker has not answered yet, or not to what goes before it."""
    with (
        Publisher(Settings(play({}).url), timeout=0.3) as publisher,
        pytest.raises(BrokerUnreachable, match=r"no connection .* was open within 0\.3 s, so message .* was not sent"),
    ):
        publisher.submit("a.b")
    message = TaskMessage.create("a.b")
    confirms = [frame.Method(1, spec.Basic.Ack(1)).marshal()]
    first_only = {**CONFIRMING, spec.Basic.Publish: lambda _number: confirms.pop() if confirms else b""}
    with Publisher(Settings(play(first_only).url), timeout=30) as publisher:
        publisher.submit("a.b")
        twice = [message, dataclasses.replace(message, task="a.c")]  # the same id twice is sent one by one
        outcomes = dict(publisher.publish_many(twice, timeout=0.3))

    assert [str(outcome).partition(" did not confirm ")[2] for outcome in outcomes.values()] == [
        f"message {message.id} within 0.3 s; it may be stored or not. Submit it again under the same id if running it "
        "twice does no harm",
        f"what goes before message {message.id} within 0.3 s, so that was not sent; submit it again",
    ]


def test_links_that_are_lost_at_once_are_opened_with_pauses(play: Any) -> None:
    """A broker that opens each and hangs up is not asked again at once, as often as it can answer."""
    broker = play({**CONFIRMING, spec.Basic.Publish: HANG_UP})

    with Publisher(Settings(broker.url), timeout=3) as publisher, pytest.raises(ConfirmTimeout):
        publisher.submit("a.b")

    assert 2 <= broker.heard.count(spec.Connection.Open) <= 10


def test_pauses_grow_until_a_link_has_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """None before the first try; longer with each that led to nothing, or to a link that was lost at once."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pauses = Pauses()
    assert pauses.next_seconds() == 0
    for longest in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        pauses.on_open()
        now += 0.5
        assert longest / 2 <= pauses.next_seconds() <= longest

    pauses.on_open()
    now += 1

    assert pauses.next_seconds() == 0
    assert 0 < pauses.next_seconds() <= 0.1


_INTERRUPTED = """
import os
from leveret import Publisher, submit
if "OWN" in os.environ:
    with Publisher() as publisher:
        publisher.submit("a.b")
submit("a.b")
"""


class Interrupted:
    """A program that submits, and gets a Ctrl-C once its broker has heard of that."""

    def __init__(self, broker: Played, when: Any, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _INTERRUPTED],
            env={**os.environ, "AMQP_URL": broker.url, "PUBLISH_TIMEOUT_SECONDS": "600", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        broker.await_method(when)
        self._process.send_signal(signal.SIGINT)
        self._patience = threading.Timer(60, self._process.kill)
        self._patience.start()

    def __enter__(self) -> Interrupted:
        return self

    def __exit__(self, *_: object) -> None:
        self._patience.cancel()
        self._process.kill()
        self._process.communicate()

    def says(self) -> str:
        """Read what leveret says on stderr next; nothing at the end."""
        assert self._process.stderr
        return next((line for line in self._process.stderr if line.startswith("leveret: ")), "")

    def ends(self) -> None:
        """See that it ends by its interrupt, without another word, and long before its publish is given up."""
        assert self.says() == ""
        assert self._process.wait() == -signal.SIGINT


@pytest.mark.parametrize("environment", [{}, {"OWN": "yes"}], ids=["default", "own"])
@pytest.mark.parametrize(
    ("answers", "when", "why"),
    [
        ({frame.ProtocolHeader: HANG_UP}, frame.ProtocolHeader, "the broker at .* does not speak AMQP"),
        (
            {**CONFIRMING, spec.Basic.Publish: BLOCKED},
            spec.Basic.Publish,
            r"the broker at .* blocks publishers \(low on memory\)",
        ),
    ],
    ids=["no connection", "blocked"],
)
def test_an_interrupted_program_gives_up_what_cannot_arrive(
    answers: Answers, when: Any, why: str, environment: dict[str, str], play: Any
) -> None:
    """And says which broker has not confirmed how much."""
    with Interrupted(play(answers), when, **environment) as program:
        assert re.match(f"leveret: gave up 1 message\\(s\\) that were not confirmed: {why}", program.says())
        program.ends()


def test_an_interrupted_program_says_what_it_waits_for(play: Any) -> None:
    """Once, and for how long; it ends when that has come."""
    broker = play(CONFIRMING)
    expected = r"leveret: waiting for the broker at .* to confirm 1 message\(s\), at most \d\d\d s"
    with Interrupted(broker, spec.Basic.Publish) as program:
        assert re.match(expected, program.says())
        broker.send(frame.Method(1, spec.Basic.Ack(1)).marshal())
        program.ends()
