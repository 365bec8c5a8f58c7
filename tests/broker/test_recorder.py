"""The recorder: what is told on the exchange of events can be asked for afterwards, whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from leveret import (
    NobodyAnswers,
    Publisher,
    QuestionRefused,
    ResultMissed,
    ResultTimeout,
    State,
    Status,
    TaskCancelled,
    TaskFailed,
    TaskMessage,
    recorded,
    result_of,
    result_of_async,
    statuses,
    statuses_async,
)
from leveret.topology.access.rights import rights_of
from leveret.topology.events import Kind
from leveret.topology.link.question import RECORDERS, Questions, open_reply_queue
from leveret.topology.names import CONTROL_EXCHANGE, QUESTIONS_QUEUE
from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.recording import Recorders, await_recorded, objects_in, publish_events, tell
from tests.broker.support import Vhost, Worker, Workers, await_value, warm

FAILURE = {"type": "OSError", "message": "away", "traceback": "Traceback …", "fingerprint": "f"}


def await_state(vhost: Vhost, task_id: str, state: State) -> Status:
    """Wait until the record has it."""

    def look() -> Status | None:
        (status,) = statuses(task_id, configured=vhost.settings)
        return status if status.state is state else None

    return await_value(look, f"{task_id} to be {state}")


def test_what_was_told_can_be_asked_for(vhost: Vhost, recorders: Recorders) -> None:
    """States, results and lists, from a process that has submitted nothing."""
    recorders.start()
    tell(vhost, Kind.SUCCEEDED, ["a"], seconds=0.2, result='{"n": [1, 2]}')
    tell(vhost, Kind.RETRYING, ["b"], failure=FAILURE, next_at=time.time() + 5)
    tell(vhost, Kind.FAILED, ["c"], task="pdf.make", failure=FAILURE, lies_in="mail.dlq", attempt=4)
    tell(vhost, Kind.CANCELLED, ["d"], by="ops", reason="no longer needed")
    await_state(vhost, "d", State.CANCELLED)

    found = statuses("a", "b", "c", "x", configured=vhost.settings)
    assert [status.state for status in found] == ["succeeded", "retrying", "failed", "unknown"]
    assert found[0].result is None
    assert result_of("a", configured=vhost.settings) == {"n": [1, 2]}
    with pytest.raises(TaskFailed, match=r"'pdf\.make' failed in attempt 4 of 4: OSError: away; .* in mail\.dlq"):
        result_of("c", configured=vhost.settings)
    with pytest.raises(TaskCancelled, match="no longer needed"):
        result_of("d", configured=vhost.settings)
    with pytest.raises(ResultTimeout, match="it is retrying"):
        result_of("b", configured=vhost.settings)
    with pytest.raises(ResultMissed, match="knows nothing of a task x"):
        result_of("x", configured=vhost.settings)
    assert [one.id for one in recorded(state="failed", configured=vhost.settings)] == ["c"]
    assert {one.id for one in recorded(task="mail.*", since=600, configured=vhost.settings)} == {"a", "b", "d"}


def test_loops_ask_too(vhost: Vhost, recorders: Recorders) -> None:
    """On a loop of the program's own, many at once."""
    recorders.start()
    ids = [f"id-{number:04}" for number in range(450)]
    tell(vhost, Kind.SUCCEEDED, ids, result="5")
    await_state(vhost, ids[-1], State.SUCCEEDED)

    async def ask() -> tuple[list[Status], list[Any]]:
        results = [result_of_async(one, configured=vhost.settings) for one in ids[:3]]
        return await statuses_async(*ids, configured=vhost.settings), await asyncio.gather(*results)

    found, results = asyncio.run(ask())
    assert [one.id for one in found] == ids
    assert results == [5, 5, 5]
    assert len({one.id for one in recorded(configured=vhost.settings)}) == 450


def test_a_long_result_comes_in_pieces(vhost: Vhost, recorders: Recorders) -> None:
    """No answer is longer than any may be."""
    recorders.start()
    text = json.dumps(["é\u2028" * 100_000, "x" * 300_000], ensure_ascii=False)
    tell(vhost, Kind.SUCCEEDED, ["a"], result=text)
    await_state(vhost, "a", State.SUCCEEDED)

    assert result_of("a", configured=vhost.settings) == json.loads(text)


