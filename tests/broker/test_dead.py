"""The command `leveret dead`: looking changes nothing, and what is moved is nowhere lost."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leveret import DeadLetters, Route
from leveret.producers.dead import history
from leveret.producers.dead.reading import read
from leveret.topology.message import FAILURE_HEADERS, own_headers
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.malformed import UNREADABLE
from tests.broker.odd import HEADERS, PROPERTIES, Foreign, Raw, encode_raw
from tests.broker.support import JOBS, Dead, Vhost, Workers, await_value, run

Ended = subprocess.CompletedProcess[str]
Run = Callable[..., Ended]
DLQ = dlq_name(jobs.name)
_LARGEST_BYTES = 100_000
_TRACE = """Traceback (most recent call last):
  File "/app/night.py", line {line}, in charge
    raise
  File "/usr/lib/python3/json.py", line 3, in loads
"""


@pytest.fixture
def dead(vhost: Vhost) -> Run:
    """Run the command on the test's virtual host."""

    def run_it(*arguments: str, **environment: str) -> Ended:
        told = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url, **environment}
        return run("leveret", "dead", *arguments, **told)

    return run_it


def failure(kind: str, line: int, hours: float) -> dict[str, Any]:
    """The headers of a message that has died of this so long ago."""
    at = datetime.now(UTC) - timedelta(hours=hours)
    told = {
        "type": kind,
        "message": f"no {kind}",
        "traceback": f"{_TRACE.format(line=line)}{kind}: no {kind}\n",
        "fingerprint": f"{kind}@night.py:charge",
        "task": "jobs.fail",
        "attempts": 3,
        "time": at.isoformat(),
    }
    return {FAILURE_HEADERS + name: value for name, value in told.items()}


def bury(vhost: Vhost, *, body: bytes = b'{"task":"jobs.fail","kwargs":{"text":"tariff"}}', **headers: Any) -> None:
    """Put a message for each id into the DLQ."""
    vhost.declare(jobs)
    with Foreign(vhost) as client:
        for task_id, said in headers.items():
            client.publish(Route.dead(jobs.name), body, message_id=task_id, headers=said)
    await_value(lambda: vhost.count(DLQ) >= len(headers), "the messages in the DLQ")


@pytest.fixture
def mess(vhost: Vhost) -> None:
    """Four dead for two reasons at two places."""
    bury(
        vhost,
        a1=failure("KeyError", 7, 3),
        a2=failure("KeyError", 7, 1),
        b1=failure("KeyError", 9, 2),
        c1=failure("ConnectionError", 11, 5),
    )


