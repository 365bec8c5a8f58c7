"""Passwords stay where they belong: in no log, error, process list, message or client property."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from leveret import Publisher, Route, Settings, declare
from leveret.topology.access.users import url_of
from leveret.topology.local import finding
from leveret.topology.names import dlq_name
from leveret.topology.settings import mask
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, Workers, await_value, run, start_waiting_task

SECRET = "S3cret/pa:ss@w;o?r%d#"
PIECES = ("S3cret", "ss@w", "ss%40w", "r%d", "r%25d")


@pytest.fixture
def url(vhost: Vhost) -> Iterator[str]:
    """The URL of a user whose password holds every character that means something in a URL."""
    user = f"{vhost.name}-owner"
    vhost.api("PUT", f"users/{user}", {"password": SECRET, "tags": "administrator"})
    try:
        vhost.api("PUT", f"permissions/{vhost.name}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
        yield url_of(vhost.amqp_url, user, SECRET)
    finally:
        vhost.api("DELETE", f"users/{user}")


def assert_no_secret(text: str) -> None:
    assert [piece for piece in PIECES if piece in text] == []


def processes_below(pid: int) -> list[Path]:
    """A process and everything it started, as folders of /proc."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc to read command lines from")
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in found.splitlines()}
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return [Path(f"/proc/{each}") for each in sorted(family)]


@pytest.fixture
def real_workers(vhost: Vhost, tmp_path: Path) -> Iterator[Workers]:
    """Start workers that have the command line of a worker."""
    made = Workers(vhost, tmp_path, is_real=True)
    yield made
    made.kill_all()


def test_a_worker_at_work(url: str, vhost: Vhost, real_workers: Workers, tmp_path: Path) -> None:
    """Neither its processes' command lines, nor its log, nor what the management UI and the DLQ show has it."""
    vhost.declare(jobs)
    worker = real_workers.start("--log-level", "debug", "--processes", "2", AMQP_URL=url)
    started, go = start_waiting_task(vhost, tmp_path)
    await_value(started.exists, "the task")
    family = processes_below(worker.process.pid)
    command_lines = "".join((process / "cmdline").read_text() for process in family)
    connections = await_value(lambda: vhost.api("GET", f"vhosts/{vhost.name}/connections"), "the connection")
    go.touch()
    vhost.publish_task(Route.direct("jobs"), "jobs.reject")
    dead = vhost.take_one(dlq_name("jobs"))
    worker.stop()

    assert len(family) >= 4
    assert "consumers.run" in command_lines
    assert worker.find("done", id="the-id")
    for text in (command_lines, str(connections), str(dead.headers), str(worker.events), worker.text):
        assert_no_secret(text)


COMMANDS = {
    "run": ["consumers.run", "--queue", "jobs", "--tasks", JOBS],
    "submit": ["producers.submit", "jobs.fail", "--tasks", JOBS],
    "redrive": ["producers.redrive", "jobs"],
    "treasure": ["leveret", "treasure", "--files", "1"],
    "declare": ["topology.declare", "--tasks", JOBS],
    "node": ["leveret", "node", "find"],
    "users": ["topology.users", "--tasks", JOBS],
    "demo": ["leveret", "demo"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_that_fails(verb: str, url: str, vhost: Vhost, tmp_path: Path) -> None:
    """However the URLs are wrong, a command ends with an error that has no piece of a password in it."""
    place = urlsplit(url)
    nowhere = place._replace(path="/no-such-vhost").geturl()
    wrong = url_of(vhost.amqp_url, vhost.user, SECRET)
    environments = [
        {"AMQP_URL": f"amqp://user:{SECRET}@{place.hostname}:{place.port}/"},  # not escaped
        {"AMQP_URL": nowhere, "MANAGEMENT_URL": f"http://u:{quote(SECRET)}@[::1]:9"},
        {"AMQP_URL": f"amqp://a:{quote(SECRET, safe='')}@localhost:9/;{url.replace(vhost.name, 'no-such-vhost')}"},
        {"AMQP_URL": url.replace("amqp:", "amqps:"), "MANAGEMENT_URL": f"https://u:{quote(SECRET)}@localhost:9"},
        {"AMQP_URL": f"{url}?ssl_options={{'password':'{SECRET}'}}"},
        {"AMQP_URL": f"{url}?unknown={quote(SECRET)}", "MANAGEMENT_URL": f"u:{SECRET}@localhost"},
        {"AMQP_URL": wrong, "MANAGEMENT_URL": f"{vhost.broker.management_url}?{SECRET}"},
    ]
    for environment in environments:
        ended = run(*COMMANDS[verb], OUTPUT_DIR=str(tmp_path), **environment)

        assert ended.returncode != 0, environment
        assert_no_secret(ended.stdout + ended.stderr)
        assert "Traceback" not in ended.stderr


def test_the_libraries_debug_logs(url: str, vhost: Vhost, caplog: pytest.LogCaptureFixture) -> None:
    """An application that logs all its libraries have to say still logs no password."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="amqp")  # where a worker was tested before, it is quieter
    settings = Settings(amqp_url=url, management_url=vhost.broker.management_url)
    declare(settings, [jobs])
    with Publisher(settings) as publisher:
        publisher.submit("jobs.fail")

    assert "amqp" in caplog.text
    assert_no_secret(caplog.text)


def test_what_is_shown_of_settings_and_brokers(url: str) -> None:
    """Objects that hold a URL do not show its password when they are printed."""
    for shown in (
        repr(Settings(url, url.replace("amqp", "http"))),
        mask(url),
        repr(finding.Broker(url, url, "by hand")),
    ):
        assert_no_secret(shown)


def test_the_private_node_knows_nothing_of_our_environment() -> None:
    """A node is started with an environment of its own, so that AMQP_URL does not live on in it."""
    code = (
        "from pathlib import Path; from leveret.topology.local import launch;"
        "print(sorted(launch.environment(Path('x'), launch.Ports(1, 2, 3, 4)).items()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"AMQP_URL": SECRET}, capture_output=True, text=True, check=True
    )

    assert_no_secret(ended.stdout)
