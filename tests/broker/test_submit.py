"""The command `leveret submit`: ids on stdout for what the broker has, one clear line for a refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from leveret import WorkQueue
from leveret.producers.examples.samples import treasure, words
from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.other_jobs import others
from tests.broker.support import JOBS, Vhost, Workers, queues_of, run

Ended = subprocess.CompletedProcess[str]
Submit = Callable[..., Ended]
BOOK = '{"book": "a.txt"}'
OTHER_JOBS = "tests.broker.other_jobs"


@pytest.fixture
def environment(vhost: Vhost) -> dict[str, str]:
    return {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}


@pytest.fixture
def submit(environment: dict[str, str]) -> Submit:
    """Run the command on the test's virtual host."""

    def run_it(*arguments: str, stdin: str | None = None, **more: str) -> Ended:
        told = {"PUBLISH_TIMEOUT_SECONDS": "120", **environment, **more}  # a busy broker may take long for thousands
        return run("producers.submit", *arguments, stdin=stdin, **told)

    return run_it


def kwargs_by_id(vhost: Vhost, queue: str = words.name) -> dict[str, object]:
    """Take every message out of a queue: the keyword arguments of each, or its positional ones."""
    taken = vhost.take(queue)
    found = {}
    for dead in taken:
        body = json.loads(dead.body)
        found[str(dead.properties.message_id)] = body["kwargs"] or body["args"]
    assert len(found) == len(taken)
    return found


def lies_nowhere(vhost: Vhost) -> bool:
    """Whether no queue of the virtual host holds a message."""
    return not any(map(vhost.count, vhost.queues()))


def only_line(ended: Ended) -> str:
    """Return the one line of a refusal, having seen that there is nothing else."""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("leveret submit: ")
    assert (ended.returncode, ended.stdout) == (1, "")
    return line


def test_sample_job(vhost: Vhost, submit: Submit, tmp_path: Path) -> None:
    """Without a task, each text in DATA_DIR is one words.count; stdout has the ids and nothing else."""
    for name in ("a.txt", "b c.txt", "ä.txt", "notes.md"):
        (tmp_path / name).write_text("text")

    ended = submit(DATA_DIR=str(tmp_path))

    assert ended.returncode == 0
    found = kwargs_by_id(vhost)
    assert ended.stdout.splitlines() == list(found)
    assert list(found.values()) == [{"book": "a.txt"}, {"book": "b c.txt"}, {"book": "ä.txt"}]
    assert ended.stderr == f"submitting words.count for 3 texts in {tmp_path}\n"


@pytest.mark.parametrize(
    ("options", "queue", "arguments"),
    [
        (["words.count", "--kwargs", BOOK], words.name, {"book": "a.txt"}),
        (["words.count", "--args", '["a.txt", 5]'], words.name, ["a.txt", 5]),
        (["words.count", "--kwargs", BOOK, "--exchange", "topic"], words.name, {"book": "a.txt"}),
        (["other.task", "--kwargs", BOOK, "--routing-key", "treasure.now"], treasure.name, {"book": "a.txt"}),
        (["words.count", "--kwargs", BOOK, "--queue", "treasure"], treasure.name, {"book": "a.txt"}),
        (
            ["other.task", "--kwargs", BOOK, "--exchange", "direct", "--routing-key", "words"],
            words.name,
            {"book": "a.txt"},
        ),
        (["other.task", "--kwargs", BOOK, "--exchange", "fanout"], words.name, {"book": "a.txt"}),
        (["words.count", "book=a.txt", "top=5"], words.name, {"book": "a.txt", "top": 5}),
        (["words.count", "--kwargs", '{"book": "ä\\ud83d\\ude00"}'], words.name, {"book": "ä😀"}),
    ],
)
def test_ways(vhost: Vhost, submit: Submit, options: list[str], queue: str, arguments: object) -> None:
    """One task goes into the queue its options name and into no other, with its arguments."""
    vhost.declare(words, treasure)

    ended = submit(*options)

    assert (ended.returncode, ended.stderr) == (0, "")
    (task_id,) = ended.stdout.splitlines()
    assert kwargs_by_id(vhost, queue) == {task_id: arguments}
    assert lies_nowhere(vhost)


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        (["words.count", "--kwargs", BOOK], {words}),
        (["words.count", "--kwargs", BOOK, "--queue", "treasure"], {treasure}),
        (["jobs.fail", "--tasks", JOBS], {jobs}),
        (["jobs.fail", "--tasks", JOBS, "--tasks", OTHER_JOBS], {jobs}),
        (["jobs.fail", "--tasks", f"{JOBS},{OTHER_JOBS}", "--queue", "others"], {others}),
        (["jobs.fail", "--tasks", f"{JOBS},{OTHER_JOBS}", "--exchange", "fanout"], {jobs, others}),
    ],
)
def test_the_queue_it_is_for_is_declared(
    vhost: Vhost, submit: Submit, options: list[str], declared: set[WorkQueue]
) -> None:
    """The first message for a queue that a loaded module has declares that queue, and no other of the module."""
    ended = submit(*options)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert vhost.queues() == queues_of(*declared)
    assert {queue.name for queue in declared} == {name for name in vhost.queues() if vhost.count(name)}
    assert [vhost.ids_in(queue.name) for queue in declared] == [ended.stdout.split()] * len(declared)


