"""URLs of users: the same brokers, another login, and every character of a password escaped."""

from __future__ import annotations

import sys

import pytest

from topology.settings import Settings, mask
from topology.users import main, url_of


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


def test_a_closed_stdin_gives_no_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told before any broker is asked."""
    monkeypatch.setattr(sys, "stdin", None)

    assert main(["--role", "worker", "--password-stdin"]) == 1
    assert "--password-stdin: standard input is closed" in capsys.readouterr().err
