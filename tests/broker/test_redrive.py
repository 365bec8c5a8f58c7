"""The command `leveret redrive`: which dead messages go round again, and where the others stay."""

from __future__ import annotations

import asyncio
import getpass
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from leveret import BrokerUnreachable, Route
from leveret.producers.dead import history, letters
from leveret.producers.dead import redrive as redrive_module
from leveret.producers.examples.samples import words
from leveret.topology.control import REDRIVEN_AT
from leveret.topology.link import connection
from leveret.topology.link.asking import Asking
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.outbox import OnPublished, Outbox, Outgoing
from leveret.topology.message import FAILURE_HEADERS, new_id
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.odd import Foreign, Raw, encode_raw
from tests.broker.support import Vhost, Workers, attempt_of, await_value, run

Ended = subprocess.CompletedProcess[str]
Redrive = Callable[..., Ended]
DLQ = dlq_name(jobs.name)
FAILURE = {
    FAILURE_HEADERS + "task": "jobs.fail",
    FAILURE_HEADERS + "attempts": 3,
    FAILURE_HEADERS + "type": "ValueError",
    FAILURE_HEADERS + "message": "no luck",
}
OWN = {"mine": {"deep": [1, "ä"]}}


@pytest.fixture
def redrive(vhost: Vhost) -> Redrive:
    """Run the command on the test's virtual host."""

    def run_it(*arguments: str, **environment: str) -> Ended:
        return run("producers.redrive", *arguments, **{"AMQP_URL": vhost.amqp_url, **environment})

    return run_it