@pytest.fixture
def mail(tmp_path: Path) -> dict[str, str]:
    """The environment in which a module of somebody's own, `mail_app`, is found."""
    (tmp_path / "mail_app.py").write_text(
        "from leveret import WorkQueue, task\nmail = WorkQueue('mail', retry_delays=())\n"
        "@task('mail.send', queue=mail)\ndef send(to): pass\n"
    )
    return {"PYTHONPATH": f"{CHECKOUT}:{tmp_path}"}


def test_samples_are_nobody_elses(vhost: Vhost, submit: Submit, mail: dict[str, str]) -> None:
    """A task of one's own declares its own queue, and neither the samples' queues nor what nothing here knows."""
    line = only_line(submit("mail.send", "to=a@example.org", **mail))
    assert "'tasks.topic'" in line
    assert "leveret declare -a MODULE" in line
    assert vhost.queues() == set()

    ended = submit("mail.send", "to=a@example.org", "--tasks", "mail_app", **mail)

    assert ended.returncode == 0
    assert vhost.queues() == {"mail", "mail.dlq"}
    assert kwargs_by_id(vhost, "mail") == {ended.stdout.strip(): {"to": "a@example.org"}}


def test_modules_may_be_set(vhost: Vhost, submit: Submit, mail: dict[str, str]) -> None:
    """LEVERET_TASKS names the modules where the command names none."""
    ended = submit("mail.send", "to=a@example.org", LEVERET_TASKS="mail_app", **mail)

    assert ended.returncode == 0
    assert kwargs_by_id(vhost, "mail") == {ended.stdout.strip(): {"to": "a@example.org"}}


def test_before_the_first_worker(submit: Submit, workers: Workers, tmp_path: Path) -> None:
    """What is submitted on a fresh broker waits for the worker that comes later, and runs."""
    ended = submit("jobs.write", f"path={tmp_path / 'ran'}", "--tasks", JOBS)

    workers.drain()

    assert [line.split()[:2] for line in (tmp_path / "ran").read_text().splitlines()] == [[ended.stdout.strip(), "1"]]


