"""Unique tasks: of those with one key one is there at a time, and who submits another learns its id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from leveret import (
    NobodyAnswers,
    NotFollowed,
    NotRouted,
    Publisher,
    QuestionRefused,
    Route,
    State,
    Submitted,
    TaskMessage,
    cancel,
    result_of,
    statuses,
)
from leveret.topology.access.rights import rights_of
from leveret.topology.link.question import RECORDERS, Questions
from tests.broker.jobs import jobs
from tests.broker.recording import Recorders
from tests.broker.support import Vhost, Workers, await_value


@pytest.fixture
def recorders(vhost: Vhost, recorders: Recorders) -> Recorders:
    """With the queue of the test tasks."""
    vhost.declare(jobs)
    return recorders


@pytest.fixture
def publisher(vhost: Vhost) -> Iterator[Publisher]:
    with Publisher(vhost.settings) as made:
        yield made


def write(path: Path, **more: Any) -> TaskMessage:
    return TaskMessage.create(
        "jobs.write", kwargs={"path": str(path)}, route=Route.direct("jobs"), follow="record", **more
    )


def await_state(vhost: Vhost, task_id: str, state: State) -> None:
    def look() -> bool:
        (status,) = statuses(task_id, configured=vhost.settings)
        return status.state is state

    await_value(look, f"{task_id} to be {state}")


def test_the_second_is_the_first(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, workers: Workers, tmp_path: Path
) -> None:
    """And says so, until it has ended."""
    recorders.start()
    first = publisher.publish_unique(write(tmp_path / "ran"), "mail:a")
    second = publisher.publish_unique(write(tmp_path / "ran"), "mail:a")

    assert (first.was_already_there, second.was_already_there, second.id) == (False, True, first.id)
    with pytest.raises(NotFollowed, match=r"was already there, .* ask the record: leveret.result_of\(id\)"):
        second.result(1)
    assert vhost.count("jobs") == 1
    workers.drain()
    await_state(vhost, first, State.SUCCEEDED)
    assert result_of(second, configured=vhost.settings) is None
    third = publisher.publish_unique(write(tmp_path / "ran"), "mail:a")
    assert (third.was_already_there, third == first) == (False, False)


def test_its_time_goes_on_when_it_has_succeeded(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, workers: Workers, tmp_path: Path
) -> None:
    """But ends when it is buried or cancelled."""
    recorders.start()
    done = publisher.publish_unique(write(tmp_path / "ran"), "done", 3600)
    buried = TaskMessage.create("jobs.reject", route=Route.direct("jobs"), follow="record")
    publisher.publish_unique(buried, "buried", 3600)
    workers.drain()
    cancelled = publisher.publish_unique(write(tmp_path / "ran"), "cancelled", 3600)
    cancel(cancelled, configured=vhost.settings)
    workers.drain()
    await_state(vhost, done, State.SUCCEEDED)
    await_state(vhost, buried.id, State.FAILED)
    await_state(vhost, cancelled, State.CANCELLED)

    again = {key: publisher.publish_unique(write(tmp_path / "ran"), key) for key in ("done", "buried", "cancelled")}
    assert {key: one.was_already_there for key, one in again.items()} == {
        "done": True,
        "buried": False,
        "cancelled": False,
    }


def test_of_a_hundred_producers_one_submits(vhost: Vhost, recorders: Recorders, tmp_path: Path) -> None:
    """All learn its id; with two recorders on one record as well."""
    recorders.start()
    recorders.start()
    publishers = [Publisher(vhost.settings) for _ in range(10)]
    with ThreadPoolExecutor(100) as threads:

        def submit(number: int) -> Submitted[Any]:
            message = write(tmp_path / "ran")

            def attempt() -> Submitted[Any] | None:
                with contextlib.suppress(NobodyAnswers):  # on a busy machine, and says to submit it under this id again
                    return publishers[number % 10].publish_unique(message, "mail:a")
                return None

            return await_value(attempt, "an answer")

        told = list(threads.map(submit, range(100)))
    for one in publishers:
        one.close()

    assert len(set(told)) == 1
    assert sum(not one.was_already_there for one in told) == 1
    assert vhost.ids_in("jobs") == [told[0]]


def test_loops_submit_too(vhost: Vhost, recorders: Recorders, publisher: Publisher, tmp_path: Path) -> None:
    """The same, awaitable."""
    recorders.start()

    async def submit() -> list[Submitted[Any]]:
        messages = [write(tmp_path / "ran") for _ in range(5)]
        return await asyncio.gather(*(publisher.publish_unique_async(one, "mail:a") for one in messages))

    told = asyncio.run(submit())
    assert len(set(told)) == 1
    assert sum(not one.was_already_there for one in told) == 1


@pytest.mark.parametrize("was_there", [False, True])
def test_without_a_recorder_nothing_is_submitted(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, tmp_path: Path, was_there: bool
) -> None:
    """And that is said, with what to do."""
    if was_there:
        recorders.start().stop()
    with pytest.raises(
        NobodyAnswers, match=r"was not submitted, for its key 'mail:a' could not be reserved: .*leveret"
    ):
        publisher.publish_unique(write(tmp_path / "ran"), "mail:a")
    assert vhost.count("jobs") == 0


def test_what_was_not_routed_frees_its_key(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, tmp_path: Path
) -> None:
    """For nothing is there."""
    recorders.start()
    lost = TaskMessage.create("jobs.write", route=Route.direct("nowhere"), follow="record")
    with pytest.raises(NotRouted) as caught:
        publisher.publish_unique(lost, "mail:a")

    assert getattr(caught.value, "__notes__", []) == []
    assert not publisher.publish_unique(write(tmp_path / "ran"), "mail:a").was_already_there


def test_another_recorder_knows_what_a_killed_one_has_reserved(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, tmp_path: Path
) -> None:
    """For the record is one."""
    doomed = recorders.start()
    first = publisher.publish_unique(write(tmp_path / "ran"), "mail:a")
    doomed.signal(signal.SIGKILL)
    doomed.wait()
    recorders.start()

    assert publisher.publish_unique(write(tmp_path / "ran"), "mail:a") == first
    assert vhost.ids_in("jobs") == [first]


def test_who_does_not_know_whether_it_arrived_submits_the_same_id_again(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, tmp_path: Path
) -> None:
    """As after a kill between reserving and publishing; once it is known to be there it is there."""
    recorders.start()
    message = write(tmp_path / "ran")
    asyncio.run(ask(vhost, {"ask": "reserve", "key": "a", "id": message.id, "token": "0" * 32, "seconds": None}))
    assert publisher.publish_unique(write(tmp_path / "ran"), "a").id == message.id

    assert not publisher.publish_unique(message, "a").was_already_there
    await_state(vhost, message.id, State.SUBMITTED)
    assert publisher.publish_unique(message, "a").was_already_there
    assert vhost.ids_in("jobs") == [message.id]


def test_a_bad_question_is_refused(vhost: Vhost, recorders: Recorders) -> None:
    """Whoever asks."""
    recorders.start()
    good = {"ask": "reserve", "key": "a", "id": "a", "token": "0" * 32, "seconds": 60}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"key": "x" * 256}, "1 to 255 bytes"),
        ({"key": ""}, "1 to 255 bytes"),
        ({"key": None}, "1 to 255 bytes"),
        ({"key": "\x1b"}, "printable"),
        ({"id": "x" * 256}, "cannot be a task id"),
        ({"id": None}, "cannot be a task id"),
        ({"token": "guess"}, "32 hexadecimal digits"),
        ({"token": None}, "32 hexadecimal digits"),
        ({"seconds": 0}, "more than 0"),
        ({"seconds": True}, "more than 0"),
        ({"seconds": 1e12}, "at most"),
    ]
    for change, refusal in bad:
        with pytest.raises(QuestionRefused, match=refusal):
            asyncio.run(ask(vhost, good | change))


def test_a_forged_release_frees_nothing(
    vhost: Vhost, recorders: Recorders, publisher: Publisher, tmp_path: Path
) -> None:
    """Who knows the key and the id, as anybody may, does not know the token."""
    recorders.start()
    first = publisher.publish_unique(write(tmp_path / "ran"), "mail:a")
    forged = {"ask": "release", "key": "mail:a", "id": first.id, "token": "0" * 32}

    assert asyncio.run(ask(vhost, forged))["released"] is False
    assert publisher.publish_unique(write(tmp_path / "ran"), "mail:a").was_already_there


def test_the_rights_of_a_producer_are_enough(vhost: Vhost, recorders: Recorders, tmp_path: Path) -> None:
    """Nothing more is asked for."""
    recorders.start()
    with vhost.limited_user(**rights_of("producer", [jobs])._asdict()) as url:
        settings = vhost.settings_for(url)
        with Publisher(settings) as publisher:
            first = publisher.publish_unique(write(tmp_path / "ran"), "mail:a")
            assert publisher.publish_unique(write(tmp_path / "ran"), "mail:a") == first


def test_the_command_says_which_is_there(recorders: Recorders, tmp_path: Path) -> None:
    """With the same exit status, for the task is there; and refuses what cannot be."""
    recorders.start()
    words = ("submit", "jobs.write", f"path={tmp_path}/ran", "--queue", "jobs", "--unique", "mail:a")
    first = recorders.command(*words, "--for", "1h")
    second = recorders.command(*words)
    third = recorders.command(*words, "--json")

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "a task with the key 'mail:a' was already there; nothing was submitted" in second.stderr
    assert json.loads(third.stdout) == {"id": first.stdout.strip(), "task": "jobs.write", "was_already_there": True}
    for wrong, said in (
        (("submit", "jobs.write", "--for", "1h"), "give the key: --unique"),
        (("submit", "jobs.write", "--unique", "a", "--for", "soon"), "is no time"),
        (("submit", "jobs.write", "--unique", "a" * 256), "1 to 255 bytes"),
        (("submit", "jobs.write", "--unique", "a", "--file", "-"), "leave out --file"),
        (("submit", "jobs.write", "--unique", "a", "--wait"), "--wait waits for a task of this process"),
    ):
        refused = recorders.command(*wrong)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


async def ask(vhost: Vhost, question: dict[str, Any]) -> dict[str, Any]:
    questions = Questions(vhost.settings)
    await questions.open()
    try:
        return await questions.ask_one(RECORDERS, question)
    finally:
        await questions.close()