def bury(vhost: Vhost, *ids: str) -> None:
    """Put messages into the DLQ as a worker does."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()  # a queue declared this moment may have no leader yet
        for message_id in ids:
            properties = pika.BasicProperties(message_id=message_id, delivery_mode=2, headers={**OWN, **FAILURE})
            channel.basic_publish("", DLQ, b'{"task": "jobs.fail"}', properties, mandatory=True)
    await_value(lambda: vhost.count(DLQ) == len(ids), "the messages in the DLQ")


def only_line(ended: Ended) -> str:
    (line,) = ended.stderr.splitlines()
    assert line.startswith("leveret redrive: ")
    assert (ended.returncode, ended.stdout) == (1, "")
    return line


def told_ids(ended: Ended) -> list[str]:
    """Return the ids it told of, each at the beginning of a line."""
    return [line.partition("  ")[0] for line in ended.stdout.splitlines()]


def test_all(vhost: Vhost, redrive: Redrive) -> None:
    """Without --id every dead message goes to its work queue; stdout has each id with the reason."""
    bury(vhost, "one", "two", "three")

    ended = redrive("jobs")

    assert (ended.returncode, ended.stderr) == (0, "3 message(s) went from jobs.dlq to jobs\n")
    assert ended.stdout.splitlines() == [
        f"{dead}  jobs.fail, 3 attempts: ValueError: no luck" for dead in ("one", "two", "three")
    ]
    assert vhost.counts(jobs) == {jobs.name: 3}
    assert vhost.ids_in(jobs.name) == ["one", "three", "two"]


def test_chosen(vhost: Vhost, redrive: Redrive) -> None:
    """With --id the chosen messages go, and the others stay in the DLQ as they were."""
    bury(vhost, "one", "two", "three", "four")

    ended = redrive("jobs", "--id", "four", "--id", "two")

    assert (ended.returncode, told_ids(ended)) == (0, ["two", "four"])
    assert vhost.ids_in(jobs.name) == ["four", "two"]
    await_value(lambda: vhost.count(DLQ) == 2, "the others back in the DLQ")
    left = vhost.take(DLQ)
    assert sorted(str(dead.properties.message_id) for dead in left) == ["one", "three"]
    assert [{name: dead.headers[name] for name in (*OWN, *FAILURE)} for dead in left] == [{**OWN, **FAILURE}] * 2


def test_comma(vhost: Vhost, redrive: Redrive) -> None:
    """Ids may be given at once, and the queue by the name of its DLQ."""
    bury(vhost, "one", "two", "three")

    ended = redrive("jobs.dlq", "--id", "three,one")

    assert (ended.returncode, told_ids(ended)) == (0, ["one", "three"])
    assert ended.stderr.splitlines()[-1] == "2 message(s) went from jobs.dlq to jobs"
    assert vhost.ids_in(jobs.name) == ["one", "three"]


def test_json(vhost: Vhost, redrive: Redrive) -> None:
    """With --json each message is an object on stdout; with --quiet as well nothing else is said."""
    bury(vhost, "one", "ä")

    ended = redrive("jobs", "--json", "--quiet")

    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(row["id"], row["task"], row["reason"], row["queue"], int(row["attempts"])) for row in rows] == [
        (one, "jobs.fail", "ValueError: no luck", "jobs", 3) for one in ("one", "ä")
    ]
    assert vhost.ids_in(jobs.name) == ["one", "ä"]


def test_what_others_hold(vhost: Vhost, redrive: Redrive) -> None:
    """What somebody else looks at stays, and is told, with status 3; the others go."""
    bury(vhost, "one", "two", "three")
    with vhost.connect() as connection:
        connection.channel().basic_get(DLQ)
        path = f"queues/{vhost.name}/{DLQ}"
        await_value(lambda: vhost.api("GET", path).get("messages_unacknowledged") == 1, "the broker's own count")
        ended = redrive("jobs", MANAGEMENT_URL=vhost.broker.management_url)

    assert (ended.returncode, told_ids(ended)) == (3, ["two", "three"])
    went, held = ended.stderr.splitlines()
    assert went == "2 message(s) went from jobs.dlq to jobs"
    assert held.startswith("leveret redrive: 1 more were held by others")
    assert vhost.ids_in(jobs.name) == ["three", "two"]
    await_value(lambda: vhost.count(DLQ), "what others held back in the DLQ")
    assert vhost.ids_in(DLQ) == ["one"]


@pytest.mark.parametrize(("options", "told"), [([], ["one", "two"]), (["--id", "two"], ["two"])])
def test_dry_run(vhost: Vhost, redrive: Redrive, options: list[str], told: list[str]) -> None:
    """--dry-run tells what would go and why it is dead, and everything stays in the DLQ."""
    bury(vhost, "one", "two")

    ended = redrive("jobs", "--dry-run", *options)

    assert (ended.returncode, told_ids(ended)) == (0, told)
    assert ended.stdout.count("ValueError: no luck") == len(told)
    assert f"{len(told)} message(s) would go" in ended.stderr
    await_value(lambda: vhost.count(DLQ) == 2, "both back in the DLQ")
    assert vhost.counts(jobs) == {DLQ: 2}


def test_unknown_id(vhost: Vhost, redrive: Redrive) -> None:
    """An id that is not in the DLQ is named, with status 1; the known one goes all the same."""
    bury(vhost, "one", "two")

    ended = redrive("jobs", "--id", "nobody", "--id", "one")

    assert (ended.returncode, told_ids(ended)) == (1, ["one"])
    assert "leveret redrive: no message nobody lies in jobs.dlq" in ended.stderr.splitlines()
    assert vhost.ids_in(jobs.name) == ["one"]
    await_value(lambda: vhost.count(DLQ), "the other back in the DLQ")
    assert vhost.ids_in(DLQ) == ["two"]


def test_odd_message_goes_too_and_prints_on_its_line(vhost: Vhost, redrive: Redrive) -> None:
    """A header named in no UTF-8 is no hindrance; line ends and terminal sequences in what a client set are escaped."""
    vhost.declare(jobs)
    headers: dict[Any, Any] = {b"\xff": 1, "failure-type": "Bad\nnews", "failure-message": "\x1b[2J"}
    vhost.publish(Route.dead(jobs.name), b"{}", message_id="two\nlines\x1b[31m", headers=headers)

    ended = redrive("jobs")

    assert ended.returncode == 0
    assert ended.stdout == r"two\nlines\x1b[31m  unknown task, ? attempts: Bad\nnews: \x1b[2J" "\n"
    again = vhost.take_one(jobs.name)
    assert (again.properties.message_id, again.headers[b"\xff"]) == ("two\nlines\x1b[31m", 1)  # type: ignore[index]


def test_what_cannot_be_sent_again_holds_up_nothing(
    vhost: Vhost, redrive: Redrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty planted messages before a good one stay where they are, each is named, and the good one goes."""
    vhost.declare(jobs)
    encode_raw(monkeypatch)
    late = {"when": Raw(b"T" + (2**63).to_bytes(8))}
    swelling = {"many": Raw(b"A" + (2 * 30_000).to_bytes(4) + b"b\1" * 30_000)}
    with Foreign(vhost) as client:
        for number in range(40):
            client.publish(Route.dead("jobs"), b"{}", message_id=f"late-{number}", headers=late)
        client.publish(Route.dead("jobs"), b"{}", message_id="swelling", headers=swelling)
        client.publish(Route.dead("jobs"), b"{}", message_id="good")

    ended = redrive("jobs")

    assert (ended.returncode, told_ids(ended)) == (3, ["good"])
    left = [line for line in ended.stderr.splitlines() if "left in jobs.dlq, for it cannot be sent again" in line]
    assert len(left) == 41
    assert all(f"message late-{number} cannot be written" in ended.stderr for number in range(40))
    assert "message swelling cannot be written: its headers and properties take" in ended.stderr
    assert vhost.ids_in("jobs") == ["good"]
    await_value(lambda: vhost.count(DLQ) == 41, "the others back in the DLQ")