LINES: Mapping[str, str] = {
    BOOK: "",
    "": "blank",
    '{"book": ': "is not JSON",
    '["a.txt"]': "must be an object",
    "  \t ": "blank",
    '{"book": NaN}': "NaN is not a JSON number",
    f'{{"book": "{"x" * 300}"}}': "bytes, over the limit of 300",
    "[" * 100_000: "is not JSON",
    '{"book": "\\ud800"}': "cannot be written as JSON",
    '  {"book": "last.txt", "top": 3}  ': "",
}


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_file(vhost: Vhost, submit: Submit, tmp_path: Path, by: str) -> None:
    """Good lines are submitted, blank ones skipped, bad ones reported by number and reason with status 1."""
    text = "\n".join(LINES)
    (tmp_path / "jobs.jsonl").write_text(text)
    file = "-" if by == "stdin" else str(tmp_path / "jobs.jsonl")

    ended = submit("words.count", "--file", file, stdin=text if by == "stdin" else None, MESSAGE_LIMIT_BYTES="300")

    assert ended.returncode == 1
    found = kwargs_by_id(vhost)
    assert list(found.values()) == [{"book": "a.txt"}, {"book": "last.txt", "top": 3}]
    assert ended.stdout.splitlines() == list(found)
    summary, *reported = ended.stderr.splitlines()
    assert summary == f"2 tasks submitted, 6 lines of {file} failed"
    bad = {number: reason for number, reason in enumerate(LINES.values(), 1) if reason not in ("", "blank")}
    assert [line.split(":")[0] for line in reported] == [f"  line {number}" for number in bad]
    assert [line for line, reason in zip(reported, bad.values(), strict=True) if reason not in line] == []


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_file_that_is_no_utf8(vhost: Vhost, environment: dict[str, str], tmp_path: Path, by: str) -> None:
    """A line that is not UTF-8 is reported like any other bad line, and the others are submitted."""
    raw = b'{"book": "a.txt"}\n{"book": "\xff"}\n{"book": "c.txt"}\n'
    (tmp_path / "jobs.jsonl").write_bytes(raw)
    file = "-" if by == "stdin" else str(tmp_path / "jobs.jsonl")

    ended = subprocess.run(
        [sys.executable, "-m", "producers.submit", "words.count", "--file", file],
        env={**os.environ, **environment, "PYTHONIOENCODING": "utf-8"},
        input=raw,
        capture_output=True,
        cwd=CHECKOUT,
        check=False,
    )

    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    assert b"\n  line 2: " in b"\n" + ended.stderr
    found = kwargs_by_id(vhost)
    assert list(found.values()) == [{"book": "a.txt"}, {"book": "c.txt"}]
    assert ended.stdout.decode().split() == list(found)


def test_file_nobody_takes(vhost: Vhost, submit: Submit, tmp_path: Path) -> None:
    """When no queue takes the tasks of a file, every line is reported, the first twenty with the reason."""
    vhost.declare(words)
    (tmp_path / "jobs.jsonl").write_text((BOOK + "\n") * 30)

    ended = submit("wrods.count", "--file", str(tmp_path / "jobs.jsonl"))

    assert (ended.returncode, ended.stdout) == (1, "")
    summary, *reported, rest = ended.stderr.splitlines()
    assert summary.startswith("0 tasks submitted, 30 lines of")
    assert [line.split(":")[0] for line in reported] == [f"  line {number}" for number in range(1, 21)]
    assert [line for line in reported if "nearest binding is 'words.#'" not in line] == []
    assert rest.endswith(", ".join(map(str, range(21, 31))))
    assert lies_nowhere(vhost)


