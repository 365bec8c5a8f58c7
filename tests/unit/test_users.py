"""URLs of users: the same brokers, another login, and every character of a password escaped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from leveret.topology import queues
from leveret.topology.access.rights import ROLES
from leveret.topology.access.users import url_of
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings, mask
from tests.unit.commands import leveret


@pytest.mark.parametrize(
    ("amqp_url", "expected"),
    [
        ("amqp://host/", "amqp://u%40x:p%3A%2F@host/"),
        ("amqp://admin:secret@host:5673/team?heartbeat=5", "amqp://u%40x:p%3A%2F@host:5673/team?heartbeat=5"),
        ("amqps://a:b@[::1]:5671/%2F", "amqps://u%40x:p%3A%2F@[::1]:5671/%2F"),
        ("amqp://a:b@one/x;amqp://a:b@two/x", "amqp://u%40x:p%3A%2F@one/x;amqp://u%40x:p%3A%2F@two/x"),
    ],
)
def test_another_user_of_the_same_broker(amqp_url: str, expected: str) -> None:
    """Host, port, virtual host and options stay, of each of several brokers."""
    url = url_of(amqp_url, "u@x", "p:/")

    assert url == expected
    assert Settings(url).amqp_url == url
    assert "p%3A%2F" not in mask(url)


@pytest.fixture
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for a broker fails the test."""

    def asked(_configured: Settings) -> NoReturn:
        raise AssertionError("a broker was asked for")

    monkeypatch.setattr(default_broker, "resolve", asked)
    monkeypatch.delenv("LEVERET_TASKS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_broker")
def test_a_closed_stdin_gives_no_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told before any broker is asked."""
    monkeypatch.setattr(sys, "stdin", None)

    assert leveret("users", "--role", "worker", "--password-stdin") == 1
    assert "leveret users: --password-stdin: standard input is closed" in capsys.readouterr().err


@pytest.mark.usefixtures("no_broker")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--password-stdin"], "--password-stdin gives one password: name one --role with it"),
        (["--role", "worker,producer", "--password-stdin"], "--password-stdin gives one password"),
        (["--role", "worker", "--password-stdin", "--new-passwords"], "and no --new-passwords"),
        (["--role", "nobody"], "there is no role 'nobody'; there are: producer, worker, topology"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What contradicts itself is refused before a password is read or a broker is asked."""
    assert leveret("users", *arguments) == 2
    said = capsys.readouterr().err

    assert said.startswith("leveret users: ")
    assert reason in said


@pytest.mark.usefixtures("no_broker")
@pytest.mark.parametrize(
    ("options", "roles"),
    [
        ([], ROLES),
        (["--role", "worker"], ("worker",)),
        (["--role", "worker,producer", "--role", "worker"], ("worker", "producer")),
    ],
)
def test_a_dry_run_shows_the_users_and_asks_no_broker(
    options: list[str], roles: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each user stands with its three rights, a role that is named twice once."""
    assert leveret("users", "--dry-run", "--prefix", "team", *options) == 0
    lines = capsys.readouterr().out.splitlines()

    assert [line for line in lines if not line.startswith(" ")] == [f"team-{role}" for role in roles]
    rights = [line.split()[0] for line in lines if line.startswith(" ") and " by key on " not in line]
    assert rights == ["configure", "write", "read"] * len(roles)


def test_a_module_without_queues_takes_no_rights_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, for each user would lose what it may do."""
    monkeypatch.setattr(queues, "_known", {})
    status = leveret("users", "--dry-run", "-a", "json")

    assert status == 1
    assert "json defines no work queue; make one" in capsys.readouterr().err