def test_long_failures_come_in_several_answers(vhost: Vhost, recorders: Recorders) -> None:
    """As many as fit into one answer, then the next."""
    recorders.start()
    ids = [f"id-{number:02}" for number in range(40)]
    for one in ids:
        tell(vhost, Kind.FAILED, [one], failure={"type": "E", "message": "\x01" * 20_000, "traceback": "é" * 70_000})
    await_state(vhost, ids[-1], State.FAILED)

    found = statuses(*ids, configured=vhost.settings)
    assert [one.id for one in found] == ids
    assert {len((one.failure or {})["traceback"]) for one in found} == {64 * 1024}
    assert len(list(recorded(configured=vhost.settings))) == 40


def test_what_waited_while_no_recorder_ran_is_recorded(vhost: Vhost, recorders: Recorders) -> None:
    """The queue keeps it; without a recorder asking is a clear error."""
    recorders.start().stop()
    tell(vhost, Kind.SUCCEEDED, ["a"], result="1")
    with pytest.raises(NobodyAnswers, match=r"no recorder at .* has answered within 2 s.*leveret recorder"):
        statuses("a", configured=vhost.settings)
    recorders.start()

    await_state(vhost, "a", State.SUCCEEDED)
    assert result_of("a", configured=vhost.settings) == 1


def test_another_recorder_takes_over_from_a_killed_one(vhost: Vhost, recorders: Recorders) -> None:
    """Nothing is missing of what was told meanwhile, and nothing is there twice."""
    first, _second = recorders.start(), recorders.start()
    ids = [f"id-{number:04}" for number in range(3000)]
    half = threading.Event()

    def publish() -> None:
        for start in range(0, len(ids), 100):
            tell(vhost, Kind.SUCCEEDED, ids[start : start + 100], result=json.dumps(start))
            if start >= 1000:
                half.set()

    publishing = threading.Thread(target=publish)
    publishing.start()
    half.wait()
    first.signal(signal.SIGKILL)
    publishing.join()

    def all_recorded() -> bool:
        return all(one.state is State.SUCCEEDED for one in statuses(*ids, configured=vhost.settings))

    await_value(all_recorded, "all to be recorded", patience_seconds=30)
    assert [result_of(ids[at], configured=vhost.settings) for at in (0, 150, 2999)] == [0, 100, 2900]


def test_events_nobody_can_read_do_not_hold_up_the_others(vhost: Vhost, recorders: Recorders) -> None:
    """Nor those that are not believed. They are logged and acknowledged."""
    recorder = recorders.start()
    tell(vhost, Kind.SUCCEEDED, ["a"], result="1")
    await_state(vhost, "a", State.SUCCEEDED)
    publish_events(vhost, [b"\xff", b"{}", b"[" * 10_000, b" " * (4 * 1024 * 1024 + 1)])
    tell(vhost, Kind.FAILED, ["a"], failure=FAILURE)
    tell(vhost, Kind.SUCCEEDED, ["a"], task="other", result="2")
    tell(vhost, Kind.SUCCEEDED, ["b"], result="3")
    await_state(vhost, "b", State.SUCCEEDED)

    assert result_of("a", configured=vhost.settings) == 1
    assert [one for one in recorder.events if "could not be read" in one["message"]]
    assert [one for one in recorder.events if "not believed" in one["message"]]
    await_recorded(vhost)
    assert recorder.stop() == 0


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        ({"ask": "drop"}, "asked for status, result, list, logs, reserve, release, and nothing else"),
        ({"ask": ["status"]}, "nothing else"),
        ({"ask": "status"}, "from 1 to 200 ids"),
        ({"ask": "status", "ids": ["x"] * 201}, "from 1 to 200 ids"),
        ({"ask": "status", "ids": [5]}, "cannot be a task id"),
        ({"ask": "status", "ids": ["a\x1b[31m"]}, "cannot be a task id"),
        ({"ask": "result", "id": "a", "offset": -1}, "number of characters"),
        ({"ask": "list", "states": ["'; DROP TABLE"]}, "names of states"),
        ({"ask": "list", "states": 5}, "names of states"),
        ({"ask": "list", "since": "yesterday"}, "number of seconds"),
        ({"ask": "list", "since": 10**400}, "number of seconds"),
        ({"ask": "list", "most": 100_000}, "from 1 to 500"),
        ({"ask": "list", "task": "x" * 1000}, "printable text"),
        ({"ask": "list", "after": [True, "a"]}, "after a time and an id"),
        ({"ask": "list", "after": [10**400, "a"]}, "after a time and an id"),
        ({"ask": "list", "after": {}}, "after a time and an id"),
    ],
)
def test_a_bad_question_is_refused(question: dict[str, Any], refusal: str, asker: Vhost) -> None:
    """With the reason; the recorder goes on."""

    async def ask() -> None:
        questions = Questions(asker.settings)
        await questions.open()
        try:
            with pytest.raises(QuestionRefused, match=refusal):
                await questions.ask_one(RECORDERS, question)
            assert await questions.ask_one(RECORDERS, {"ask": "status", "ids": ["a"]})
        finally:
            await questions.close()

    asyncio.run(ask())