def rows(ended: Ended) -> list[dict[str, Any]]:
    assert (ended.returncode, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def listed(ended: Ended) -> list[str]:
    """Return the ids of a list."""
    return [row["id"] for row in rows(ended)]


@pytest.mark.usefixtures("mess")
def test_looking_groups_filters_and_changes_nothing(vhost: Vhost, dead: Run) -> None:
    """Groups are told by task, exception and place; each filter leaves what it says; all stays as it was."""
    groups = rows(dead("top", "jobs", "--json"))
    assert [(row["count"], row["kind"], row["place"], row["example"]) for row in groups[:1]] == [
        (2, "KeyError", "night.py:7", "a2")
    ]
    assert {(row["kind"], row["place"]) for row in groups[1:]} == {
        ("KeyError", "night.py:9"),
        ("ConnectionError", "night.py:11"),
    }
    assert listed(dead("list", "--json")) == ["a1", "a2", "b1", "c1"]
    assert listed(dead("list", "jobs.dlq", "--json", "--kind", "Key*")) == ["a1", "a2", "b1"]
    assert listed(dead("list", "jobs", "--json", "--group", groups[0]["group"])) == ["a1", "a2"]
    assert listed(dead("list", "jobs", "--json", "--older", "150m")) == ["a1", "c1"]
    assert listed(dead("list", "jobs", "--json", "--newer", "150m", "--task", "jobs.*")) == ["a2", "b1"]
    assert listed(dead("list", "jobs", "--json", "--text", "NO connection")) == ["c1"]
    assert listed(dead("list", "jobs", "--json", "--id", "b1,c1")) == ["b1", "c1"]
    page = dead("list", "jobs", "--limit", "3")
    assert ([line.split()[0] for line in page.stdout.splitlines()], page.stderr) == (
        ["ID", "a1", "a2", "b1"],
        "there are more in jobs.dlq: --page 2\n",
    )
    shown = dead("show", groups[0]["group"])
    assert "id        a2\n" in shown.stdout
    assert 'File "/app/night.py", line 7, in charge' in shown.stdout
    assert "argument  text='tariff'" in shown.stdout.replace('"', "'")
    assert max(map(len, dead("top", "jobs").stdout.splitlines())) <= 80
    await_value(lambda: vhost.count(DLQ) == 4, "all in the DLQ")
    assert vhost.ids_in(DLQ) == ["a1", "a2", "b1", "c1"]


@pytest.mark.usefixtures("mess")
def test_what_cannot_be_done_says_why(vhost: Vhost, dead: Run, tmp_path: Path) -> None:
    """An unknown queue, id or filter, an ambiguous id, a broken file: one line each, and all stays dead."""
    cut = tmp_path / "cut.jsonl"
    assert dead("export", str(cut), "jobs").returncode == 0
    cut.write_bytes(cut.read_bytes()[:-40])
    taken = tmp_path / "taken"
    taken.touch()
    cases = [
        (1, "did you mean 'jobs.dlq'?", ["top", "jbos"]),
        (1, "no dead message 'nobody' in jobs", ["show", "nobody", "jobs"]),
        (1, "'a' is the beginning of 2 ids: a1, a2", ["show", "a", "jobs"]),
        (1, "no such message lies in jobs.dlq", ["discard", "jobs", "--kind", "NoError", "--yes"]),
        (1, "see what does: leveret dead top jobs", ["redrive", "jobs", "--text", "nowhere"]),
        (1, "no such message lies in jobs.dlq", ["export", str(cut), "--task", "no.such"]),
        (2, "nobody can be asked here; say --yes", ["discard", "jobs"]),
        (1, "cannot be made: File exists; name another", ["discard", "jobs", "--yes", "--to", str(taken)]),
        (1, f"line 4 of {cut} is no dead message: it is no JSON, perhaps cut", ["import", str(cut)]),
        (1, "cannot be read: No such file", ["import", str(tmp_path / "nowhere")]),
        (1, "cannot be written: No such file", ["export", str(tmp_path / "no" / "where"), "jobs"]),
        (1, "what you have edited is no JSON", ["edit", "a1", "jobs"]),
    ]
    for status, text, arguments in cases:
        ended = dead(*arguments, EDITOR="sh -c 'echo nonsense > $0'")
        assert (ended.returncode, ended.stdout, text in ended.stderr) == (status, "", True), ended
        assert "Traceback" not in ended.stderr
    with vhost.limited_user(write=".*") as url:
        assert "give this user the read right" in dead("top", "jobs", AMQP_URL=url).stderr
    await_value(lambda: vhost.count(DLQ) == 4, "all in the DLQ")


@pytest.mark.usefixtures("mess")
def test_discarded_into_a_file_and_put_back_once(vhost: Vhost, dead: Run, tmp_path: Path) -> None:
    """What is discarded is in a file that is its user's alone; importing it twice puts it back once."""
    gone = tmp_path / "gone.jsonl"

    ended = dead("discard", "jobs", "--kind", "KeyError", "--yes", "--to", str(gone))

    assert (ended.returncode, ended.stdout) == (0, f"{gone}\n")
    assert [json.loads(line)["id"] for line in gone.read_text().splitlines()] == ["a1", "a2", "b1"]
    assert stat.S_IMODE(gone.stat().st_mode) == 0o600
    assert listed(dead("list", "jobs", "--json")) == ["c1"]
    assert dead("import", str(gone)).stderr == "3 message(s) put back\n"
    assert dead("import", str(gone)).stderr == "0 message(s) put back; 3 lay there already\n"
    assert rows(dead("top", "jobs", "--json", "--kind", "KeyError"))[0]["count"] == 2
    assert vhost.ids_in(DLQ) == ["a1", "a2", "b1", "c1"]


def test_canary(vhost: Vhost, dead: Run, workers: Workers) -> None:
    """One that fails again keeps the others dead, with status 4; where it succeeds they go. No recorder is there."""
    fails, works = b'{"task":"jobs.reject"}', b'{"task":"jobs.fail_once"}'
    bury(vhost, body=fails, f1=failure("KeyError", 7, 1), f2=failure("KeyError", 7, 1))
    bury(vhost, body=works, **{f"w{one}": failure("OSError", 8, 1) for one in range(3)})
    workers.start()

    failed = dead("redrive", "jobs", "--kind", "KeyError", "--canary", "1", "--timeout", "60s")
    went = dead("redrive", "jobs", "--kind", "OSError", "--canary", "1", "--timeout", "60s")

    assert (failed.returncode, [line.split()[0] for line in failed.stdout.splitlines()]) == (4, ["f1"])
    assert "of 1 that went first 1 failed; the others stay in jobs.dlq" in failed.stderr
    assert (went.returncode, [line.split()[0] for line in went.stdout.splitlines()]) == (0, ["w0", "w1", "w2"])
    assert "w0 attempt 1 of 3 failed, is tried again: ValueError" in went.stderr
    await_value(lambda: vhost.count(DLQ) == 2, "the two that fail in the DLQ")
    again, never = sorted(vhost.take(DLQ), key=lambda one: history.times_of(one.headers), reverse=True)
    assert (again.properties.message_id, history.times_of(again.headers)) == ("f1", 1)
    assert (never.properties.message_id, history.lines_of(never.headers)) == ("f2", [])


def test_mended_and_sent_to_another_queue(vhost: Vhost, dead: Run) -> None:
    """Edited arguments fit the task, go under the same id, and leave what else the body has; --to says where."""
    body = b'{"task":"jobs.fail","kwargs":{"text":"old"},"more":1}'
    bury(vhost, body=body, one=failure("KeyError", 7, 1), two=failure("KeyError", 7, 1))
    misfit = dead("edit", "one", "-a", JOBS, EDITOR="sed -i s/text/txet/")
    ended = dead("edit", "one", "jobs", "-a", JOBS, EDITOR="sed -i s/old/new/")

    assert (misfit.returncode, "did you mean 'text'?" in misfit.stderr) == (1, True)
    assert (ended.returncode, ended.stdout) == (0, "one\n")
    mended = vhost.take_one(jobs.name)
    assert mended.properties.message_id == "one"
    assert json.loads(mended.body) == {"task": "jobs.fail", "args": [], "kwargs": {"text": "new"}, "more": 1}
    assert dead("edit", "two", "jobs", EDITOR="true").returncode == 1
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("other.dlq", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_declare("other", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("other", "tasks.direct", "other")
    assert dead("redrive", "jobs", "--to", "other").stderr == "1 message(s) went from jobs.dlq to other\n"
    assert vhost.ids_in("other") == ["two"]


def test_replayed_here(vhost: Vhost, dead: Run, tmp_path: Path) -> None:
    """The task runs in the command's process, and the message stays dead, however it ends."""
    path = tmp_path / "ran"
    bury(vhost, body=json.dumps({"task": "jobs.write", "kwargs": {"path": str(path)}}).encode(), ok={})
    bury(vhost, bad={})

    assert dead("replay", "ok", "jobs", "-a", JOBS).returncode == 0
    failed = dead("replay", "bad", "jobs", "-a", JOBS)

    assert path.read_text().startswith("ok 1 ")
    assert (failed.returncode, "ValueError: tariff" in failed.stderr) == (4, True)
    await_value(lambda: vhost.count(DLQ) == 2, "both in the DLQ")


def test_without_the_management_api(vhost: Vhost, dead: Run) -> None:
    """A queue that is named is looked at all the same; which there are cannot be known, and that is said."""
    bury(vhost, one={})
    nowhere = {"MANAGEMENT_URL": "http://127.0.0.1:9/"}

    assert listed(dead("list", "jobs", "--json", **nowhere)) == ["one"]
    ended = dead("top", **nowhere)
    assert (ended.returncode, ended.stderr.rstrip().endswith("Or name a queue")) == (1, True)


def test_from_a_program(vhost: Vhost, tmp_path: Path) -> None:
    """Each thing the command does, by one object."""
    kinds = (("a", "KeyError"), ("b", "OSError"), ("c", "OSError"))
    died: dict[str, Any] = {name: failure(kind, 7, 1) for name, kind in kinds}
    bury(vhost, **died)
    letters = DeadLetters(jobs.name, vhost.settings)

    assert [group.count for group in letters.groups(kinds=["OS*"]).groups] == [2]
    assert letters.export(tmp_path / "all.jsonl").count == 3
    assert letters.discard(tmp_path / "gone.jsonl", ids=["a"]).count == 1
    assert [dead.id for dead in letters.redrive(kinds=["OSError"], most=1).messages] == ["b"]
    assert vhost.ids_in(jobs.name) == ["b"]
    assert (done := letters.put_back(tmp_path / "all.jsonl")).count == 2
    assert done.already_there == 1
    assert vhost.ids_in(DLQ) == ["a", "b", "c"]


def test_odd_messages(vhost: Vhost, dead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a client can send is listed, shown, exported, imported and redriven; nothing raw is shown.

    What cannot be written again is named, and is in the DLQ or the file all the while.
    """
    vhost.declare(jobs)
    encode_raw(monkeypatch)
    unwritable = {"when": Raw(b"T" + (2**63).to_bytes(8))}
    with Foreign(vhost) as client:
        for name, headers in HEADERS.items():
            client.publish(Route.dead("jobs"), b"{}", message_id=f"header-{name}", headers=headers)
        for name, properties in PROPERTIES.items():
            client.publish(Route.dead("jobs"), b"\xff\0 " + name.encode(), **{**properties, "expiration": None})
        for name, message in UNREADABLE.items():
            if len(message.body) <= _LARGEST_BYTES:
                client.publish(Route.dead("jobs"), message.body, message_id=name, **message.properties)
        client.publish(Route.dead("jobs"), b"{}", message_id="unwritable", headers=unwritable)
    before = seen_in(vhost)
    file = tmp_path / "all.jsonl"

    found = dead("list", "jobs", "--json", "--limit", "10000")
    top = dead("top", "jobs")
    exported = dead("export", str(file), "jobs")
    shown = [dead("show", name, "jobs") for name in ("header-text", "one\ntwo 12", "unwritable", "header-celery")]

    assert len(found.stdout.splitlines()) == sum(before.values())
    assert [one.returncode for one in (found, top, exported, *shown)] == [0] * 7
    assert all(line.isprintable() for one in (found, top, *shown) for line in (one.stdout + one.stderr).split("\n"))
    assert file.read_bytes().count(b"\n") == sum(before.values())
    assert seen_in(vhost) == before
    with vhost.connect() as connection:
        connection.channel().queue_purge(DLQ)
    imported = dead("import", str(file))
    left_out = imported.stderr.count("left in the file, for it cannot be sent")
    after = seen_in(vhost)
    assert (imported.returncode, imported.stdout) == (3, "")
    assert before - after == Counter({one: 1 for one in before if b"unwritable" in one[0] or b"timestamp" in one[0]})
    assert sum((before - after).values()) == left_out
    redriven = dead("redrive", "jobs", "--json")
    assert (redriven.returncode, len(redriven.stdout.splitlines())) == (0, sum(after.values()))
    assert vhost.count(jobs.name) == sum(after.values())


def seen_in(vhost: Vhost) -> Counter[tuple[bytes, bytes, str]]:
    """Return what lies in the DLQ, by id, body and all else but what the broker writes, and leave it there."""
    seen: Counter[tuple[bytes, bytes, str]] = Counter()
    with vhost.connect() as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(DLQ)
            if method is None:
                break
            one = Dead(properties, body)
            task_id = properties.message_id or b""
            headers = sorted((str(name), str(value)) for name, value in own_headers(one.headers).items())
            kept = {name: value for name, value in vars(properties).items() if name != "headers"}
            seen[task_id if isinstance(task_id, bytes) else task_id.encode(), body, str((headers, kept))] += 1
        count = sum(seen.values())
    await_value(lambda: vhost.count(DLQ) == count, "all back in the DLQ")
    return seen


def test_a_look_is_not_counted_against_a_limit_of_few_returns(vhost: Vhost, dead: Run) -> None:
    """A policy may have the broker drop what came back twice: then a look is refused, or costs no return."""
    bury(vhost, one={})
    definition = {"pattern": r"^jobs\.dlq$", "definition": {"delivery-limit": 2}, "apply-to": "queues"}
    vhost.api("PUT", f"policies/{vhost.name}/few", definition)
    await_value(lambda: vhost.api("GET", f"queues/{vhost.name}/{DLQ}").get("policy") == "few", "the policy")

    looks = [dead("top", "jobs") for _ in range(5)]

    assert {one.returncode for one in looks} in ({0}, {1})
    assert all("delivery-limit" in one.stderr for one in looks if one.returncode)
    assert vhost.ids_in(DLQ) == ["one"]


@pytest.mark.parametrize("at_once", [7, 100])
def test_order_is_kept_over_a_look(vhost: Vhost, at_once: int) -> None:
    """Whether one consumer holds them all, or several."""
    vhost.declare(jobs)
    ids = [f"{number:02}" for number in range(100)]
    for one in ids:
        vhost.publish(Route.dead(jobs.name), b"{}", message_id=one)
    seen: list[str] = []

    asyncio.run(read(vhost.settings, jobs.name, lambda dead: seen.append(dead.id), at_once))

    assert seen == ids
    await_value(lambda: vhost.count(DLQ) == len(ids), "all to be back")
    assert [dead.properties.message_id for dead in vhost.take(DLQ)] == ids
