"""Users with the least rights: each role can do its work from end to end, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from leveret import Route
from leveret.topology.access.rights import ROLES
from leveret.topology.access.users import url_of
from leveret.topology.apply.declare import declare_streams
from leveret.topology.names import dlq_name, failed_exchange, retry_queue
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, Workers, run

Act = Callable[[Any], object]


def make(vhost: Vhost, *options: str, stdin: str | None = None, **environment: str) -> Any:
    """Run the command for users that begin with the name of the virtual host."""
    url = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}
    return run(
        "topology.users", "--prefix", vhost.name, "--tasks", JOBS, *options, stdin=stdin, **{**url, **environment}
    )


@pytest.fixture
def users(vhost: Vhost) -> Iterator[dict[str, str]]:
    """The URL of each role's user, as the command prints it."""
    made = make(vhost)
    try:
        assert made.returncode == 0, made.stderr
        yield dict(zip(ROLES, made.stdout.split(), strict=True))
    finally:
        for role in ROLES:
            vhost.api("DELETE", f"users/{vhost.name}-{role}")


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password
    return password


def test_each_role_does_its_work(users: dict[str, str], vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Declare, submit by three exchanges, run, retry, bury, stamp an id, drain, redrive: each by its own user."""
    ran = tmp_path / "ran"
    write = ["jobs.write", "--kwargs", f'{{"path": "{ran}"}}']

    def command(role: str, module: str, *options: str) -> list[str]:
        ended = run(module, *options, AMQP_URL=users[role], MANAGEMENT_URL=vhost.broker.management_url)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()

    command("topology", "topology.declare", "--tasks", JOBS)
    submit = ("producer", "producers.submit", "--tasks", JOBS)
    written = [
        *command(*submit, *write),
        *command(*submit, *write, "--queue", "jobs"),
        *command(*submit, *write, "--exchange", "fanout"),
    ]
    retried = command(*submit, "jobs.fail_once")
    dead = command(*submit, "jobs.reject")
    with pika.BlockingConnection(pika.URLParameters(users["producer"])) as connection:
        connection.channel().basic_publish(*Route.direct("jobs"), b'{"task": "jobs.fail_once"}')  # without an id
    worker = workers.drain("--no-declare", AMQP_URL=users["worker"])

    assert sorted(line.split()[0] for line in ran.read_text().splitlines()) == sorted(written)
    assert len(worker.find("done", attempt=2, of=3)) == 2
    assert worker.find("done", id=retried[0], attempt=2, of=3)
    assert vhost.counts(jobs) == {dlq_name("jobs"): 1}
    assert command("topology", "producers.redrive", "jobs", "--quiet") == dead
    assert vhost.ids_in("jobs") == dead
    assert all(password_of(url) not in worker.text + str(worker.events) for url in users.values())


def test_following_takes_no_other_rights(users: dict[str, str], vhost: Vhost, workers: Workers) -> None:
    """A producer waits for a result, cancels, and asks who is there; the worker answers with its own rights."""
    vhost.declare(jobs)
    declare_streams(vhost.settings)
    worker = workers.start("--no-declare", AMQP_URL=users["worker"])

    def command(role: str, verb: str, *options: str) -> str:
        place = {"AMQP_URL": users[role], "MANAGEMENT_URL": "http://127.0.0.1:1/"}
        ended = run("leveret", verb, *options, **place)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert command("producer", "submit", "jobs.write", "path=/dev/null", "--wait", "-a", JOBS) == "null\n"
    command("producer", "cancel", "some-id")
    (shown,) = json.loads(command("producer", "info", "--json", "-a", JOBS))["workers"]
    command("topology", "pause", "jobs")
    worker.await_event("paused")
    command("topology", "resume", "jobs")

    assert shown["pid"] == worker.process.pid
    assert worker.find("this worker cannot be asked") == worker.find("what happens to tasks cannot be told") == []


def test_limits_take_no_other_rights(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """The topology's owner makes the tokens of a queue, and a worker those of keys: each with its own rights."""
    module = "tests.broker.limited_jobs"
    made = make(vhost, "--tasks", module)
    assert made.returncode == 0, made.stderr
    users = dict(zip(ROLES, made.stdout.split(), strict=True))
    path = tmp_path / "ran"
    try:
        declared = run("leveret", "declare", "-a", module, AMQP_URL=users["topology"])
        assert declared.returncode == 0, declared.stderr
        for number in range(4):
            vhost.publish_task(Route.direct("few"), "few.run", f"few-{number}", path=str(path))
            vhost.publish_task(Route.direct("keyed"), "keyed.run", f"k-{number}", path=str(path), customer="ann")
            vhost.publish_task(Route.direct("paced"), "paced.run", f"p-{number}", path=str(path))
        for queue in ("few", "keyed", "paced"):
            workers.drain("--no-declare", queue=queue, tasks=[module], AMQP_URL=users["worker"])
    finally:
        for role in ROLES:
            vhost.api("DELETE", f"users/{vhost.name}-{role}")

    assert len(path.read_text().splitlines()) == 12


def publishing(exchange: str, key: str = "jobs") -> Act:
    return lambda channel: channel.basic_publish(exchange, key, b"{}")


def getting(queue: str) -> Act:
    return lambda channel: channel.basic_get(queue)


def binding(queue: str, exchange: str) -> Act:
    return lambda channel: channel.queue_bind(queue, exchange, "any")


DECLARING: dict[str, Act] = {
    "a queue": lambda channel: channel.queue_declare("mine"),
    "an exchange": lambda channel: channel.exchange_declare("mine"),
    "deleting a queue": lambda channel: channel.queue_delete("foreign"),
    "purging a queue": lambda channel: channel.queue_purge("foreign"),
    "the default exchange": publishing(""),
    "a foreign exchange": publishing("amq.topic"),
    "a foreign queue": getting("foreign"),
    "consuming a foreign queue": lambda channel: channel.basic_consume("foreign", lambda *_: None),
    "binding a foreign queue": binding("foreign", "tasks.topic"),
    "binding to a foreign exchange": binding("jobs", "amq.topic"),
}
RUNNING: dict[str, Act] = {
    "deleting the work queue": lambda channel: channel.queue_delete("jobs"),
    "deleting the exchange": lambda channel: channel.exchange_delete("tasks.direct"),
    "binding the work queue": binding("jobs", "tasks.topic"),
    "the DLQ": getting(dlq_name("jobs")),
    "purging the DLQ": lambda channel: channel.queue_purge(dlq_name("jobs")),
    "the dead-letter exchange": publishing(failed_exchange("jobs")),
    "binding a retry tier": binding(retry_queue("jobs", 1, jobs.retry_delays[0]), "tasks.topic"),
    "unbinding the work queue": lambda channel: channel.queue_unbind("jobs", "tasks.direct", "jobs"),
}
SUBMITTING: dict[str, Act] = {
    "making a message its third attempt": publishing("tasks.again", "jobs@3"),
    "planting a dead message": publishing("tasks.dead", "jobs"),
    "the work queue": getting("jobs"),
    "a retry tier": getting(retry_queue("jobs", 1, jobs.retry_delays[0])),
    "consuming the work queue": lambda channel: channel.basic_consume("jobs", lambda *_: None),
}
COMMANDING: dict[str, Act] = {
    "pausing a queue": publishing("tasks.control", "pause"),
    "hearing what others are told": lambda channel: listening(channel, "tasks.reply.#"),
    "hearing what is cancelled": lambda channel: listening(channel, "cancel", "tasks.control"),
}
TELLING: dict[str, Act] = {
    "saying that a task has succeeded": publishing("tasks.events", "task.succeeded.jobs.write"),
}
HEARING: dict[str, Act] = {
    "hearing what happens to all tasks": lambda channel: listening(channel, "task.#"),
}
FORBIDDEN = {
    "topology": DECLARING,
    "worker": {
        **DECLARING,
        **RUNNING,
        **COMMANDING,
        **HEARING,
    },
    "producer": {**DECLARING, **RUNNING, **SUBMITTING, **COMMANDING, **TELLING, **HEARING},
    "scheduler": {
        **DECLARING,
        **RUNNING,
        **SUBMITTING,
        **COMMANDING,
        **TELLING,
        **HEARING,
        "cancelling": publishing("tasks.control", "cancel"),
    },
    "recorder": {
        **{what: act for what, act in DECLARING.items() if not what.startswith("binding")},
        **RUNNING,
        **SUBMITTING,
        "submitting": publishing("tasks.direct"),
        **TELLING,
        "cancelling": publishing("tasks.control", "cancel"),
    },
}


def listening(channel: Any, key: str, exchange: str = "tasks.events") -> None:
    """Bind a queue of one's own, as who waits for results may have."""
    channel.queue_declare("tasks.reply.0123", exclusive=True)
    channel.queue_bind("tasks.reply.0123", exchange, key)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_can_do_more(role: str, users: dict[str, str], vhost: Vhost) -> None:
    """Whatever is not its work is refused with 403."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        connection.channel().queue_declare("foreign")
    answers = {}
    with pika.BlockingConnection(pika.URLParameters(users[role])) as connection:
        for what, act in FORBIDDEN[role].items():
            channel = connection.channel()
            channel.confirm_delivery()
            try:
                act(channel)
                channel.queue_declare("jobs", passive=True)  # what was published has been judged by now
                answers[what] = "allowed"
            except ChannelClosedByBroker as error:
                answers[what] = str(error.reply_code)

    assert answers == dict.fromkeys(FORBIDDEN[role], "403")


@pytest.mark.parametrize(
    ("role", "command", "cure"),
    [
        (
            "worker",
            ("consumers.run", "--queue", "jobs"),
            "another account run leveret declare (a worker then starts with --no-declare)",
        ),
        ("producer", ("producers.submit", "jobs.fail"), f"let another declare it: leveret declare -a {JOBS}"),
    ],
)
def test_a_role_that_may_not_declare_is_told(
    role: str, command: tuple[str, ...], cure: str, users: dict[str, str], vhost: Vhost
) -> None:
    """A worker or producer whose queue nobody has declared ends with one line that says what to do."""
    ended = run(*command, "--tasks", JOBS, AMQP_URL=users[role], MANAGEMENT_URL=vhost.broker.management_url)

    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert line.endswith(cure)
    assert password_of(users[role]) not in ended.stdout + ended.stderr
    assert vhost.queues() == set()


def test_a_producer_for_some_topics(users: dict[str, str], vhost: Vhost) -> None:
    """With the topic exchange alone and a topic permission a producer reaches the tasks of one name."""
    vhost.declare(jobs)
    user = f"{vhost.name}-producer"
    vhost.api("PUT", f"permissions/{vhost.name}/{user}", {"configure": "^$", "write": r"^tasks\.topic$", "read": "^$"})
    vhost.api(
        "PUT",
        f"topic-permissions/{vhost.name}/{user}",
        {"exchange": "tasks.topic", "write": r"^jobs\.write$", "read": "^$"},
    )
    submit = ("producers.submit", "--tasks", JOBS)
    environment = {"AMQP_URL": users["producer"], "MANAGEMENT_URL": vhost.broker.management_url}
    allowed = run(*submit, "jobs.write", "--kwargs", '{"path": "x"}', **environment)
    other = run(*submit, "jobs.fail", **environment)
    direct = run(*submit, "jobs.write", "path=x", "--queue", "jobs", **environment)

    assert (allowed.returncode, other.returncode, direct.returncode) == (0, 1, 1)
    assert "jobs.fail" in other.stderr
    assert "tasks.direct" in direct.stderr
    assert vhost.count("jobs") == 1


def test_again_keeps_the_passwords(users: dict[str, str], vhost: Vhost) -> None:
    """The second time nothing is printed but that it was there, and rights that were changed are as they should be."""
    user = f"{vhost.name}-worker"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    before = vhost.api("GET", f"permissions/{vhost.name}/{user}")
    vhost.api("PUT", f"permissions/{vhost.name}/{user}", everything)
    again = make(vhost)

    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.count("with the password it keeps") == len(ROLES)
    assert vhost.api("GET", f"permissions/{vhost.name}/{user}") == before
    pika.BlockingConnection(pika.URLParameters(users["worker"])).close()


def test_rights_that_end_are_told(users: dict[str, str], vhost: Vhost) -> None:
    """Named for other modules, the command says whose rights to what it takes away; for more modules it does not."""
    more = make(vhost, "--tasks", "tests.broker.other_jobs", "--role", "worker")
    both = vhost.api("GET", f"permissions/{vhost.name}/{vhost.name}-worker")["read"]
    fewer = make(vhost, "--role", "worker")

    assert (more.returncode, len(more.stderr.splitlines())) == (0, 1)
    assert fewer.returncode == 0
    told, _ = fewer.stderr.splitlines()
    assert told.startswith(
        f"{vhost.name}-worker had the right to read {both} in virtual host {vhost.name!r}, and loses"
    )


def test_new_passwords(users: dict[str, str], vhost: Vhost) -> None:
    """A password is replaced when asked for, of the role that is named, and the old one is refused."""
    renewed = make(vhost, "--role", "worker", "--new-passwords")
    (url,) = renewed.stdout.split()

    assert url != users["worker"]
    pika.BlockingConnection(pika.URLParameters(url)).close()
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(users["worker"]))


def test_a_password_from_stdin(users: dict[str, str], vhost: Vhost) -> None:
    """A given password is set, escaped wherever it is written, and printed nowhere."""
    given = "p@ss:w/rd;?#%41 ü"
    made = make(vhost, "--role", "producer", "--password-stdin", stdin=f"{given}\n")

    assert (made.returncode, made.stdout) == (0, "")
    assert given not in made.stderr
    pika.BlockingConnection(pika.URLParameters(url_of(vhost.amqp_url, f"{vhost.name}-producer", given))).close()


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--password-stdin"], 2, "name one --role with it"),
        (["--password-stdin", "--role", "worker", "--new-passwords"], 2, "no --new-passwords"),
        (["--password-stdin", "--role", "worker"], 1, "standard input is empty"),
        (["--role", "admin"], 2, "there is no role 'admin'; there are: "),
    ],
)
def test_refused_options(options: list[str], status: int, text: str, vhost: Vhost) -> None:
    """What cannot be meant is refused before anything is made."""
    ended = make(vhost, *options, stdin="")

    assert ended.returncode == status
    assert text in ended.stderr


def test_who_may_not_make_users_is_told(users: dict[str, str], vhost: Vhost) -> None:
    """A user without the tag, a wrong password, a missing virtual host and no management each have their own line."""
    wrong = vhost.url_of(vhost.user, "wrong-secret")
    nowhere = vhost.amqp_url.replace(vhost.name, "no-such-vhost")
    amqp_port = f"http://{urlsplit(vhost.amqp_url).hostname}:{urlsplit(vhost.amqp_url).port}/"
    cases = [
        ({"AMQP_URL": users["worker"]}, "administrator"),
        ({"AMQP_URL": wrong}, f"does not let user {vhost.user!r} do that"),
        ({"AMQP_URL": nowhere}, "there is no virtual host 'no-such-vhost'"),
        ({"MANAGEMENT_URL": "http://127.0.0.1:9/"}, "does not answer"),
        ({"MANAGEMENT_URL": amqp_port}, "does not answer"),
        ({"MANAGEMENT_URL": amqp_port.replace("//", "//user:wrong-secret@")}, "does not answer"),
        ({"MANAGEMENT_URL": "http://user:wrong-secret@localhost.invalid"}, "does not answer"),
    ]
    for environment, text in cases:
        ended = make(vhost, **environment)

        assert ended.returncode == 1
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert text in line
        assert not any(secret in line for secret in ("wrong-secret", password_of(users["worker"])))


def test_an_administrator_is_not_demoted(vhost: Vhost) -> None:
    """A user of the same name that has tags is somebody else's, and stays as it is."""
    user = f"{vhost.name}-producer"
    vhost.api("PUT", f"users/{user}", {"password": "secret", "tags": "monitoring"})
    try:
        refused = make(vhost, "--new-passwords")

        assert refused.returncode == 1
        assert "take other names with --prefix" in refused.stderr
        assert "monitoring" in str(vhost.api("GET", f"users/{user}")["tags"])
    finally:
        vhost.api("DELETE", f"users/{user}")


def test_dry_run_shows_the_rights(vhost: Vhost) -> None:
    """Nothing is made, and no broker is needed to see what would be."""
    shown = make(vhost, "--dry-run", AMQP_URL="amqp://no.such.host.invalid/")

    assert shown.returncode == 0
    assert r"read       ^(jobs(\.retry\..+)?|" in shown.stdout
    assert r"write      ^task\.(submitted|delayed)\.  by key on tasks.events" in shown.stdout
    assert f"{vhost.name}-producer" in shown.stdout
