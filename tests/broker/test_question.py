"""Questions to who serves, and the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from leveret import AccessRefused, NobodyAnswers, QuestionRefused
from leveret.topology.access.rights import rights_of
from leveret.topology.link.question import (
    LARGEST_QUESTION_BYTES,
    RECORDERS,
    WORKERS,
    Questions,
    ask,
    ask_async,
    is_reply_key,
)
from leveret.topology.names import CONTROL_EXCHANGE
from tests.broker.support import Vhost, await_value

Serve = Callable[[dict[str, Any]], list[object]]


@contextlib.contextmanager
def serving(vhost: Vhost, serve: Serve, key: str = RECORDERS.key) -> Iterator[list[pika.BasicProperties]]:
    """Answer each question with what `serve` returns for it; yields the properties of the questions that came."""
    asked: list[pika.BasicProperties] = []
    connection = vhost.connect()
    channel = connection.channel()
    name = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(name, CONTROL_EXCHANGE, key)

    def on_question(_channel: Any, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        asked.append(properties)
        for answer in serve(json.loads(body)):
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            back = pika.BasicProperties(correlation_id=properties.correlation_id)
            channel.basic_publish("tasks.events", properties.reply_to, text, back)

    channel.basic_consume(name, on_question, auto_ack=True)
    ends = threading.Event()

    def run() -> None:
        while not ends.is_set():
            connection.process_data_events(0.05)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield asked
    finally:
        ends.set()
        thread.join()


def test_a_question_is_answered(vhost: Vhost) -> None:
    """The answer is a JSON object, and the address it went to leads to who asked."""
    vhost.declare()
    with serving(vhost, lambda question: [{"version": 1, "said": question}]) as asked:
        (answer,) = ask(vhost.settings, RECORDERS, {"ask": "status", "ids": ["a"]})

    assert answer["said"] == {"version": 1, "ask": "status", "ids": ["a"]}
    assert is_reply_key(asked[0].reply_to)


def test_many_answers_are_taken_until_none_comes_any_more(vhost: Vhost) -> None:
    """Where nobody knows how many there are, a silence ends it."""
    vhost.declare()
    with serving(vhost, lambda _: [{"version": 1, "worker": number} for number in range(3)], WORKERS.key):
        answers = ask(vhost.settings, WORKERS, {"ask": "info"}, None, 30, silence_seconds=0.5)

    assert [answer["worker"] for answer in answers] == [0, 1, 2]


def test_what_is_no_answer_is_left_out(vhost: Vhost) -> None:
    """Neither what is no JSON object of a known version, nor what is larger than any answer may be."""
    vhost.declare()
    garbage: list[object] = [b"\xff", b"[" * 1000, b"[]", {"version": 2}, b" " * 2_000_000, {"version": 1, "is": "it"}]
    with serving(vhost, lambda _: garbage):
        answers = ask(vhost.settings, RECORDERS, {"ask": "status"})

    assert answers == [{"version": 1, "is": "it"}]


def test_nobody_is_there_to_ask(vhost: Vhost) -> None:
    """The broker returns the question, so it is said long before an answer could be late."""
    vhost.declare()

    with pytest.raises(NobodyAnswers, match=r"there is no recorder to ask.*leveret recorder"):
        ask(vhost.settings, RECORDERS, {"ask": "status"}, seconds=60)


def test_nothing_was_ever_declared(vhost: Vhost) -> None:
    """Without the exchange there is nobody to ask either."""
    with pytest.raises(NobodyAnswers, match="there is no worker to ask"):
        ask(vhost.settings, WORKERS, {"ask": "info"}, seconds=60)


def test_nobody_answers_in_time(vhost: Vhost) -> None:
    """Somebody is bound, and silent."""
    vhost.declare()
    with serving(vhost, lambda _: []), pytest.raises(NobodyAnswers, match=r"no recorder at .* has answered within"):
        ask(vhost.settings, RECORDERS, {"ask": "status"}, seconds=0.2)


def test_one_link_asks_again_after_a_late_answer(vhost: Vhost) -> None:
    """An answer to an earlier question is none to this one."""
    vhost.declare()

    async def ask_twice() -> list[dict[str, Any]]:
        questions = Questions(vhost.settings)
        await questions.open()
        try:
            with pytest.raises(NobodyAnswers):
                await questions.ask(RECORDERS, {"ask": "first"}, seconds=0.0)
            return await questions.ask(RECORDERS, {"ask": "second"})
        finally:
            await questions.close()

    with serving(vhost, lambda question: [{"version": 1, "to": question["ask"]}]):
        assert asyncio.run(ask_twice()) == [{"version": 1, "to": "second"}]


def test_a_refusal_is_an_error(vhost: Vhost) -> None:
    """What it says is shown without its control characters."""
    vhost.declare()

    async def ask_one() -> None:
        questions = Questions(vhost.settings)
        await questions.open()
        try:
            await questions.ask_one(RECORDERS, {"ask": "x"})
        finally:
            await questions.close()

    refusal = {"version": 1, "error": "no\x1b[31m"}
    with serving(vhost, lambda _: [refusal]), pytest.raises(QuestionRefused, match=r"refused the question: no\\x1b"):
        asyncio.run(ask_one())


def test_a_question_that_is_too_large_is_not_asked(vhost: Vhost) -> None:
    """Who serves would refuse it anyway."""
    with pytest.raises(QuestionRefused, match="ask for less"):
        ask(vhost.settings, RECORDERS, {"ask": "status", "ids": ["a" * LARGEST_QUESTION_BYTES]})


def test_who_may_not_ask_is_told_which_rights_it_takes(vhost: Vhost) -> None:
    """Asking takes the rights of a producer, and no others."""
    vhost.declare()
    with vhost.limited_user(write="^other$") as url, pytest.raises(AccessRefused, match="rights of a producer"):
        asyncio.run(ask_async(vhost.settings_for(url), RECORDERS, {"ask": "status"}, seconds=60))
    with (
        vhost.limited_user(**rights_of("producer", [])._asdict()) as url,
        serving(vhost, lambda _: [{"version": 1, "is": "it"}]),
    ):
        assert ask(vhost.settings_for(url), RECORDERS, {"ask": "status"})[0]["is"] == "it"


def test_asking_ends_when_the_link_does(vhost: Vhost) -> None:
    """The error is that of the link, at once."""
    vhost.declare()
    began = time.monotonic()

    def cut() -> None:
        def look() -> list[Any]:
            return [one for one in vhost.api("GET", "connections") or [] if one.get("vhost") == vhost.name]

        await_value(lambda: [one for one in look() if "asking" in str(one.get("client_properties"))], "the asker")
        for one in look():
            vhost.api("DELETE", f"connections/{one['name'].replace(' ', '%20').replace('>', '%3E')}")

    with serving_nothing(vhost):
        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(Exception, match="broker") as caught:
            ask(vhost.settings, RECORDERS, {"ask": "status"}, seconds=50)
        cutter.join()
    assert type(caught.value).__name__ == "BrokerUnreachable"
    assert time.monotonic() - began < 45


@contextlib.contextmanager
def serving_nothing(vhost: Vhost) -> Iterator[None]:
    """Bind a queue whose questions nobody takes."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("unanswered")
        channel.queue_bind("unanswered", CONTROL_EXCHANGE, RECORDERS.key)
    yield