def test_empty(vhost: Vhost, redrive: Redrive) -> None:
    """An empty DLQ is no error."""
    vhost.declare(jobs)

    ended = redrive("jobs")

    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "0 message(s) went from jobs.dlq to jobs\n"


def test_message_begins_anew(vhost: Vhost, redrive: Redrive, workers: Workers) -> None:
    """A redriven message has its id, body, properties and own headers, and of its former life who redrove it."""
    vhost.declare(jobs)
    task_id = new_id()
    kept: dict[str, Any] = {
        "message_id": task_id,
        "content_type": "application/json",
        "correlation_id": "c",
        "priority": 3,
    }
    vhost.publish(Route.topic("jobs.fail"), b'{"task": "jobs.fail", "more": 1}', headers=OWN, **kept)
    workers.drain()

    assert redrive("jobs", "--quiet").stdout == f"{task_id}\n"

    again = vhost.take_one(jobs.name)
    assert {name: getattr(again.properties, name) for name in kept} == kept
    assert again.properties.delivery_mode == pika.DeliveryMode.Persistent.value
    assert again.body == b'{"task": "jobs.fail", "more": 1}'
    headers = {name: value for name, value in again.headers.items() if name != "x-delivery-count"}
    assert time.time() - headers.pop(REDRIVEN_AT) / 1000 < 60
    (by,) = headers.pop(history.BY)
    assert (headers.pop(history.TIMES), by.partition(" ")[2].partition("@")[0]) == (1, getpass.getuser())
    assert headers == OWN
    assert not again.headers.get("x-delivery-count")
    assert vhost.counts(jobs) == {}


def test_attempts_begin_anew(vhost: Vhost, redrive: Redrive, workers: Workers) -> None:
    """A redriven message has all its attempts again: first, retry tiers, DLQ, under the same id."""
    vhost.declare(jobs)
    vhost.publish_task(Route.fanout(), "jobs.fail", "the-id")
    workers.drain()
    redrive("jobs")

    worker = workers.drain()

    assert [(event["id"], attempt_of(event)) for event in worker.find("retry")] == [
        ("the-id", (1, 3)),
        ("the-id", (2, 3)),
    ]
    assert vhost.counts(jobs) == {DLQ: 1}
    dead = vhost.take_one(DLQ)
    assert dead.properties.message_id == "the-id"
    assert dead.headers[FAILURE_HEADERS + "attempts"] == 3