def test_file_of_20000_lines(vhost: Vhost, submit: Submit, tmp_path: Path) -> None:
    """A file of 20,000 lines becomes 20,000 messages with ids of their own."""
    (tmp_path / "jobs.jsonl").write_text("".join(f'{{"book": "{number}.txt"}}\n' for number in range(20_000)))

    ended = submit("words.count", "--file", str(tmp_path / "jobs.jsonl"))

    assert ended.returncode == 0
    assert len(set(ended.stdout.splitlines())) == len(ended.stdout.splitlines()) == 20_000
    assert vhost.count(words.name) == 20_000


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["words.count", "--kwargs", "{book: a}"], ["--kwargs is not JSON", "'{book: a}'"]),
        (["words.count", "--kwargs", "[1]"], ["--kwargs must be an object", "'[1]'"]),
        (["words.count", "--args", BOOK], ["--args must be an array"]),
        (["words.count", "--kwargs", '{"a": Infinity}'], ["--kwargs is not JSON: Infinity"]),
        (["wrods.count"], ["'tasks.topic'", "'wrods.count'", "nearest binding is 'words.#'"]),
        (["words.count", "book=a", "--queue", "wrods"], ["'tasks.direct'", "'wrods'", "nearest binding is 'words'"]),
        (["words.count"], ["'words.count' cannot be called like this", "missing a required argument: 'book'"]),
        (["words.count", "bok=a"], ["'words.count' cannot be called like this", "called with bok=…"]),
        (["jobs.wirte", "--tasks", JOBS], ["no task 'jobs.wirte' for queue 'jobs' in " + JOBS, "'jobs.write'?"]),
        (["words.count", "--file", "/no/such/file"], ["--file /no/such/file cannot be read: No such file"]),
        (["words.count", "--file", "/"], ["--file / cannot be read: Is a directory"]),
        (["words.count", "--tasks", "no_such_module"], ["there is no module 'no_such_module'"]),
        (["words.count", "--routing-key", "ä" * 128], ["routing key 'ää", "longer than the 255 bytes of AMQP"]),
        (["words.count", "--queue", "caf\udce9"], ["queue 'caf\\udce9' is no text"]),
        (["x" * 256], ["cannot name a task"]),
    ],
)
def test_refused_options(vhost: Vhost, submit: Submit, options: list[str], texts: list[str]) -> None:
    """Options that cannot work are one line that says which and why, exit status 1, and no message."""
    vhost.declare(words, treasure)

    line = only_line(submit(*options))

    assert [text for text in texts if text not in line] == []
    assert lies_nowhere(vhost)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["words.count", "--exchange", "direct"], "the direct exchange needs a queue: give --queue"),
        (["words.count", "book=a", "--queue", "words", "--exchange", "topic"], "give nothing beside it"),
        (["words.count", "book=a", "--queue", ""], "it is empty"),
        (["words.count", "book=a", "--no-declare"], "there is no option --no-declare"),
        (["words.count", "book=a", "--timeout", "0"], "a timeout of 0.0 is not possible"),
        (["words.count", "book"], "'book' is no KEY=VALUE"),
        (["words.count", "book=a", "--file", "-"], "--file brings the arguments"),
        (["--kwargs", BOOK], "name the task"),
    ],
)
def test_wrong_usage(vhost: Vhost, submit: Submit, options: list[str], text: str) -> None:
    """Options that nobody can mean are one line that ends in where to look, exit status 2, and no message."""
    ended = submit(*options)

    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert line.startswith("leveret submit: ")
    assert line.endswith("; see leveret submit --help")
    assert text in line
    assert vhost.queues() == set()


@pytest.mark.parametrize(
    ("make_url", "texts"),
    [
        (lambda vhost: vhost.url_of(vhost.user, "wrong-secret"), ["refused user", "AMQP_URL"]),
        (lambda vhost: vhost.amqp_url + "-nope", ["has no virtual host", "-nope'"]),
        (lambda vhost: "amqp://guest:wrong-secret@localhost:1/", ["does not answer"]),
        (lambda vhost: "localhost", ["'localhost' is no AMQP URL"]),
        (lambda vhost: "http://guest:wrong-secret@localhost/", ["is no AMQP URL"]),
        (lambda vhost: "amqp://guest:wrong-secret@localhost:port/", ["is no URL"]),
        (lambda vhost: f"amqp://{vhost.broker.management_url.split('/')[2]}/", ["does not speak AMQP"]),
    ],
    ids=["wrong password", "no vhost", "no broker", "no URL", "http", "no port", "no AMQP"],
)
def test_broker_that_cannot_be_used(
    vhost: Vhost, submit: Submit, make_url: Callable[[Vhost], str], texts: list[str]
) -> None:
    """A broker that cannot be used is one line that says why, and never shows a password."""
    line = only_line(submit("words.count", "--kwargs", BOOK, AMQP_URL=make_url(vhost)))

    assert [text for text in texts if text not in line] == []
    assert "secret" not in line