@pytest.fixture(scope="module")
def asker(broker_of_module: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vhost]:
    """A virtual host where a recorder runs."""
    vhost = Vhost.create(broker_of_module)
    recorders = Recorders(vhost, tmp_path_factory.mktemp("record"))
    recorders.start()
    yield vhost
    recorders.kill_all()
    vhost.delete()


def test_a_huge_question_is_refused_and_none_is_answered_elsewhere(asker: Vhost) -> None:
    """Answers go by the keys of replies only: into no queue that a question names, and to nobody who has left."""
    with asker.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("victim")
        answers: list[dict[str, Any]] = []
        key = open_reply_queue(channel, lambda _c, _m, _p, body: answers.append(json.loads(body)))
        question = b'{"version": 1, "ask": "status", "ids": ["a"]}'
        for reply_to in ("victim", "amq.rabbitmq.reply-to.forged", "tasks.reply.left", "", None):
            properties = pika.BasicProperties(reply_to=reply_to)
            channel.basic_publish(CONTROL_EXCHANGE, RECORDERS.key, question, properties)
        for body in (b"x" * 10_000_000, b"\xff", question):
            properties = pika.BasicProperties(reply_to=key)
            channel.basic_publish(CONTROL_EXCHANGE, RECORDERS.key, body, properties)
        deadline = time.monotonic() + 30
        while len(answers) < 3 and time.monotonic() < deadline:
            connection.process_data_events(0.1)

        assert "over 65,536 bytes" in answers[0]["error"]
        assert "this is none" in answers[1]["error"]
        assert answers[2]["statuses"] == [{"id": "a", "state": "unknown"}]
        assert channel.queue_declare("victim", passive=True).method.message_count == 0
        channel.queue_delete("victim")


def test_questions_do_not_wait_for_ever(vhost: Vhost, recorders: Recorders) -> None:
    """What nobody has answered is gone after a while, for who asked has left."""
    recorders.start().stop()
    with pytest.raises(NobodyAnswers):
        statuses("a", configured=vhost.settings)

    (queue,) = [one for one in vhost.api("GET", f"queues/{vhost.name}") if one["name"] == QUESTIONS_QUEUE]
    assert queue["arguments"]["x-message-ttl"] == 10_000
    await_value(lambda: not vhost.count(QUESTIONS_QUEUE), "the question to be gone")