def test_dead_by_rejections_alone(vhost: Vhost, redrive: Redrive) -> None:
    """A message that only nacks brought to the DLQ loses the broker's records and has all its attempts again."""
    vhost.declare(jobs)
    vhost.publish(Route.direct(jobs.name), b"{}", message_id="the-id")
    for _ in range(jobs.attempts):
        vhost.fail(jobs.name, "the-id")
    await_value(lambda: vhost.count(DLQ), "the message in the DLQ")

    assert redrive("jobs").returncode == 0

    for _ in range(jobs.attempts):
        vhost.fail(jobs.name, "the-id")
    deaths = vhost.take_one(DLQ).headers["x-death"]
    assert [death["count"] for death in deaths if death["reason"] == "rejected"] == [jobs.attempts]


def test_message_without_id(vhost: Vhost, redrive: Redrive) -> None:
    """A dead message that has no id gets one as it goes, and the command tells it."""
    vhost.declare(jobs)
    vhost.publish(Route("", DLQ), b'{"task": "jobs.fail"}')

    ended = redrive("jobs")

    (told,) = told_ids(ended)
    assert vhost.ids_in(jobs.name) == [told]


def test_work_queue_is_gone(vhost: Vhost, redrive: Redrive) -> None:
    """While the work queue is missing one line says so and its messages stay in the DLQ; then they go."""
    bury(vhost, "one", "two")
    with vhost.connect() as connection:
        connection.channel().queue_delete(jobs.name)

    line = only_line(redrive("jobs"))

    assert "'jobs'" in line
    await_value(lambda: vhost.count(DLQ) == 2, "both back in the DLQ")
    vhost.declare(jobs)
    assert redrive("jobs").returncode == 0
    assert vhost.counts(jobs) == {jobs.name: 2}