def test_no_texts(vhost: Vhost, submit: Submit, tmp_path: Path) -> None:
    """A DATA_DIR without texts, or none at all, is one line that names it."""
    for folder in (tmp_path, tmp_path / "nope"):
        assert f"no texts (*.txt) in {folder};" in only_line(submit(DATA_DIR=str(folder)))

    assert lies_nowhere(vhost)


def test_account_without_the_configure_right(vhost: Vhost, submit: Submit, tmp_path: Path) -> None:
    """An account that may only write is told who is to declare; where somebody else declared, its messages arrive."""
    (tmp_path / "jobs.jsonl").write_text((BOOK + "\n") * 3)
    with vhost.limited_user(write=r"^tasks\.") as url:
        refusal = only_line(submit("words.count", "--kwargs", BOOK, AMQP_URL=url))
        refusals = submit("words.count", "--file", str(tmp_path / "jobs.jsonl"), AMQP_URL=url)
        nothing = vhost.queues()
        vhost.declare(words)
        ended = submit("words.count", "--kwargs", BOOK, AMQP_URL=url)

    cure = "this user may not declare it; let another declare it: leveret declare -a leveret.consumers.samples.words"
    assert refusal.endswith(cure)
    assert "secret" not in refusal
    assert (refusals.returncode, refusals.stdout, refusals.stderr.count(cure)) == (1, "", 3)
    assert nothing == set()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert kwargs_by_id(vhost) == {ended.stdout.strip(): {"book": "a.txt"}}


def test_a_queue_in_the_way(vhost: Vhost, submit: Submit) -> None:
    """When the queue cannot be declared as the module has it, one line says why, and nothing is submitted."""
    with vhost.connect() as connection:
        connection.channel().queue_declare("words.dlq", durable=True)

    line = only_line(submit("words.count", "--kwargs", BOOK))

    assert "queue 'words.dlq' exists with another x-queue-type" in line
    assert "see what differs with leveret plan" in line
    assert lies_nowhere(vhost)


@pytest.mark.parametrize("lines", [0, 5_000])
def test_reader_that_leaves(vhost: Vhost, environment: dict[str, str], tmp_path: Path, lines: int) -> None:
    """When whoever reads the ids leaves early, the command ends without a traceback; every id it told is a message."""
    (tmp_path / "jobs.jsonl").write_text((BOOK + "\n") * lines)
    options = ["words.count", "--file", str(tmp_path / "jobs.jsonl")] if lines else []
    process = subprocess.Popen(
        [sys.executable, "-m", "producers.submit", *options],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdout
    assert process.stderr
    told = {process.stdout.readline().strip()} if lines else set()
    process.stdout.close()

    complaint = process.stderr.read()
    process.wait(60)

    assert "Traceback" not in complaint
    assert "BrokenPipeError" not in complaint
    assert told <= set(kwargs_by_id(vhost))


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "it is closed"), ("> /dev/full", "No space left on device")]
)
def test_stdout_that_takes_no_ids(
    vhost: Vhost, environment: dict[str, str], tmp_path: Path, redirection: str, reason: str
) -> None:
    """With stdout closed or on a full disk the ids of all that was submitted are on stderr, and the status is 1."""
    (tmp_path / "jobs.jsonl").write_text((BOOK + "\n") * 30)
    command = f'exec "$0" -m producers.submit words.count --file "$1" {redirection}'

    ended = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(tmp_path / "jobs.jsonl")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
    )

    assert ended.returncode == 1
    first, *told, summary = ended.stderr.splitlines()
    assert first == f"standard output cannot be written: {reason}; what was meant for it follows here"
    assert summary.startswith("30 tasks submitted, 0 lines")
    assert sorted(told) == sorted(kwargs_by_id(vhost))