def test_the_commands_show_it(vhost: Vhost, recorders: Recorders) -> None:
    """In 80 columns and as JSON, with exit statuses that tell how it is."""
    recorders.start()
    tell(vhost, Kind.SUCCEEDED, ["a"], result='{"said": "\u2028"}', seconds=0.2)
    tell(vhost, Kind.RETRYING, ["b"], failure={**FAILURE, "message": "\x1b[31m" + "x" * 200}, next_at=2e9)
    tell(vhost, Kind.FAILED, ["b"], failure=FAILURE, lies_in="mail.dlq", attempt=4)
    tell(vhost, Kind.STARTED, ["c"], task="t" * 200)
    await_state(vhost, "c", State.STARTED)

    said = recorders.command("status", "a", "b", "c")
    assert (said.returncode, said.stderr) == (0, "")
    assert [line for line in said.stdout.splitlines() if len(line) > 80] == []
    assert "attempt 1 failed: OSError: \\x1b[31mxxx" in said.stdout
    assert "its message lies in mail.dlq" in said.stdout
    said = recorders.command("status", "a", "nobody", "--json")
    assert said.returncode == 1
    assert [one["state"] for one in objects_in(said.stdout)] == ["succeeded", "unknown"]
    assert recorders.command("status", "a\x1b[31m").stderr == "leveret status: 'a\\x1b[31m' cannot be a task id: 1 to 255 bytes of printable text\n"  # fmt: skip # noqa: E501

    said = recorders.command("result", "a")
    assert (said.returncode, json.loads(said.stdout)) == (0, {"said": "\u2028"})
    said = recorders.command("result", "b")
    assert (said.returncode, said.stdout) == (4, "")
    assert said.stderr == "leveret result: failed in attempt 4 of 4: OSError: away; its message lies in mail.dlq\n"
    assert recorders.command("result", "c").returncode == 5
    assert recorders.command("result", "nobody").returncode == 1

    said = recorders.command("list", "--state", "failed,started", "--since", "1h")
    assert [line for line in said.stdout.splitlines() if len(line) > 80] == []
    assert [line.split()[-1] for line in said.stdout.splitlines()[1:]] == ["c", "b"]
    said = recorders.command("list", "--task", "mail.*", "--json")
    assert {one["id"] for one in objects_in(said.stdout)} == {"a", "b"}
    assert recorders.command("list", "--state", "broken").returncode == 2
    assert recorders.command("list", "--since", "yesterday").returncode == 2


def test_following_a_status_is_pushed(vhost: Vhost, recorders: Recorders) -> None:
    """Each change is shown as it is told, up to the end."""
    recorders.start()
    tell(vhost, Kind.STARTED, ["a", "b"])
    await_state(vhost, "b", State.STARTED)
    words = ["leveret", "status", "--follow", "--json", "a", "b"]
    process = warm().start(words, CHECKOUT, recorders.environment, stdout=subprocess.PIPE)
    assert process.stdout
    seen = [json.loads(process.stdout.readline()) for _ in range(2)]
    publish_events(vhost, [b"nothing"])
    tell(vhost, Kind.RETRYING, ["a"], failure=FAILURE)
    tell(vhost, Kind.SUCCEEDED, ["b", "c"], result="1")
    tell(vhost, Kind.FAILED, ["a"], failure=FAILURE, attempt=2)
    rest = process.stdout.read()

    states = [(one["id"], one["state"]) for one in (*seen, *objects_in(rest))]
    assert states == [
        ("a", "started"), ("b", "started"), ("a", "retrying"), ("b", "succeeded"), ("a", "failed"),
    ]  # fmt: skip
    assert process.wait(60) == 0


def test_a_recorder_that_cannot_begin_says_why(vhost: Vhost, recorders: Recorders, tmp_path: Path) -> None:
    """In one line, and ends."""
    recorders.start().stop()
    with sqlite3.connect(tmp_path / "output" / "record" / "tasks.sqlite3") as record:
        record.execute("UPDATE leveret_schema SET version = 99")
    record.close()

    said = [
        recorders.command("recorder"),
        recorders.command("recorder", RECORD_URL="mysql://db/x"),
        recorders.command("recorder", RECORD_URL="postgresql://me:very-secret@127.0.0.1:1/x"),
        recorders.command("recorder", RECORD_URL=f"sqlite:///{tmp_path}/missing/x"),
        recorders.command("recorder", RECORD="off"),
        recorders.command("recorder", RECORD="some"),
    ]
    assert [one.returncode for one in said] == [1] * 6
    assert [one.stderr.count("\n") for one in said] == [1] * 6
    assert "tables of version 99" in said[0].stderr
    assert "of no kind that is known" in said[1].stderr
    assert "check RECORD_URL" in said[2].stderr
    assert "very-secret" not in said[2].stderr
    assert "No such file" in said[3].stderr
    assert "RECORD is off" in said[4].stderr
    assert "must be one of followed, all, off" in said[5].stderr


def test_a_queue_with_other_arguments_is_named(vhost: Vhost, recorders: Recorders) -> None:
    """As one of an earlier version, with where to read what to do."""
    with vhost.connect() as connection:
        connection.channel().queue_declare(QUESTIONS_QUEUE, durable=True)

    said = recorders.command("recorder")
    assert said.returncode == 1
    assert f"for queue '{QUESTIONS_QUEUE}'" in said.stderr
    assert "with other arguments" in said.stderr
    assert "leveret plan says" in said.stderr