def test_work_queue_is_full(vhost: Vhost, redrive: Redrive) -> None:
    """What a full work queue refuses stays in the DLQ, what went is told: no message is lost, none is in both."""
    ids = [str(number) for number in range(300)]
    bury(vhost, *ids)
    definition = {"pattern": "^jobs$", "definition": {"max-length": 3}, "apply-to": "queues"}
    vhost.api("PUT", f"policies/{vhost.name}/full", definition)
    await_value(lambda: vhost.api("GET", f"queues/{vhost.name}/jobs").get("policy") == "full", "the policy")

    ended = redrive("jobs")

    (refusal,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert refusal.startswith("leveret redrive: ")
    assert "full" in refusal
    await_value(lambda: vhost.count(DLQ) + vhost.count(jobs.name) == 300, "every message in either queue")
    moved, left = vhost.ids_in(jobs.name), vhost.ids_in(DLQ)
    assert moved == sorted(told_ids(ended)) != []
    assert ended.stdout.count("ValueError: no luck") == len(moved)
    assert sorted(moved + left) == sorted(ids)


def test_2000(vhost: Vhost, redrive: Redrive) -> None:
    """A DLQ of 2,000 messages goes round again, each message once."""
    ids = [str(number) for number in range(2000)]
    bury(vhost, *ids)

    ended = redrive("jobs")

    assert told_ids(ended) == ids
    assert vhost.counts(jobs) == {jobs.name: 2000}
    assert vhost.ids_in(jobs.name) == sorted(ids)


@pytest.mark.parametrize(
    ("make_url", "queue", "text"),
    [
        (lambda vhost: vhost.amqp_url, "nope", "'nope.dlq'"),
        (lambda vhost: vhost.amqp_url, "n" * 300, "nnn"),
        (lambda vhost: vhost.amqp_url, "caf\udce9", "is no text"),
        (lambda vhost: vhost.amqp_url + "-nope", "jobs", "has no virtual host"),
        (lambda vhost: vhost.url_of(vhost.user, "wrong-secret"), "jobs", "refused user"),
        (lambda vhost: "amqp://guest:wrong-secret@localhost:1/", "jobs", "does not answer"),
        (lambda vhost: "localhost", "jobs", "is no AMQP URL"),
    ],
)
def test_errors(vhost: Vhost, redrive: Redrive, make_url: Callable[[Vhost], str], queue: str, text: str) -> None:
    """What keeps it from reading the DLQ is one line that names it, with status 1, and what is dead stays dead."""
    bury(vhost, "one")

    line = only_line(redrive(queue, AMQP_URL=make_url(vhost)))

    assert text in line
    assert "secret" not in line
    assert vhost.counts(jobs) == {DLQ: 1}


def test_the_broker_leaves_meanwhile(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting succeeded, and then it shuts down: an error of ours, and nothing is moved."""
    vhost.declare(jobs)

    def leave(_connection: Any, **_options: Any) -> None:
        raise pika.exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - shutdown")

    monkeypatch.setattr(FastConnection, "channel", leave)

    with pytest.raises(BrokerUnreachable, match="CONNECTION_FORCED"):
        asyncio.run(redrive_module.redrive(vhost.settings, "jobs"))


Link = list[FastConnection]


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    """The connection that reads the DLQ, once it is there; messages are moved one by one."""
    opened: Link = []
    connect = connection.connect

    async def keep(*arguments: Any) -> FastConnection:
        opened.append(await connect(*arguments))
        return opened[-1]

    monkeypatch.setattr(redrive_module, "connect", keep)
    monkeypatch.setattr(redrive_module, "BATCH", 1)
    return opened


def lose(link: Link) -> None:
    link[0]._transport._initiate_abort(ConnectionResetError("reset by peer"))


def test_channel_closed_together_with_an_answer(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why is told, though nobody was waiting for an answer at that moment, and nothing is waited for any more."""
    bury(vhost, "one", "two")
    answered = Asking._set

    def answer_and_close(self: Any, answer: Any) -> None:
        answered(self, answer)
        if isinstance(answer.method, pika.spec.Queue.DeclareOk):
            self._channel.close()
            self._on_close(self._channel, pika.exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED"))

    monkeypatch.setattr(Asking, "_set", answer_and_close)

    with pytest.raises(BrokerUnreachable, match="406 PRECONDITION_FAILED"):
        asyncio.run(asyncio.wait_for(redrive_module.redrive(vhost.settings, jobs.name), 60))

    assert vhost.ids_in(DLQ) == ["one", "two"]


@pytest.mark.parametrize(("gone", "doubtful"), [([], "one"), (["one", "two"], "three")])
def test_link_lost_before_the_ack(
    vhost: Vhost, link: Link, monkeypatch: pytest.MonkeyPatch, gone: list[str], doubtful: str
) -> None:
    """What went before is told; the message that is in both queues now is named, and is not told as gone."""
    bury(vhost, "one", "two", "three")
    send, told = Outbox.send, list[str]()

    def send_and_lose(outbox: Outbox, outgoing: Outgoing, on_published: OnPublished) -> None:
        if outgoing.id == doubtful:
            lose(link)
        send(outbox, outgoing, on_published)

    monkeypatch.setattr(Outbox, "send", send_and_lose)
    expected = rf"was lost .*reset by peer.*Confirmed in 'jobs', and perhaps still in 'jobs.dlq' .*: {doubtful}\. "
    with pytest.raises(BrokerUnreachable, match=expected):
        asyncio.run(redrive_module.redrive(vhost.settings, "jobs", tell_of=lambda dead: told.append(dead.id)))

    assert told == gone
    assert vhost.ids_in(jobs.name) == sorted([*gone, doubtful])
    await_value(lambda: vhost.count(DLQ) == 3 - len(gone), "the others back in the DLQ")
    assert doubtful in vhost.ids_in(DLQ)


def test_link_lost_while_reading(vhost: Vhost, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went before is told, nothing is in both queues, and the error speaks of the link, not of the queue."""
    bury(vhost, "one", "two", "three")
    take, told = letters.Letters.take, list[str]()

    async def take_and_lose(dlq: Any, most: int) -> list[letters.DeadMessage]:
        if len(told) == 2:
            lose(link)
        return await take(dlq, most)

    monkeypatch.setattr(letters.Letters, "take", take_and_lose)
    with pytest.raises(BrokerUnreachable, match=r"was lost \(.*reset by peer.*\); try again once it answers$"):
        asyncio.run(redrive_module.redrive(vhost.settings, "jobs", tell_of=lambda dead: told.append(dead.id)))

    assert told == ["one", "two"]
    assert vhost.ids_in(jobs.name) == ["one", "two"]
    await_value(lambda: vhost.count(DLQ), "the third back in the DLQ")
    assert vhost.ids_in(DLQ) == ["three"]


def test_interrupted_while_messages_move(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way comes to its end and is told, the rest stays: no message is in both queues."""
    ids = [f"{number:02}" for number in range(40)]
    bury(vhost, *ids)
    told, send = list[str](), Outbox.send

    async def interrupted() -> None:
        redriving = asyncio.ensure_future(
            redrive_module.redrive(vhost.settings, "jobs", tell_of=lambda dead: told.append(dead.id))
        )

        def send_and_interrupt(outbox: Outbox, outgoing: Outgoing, on_published: OnPublished) -> None:
            send(outbox, outgoing, on_published)
            if outgoing.id == "20":
                redriving.cancel()

        monkeypatch.setattr(Outbox, "send", send_and_interrupt)
        await redriving

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())

    assert told == ids[: len(told)]  # all that had come until then, a read of the link or all 32
    assert 21 <= len(told) <= 32
    assert vhost.ids_in(jobs.name) == told
    await_value(lambda: vhost.count(DLQ) == 40 - len(told), "the others back in the DLQ")
    assert vhost.ids_in(DLQ) == ids[len(told) :]


def test_no_right_to_read(vhost: Vhost, redrive: Redrive) -> None:
    """An account that may not read the DLQ is told which right it lacks."""
    bury(vhost, "one")

    with vhost.limited_user(write=".*") as url:
        line = only_line(redrive("jobs", AMQP_URL=url))

    assert "the broker refused queue 'jobs.dlq'" in line
    assert line.endswith("give this user the read right on it")
    assert vhost.counts(jobs) == {DLQ: 1}


def test_worked_example(vhost: Vhost, redrive: Redrive, workers: Workers, tmp_path: Path) -> None:
    """A book that is missing fails in every tier and lies in words.dlq; it appears, is redriven, and is counted."""
    books = tmp_path / "books"
    books.mkdir()
    (books / "dracula.txt").write_text("blood and more blood")
    environment = {"AMQP_URL": vhost.amqp_url, "DATA_DIR": str(books)}
    submitted = run("producers.submit", "words.count", "--kwargs", '{"book": "drakula.txt"}', **environment)
    task_id = submitted.stdout.strip()

    first = workers.drain(queue="words", tasks=("leveret.consumers.samples",), DATA_DIR=str(books))
    tiers = [f"words.retry.{tier}" for tier in ("1.after.1s", "2.after.5s", "3.after.25s")]
    assert [event["waits_in"] for event in first.find("retry", id=task_id)] == tiers
    assert vhost.counts(words) == {"words.dlq": 1}
    told = redrive("words", "--dry-run")
    assert told.stdout.startswith(f"{task_id}  words.count, 4 attempts: FileNotFoundError")
    assert "drakula.txt" in told.stdout

    (books / "dracula.txt").rename(books / "drakula.txt")
    assert redrive("words", "--id", task_id).returncode == 0
    second = workers.drain(queue="words", tasks=("leveret.consumers.samples",), DATA_DIR=str(books))
    assert [attempt_of(event) for event in second.find("done", id=task_id)] == [(1, 4)]
    assert vhost.counts(words) == {}
    assert [path.name for path in (tmp_path / "output").iterdir()] == [f"drakula.txt_{task_id}.json"]