def test_the_rights_of_a_recorder_are_enough(vhost: Vhost, recorders: Recorders) -> None:
    """It makes its own queues, and no exchange where somebody has declared those."""
    vhost.declare()
    with vhost.limited_user(**rights_of("recorder", [])._asdict()) as url:
        recorder = recorders.start(AMQP_URL=url)
        tell(vhost, Kind.SUCCEEDED, ["a"], result="1")
        await_state(vhost, "a", State.SUCCEEDED)

        assert recorder.stop() == 0
        with vhost.connect() as connection:
            connection.channel().exchange_delete("tasks.control")
        refused = recorders.command("recorder", AMQP_URL=url)
        assert refused.returncode == 1
        assert "the broker refused exchange 'tasks.control'" in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_the_work_comes_before_the_record(recorders: Recorders) -> None:
    """A recorder is nicer than who has started it, so where processors are scarce it catches up behind the work."""
    recorder = recorders.start()

    assert os.getpriority(os.PRIO_PROCESS, recorder.process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5


def test_a_recorder_connects_again(vhost: Vhost, recorders: Recorders) -> None:
    """After the broker has closed its connection."""
    recorder = recorders.start()
    close_connections(vhost, "leveret recorder")
    await_value(lambda: len(recorder.find("recording")) > 1, "it to connect again")
    tell(vhost, Kind.SUCCEEDED, ["a"], result="1")

    await_state(vhost, "a", State.SUCCEEDED)
    assert recorder.stop() == 0


def test_a_worker_brings_its_recorder_along(vhost: Vhost, workers: Workers) -> None:
    """It records what the worker tells, ends when the worker has, and is gone when that is killed."""
    vhost.declare(jobs)
    worker = workers.start("--record")
    recorder = worker.await_event("recording")["pid"]
    with Publisher(vhost.settings) as publisher:
        sent = publisher.publish(TaskMessage.create("jobs.write", kwargs={"path": "/dev/null"}, follow="record"))
    await_state(vhost, sent.id, State.SUCCEEDED)
    assert os.getpgid(recorder) != os.getpgid(worker.process.pid)
    assert worker.stop() == 0
    assert max(event.get("recorded", 0) for event in worker.find("stopped")) >= 2  # a task that takes long tells more

    worker = workers.start("--record")
    recorder = worker.await_event("recording")["pid"]
    worker.signal(signal.SIGKILL)
    worker.wait()
    await_value(lambda: not Path(f"/proc/{recorder}").exists(), "the recorder to follow its worker")


def test_a_full_record_is_tried_again(vhost: Vhost, recorders: Recorders) -> None:
    """What cannot be written stays in the queue, and it is said once."""
    limited = ["bash", "-c", 'ulimit -f 600 && exec "$0" -m leveret recorder --log-format json', sys.executable]
    process = subprocess.Popen(limited, env=recorders.environment, stderr=subprocess.PIPE, text=True)
    recorder = Worker(process)
    try:
        recorder.await_event("recording")
        ids = [f"id-{number:03}" for number in range(300)]
        tell(vhost, Kind.SUCCEEDED, ids, result=json.dumps("x" * 5000))
        recorder.await_event("the record in")
        assert process.poll() is None
        recorder.signal(signal.SIGTERM)
        assert recorder.wait() == 0
        assert len(recorder.find("the record in")) == 1
    finally:
        process.kill()
    recorders.start()

    def all_recorded() -> bool:
        return all(one.state is State.SUCCEEDED for one in statuses(*ids, configured=vhost.settings))

    await_value(all_recorded, "all to be recorded")


def close_connections(vhost: Vhost, role: str) -> None:
    """Have the broker close those of a role."""

    def look() -> list[str]:
        return [
            one["name"]
            for one in vhost.api("GET", "connections") or []
            if one.get("vhost") == vhost.name and role in str(one.get("client_properties"))
        ]

    for name in await_value(look, f"a connection of {role}"):
        vhost.api("DELETE", f"connections/{name.replace(' ', '%20').replace('>', '%3E')}")
